"""What a scenario says about how it is to be run, whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import field, frozen

from supervision.chaos.invariants.built_in import Chosen
from supervision.chaos.plan import Plan

__all__ = ["Settings", "attach", "settings_of"]

_ATTRIBUTE: Final = "__ashtree_scenario__"


@frozen(kw_only=True)
class Settings:
    """The settings of one scenario, with which it is run unless a run says otherwise.

    Attributes:
        faults: its plan.
        params: what it is given.
        knobs: of its simulated worlds, `supervision.simulation.Knobs`; None are the defaults.
        invariants: which are checked: "all" that are built in, or a sequence of names and of classes of its own.
    """

    faults: Plan = None
    params: Mapping[str, Any] = field(factory=dict)
    knobs: Any = None
    invariants: Chosen = "all"


_NONE: Final = Settings()


def attach(scenario: Callable[..., Any], settings: Settings) -> None:
    """Give a scenario its settings."""
    setattr(scenario, _ATTRIBUTE, settings)


def settings_of(scenario: Callable[..., Any]) -> Settings:
    """The settings of a scenario; the defaults, if it has none."""
    found = getattr(scenario, _ATTRIBUTE, None)
    return found if isinstance(found, Settings) else _NONE
