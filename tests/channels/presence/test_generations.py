"""The recent changes of each node, at several sizes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from actors.errors import InvalidOption
from channels.presence.clock import Version
from channels.presence.delta import Segment
from channels.presence.generations import Generations
from tests.channels.presence.test_delta import segment


def covering(generations: Generations, clock: int, incarnation: int = 1) -> Segment | None:
    return generations.covering("a", Version(incarnation, clock))


def test_the_smallest_generation_that_reaches_back_far_enough_is_the_answer() -> None:
    generations = Generations((2, 4))
    for tag in range(1, 5):
        generations.push("a", segment(tag - 1, tag, tag))
    # The smaller one started again with the third change.
    assert covering(generations, 3) == segment(2, 4, 3, 4)
    assert covering(generations, 2) == segment(2, 4, 3, 4)
    assert covering(generations, 1) == segment(0, 4, 1, 2, 3, 4)


def test_a_generation_that_is_too_large_starts_again_with_the_smaller_one() -> None:
    generations = Generations((2, 3))
    for tag in range(1, 6):
        generations.push("a", segment(tag - 1, tag, tag))
    # The fourth change was too much for the larger one. The smaller one had the third and the fourth then.
    assert covering(generations, 2) == segment(2, 5, 3, 4, 5)
    assert covering(generations, 1) is None


def test_a_generation_never_exceeds_its_size() -> None:
    generations = Generations((2, 5))
    sizes = set()
    for tag in range(1, 19):
        generations.push("a", segment(tag - 1, tag, tag))
        for clock in range(tag):
            found = covering(generations, clock)
            if found is not None:
                sizes.add(found.size)
                assert found.start <= clock
                assert found.end == tag
    assert sizes == {1, 2, 3, 4, 5}


def test_changes_larger_than_every_generation_leave_none() -> None:
    generations = Generations((1, 2))
    generations.push("a", segment(0, 1, 1))
    generations.push("a", segment(1, 4, 2, 3, 4))
    assert covering(generations, 1) is None
    generations.push("a", segment(4, 5, 5))
    assert covering(generations, 4) == segment(4, 5, 5)
    assert covering(generations, 3) is None


def test_changes_too_large_for_a_small_generation_are_in_the_larger_one() -> None:
    generations = Generations((1, 10))
    generations.push("a", segment(0, 1, 1))
    generations.push("a", segment(1, 4, 2, 3, 4))
    assert covering(generations, 0) == segment(0, 4, 1, 2, 3, 4)


def test_a_gap_starts_the_generations_again() -> None:
    generations = Generations((10,))
    generations.push("a", segment(0, 1, 1))
    generations.push("a", segment(4, 5, 5))
    assert covering(generations, 0) is None
    assert covering(generations, 4) == segment(4, 5, 5)


def test_late_changes_before_a_gap_are_not_taken_for_the_latest() -> None:
    generations = Generations((10,))
    generations.push("a", segment(4, 5, 5))
    generations.push("a", segment(0, 1, 1))
    assert covering(generations, 4) == segment(4, 5, 5)


def test_the_whole_part_of_a_node_replaces_its_changes() -> None:
    generations = Generations((10,))
    generations.push("a", segment(4, 6, 5))
    generations.push("a", segment(0, 8, 1, 8))
    assert covering(generations, 5) == segment(0, 8, 1, 8)


def test_changes_of_an_older_incarnation_are_ignored() -> None:
    generations = Generations((10,))
    generations.push("a", segment(0, 1, 1, incarnation=2))
    generations.push("a", segment(0, 5, 5))
    assert covering(generations, 0) is None
    assert covering(generations, 0, incarnation=2) == segment(0, 1, 1, incarnation=2)


def test_an_answer_does_not_change_with_later_changes() -> None:
    generations = Generations((10,))
    generations.push("a", segment(0, 1, 1))
    answer = covering(generations, 0)
    generations.push("a", segment(1, 2, removed=(1,)))
    assert answer == segment(0, 1, 1)


def test_a_node_that_has_everything_gets_nothing() -> None:
    generations = Generations()
    generations.push("a", segment(0, 2, 1, 2))
    assert covering(generations, 2) is None
    assert covering(generations, 7) is None
    assert generations.covering("b", Version(1, 0)) is None


def test_changes_of_another_incarnation_are_no_answer() -> None:
    generations = Generations()
    generations.push("a", segment(0, 2, 1, 2))
    assert covering(generations, 0, incarnation=2) is None
    generations.push("a", segment(0, 1, 1, incarnation=2))
    assert covering(generations, 0) is None
    assert covering(generations, 0, incarnation=2) == segment(0, 1, 1, incarnation=2)


def test_a_forgotten_node_has_no_changes() -> None:
    generations = Generations()
    generations.push("a", segment(0, 2, 1, 2))
    generations.forget("a")
    generations.forget("never known")
    assert covering(generations, 0) is None


@pytest.mark.parametrize("sizes", [(), (0,), (2, 1), (1, 1), (1, 2.5)])
def test_sizes_that_are_not_ascending_whole_numbers_are_refused(sizes: Sequence[int]) -> None:
    with pytest.raises(InvalidOption):
        Generations(sizes)
