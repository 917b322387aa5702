"""The target processes of faults, and their runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from attrs import define, frozen

from actors.refs import Pid
from actors.runtime import Runtime
from supervision.recording.places import Place, Places, fits
from supervision.recording.recorder import Recorder

__all__ = ["InjectionPoint", "TargetRuntime", "choose"]

T = TypeVar("T")


@define(eq=False)
class TargetRuntime:
    """A runtime whose processes faults may target.

    Attributes:
        runtime: the runtime.
        places: the places of its processes.
        recorder: its recorder, if it has one.
        node: the name of its node, the first part of its processes' paths; empty outside of nodes.
        gone: True once the injector has left the runtime.
    """

    runtime: Runtime
    places: Places
    recorder: Recorder | None
    node: str
    gone: bool = False

    def address(self, place: Place) -> str:
        """Return the path of a place, with the name of the node first, as in the targets of faults."""
        return f"{self.node}{place.path}"

    def matching(self, pattern: str) -> list[Pid]:
        """Return the living processes whose paths match, the oldest first."""
        return [pid for pid, place in self.places.each() if fits(self.address(place), pattern)]


@frozen
class InjectionPoint:
    """The target process of a fault."""

    target: TargetRuntime
    pid: Pid

    def __str__(self) -> str:
        place = self.target.places.was_at(self.pid)
        return repr(self.pid) if place is None else f"{self.target.node}{place}"

    @property
    def incarnation(self) -> int | None:
        """The number of the incarnation of the process; None if its place is unknown."""
        place = self.target.places.was_at(self.pid)
        return None if place is None else place.incarnation

    @property
    def is_ending(self) -> bool:
        """True if a fatal signal has reached the process, or if the process has ended."""
        info = self.target.runtime.process_info(self.pid)
        return info is None or info["status"] == "exiting"


def choose(found: Sequence[T], pick: float | None) -> T:
    """Return the item that `pick` selects: 0.0 is the first, 1.0 the last; None is the last."""
    if pick is None:
        return found[-1]
    return found[min(int(pick * len(found)), len(found) - 1)]
