"""What a scenario says about how it is to be run, whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import Attribute, field, frozen

from supervision.chaos.faults.plan import FaultPlan, Storm, checked
from supervision.chaos.invariants.built_in import Chosen, choose

__all__ = ["Settings", "attach", "settings_of"]

_ATTRIBUTE: Final = "__ashtree_scenario__"


def _check_plan(settings: object, attribute: Attribute[Any], plan: FaultPlan) -> None:
    # Where it is written, and not where it is drawn. One that is drawn by a function is looked at then.
    if plan is not None and not isinstance(plan, Storm) and not callable(plan):
        checked(plan)


def _kept(invariants: Chosen) -> Chosen:
    if isinstance(invariants, str):
        # "all", or an error. The names in a sequence are looked up in a run: by then all of them are there.
        choose(invariants)
        return invariants
    return tuple(invariants)


@frozen(kw_only=True)
class Settings:
    """The settings of one scenario, with which it is run unless a run says otherwise.

    Attributes:
        faults: its plan.
        params: what it is given.
        knobs: of its simulated worlds, `supervision.simulation.Knobs`; None are the defaults.
        invariants: which are checked: "all" that are built in, or a sequence of names and of classes of its own.

    Raises:
        BadFault: the plan is none.
        TypeError: `invariants` is one name.
    """

    faults: FaultPlan = field(default=None, validator=_check_plan)
    params: Mapping[str, Any] = field(factory=dict)
    knobs: Any = None
    invariants: Chosen = field(default="all", converter=_kept)


_NONE: Final = Settings()


def attach(scenario: Callable[..., Any], settings: Settings) -> None:
    """Give a scenario its settings."""
    setattr(scenario, _ATTRIBUTE, settings)


def settings_of(scenario: Callable[..., Any]) -> Settings:
    """The settings of a scenario; the defaults, if it has none."""
    found = getattr(scenario, _ATTRIBUTE, None)
    return found if isinstance(found, Settings) else _NONE
