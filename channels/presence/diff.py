"""Joins and leaves: the effect of one change of the presence set for the clients of a topic.

*pure*. `Diff` is the result of one change. `DiffBuffer` collects the diffs of an interval, so that a topic gets one
message for all of them.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from itertools import islice

from attrs import frozen

from channels.presence.delta import Entry

__all__ = ["NO_DIFF", "SLICE", "Diff", "DiffBuffer", "by_topic", "slices"]

SLICE = 1_000
"""The most keys of a diff to handle in one step. A step takes a few milliseconds, and other processes run between
two steps."""


@frozen
class Diff:
    """Entries that a change has made visible, and entries that it has hidden.

    Attributes:
        joins: entries that are visible from now on. The joins of one node are in the order in which they were tracked.
        leaves: entries that are no longer visible. Only the diffs of `DiffBuffer` can have an entry in both.
    """

    joins: Sequence[Entry] = ()
    leaves: Sequence[Entry] = ()

    def __bool__(self) -> bool:
        return bool(self.joins or self.leaves)


NO_DIFF = Diff()
"""The diff of a change that changes nothing visible."""


def by_topic(diff: Diff) -> dict[str, Diff]:
    """Split a diff into one for each topic."""
    topics: dict[str, tuple[list[Entry], list[Entry]]] = {}
    for side, entries in enumerate((diff.joins, diff.leaves)):
        for entry in entries:
            topics.setdefault(entry.topic, ([], []))[side].append(entry)
    return {topic: Diff(joins, leaves) for topic, (joins, leaves) in topics.items()}


def slices(diff: Diff, size: int) -> Iterator[Diff]:
    """Divide a diff into parts of at most `size` keys. All entries of a key that joins and leaves are in one part.

        >>> ann, bob = (Entry("a", "room:1", key, 1, {}) for key in ("ann", "bob"))
        >>> renewed = Entry("a", "room:1", "bob", 1, {})
        >>> parts = list(slices(Diff(joins=[ann, renewed], leaves=[bob]), 1))
        >>> [(len(part.joins), len(part.leaves)) for part in parts]
        [(1, 1), (1, 0)]

    Args:
        diff: the diff.
        size: the number of keys.
    """
    if len(diff.joins) + len(diff.leaves) <= size:
        if diff:
            yield diff
        return
    is_mostly_joins = len(diff.joins) >= len(diff.leaves)
    fewer, more = (diff.leaves, diff.joins) if is_mostly_joins else (diff.joins, diff.leaves)

    def part(of_fewer: Sequence[Entry], of_more: Sequence[Entry]) -> Diff:
        return Diff(of_more, of_fewer) if is_mostly_joins else Diff(of_fewer, of_more)

    keys: dict[tuple[str, str], tuple[list[Entry], list[Entry]]] = {}
    for entry in fewer:
        keys.setdefault((entry.topic, entry.key), ([], []))[0].append(entry)
    alone: list[Entry] = []
    for entry in more if keys else ():
        both = keys.get((entry.topic, entry.key))
        (alone if both is None else both[1]).append(entry)
    groups = iter(keys.values())
    while group := list(islice(groups, size)):
        yield part(*([entry for both in group for entry in both[side]] for side in (0, 1)))
    alone = alone if keys else [*more]
    for start in range(0, len(alone), size):
        yield part((), alone[start : start + size])


class _Change:
    """The changes of one entry since the last `take`."""

    __slots__ = ("changed_at", "is_mixed", "is_present", "was_present")

    def __init__(self, *, was_present: bool) -> None:
        self.was_present = was_present
        self.is_present = was_present
        # The number of reads of the topic before the latest change.
        self.changed_at = 0
        # True if a reader saw the entry in a state that differs from its state at the last `take`.
        self.is_mixed = False


class _Topic:
    __slots__ = ("changes", "reads")

    def __init__(self) -> None:
        # Each entry moves to the end when it changes again.
        self.changes: dict[Entry, _Change] = {}
        self.reads = 0

    def note(self, entry: Entry, *, is_present: bool) -> None:
        change = self.changes.pop(entry, None) or _Change(was_present=not is_present)
        if change.is_present != change.was_present and self.reads > change.changed_at:
            change.is_mixed = True
        change.is_present = is_present
        change.changed_at = self.reads
        if change.is_mixed or is_present != change.was_present:
            self.changes[entry] = change

    def diff(self) -> Diff:
        joins: list[Entry] = []
        leaves: list[Entry] = []
        for entry, change in self.changes.items():
            if change.is_present or not change.was_present:
                joins.append(entry)
            if not change.is_present:
                leaves.append(entry)
        return Diff(joins, leaves)


class DiffBuffer:
    """The diffs since the last `take`, merged into one for each topic.

        >>> buffer, entry = DiffBuffer(), Entry("a", "room:1", "ann", 1, {})
        >>> buffer.add(Diff(joins=[entry]))
        >>> buffer.add(Diff(leaves=[entry]))
        >>> buffer.take()
        {}

    An entry that joins and leaves between two messages is in neither of them, and so is one that leaves and joins
    again, unless a reader got a list of the topic in between. Call `note_read` for each such read, so that the next
    message contains the last change of the entry. For an entry that came and left, it then has a join and a leave, so
    that all clients see what the reader saw.
    """

    __slots__ = ("_topics",)

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}

    def __len__(self) -> int:
        """The number of topics in which something has changed."""
        return len(self._topics)

    def __contains__(self, topic: object) -> bool:
        return topic in self._topics

    def add(self, diff: Diff) -> None:
        """Add what has changed since the last call."""
        for entry in diff.leaves:
            self._note(entry, is_present=False)
        for entry in diff.joins:
            self._note(entry, is_present=True)

    def note_read(self, topic: str) -> None:
        """Note that the members of a topic were just read for a client."""
        pending = self._topics.get(topic)
        if pending is not None:
            pending.reads += 1

    def take(self, *, later: Container[str] = ()) -> dict[str, Diff]:
        """Return the diff of each topic, and start again. Topics in which nothing changed in the end are left out.

        Args:
            later: topics whose diffs stay in the buffer, and collect further changes.
        """
        topics = self._topics
        self._topics = {topic: pending for topic, pending in topics.items() if topic in later}
        return {
            topic: pending.diff() for topic, pending in topics.items() if topic not in self._topics
        }

    def _note(self, entry: Entry, *, is_present: bool) -> None:
        topic = self._topics.get(entry.topic)
        if topic is None:
            topic = self._topics[entry.topic] = _Topic()
        topic.note(entry, is_present=is_present)
        if not topic.changes:
            # An entry that joins and leaves all the time must not use more and more memory.
            del self._topics[entry.topic]
