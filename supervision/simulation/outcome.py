"""What came of a simulated run."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from supervision.chaos.expectations import CHECK
from supervision.chaos.faults.kinds import Fault
from supervision.chaos.faults.report import FaultReport
from supervision.simulation.errors import (
    BudgetSpent,
    InvariantViolated,
    NotReached,
    SimulationFailed,
)
from supervision.simulation.knobs import Knobs
from supervision.simulation.pins.places import raised_in
from supervision.simulation.scheduling.deviations import Deviation, Deviations

__all__ = ["Outcome", "identify"]


@frozen(kw_only=True)
class Outcome:
    """One run of one seed.

    Attributes:
        scenario: `module:function`.
        seed: what decided everything.
        knobs: the settings of the world.
        params: what the scenario was given.
        error: what made it fail; None if it passed.
        seconds: virtual seconds that it took.
        rounds: rounds of the scheduler.
        choices: rounds in which there was a choice.
        steps: steps of tasks.
        events: how many events the trace has.
        trace: the events, a JSON object each.
        digest: SHA-256 of the trace.
        steps_digest: SHA-256 of the numbers of the tasks that ran, in order.
        deviations: how the schedule differed from the canonical one.
        named: the same with the names of tasks, for a run that was made with `label_tasks`.
        faults: the plan of the run.
        fault_reports: what became of each of them.
        sometimes: for each name that the scenario gave to `world.sometimes`, whether it ever held.
        failed_at: how many events there were, and the virtual seconds, when the run failed. The events after that are
            how it was ended.
    """

    scenario: str
    seed: int
    knobs: Knobs
    params: dict[str, Any]
    error: BaseException | None
    seconds: float
    rounds: int
    choices: int
    steps: int
    events: int
    trace: list[bytes] = field(repr=False)
    digest: str
    steps_digest: str
    deviations: Deviations = field(repr=False)
    named: tuple[Deviation, ...] = field(default=(), repr=False)
    faults: tuple[Fault, ...] = ()
    fault_reports: tuple[FaultReport, ...] = field(default=(), repr=False)
    sometimes: dict[str, bool] = field(factory=dict)
    failed_at: tuple[int, float] | None = None

    @property
    def passed(self) -> bool:
        """Whether the scenario came to its end and nothing was found."""
        return self.error is None

    def check(self) -> Outcome:
        """Return this outcome if the run passed.

        Raises:
            SimulationFailed: with what went wrong as its cause, and the seed that replays it.
        """
        if self.error is not None:
            problem = f"{type(self.error).__name__}: {self.error}"
            raise SimulationFailed(self.scenario, self.seed, problem) from self.error
        return self


def identify(error: BaseException | None) -> str | None:
    """What kind of failure an error is: two runs that fail alike have the same. None for a run that passed.

    A name of the program's own tells failures apart best: `invariant NAME`, `eventually NAME`. Other exceptions are
    alike if they are of one type, and were raised by the same line of the program, if one was running at all:
    `KeyError in line 3 of Room.handle_call`. So is what `World.check` finds, which has no name.
    """
    if error is None:
        return None
    if isinstance(error, NotReached):
        return f"eventually {error.name}"
    kind = type(error).__qualname__
    if isinstance(error, BudgetSpent):
        return f"{kind} of {error.what}"
    if isinstance(error, InvariantViolated):
        kind = f"invariant {error.invariant}"
        if error.invariant != CHECK:
            return kind
    where = raised_in(error.__traceback__)
    return kind if where is None else f"{kind} in {where}"
