"""The invariants find planted bugs, and shrinking reduces them to the essential steps."""

from __future__ import annotations

import os
import time
from types import NoneType

import attrs
import pytest

from actors.errors import StartError
from supervision.laboratory.chaos.errors import InvariantViolated
from supervision.laboratory.chaos.faults.report import InertPlan
from supervision.laboratory.chaos.invariants.built_in import BUILT_IN
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome, identify
from supervision.laboratory.simulation.shrinking.shrink import shrink
from supervision.laboratory.simulation.simulate import simulate
from tests.simulation.planted import joins, limits, processes, programs, signals, supervisors
from tests.simulation.planted.planting import Planted, healthy

IN_ASHTREE = (*supervisors.BUGS, *limits.BUGS, *processes.BUGS, *signals.BUGS, *joins.BUGS)
ALL = (*IN_ASHTREE, *programs.BUGS)
SEEDS = 2000
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


def run(bug: Planted, seed: int) -> Outcome:
    return simulate(bug.scenario, seed, knobs=Knobs().drawn(seed))


def find(bug: Planted) -> Outcome:
    """Return the first run that fails because of the bug."""
    for seed in range(0 if DEEP else bug.first_seed, SEEDS):
        outcome = run(bug, seed)
        if identify(outcome.error) == bug.failure:
            return outcome
    pytest.fail(f"{bug.name} was not found with {SEEDS} seeds")


@pytest.mark.parametrize("bug", ALL, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Planted) -> None:
    assert identify(find(bug).error) == bug.failure


# Deep for most bugs, because all bugs are shrunk by the same code, and shrinking takes most of the time.
@pytest.mark.parametrize("bug", ALL if DEEP else ALL[::3], ids=lambda bug: bug.name)
def test_a_planted_bug_is_shrunk(bug: Planted) -> None:
    shrunk = shrink(find(bug), clock=time.process_time)
    assert shrunk.run.failure == bug.failure
    assert len(shrunk.faults) <= 3
    assert len(shrunk.deviations) <= 1
    assert shrunk.complete


@pytest.mark.parametrize("bug", IN_ASHTREE, ids=lambda bug: bug.name)
def test_a_program_without_a_planted_bug_passes(bug: Planted) -> None:
    with healthy():
        found = {type(run(bug, seed).error) for seed in range(200 if DEEP else 3)}
    # A plan may have no effect, or may prevent the start of the program.
    assert found <= {NoneType, InertPlan, StartError}


def test_every_invariant_finds_a_planted_bug() -> None:
    found = {bug.failure for bug in IN_ASHTREE}
    assert {f"invariant {name}" for name in BUILT_IN} <= found


@pytest.mark.deep
@pytest.mark.parametrize("name", BUILT_IN)
def test_each_invariant_finds_a_planted_bug_that_the_others_miss(name: str) -> None:
    others = tuple(each for each in BUILT_IN if each != name)
    missed = []
    for bug in IN_ASHTREE:
        if bug.failure == f"invariant {name}":
            seed = find(bug).seed
            knobs = attrs.evolve(Knobs().drawn(seed), invariants=others)
            error = simulate(bug.scenario, seed, knobs=knobs).error
            missed.append(not isinstance(error, InvariantViolated))
    assert any(missed)
