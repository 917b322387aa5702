"""The built-in invariant `no_orphan`, and the choice of the invariants of a run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, TypeAlias

from actors.exits import NORMAL, ExitReason
from actors.refs import Pid
from supervision.laboratory.chaos.invariants.base import Invariant
from supervision.messages import PoolSetup, Setup

__all__ = ["BUILT_IN", "Chosen", "NoOrphan", "choose"]


class NoOrphan(Invariant):
    """No process outlives the supervisor that spawned it.

    A process that traps exits and got an exit signal has `grace` seconds to clean up after the end of its supervisor.
    After a fault that delayed the process or a process below it, the grace begins anew. A process without a signal is
    an orphan immediately. The invariant sees only supervisors that start after the checks began.
    """

    name: ClassVar[str] = "no_orphan"

    grace: ClassVar[float] = 60.0

    def __init__(self) -> None:
        super().__init__()
        # The living processes of each living supervisor, and the processes that got an exit signal.
        self._spawned: dict[Pid, dict[Pid, None]] = {}
        self._parents: dict[Pid, Pid] = {}
        self._signalled: dict[Pid, None] = {}
        # The processes whose supervisor has ended: the supervisor, and the start of the grace. The start is None while
        # a fault delays the process.
        self._left: dict[Pid, tuple[Pid, float | None]] = {}

    def callback_started(self, pid: Pid, callback: str, message: Any) -> None:
        if callback == "init" and any(type(each) in (Setup, PoolSetup) for each in message):
            self._spawned[pid] = {}

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        children = self._spawned.get(parent)
        if children is not None:
            children[pid] = None
            self._parents[pid] = parent

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        if receiver in self._parents and reason is not NORMAL:
            self._signalled[receiver] = None

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        parent = self._parents.pop(pid, None)
        if parent is not None:
            self._signalled.pop(pid, None)
            self._left.pop(pid, None)
            self._spawned.get(parent, {}).pop(pid, None)
        left = self._spawned.pop(pid, None)
        if left:
            now = self.now()
            self._left.update((child, (pid, now)) for child in left)

    def at_rest(self) -> str | None:
        late: dict[Hashable, str] = {}
        for pid, (supervisor, since) in self._left.items():
            if pid not in self._signalled:
                return (
                    f"{self.who(pid)} lives and got no exit signal, but its supervisor "
                    f"{self.who(supervisor)} has ended"
                )
            if self._is_held_up(pid):
                # Its clean-up continues when the fault is over, so the grace starts then.
                self._left[pid] = (supervisor, None)
            elif since is None:
                self._left[pid] = (supervisor, self.now())
            elif self.now() - since > self.grace:
                late[pid] = (
                    f"{self.who(pid)} lives {self.now() - since:g} s after the end of its supervisor "
                    f"{self.who(supervisor)}, which sent it an exit signal"
                )
        return self.late_twice(late)

    def _is_held_up(self, pid: Pid) -> bool:
        return self.is_held(pid) or any(map(self._is_held_up, self._spawned.get(pid, ())))


BUILT_IN: Final[Mapping[str, type[Invariant]]] = MappingProxyType({NoOrphan.name: NoOrphan})
"""The class of each built-in invariant by its name. An instance watches one runtime."""

Chosen: TypeAlias = Literal["all"] | Iterable["str | Callable[[], Invariant]"]
"""A choice of invariants: "all" for all built-in invariants, or a sequence of names, "all" and your own factories."""


def choose(chosen: Chosen) -> list[Invariant]:
    """Create the chosen invariants.

        choose(["all", NoCrash])

    Raises:
        ValueError: there is no invariant of that name.
        TypeError: `chosen` is a single name and not a sequence.
    """
    if chosen == "all":
        return [make() for make in BUILT_IN.values()]
    if isinstance(chosen, str):
        raise TypeError(f'invariants is {chosen!r}; write "all", or a sequence: ({chosen!r},)')
    return [invariant for each in chosen for invariant in _make(each)]


def _make(each: str | Callable[[], Invariant]) -> list[Invariant]:
    if not isinstance(each, str):
        return [each()]
    if each == "all":
        return choose("all")
    if each not in BUILT_IN:
        raise ValueError(f"there is no invariant {each!r}; write one of: {', '.join(BUILT_IN)}")
    return [BUILT_IN[each]()]
