"""The table of the nodes that run."""

from __future__ import annotations

from typing import Any

import pytest

from actors.errors import InvalidOption
from channels.presence.replica import Down, Refused, Removed, Replicas, Up


def table(**options: Any) -> Replicas:
    return Replicas("a", 7, **{"down_period": 30, "permdown_period": 100, **options})


def test_the_first_heartbeat_of_a_node_brings_it_up() -> None:
    replicas = table()
    assert replicas.heard("b", 5, 0.0) == Up("b", 5)
    assert replicas.heard("b", 5, 1.0) is None
    assert replicas.incarnation_of("b") == 5


def test_a_node_is_down_after_its_period_and_not_before() -> None:
    replicas = table()
    replicas.heard("b", 5, 0.0)
    replicas.heard("b", 5, 10.0)
    assert replicas.silent(39.9) == []
    assert replicas.silent(40.0) == [Down("b", 5)]
    assert replicas.silent(50.0) == []
    assert replicas.incarnation_of("b") == 5


def test_a_node_that_was_cut_off_comes_up_again() -> None:
    replicas = table()
    replicas.heard("b", 5, 0.0)
    replicas.silent(40.0)
    assert replicas.heard("b", 5, 50.0) == Up("b", 5)
    assert replicas.silent(79.0) == []
    assert replicas.silent(80.0) == [Down("b", 5)]


def test_a_node_that_stays_silent_is_forgotten() -> None:
    replicas = table()
    replicas.heard("b", 5, 0.0)
    replicas.silent(40.0)
    assert replicas.silent(99.9) == []
    assert replicas.silent(100.0) == [Removed("b", 5)]
    assert replicas.silent(1000.0) == []
    assert replicas.incarnation_of("b") is None
    # It may have been stopped for that long, and run again.
    assert replicas.heard("b", 5, 1000.0) == Up("b", 5)


def test_a_node_is_forgotten_even_if_nobody_looked_while_it_was_down() -> None:
    replicas = table()
    replicas.heard("b", 5, 0.0)
    assert replicas.silent(100.0) == [Removed("b", 5)]


def test_a_newer_incarnation_replaces_the_older_one() -> None:
    replicas = table()
    replicas.heard("b", 5, 0.0)
    assert replicas.heard("b", 6, 1.0) == Up("b", 6, replaced=5)
    replicas.silent(60.0)
    assert replicas.heard("b", 8, 61.0) == Up("b", 8, replaced=6)


def test_a_late_heartbeat_of_an_older_incarnation_changes_nothing() -> None:
    replicas = table()
    replicas.heard("b", 6, 0.0)
    assert replicas.heard("b", 5, 20.0) == Refused("b", 5, "old incarnation")
    assert replicas.incarnation_of("b") == 6
    assert replicas.silent(30.0) == [Down("b", 6)]


def test_a_goodbye_forgets_the_node_at_once() -> None:
    replicas = table()
    replicas.heard("b", 5, 0.0)
    assert replicas.said_goodbye("b", 5, 1.0) == Removed("b", 5)
    assert replicas.said_goodbye("b", 5, 1.0) is None
    assert replicas.incarnation_of("b") is None
    assert replicas.silent(40.0) == []


@pytest.mark.parametrize("incarnation", [4, 6])
def test_a_goodbye_of_another_incarnation_changes_nothing(incarnation: int) -> None:
    replicas = table()
    replicas.heard("b", 5, 0.0)
    assert replicas.said_goodbye("b", incarnation, 1.0) is None
    assert replicas.said_goodbye("never known", 1, 1.0) is None
    assert replicas.heard("b", 5, 1.0) is None


def test_a_heartbeat_that_was_delayed_beyond_the_goodbye_is_refused() -> None:
    replicas = table()
    replicas.heard("b", 5, 0.0)
    replicas.said_goodbye("b", 5, 1.0)
    assert replicas.heard("b", 5, 2.0) == Refused("b", 5, "old incarnation")
    assert replicas.heard("b", 6, 3.0) == Up("b", 6)


def test_a_goodbye_is_remembered_for_the_permdown_period() -> None:
    replicas = table(max_replicas=1)
    replicas.heard("b", 5, 0.0)
    replicas.said_goodbye("b", 5, 50.0)
    assert replicas.silent(149.0) == []
    assert replicas.heard("c", 1, 149.0) == Refused("c", 1, "too many nodes")
    assert replicas.silent(150.0) == []
    assert replicas.heard("c", 1, 150.0) == Up("c", 1)


def test_its_own_heartbeats_mean_nothing_to_a_node() -> None:
    replicas = table()
    assert replicas.heard("a", 7, 0.0) is None
    assert replicas.silent(1000.0) == []


def test_another_node_of_the_same_name_is_noticed() -> None:
    replicas = table()
    assert replicas.heard("a", 9, 0.0) == Refused("a", 9, "own name")
    replicas.renew(10)
    assert replicas.heard("a", 10, 0.0) is None
    assert replicas.heard("a", 7, 0.0) == Refused("a", 7, "own name")


@pytest.mark.parametrize(
    ("option", "value"),
    [("down_period", 0), ("permdown_period", 30), ("permdown_period", 29), ("max_replicas", 0)],
)
def test_periods_that_cannot_work_are_refused(option: str, value: float) -> None:
    with pytest.raises(InvalidOption) as caught:
        table(**{option: value})
    assert (caught.value.option, caught.value.value) == (option, value)
