"""Snapshots of the members of a topic."""

from __future__ import annotations

import random
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.presence.delta import Entry
from channels.presence.diff import Diff
from channels.presence.snapshot import NO_MEMBERS, Snapshot, Snapshots


def entry(key: str, number: int = 0, topic: str = "room:1") -> Entry:
    return Entry("a", topic, key, number, {"n": number})


def as_dict(snapshot: Snapshot) -> dict[str, tuple[Any, ...]]:
    return {key: tuple(meta["n"] for meta in metas) for key, metas in snapshot.items()}


def test_a_topic_without_members_is_empty() -> None:
    snapshots = Snapshots()
    assert snapshots.topic("room:1") is NO_MEMBERS
    assert (len(NO_MEMBERS), NO_MEMBERS.presences, list(NO_MEMBERS)) == (0, 0, [])
    assert NO_MEMBERS.get("ann") == ()
    assert "ann" not in NO_MEMBERS
    with pytest.raises(KeyError, match="ann"):
        NO_MEMBERS["ann"]


def test_metas_of_a_key_are_in_the_order_of_their_joins() -> None:
    snapshots = Snapshots()
    first, second, third = (entry("ann", number) for number in (3, 1, 2))
    snapshots.apply(Diff(joins=[first, second]))
    assert snapshots.topic("room:1")["ann"] == ({"n": 3}, {"n": 1})
    # An update is the latest.
    snapshots.apply(Diff(joins=[third], leaves=[first]))
    assert snapshots.topic("room:1").get("ann") == ({"n": 1}, {"n": 2})
    assert snapshots.topic("room:1").entries("ann") == (second, third)


def test_metas_are_in_the_order_of_their_refs_and_not_in_the_order_of_arrival() -> None:
    one, two, three = (
        Entry(node, "room:1", "ann", "pid", {"phx_ref": ref})
        for node, ref in (("b", "1"), ("a", "2"), ("b", "3"))
    )
    for arrivals in permutations([one, two, three]):
        snapshots = Snapshots()
        for each in arrivals:
            snapshots.apply(Diff(joins=[each]))
        assert snapshots.topic("room:1").entries("ann") == (one, two, three)


def test_a_change_of_a_key_reads_few_refs_of_its_other_metas() -> None:
    reads = 0

    class Counting(dict[str, Any]):
        def get(self, *args: Any) -> Any:
            nonlocal reads
            reads += 1
            return super().get(*args)

    members = [
        Entry("a", "room:1", "ann", n, Counting({"phx_ref": f"{n:04d}"})) for n in range(2_000)
    ]
    snapshot = NO_MEMBERS.changed(Diff(joins=members[:-2]))
    reads = 0
    for change in (
        Diff(joins=[members[-1]]),
        Diff(joins=[members[-2]]),
        Diff(leaves=[members[7]]),
    ):
        snapshot = snapshot.changed(change)
    assert snapshot.entries("ann") == (*members[:7], *members[8:])
    assert reads < 50


def test_metas_without_a_valid_ref_are_in_the_order_of_their_nodes() -> None:
    # Another version of Ashtree may send them.
    odd: list[dict[str, Any]] = [{}, {"phx_ref": 7}, {"phx_ref": ["x"]}, {}]
    entries = [
        Entry(node, "room:1", "ann", "pid", meta) for node, meta in zip("dbca", odd, strict=True)
    ]
    for arrivals in permutations(entries):
        snapshots = Snapshots()
        snapshots.apply(Diff(joins=arrivals))
        assert [entry.node for entry in snapshots.topic("room:1").entries("ann")] == list("adbc")


def test_keys_and_presences_are_counted() -> None:
    snapshots = Snapshots()
    ann, other, bob = entry("ann", 1), entry("ann", 2), entry("bob", 3)
    snapshots.apply(Diff(joins=[ann, other, bob]))
    snapshot = snapshots.topic("room:1")
    assert (len(snapshot), snapshot.presences) == (2, 3)
    assert "ann" in snapshot
    assert 7 not in snapshot
    snapshots.apply(Diff(leaves=[other, bob]))
    snapshot = snapshots.topic("room:1")
    assert (len(snapshot), snapshot.presences, list(snapshot)) == (1, 1, ["ann"])


def test_a_snapshot_never_changes() -> None:
    snapshots = Snapshots()
    ann = entry("ann", 1)
    snapshots.apply(Diff(joins=[ann]))
    before = snapshots.topic("room:1")
    snapshots.apply(Diff(joins=[entry("bob", 2)], leaves=[ann]))
    assert as_dict(before) == {"ann": (1,)}
    assert (len(before), before.presences) == (1, 1)
    assert as_dict(snapshots.topic("room:1")) == {"bob": (2,)}


def test_a_topic_disappears_with_its_last_member() -> None:
    snapshots = Snapshots()
    members = [entry("ann", 1), entry("bob", 2, topic="room:2")]
    snapshots.apply(Diff(joins=members))
    assert (len(snapshots), snapshots.topics()) == (2, ["room:1", "room:2"])
    snapshots.apply(Diff(leaves=members[:1]))
    assert snapshots.topics() == ["room:2"]
    assert snapshots.topic("room:1") is NO_MEMBERS


def test_entries_join_once_and_leave_once() -> None:
    snapshots = Snapshots()
    ann = entry("ann", 1)
    snapshots.apply(Diff(joins=[ann, ann]))
    snapshots.apply(Diff(joins=[ann]))
    assert snapshots.topic("room:1").presences == 1
    snapshots.apply(Diff(leaves=[ann, entry("ann", 1)]))
    snapshots.apply(Diff(leaves=[ann]))
    assert snapshots.topic("room:1").presences == 0


def test_other_topics_keep_their_snapshot() -> None:
    snapshots = Snapshots()
    snapshots.apply(Diff(joins=[entry("ann", 1), entry("bob", 2, topic="room:2")]))
    before = snapshots.topic("room:2")
    snapshots.apply(Diff(joins=[entry("cem", 3)]))
    assert snapshots.topic("room:2") is before


def test_an_update_of_a_large_topic_copies_few_keys() -> None:
    members = [entry(f"user {number}", number) for number in range(20_000)]
    snapshot = NO_MEMBERS.changed(Diff(joins=members))
    changed = snapshot.changed(Diff(joins=[entry("user 7", -1)], leaves=[members[7]]))
    assert changed["user 7"] == ({"n": -1},)
    copied = {id(bucket) for bucket in changed._buckets} - {id(each) for each in snapshot._buckets}
    assert len(copied) == 1
    assert max(len(bucket) for bucket in changed._buckets) < 200
    assert len(changed._buckets) < 2_000


def test_a_topic_that_shrinks_gives_its_buckets_back() -> None:
    members = [entry(f"user {number}", number) for number in range(20_000)]
    snapshot = NO_MEMBERS.changed(Diff(joins=members)).changed(Diff(leaves=members[5:]))
    assert as_dict(snapshot) == {f"user {number}": (number,) for number in range(5)}
    assert len(snapshot._buckets) == 1


@given(st.integers(0, 2**32), st.integers(1, 400))
def test_snapshots_agree_with_a_dictionary(seed: int, keys: int) -> None:
    chance = random.Random(seed)
    model: dict[str, list[int]] = {}
    members: list[Entry] = []
    snapshot = NO_MEMBERS
    for number in range(5):
        leaves = chance.sample(members, chance.randrange(len(members) + 1))
        joins = [
            entry(f"user {chance.randrange(keys)}", 1000 * number + each)
            for each in range(chance.choice([0, 1, 30, 150]))
        ]
        for each in leaves:
            model[each.key].remove(each.meta["n"])
        for each in joins:
            model.setdefault(each.key, []).append(each.meta["n"])
        members = [*set(members).difference(leaves), *joins]
        snapshot = snapshot.changed(Diff(joins, leaves))
        expected = {key: tuple(numbers) for key, numbers in model.items() if numbers}
        assert as_dict(snapshot) == expected
        assert (len(snapshot), snapshot.presences) == (len(expected), len(members))
