"""Invariants of Ashtree's own supervisors: the order of starts and stops, and the restart intensity.

They check the supervisors against a model, so they test Ashtree and not a program. The sweeps of this project name
them: `@scenario(invariants=CHECKED)`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from actors.exits import KILL, KILLED, Crash, ExitReason
from actors.refs import Pid
from tests.simulation.invariants.supervisor_model import ChildModel, Supervised, SupervisorModel

__all__ = ["CHECKED", "OF_SUPERVISORS", "Intensity", "RestartOrder", "ShutdownOrder"]


class RestartOrder(Supervised):
    """Children start in order. A restart starts the children that restart type and strategy select, in order."""

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
        # A dynamic supervisor announces no starts, so an ignored start looks like a missing one.
        if crashed or model.doing != "ended" or model.dynamic or not model.restarts():
            return
        missing = model.group[len(model.starts) :]
        if missing and not model.failed and not model.gave_up and model.pivot is not None:
            self.violated(
                f"{self.who(model.pid)} has dealt with the end of {model.pivot.id!r} ({model.strategy}, "
                f"{model.pivot.restart}, {model.reason!r}) and has not started {_listed(missing)}"
            )


class ShutdownOrder(Supervised):
    """Children stop in reverse order, each after the later ones have ended.

    A restart stops only the children that the strategy selects. A supervisor stops all children before it ends, unless
    it is killed or crashes.
    """

    name: ClassVar[str] = "shutdown_order"

    def stops(self, model: SupervisorModel, child: ChildModel) -> None:
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
        # For each supervisor, the times of its restarts.
        self._attempts: dict[Pid, list[float]] = {}

    def starts(self, model: SupervisorModel, id: Any) -> None:
        if model.doing in ("ended", "again") and len(model.starts) == 1:
            self._count(model)

    def is_done(self, model: SupervisorModel, crashed: bool) -> None:
        if crashed or not model.dynamic or model.starts or model.gave_up:
            return
        if model.restarts():
            # `init` ignored the start of the child, so there was no process.
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


def _is_stopped_with(model: SupervisorModel, child: ChildModel, pivot: ChildModel) -> bool:
    """Return True if the restart of a child stops this sibling."""
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


OF_SUPERVISORS = (RestartOrder, ShutdownOrder, Intensity)
"""The invariants of this module."""

CHECKED = ("all", *OF_SUPERVISORS)
"""The built-in invariants and those of supervisors, for the sweeps of this project."""
