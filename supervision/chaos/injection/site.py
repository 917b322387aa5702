"""One runtime, as an injector sees it: an instrument that asks about every callback and every message."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import frozen

from actors.exits import ExitReason
from actors.instrumentation.instrument import Instrument
from actors.refs import Pid
from actors.runtime import Runtime
from supervision.recording.places import Place, Places
from supervision.recording.recorder import Recorder

if TYPE_CHECKING:
    from supervision.chaos.injection.callbacks import CallbackFaults
    from supervision.chaos.injection.messages import MessageFaults

__all__ = ["Site", "Spot", "choose", "fits"]

T = TypeVar("T")


@frozen
class Spot:
    """A process of a site."""

    site: Site
    pid: Pid

    def __str__(self) -> str:
        place = self.site.places.was_at(self.pid)
        return repr(self.pid) if place is None else f"{self.site.node}{place}"

    @property
    def is_ending(self) -> bool:
        """Whether the process has accepted a fatal signal already, or has ended."""
        info = self.site.runtime.process_info(self.pid)
        return info is None or info["status"] == "exiting"


class Site(Instrument):
    """A runtime under an injector.

    Args:
        runtime: the runtime.
        places: where its processes are.
        recorder: records it; None if nobody does.
        node: the name of the node that it is in, with which its paths begin; empty if it is in none.
        callbacks: faults that wait for callbacks.
        messages: faults that wait for messages.
    """

    def __init__(
        self,
        runtime: Runtime,
        places: Places,
        recorder: Recorder | None,
        *,
        node: str,
        callbacks: CallbackFaults,
        messages: MessageFaults,
    ) -> None:
        self.runtime = runtime
        self.places = places
        self.recorder = recorder
        self.node = node
        self._callbacks = callbacks
        self._messages = messages
        self.gone = False
        self._detach = runtime.add_instrument(self)

    def remove(self) -> None:
        """Let go of the runtime."""
        self.gone = True
        self._detach()

    def address(self, place: Place) -> str:
        """The path of a place, as the targets of faults have it."""
        return f"{self.node}{place.path}"

    def matching(self, pattern: str) -> list[Pid]:
        """The living processes at such paths, the oldest first."""
        return [
            pid for pid, place in self.places.living.items() if fits(self.address(place), pattern)
        ]

    # The instrument

    def callback_started(self, pid: Pid, callback: str, message: Any) -> Awaitable[None] | None:
        return self._callbacks.started(self, pid, callback, message)

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> bool | None:
        return self._messages.sent(self, sender, receiver, message)

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._callbacks.forget(pid)
        self._messages.forget(pid)


def fits(address: str, pattern: str) -> bool:
    """Whether a path is written out as the pattern, or matches it."""
    return address == pattern or fnmatchcase(address, pattern)


def choose(found: Sequence[T], pick: float | None) -> T:
    """One of several, the oldest first: the newest, or the one that the fault picks."""
    if pick is None:
        return found[-1]
    return found[min(int(pick * len(found)), len(found) - 1)]
