"""Invariants of supervision trees: no process outlives its supervisor, and no child runs twice."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

from actors.exits import NORMAL, ExitReason
from actors.instrumentation.telemetry import Event
from actors.refs import Pid
from actors.runtime import Runtime
from supervision.chaos.invariants.base import Feed, Invariant
from supervision.events import (
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STARTED,
    CHILD_STARTING,
)
from supervision.messages import PoolSetup, Setup

__all__ = ["NoOrphan", "OneIncarnation", "Supervisors"]


class Supervisors(Feed):
    """The living supervisors, and the children that they are starting.

    Attributes:
        living: the supervisors that started after this observer.
        starting: the id of the child that each supervisor is starting. Children of dynamic supervisors have no id.
    """

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.living: dict[Pid, None] = {}
        self.starting: dict[Pid, Any] = {}
        attach = runtime.telemetry.attach
        self._detach = [
            attach(CHILD_STARTING, self._child_starting),
            attach(CHILD_STARTED, self._child_started),
            attach(CHILD_RESTARTED, self._child_started),
            attach(CHILD_START_FAILED, self._child_failed),
        ]

    def add(self, invariant: Invariant) -> None:
        super().add(invariant)
        if isinstance(invariant, _OfSupervisors):
            invariant.supervisors = self

    def close(self) -> None:
        for detach in self._detach:
            detach()

    def callback_started(self, pid: Pid, callback: str, message: Any) -> None:
        # A supervisor that begins another callback has finished the start of its child, with or without a process.
        self.starting.pop(pid, None)
        if callback == "init" and any(type(each) in (Setup, PoolSetup) for each in message):
            self.living[pid] = None

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self.living.pop(pid, None)
        self.starting.pop(pid, None)

    def _child_starting(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        if metadata["supervisor"] in self.living:
            self.starting[metadata["supervisor"]] = metadata["id"]

    def _child_started(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        supervisor, id = metadata["supervisor"], metadata["id"]
        # A dynamic supervisor emits no CHILD_STARTING, because its children have no ids.
        if self.starting.pop(supervisor, _NOTHING) is not _NOTHING:
            for each in self.listeners:
                each.child_started(supervisor, id, metadata["pid"])

    def _child_failed(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        self.starting.pop(metadata["supervisor"], None)


_NOTHING = object()


class _OfSupervisors(Invariant):
    feed: ClassVar[type[Feed] | None] = Supervisors

    supervisors: Supervisors

    def child_started(self, supervisor: Pid, id: Any, pid: Pid) -> None:
        """React to the start of a child that has an id."""


class NoOrphan(_OfSupervisors):
    """No process outlives the supervisor that spawned it.

    A process that traps exits and got an exit signal has `grace` seconds to clean up after the end of its supervisor.
    After a fault that delayed the process or a process below it, the grace begins anew. A process without a signal is
    an orphan immediately.
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

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        if parent in self.supervisors.living:
            self._spawned.setdefault(parent, {})[pid] = None
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


class OneIncarnation(_OfSupervisors):
    """A child of a supervisor has at most one living process."""

    name: ClassVar[str] = "one_incarnation"

    def __init__(self) -> None:
        super().__init__()
        # The key is the supervisor, the id of the starting child, and the label. A start function may spawn helpers,
        # but not two with the same label.
        self._living: dict[tuple[Pid, Any, str], Pid] = {}
        self._keys: dict[Pid, tuple[Pid, Any, str]] = {}
        self._alive: dict[Pid, None] = {}
        # The living process of each child. A start function may return a process that it did not spawn.
        self._children: dict[tuple[Pid, Any], Pid] = {}
        self._children_of: dict[Pid, tuple[Pid, Any]] = {}

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        self._alive[pid] = None
        starting = self.supervisors.starting
        if parent not in starting:
            return
        key = (parent, starting[parent], label)
        other = self._living.get(key)
        if other is not None:
            self._twice(parent, starting[parent], pid, other)
        self._living[key] = pid
        self._keys[pid] = key

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._alive.pop(pid, None)
        key = self._keys.pop(pid, None)
        if key is not None and self._living.get(key) is pid:
            del self._living[key]
        child = self._children_of.pop(pid, None)
        if child is not None and self._children.get(child) is pid:
            del self._children[child]

    def child_started(self, supervisor: Pid, id: Any, pid: Pid) -> None:
        before = self._children.get((supervisor, id))
        if before is not None and before is not pid:
            self._twice(supervisor, id, pid, before)
        # A start function may return a process that has ended already.
        if pid in self._alive:
            self._children[supervisor, id] = pid
            self._children_of[pid] = (supervisor, id)

    def _twice(self, supervisor: Pid, id: Any, pid: Pid, other: Pid) -> None:
        self.violated(
            f"{self.who(supervisor)} started its child {id!r} as {self.who(pid)}, but {self.who(other)}, "
            "which is the same child, lives"
        )
