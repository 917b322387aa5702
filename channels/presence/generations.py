"""The recent changes of each node, for other nodes that missed some changes.

*pure*. A node that missed one message needs a few changes. A node that was away for an hour needs many. So there are
several *generations* of different sizes. Each holds the latest changes of a node up to its size. The answer is the
smallest generation that reaches back far enough, or else the node's whole part.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.errors import InvalidOption
from channels.presence.clock import Version
from channels.presence.delta import Part, Segment

__all__ = ["DEFAULT_MAX_SIZES", "Generations"]

DEFAULT_MAX_SIZES = (100, 1_000, 10_000)
"""Entries and removed tags of each generation, as in Phoenix."""


class Generations:
    """The latest changes of each node.

        >>> generations = Generations((10, 100))
        >>> generations.push(
        ...     "a", Segment(incarnation=1, start=4, end=5, entries={}, removed=frozenset({2}))
        ... )
        >>> generations.covering("a", Version(1, 4)).end
        5
        >>> generations.covering("a", Version(1, 3))

    Args:
        max_sizes: the sizes of the generations, in ascending order.

    Raises:
        InvalidOption: the sizes are not whole numbers in ascending order.
    """

    __slots__ = ("_levels", "_max_sizes")

    def __init__(self, max_sizes: Sequence[int] = DEFAULT_MAX_SIZES) -> None:
        sizes = list(max_sizes)
        whole = all(isinstance(size, int) and size > 0 for size in sizes)
        if not sizes or not whole or sizes != sorted(set(sizes)):
            expected = "whole numbers from 1 in ascending order"
            raise InvalidOption("Generations", "max_sizes", max_sizes, expected)
        self._max_sizes = tuple(sizes)
        self._levels: dict[str, list[Part | None]] = {}

    def push(self, name: str, segment: Segment) -> None:
        """Add changes of a node. Changes that come late or twice do no harm."""
        levels = self._levels.setdefault(name, [None] * len(self._max_sizes))
        smaller: Part | None = None
        for position, max_size in enumerate(self._max_sizes):
            before = levels[position]
            if len(segment.entries) > max_size and (before is None or _is_later(segment, before)):
                # Too large for this generation, whatever it holds. Do not copy thousands of entries to find that out.
                smaller = levels[position] = None
                continue
            level = _extended(before, segment)
            if level.size > max_size:
                # Start again with the content of the next smaller generation, or with the segment alone.
                level = _new(segment if smaller is None else smaller.segment())
            smaller = levels[position] = level if level.size <= max_size else None

    def covering(self, name: str, version: Version) -> Segment | None:
        """Return the smallest generation that continues a version of a node's part; None if there is none."""
        for level in self._levels.get(name, ()):
            if (
                level is not None
                and level.incarnation == version.incarnation
                and level.start <= version.clock < level.end
            ):
                return level.segment()
        return None

    @property
    def size(self) -> int:
        """The number of entries and removed tags in all generations of all nodes."""
        levels = (
            level for levels in self._levels.values() for level in levels if level is not None
        )
        return sum(level.size for level in levels)

    def forget(self, name: str) -> None:
        """Forget the changes of a node."""
        self._levels.pop(name, None)


def _extended(level: Part | None, segment: Segment) -> Part:
    if level is None:
        return _new(segment)
    if level.is_continued_by(segment):
        level.advance(segment)
        return level
    # There is a gap, the segment reaches further back, or one of the two is out of date.
    return _new(segment) if _is_later(segment, level) else level


def _is_later(segment: Segment, level: Part) -> bool:
    return (segment.incarnation, segment.end) > (level.incarnation, level.end)


def _new(segment: Segment) -> Part:
    part = Part(segment.incarnation, segment.start)
    part.advance(segment)
    return part
