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
from supervision.laboratory.chaos.settings import attach, settings_of
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome, identify
from supervision.laboratory.simulation.shrinking.shrink import shrink
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import LAWS, simulate
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


def test_every_law_finds_a_planted_bug() -> None:
    found = {bug.failure for bug in IN_ASHTREE}
    assert {f"invariant {name}" for name in LAWS} <= found


@pytest.mark.deep
@pytest.mark.parametrize("name", LAWS)
def test_each_law_finds_a_planted_bug_that_the_others_miss(name: str) -> None:
    bugs = [bug for bug in IN_ASHTREE if bug.failure == f"invariant {name}"]
    errors = [run_without(name, bug, find(bug).seed).error for bug in bugs]
    assert any(not isinstance(error, InvariantViolated) for error in errors)


def run_without(name: str, bug: Planted, seed: int) -> Outcome:
    """Run the scenario of a bug with all laws but one."""

    async def scenario(world: World) -> None:
        await bug.scenario(world)

    others = tuple(law for each, law in LAWS.items() if each != name)
    attach(scenario, attrs.evolve(settings_of(bug.scenario), invariants=others))
    return simulate(scenario, seed, knobs=Knobs().drawn(seed))
