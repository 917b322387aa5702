"""Large deltas in pages, because a message between nodes has a size limit.

*pure*. `split` divides a delta into pages, and `Assemblies` puts them together again. The receiver merges only whole
deltas. So its copy is always a state that the other node has been in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define, evolve, field

from channels.presence.delta import Delta, Entry, Segment

__all__ = ["Assemblies", "split"]


def _one(_: Entry) -> int:
    return 1


def split(
    delta: Delta, max_weight: int, *, weight: Callable[[Entry], int] = _one, tag_weight: int = 1
) -> Iterator[Delta]:
    """Divide a delta into pages.

        >>> entries = {tag: Entry("a", "room:1", str(tag), 1, {}) for tag in (1, 2, 3)}
        >>> delta = {"a": Segment(incarnation=1, start=0, end=3, entries=entries)}
        >>> pages = list(split(delta, 2))
        >>> [list(page["a"].entries) for page in pages]
        [[1, 2], [3]]

    A page is not a delta: never merge it alone.

    Args:
        delta: the delta.
        max_weight: the weight of a page. A single entry that weighs more gets a page of its own.
        weight: the weight of an entry, such as its size in bytes.
        tag_weight: the weight of a removed tag.

    Returns:
        At least one page. The cost of each arises when you take it.
    """
    page: dict[str, Segment] = {}
    filled = 0
    for name, segment in delta.items():
        entries: dict[int, Entry] = {}
        removed: list[int] = []
        items: list[tuple[int, Entry | None]] = [*((tag, None) for tag in sorted(segment.removed))]
        items += segment.entries.items()
        for tag, entry in items:
            cost = tag_weight if entry is None else weight(entry)
            if filled and filled + cost > max_weight:
                page[name] = evolve(segment, entries=entries, removed=frozenset(removed))
                yield page
                entries, removed = {}, []
                page = {}
                filled = 0
            filled += cost
            if entry is None:
                removed.append(tag)
            else:
                entries[tag] = entry
        page[name] = evolve(segment, entries=entries, removed=frozenset(removed))
    yield page


class _Pages:
    """The pages of one segment so far."""

    __slots__ = ("entries", "removed", "segment")

    def __init__(self, first: Segment) -> None:
        self.segment = first
        self.entries = dict(first.entries)
        self.removed = set(first.removed)

    def append(self, page: Segment) -> bool:
        """Add a page. Return False if it does not continue the earlier pages."""
        first = self.segment
        last = next(reversed(self.entries), 0)
        if (first.incarnation, first.start, first.end) != (
            page.incarnation,
            page.start,
            page.end,
        ) or next(iter(page.entries), last + 1) <= last:
            return False
        self.entries.update(page.entries)
        self.removed.update(page.removed)
        return True

    def whole(self) -> Segment:
        return evolve(self.segment, entries=self.entries, removed=frozenset(self.removed))


@define
class _Assembly:
    ref: str
    count: int
    received: int = 0
    size: int = 0
    parts: dict[str, _Pages] = field(factory=dict)

    def append(self, page: Delta) -> bool:
        for name, segment in page.items():
            self.size += 1 + segment.size
            pages = self.parts.get(name)
            if pages is None:
                self.parts[name] = _Pages(segment)
            elif not pages.append(segment):
                return False
        self.received += 1
        return True


class Assemblies:
    """Deltas of which some pages have arrived. There is at most one for each sender.

        >>> assemblies = Assemblies()
        >>> whole = {"a": Segment(incarnation=1, start=0, end=1, entries={}, removed=frozenset())}
        >>> assemblies.add("a", "ref 1", 0, 1, whole) == whole
        True

    Pages of one sender arrive in order. If a page is lost, the delta is dropped, and the node asks for it again.

    Args:
        max_size: the most entries and removed tags of one delta. A larger delta is dropped.

    Attributes:
        dropped: deltas that lost a page, and deltas that were too large.
    """

    __slots__ = ("_by_sender", "_max_size", "dropped")

    def __init__(self, *, max_size: int = 1_000_000) -> None:
        self._max_size = max_size
        self._by_sender: dict[str, _Assembly] = {}
        self.dropped = 0

    def __len__(self) -> int:
        """The number of deltas that are not complete."""
        return len(self._by_sender)

    def add(self, sender: str, ref: str, index: int, count: int, page: Delta) -> Delta | None:
        """Add a page.

        Args:
            sender: the node that sent it.
            ref: the transfer that it belongs to.
            index: its number in the transfer, from 0.
            count: the number of pages of the transfer.
            page: its content.

        Returns:
            The whole delta when its last page arrives; None before that, or if a page is missing.
        """
        assembly = self._by_sender.get(sender)
        if index == 0:
            if assembly is not None:
                self._drop(sender)
            assembly = self._by_sender[sender] = _Assembly(ref, count)
        elif assembly is None or assembly.ref != ref:
            return None
        continues = index == assembly.received and count == assembly.count
        if not continues or not assembly.append(page) or assembly.size > self._max_size:
            self._drop(sender)
            return None
        if assembly.received < assembly.count:
            return None
        del self._by_sender[sender]
        return {name: pages.whole() for name, pages in assembly.parts.items()}

    def forget(self, sender: str) -> None:
        """Drop what has arrived from a node, because it is down."""
        self._by_sender.pop(sender, None)

    def _drop(self, sender: str) -> None:
        del self._by_sender[sender]
        self.dropped += 1
