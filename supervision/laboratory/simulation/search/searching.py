"""A search: the runs of a scenario, with forks of the runs that reached a rare state.

    search = Search(scenario, range(1, 1001))
    for result in search.results():
        print(result.seed, result.strategy, result.problem)
    print(search.report.failures, search.end)

While there are further seeds, the forks get a fifth of the steps of all runs. The search counts steps, because they are
the same on every machine, so a repeated search has the same report.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal, TypeAlias

from attrs import define, field

from supervision.laboratory.simulation.forks import ForkedSeed
from supervision.laboratory.simulation.scenario import Scenario, scenario_name
from supervision.laboratory.simulation.scheduling.schedule import Policy
from supervision.laboratory.simulation.search.exhaustive import Exhaustive
from supervision.laboratory.simulation.search.report import FORKS, Forking, SweepReport
from supervision.laboratory.simulation.search.sweep import SeedResult, sweep

__all__ = ["Search", "Strategy"]

Strategy: TypeAlias = Literal["auto", "random", "pct", "reshuffle", "exhaustive"]

_POLICIES: Mapping[Strategy, Policy | None] = {
    # The seed draws the policy.
    "auto": None,
    "random": "seeded",
    "pct": "pct",
    "reshuffle": "reshuffle",
    "exhaustive": "canonical",
}
_FEWEST, _MOST = 8, 128  # the least and the most runs between two decisions
_FORKED = 0.2  # the share of the forks in the steps, while there are further seeds


@define(eq=False)
class Search:
    """The runs of a scenario.

    Args:
        scenario: the scenario.
        seeds: the seeds.
        strategy: a policy for the order of tasks, "random", "pct" or "reshuffle"; "auto", with which each seed draws
            one of these; or "exhaustive", which runs all schedules with few deviations.
        forks: the number of runs from each rare state; 0 runs only the seeds.
        deviations: the most deviations of a schedule, for "exhaustive".
        limit: the most schedules, for "exhaustive".
        options: more arguments for `sweep`.

    Attributes:
        report: the totals.
        is_over: True after the last run.
        end: the number of schedules in words, for "exhaustive"; otherwise empty.
    """

    scenario: Scenario
    seeds: Sequence[int]
    strategy: Strategy = field(default="auto", kw_only=True)
    forks: int = field(default=FORKS, kw_only=True)
    deviations: int = field(default=1, kw_only=True)
    limit: int = field(default=10_000, kw_only=True)
    options: dict[str, Any] = field(factory=dict, kw_only=True)
    report: SweepReport = field(init=False)
    is_over: bool = field(default=False, init=False)
    end: str = field(default="", init=False)
    _position: int = field(default=0, init=False)
    _waiting: deque[int | ForkedSeed] = field(factory=deque, init=False)
    _rare: list[ForkedSeed] = field(factory=list, init=False)
    _forked_steps: int = field(default=0, init=False)
    _forking: Forking = field(init=False)
    _schedules: Exhaustive = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.report = SweepReport(scenario=scenario_name(self.scenario))
        self._forking = Forking(self.forks)
        self._schedules = Exhaustive(self.seeds, self.deviations, self.limit)

    def results(self) -> Generator[SeedResult, None, None]:
        """Run the search, add each result to the report, and yield it.

        If the caller leaves the loop, all workers end. A later call goes on with the next run.
        """
        while self._waiting or self._choose():
            # `closing` ends the workers here. Otherwise they would end only when Python deletes the generator.
            results = sweep(
                self.scenario,
                list(self._waiting),
                policy=_POLICIES[self.strategy],
                **self.options,
            )
            with closing(results):
                for result in results:
                    self._add(self._waiting.popleft(), result)
                    yield result
        self.is_over = True

    def upcoming(self) -> int | ForkedSeed | None:
        """Return the next run of `results`; None if the search is over."""
        return self._waiting[0] if self._waiting or self._choose() else None

    def _choose(self) -> bool:
        """Choose the next runs. Return False if there are none."""
        if self.strategy == "exhaustive":
            self._waiting.extend(self._schedules.take(_MOST))
            self.end = str(self._schedules)
            return bool(self._waiting)
        self._rare += self._forking.of(self.report)
        # Early decisions matter most, and large batches keep all processes busy.
        size = min(_MOST, max(_FEWEST, self.report.runs // 4))
        has_seeds = self._position < len(self.seeds)
        if self._rare and not (has_seeds and self._forked_steps > _FORKED * self.report.steps):
            self._waiting.extend(self._rare[:size])
            del self._rare[:size]
        else:
            self._waiting.extend(self.seeds[self._position : self._position + size])
            self._position += size
        return bool(self._waiting)

    def _add(self, item: int | ForkedSeed, result: SeedResult) -> None:
        self.report.add(result)
        if result.forks:
            self._forked_steps += result.steps
        if isinstance(item, ForkedSeed) and self.strategy == "exhaustive":
            self._schedules.add(item, result.choices)
            self.end = str(self._schedules)
