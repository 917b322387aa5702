"""A sweep finds and shrinks planted bugs quickly, from any first seed.

`test_planted` begins with the first seed that finds each bug. Here the search begins at other seeds.
"""

import os
import time
from collections.abc import Iterator
from itertools import count, islice
from statistics import median

import pytest

from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome, identify
from supervision.laboratory.simulation.shrinking.shrink import Shrunk, shrink
from tests.laws.scenarios import simulate
from tests.simulation.planted import processes, programs, supervisors
from tests.simulation.planted.planting import Planted

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
ALL = (*supervisors.BUGS, *processes.BUGS, *programs.BUGS)
# Some bugs of each kind; in the deep profile, all of them.
BUGS = ALL if DEEP else ALL[1::10]
FIRST, LIMIT = 5000, 2000
FAILURES = 12 if DEEP else 2


def failures(bug: Planted) -> Iterator[Outcome]:
    """Yield the runs that fail because of the bug, from a seed on. Each must be found within 2,000 seeds."""
    seeds = count(FIRST)
    while True:
        for seed in islice(seeds, LIMIT):
            outcome = simulate(bug.scenario, seed, knobs=Knobs().drawn(seed))
            if identify(outcome.error) == bug.failure:
                yield outcome
                break
        else:
            pytest.fail(f"{bug.name} was not found with {LIMIT} seeds before {next(seeds)}")


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_planted_bug_shrinks_to_a_small_run(bug: Planted) -> None:
    # Processor time, because it does not grow on a busy machine.
    shrunk = [
        shrink(outcome, clock=time.process_time) for outcome in islice(failures(bug), FAILURES)
    ]
    assert all(each.complete and each.run.failure == bug.failure for each in shrunk)
    # The first seed decides which of several small failures is reached. One in twelve may be larger.
    assert sum(is_small(each) for each in shrunk) >= FAILURES - FAILURES // 12
    assert median(each.runs for each in shrunk) <= 300
    assert median(each.seconds for each in shrunk) < 5


def is_small(shrunk: Shrunk) -> bool:
    return len(shrunk.faults) <= 3 and len(shrunk.deviations) <= 1
