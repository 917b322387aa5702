"""Lanes: every gap is found once and exactly, and repetitions are recognised."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from channels.pubsub.adapter import LostEnvelopes
from channels.pubsub.lanes import Arrivals, Numbers


@given(st.lists(st.sampled_from(["arrives", "lost", "twice", "beat", "beat lost"]), max_size=40))
def test_the_gaps_are_exactly_what_was_lost_up_to_the_last_heartbeat(fates: list[str]) -> None:
    numbers, arrivals = Numbers(), Arrivals()
    arrivals.heartbeat("0", "a", "i", 0)
    arrived: list[int] = []
    sent: set[int] = set()
    reported: set[int] = set()

    def note(found: LostEnvelopes | bool | None) -> None:
        if isinstance(found, LostEnvelopes):
            gap = set(range(found.first, found.last + 1))
            assert not gap & reported
            assert found.count == len(gap)
            reported.update(gap)

    for fate in [*fates, "beat"]:
        if fate.startswith("beat"):
            if fate == "beat":
                note(arrivals.heartbeat("0", "a", "i", numbers.last()["0"]))
            continue
        number = numbers.next("0")
        sent.add(number)
        for _ in range({"arrives": 1, "lost": 0, "twice": 2}[fate]):
            found = arrivals.message("0", "a", "i", number)
            note(found)
            if found is not True:
                arrived.append(number)
    assert arrived == sorted(set(arrived))
    assert reported == sent - set(arrived)


def test_the_first_message_of_an_unknown_sender_is_its_beginning() -> None:
    arrivals = Arrivals()
    assert arrivals.message("0", "a", "i", 7) is None
    assert arrivals.message("0", "a", "later", 3) is None
    assert arrivals.message("1", "a", "i", 9) is None
    assert arrivals.message("0", "a", "i", 7) is True


def test_a_late_heartbeat_changes_nothing() -> None:
    arrivals = Arrivals()
    arrivals.message("0", "a", "i", 7)
    assert arrivals.heartbeat("0", "a", "i", 5) is None
    assert arrivals.message("0", "a", "i", 8) is None


def test_senders_are_bounded_and_the_silent_go_first() -> None:
    arrivals = Arrivals(max_senders=2)
    for node in ("a", "b"):
        arrivals.heartbeat("0", node, "i", 1)
    arrivals.heartbeat("0", "a", "i", 1)
    arrivals.message("0", "c", "i", 1)
    assert len(arrivals) == 2
    assert arrivals.message("0", "a", "i", 3) == LostEnvelopes("0", "a", "i", 2, 2)
    assert arrivals.message("0", "b", "i", 9) is None


def test_lanes_of_other_nodes_are_bounded_and_the_lane_of_all_nodes_stays() -> None:
    numbers = Numbers(max_others=2)
    numbers.next("0")
    for node in range(1000):
        numbers.next(f"@{node}")
    assert set(numbers.last()) == {"0", "@998", "@999"}
    assert numbers.next("0") == 2


def test_the_lane_that_was_used_longest_ago_is_forgotten_first() -> None:
    numbers = Numbers(max_others=2)
    for lane in ("@a", "@b", "@a", "@c"):
        numbers.next(lane)
    assert set(numbers.last()) == {"0", "@a", "@c"}


@given(st.lists(st.sampled_from(["@a", "@b", "@c", "@d"]), max_size=40))
def test_no_message_on_a_forgotten_lane_looks_like_a_repetition(lanes: list[str]) -> None:
    numbers, arrivals = Numbers(max_others=2), Arrivals()
    for lane in lanes:
        assert arrivals.message(lane, "a", "i", numbers.next(lane)) is not True
