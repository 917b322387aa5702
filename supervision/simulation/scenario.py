"""Scenarios: functions that run in a world, with settings for their runs.

@scenario(faults=Storm(["/top/store"], count=5, within=8.0), params={"clients": 3})
async def a_day(world):
...

simulate(a_day, seed=7)                      # five faults, drawn from the seed
simulate(a_day, seed=7, faults=())           # the same day without faults
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from supervision.chaos.faults.plan import FaultPlan
from supervision.chaos.invariants.built_in import Chosen
from supervision.chaos.settings import Settings, attach, settings_of
from supervision.simulation.knobs import Knobs

if TYPE_CHECKING:
    from supervision.simulation.world.world import World

__all__ = ["Scenario", "Settings", "scenario", "scenario_name", "settings_of"]

Scenario: TypeAlias = "Callable[[World], Awaitable[object]]"
"""An async function of one argument, the world."""

F = TypeVar("F", bound=Callable[..., Awaitable[object]])


def scenario(
    *,
    faults: FaultPlan = None,
    params: Mapping[str, Any] | None = None,
    knobs: Knobs | None = None,
    invariants: Chosen = "all",
) -> Callable[[F], F]:
    """Attach settings to a scenario. The function itself does not change.

        @scenario(faults=[Kill(target="/top/store", when=At(0.5))])
        async def the_store_comes_back(world): ...

    Args:
        faults: A sequence of faults, a `Storm`, or a function of a `random.Random` that returns faults. They have a
            stream of random numbers of their own, so that a run with other faults is otherwise the same.
        params: For the scenario, as `world.params`. The caller of `simulate` may override them.
        knobs: Settings of its world.
        invariants: The invariants to check: "all" built-in ones, or a sequence of their names ("all" is one, too) and
            of classes of your own (`docs/howto/write-an-invariant.md`).

    Raises:
        BadFault: `faults` is no plan, for example a single fault.
        TypeError: `invariants` is one name instead of a sequence of names.
    """
    settings = Settings(
        faults=faults,
        params=dict(params or {}),
        knobs=knobs,
        invariants=invariants,
    )

    def decorate(function: F) -> F:
        attach(function, settings)
        return function

    return decorate


def scenario_name(scenario: Scenario) -> str:
    """Return `module:function`, by which a scenario can be imported."""
    module = getattr(scenario, "__module__", "?")
    name = getattr(scenario, "__qualname__", type(scenario).__qualname__)
    return f"{module}:{name}"
