"""Invariants of supervision trees: no process outlives its supervisor, and no child runs twice."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

from actors.exits import NORMAL, ExitReason
from actors.refs import Pid
from supervision.child_spec import ChildSpec
from supervision.laboratory.chaos.invariants.supervisor_models import (
    ChildModel,
    Supervised,
    SupervisorModel,
)

__all__ = ["NoOrphan", "OneIncarnation"]


class NoOrphan(Supervised):
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
        if parent in self.models:
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


class OneIncarnation(Supervised):
    """A child of a supervisor has at most one living process.

    If the start function is one of this package, each process that the supervisor spawns for the child counts. Any
    other start function may spawn helpers, so only the process that it returns counts.
    """

    name: ClassVar[str] = "one_incarnation"

    def __init__(self) -> None:
        super().__init__()
        # The last process of each child with a start function of this package.
        self._last: dict[tuple[Pid, Any], Pid] = {}
        self._keys: dict[Pid, tuple[Pid, Any]] = {}

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        model = self.models.get(parent)
        child = None if model is None else model.starting
        if model is None or child is None or not _spawns_only_the_child(child.spec):
            return
        key = (parent, child.id)
        other = self._last.get(key)
        if other is not None:
            self._twice(model, child, pid, other)
        self._last[key] = pid
        self._keys[pid] = key

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        key = self._keys.pop(pid, None)
        if key is not None and self._last.get(key) is pid:
            del self._last[key]

    def runs(self, model: SupervisorModel, child: ChildModel, before: Pid | None) -> None:
        if before is not None and child.last is not None and before is not child.last:
            self._twice(model, child, child.last, before)

    def _twice(self, model: SupervisorModel, child: ChildModel, pid: Pid, other: Pid) -> None:
        self.violated(
            f"{self.who(model.pid)} started its child {child.id!r} as {self.who(pid)}, but {self.who(other)}, "
            "which is the same child, lives"
        )


def _spawns_only_the_child(spec: ChildSpec | None) -> bool:
    module = None if spec is None else getattr(spec.start, "__module__", None)
    return isinstance(module, str) and module.startswith(("actors.", "supervision."))
