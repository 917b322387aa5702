"""Run sweeps in turn until one run fails, within a limit of CPU seconds.

    first = first_failure(SWEEPS, seconds=60.0)

A campaign needs minutes, because it visits one sweep after the other, shrinks each failure and forks. This search has
one question, which is "does any run fail?". It runs in this process, and begins with one run of every sweep. From then
on, the next run belongs to the sweep that has used the least CPU time in proportion to its weight. So cheap sweeps have
many runs, and an expensive sweep cannot use up the limit. The search of each sweep is the same as that of the command
`ashtree simulate`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from attrs import define, field, frozen

from supervision.laboratory.simulation.forks import ForkedSeed
from supervision.laboratory.simulation.replaying.run_file import find_scenario
from supervision.laboratory.simulation.search.searching import Search, Strategy
from supervision.laboratory.simulation.search.sweep import SeedResult, sweep
from tests.simulation.campaign import Sweep

__all__ = ["FirstFailure", "Ran", "first_failure", "run_once"]

Ran = Callable[[Sweep, int | ForkedSeed], None]

_ENDLESS = 1_000_000_000  # more seeds than any search runs

_LONGEST = 20.0
"""The most CPU seconds for one run. The longest healthy run takes about three."""


@frozen(kw_only=True)
class FirstFailure:
    """The result of a search.

    Attributes:
        sweep: the sweep that failed; None if no run failed.
        result: the failed run; None if no run failed.
        seconds: the CPU seconds of the search.
        runs: the number of runs.
    """

    sweep: Sweep | None
    result: SeedResult | None
    seconds: float
    runs: int


@define
class _Source:
    """One sweep, its search, and the CPU time of its runs."""

    sweep: Sweep
    search: Search
    results: Iterator[SeedResult]
    used: float = field(default=0.0)

    @property
    def share(self) -> float:
        return self.used / self.sweep.weight


def first_failure(
    sweeps: Sequence[Sweep],
    *,
    seconds: float,
    first_seed: int = 1,
    before: Ran = lambda sweep, seed: None,
    is_false: Callable[[Sweep, SeedResult], bool] = lambda sweep, result: False,
    strategy: Strategy = "auto",
) -> FirstFailure:
    """Run the sweeps until the first failure, or until the CPU time is over.

    Args:
        sweeps: the sweeps.
        seconds: the CPU seconds of all runs together. The run that reaches the limit goes on to its end.
        first_seed: the first seed of each sweep.
        before: called with the sweep and the seed before each run.
        is_false: returns True if the failure of a run is a false alarm, so that the search goes on.
        strategy: the strategy of the searches.
    """
    seeds = range(first_seed, first_seed + _ENDLESS)
    sources = [_source(each, seeds, strategy) for each in sweeps]
    began, runs = time.process_time(), 0
    while (spent := time.process_time() - began) < seconds:
        source = min(sources, key=lambda each: each.share)
        item = source.search.upcoming()
        assert item is not None  # the seeds do not end
        before(source.sweep, item)
        with _ending_after(_LONGEST, f"{source.sweep.name}: {item}"):
            result = next(source.results)
        runs += 1
        total = time.process_time() - began
        source.used += total - spent
        if not result.passed and not is_false(source.sweep, result):
            return FirstFailure(sweep=source.sweep, result=result, seconds=total, runs=runs)
    return FirstFailure(sweep=None, result=None, seconds=time.process_time() - began, runs=runs)


def _source(part: Sweep, seeds: Sequence[int], strategy: Strategy) -> _Source:
    # The start of a worker would take longer than most runs.
    options = {"jobs": 0, "params": dict(part.params), "check": 0}
    scenario = find_scenario(part.path)
    search = Search(scenario, seeds, strategy=strategy, options=options)
    return _Source(part, search, search.results())


def run_once(part: Sweep, item: int | ForkedSeed) -> SeedResult:
    """Run one seed of a sweep in this process. End the process if the run takes too much CPU time."""
    with _ending_after(_LONGEST, f"{part.name}: {item}"):
        (result,) = sweep(
            find_scenario(part.path), [item], jobs=0, params=dict(part.params), check=0
        )
    return result


@contextmanager
def _ending_after(seconds: float, what: str) -> Iterator[None]:
    """End this process with exit code 1 if the block takes more CPU seconds.

    An exception would not be enough, because the program of the run could catch it.
    """

    def end(number: int, frame: FrameType | None) -> None:
        print(f"{what} is not over after {seconds:g} CPU seconds", flush=True)
        os._exit(1)

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
