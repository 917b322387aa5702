"""Functions that decide about a child that ended: restart it alone or in a group, keep its spec, forget it, or give up.

*pure*: the time is an argument, and a supervisor carries out the resulting plans.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar, get_args

import msgspec

from actors.arguments import check_choice, check_number, is_number
from actors.errors import InvalidOption
from actors.exits import ExitReason, is_normal_exit
from supervision.child_spec import ChildSpec, RestartType
from supervision.errors import InvalidChildSpec

__all__ = [
    "DEFAULT_MAX_RESTARTS",
    "DEFAULT_MAX_SECONDS",
    "AutoShutdown",
    "Fate",
    "HasSpec",
    "RestartIntensity",
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
"""The other children to restart with a child: none, all, or the children that started after it."""

AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]
"""The rule by which a supervisor stops itself: never, or when the first or last significant child has ended."""


class HasSpec(Protocol):
    """The part of a child that a plan needs."""

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
    """Decide about a child with the restart type `restart` that ended with `reason`.

    fate("transient", SHUTDOWN)     # Fate.KEEP
    """
    if restart == "permanent":
        return Fate.RESTART
    if restart == "temporary":
        return Fate.DROP
    return Fate.KEEP if is_normal_exit(reason) else Fate.RESTART


class RestartPlan(msgspec.Struct, Generic[C], frozen=True):
    """A plan to restart a group of children. The supervisor handles the fields in their order.

    Some children in `stop` may have ended already. As in OTP, `start` also contains children that had finished or were
    terminated.
    """

    stop: tuple[C, ...]
    """The children to stop, in the reverse order of their start."""
    drop: tuple[C, ...]
    """The temporary children, which the supervisor forgets."""
    start: tuple[C, ...]
    """The children to start, in order."""


def plan_restart(children: Sequence[C], pivot: int, strategy: Strategy) -> RestartPlan[C]:
    """Plan the restart of a child that has ended.

    With children a, b and c, the strategy "rest_for_one" and the end of b, the plan is: stop c, start b, start c.

    Args:
        children: All children of the supervisor, in the order of their start.
        pivot: The position of the child that has ended.
        strategy: The strategy of the supervisor.

    Returns:
        The plan. Its field `stop` never contains the pivot, which has ended.
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
    """Return whether a supervisor stops because a child ended and will not be restarted.

    Args:
        auto_shutdown: The supervisor's setting.
        ended: The child that ended.
        remaining: The other children that are running or restarting.
    """
    if auto_shutdown == "never" or not ended.significant:
        return False
    if auto_shutdown == "any_significant":
        return True
    return not any(spec.significant for spec in remaining)


def check_strategy(strategy: Strategy) -> None:
    """Raise `InvalidOption` for an unknown strategy."""
    check_choice("a supervisor", "strategy", strategy, get_args(Strategy))


def check_auto_shutdown(auto_shutdown: AutoShutdown) -> None:
    """Raise `InvalidOption` for an unknown auto_shutdown."""
    check_choice("a supervisor", "auto_shutdown", auto_shutdown, get_args(AutoShutdown))


def check_significance(spec: ChildSpec, auto_shutdown: AutoShutdown) -> None:
    """Raise `InvalidChildSpec` for a significant child of a supervisor without auto_shutdown."""
    if spec.significant and auto_shutdown == "never":
        raise InvalidChildSpec(
            'it is significant, but its supervisor has auto_shutdown="never"; start the supervisor with '
            'auto_shutdown="any_significant" or "all_significant", or leave significant=True out',
            id=spec.id,
            field="significant",
            value=True,
        )


DEFAULT_MAX_RESTARTS = 3
"""The number of restarts within the window that a supervisor allows. As in Elixir."""

DEFAULT_MAX_SECONDS = 5.0
"""The length of the window, in seconds. As in OTP and Elixir."""


class RestartIntensity:
    """The restarts of one supervisor within a sliding window.

        intensity = RestartIntensity(max_restarts=3, max_seconds=5.0)
        [intensity.admit(now) for now in (0.0, 1.0, 2.0, 3.0)]      # [True, True, True, False]

    Every restart *attempt* counts, even one that fails. The restart of a group counts once. An attempt at time `t`
    counts while `now - t <= max_seconds`.

    Args:
        max_restarts: Allowed attempts within the window; 0 allows none.
        max_seconds: Length of the window in seconds, more than 0. With `math.inf` every attempt counts for ever.

    Attributes:
        counted: The attempts within the window at the time of the last attempt, including that attempt. It is 0 if
            `max_restarts` is `math.inf`.

    Raises:
        InvalidOption: A value is outside these ranges.

    Source: OTP's restart intensity. OTP counts whole seconds, so its window may be up to one second longer.
    """

    __slots__ = ("_attempts", "counted", "max_restarts", "max_seconds")

    def __init__(self, max_restarts: float, max_seconds: float) -> None:
        if not is_number(max_restarts, least=0) or (
            max_restarts < math.inf and max_restarts != int(max_restarts)
        ):
            expected = "a whole number of restarts from 0, or math.inf for no limit"
            raise InvalidOption("a supervisor", "max_restarts", max_restarts, expected)
        expected = "the length of the restart window in seconds, more than 0"
        check_number("a supervisor", "max_seconds", max_seconds, expected, above=0)
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self.counted = 0
        # The times of the attempts, oldest first. The supervisor gives up at the attempt number `max_restarts + 1`.
        self._attempts: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Count an attempt at time `now`, in seconds, and return whether it is allowed.

        `now` must never decrease. After the first False the supervisor gives up, and further results are undefined.
        """
        if self.max_restarts == math.inf:
            return True
        attempts = self._attempts
        while attempts and now - attempts[0] > self.max_seconds:
            attempts.popleft()
        attempts.append(now)
        self.counted = len(attempts)
        return self.counted <= self.max_restarts

    def __repr__(self) -> str:
        return f"RestartIntensity({self.max_restarts!r}, {self.max_seconds!r})"
