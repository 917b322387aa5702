"""The settings and the name of a scenario, for simulated and for live runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import Attribute, field, frozen

from supervision.laboratory.chaos.faults.plan import FaultPlan, Storm, checked
from supervision.laboratory.chaos.invariants.built_in import Chosen, choose

__all__ = ["ScenarioSettings", "attach", "scenario_name", "settings_of"]

_ATTRIBUTE: Final = "__ashtree_scenario__"


def _check_plan(settings: object, attribute: Attribute[Any], plan: FaultPlan) -> None:
    # Check a literal plan here, so that the error points at its author's line. A run checks a plan that it draws.
    if plan is not None and not isinstance(plan, Storm) and not callable(plan):
        checked(plan)


def _kept(invariants: Chosen) -> Chosen:
    if isinstance(invariants, str):
        # `choose` raises unless this is "all". A run checks the names in a sequence.
        choose(invariants)
        return invariants
    return tuple(invariants)


@frozen(kw_only=True)
class ScenarioSettings:
    """The settings of one scenario. The arguments of a run override them.

    Attributes:
        faults: the fault plan.
        params: the parameters.
        knobs: the `supervision.simulation.Knobs` of simulated worlds; None for the defaults.
        invariants: "all" for all built-in invariants, or a sequence of names and classes.

    Raises:
        InvalidFault: the plan is invalid.
        TypeError: `invariants` is a single name.
    """

    faults: FaultPlan = field(default=None, validator=_check_plan)
    params: Mapping[str, Any] = field(factory=dict)
    knobs: Any = None
    invariants: Chosen = field(default="all", converter=_kept)


_NONE: Final = ScenarioSettings()


def attach(scenario: Callable[..., Any], settings: ScenarioSettings) -> None:
    """Set the settings of a scenario."""
    setattr(scenario, _ATTRIBUTE, settings)


def settings_of(scenario: Callable[..., Any]) -> ScenarioSettings:
    """Return the settings of a scenario, or the defaults.

    Args:
        scenario: a function with the decorator `scenario`, or without it.
    """
    found = getattr(scenario, _ATTRIBUTE, None)
    return found if isinstance(found, ScenarioSettings) else _NONE


def scenario_name(scenario: Callable[..., Any]) -> str:
    """Return the name of a scenario, as `module:function`."""
    module = getattr(scenario, "__module__", "?")
    name = getattr(scenario, "__qualname__", type(scenario).__qualname__)
    return f"{module}:{name}"
