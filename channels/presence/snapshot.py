"""The members of each topic, for readers.

*pure*. `Snapshots` is the table of topics; the process that holds the presence set updates it. `Snapshot` is the state
of one topic at one moment. It never changes, so a reader needs no lock, no message, and no copy.

A large topic is divided into buckets of keys. An update makes a new snapshot, with new copies of only the buckets that
it changes. Both snapshots share the other buckets. So an update of a topic with 20,000 keys copies some tens of keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias
from zlib import crc32

from channels.presence.delta import Entry, Meta, insert_in_order
from channels.presence.diff import Diff, by_topic

__all__ = ["NO_MEMBERS", "Snapshot", "Snapshots"]

_Bucket: TypeAlias = dict[str, tuple[Entry, ...]]

# If there are more than _FULL keys for each bucket, the topic gets four times as many buckets. If there are fewer than
# _SPARSE, it gets a quarter. So 20,000 keys are in 256 buckets of 78 keys, and the list of buckets takes about as long
# to copy as one bucket.
_FULL = 100
_SPARSE = 4
_GROWTH = 4


class Snapshot:
    """The members of one topic at one moment.

        >>> snapshots = Snapshots()
        >>> snapshots.apply(Diff(joins=[Entry("a", "room:1", "ann", 1, {"phx_ref": "x"})]))
        >>> before = snapshots.topic("room:1")
        >>> before["ann"]
        ({'phx_ref': 'x'},)
        >>> len(before), before.presences
        (1, 1)

    The metas of a key are in the order of their `phx_ref`, which is the same on all nodes. It is the order of tracking
    and updating: exact for the metas of one node, and as exact as the clocks for the metas of several nodes. Keys have
    no order. Do not change a meta.

    Attributes:
        presences: the number of entries. A key has one for each of its owners.
    """

    __slots__ = ("_buckets", "_keys", "presences")

    def __init__(self, buckets: Sequence[_Bucket], keys: int, presences: int) -> None:
        self._buckets = buckets
        self._keys = keys
        self.presences = presences

    def __len__(self) -> int:
        """The number of keys."""
        return self._keys

    def __iter__(self) -> Iterator[str]:
        for bucket in self._buckets:
            yield from bucket

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self.entries(key))

    def __getitem__(self, key: str) -> tuple[Meta, ...]:
        entries = self.entries(key)
        if not entries:
            raise KeyError(key)
        return tuple(entry.meta for entry in entries)

    def get(self, key: str) -> tuple[Meta, ...]:
        """Return the metas of a key; empty if the key is not present.

        Args:
            key: the key of the presence, as text.
        """
        return tuple(entry.meta for entry in self.entries(key))

    def items(self) -> Iterator[tuple[str, tuple[Meta, ...]]]:
        """Iterate over the keys and their metas.

        Returns:
            An iterator over pairs of a key and the tuple of its metas.
        """
        for bucket in self._buckets:
            for key, entries in bucket.items():
                yield key, tuple(entry.meta for entry in entries)

    def entries(self, key: str) -> tuple[Entry, ...]:
        """Return the entries of a key; empty if the key is not present.

        Args:
            key: the key of the presence, as text.
        """
        buckets = self._buckets
        return buckets[_place(key, len(buckets))].get(key, ())

    def changed(self, diff: Diff) -> Snapshot:
        """Return the snapshot after a diff of this topic.

        Leaves of absent entries and joins of present entries change nothing.
        """
        buckets = list(self._buckets)
        keys, presences = self._keys, self.presences
        fresh: set[int] = set()
        for key, (joins, leaves) in _by_key(diff).items():
            place = _place(key, len(buckets))
            before = buckets[place].get(key, ())
            after = _replaced(before, joins, leaves)
            if place not in fresh:
                fresh.add(place)
                buckets[place] = dict(buckets[place])
            if after:
                buckets[place][key] = after
            else:
                buckets[place].pop(key, None)
            keys += bool(after) - bool(before)
            presences += len(after) - len(before)
        return Snapshot(_resized(buckets, keys), keys, presences)


NO_MEMBERS = Snapshot(({},), 0, 0)
"""The snapshot of a topic without members."""


class Snapshots:
    """The present snapshot of each topic.

    One process calls `apply`. Any thread may read. A diff replaces the snapshot of each topic in one step, so in one
    topic, a reader sees the whole diff or nothing of it.
    """

    __slots__ = ("_topics",)

    def __init__(self) -> None:
        self._topics: dict[str, Snapshot] = {}

    def __len__(self) -> int:
        """The number of topics with members."""
        return len(self._topics)

    def topic(self, name: str) -> Snapshot:
        """Return the members of a topic now."""
        return self._topics.get(name, NO_MEMBERS)

    def topics(self) -> list[str]:
        """Return the topics that have members."""
        return list(self._topics)

    def apply(self, diff: Diff) -> None:
        """Update the topics of a diff."""
        for topic, part in by_topic(diff).items():
            snapshot = self.topic(topic).changed(part)
            if snapshot.presences:
                self._topics[topic] = snapshot
            else:
                self._topics.pop(topic, None)


def _place(key: str, buckets: int) -> int:
    # Not `hash`, which differs between two runs.
    return crc32(key.encode("utf-8", "surrogatepass")) % buckets if buckets > 1 else 0


def _by_key(diff: Diff) -> dict[str, tuple[list[Entry], list[Entry]]]:
    keys: dict[str, tuple[list[Entry], list[Entry]]] = {}
    for side, entries in enumerate((diff.joins, diff.leaves)):
        for entry in entries:
            keys.setdefault(entry.key, ([], []))[side].append(entry)
    return keys


def _replaced(
    entries: tuple[Entry, ...], joins: Sequence[Entry], leaves: Sequence[Entry]
) -> tuple[Entry, ...]:
    # A dictionary as an ordered set of entries.
    rest = dict.fromkeys(entries)
    for entry in leaves:
        rest.pop(entry, None)
    after = list(rest)
    for entry in dict.fromkeys(joins):
        if entry not in rest:
            insert_in_order(after, entry)
    return tuple(after)


def _resized(buckets: Sequence[_Bucket], keys: int) -> Sequence[_Bucket]:
    count = len(buckets)
    while keys > count * _FULL:
        count *= _GROWTH
    while count > 1 and keys < count * _SPARSE:
        count //= _GROWTH
    if count == len(buckets):
        return buckets
    resized: list[_Bucket] = [{} for _ in range(count)]
    for bucket in buckets:
        for key, entries in bucket.items():
            resized[_place(key, count)][key] = entries
    return resized
