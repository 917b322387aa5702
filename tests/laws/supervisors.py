"""Invariants of supervisors: order, restarts, time limits, `auto_shutdown`, and the number of children.

Each invariant compares a supervisor with its model in `supervisor_models.py`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar

from attrs import define

from actors.exits import KILL, KILLED, SHUTDOWN, Crash, ExitReason
from actors.refs import Pid
from supervision.child_spec import BRUTAL_KILL, ShutdownLimit
from supervision.messages import PoolSetup
from tests.laws.supervisor_models import (
    ChildModel,
    Supervised,
    SupervisorModel,
)

__all__ = [
    "AutoShutdown",
    "Intensity",
    "MaxChildren",
    "RestartOrder",
    "RestartRetried",
    "ShutdownOrder",
    "StopLimits",
]

# Seconds. Clocks and sums of floats are not exact.
_TOLERANCE = 1e-6


class RestartOrder(Supervised):
    """Children start in order. Restart types and strategy select the children of a restart, which start in order."""

    name: ClassVar[str] = "restart_order"

    def starts(self, model: SupervisorModel, id: Any) -> None:
        if model.gave_up:
            self.violated(f"{self.who(model.pid)} has given up, and starts a child{_named(id)}")
        elif model.doing == "terminate":
            self.violated(f"{self.who(model.pid)} is stopping, and starts a child{_named(id)}")
        elif model.doing == "other":
            self.violated(
                f"{self.who(model.pid)} starts a child{_named(id)} without a request or an end that calls for it: "
                f"it handles {model.request!r}"
            )
        elif model.doing == "boot" and not model.dynamic:
            self._in_order(model, tuple(spec.id for spec in _specs(model)), "boots")
        elif model.doing in ("ended", "again") and model.pivot is not None:
            if not model.restarts():
                self.violated(
                    f"{self.who(model.pid)} starts a child{_named(id)}, because {model.pivot.id!r} has ended, with "
                    f"{model.reason!r}; that is {model.pivot.restart} and should not be started now"
                )
            elif model.failed:
                self.violated(
                    f"{self.who(model.pid)} goes on with{_named(id)} after a start that failed"
                )
            elif not model.dynamic:
                self._in_order(
                    model, model.group, f"restarts {model.pivot.id!r} ({model.strategy})"
                )

    def _in_order(self, model: SupervisorModel, expected: tuple[Any, ...], what: str) -> None:
        if tuple(model.starts) != expected[: len(model.starts)]:
            self.violated(
                f"{self.who(model.pid)} {what} and starts {_listed(model.starts)}; the order is "
                f"{_listed(expected)}"
            )

    def is_done(self, model: SupervisorModel, crashed: bool) -> None:
        # A dynamic supervisor has no CHILD_STARTING event, so the model cannot see a start that `init` ignored.
        if crashed or model.doing != "ended" or model.dynamic or not model.restarts():
            return
        missing = model.group[len(model.starts) :]
        if missing and not model.failed and not model.gave_up and model.pivot is not None:
            self.violated(
                f"{self.who(model.pid)} has dealt with the end of {model.pivot.id!r} ({model.strategy}, "
                f"{model.pivot.restart}, {model.reason!r}) and has not started {_listed(missing)}"
            )


class ShutdownOrder(Supervised):
    """Children stop in reverse order. A child stops after all children that started later have ended.

    A restart stops only the children that the strategy selects. A supervisor stops all children before it ends, unless
    the supervisor was killed or crashed.
    """

    name: ClassVar[str] = "shutdown_order"

    def stops(self, model: SupervisorModel, child: ChildModel, reason: ExitReason) -> None:
        if model.dynamic or model.doing == "request":
            return
        ids = list(model.children)
        position = ids.index(child.id) if child.id in model.children else len(ids)
        later = [id for id in ids[position + 1 :] if model.children[id].alive]
        pivot = model.pivot
        if later:
            self.violated(
                f"{self.who(model.pid)} tells {self.who(child.pid)} to stop, while {later[-1]!r}, which was started "
                "after it, lives"
            )
        elif pivot is not None and not model.gave_up and not _is_stopped_with(model, child, pivot):
            self.violated(
                f"{self.who(model.pid)} stops {child.id!r} because {pivot.id!r} has ended; its strategy is "
                f"{model.strategy}, and the order {_listed(ids)}"
            )

    def ends(self, model: SupervisorModel, reason: ExitReason) -> None:
        if reason is KILLED or reason is KILL or type(reason) is Crash:
            return
        left = [child for child in model.by_pid.values() if child.alive]
        if left:
            self.violated(
                f"{self.who(model.pid)} has ended with {reason!r}, and its child {self.who(left[-1].last)} lives: "
                "it was not stopped before"
            )


class Intensity(Supervised):
    """A supervisor gives up exactly at the first restart beyond its limit within its window."""

    name: ClassVar[str] = "intensity"

    def __init__(self) -> None:
        super().__init__()
        # The times of the restarts of each supervisor.
        self._attempts: dict[Pid, list[float]] = {}

    def starts(self, model: SupervisorModel, id: Any) -> None:
        if model.doing in ("ended", "again") and len(model.starts) == 1:
            self._count(model)

    def is_done(self, model: SupervisorModel, crashed: bool) -> None:
        if crashed or not model.dynamic or model.starts or model.gave_up:
            return
        if model.restarts():
            # The child's `init` ignored the start, so the supervisor spawned no process. The restart still counts.
            self._count(model)

    def gives_up(self, model: SupervisorModel) -> None:
        number, limit = len(self._recent(model)) + 1, model.setup.max_restarts
        if number <= limit or not model.restarts():
            self.violated(
                f"{self.who(model.pid)} gives up at restart {number} within {model.setup.max_seconds:g} s; "
                f"it may restart {limit} times"
            )

    def ends(self, model: SupervisorModel, reason: ExitReason) -> None:
        self._attempts.pop(model.pid, None)

    def _count(self, model: SupervisorModel) -> None:
        recent = self._attempts[model.pid] = [*self._recent(model), model.since]
        limit = model.setup.max_restarts
        if len(recent) > limit:
            self.violated(
                f"{self.who(model.pid)} makes restart {len(recent)} of a child within "
                f"{model.setup.max_seconds:g} s; it may do so {limit} times, and should have given up"
            )

    def _recent(self, model: SupervisorModel) -> list[float]:
        window = model.setup.max_seconds
        return [at for at in self._attempts.get(model.pid, ()) if model.since - at <= window]


class RestartRetried(Supervised):
    """A supervisor retries a failed restart immediately. With a backoff, it restarts the child within this backoff."""

    name: ClassVar[str] = "restart_retried"

    def at_rest(self) -> str | None:
        late: dict[Hashable, str] = {}
        for model in self.models.values():
            if not model.may_retry:
                continue
            waiting = {
                child: None
                for child in (*model.children.values(), *model.by_pid.values())
                if child.again
            }
            model.may_retry = bool(waiting)
            for child in waiting:
                if self._is_overdue(model, child):
                    late[child, child.again_since] = (
                        f"{self.who(model.pid)} does not retry the restart of its child {_called(child)}, which "
                        f"failed or has waited since {child.again_since:g} s"
                    )
        return self.late_twice(late)

    def _is_overdue(self, model: SupervisorModel, child: ChildModel) -> bool:
        backoff = model.setup.backoff
        wait = 0.0 if backoff is None else backoff.maximum
        if model.doing == "terminate" or model.stopping:
            return False
        if self.now() < child.again_since + wait + _TOLERANCE:
            return False
        # A supervisor that is busy with another child may still have the message in its mailbox.
        info = self.runtime.process_info(model.pid)
        return info is not None and info["queue_length"] == 0 and not self.is_held(model.pid)


@define(eq=False)
class _Stopping:
    """A child that a supervisor has asked to stop."""

    supervisor: Pid
    since: float
    limit: float
    killed: bool = False


class StopLimits(Supervised):
    """A supervisor gives each child its `shutdown` seconds to stop. It kills the child after this time, not before."""

    name: ClassVar[str] = "stop_limits"

    def __init__(self) -> None:
        super().__init__()
        self._stopping: dict[Pid, _Stopping] = {}

    def stops(self, model: SupervisorModel, child: ChildModel, reason: ExitReason) -> None:
        pid = child.last
        if pid is None or not child.alive or child.spec is None:
            return
        limit: ShutdownLimit = child.spec.shutdown
        stopping = self._stopping.get(pid)
        if reason is SHUTDOWN:
            if limit == BRUTAL_KILL:
                self.violated(
                    f"{self.who(model.pid)} asks its child {self.who(pid)} to stop; its shutdown is {limit!r}"
                )
            elif stopping is None:
                self._stopping[pid] = _Stopping(model.pid, self.now(), float(limit))
        elif reason is KILL and limit != BRUTAL_KILL:
            if stopping is None:
                self.violated(
                    f"{self.who(model.pid)} kills its child {self.who(pid)} without asking it to stop; its shutdown is "
                    f"{limit:g} s"
                )
            elif self.now() < stopping.since + stopping.limit - _TOLERANCE:
                self.violated(
                    f"{self.who(model.pid)} kills its child {self.who(pid)} {self.now() - stopping.since:g} s after "
                    f"the request to stop; its shutdown is {limit:g} s"
                )
            else:
                stopping.killed = True

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._stopping.pop(pid, None)

    def ends(self, model: SupervisorModel, reason: ExitReason) -> None:
        # A killed supervisor cannot wait for its children.
        for pid, stopping in list(self._stopping.items()):
            if stopping.supervisor is model.pid:
                del self._stopping[pid]

    def at_rest(self) -> str | None:
        now = self.now()
        late: dict[Hashable, str] = {
            stopping: f"{self.who(pid)} lives {now - stopping.since:g} s after {self.who(stopping.supervisor)} asked "
            f"it to stop, and was not killed; its shutdown is {stopping.limit:g} s"
            for pid, stopping in self._stopping.items()
            if not stopping.killed and now > stopping.since + stopping.limit + _TOLERANCE
        }
        return self.late_twice(late)


class AutoShutdown(Supervised):
    """A supervisor ends after the end of significant children if its `auto_shutdown` requires this, and only then."""

    name: ClassVar[str] = "auto_shutdown"

    def is_done(self, model: SupervisorModel, crashed: bool) -> None:
        # The supervisor goes on: it begins a callback other than `terminate`, because `terminates` resets `ends_with`.
        child, model.ends_with = model.ends_with, None
        if child is not None:
            self.violated(self._missing(model, child))

    def terminates(self, model: SupervisorModel, reason: ExitReason) -> None:
        child, model.ends_with = model.ends_with, None
        by_itself = model.doing in ("ended", "again") and model.received is model.request
        if child is None and by_itself and reason is SHUTDOWN and not model.gave_up:
            self.violated(
                f"{self.who(model.pid)} ends after the end of its child "
                f"{'' if model.pivot is None else repr(model.pivot.id)}, but {self._rule(model)}"
            )

    def at_rest(self) -> str | None:
        late: dict[Hashable, str] = {}
        for model in self.models.values():
            child = model.ends_with
            if child is not None and not self.is_held(model.pid):
                late[model] = self._missing(model, child)
        return self.late_twice(late)

    def _missing(self, model: SupervisorModel, child: ChildModel) -> str:
        return (
            f"{self.who(model.pid)} goes on after the end of its significant child {child.id!r}, but "
            f"{self._rule(model)}"
        )

    def _rule(self, model: SupervisorModel) -> str:
        significant = [each.id for each in model.children.values() if each.significant]
        setting = "never" if isinstance(model.setup, PoolSetup) else model.setup.auto_shutdown
        return f"its auto_shutdown is {setting!r}, and its significant children are {_listed(significant)}"


class MaxChildren(Supervised):
    """A dynamic supervisor has at most `max_children` children. It refuses no child while it has fewer."""

    name: ClassVar[str] = "max_children"

    def runs(self, model: SupervisorModel, child: ChildModel, before: Pid | None) -> None:
        if isinstance(model.setup, PoolSetup) and len(model.by_pid) > model.setup.max_children:
            self.violated(
                f"{self.who(model.pid)} starts {self.who(child.last)} and has {len(model.by_pid)} children; its "
                f"max_children is {model.setup.max_children:g}"
            )

    def refuses(self, model: SupervisorModel) -> None:
        if isinstance(model.setup, PoolSetup) and len(model.by_pid) < model.setup.max_children:
            self.violated(
                f"{self.who(model.pid)} refuses a child, and has {len(model.by_pid)} children; its max_children is "
                f"{model.setup.max_children:g}"
            )


def _is_stopped_with(model: SupervisorModel, child: ChildModel, pivot: ChildModel) -> bool:
    """Return True if a restart of `pivot` also stops `child`."""
    if model.strategy == "one_for_one":
        return False
    ids = list(model.children)
    if model.strategy == "one_for_all" or pivot.id not in ids or child.id not in ids:
        return True
    return ids.index(child.id) > ids.index(pivot.id)


def _specs(model: SupervisorModel) -> tuple[Any, ...]:
    return getattr(model.setup, "specs", ())


def _named(id: Any) -> str:
    return "" if id is None else f" {id!r}"


def _listed(ids: Any) -> str:
    return ", ".join(map(repr, ids)) or "no child"


def _called(child: ChildModel) -> str:
    return repr(child.last if child.id is None else child.id)
