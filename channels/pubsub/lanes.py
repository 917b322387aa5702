"""Lanes: numbers for the envelopes of each sender, so that receivers notice what they lost.

*pure*. A lane is a queue of envelopes from all nodes to others. Topics are spread over the lanes `"0"` to `"k-1"` by a
hash, and each node also has a lane of its own, `"@NAME"`, for what only this node gets. A node numbers what it sends on
each lane from 1. A transport keeps the order of a sender on a lane, but may lose or repeat envelopes.
"""

from __future__ import annotations

from zlib import crc32

from channels.pubsub.adapter import Lost

__all__ = ["Arrivals", "Numbers", "lane_of", "lane_to"]

MAX_SENDERS = 10_000
"""Senders that a node remembers, all lanes together. The one that was silent longest goes first."""

MAX_LANES = 1000
"""Lanes of other nodes whose last number a node remembers. The one that it used longest ago goes first."""


def lane_of(topic: str, shards: int) -> str:
    """Return the lane of a topic: the CRC-32 of its UTF-8, modulo the number of shards.

    >>> lane_of("room:lobby", 1), lane_of("room:lobby", 16)
    ('0', '5')
    """
    return "0" if shards == 1 else str(crc32(topic.encode("utf-8", "surrogatepass")) % shards)


def lane_to(node: str) -> str:
    """Return the lane that only this node reads."""
    return f"@{node}"


class Numbers:
    """The numbers of one sender: the last one of each lane.

        >>> numbers = Numbers(["0"])
        >>> numbers.next("0"), numbers.next("0"), numbers.last()
        (1, 2, {'0': 2})

    Args:
        lanes: the lanes for topics. They are never forgotten.
        max_others: the number of further lanes to remember. A node gets a lane when this one first sends to it alone,
            and over the years there are many names of nodes.

    A lane that was forgotten goes on behind the highest number that was ever forgotten. If its node still runs, it may
    report losses that were none, but never takes a message for a repetition.
    """

    __slots__ = ("_forgotten", "_last", "_max_others", "_others")

    def __init__(self, lanes: list[str], *, max_others: int = MAX_LANES) -> None:
        self._last = dict.fromkeys(lanes, 0)
        # In the order of their latest use.
        self._others: dict[str, int] = {}
        self._max_others = max_others
        self._forgotten = 0

    def next(self, lane: str) -> int:
        """Return the number for the next envelope on a lane."""
        if lane in self._last:
            number = self._last[lane] = self._last[lane] + 1
            return number
        number = self._others.pop(lane, self._forgotten) + 1
        if len(self._others) >= self._max_others:
            self._forgotten = max(self._forgotten, self._others.pop(next(iter(self._others))))
        self._others[lane] = number
        return number

    def take_back(self, lane: str) -> None:
        """Use the latest number of a lane again: its envelope was not sent."""
        table = self._last if lane in self._last else self._others
        table[lane] -= 1

    def last(self) -> dict[str, int]:
        """Return the last number of each lane; 0 for a lane without an envelope."""
        return self._last | self._others


class Arrivals:
    """The numbers that arrived: finds gaps and repetitions.

        >>> arrivals = Arrivals()
        >>> arrivals.message("0", "a", "i", 7)
        >>> arrivals.message("0", "a", "i", 10)
        Lost(lane='0', node='a', incarnation='i', first=8, last=9)
        >>> arrivals.message("0", "a", "i", 10)
        True

    The first envelope of a sender counts as the beginning: what it sent before is not lost, because this node may not
    have been there. A node sends a heartbeat when it starts, so others know its beginning.
    """

    __slots__ = ("_last", "_max_senders")

    def __init__(self, max_senders: int = MAX_SENDERS) -> None:
        self._max_senders = max_senders
        self._last: dict[tuple[str, str, str], int] = {}

    def message(self, lane: str, node: str, incarnation: str, number: int) -> Lost | bool | None:
        """Note an envelope with a message. Deliver it unless the result is True.

        Returns:
            None if it is the next one or the first, True if it repeats an earlier one, otherwise the gap before it.
        """
        key = lane, node, incarnation
        last = self._last.get(key)
        if last is None:
            self._add(key, number)
            return None
        if number == last + 1:
            self._last[key] = number
            return None
        if number <= last:
            return True
        self._last[key] = number
        return Lost(lane, node, incarnation, last + 1, number - 1)

    def heartbeat(self, lane: str, node: str, incarnation: str, number: int) -> Lost | None:
        """Note the last number of a sender, and return what is missing at the end."""
        key = lane, node, incarnation
        # Taken out and put back: the order of the table is the order of the latest heartbeats.
        last = self._last.pop(key, None)
        if last is None:
            self._add(key, number)
            return None
        self._last[key] = max(last, number)
        return Lost(lane, node, incarnation, last + 1, number) if number > last else None

    def __len__(self) -> int:
        return len(self._last)

    def _add(self, key: tuple[str, str, str], number: int) -> None:
        while len(self._last) >= self._max_senders:
            del self._last[next(iter(self._last))]
        self._last[key] = number
