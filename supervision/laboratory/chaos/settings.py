"""The settings and the name of a scenario, for simulated and for live runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import Attribute, field, frozen

from actors.arguments import check_number, is_number
from actors.errors import InvalidOption
from supervision.laboratory.chaos.faults.plan import FaultPlan, Storm, checked
from supervision.laboratory.chaos.invariants.built_in import Chosen, choose

__all__ = ["ScenarioSettings", "attach", "scenario_name", "settings_of"]

_ATTRIBUTE: Final = "__ashtree_scenario__"


def _check_plan(settings: object, attribute: Attribute[Any], plan: FaultPlan) -> None:
    # Check a literal plan here, so that the error points at its author's line. A run checks a plan that it draws.
    if plan is not None and not isinstance(plan, Storm) and not callable(plan):
        checked(plan)


def _check_bounds(
    settings: ScenarioSettings, attribute: Attribute[Any], bounds: Mapping[str, Any]
) -> None:
    for name, pair in bounds.items():
        numbers = isinstance(pair, tuple) and len(pair) == 2 and all(map(is_number, pair))
        if not numbers or pair[0] > pair[1]:
            expected = "the least and the greatest value, as in (1, 10); math.inf is no limit"
            raise InvalidOption("scenario", f"bounds[{name!r}]", pair, expected)
    settings.check_params("scenario", settings.params)


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
        bounds: the least and the greatest value of parameters. A parameter without bounds is not checked.
        knobs: the `supervision.simulation.Knobs` of simulated worlds; None for the defaults.
        invariants: "all" for all built-in invariants, or a sequence of names and classes.

    Raises:
        InvalidFault: the plan is invalid.
        InvalidOption: a bound is no pair of numbers, or a parameter is out of its bounds.
        TypeError: `invariants` is a single name.
    """

    faults: FaultPlan = field(default=None, validator=_check_plan)
    params: Mapping[str, Any] = field(factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(factory=dict, validator=_check_bounds)
    knobs: Any = None
    invariants: Chosen = field(default="all", converter=_kept)

    def check_params(self, owner: str, params: Mapping[str, Any]) -> None:
        """Check that parameters are within their bounds.

        Args:
            owner: the function that got the parameters, for the error.
            params: some parameters of the scenario.

        Raises:
            InvalidOption: a parameter is out of its bounds.
        """
        for name, (least, most) in self.bounds.items():
            if name in params:
                expected = f"a number from {least:g} to {most:g}, the bounds in the scenario"
                option = f"params[{name!r}]"
                check_number(owner, option, params[name], expected, least=least, most=most)


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
