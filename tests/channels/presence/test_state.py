"""The presence set of one node."""

from __future__ import annotations

import pytest

from channels.presence.clock import Version
from channels.presence.delta import Delta, Entry
from channels.presence.diff import NO_DIFF, Diff
from channels.presence.generations import DEFAULT_MAX_SIZES
from channels.presence.state import AlreadyTracked, Merged, NotTracked, State


def cluster(names: str = "abc") -> list[State]:
    """Sets that know each other."""
    sets = [State(name, 1) for name in names]
    for each in sets:
        for other in sets:
            each.replica_up(other.node, 1)
    return sets


def keys(state: State) -> list[str]:
    return sorted(entry.key for entry in state.visible())


def named(entries: object) -> list[str]:
    assert isinstance(entries, list | tuple)
    return [entry.key for entry in entries]


def catch_up(state: State, other: State) -> Diff:
    """Get everything that another set has."""
    merged = state.merge(other.extract(state.clocks()))
    assert not merged.gaps
    return merged.diff


# The entries of this node.


def test_a_new_set_is_empty() -> None:
    state = State("a", 7)
    assert (state.node, state.incarnation, state.visible()) == ("a", 7, [])
    assert state.clocks() == {"a": Version(7, 0)}
    assert state.flush() == {}


def test_a_tracked_key_is_visible_at_once() -> None:
    state = State("a", 1)
    (entry,) = state.join("room:1", "ann", {"n": 1}, owner="pid 1").joins
    assert (entry.node, entry.topic, entry.key, entry.owner) == ("a", "room:1", "ann", "pid 1")
    assert state.visible() == [entry]
    assert state.get("room:1", "ann", owner="pid 1") is entry
    assert state.clocks() == {"a": Version(1, 1)}


def test_an_owner_cannot_track_a_key_of_a_topic_twice() -> None:
    state = State("a", 1)
    state.join("room:1", "ann", {}, owner="pid 1")
    with pytest.raises(AlreadyTracked) as caught:
        state.join("room:1", "ann", {}, owner="pid 1")
    assert (caught.value.owner, caught.value.topic, caught.value.key) == ("pid 1", "room:1", "ann")
    # Another owner can, and the same owner in another topic, or another key.
    state.join("room:1", "ann", {}, owner="pid 2")
    state.join("room:2", "ann", {}, owner="pid 1")
    state.join("room:1", "bob", {}, owner="pid 1")
    assert keys(state) == ["ann", "ann", "ann", "bob"]
    assert state.clocks() == {"a": Version(1, 4)}


def test_a_removal_takes_a_tick() -> None:
    state = State("a", 1)
    (entry,) = state.join("room:1", "ann", {}, owner="pid 1").joins
    assert state.leave("room:1", "ann", owner="pid 1") == Diff(leaves=[entry])
    assert state.clocks() == {"a": Version(1, 2)}
    assert state.visible() == []
    assert state.get("room:1", "ann", owner="pid 1") is None


def test_the_removal_of_what_is_not_tracked_changes_nothing() -> None:
    state = State("a", 1)
    state.join("room:1", "ann", {}, owner="pid 1")
    assert state.leave("room:1", "ann", owner="pid 2") is NO_DIFF
    assert state.leave("room:1", "bob", owner="pid 1") is NO_DIFF
    assert state.leave_owner("pid 2") is NO_DIFF
    assert state.clocks() == {"a": Version(1, 1)}


def test_an_owner_leaves_with_all_its_entries() -> None:
    state = State("a", 1)
    for topic, key in [("room:1", "ann"), ("room:2", "ann"), ("room:1", "bob")]:
        state.join(topic, key, {}, owner="pid 1")
    state.join("room:1", "cem", {}, owner="pid 2")
    assert named(state.entries_of("pid 1")) == ["ann", "ann", "bob"]
    assert named(state.leave_owner("pid 1").leaves) == ["ann", "ann", "bob"]
    assert state.entries_of("pid 1") == []
    assert keys(state) == ["cem"]
    assert state.clocks() == {"a": Version(1, 7)}


def test_an_update_is_one_replacement_in_two_ticks() -> None:
    state = State("a", 1)
    (old,) = state.join("room:1", "ann", {"n": 1}, owner="pid 1").joins
    diff = state.update("room:1", "ann", {"n": 2}, owner="pid 1")
    assert diff.leaves == [old]
    assert [entry.meta for entry in diff.joins] == [{"n": 2}]
    assert state.visible() == diff.joins
    assert state.get("room:1", "ann", owner="pid 1") is diff.joins[0]
    assert state.clocks() == {"a": Version(1, 3)}


def test_an_update_of_what_is_not_tracked_is_an_error() -> None:
    state = State("a", 1)
    state.join("room:1", "ann", {}, owner="pid 1")
    with pytest.raises(NotTracked) as caught:
        state.update("room:1", "ann", {}, owner="pid 2")
    assert (caught.value.owner, caught.value.topic, caught.value.key) == ("pid 2", "room:1", "ann")
    assert state.clocks() == {"a": Version(1, 1)}


# Deltas.


def test_a_delta_has_the_changes_since_the_last_flush() -> None:
    state = State("a", 1)
    (ann,) = state.join("room:1", "ann", {}, owner="pid 1").joins
    state.join("room:1", "bob", {}, owner="pid 1")
    (first,) = state.flush().values()
    assert (first.start, first.end, first.entries[1], first.removed) == (0, 2, ann, frozenset())
    assert state.flush() == {}

    state.leave("room:1", "ann", owner="pid 1")
    state.join("room:1", "cem", {}, owner="pid 1")
    state.leave("room:1", "cem", owner="pid 1")
    (cem,) = state.join("room:1", "cem", {}, owner="pid 1").joins
    (second,) = state.flush().values()
    assert (second.start, second.end, dict(second.entries)) == (2, 6, {6: cem})
    assert second.removed == {1}

    state.leave("room:1", "bob", owner="pid 1")
    (third,) = state.flush().values()
    assert (third.start, third.end, third.removed) == (6, 7, frozenset({2}))
    assert not third.entries


def test_members_of_other_nodes_are_merged() -> None:
    a, b, _ = cluster()
    a.join("room:1", "ann", {"n": 1}, owner="pid 1")
    b.join("room:1", "bob", {"n": 2}, owner="pid 1")
    first, second = a.flush(), b.flush()
    assert named(b.merge(first).diff.joins) == ["ann"]
    assert named(a.merge(second).diff.joins) == ["bob"]
    assert keys(a) == keys(b) == ["ann", "bob"]
    assert a.clocks() == b.clocks()


def test_a_delta_that_comes_twice_changes_nothing() -> None:
    a, b, _ = cluster()
    a.join("room:1", "ann", {}, owner="pid 1")
    delta = a.flush()
    b.merge(delta)
    again = b.merge(delta)
    assert again.diff is NO_DIFF
    assert again.gaps == []


def test_a_removal_reaches_the_others() -> None:
    a, b, _ = cluster()
    a.join("room:1", "ann", {}, owner="pid 1")
    a.join("room:1", "bob", {}, owner="pid 1")
    b.merge(a.flush())
    a.leave("room:1", "ann", owner="pid 1")
    diff = b.merge(a.flush()).diff
    assert (named(diff.joins), named(diff.leaves)) == ([], ["ann"])
    assert keys(b) == ["bob"]


def test_an_update_is_one_diff_for_the_others() -> None:
    a, b, _ = cluster()
    a.join("room:1", "ann", {"n": 1}, owner="pid 1")
    b.merge(a.flush())
    a.update("room:1", "ann", {"n": 2}, owner="pid 1")
    a.update("room:1", "ann", {"n": 3}, owner="pid 1")
    diff = b.merge(a.flush()).diff
    assert [entry.meta["n"] for entry in diff.leaves] == [1]
    assert [entry.meta["n"] for entry in diff.joins] == [3]


def test_an_addition_wins_over_a_concurrent_removal_of_the_same_key() -> None:
    a, b, _ = cluster()
    a.join("room:1", "ann", {}, owner="pid 1")
    b.merge(a.flush())
    a.leave("room:1", "ann", owner="pid 1")
    b.join("room:1", "ann", {}, owner="pid 1")
    first, second = a.flush(), b.flush()
    a.merge(second)
    b.merge(first)
    assert keys(a) == keys(b) == ["ann"]
    assert a.visible()[0].node == b.visible()[0].node == "b"


def test_changes_after_a_gap_are_not_merged_but_reported() -> None:
    a, b, _ = cluster()
    a.join("room:1", "ann", {}, owner="pid 1")
    a.flush()
    a.join("room:1", "bob", {}, owner="pid 1")
    merged = b.merge(a.flush())
    assert (merged.diff, merged.gaps) == (NO_DIFF, ["a"])
    assert keys(b) == []
    assert named(catch_up(b, a).joins) == ["ann", "bob"]


def test_a_removal_that_was_missed_is_found_in_the_whole_part() -> None:
    a, b, _ = cluster()
    a.join("room:1", "ann", {}, owner="pid 1")
    a.join("room:1", "bob", {}, owner="pid 1")
    b.merge(a.flush())
    a.leave("room:1", "ann", owner="pid 1")
    # No flush: there are no recent changes to answer with.
    assert a.extract(b.clocks())["a"].start == 0
    assert named(catch_up(b, a).leaves) == ["ann"]
    assert b.merge(a.flush()).diff is NO_DIFF
    assert a.clocks() == b.clocks()


def test_the_whole_part_overlaps_with_the_next_delta() -> None:
    a, b, _ = cluster()
    a.join("room:1", "ann", {}, owner="pid 1")
    a.join("room:1", "bob", {}, owner="pid 1")
    catch_up(b, a)
    a.leave("room:1", "ann", owner="pid 1")
    a.join("room:1", "cem", {}, owner="pid 1")
    diff = b.merge(a.flush()).diff
    assert (named(diff.joins), named(diff.leaves)) == (["cem"], ["ann"])


def test_recent_changes_are_the_answer_if_they_are_enough() -> None:
    a, b, c = cluster()
    for key in ("ann", "bob", "cem"):
        a.join("room:1", key, {}, owner="pid 1")
        delta = a.flush()
        c.merge(delta)
        if key == "ann":
            b.merge(delta)
    (answer,) = a.extract(b.clocks()).values()
    assert (answer.start, answer.end) == (0, 3)
    small = State("a", 1, max_delta_sizes=(1,))
    small.join("room:1", "ann", {}, owner="pid 1")
    small.flush()
    small.join("room:1", "bob", {}, owner="pid 1")
    small.flush()
    (answer,) = small.extract({"a": Version(1, 1)}).values()
    assert (answer.start, answer.end, list(answer.entries)) == (1, 2, [2])
    # A third node can answer too.
    assert named(catch_up(b, c).joins) == ["bob", "cem"]


def test_an_answer_has_only_parts_that_the_other_node_knows_and_lacks() -> None:
    a, b, c = cluster()
    for each in (a, b, c):
        each.join("room:1", each.node, {}, owner="pid 1")
    a.merge({**b.flush(), **c.flush()})
    nothing = Version(1, 0)
    assert list(a.extract({"a": nothing, "b": nothing})) == ["a", "b"]
    assert list(a.extract({"a": nothing, "x": nothing, "b": Version(1, 1)})) == ["a"]
    assert list(a.extract({"a": Version(2, 0), "c": Version(1, 9)})) == []
    assert a.extract(a.clocks()) == {}


def test_parts_of_unknown_nodes_and_of_this_node_are_ignored() -> None:
    a, b, _ = cluster()
    stranger, twin = State("stranger", 1), State("a", 1)
    delta: dict[str, object] = {}
    for each in (stranger, twin):
        each.join("room:1", each.node, {}, owner="pid 1")
        delta.update(each.flush())
    parts: Delta = delta  # type: ignore[assignment]
    merged = a.merge(parts)
    assert (merged.diff, merged.gaps, keys(a)) == (NO_DIFF, [], [])
    assert keys(b) == []


# Nodes.


def test_the_entries_of_a_node_that_is_down_are_hidden_and_come_back() -> None:
    a, b, c = cluster()
    a.join("room:1", "ann", {}, owner="pid 1")
    b.join("room:1", "bob", {}, owner="pid 1")
    b.join("room:1", "cem", {}, owner="pid 1")
    a.merge(b.flush())
    assert named(a.replica_down("b").leaves) == ["bob", "cem"]
    assert a.replica_down("b") is NO_DIFF
    assert keys(a) == ["ann"]
    # Peers that never met it would ask for it again and again.
    assert list(a.clocks()) == ["a", "c"]
    assert named(a.replica_up("b", 1).joins) == ["bob", "cem"]
    assert a.replica_up("b", 1) is NO_DIFF
    assert list(a.clocks()) == ["a", "b", "c"]
    assert c.replica_down("never known") is NO_DIFF


def test_changes_of_a_node_that_is_down_are_seen_when_it_is_up() -> None:
    a, b, c = cluster()
    b.join("room:1", "bob", {}, owner="pid 1")
    c.merge(b.flush())
    catch_up(a, c)
    a.replica_down("b")
    b.leave("room:1", "bob", owner="pid 1")
    b.join("room:1", "cem", {}, owner="pid 1")
    assert a.merge(b.flush()).diff is NO_DIFF
    assert named(a.replica_up("b", 1).joins) == ["cem"]


def test_a_netsplit_heals() -> None:
    a, b, _ = cluster()
    a.join("room:1", "ann", {}, owner="pid 1")
    b.join("room:1", "bob", {}, owner="pid 1")
    catch_up(a, b)
    catch_up(b, a)
    a.replica_down("b")
    b.replica_down("a")
    a.leave("room:1", "ann", owner="pid 1")
    a.join("room:1", "ada", {}, owner="pid 1")
    b.join("room:1", "ben", {}, owner="pid 1")
    assert (keys(a), keys(b)) == (["ada"], ["ben", "bob"])
    assert named(a.replica_up("b", 1).joins) == ["bob"]
    assert named(b.replica_up("a", 1).joins) == ["ann"]
    assert named(catch_up(a, b).joins) == ["ben"]
    diff = catch_up(b, a)
    assert (named(diff.joins), named(diff.leaves)) == (["ada"], ["ann"])
    assert keys(a) == keys(b) == ["ada", "ben", "bob"]


def test_a_removed_node_leaves_nothing_behind() -> None:
    a, b, _ = cluster()
    b.join("room:1", "bob", {}, owner="pid 1")
    delta = b.flush()
    a.merge(delta)
    assert named(a.replica_remove("b").leaves) == ["bob"]
    assert a.replica_remove("b") is NO_DIFF
    assert a.statistics().replicas == 2
    assert a.statistics().recent == 0
    # What another node still says about it is ignored.
    assert a.merge(delta).diff is NO_DIFF
    assert keys(a) == []
    # If it was alive after all, it comes back whole.
    a.replica_up("b", 1)
    assert named(catch_up(a, b).joins) == ["bob"]


def test_a_hidden_node_leaves_without_a_diff() -> None:
    a, b, _ = cluster()
    b.join("room:1", "bob", {}, owner="pid 1")
    a.merge(b.flush())
    a.replica_down("b")
    assert a.replica_remove("b") is NO_DIFF
    assert a.statistics().entries == 0


def test_a_newer_incarnation_replaces_all_entries_of_the_older_one() -> None:
    a, b, _ = cluster()
    b.join("room:1", "bob", {}, owner="pid 1")
    late = b.flush()
    a.merge(late)
    again = State("b", 2)
    again.join("room:1", "cem", {}, owner="pid 1")
    assert named(a.replica_up("b", 2).leaves) == ["bob"]
    assert a.clocks()["b"] == Version(2, 0)
    # A message of the older one is too late, before the first change of the newer one and after it. It is no gap.
    assert a.merge(late) == Merged(diff=NO_DIFF, gaps=[])
    assert named(a.merge(again.flush()).diff.joins) == ["cem"]
    assert a.merge(late).diff is NO_DIFF
    assert a.replica_up("b", 1) is NO_DIFF
    assert keys(a) == ["cem"]
    assert a.clocks()["b"] == Version(2, 1)


def test_the_changes_of_a_newer_incarnation_wait_for_its_heartbeat() -> None:
    a, b, _ = cluster()
    b.join("room:1", "bob", {}, owner="pid 1")
    a.merge(b.flush())
    again = State("b", 2)
    again.join("room:1", "cem", {}, owner="pid 1")
    assert a.merge(again.flush()).diff is NO_DIFF
    assert keys(a) == ["bob"]


def test_a_newer_incarnation_of_a_node_that_is_down_is_up() -> None:
    a, b, _ = cluster()
    b.join("room:1", "bob", {}, owner="pid 1")
    a.merge(b.flush())
    a.replica_down("b")
    assert a.replica_up("b", 2) is NO_DIFF
    assert a.statistics().down == 0
    assert a.clocks()["b"] == Version(2, 0)


def test_a_node_never_hides_or_forgets_itself() -> None:
    (a,) = cluster("a")
    a.join("room:1", "ann", {}, owner="pid 1")
    assert a.replica_down("a") is NO_DIFF
    assert a.replica_remove("a") is NO_DIFF
    assert a.replica_up("a", 9) is NO_DIFF
    assert (keys(a), a.incarnation) == (["ann"], 1)


# A clock that has gone back between two runs.


def test_a_node_learns_that_others_know_a_newer_incarnation_of_it() -> None:
    state = State("a", 5)
    assert state.is_superseded({"a": Version(6, 0)})
    assert not state.is_superseded({"a": Version(5, 9)})
    assert not state.is_superseded({"a": Version(4, 9), "b": Version(8, 1)})


def test_a_renewed_node_is_accepted_with_the_same_entries() -> None:
    a, b, _ = cluster()
    entries: list[Entry] = []
    for key in ("ann", "bob", "cem"):
        entries += a.join("room:1", key, {}, owner="pid 1").joins
    a.flush()
    a.leave("room:1", "ann", owner="pid 1")
    a.renew(3)
    assert a.visible() == entries[1:]
    assert a.statistics().recent == 0
    assert a.clocks()["a"] == Version(3, 2)
    b.replica_up("a", 3)
    assert named(b.merge(a.flush()).diff.joins) == ["bob", "cem"]
    # The entries can still be removed, updated and found.
    a.leave("room:1", "bob", owner="pid 1")
    a.update("room:1", "cem", {"n": 2}, owner="pid 1")
    b.merge(a.flush())
    assert [entry.meta for entry in b.visible()] == [{"n": 2}]
    assert named(a.entries_of("pid 1")) == ["cem"]


@pytest.mark.parametrize("incarnation", [4, 5])
def test_a_node_is_not_renewed_to_an_older_incarnation(incarnation: int) -> None:
    state = State("a", 5)
    with pytest.raises(ValueError, match="from incarnation 5"):
        state.renew(incarnation)
    assert state.incarnation == 5


# The end of a node.


def test_the_last_flush_hands_over_what_the_others_do_not_know() -> None:
    a, b, _ = cluster()
    a.join("room:1", "ann", {}, owner="pid 1")
    a.join("room:1", "bob", {}, owner="pid 2")
    b.merge(a.flush())
    a.update("room:1", "ann", {"n": 2}, owner="pid 1")
    a.leave_owner("pid 2")
    b.merge(a.flush())
    assert [entry.meta for entry in b.visible()] == [{"n": 2}]
    b.replica_down("a")
    assert keys(b) == []


def test_statistics_count_what_the_set_holds() -> None:
    a, b, _ = cluster()
    b.join("room:1", "bob", {}, owner="pid 1")
    a.merge(b.flush())
    a.join("room:1", "ann", {}, owner="pid 1")
    a.flush()
    a.leave("room:1", "ann", owner="pid 1")
    a.join("room:1", "cem", {}, owner="pid 1")
    a.replica_down("b")
    now = a.statistics()
    assert (now.replicas, now.down, now.own, now.entries) == (3, 1, 1, 2)
    assert (now.pending, now.recent) == (2, 2 * len(DEFAULT_MAX_SIZES))
