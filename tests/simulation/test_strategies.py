"""Hypothesis strategies: the examples that they draw, and the failures that they find."""

from collections.abc import Callable

import pytest
from attrs import evolve
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from supervision.laboratory.chaos.faults.kinds import (
    FAULTS,
    DiskError,
    Fault,
    Kill,
    KillNode,
    plan_from_json,
    plan_to_json,
)
from supervision.laboratory.chaos.faults.moments import At, On
from supervision.laboratory.chaos.faults.plan import Storm
from supervision.laboratory.chaos.faults.report import InertPlan
from supervision.laboratory.simulation.outcome import identify
from supervision.laboratory.simulation.scheduling.deviations import Tape
from supervision.laboratory.simulation.strategies import (
    SimulatedWorld,
    faults,
    plans,
    tapes,
    worlds,
)
from tests.simulation.racy_scenarios import lobby_in_a_storm
from tests.simulation.scenarios import crashing_tree

SMALL = {"rooms": 2, "seconds": 1.0}
ROOMS = Storm(["/top/room:*"], kinds=["kill"], count=3, within=0.9, callbacks=0.0)
KILL = Kill(target="/nobody", when=At(0.5))
EVERYTHING = Storm(
    ["/top/a", "/top/*"],
    kinds=list(FAULTS),
    files=["a/*"],
    count=5,
    within=4.0,
    after=1.0,
    longest=0.5,
    hosts=["phone", "server", "other"],
    nodes=["one", "two"],
)


@given(plans(EVERYTHING))
def test_plans_stay_within_their_storm_and_survive_json(plan: tuple[Fault, ...]) -> None:
    assert len(plan) <= 5
    assert plan_from_json(plan_to_json(plan)) == plan
    for fault in plan:
        when = fault.when
        assert not hasattr(when, "seconds") or 1.0 <= when.seconds <= 4.0
        assert getattr(fault, "seconds", 0.0) <= 0.5


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_every_kind_of_fault_is_drawn(kind: str) -> None:
    # The first example is enough. By default, Hypothesis would also search for the simplest example.
    first = settings(phases=[Phase.generate])
    found = find(faults(evolve(EVERYTHING, kinds=[kind])), lambda fault: True, settings=first)
    assert isinstance(found, FAULTS[kind])


@pytest.mark.parametrize(
    "wanted",
    [
        lambda fault: isinstance(fault, KillNode) and fault.power and isinstance(fault.when, On),
        lambda fault: isinstance(fault, DiskError) and fault.error == "ENOSPC",
    ],
)
def test_a_storm_with_files_cuts_the_power_and_fills_the_disk(
    wanted: Callable[[Fault], bool],
) -> None:
    first = settings(phases=[Phase.generate])
    storm = evolve(EVERYTHING, kinds=["kill_node", "disk_error"])
    assert wanted(find(faults(storm), wanted, settings=first))
    without = Storm(nodes=["one"], kinds=["kill_node"])
    with pytest.raises(NoSuchExample):
        find(faults(without), wanted, settings=first)


def test_the_simplest_fault_is_the_earliest_at_the_first_target() -> None:
    fault = find(faults(Storm(["/top/a", "/top/b"], kinds=["kill"])), lambda fault: True)
    assert fault == Kill(target="/top/a", when=At(0.0))


@given(tapes(4))
def test_tapes_have_the_requested_length(tape: Tape) -> None:
    assert len(tape.choices) <= 4


@settings(max_examples=10)
@given(worlds(), st.integers(1, 2))
def test_a_world_is_the_same_run_every_time(world: SimulatedWorld, groups: int) -> None:
    params = {"groups": groups, "workers": 2, "rounds": 2}
    first = world.simulate(crashing_tree, params=params).check()
    assert world.simulate(crashing_tree, params=params).digest == first.digest


def test_a_race_is_found_and_shrunk_to_one_kill_and_one_choice() -> None:
    def fails(world: SimulatedWorld) -> bool:
        outcome = world.simulate(lobby_in_a_storm, params=SMALL, keep_trace=False)
        return str(identify(outcome.error)).startswith("invariant check ")

    found = find(
        worlds(ROOMS, choices=30, seeds=st.just(0)),
        fails,
        settings=settings(max_examples=300, derandomize=True),
    )
    (fault,) = found.faults
    assert fault == Kill(target="/top/room:*", when=fault.when)
    assert sum(choice != 0 for choice in found.tape.choices) == 1
    outcome = found.simulate(lobby_in_a_storm, params=SMALL)
    assert len(outcome.deviations) == 1


def test_a_plan_without_an_applied_fault_is_rejected_as_an_example() -> None:
    tried: list[SimulatedWorld] = []
    passed: list[SimulatedWorld] = []

    @settings(max_examples=20)
    @given(worlds(Storm(["/nobody"], count=1, within=0.5)))
    def test(world: SimulatedWorld) -> None:
        tried.append(world)
        world.simulate(lobby_in_a_storm, params=SMALL).check()
        passed.append(world)

    test()
    assert any(world.faults for world in tried)
    assert not any(world.faults for world in passed)
    outcome = SimulatedWorld(faults=(KILL,)).simulate(lobby_in_a_storm, params=SMALL)
    assert isinstance(outcome.error, InertPlan)
