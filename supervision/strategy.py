"""What to do about a child that ended: the tables of supervision, without a process in sight.

Pure: children are values with a spec, and the answers are plans that a supervisor carries out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar, get_args

from attrs import frozen

from actors.exits import ExitReason, is_normal_exit
from supervision.child_spec import ChildSpec, RestartType
from supervision.errors import BadChildSpec, BadSupervisorOption

__all__ = [
    "AutoShutdown",
    "Fate",
    "HasSpec",
    "RestartPlan",
    "Strategy",
    "check_auto_shutdown",
    "check_significance",
    "check_strategy",
    "ends_supervisor",
    "fate",
    "plan_restart",
]

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
"""Who is restarted with a child: nobody; everybody; those that were started after it."""

AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]
"""When a supervisor stops by itself: never; with the first, or the last, significant child."""


class HasSpec(Protocol):
    """A child of a supervisor, as far as a plan is concerned."""

    @property
    def spec(self) -> ChildSpec:
        """How the child is started, restarted and stopped."""


C = TypeVar("C", bound=HasSpec)


class Fate(enum.Enum):
    """What becomes of a child that has ended."""

    RESTART = "restart"
    """It is started again."""
    KEEP = "keep"
    """It stays down; its spec is kept, so that it can be restarted by hand."""
    DROP = "drop"
    """It stays down, and its spec is forgotten."""


def fate(restart: RestartType, reason: ExitReason) -> Fate:
    """Decide what becomes of a child of this restart type that ended with `reason`.

    fate("transient", SHUTDOWN)     # Fate.KEEP
    """
    if restart == "permanent":
        return Fate.RESTART
    if restart == "temporary":
        return Fate.DROP
    return Fate.KEEP if is_normal_exit(reason) else Fate.RESTART


@frozen
class RestartPlan(Generic[C]):
    """How a group of children is restarted. Carry it out in the order of its fields.

    Only those of `stop` that are running need stopping; those of `start` include children that had
    finished or been stopped by hand, because OTP starts the whole affected group.
    """

    stop: tuple[C, ...]
    """To be stopped, in this order: the reverse of the order in which they were started."""
    drop: tuple[C, ...]
    """To be forgotten: temporary children are not started a second time."""
    start: tuple[C, ...]
    """To be started, in this order."""


def plan_restart(children: Sequence[C], pivot: int, strategy: Strategy) -> RestartPlan[C]:
    """Plan the restart of a child that has ended.

    With children a, b, c, of which b ended, and the strategy "rest_for_one" the plan is to stop c,
    then to start b, then c.

    Args:
        children: all children of the supervisor, in the order in which they were started.
        pivot: the position of the one that has ended.
        strategy: who is restarted with it.

    Returns:
        The plan. The pivot has ended, so it is never among those to stop.
    """
    if strategy == "one_for_one":
        affected: Sequence[C] = (children[pivot],)
    elif strategy == "rest_for_one":
        affected = children[pivot:]
    else:
        affected = children
    ended = children[pivot]
    siblings = tuple(child for child in affected if child is not ended)
    return RestartPlan(
        stop=siblings[::-1],
        drop=tuple(child for child in siblings if child.spec.restart == "temporary"),
        start=tuple(
            child for child in affected if child is ended or child.spec.restart != "temporary"
        ),
    )


def ends_supervisor(
    auto_shutdown: AutoShutdown, ended: ChildSpec, remaining: Iterable[ChildSpec]
) -> bool:
    """Whether a supervisor stops because one of its children ended for good.

    Args:
        auto_shutdown: the supervisor's setting.
        ended: the child that ended, and will not be restarted.
        remaining: the other children that are running or restarting.
    """
    if auto_shutdown == "never" or not ended.significant:
        return False
    if auto_shutdown == "any_significant":
        return True
    return not any(spec.significant for spec in remaining)


def check_strategy(strategy: Strategy) -> None:
    """Raise `BadSupervisorOption` for a strategy that does not exist."""
    if strategy not in get_args(Strategy):
        raise BadSupervisorOption(
            'write "one_for_one", "one_for_all" or "rest_for_one"',
            option="strategy",
            value=strategy,
        )


def check_auto_shutdown(auto_shutdown: AutoShutdown) -> None:
    """Raise `BadSupervisorOption` for a setting of auto_shutdown that does not exist."""
    if auto_shutdown not in get_args(AutoShutdown):
        raise BadSupervisorOption(
            'write "never", "any_significant" or "all_significant"',
            option="auto_shutdown",
            value=auto_shutdown,
        )


def check_significance(spec: ChildSpec, auto_shutdown: AutoShutdown) -> None:
    """Raise `BadChildSpec` for a significant child of a supervisor that does not look at it."""
    if spec.significant and auto_shutdown == "never":
        raise BadChildSpec(
            "it is significant, but its supervisor never shuts down by itself; start that with "
            'auto_shutdown="any_significant" or "all_significant", or leave significant=True out',
            id=spec.id,
            field="significant",
            value=True,
        )
