"""Deviations from the canonical schedule, and plans of them."""

import pytest

from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.scheduling.deviations import (
    Deviation,
    SchedulePlan,
    Tape,
    distinct,
    exchange,
    moved,
)
from tests.laws.scenarios import simulate
from tests.simulation.node_scenarios import heartbeats
from tests.simulation.scenarios import crashing_tree

SMALL = {"groups": 2, "workers": 4, "rounds": 5}
CANONICAL = Knobs(policy="canonical")


def ahead(seconds: float | None, turn: int | None, *tasks: str) -> Deviation:
    return Deviation(round=9, order=(1, 0), seconds=seconds, turn=turn, tasks=tasks)


def test_exchanged_tasks_stay_within_their_own_places() -> None:
    assert exchange("abcd", "ca") == [2, 1, 0, 3]
    assert exchange("abcd", "dxa") == [3, 1, 2, 0]
    assert exchange("abcd", "dx") is None
    assert moved("abcd", [2, 1, 0, 3]) == ("c", "a")
    assert distinct("abab") == ["a", "b", "a (2)", "b (2)"]


@pytest.mark.parametrize("seed", range(5))
def test_a_run_is_repeated_from_the_names_of_its_tasks(seed: int) -> None:
    first = simulate(crashing_tree, seed, params=SMALL, label_tasks=True)
    assert {each.round: each.order for each in first.named} == first.deviations
    again = simulate(
        crashing_tree,
        seed,
        params=SMALL,
        knobs=CANONICAL,
        deviations=first.named,
        label_tasks=True,
    )
    assert (again.digest, again.steps_digest) == (first.digest, first.steps_digest)
    assert again.named == first.named


def test_task_names_are_recorded_only_on_request_and_do_not_change_the_run() -> None:
    plain, named = (
        simulate(crashing_tree, 1, params=SMALL, label_tasks=labels) for labels in (False, True)
    )
    assert (plain.digest, plain.steps_digest) == (named.digest, named.steps_digest)
    assert plain.named == ()
    assert len(named.named) == len(plain.deviations)


def test_tasks_are_named_by_their_place_in_the_tree_and_their_incarnation() -> None:
    outcome = simulate(
        crashing_tree, 2, params={"groups": 2, "workers": 6, "rounds": 100}, label_tasks=True
    )
    named = {task for deviation in outcome.named for task in deviation.tasks}
    assert "/top/group 0#1" in named
    assert any(task.startswith("/top/group 1/") and "#" in task for task in named)
    assert "the scenario" in named


def test_a_deviation_is_found_by_its_moment_and_turn() -> None:
    plan = SchedulePlan([ahead(0.5, 2, "b", "a")])
    assert plan.named
    assert not plan.wants(0.4)
    assert plan.wants(0.5)
    assert plan.exchanged(0.5, 1, ["a", "b"]) is None
    assert plan.exchanged(0.5, 2, ["a", "x", "b"]) == [2, 1, 0]
    assert plan.exchanged(0.5, 3, ["a", "b"]) is None


def test_a_deviation_whose_turn_has_passed_waits_for_its_tasks_in_the_same_moment() -> None:
    plan = SchedulePlan([ahead(0.5, 2, "b", "a")])
    assert plan.exchanged(0.5, 2, ["a", "x", "y"]) is None
    assert plan.exchanged(0.5, 3, ["x", "b"]) is None
    assert plan.exchanged(0.5, 4, ["a", "b"]) == [1, 0]


def test_a_deviation_of_any_turn_and_moment_takes_the_first_in_which_its_tasks_are_ready() -> None:
    for seconds, turn in ((0.5, None), (None, None)):
        plan = SchedulePlan([ahead(seconds, turn, "b", "a")])
        assert plan.exchanged(0.5, 3, ["b", "c"]) is None
        assert plan.exchanged(0.5, 4, ["a", "b"]) == [1, 0]
        assert plan.exchanged(0.5, 5, ["a", "b"]) is None


def test_a_deviation_applies_to_another_incarnation_of_the_same_path() -> None:
    plan = SchedulePlan([ahead(0.5, 1, "/top/b#3", "/top/a#1")])
    assert plan.exchanged(0.5, 1, ["/top/a#1", "/top/b#2", "/top/c#1"]) == [1, 0, 2]


def test_positions_apply_to_a_round_of_the_same_size_with_other_tasks() -> None:
    assert SchedulePlan([ahead(0.5, 1, "b", "a")]).exchanged(0.5, 1, ["x", "y"]) == [1, 0]
    assert SchedulePlan([ahead(0.5, 1, "b", "a")]).exchanged(0.5, 1, ["x", "y", "z"]) is None


def test_a_deviation_reads_as_a_sentence() -> None:
    assert str(ahead(0.5, 1, "/top#1", "/registry#1")) == "/top#1 ran before /registry#1 at 0.5 s"
    assert str(ahead(None, None, "c", "b", "a")) == "c, then b, then a ran in this order"
    assert str(Deviation(round=7, order=(1, 0))) == "round 7: positions 1, 0"


def test_a_tape_selects_the_first_task_of_each_choice_up_to_its_end() -> None:
    plan = SchedulePlan(Tape((0, 4, 1)))
    assert [plan.order(number, 3) for number in (3, 5, 6, 9)] == [
        [0, 1, 2],
        [1, 0, 2],
        [1, 0, 2],
        [0, 1, 2],
    ]


def test_an_empty_tape_is_the_canonical_order_whatever_the_policy() -> None:
    canonical = simulate(crashing_tree, 1, params=SMALL, knobs=CANONICAL)
    assert simulate(crashing_tree, 1, params=SMALL, deviations=Tape(())).deviations == {}
    taped = simulate(crashing_tree, 1, params=SMALL, knobs=CANONICAL, deviations=Tape((0, 0)))
    assert taped.digest == canonical.digest
    other = simulate(crashing_tree, 1, params=SMALL, knobs=CANONICAL, deviations=Tape((1,) * 20))
    assert len(other.deviations) == 20
    again = simulate(crashing_tree, 1, params=SMALL, knobs=CANONICAL, deviations=other.deviations)
    assert again.steps_digest == other.steps_digest


def test_tasks_in_nodes_are_named_with_their_node() -> None:
    outcome = simulate(heartbeats, 1, label_tasks=True)
    named = {task for deviation in outcome.named for task in deviation.tasks}
    assert {"a/top#1", "b/top#1"} <= named
