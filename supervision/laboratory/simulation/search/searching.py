"""A search: the runs of a scenario, chosen from the results of the earlier runs.

    search = Search(scenario, range(1, 1001))
    for result in search.results():
        print(result.seed, result.strategy, result.problem)
    print(search.report.failures, search.end)

The search runs fresh seeds, and forks of the runs that reached a rare state. The strategy "auto" divides the steps of
the runs between these sources by the number of new features that they have found per step, and fresh seeds get at least
half. It counts steps, because they are the same on every machine, so a repeated search has the
same report.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal, TypeAlias

from attrs import define, evolve, field

from supervision.laboratory.simulation.forks import ForkedSeed
from supervision.laboratory.simulation.scenario import Scenario, scenario_name
from supervision.laboratory.simulation.scheduling.schedule import Policy
from supervision.laboratory.simulation.search.exhaustive import Exhaustive
from supervision.laboratory.simulation.search.novelty import Novelty
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
# The least share of each source in the steps. The empty name stands for fresh seeds.
_SHARES = {"": 0.5, "forks": 0.1, "novelty": 0.1}


@define(eq=False)
class Search:
    """The runs of a scenario.

    Args:
        scenario: the scenario.
        seeds: the seeds.
        strategy: "auto"; a policy for the order of tasks, "random", "pct" or "reshuffle"; or "exhaustive", which runs
            all schedules with few deviations.
        forks: the number of runs from each rare state; 0 runs only the seeds.
        deviations: the most deviations of a schedule, for "exhaustive".
        limit: the most schedules, for "exhaustive".
        stops: end the search at a plateau.
        options: more arguments for `sweep`.

    Attributes:
        report: the totals.
        is_over: True after the last run.
        end: the sentences about the end of the search, if it has reached a plateau or has run all schedules.
    """

    scenario: Scenario
    seeds: Sequence[int]
    strategy: Strategy = field(default="auto", kw_only=True)
    forks: int = field(default=FORKS, kw_only=True)
    deviations: int = field(default=1, kw_only=True)
    limit: int = field(default=10_000, kw_only=True)
    stops: bool = field(default=True, kw_only=True)
    options: dict[str, Any] = field(factory=dict, kw_only=True)
    report: SweepReport = field(init=False)
    is_over: bool = field(default=False, init=False)
    end: str = field(default="", init=False)
    _position: int = field(default=0, init=False)
    _waiting: deque[int | ForkedSeed] = field(factory=deque, init=False)
    _rare: list[ForkedSeed] = field(factory=list, init=False)
    _source: str = field(default="", init=False)
    _steps: Counter[str] = field(factory=Counter, init=False)
    _new: Counter[str] = field(factory=Counter, init=False)
    _novelty: Novelty = field(factory=Novelty, init=False)
    _forking: Forking = field(init=False)
    _schedules: Exhaustive = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.report = SweepReport(scenario=scenario_name(self.scenario))
        self._forking = Forking(self.forks)
        self._schedules = Exhaustive(self.seeds, self.deviations, self.limit)

    @property
    def _is_guided(self) -> bool:
        return self.strategy == "auto" and self.forks > 0

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
                novelty=self._is_guided,
                **self.options,
            )
            with closing(results):
                for result in results:
                    yield self._learned(self._waiting.popleft(), result)
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
        if self.stops and (rate := self._novelty.plateau) is not None:
            self._end_at_plateau(rate)
            return False
        self._rare += self._forking.of(self.report)
        self._source = self._due()
        # Early decisions matter most, and large batches keep all processes busy.
        size = min(_MOST, max(_FEWEST, self.report.runs // 4)) if self._is_guided else _MOST
        if self._source == "forks":
            chosen: Sequence[int | ForkedSeed] = self._rare[:size]
            del self._rare[:size]
        elif self._source == "novelty":
            chosen = self._novelty.forks()
        else:
            chosen = self.seeds[self._position : self._position + size]
            self._position += len(chosen)
        self._waiting.extend(chosen)
        return bool(chosen)

    def _due(self) -> str:
        """Return the source that is due, which has had the fewest steps in proportion to its share."""
        if not self._is_guided:
            return "forks" if self._position >= len(self.seeds) and self._rare else ""
        if self._position < _FEWEST:
            return ""
        steps = self._steps
        rates = {each: self._new[each] / max(1, steps[each]) for each in _SHARES}
        total = sum(rates.values()) or 1.0
        shares = {each: max(least, rates[each] / total) for each, least in _SHARES.items()}
        ready = {"forks": bool(self._rare), "novelty": self._novelty.has_kept, "": True}
        if self._position >= len(self.seeds):
            # After the last seed, the forks get the rest of their shares.
            ready = {
                each: ready[each] and steps[each] / shares[each] < steps[""] / shares[""]
                for each in _SHARES
            }
        return min(
            (each for each in _SHARES if ready[each]),
            key=lambda each: steps[each] / shares[each],
            default="",
        )

    def _end_at_plateau(self, rate: float) -> None:
        seeds = self.report.runs - self.report.forked
        self.end = f"Plateau: about {rate:.1g} new features per further seed."
        if not self.report.failed:
            self.end += f" With 95 % confidence, fewer than {3 / seeds:.1%} of seeds fail."

    def _learned(self, item: int | ForkedSeed, result: SeedResult) -> SeedResult:
        """Add a result to the report and to the features."""
        source = self._source
        if source:
            result = evolve(result, strategy=source)
        self.report.add(result)
        self._steps[source] += max(1, result.steps)
        start = item if isinstance(item, ForkedSeed) else ForkedSeed(item)
        if self.strategy == "exhaustive":
            self._schedules.add(start, result.choices)
            self.end = str(self._schedules)
        if self._is_guided and result.features:
            self._new[source] += self._novelty.add(start, result.features, passed=result.passed)
        return result
