"""Readers who see a large change of another node in slices see the same in the end as those who see it in one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from hypothesis import example, given
from hypothesis import strategies as st

from channels.presence.delta import Entry
from channels.presence.diff import Diff, slices
from channels.presence.roster import Limits, Roster

TOPICS = ("room:1", "room:2")
KEYS = tuple("abcdef")
OWNERS = ("p1", "p2")

Action: TypeAlias = tuple[Any, ...]

places = st.tuples(st.sampled_from(OWNERS), st.sampled_from(TOPICS), st.sampled_from(KEYS))
changes = st.tuples(st.sampled_from(["put", "drop"]), places) | st.tuples(
    st.just("end"), st.sampled_from(OWNERS)
)
actions = (
    st.tuples(st.just("remote"), changes)
    | st.tuples(st.just("local"), changes)
    | st.tuples(st.just("wait"), st.sampled_from([0.5, 1.5, 6.0]))
    | st.sampled_from([("sync",), ("restart",), ("goodbye",)])
)
# Each action with the number of slices that readers see before it.
steps = st.lists(st.tuples(st.integers(0, 2), actions), max_size=40)


def shown(roster: Roster) -> dict[str, dict[str, tuple[dict[str, Any], ...]]]:
    return {
        topic: dict(roster.snapshots.topic(topic).items()) for topic in roster.snapshots.topics()
    }


def keys_of_a(roster: Roster) -> set[tuple[str, str]]:
    return {
        (topic, key)
        for topic, keys in shown(roster).items()
        for key, metas in keys.items()
        if any(meta["phx_ref"].startswith("a") for meta in metas)
    }


class Reader:
    """A node that follows another one, and a client of each of its topics."""

    def __init__(self, slice_size: int, grace: float) -> None:
        limits = Limits(slice_size=slice_size, leave_grace=grace, down_period=5.0)
        self.roster = Roster("b", 1, limits)
        self.client: dict[str, dict[str, dict[str, None]]] = {}

    def announce(self) -> None:
        """Give the client the changes since the last call, as phoenix.js applies them: joins, then leaves."""
        for topic, diff in self.roster.diffs.take().items():
            for entry in diff.joins:
                refs = self.client.setdefault(topic, {}).setdefault(entry.key, {})
                refs[entry.meta["phx_ref"]] = None
            for entry in diff.leaves:
                refs = self.client[topic][entry.key]
                refs.pop(entry.meta["phx_ref"], None)
                if not refs:
                    del self.client[topic][entry.key]

    def list(self) -> dict[str, dict[str, list[str]]]:
        """Return the list of the client."""
        return {
            topic: {key: sorted(refs) for key, refs in keys.items()}
            for topic, keys in self.client.items()
            if keys
        }


def change(roster: Roster, kind: str, where: Any, ref: int, now: float) -> None:
    if kind == "end":
        roster.owner_ended(where, now)
        return
    owner, topic, key = where
    known = roster.state.get(topic, key, owner=owner)
    if kind == "drop":
        roster.untrack(owner, topic, key)
    elif known is None:
        roster.track(owner, topic, key, {"phx_ref": f"{roster.state.node}{ref:04}"})
    else:
        roster.update(owner, topic, key, {"phx_ref": f"{roster.state.node}{ref:04}"})


class Run:
    """Two nodes that follow node `a`, one in slices and one in whole steps. The same happens to both."""

    def __init__(self, size: int, grace: float) -> None:
        self.sliced, self.whole = Reader(size, grace), Reader(10_000, grace)
        self.readers = self.sliced, self.whole
        self.other, self.incarnation, self.now = Roster("a", 1, Limits()), 1, 0.0
        self.ref = 0
        # The keys that node `a` had here before the last change.
        self.before: set[tuple[str, str]] = set()
        for reader in self.readers:
            reader.roster.heard("a", 1, self.now)

    def see(self) -> None:
        """Let the readers of slices see one more. They always see a key that node `a` had before and has after."""
        if self.sliced.roster.unseen:
            self.sliced.roster.show_more()
            kept = self.before & keys_of_a(self.whole.roster)
            assert kept <= keys_of_a(self.sliced.roster)

    def see_all(self) -> None:
        while self.sliced.roster.unseen:
            self.see()

    def local(self, action: tuple[str, Any]) -> None:
        for reader in self.readers:
            change(reader.roster, *action, self.ref, self.now)

    def remote(self, action: tuple[str, Any]) -> None:
        change(self.other, *action, self.ref, self.now)

    def sync(self) -> None:
        for reader in self.readers:
            reader.roster.heard("a", self.incarnation, self.now)
        delta = self.other.state.extract(self.whole.roster.state.clocks())
        for reader in self.readers:
            reader.roster.merge(delta)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for reader in self.readers:
            reader.roster.pass_time(self.now)

    def restart(self) -> None:
        self.incarnation += 1
        self.other = Roster("a", self.incarnation, Limits())

    def goodbye(self) -> None:
        delta = self.other.state.flush()
        for reader in self.readers:
            reader.roster.merge(delta)
        self.see_all()
        for reader in self.readers:
            reader.roster.said_goodbye("a", self.incarnation, self.now)


HIDDEN: list[tuple[int, Action]] = [
    *((0, ("remote", ("put", ("p1", "room:1", key)))) for key in "abc"),
    (0, ("sync",)),
    (0, ("wait", 6.0)),
    (0, ("remote", ("drop", ("p1", "room:1", "c")))),
    (0, ("sync",)),
]
"""A node is heard again, and its first message removes a presence that is not visible again yet."""


@example(steps=HIDDEN, size=2, grace=0.0)
@given(steps=steps, size=st.integers(1, 3), grace=st.sampled_from([0.0, 1.0]))
def test_slices_lead_to_the_same_presences_as_one_step(
    steps: Sequence[tuple[int, Action]], size: int, grace: float
) -> None:
    """Local changes come between the slices. A change of the other node waits for the last slice."""
    run = Run(size, grace)
    for run.ref, (seen, (name, *arguments)) in enumerate(steps):
        for _ in range(seen):
            run.see()
        if name not in ("local", "remote"):
            run.see_all()
            run.before = keys_of_a(run.sliced.roster)
        getattr(run, name)(*arguments)
        run.readers[seen % 2].announce()
    run.see_all()
    for reader in run.readers:
        reader.announce()
    assert shown(run.sliced.roster) == shown(run.whole.roster)
    assert run.sliced.list() == run.whole.list()
    assert run.sliced.roster.state.clocks() == run.whole.roster.state.clocks()


entries = st.builds(
    lambda topic, key: Entry("a", topic, key, 1, {}), st.sampled_from(TOPICS), st.sampled_from(KEYS)
)


@given(st.lists(entries, max_size=20), st.lists(entries, max_size=20), st.integers(1, 5))
def test_slices_have_each_entry_once_and_keep_both_sides_of_a_key_together(
    joins: list[Entry], leaves: list[Entry], size: int
) -> None:
    parts = list(slices(Diff(joins, leaves), size))
    for side, found in ((joins, "joins"), (leaves, "leaves")):
        assert sorted(map(id, side)) == sorted(
            id(entry) for part in parts for entry in getattr(part, found)
        )
    both = {(e.topic, e.key) for e in joins} & {(e.topic, e.key) for e in leaves}
    for place in both:
        assert (
            sum(any((e.topic, e.key) == place for e in (*p.joins, *p.leaves)) for p in parts) == 1
        )
    for part in parts:
        assert len({(e.topic, e.key) for e in (*part.joins, *part.leaves)}) <= size
