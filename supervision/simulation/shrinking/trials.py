"""Trying out smaller runs, within a budget, and remembering the smallest that failed in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from attrs import frozen

from supervision.chaos.faults.kinds import Fault
from supervision.chaos.faults.report import FaultReport
from supervision.simulation.errors import RunFileError
from supervision.simulation.outcome import Outcome, identify
from supervision.simulation.replaying.run_file import RunFile
from supervision.simulation.scheduling.deviations import Deviation
from supervision.simulation.simulate import Scenario, simulate

__all__ = ["Budget", "Candidate", "Trials"]

Progress = Callable[[int, int, int], None]


@frozen(kw_only=True)
class Candidate:
    """What may be smaller than in the run that is to be shrunk.

    - `faults`: None as long as the scenario draws its own;
    - `params`: of the scenario;
    - `deviations`: from the canonical schedule; None for the schedule of the seed.
    """

    faults: tuple[Fault, ...] | None
    params: Mapping[str, Any]
    deviations: tuple[Deviation, ...] | None

    def with_schedule(self, deviations: Iterable[Deviation] | None) -> Candidate:
        """The same with another schedule."""
        return attrs.evolve(self, deviations=None if deviations is None else tuple(deviations))


class Budget:
    """What shrinking may cost.

    Args:
        runs: at most so many.
        seconds: of real time; a run that has begun is not broken off.
        clock: real seconds since anything.
    """

    def __init__(self, runs: int, seconds: float, clock: Callable[[], float]) -> None:
        self.used = 0
        self._runs = runs
        self._clock = clock
        self._begun = clock()
        self._ends = self._begun + seconds

    @property
    def spent(self) -> bool:
        """Whether there is nothing left."""
        return self.used >= self._runs or self._clock() >= self._ends

    @property
    def took(self) -> float:
        """Real seconds so far."""
        return self._clock() - self._begun


class Trials:
    """Runs candidates, and keeps the last one that failed like the first.

    Args:
        scenario: what runs.
        run: the failure.
        budget: of all trials together.
        progress: told after each of them of runs, faults and deviations so far.

    Attributes:
        best: the candidate that failed last, with the deviations that its run really had.
        reports: what became of the faults of the best.
        cut_short: whether something was left untried for want of budget.
    """

    def __init__(
        self, scenario: Scenario, run: RunFile, budget: Budget, progress: Progress | None
    ) -> None:
        self.budget = budget
        self.seed = run.seed
        self.knobs = run.knobs
        self.failure = run.failure
        self.cut_short = False
        self._passed: set[str] = set()
        self.reports: tuple[FaultReport, ...] = ()
        self._scenario = scenario
        self._progress = progress
        self._max_steps = run.knobs.max_steps
        schedule = run.schedule() if run.knobs.policy == "canonical" else None
        self.best = Candidate(faults=run.faults, params=dict(run.params), deviations=schedule)
        self._begin()

    def _begin(self) -> None:
        outcome = self.outcome(self.best)
        failure = identify(outcome.error)
        if failure != self.failure or failure is None:
            raise RunFileError(
                f"there is nothing to shrink: with seed {self.seed} the run of {outcome.scenario} has "
                f"{'passed' if failure is None else f'failed with {failure}'} now, and was said to have failed with "
                f"{self.failure}; shrink what simulate() has returned, with the program as it was then"
            )
        if not failure.startswith("BudgetSpent"):
            # A candidate that loses its way is not worth more than the failure itself.
            self._max_steps = min(self._max_steps, 10 * outcome.steps + 10_000)
        self._accept(self.best, outcome)

    def outcome(self, candidate: Candidate, *, whole: bool = False) -> Outcome:
        """Run a candidate. With `whole`, as it will be replayed: with all its steps, and its trace."""
        knobs = attrs.evolve(
            self.knobs,
            policy="seeded" if candidate.deviations is None else "canonical",
            max_steps=self.knobs.max_steps if whole else self._max_steps,
        )
        return simulate(
            self._scenario,
            self.seed,
            knobs=knobs,
            params=candidate.params,
            faults=candidate.faults,
            deviations=candidate.deviations,
            keep_trace=whole,
            label_tasks=True,
        )

    def fails(self, *candidates: Candidate) -> bool:
        """Whether one of the candidates fails like the first run did; the first that does is the best from now on."""
        for candidate in candidates:
            if self.budget.spent:
                self.cut_short = True
                return False
            # A run is decided by what it is made from: what has passed once will pass again.
            key = repr(candidate)
            if key in self._passed:
                continue
            self.budget.used += 1
            outcome = self.outcome(candidate)
            failed = identify(outcome.error) == self.failure
            if failed:
                self._accept(candidate, outcome)
            else:
                self._passed.add(key)
            if self._progress is not None:
                best = self.best
                self._progress(self.budget.used, len(best.faults or ()), len(best.deviations or ()))
            if failed:
                return True
        return False

    def _accept(self, candidate: Candidate, outcome: Outcome) -> None:
        self.reports = outcome.fault_reports
        self.best = attrs.evolve(
            candidate,
            faults=outcome.faults,
            params=dict(outcome.params),
            deviations=tuple(outcome.named),
        )
