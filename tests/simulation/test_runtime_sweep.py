"""Every invariant holds for the runtime and the supervisors, in random trees with random faults."""

from __future__ import annotations

import hypothesis

from supervision.laboratory.simulation.search.sweep import sweep
from tests.simulation.runtime_sweep import runtime_sweep

DEEP = hypothesis.settings().max_examples >= 10_000
SEEDS = 10_000 if DEEP else 60

COVERED = {
    "a call ended with CallTimeout",
    "a call ended with NoProcess",
    "a call ended with ServerExit",
    "a key was taken",
    "a registry was closed",
    "a supervisor refused",
    "a tree did not start",
    "a whole tree ended",
}


def test_every_invariant_holds_in_random_trees_with_random_faults() -> None:
    covered: set[str] = set()
    applied = 0
    for result in sweep(runtime_sweep, range(SEEDS), check=0):
        assert result.passed, f"seed {result.seed}: {result.problem}"
        covered |= {name for name, held in result.sometimes.items() if held}
        applied += result.faults.get("applied", 0)
    # A sweep without any events would pass too.
    assert covered == COVERED
    assert applied > 4 * SEEDS
