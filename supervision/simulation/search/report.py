"""What a sweep has come to: failures by kind, speed, what the faults did, and what was never seen to happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field

from supervision.simulation.search.sweep import SeedResult

__all__ = ["ENOUGH_SEEDS", "Failures", "SweepReport"]

ENOUGH_SEEDS = 100
"""Runs after which something that is declared to happen sometimes, and never did, counts as found."""

_SHOWN = 20  # seeds of a kind of failure that are remembered


@define(kw_only=True)
class Failures:
    """The runs of a sweep that failed alike.

    Attributes:
        failure: what kind of failure it is.
        first: the one with the first seed.
        count: how many there were.
        seeds: the first of them.
    """

    failure: str
    first: SeedResult
    count: int = 0
    seeds: list[int] = field(factory=list)


@define(kw_only=True)
class SweepReport:
    """The sum of the results of a sweep.

        report = SweepReport(scenario="shop:opening_day")
        for result in sweep(scenario, range(1, 101)):
            report.add(result)
        print(report.passed, report.failures)

    Attributes:
        scenario: its name.
        runs: how many there were.
        failures: by their kind, in the order in which they were found.
        inert: the first run of whose plan nothing was applied; `inert_runs`: how many there were.
        diverged: runs that were another run in a fresh process.
        checked: how many were repeated in a fresh process.
        virtual_seconds: how much time passed in all worlds together.
        steps: of tasks, in all of them.
        faults: how many planned faults came to what.
        sometimes: for each thing that is declared to happen sometimes, in how many runs it did.
    """

    scenario: str
    runs: int = 0
    failures: dict[str, Failures] = field(factory=dict)
    inert: SeedResult | None = None
    inert_runs: int = 0
    diverged: list[SeedResult] = field(factory=list)
    checked: int = 0
    virtual_seconds: float = 0.0
    steps: int = 0
    faults: dict[str, int] = field(factory=dict)
    sometimes: dict[str, int] = field(factory=dict)

    def add(self, result: SeedResult) -> bool:
        """Count a result; answers whether it is the first of its kind of failure."""
        self.runs += 1
        self.virtual_seconds += result.seconds
        self.steps += result.steps
        self.checked += result.checked
        for status, count in result.faults.items():
            self.faults[status] = self.faults.get(status, 0) + count
        for name, happened in result.sometimes.items():
            self.sometimes[name] = self.sometimes.get(name, 0) + happened
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
        alike.count += 1
        if len(alike.seeds) < _SHOWN:
            alike.seeds.append(result.seed)
        return new

    @property
    def failed(self) -> int:
        """How many runs failed."""
        return sum(alike.count for alike in self.failures.values())

    @property
    def unseen(self) -> list[str]:
        """What is declared to happen sometimes, and never did."""
        return [name for name, count in self.sometimes.items() if not count]

    @property
    def passed(self) -> bool:
        """Whether nothing was found: no failure, no divergence, and, in a sweep of enough seeds, nothing unseen.

        A plan of which nothing was applied in any run is found, too.
        """
        unseen = self.unseen if self.runs >= ENOUGH_SEEDS else []
        return not (self.failures or self.diverged or unseen or self.is_inert)

    @property
    def is_inert(self) -> bool:
        """Whether there were runs, and in none of them anything of a plan was applied."""
        return 0 < self.runs == self.inert_runs

    def as_data(self) -> Mapping[str, Any]:
        """The report as JSON has it, without anything that differs from one machine to another."""
        return {
            "scenario": self.scenario,
            "passed": self.passed,
            "seeds": self.runs,
            "failed": self.failed,
            "failures": [
                {
                    "failure": alike.failure,
                    "count": alike.count,
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
            "sometimes": self.sometimes,
            "unseen": self.unseen,
        }
