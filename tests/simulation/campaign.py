"""A campaign: several sweeps that share a limit of real time.

    campaign = Campaign([Sweep("shop", "shop:opening_day", weight=2), Sweep("bank", "bank:a_day")], seconds=600)
    campaign.run()
    for part in campaign.parts:
        print(part.sweep.name, part.report.runs, part.report.failures)

Each sweep gets a share of the time. The campaign visits each sweep several times. The first visit is short, so that an
easy bug in the last sweep is found early too. A sweep ends early when it has found enough failures. The other sweeps
then share its time.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import attrs
from attrs import define, field, frozen

from actors.arguments import check_positive, positive
from supervision.laboratory.simulation.replaying.run_file import find_scenario
from supervision.laboratory.simulation.replaying.self_check import check_many
from supervision.laboratory.simulation.scenario import Scenario
from supervision.laboratory.simulation.search.corpus import Corpus
from supervision.laboratory.simulation.search.findings import Finding, look_at
from supervision.laboratory.simulation.search.report import Failures, SweepReport
from supervision.laboratory.simulation.search.searching import Search, Strategy
from supervision.laboratory.simulation.search.workers import cores

__all__ = ["Campaign", "Part", "Sweep"]

_VISITS = (0.1, 0.3, 0.6)  # the share of each visit in the time for seeds
_SHRINKING = 0.15  # the share of the time for shrinking
_LONGEST_SHRINK = 30.0  # the most real seconds for shrinking one failure
_REAL_SECONDS = 120.0  # the most real seconds for one run; long enough for a busy machine
_CPU_SECONDS = 20.0  # the most CPU seconds for one run
# The share of passing runs to repeat in a fresh process. A repetition takes about a second.
_CHECKED = 0.002
_MOST_KINDS = 3  # a sweep ends at this number of kinds of failures
_MOST_FAILED = 20  # a sweep ends at this number of failed runs
_ENDLESS = 1_000_000_000  # more seeds than any campaign runs


@frozen
class Sweep:
    """A scenario of a campaign.

        Sweep("supervisors", "tests.simulation.sweeps.supervisors:trees", weight=3)

    Args:
        name: a short name for the reports.
        path: the scenario, `module:function`.
        weight: the share of the time, relative to the weights of the other sweeps.
        params: parameters for `world.params`. They override the scenario's own parameters.
    """

    name: str
    path: str
    weight: float = field(default=1.0, validator=positive)
    params: Mapping[str, Any] = field(factory=dict)


@define(kw_only=True, eq=False)
class Part:
    """One sweep of a campaign, and its results so far.

    Attributes:
        sweep: the sweep.
        scenario: its scenario.
        search: its runs, and their totals.
        seconds: the real seconds so far.
        cpu_seconds: the CPU seconds of its processes so far.
    """

    sweep: Sweep
    scenario: Scenario
    search: Search
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def report(self) -> SweepReport:
        """The totals."""
        return self.search.report

    @property
    def has_found_enough(self) -> bool:
        """True if the sweep has ended because of its failures."""
        report = self.report
        lost = any(each.first.lost for each in report.failures.values())
        # If one run did not end, other runs may not end either, and each would take its whole time limit.
        return lost or len(report.failures) >= _MOST_KINDS or report.failed >= _MOST_FAILED

    @property
    def is_over(self) -> bool:
        """True if the sweep runs nothing more."""
        return self.has_found_enough or self.search.is_over

    @property
    def passed(self) -> bool:
        """True if the sweep passed; see `SweepReport.passed`."""
        return self.report.passed


Visited = Callable[[Part], None]


class Campaign:
    """Several sweeps that share a limit of real time.

        campaign = Campaign(SWEEPS, seconds=600)

    Args:
        sweeps: the sweeps.
        seconds: the limit for seeds and shrinking together, in real seconds. A run that has begun may take longer.
        first_seed: the first seed of every sweep.
        seeds: the most seeds of each sweep; None runs seeds until the time is over.
        jobs: the number of processes; None takes one per core.
        check: the share of passing runs that a fresh process repeats. Unless this is 0, it also repeats the first
            failure of each kind.
        strategy: the strategy of the searches.
        clock: returns the real seconds.

    Attributes:
        parts: the sweeps with their results.

    Raises:
        RunFileError: a scenario cannot be imported.
        ValueError: there are no sweeps, or a number is out of its range.
    """

    def __init__(
        self,
        sweeps: Sequence[Sweep],
        *,
        seconds: float,
        first_seed: int = 1,
        seeds: int | None = None,
        jobs: int | None = None,
        check: float = _CHECKED,
        strategy: Strategy = "auto",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not sweeps:
            raise ValueError("sweeps is empty; write one Sweep or more")
        check_positive("Campaign", "seconds", seconds)
        self.jobs = cores() if jobs is None else jobs
        self.seconds = seconds
        self._check = check
        self._strategy = strategy
        last = first_seed + (_ENDLESS if seeds is None else seeds)
        self.parts = [self._part(each, range(first_seed, last)) for each in sweeps]
        self._clock = clock

    @property
    def passed(self) -> bool:
        """True if all sweeps passed."""
        return all(part.passed for part in self.parts)

    def run(self, visited: Visited | None = None) -> None:
        """Run the seeds of all sweeps.

        Args:
            visited: called after each visit of a sweep.
        """
        begun, share = self._clock(), 0.0
        for visit in _VISITS:
            share += visit
            end = begun + self.seconds * (1 - _SHRINKING) * share
            waiting = [part for part in self.parts if not part.is_over]
            while waiting:
                weights = sum(each.sweep.weight for each in waiting)
                part, left = waiting.pop(0), max(0.0, end - self._clock())
                if part.report.runs and not left:
                    # The earlier sweeps have used the time of this sweep too, for example with long runs.
                    continue
                self._visit(part, self._clock() + left * part.sweep.weight / weights)
                if visited is not None:
                    visited(part)

    def examine(self, corpus: Corpus) -> Iterator[tuple[Part, Finding]]:
        """Shrink each kind of failure, and write its run file to `corpus`. Yield each finding with its sweep."""
        found = [(part, kind) for part in self.parts for kind in part.report.failures.values()]
        if self._check:
            _repeat_elsewhere(found)
        seconds = self.seconds * _SHRINKING * max(self.jobs, 1) / max(len(found), 1)
        findings = look_at(
            [kind for _, kind in found],
            corpus=corpus,
            # The files of earlier campaigns may belong to another version of the program.
            stale=[path for path, _ in corpus.entries()],
            small=True,
            jobs=self.jobs,
            seconds=min(seconds, _LONGEST_SHRINK),
        )
        for (part, _), finding in zip(found, findings, strict=True):
            yield part, finding

    def _part(self, chosen: Sweep, seeds: Sequence[int]) -> Part:
        scenario = find_scenario(chosen.path)
        options = {
            "jobs": self.jobs,
            "params": chosen.params,
            "check": self._check,
            # It would take too long to repeat every failure in a fresh process. `examine` repeats one of each kind.
            "check_failures": False,
            "real_seconds": _REAL_SECONDS,
            "cpu_seconds": _CPU_SECONDS,
        }
        search = Search(scenario, seeds, strategy=self._strategy, options=options)
        return Part(sweep=chosen, scenario=scenario, search=search)

    def _visit(self, part: Part, end: float) -> None:
        """Continue the search of a sweep until `end`, with at least one run."""
        begun, used = self._clock(), _cpu_seconds()
        # `closing` ends the workers immediately. So no run goes on, and `_cpu_seconds` includes their CPU time.
        with closing(part.search.results()) as results:
            for _ in results:
                if part.has_found_enough or self._clock() >= end:
                    break
        part.seconds += self._clock() - begun
        part.cpu_seconds += _cpu_seconds() - used


def _repeat_elsewhere(found: Sequence[tuple[Part, Failures]]) -> None:
    """Repeat the first run of each kind in a fresh process. If a run differs, add it to the report of its sweep."""
    runs = {index: kind.first.run for index, (_, kind) in enumerate(found)}
    known = {index: run for index, run in runs.items() if run is not None}
    problems = check_many(known.values(), real_seconds=_REAL_SECONDS * max(len(known), 1))
    for index, problem in zip(known, problems, strict=True):
        part, kind = found[index]
        kind.first = attrs.evolve(
            kind.first, checked=True, diverged=None if problem is None else str(problem)
        )
        part.report.checked += 1
        if problem is not None:
            part.report.diverged.append(kind.first)


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and of the workers that have ended."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total
