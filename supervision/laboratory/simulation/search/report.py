"""The totals of a sweep: failures by kind, effects of the faults, and conditions that were never true. *pure*.

From the totals follow the rare states from which a sweep starts further runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from supervision.laboratory.simulation.forks import ForkedSeed
from supervision.laboratory.simulation.search.sweep import SeedResult

__all__ = ["ENOUGH_SEEDS", "FORKS", "Failures", "Forking", "SweepReport"]

ENOUGH_SEEDS = 100
"""A sweep with at least this many runs fails if a `sometimes` condition was never true."""

FORKS = 10
"""The number of runs from each rare state."""

_SHOWN = 20  # the most seeds to keep for each kind of failure
_RARE = 0.25  # a condition is rare if a smaller share of the runs reaches it
_DEPTH = 3  # the most forks in one run


@define(kw_only=True)
class Failures:
    """The runs of a sweep that failed alike.

    Attributes:
        failure: the kind of failure.
        first: the result to show. It is of the first of these runs that had instruments, because only its story names
            the processes. If none of them had instruments, it is of the first run.
        count: the number of these runs.
        seeds: the seeds of the first runs of this kind, at most 20.
        bare: the number of these runs that had no instruments.
        strategies: the number of these runs of each strategy.
    """

    failure: str
    first: SeedResult
    count: int = 0
    seeds: list[int] = field(factory=list)
    bare: int = 0
    strategies: Counter[str] = field(factory=Counter)


@define(kw_only=True)
class SweepReport:
    """The totals of a sweep.

        report = SweepReport(scenario="shop:opening_day")
        for result in sweep(scenario, range(1, 101)):
            report.add(result)
        print(report.passed, report.failures)

    Attributes:
        scenario: the name of the scenario.
        runs: the number of runs.
        bare: the number of runs without instruments.
        forked: the number of runs that forked at a rare state.
        strategies: the number of runs of each strategy.
        failures: the failures by kind, in the order of their first seeds.
        inert: the first run in which no fault of the plan was applied.
        inert_runs: the number of runs in which no fault of the plan was applied.
        diverged: the first runs that differed in a fresh process, at most 20.
        checked: the number of runs that a fresh process repeated.
        virtual_seconds: the total virtual time of all worlds.
        steps: the total number of steps of tasks in all worlds.
        faults: the number of planned faults with each status.
        branches: these numbers for each branch of the fault plan, such as `kill` or `crash on init`.
        sometimes: for each name passed to `world.sometimes`, the number of runs without forks in which the condition
            was true.
        forked_sometimes: for each of these names, the number of runs with forks in which the condition was true. Runs
            that fork at this condition do not count.
        reached: for each of these names, the first passing run in which the condition was true.
    """

    scenario: str
    runs: int = 0
    bare: int = 0
    forked: int = 0
    strategies: Counter[str] = field(factory=Counter)
    failures: dict[str, Failures] = field(factory=dict)
    inert: SeedResult | None = None
    inert_runs: int = 0
    diverged: list[SeedResult] = field(factory=list)
    checked: int = 0
    virtual_seconds: float = 0.0
    steps: int = 0
    faults: Counter[str] = field(factory=Counter)
    branches: dict[str, Counter[str]] = field(factory=dict)
    sometimes: dict[str, int] = field(factory=dict)
    forked_sometimes: dict[str, int] = field(factory=dict)
    reached: dict[str, ForkedSeed] = field(factory=dict)

    def add(self, result: SeedResult) -> bool:
        """Count a result. Return True if the result is the first failure of its kind.

        Args:
            result: the result of one run.
        """
        self.runs += 1
        self.bare += result.bare
        self.virtual_seconds += result.seconds
        self.steps += result.steps
        self.checked += result.checked
        self.faults.update(result.faults)
        for branch, statuses in result.branches.items():
            self.branches.setdefault(branch, Counter()).update(statuses)
        self.forked += bool(result.forks)
        self.strategies[result.strategy] += 1
        self._add_sometimes(result)
        self.inert_runs += result.inert
        if result.inert and self.inert is None:
            self.inert = result
        if result.diverged is not None and len(self.diverged) < _SHOWN:
            self.diverged.append(result)
        if result.failure is None:
            return False
        new = result.failure not in self.failures
        if new:
            self.failures[result.failure] = Failures(failure=result.failure, first=result)
        alike = self.failures[result.failure]
        if alike.first.bare and not result.bare:
            alike.first = result
        alike.count += 1
        alike.bare += result.bare
        alike.strategies[result.strategy] += 1
        if len(alike.seeds) < _SHOWN:
            alike.seeds.append(result.seed)
        return new

    def _add_sometimes(self, result: SeedResult) -> None:
        forked_at = {fork.at for fork in result.forks}
        counts = self.forked_sometimes if result.forks else self.sometimes
        for name, happened in result.sometimes.items():
            self.sometimes.setdefault(name, 0)
            if name in forked_at:
                continue
            counts[name] = counts.get(name, 0) + happened
            if happened and result.passed:
                self.reached.setdefault(name, ForkedSeed(result.seed, result.forks))

    @property
    def failed(self) -> int:
        """The number of runs that failed."""
        return sum(alike.count for alike in self.failures.values())

    @property
    def unseen(self) -> list[str]:
        """The names passed to `world.sometimes` whose condition was true in no run."""
        return [
            name
            for name, count in self.sometimes.items()
            if not count and not self.forked_sometimes.get(name)
        ]

    @property
    def passed(self) -> bool:
        """True if no run failed or diverged, the plan had an effect, and nothing is `unseen` after enough runs."""
        unseen = self.unseen if self.runs - self.forked >= ENOUGH_SEEDS else []
        return not (self.failures or self.diverged or unseen or self.is_inert)

    @property
    def is_inert(self) -> bool:
        """True if no fault of the plan was applied in any run."""
        return 0 < self.runs - self.bare == self.inert_runs

    def as_data(self) -> Mapping[str, Any]:
        """Return the report as data for JSON. The data is the same on every machine."""
        return {
            "scenario": self.scenario,
            "passed": self.passed,
            "seeds": self.runs - self.forked,
            "bare": self.bare,
            "forked": self.forked,
            "strategies": self.strategies,
            "failed": self.failed,
            "failures": [
                {
                    "failure": alike.failure,
                    "count": alike.count,
                    "bare": alike.bare,
                    "strategies": alike.strategies,
                    "seeds": alike.seeds,
                    "problem": alike.first.problem,
                }
                for alike in self.failures.values()
            ],
            "inert": self.inert_runs,
            "diverged": [
                {"seed": each.seed, "difference": each.diverged} for each in self.diverged
            ],
            "checked": self.checked,
            "virtual_seconds": round(self.virtual_seconds, 6),
            "steps": self.steps,
            "faults": self.faults,
            "branches": self.branches,
            "sometimes": self.sometimes,
            "forked_sometimes": self.forked_sometimes,
            "unseen": self.unseen,
        }


@define(eq=False)
class Forking:
    """The forks of one sweep.

        forking = Forking(10)
        for fork in forking.of(report): ...

    Args:
        number: the number of runs from each rare state.
    """

    number: int = FORKS
    _done: set[str] = field(factory=set, init=False)

    def of(self, report: SweepReport) -> list[ForkedSeed]:
        """Return forks at the rare `sometimes` conditions that the sweep has first reached since the last call.

        Each fork starts from the first passing run that reached the condition. This run may have forks itself.
        """
        seeds = report.runs - report.forked
        found = []
        for name, first in report.reached.items():
            if name in self._done:
                continue
            self._done.add(name)
            if report.sometimes.get(name, 0) < _RARE * seeds and len(first.forks) < _DEPTH:
                found += [first.then(name, number) for number in range(1, self.number + 1)]
        return found
