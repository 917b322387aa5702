"""The order of the requests that nodes send to each other."""

from __future__ import annotations

from itertools import count

from attrs import define

from channels.entities.streams import MAX_REFUSALS, Refusals, Streams
from channels.pubsub.adapter import Node

A, B, C = Node("a", "1"), Node("b", "1"), Node("c", "1")


@define(eq=False)
class Request:
    key: str
    number: int
    node: Node | None = None
    turn: int = 0
    fence: int = 0
    deadline: float = 10.0


def sent(streams: Streams[Request], *numbers: int, to: Node = B, key: str = "k") -> list[Request]:
    requests = [Request(key, number) for number in numbers]
    for each in requests:
        streams.add(each, to)
    return requests


def test_a_refusal_returns_all_later_requests_of_its_generation_in_order() -> None:
    streams: Streams[Request] = Streams(count(1))
    one, two, three = sent(streams, 1, 2, 3)
    (other,) = sent(streams, 4, key="l")
    # The node has accepted the first, or it was lost. So it may have run, and is not sent again.
    assert streams.moved(B, "k", 1, two.turn) == [two, three]
    assert (one.node, two.node, three.node, other.node) == (B, None, None, B)
    assert streams.node_of("k") is None
    assert streams.get(1) is one
    assert streams.get(2) is None
    assert streams.waiting_at(B) == 2


def test_a_refusal_of_an_earlier_generation_changes_nothing() -> None:
    streams: Streams[Request] = Streams(count(1))
    (one,) = sent(streams, 1)
    turn = one.turn
    assert streams.moved(B, "k", 1, turn) == [one]
    generation = streams.add(one, C)
    assert generation > 1
    assert streams.moved(B, "k", 1, turn) == []
    assert streams.moved(B, "k", generation, turn) == []
    assert streams.moved(C, "k", generation, one.turn) == [one]


def test_later_requests_follow_the_earlier_ones_to_their_node() -> None:
    streams: Streams[Request] = Streams(count(1))
    one, two = sent(streams, 1, 2)
    assert streams.node_of("k") == B
    assert streams.end(one) is None
    assert streams.end(two) == B
    assert streams.end(two) is None
    assert streams.node_of("k") is None
    assert streams.waiting_at(B) == 0
    assert len(streams) == 0
    # The next stream has a new generation, so an old refusal does not concern it.
    assert streams.add(Request("k", 3), B) > 1


def test_a_handover_takes_requests_out_of_their_stream() -> None:
    streams: Streams[Request] = Streams(count(1))
    one, two, three = sent(streams, 1, 2, 3)
    streams.forwarded((1, 2, 99), C, 7)
    assert (one.node, two.node, three.node) == (C, C, B)
    assert (streams.waiting_at(B), streams.waiting_at(C)) == (1, 2)
    assert streams.at(C) == [one, two]
    assert streams.moved(B, "k", 1, one.turn) == [three]
    streams.take_back(one)
    assert (one.node, streams.get(1)) == (None, None)


def test_a_handover_that_is_reported_late_does_not_take_a_request_from_a_later_one() -> None:
    streams: Streams[Request] = Streams(count(1))
    (one,) = sent(streams, 1)
    streams.forwarded((1,), C, 8)
    streams.forwarded((1,), A, 7)
    assert one.node == C


def test_late_requests_are_found() -> None:
    streams: Streams[Request] = Streams(count(1))
    one, two = sent(streams, 1, 2)
    two.deadline = 20.0
    assert streams.late(10.0) == []
    assert streams.late(15.0) == [one]


def test_a_refused_generation_stays_refused_from_its_first_request_on() -> None:
    refusals = Refusals()
    assert refusals.first(A, "k", 1) is None
    assert refusals.add(A, "k", 1, 7)
    assert not refusals.add(A, "k", 1, 8)
    assert refusals.first(A, "k", 1) == 7
    # Requests of the next generation are new, and those of an earlier one were sent again.
    assert refusals.first(A, "k", 2) is None
    assert refusals.first(A, "k", 0) == 0
    assert refusals.first(B, "k", 1) is None
    assert refusals.first(A, "l", 1) is None
    assert refusals.add(A, "k", 2, 9)
    assert refusals.first(A, "k", 1) == 0


def test_the_number_of_remembered_refusals_is_bounded() -> None:
    refusals = Refusals()
    for number in range(MAX_REFUSALS + 5):
        refusals.add(A, str(number), 1, 1)
    assert refusals.first(A, "0", 1) is None
    assert refusals.first(A, str(MAX_REFUSALS), 1) == 1
