"""Scenarios: async functions that run in a world, with settings for their runs.

    @scenario(faults=Storm(["/top/store"], count=5, within=8.0), params={"clients": 3})
    async def a_day(world):
        ...

    simulate(a_day, seed=7)                      # five faults, drawn from the seed
    simulate(a_day, seed=7, faults=())           # the same day without faults

The arguments of `simulate` override the settings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from supervision.laboratory.chaos.faults.plan import FaultPlan
from supervision.laboratory.chaos.invariants.built_in import Chosen
from supervision.laboratory.chaos.settings import (
    ScenarioSettings,
    attach,
    scenario_name,
    settings_of,
)
from supervision.laboratory.simulation.knobs import Knobs

if TYPE_CHECKING:
    from supervision.laboratory.simulation.world.world import World

__all__ = ["Scenario", "ScenarioSettings", "scenario", "scenario_name", "settings_of"]

Scenario: TypeAlias = "Callable[[World], Awaitable[object]]"
"""An async function of one argument, the world."""

F = TypeVar("F", bound=Callable[..., Awaitable[object]])


def scenario(
    *,
    faults: FaultPlan = None,
    params: Mapping[str, Any] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    knobs: Knobs | None = None,
    invariants: Chosen = "all",
) -> Callable[[F], F]:
    """Attach settings to a scenario. The function itself does not change.

        @scenario(faults=[Kill(target="/top/store", when=At(0.5))])
        async def the_store_comes_back(world): ...

    Args:
        faults: a sequence of faults, a `Storm`, or a function of a `random.Random` that returns faults. Plans draw from
            their own random stream, so another plan does not change the other random numbers of the run.
        params: the parameters for `world.params`.
        bounds: the least and the greatest number for a parameter, as in `{"clients": (1, 10)}`. A run with another
            value is an error, and shrinking stays within the bounds.
        knobs: the settings of the simulated world; None takes the defaults.
        invariants: the invariants to check: "all" built-in ones, or a sequence of names, "all" and classes of your own
            (`docs/howto/replay-a-failure.md`).

    Returns:
        A decorator for an async function of the world.

    Raises:
        InvalidFault: `faults` is not a plan, for example a single fault.
        InvalidOption: a bound is no pair of numbers, or a parameter is out of its bounds.
        TypeError: `invariants` is a single name and not a sequence.
    """
    settings = ScenarioSettings(
        faults=faults,
        params=dict(params or {}),
        bounds=dict(bounds or {}),
        knobs=knobs,
        invariants=invariants,
    )

    def decorate(function: F) -> F:
        attach(function, settings)
        return function

    return decorate
