"""The law `one_incarnation`: no child of a supervisor runs twice."""

from __future__ import annotations

from typing import Any, ClassVar

from actors.exits import ExitReason
from actors.refs import Pid
from supervision.child_spec import ChildSpec
from tests.laws.supervisor_models import ChildModel, Supervised, SupervisorModel

__all__ = ["OneIncarnation"]


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
