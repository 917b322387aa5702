"""The roster: grace, counted topics and the rate limit."""

from __future__ import annotations

from typing import Any

import pytest

from channels.presence.roster import Counting, Limits, Roster, TooManyCalls
from channels.presence.snapshot import NO_MEMBERS

TOPIC = "room:1"


class Two:
    """Two rosters that exchange all their changes."""

    def __init__(self, **limits: Any) -> None:
        self.a = Roster("a", 1, Limits(**limits))
        self.b = Roster("b", 1, Limits(**limits))
        self.a.heard("b", 1, 0.0)
        self.b.heard("a", 1, 0.0)

    def sync(self) -> None:
        for one, other in ((self.a, self.b), (self.b, self.a)):
            other.merge(one.state.flush())


def keys(roster: Roster) -> list[str]:
    return sorted(roster.snapshots.topic(TOPIC))


def taken(roster: Roster) -> tuple[list[str], list[str]]:
    """The keys of the joins and leaves since the last call."""
    diff = roster.diffs.take().get(TOPIC)
    if diff is None:
        return [], []
    return sorted(e.key for e in diff.joins), sorted(e.key for e in diff.leaves)


def meta(n: int) -> dict[str, Any]:
    return {"phx_ref": str(n)}


# Grace


def test_without_a_grace_everybody_leaves_at_once() -> None:
    two = Two()
    two.a.track("pid", TOPIC, "ann", meta(1))
    two.sync()
    two.a.owner_ended("pid", 1.0)
    assert keys(two.a) == []
    assert two.a.next_leave() is None
    two.b.said_goodbye("a", 1, 1.0)
    assert keys(two.b) == []


def test_the_owner_of_a_presence_ends_and_it_stays_for_the_grace() -> None:
    two = Two(leave_grace=5.0)
    two.a.track("pid", TOPIC, "ann", meta(1))
    two.a.owner_ended("pid", 1.0)
    assert two.a.next_leave() == 6.0
    two.a.pass_time(5.9)
    assert keys(two.a) == ["ann"]
    two.a.pass_time(6.0)
    assert keys(two.a) == []
    assert two.a.next_leave() is None
    two.sync()
    assert keys(two.b) == []


def test_an_owner_that_ends_twice_does_not_stay_longer() -> None:
    roster = Two(leave_grace=5.0).a
    roster.track("pid", TOPIC, "ann", meta(1))
    roster.owner_ended("pid", 1.0)
    roster.owner_ended("pid", 4.0)
    roster.pass_time(6.0)
    assert keys(roster) == []
    roster.pass_time(20.0)
    assert roster.next_leave() is None


def test_somebody_who_joins_again_on_the_same_node_is_an_update() -> None:
    two = Two(leave_grace=5.0)
    two.a.track("old", TOPIC, "ann", meta(1))
    two.sync()
    taken(two.a), taken(two.b)
    two.a.owner_ended("old", 1.0)
    two.a.track("new", TOPIC, "ann", meta(2))
    two.sync()
    for roster in (two.a, two.b):
        assert taken(roster) == (["ann"], ["ann"])
        assert roster.snapshots.topic(TOPIC)["ann"] == (meta(2),)
    two.a.pass_time(100.0)
    assert keys(two.a) == ["ann"]


def test_somebody_who_joins_again_on_another_node_never_leaves() -> None:
    two = Two(leave_grace=5.0)
    two.a.track("old", TOPIC, "ann", meta(1))
    two.sync()
    two.a.owner_ended("old", 1.0)
    two.b.track("new", TOPIC, "ann", meta(2))
    assert len(two.b.snapshots.topic(TOPIC)["ann"]) == 2
    two.sync()
    two.sync()
    for roster in (two.a, two.b):
        assert roster.snapshots.topic(TOPIC)["ann"] == (meta(2),)


def test_the_presences_of_a_node_that_said_goodbye_stay_for_the_grace() -> None:
    two = Two(leave_grace=5.0)
    two.a.track("pid", TOPIC, "ann", meta(1))
    two.a.track("pid", TOPIC, "amy", meta(2))
    two.sync()
    taken(two.b)
    two.b.said_goodbye("a", 1, 1.0)
    assert keys(two.b) == ["amy", "ann"]
    two.b.track("new", TOPIC, "ann", meta(3))
    assert taken(two.b) == (["ann"], ["ann"])
    two.b.pass_time(6.0)
    assert taken(two.b) == ([], ["amy"])
    assert keys(two.b) == ["ann"]


def test_the_presences_of_a_replaced_run_stay_for_the_grace() -> None:
    two = Two(leave_grace=5.0)
    two.a.track("pid", TOPIC, "ann", meta(1))
    two.a.track("pid", TOPIC, "amy", meta(2))
    two.sync()
    again = Roster("a", 2, Limits(leave_grace=5.0))
    taken(two.b)
    two.b.heard("a", 2, 1.0)
    again.track("pid", TOPIC, "ann", meta(3))
    two.b.merge(again.state.flush())
    assert taken(two.b) == (["ann"], ["ann"])
    two.b.pass_time(6.0)
    assert taken(two.b) == ([], ["amy"])


def test_a_node_that_is_silent_gets_no_grace() -> None:
    two = Two(leave_grace=5.0, down_period=30.0)
    two.a.track("pid", TOPIC, "ann", meta(1))
    two.sync()
    two.b.pass_time(30.0)
    assert keys(two.b) == []
    two.b.said_goodbye("a", 1, 31.0)
    assert two.b.next_leave() is None


def test_untracking_does_not_wait_for_the_grace() -> None:
    roster = Two(leave_grace=5.0).a
    for key in ("ann", "amy"):
        roster.track("pid", TOPIC, key, meta(1))
    roster.untrack("pid", TOPIC, "ann")
    assert keys(roster) == ["amy"]
    roster.untrack_all("pid")
    assert keys(roster) == []


def test_an_ended_owner_that_is_untracked_leaves_at_once_and_only_once() -> None:
    roster = Two(leave_grace=5.0).a
    roster.track("pid", TOPIC, "ann", meta(1))
    roster.owner_ended("pid", 1.0)
    taken(roster)
    roster.untrack_all("pid")
    assert taken(roster) == ([], ["ann"])
    roster.pass_time(6.0)
    assert taken(roster) == ([], [])


def test_the_grace_of_many_ends_in_one_diff() -> None:
    roster = Two(leave_grace=5.0).a
    for n in range(100):
        roster.track(f"pid {n}", TOPIC, f"user {n:02}", meta(n))
        roster.owner_ended(f"pid {n}", 1.0)
    taken(roster)
    changes = []
    roster.changed = lambda: changes.append(keys(roster))
    roster.pass_time(6.0)
    assert changes == [[]]
    assert roster.snapshots.topic(TOPIC) is NO_MEMBERS


def test_one_of_two_devices_that_goes_lingers_beside_the_other() -> None:
    roster = Two(leave_grace=5.0).a
    roster.track("phone", TOPIC, "ann", meta(1))
    roster.track("laptop", TOPIC, "ann", meta(2))
    roster.owner_ended("phone", 1.0)
    assert len(roster.snapshots.topic(TOPIC)["ann"]) == 2
    roster.pass_time(6.0)
    assert roster.snapshots.topic(TOPIC)["ann"] == (meta(2),)


# The rate limit


def test_a_caller_saves_up_the_calls_of_one_second() -> None:
    roster = Roster("a", 1, Limits(max_calls_per_second=2.0))
    for now in (0.0, 0.0, 10.0, 10.0, 10.5):
        roster.count_call("pid", now)
    with pytest.raises(TooManyCalls):
        roster.count_call("pid", 10.9)
    roster.count_call("pid", 11.0)


def test_callers_are_limited_each_for_itself() -> None:
    roster = Roster("a", 1, Limits(max_calls_per_second=1.0))
    roster.count_call("one", 0.0)
    roster.count_call("other", 0.0)
    with pytest.raises(TooManyCalls):
        roster.count_call("one", 0.5)


def test_forgetting_a_caller_does_not_give_it_calls() -> None:
    roster = Roster("a", 1, Limits(max_calls_per_second=2.0))
    roster.count_call("pid", 0.0)
    roster.count_call("pid", 0.0)
    roster.pass_time(0.4)
    with pytest.raises(TooManyCalls):
        roster.count_call("pid", 0.4)


# Counted topics


def test_topics_are_listed_unless_they_are_said_to_be_counted() -> None:
    counting = Counting(lambda topic: topic == "big")
    assert counting.announce("small", 10_000) == (False, False)
    assert counting.read("small", 10_000) is False
    assert counting.read("big", 1) is True


def test_a_counted_topic_is_announced_whole_once() -> None:
    counting = Counting(lambda _: True)
    assert counting.announce(TOPIC, 1) == (True, True)
    assert counting.announce(TOPIC, 2) == (True, False)
    assert counting.announce(TOPIC, 0) == (True, False)
    assert len(counting) == 0


def test_a_topic_is_counted_from_a_size_and_listed_again_below_three_quarters_of_it() -> None:
    counting = Counting(counted_from=100)
    sizes = [99, 100, 99, 75, 74, 75, 99, 100]
    found = [counting.announce(TOPIC, size) for size in sizes]
    assert found == [
        (False, False),
        (True, True),
        (True, False),
        (True, False),
        (False, True),
        (False, False),
        (False, False),
        (True, True),
    ]


def test_a_reader_between_two_announcements_makes_the_next_one_whole() -> None:
    counting = Counting(counted_from=100)
    assert counting.read(TOPIC, 100) is True
    # It has shrunk since. The reader knows a count, and all others know the list.
    assert counting.announce(TOPIC, 50) == (False, True)
    assert counting.read(TOPIC, 50) is False
    assert counting.announce(TOPIC, 100) == (True, True)
    assert counting.read(TOPIC, 50) is False
    assert counting.announce(TOPIC, 100) == (True, True)
    assert counting.announce(TOPIC, 100) == (True, False)


def test_clients_that_missed_a_diff_get_everything_next() -> None:
    counting = Counting()
    counting.missed(TOPIC)
    assert counting.announce(TOPIC, 1) == (False, True)
    assert counting.announce(TOPIC, 1) == (False, False)


def test_a_topic_of_one_takes_no_memory_when_it_is_empty() -> None:
    counting = Counting(lambda _: True, counted_from=1)
    counting.read(TOPIC, 0)
    assert len(counting) == 0
    counting.read(TOPIC, 1)
    counting.announce(TOPIC, 1)
    assert len(counting) == 1
    counting.announce(TOPIC, 0)
    assert len(counting) == 0


def test_a_topic_without_clients_is_forgotten() -> None:
    counting = Counting(counted_from=10)
    counting.missed(TOPIC)
    counting.forget(TOPIC)
    assert counting.announce(TOPIC, 1) == (False, False)
    counting.announce(TOPIC, 10)
    counting.forget(TOPIC)
    assert len(counting) == 0
