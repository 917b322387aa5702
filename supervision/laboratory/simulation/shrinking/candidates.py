"""The candidates of shrinking: the runs to try, their limits, and the smallest failure so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
from attrs import frozen

from supervision.laboratory.chaos.faults.kinds import Fault
from supervision.laboratory.chaos.faults.report import FaultReport
from supervision.laboratory.chaos.settings import settings_of
from supervision.laboratory.simulation.draws import Draw, Drawn
from supervision.laboratory.simulation.errors import BudgetSpent, RunFileError
from supervision.laboratory.simulation.forks import Fork
from supervision.laboratory.simulation.outcome import Outcome, failures_in, identify, reason_of
from supervision.laboratory.simulation.replaying.run_file import RunFile
from supervision.laboratory.simulation.scheduling.deviations import Deviation
from supervision.laboratory.simulation.simulate import Scenario, simulate

__all__ = ["Budget", "Candidate", "Progress", "Trials"]

_KEPT = 4  # the most passing runs to keep
_SCHEDULE = 10  # the distance of the schedule of a seed, which differs in many rounds

Progress: TypeAlias = Callable[[int, int, int], None]
"""Called after each run with the numbers of runs, of remaining faults and of remaining deviations."""


@frozen(kw_only=True)
class Candidate:
    """The parts of a run that shrinking makes smaller.

    Attributes:
        faults: the plan; None lets the scenario draw its own.
        params: the parameters of the scenario.
        deviations: the deviations from the canonical schedule; None for the schedule of the seed.
        forks: the moments at which the run begins to use other random numbers.
        draws: the values that replace values drawn from `world.random`.
    """

    faults: tuple[Fault, ...] | None
    params: Mapping[str, Any]
    deviations: tuple[Deviation, ...] | None
    forks: tuple[Fork, ...] = ()
    draws: tuple[Draw, ...] = ()

    def distance(self, other: Candidate) -> int:
        """Return the number of parts in which two candidates differ."""
        changed = [name for name, value in other.params.items() if self.params[name] != value]
        schedule = _SCHEDULE
        if other.deviations is not None:
            schedule = _unlike(self.deviations or (), other.deviations)
        faults = _unlike(self.faults or (), other.faults or ())
        return len(changed) + schedule + faults + _unlike(self.draws, other.draws)

    def with_schedule(self, deviations: Iterable[Deviation] | None) -> Candidate:
        """Return the same candidate with another schedule."""
        return attrs.evolve(self, deviations=None if deviations is None else tuple(deviations))


def _unlike(first: Sequence[object], second: Sequence[object]) -> int:
    return len(set(map(repr, first)) ^ set(map(repr, second)))


class Budget:
    """The limits of shrinking: the most runs, and the most seconds of a clock."""

    def __init__(self, runs: int, seconds: float, clock: Callable[[], float]) -> None:
        self.used = 0
        self._runs = runs
        self._clock = clock
        self._begun = clock()
        self._ends = self._begun + seconds

    @property
    def spent(self) -> bool:
        """True if no runs or no seconds are left."""
        return self.used >= self._runs or self._clock() >= self._ends

    @property
    def took(self) -> float:
        """The real seconds so far."""
        return self._clock() - self._begun


class Trials:
    """The trials of candidates, and the last candidate that failed in the same way as the first run.

    Attributes:
        best: the candidate that failed last, with the deviations of its run.
        reports: the fault reports of the best candidate.
        drawn: the calls of `world.random` of the best candidate.
        bounds: the bounds of the scenario's parameters.
        passing: candidates that passed, with their outcomes. These are the nearest to the best candidate.
        cut_short: True if the budget ran out.
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
        self.drawn: tuple[Drawn, ...] = ()
        self.passing: list[tuple[Candidate, Outcome]] = []
        self.bounds = settings_of(scenario).bounds
        self._scenario = scenario
        self._progress = progress
        self._max_steps = run.knobs.max_steps
        schedule = run.schedule() if run.knobs.policy == "canonical" else None
        self.best = Candidate(
            faults=run.faults,
            params=dict(run.params),
            deviations=schedule,
            forks=run.forks,
            draws=run.draws,
        )
        self._begin()

    def _begin(self) -> None:
        outcome = self.outcome(self.best)
        failure = identify(outcome.error)
        if failure != self.failure or failure is None:
            raise RunFileError(
                f"there is nothing to shrink: with seed {self.seed} the run of {outcome.scenario} "
                f"{'passes' if failure is None else f'fails with {failure}'} now, and failed with {self.failure} "
                "before; shrink an outcome of simulate(), with the same program"
            )
        assert outcome.error is not None  # only an error has a kind of failure
        self._reason = reason_of(outcome.error)
        if not any(isinstance(each, BudgetSpent) for each in failures_in(outcome.error)):
            # Give up candidates that run much longer than the failure.
            self._max_steps = min(self._max_steps, 10 * outcome.steps + 10_000)
        self._accept(self.best, outcome)

    def outcome(
        self, candidate: Candidate, *, whole: bool = False, seed: int | None = None
    ) -> Outcome:
        """Run a candidate and return the outcome. With `whole`, the knobs set the limit of steps."""
        knobs = attrs.evolve(
            self.knobs,
            policy="seeded" if candidate.deviations is None else "canonical",
            max_steps=self.knobs.max_steps if whole else self._max_steps,
        )
        return simulate(
            self._scenario,
            self.seed if seed is None else seed,
            knobs=knobs,
            params=candidate.params,
            faults=candidate.faults,
            deviations=candidate.deviations,
            forks=candidate.forks,
            draws=candidate.draws,
            label_tasks=True,
        )

    def fails(self, *candidates: Candidate) -> bool:
        """Return True if a candidate fails in the same way as the first run. That candidate becomes the best."""
        for candidate in candidates:
            if self.budget.spent:
                self.cut_short = True
                return False
            # A run that passed once passes again.
            key = repr(candidate)
            if key in self._passed:
                continue
            self.budget.used += 1
            outcome = self.outcome(candidate)
            failed = outcome.error is not None and reason_of(outcome.error) == self._reason
            if failed:
                self._accept(candidate, outcome)
            else:
                self._passed.add(key)
                if outcome.passed:
                    self._keep(candidate, outcome)
            if self._progress is not None:
                best = self.best
                self._progress(self.budget.used, len(best.faults or ()), len(best.deviations or ()))
            if failed:
                return True
        return False

    def _keep(self, candidate: Candidate, outcome: Outcome) -> None:
        """Keep a passing run, unless enough others are nearer to the best candidate."""
        self.passing.append((candidate, outcome))
        self.passing.sort(key=lambda kept: self.best.distance(kept[0]))
        del self.passing[_KEPT:]

    def _accept(self, candidate: Candidate, outcome: Outcome) -> None:
        self.reports = outcome.fault_reports
        self.drawn = outcome.drawn
        self.best = attrs.evolve(
            candidate,
            faults=outcome.faults,
            params=dict(outcome.params),
            deviations=tuple(outcome.named),
            draws=outcome.draws,
        )
