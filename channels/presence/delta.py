"""Changes of the presence set as they travel: entries, and segments of the changes of one node.

*pure*. A node numbers its changes: tick 1, 2, 3 and so on. An addition uses one tick, which becomes the *tag* of the
entry. A removal uses one tick too. A segment says what a range of ticks has changed:

    ticks     1       2       3       4            5
              add X   add Y   add Z   remove X     add W

    Segment(start=2, end=5):   entries {3: Z, 5: W}    removed {1}

An entry that was added and removed within the range is in neither. Tags are never used twice. So nodes need not
remember removed entries. If a clock has reached a tag, and the set has no entry with that tag, the entry was removed.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeAlias, final

from attrs import field, frozen

__all__ = ["Delta", "Entry", "Meta", "Part", "Segment", "in_order", "insert_in_order", "size_of"]

Meta: TypeAlias = dict[str, Any]
"""The data of a presence, a JSON object. It never changes once it is tracked."""


@final
class Entry:
    """One tracked presence. Compared by identity. It never changes.

    Attributes:
        node: the name of the node that tracks it.
        topic: its topic.
        key: its key in the topic, such as the id of a user.
        owner: the process that it belongs to. It is a pid on the node of the process, and a string on every other node.
        meta: its data.
    """

    __slots__ = ("key", "meta", "node", "owner", "topic")

    def __init__(self, node: str, topic: str, key: str, owner: Hashable, meta: Meta) -> None:
        self.node = node
        self.topic = topic
        self.key = key
        self.owner = owner
        self.meta = meta

    def __repr__(self) -> str:
        return f"<presence of {self.key!r} in {self.topic!r} on {self.node}>"


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries of one key in the order of their `phx_ref`, which is the order of tracking.

    Each node sorts by the same refs, so the order is the same on all nodes. `refs.RefClock` makes refs that ascend.
    """
    return sorted(entries, key=_ref_of)


def insert_in_order(entries: list[Entry], entry: Entry) -> None:
    """Insert an entry into a list that `in_order` has made. The cost is that of a few comparisons."""
    insort(entries, entry, key=_ref_of)


def _ref_of(entry: Entry) -> tuple[str, str]:
    # Other versions of Ashtree may send metadata of another form. An order by the node is better than an error.
    return str(entry.meta.get("phx_ref", "")), entry.node


@frozen(kw_only=True)
class Segment:
    """The effect of the ticks after `start` up to and including `end` of one node.

    A segment that starts at 0 is the whole part of the node: entries that it does not list have been removed.

    Attributes:
        incarnation: the run of the node that made the ticks.
        start: the last tick before the segment.
        end: its last tick.
        entries: the entries that it added and did not remove again, by tag. Tags ascend.
        removed: tags up to `start` that it removed.
    """

    incarnation: int
    start: int
    end: int
    entries: Mapping[int, Entry]
    removed: frozenset[int] = field(default=frozenset())

    @property
    def size(self) -> int:
        """The number of entries and removed tags."""
        return len(self.entries) + len(self.removed)


Delta: TypeAlias = Mapping[str, Segment]
"""Segments by the name of their node."""


def size_of(delta: Delta) -> int:
    """Return the number of entries and removed tags of all segments."""
    return sum(segment.size for segment in delta.values())


@final
class Part:
    """The changes of one node after `start`, up to `end`. It grows with each segment that continues it.

    With a start of 0 it is the node's whole part of the set.

        >>> part = Part(incarnation=1)
        >>> ann = Entry("a", "room:1", "ann", "pid 7", {})
        >>> part.advance(Segment(incarnation=1, start=0, end=1, entries={1: ann}))
        ([<presence of 'ann' in 'room:1' on a>], [])
        >>> part.advance(Segment(incarnation=1, start=1, end=2, entries={}, removed=frozenset({1})))
        ([], [<presence of 'ann' in 'room:1' on a>])

    Attributes:
        incarnation: the run of the node that made the ticks.
        start: the last tick before the part.
        end: its last tick.
        entries: the entries that it added and did not remove again, by ascending tag.
        removed: tags up to `start` that it removed.
    """

    __slots__ = ("end", "entries", "incarnation", "removed", "start")

    def __init__(self, incarnation: int, start: int = 0) -> None:
        self.incarnation = incarnation
        self.start = self.end = start
        self.entries: dict[int, Entry] = {}
        self.removed: set[int] = set()

    @property
    def size(self) -> int:
        """The number of entries and removed tags."""
        return len(self.entries) + len(self.removed)

    def is_continued_by(self, segment: Segment) -> bool:
        """Return True if a segment has later ticks, and none is missing before them."""
        return (
            segment.incarnation == self.incarnation
            and self.start <= segment.start <= self.end < segment.end
        )

    def advance(self, segment: Segment) -> tuple[list[Entry], list[Entry]]:
        """Add a segment that continues the part. The segment may begin before the end of the part.

        The cost depends on the segment, and not on the part, unless the segment starts at 0.

        Returns:
            The entries that are new, and the entries that are gone.
        """
        gone = [tag for tag in self.tags_after(segment.start) if tag not in segment.entries]
        for tag in sorted(segment.removed):
            if tag in self.entries:
                gone.append(tag)
            elif tag <= self.start:
                self.removed.add(tag)
        left = [self.entries.pop(tag) for tag in gone]
        new = {tag: entry for tag, entry in segment.entries.items() if tag > self.end}
        self.entries.update(new)
        self.end = segment.end
        return list(new.values()), left

    def tags_after(self, start: int) -> list[int]:
        """Return the tags of the entries above `start`, in order."""
        if start <= self.start:
            return list(self.entries)
        tags = []
        for tag in reversed(self.entries):
            if tag <= start:
                break
            tags.append(tag)
        return tags[::-1]

    def segment(self) -> Segment:
        """Return the part as it is now."""
        return Segment(
            incarnation=self.incarnation,
            start=self.start,
            end=self.end,
            entries=dict(self.entries),
            removed=frozenset(self.removed),
        )
