"""The decisions about a child that ended: restart, keep or forget it, and with which other children.

*pure*: children are values with a spec, and the results are plans that a supervisor carries out.
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
"""The children to restart with a child: none, all, or those that were started after it."""

AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]
"""When a supervisor stops itself: never, or with the first or the last of its significant children."""


class HasSpec(Protocol):
    """A child, for a plan."""

    @property
    def spec(self) -> ChildSpec:
        """The spec of the child."""


C = TypeVar("C", bound=HasSpec)


class Fate(enum.Enum):
    """The decision about a child that has ended."""

    RESTART = "restart"
    """Start it again."""
    KEEP = "keep"
    """Leave it stopped and keep its spec, so that `restart_child` can start it."""
    DROP = "drop"
    """Leave it stopped and forget its spec."""


def fate(restart: RestartType, reason: ExitReason) -> Fate:
    """Decide about a child of this restart type that ended with `reason`.

    fate("transient", SHUTDOWN)     # Fate.KEEP
    """
    if restart == "permanent":
        return Fate.RESTART
    if restart == "temporary":
        return Fate.DROP
    return Fate.KEEP if is_normal_exit(reason) else Fate.RESTART


@frozen
class RestartPlan(Generic[C]):
    """The restart of a group of children, in the order of the fields.

    Children in `stop` may have ended already. `start` includes children that had finished or were terminated, because
    OTP starts the whole group.
    """

    stop: tuple[C, ...]
    """The children to stop, in this order, which is the reverse of their start."""
    drop: tuple[C, ...]
    """The temporary children, which the supervisor forgets."""
    start: tuple[C, ...]
    """The children to start, in this order."""


def plan_restart(children: Sequence[C], pivot: int, strategy: Strategy) -> RestartPlan[C]:
    """Plan the restart of a child that has ended.

    With children a, b and c, the strategy "rest_for_one" and the end of b, the plan is: stop c, start b, start c.

    Args:
        children: all children of the supervisor, in the order of their start.
        pivot: the position of the child that has ended.
        strategy: the strategy of the supervisor.

    Returns:
        The plan. `stop` never contains the pivot, which has ended.
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
    """Return whether a supervisor stops because one of its children ended for good.

    Args:
        auto_shutdown: the supervisor's setting.
        ended: the child that ended and will not be restarted.
        remaining: the other children that are running or restarting.
    """
    if auto_shutdown == "never" or not ended.significant:
        return False
    if auto_shutdown == "any_significant":
        return True
    return not any(spec.significant for spec in remaining)


def check_strategy(strategy: Strategy) -> None:
    """Raise `BadSupervisorOption` for an unknown strategy."""
    if strategy not in get_args(Strategy):
        raise BadSupervisorOption(
            'write "one_for_one", "one_for_all" or "rest_for_one"',
            option="strategy",
            value=strategy,
        )


def check_auto_shutdown(auto_shutdown: AutoShutdown) -> None:
    """Raise `BadSupervisorOption` for an unknown auto_shutdown."""
    if auto_shutdown not in get_args(AutoShutdown):
        raise BadSupervisorOption(
            'write "never", "any_significant" or "all_significant"',
            option="auto_shutdown",
            value=auto_shutdown,
        )


def check_significance(spec: ChildSpec, auto_shutdown: AutoShutdown) -> None:
    """Raise `BadChildSpec` for a significant child of a supervisor without auto_shutdown."""
    if spec.significant and auto_shutdown == "never":
        raise BadChildSpec(
            'it is significant, but its supervisor has auto_shutdown="never"; start the supervisor with '
            'auto_shutdown="any_significant" or "all_significant", or leave significant=True out',
            id=spec.id,
            field="significant",
            value=True,
        )
