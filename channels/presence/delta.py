"""Changes of the presence set as they travel: entries, and segments of the changes of one node.

*pure*. A node numbers its changes: tick 1, 2, 3 and so on. An addition uses one tick, which becomes the *tag* of the
entry. A removal uses one tick too. A segment says what a range of ticks has changed:

    ticks     1       2       3       4            5
              add X   add Y   add Z   remove X     add W

    Segment(start=2, end=5):   entries {3: Z, 5: W}    removed {1}

An entry that was added and removed within the range is in neither. Tags are never used twice. So a removed entry leaves
nothing behind: a clock that has reached its tag, without the entry, means that the entry is gone.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeAlias, final

from attrs import field, frozen

__all__ = ["Delta", "Entry", "Meta", "Segment", "merged", "size_of"]

Meta: TypeAlias = dict[str, Any]
"""The data of a presence, a JSON object. Nobody changes it once it is tracked."""


@final
class Entry:
    """One tracked presence. Compared by identity. Nobody changes it.

    Attributes:
        node: the name of the node that tracks it.
        topic: its topic.
        key: its key in the topic, such as the id of a user.
        owner: what it belongs to. A pid on its own node, a string on every other.
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


@frozen(kw_only=True)
class Segment:
    """The effect of the ticks after `start` up to and including `end` of one node.

    A segment that starts at 0 is the whole part of the node: everything that it does not list is gone.

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


def merged(one: Segment, other: Segment) -> Segment | None:
    """Merge two segments of the same node. The order of the two makes no difference.

    Returns:
        One segment for the ticks of both. If their incarnations differ, the segment of the newer one. None if there is
        a gap between them.
    """
    if one.incarnation != other.incarnation:
        return max(one, other, key=lambda segment: segment.incarnation)
    first, second = sorted((one, other), key=lambda segment: (segment.end, -segment.start))
    if second.start <= first.start:
        return second
    if second.start > first.end:
        return None
    kept = {
        tag: entry
        for tag, entry in first.entries.items()
        if tag <= second.start and tag not in second.removed
    }
    older = (tag for tag in second.removed if tag <= first.start)
    return Segment(
        incarnation=second.incarnation,
        start=first.start,
        end=second.end,
        entries={**kept, **second.entries},
        removed=first.removed.union(older),
    )
