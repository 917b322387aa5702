"""The parts of handovers."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from channels.entities.codec import CannotTravel
from channels.entities.handovers import PART, Departures, Handovers, parts_of
from channels.pubsub.adapter import Node

A = Node("a", "1")
DATA = bytes(range(256)) * (PART // 128) + b"rest"


def test_the_parts_of_a_handover_arrive_in_any_order_and_more_than_once() -> None:
    handovers = Handovers(4 * PART)
    first, second, third = parts_of("k", 7, DATA)
    arrived = [
        handovers.collect(A, part, 0.0)
        for part in (third, first, first, third, second, second, first)
    ]
    assert arrived == [None, None, None, None, DATA, None, None]


def test_an_empty_handover_has_one_part() -> None:
    (part,) = parts_of("k", 7, b"")
    assert Handovers(PART).collect(A, part, 0.0) == b""


def test_parts_of_different_handovers_do_not_mix() -> None:
    handovers = Handovers(4 * PART)
    one, other = parts_of("k", 7, DATA), parts_of("k", 8, DATA[::-1])
    assert [handovers.collect(A, each, 0.0) for each in (one[0], other[1], one[2])] == [None] * 3
    assert handovers.collect(Node("b", "1"), one[1], 0.0) is None
    assert handovers.collect(A, one[1], 0.0) == DATA


@pytest.mark.parametrize(
    "wrong", [{"part": -1}, {"part": 3}, {"parts": 7}, {"parts": 0}, {"data": bytes(PART + 1)}]
)
def test_a_part_beyond_the_limits_is_refused(wrong: dict[str, int | bytes]) -> None:
    part = replace(parts_of("k", 7, DATA)[0], **wrong)
    with pytest.raises(CannotTravel):
        Handovers(4 * PART).collect(A, part, 0.0)


def test_an_incomplete_handover_is_forgotten_when_no_part_has_come_for_a_while() -> None:
    handovers = Handovers(4 * PART)
    first, second, third = parts_of("k", 7, DATA)
    handovers.collect(A, first, 0.0)
    handovers.forget_old(0.0)
    handovers.collect(A, second, 59.0)
    handovers.forget_old(59.0)
    assert handovers.collect(A, third, 61.0) == DATA
    handovers = Handovers(4 * PART)
    handovers.collect(A, first, 0.0)
    handovers.forget_old(1.0)
    handovers.collect(A, second, 59.0)
    assert handovers.collect(A, third, 61.0) is None


def test_a_handover_that_was_given_up_needs_no_memory() -> None:
    handovers = Handovers(4 * PART)
    first, second, _ = parts_of("k", 7, DATA)
    handovers.collect(A, first, 0.0)
    assert handovers.senders(0.0) == [A]
    assert handovers.senders(0.1) == []
    handovers.give_up("k", 7)
    assert handovers.collect(A, second, 0.0) is None
    assert handovers.senders(0.0) == []


def taken(departures: Departures) -> list[tuple[str, int]]:
    return [(part.key, part.part) for _, part in departures.take()]


def test_few_bytes_of_handovers_travel_at_a_time() -> None:
    departures = Departures()
    departures.add(A, "first", 1, bytes(PART - 1))
    departures.add(A, "second", 1, b"22")
    assert (taken(departures), taken(departures)) == ([("first", 0)], [])
    departures.arrived("first", 1, 0)
    assert taken(departures) == [("second", 0)]


def test_large_handovers_leave_one_after_another_and_hold_up_no_small_one() -> None:
    departures = Departures()
    for key in ("large", "second"):
        departures.add(A, key, 1, DATA)
    assert taken(departures) == [("large", 0)]
    departures.add(A, "small", 1, b"1")
    departures.arrived("large", 1, 0)
    assert taken(departures) == [("small", 0)]
    departures.arrived("small", 1, 0)
    assert taken(departures) == [("large", 1)]
    departures.arrived("large", 1, 1)
    assert taken(departures) == [("large", 2)]
    assert departures.has_waiting
    departures.arrived("large", 1, 2)
    assert taken(departures) == [("second", 0)]


def test_no_node_holds_up_the_handovers_to_another_one() -> None:
    departures, other, third = Departures(), Node("b", "1"), Node("c", "1")
    for node in (A, other, third):
        departures.add(node, f"large {node.name}", 1, DATA)
    assert taken(departures) == [("large a", 0), ("large b", 0)]
    departures.add(A, "small a", 1, b"1")
    departures.add(other, "small b", 1, b"2")
    assert taken(departures) == []
    departures.arrived("large b", 1, 0)
    # The bytes for all nodes together have a limit, too, and the nodes take turns.
    assert taken(departures) == [("large c", 0)]
    departures.arrived("large c", 1, 0)
    assert taken(departures) == [("small b", 0)]
    departures.arrived("small b", 1, 0)
    assert taken(departures) == [("large c", 1)]


def test_a_handover_that_is_dropped_holds_up_no_other() -> None:
    departures = Departures()
    departures.add(A, "large", 1, DATA)
    assert taken(departures) == [("large", 0)]
    departures.add(A, "last", 1, b"2")
    departures.drop("large", 1)
    assert taken(departures) == [("last", 0)]
    departures.arrived("large", 1, 0)
    assert taken(departures) == []
