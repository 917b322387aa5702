"""Scenarios and simulated runs that also check the laws of Ashtree.

Use these two functions in place of those of `supervision.simulation` wherever the program under test is Ashtree itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import attrs

from supervision.laboratory.chaos.faults.plan import FaultPlan
from supervision.laboratory.chaos.invariants.base import Invariant
from supervision.laboratory.chaos.invariants.built_in import BUILT_IN, Chosen
from supervision.laboratory.chaos.settings import attach, settings_of
from supervision.laboratory.simulation import scenario as scenarios
from supervision.laboratory.simulation import simulate as simulation
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.scenario import Scenario
from tests.laws.callbacks import CallbackOrder
from tests.laws.incarnations import OneIncarnation
from tests.laws.mail import AnsweredOnce, MailIsTaken, NothingLeft, Timers
from tests.laws.names import Names
from tests.laws.processes import Calls, DeadHandleNothing, Monitors
from tests.laws.signals import DeadSendNothing, ExitSignals
from tests.laws.supervisors import (
    AutoShutdown,
    Intensity,
    MaxChildren,
    RestartOrder,
    RestartRetried,
    ShutdownOrder,
    StopLimits,
)

__all__ = ["LAWS", "lawful", "scenario", "simulate", "with_laws"]

F = TypeVar("F", bound=Callable[..., Awaitable[object]])

_CLASSES: tuple[type[Invariant], ...] = (
    *BUILT_IN.values(),
    *(OneIncarnation, Names, Monitors, DeadHandleNothing, Calls),
    *(ExitSignals, DeadSendNothing, MailIsTaken, AnsweredOnce, Timers, NothingLeft),
    *(CallbackOrder, RestartOrder, RestartRetried, ShutdownOrder, StopLimits, Intensity),
    *(AutoShutdown, MaxChildren),
)

LAWS: Final = MappingProxyType({each.name: each for each in _CLASSES})
"""The class of each law of `actors` and `supervision` by its name. The built-in invariants are among them."""


def with_laws(chosen: Chosen) -> Chosen:
    """Return the chosen invariants, with all laws in the place of "all"."""
    if isinstance(chosen, str):
        # Any other single name is a mistake, which `scenario` reports.
        return tuple(LAWS.values()) if chosen == "all" else chosen
    names = tuple(chosen)
    if "all" not in names:
        return names
    return (*LAWS.values(), *(each for each in names if each != "all"))


def scenario(
    *,
    faults: FaultPlan = None,
    params: Mapping[str, Any] | None = None,
    knobs: Knobs | None = None,
    invariants: Chosen = "all",
) -> Callable[[F], F]:
    """Attach settings to a scenario, as `supervision.simulation.scenario` does. "all" invariants include the laws."""
    chosen = with_laws(invariants)
    return scenarios.scenario(faults=faults, params=params, knobs=knobs, invariants=chosen)


def lawful(function: F) -> F:
    """Let the runs of a scenario check the laws, unless it has chosen its own invariants. Return the scenario."""
    settings = settings_of(function)
    chosen = with_laws(settings.invariants)
    if chosen != settings.invariants:
        attach(function, attrs.evolve(settings, invariants=chosen))
    return function


def simulate(function: Scenario, seed: int, **options: Any) -> Outcome:
    """Run a scenario, as `supervision.simulation.simulate` does, and check the laws."""
    return simulation.simulate(lawful(function), seed, **options)
