"""Versions of parts, and the choice of nodes to ask."""

from __future__ import annotations

from channels.presence.clock import (
    MAX_INTEGER,
    Clocks,
    Version,
    new_incarnation,
    sources,
    upper_bound,
)


def clocks(**each: int) -> dict[str, Version]:
    return {name: Version(1, clock) for name, clock in each.items()}


def test_the_upper_bound_has_the_newest_version_of_each_part() -> None:
    assert upper_bound([clocks(a=1, b=2), clocks(b=1, c=4), {}]) == clocks(a=1, b=2, c=4)
    assert upper_bound([{"a": Version(2, 0)}, clocks(a=5)]) == {"a": Version(2, 0)}
    assert upper_bound([]) == {}


def test_a_node_that_lacks_nothing_asks_nobody() -> None:
    assert sources(clocks(a=3, b=2), {}) == []
    assert sources(clocks(a=3, b=2), {"b": clocks(a=3, b=2), "c": clocks(a=1)}) == []


def test_one_node_that_has_everything_is_asked_alone() -> None:
    own = clocks(a=5, b=0, c=0, d=0)
    offers = {"b": clocks(b=4), "c": clocks(b=4, c=4, d=4), "d": clocks(d=4)}
    assert sources(own, offers) == ["c"]


def test_several_nodes_are_asked_if_none_has_everything() -> None:
    own = clocks(a=5, b=0, c=0, d=0)
    offers = {
        "b": clocks(b=4, c=1),
        "c": clocks(b=3, c=4),
        "d": clocks(b=4, c=3, d=1),
    }
    assert sorted(sources(own, offers)) == ["c", "d"]


def test_of_equal_nodes_the_first_is_asked() -> None:
    own = clocks(a=5, b=0)
    assert sources(own, {"c": clocks(b=4), "b": clocks(b=4)}) == ["c"]
    assert sources(own, {"b": clocks(b=4), "c": clocks(b=4)}) == ["b"]


def test_parts_of_unknown_nodes_and_of_other_incarnations_are_not_asked_for() -> None:
    own = {"a": Version(1, 5), "b": Version(3, 2)}
    offers: dict[str, Clocks] = {
        "b": {"gone": Version(1, 9)},
        "c": {"b": Version(2, 9)},
        "d": {"b": Version(4, 9)},
    }
    assert sources(own, offers) == []


def test_a_later_start_has_a_higher_incarnation() -> None:
    assert new_incarnation(1_700_000_000.001, 0) > new_incarnation(1_700_000_000.0, 1023)
    # A hundred years from now it is still exact in a program that reads numbers as floats.
    assert new_incarnation(4_900_000_000.0, 1023) < MAX_INTEGER


def test_noise_separates_two_starts_at_the_same_time() -> None:
    assert new_incarnation(10.0, 1) != new_incarnation(10.0, 2)
    assert new_incarnation(10.0, 1024 + 1) == new_incarnation(10.0, 1)


def test_an_incarnation_exceeds_the_one_before_it_even_if_the_clock_goes_back() -> None:
    before = new_incarnation(20.0, 5)
    assert new_incarnation(10.0, 7, after=before) == before + 1
    assert new_incarnation(30.0, 7, after=before) == new_incarnation(30.0, 7)
