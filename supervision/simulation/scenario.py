"""Scenarios: functions that run in a world, and what they say about how they want to be run.

@scenario(faults=Storm(["/top/store"], count=5, within=8.0), params={"clients": 3})
async def a_day(world):
...

simulate(a_day, seed=7)                      # five faults, which the seed draws
simulate(a_day, seed=7, faults=())           # the same day without any
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
    """Say how a scenario is to be run. The function stays what it is.

        @scenario(faults=[Kill(target="/top/store", when=At(0.5))])
        async def the_store_comes_back(world): ...

    Args:
        faults: a sequence of them, a `Storm`, or a function of a `random.Random` that returns some. Chance comes from
            a stream of its own, so that a run with other faults, or with none, is otherwise the same.
        params: for the scenario, as `world.params`; whoever runs it may give other values to some.
        knobs: settings of its world.
        invariants: which are checked: "all" that are built in, or a sequence of their names, "all" among them, and of
            classes of your own (`docs/howto/write-an-invariant.md`).

    Raises:
        BadFault: `faults` is no plan, a single fault for one.
        TypeError: `invariants` is one name, and not a sequence of them.
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
    """`module:function`, with which it can be found again."""
    module = getattr(scenario, "__module__", "?")
    name = getattr(scenario, "__qualname__", type(scenario).__qualname__)
    return f"{module}:{name}"
