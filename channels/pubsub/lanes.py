"""Lanes: numbers for the envelopes of each sender, so that receivers notice what they lost.

*pure*. A lane is a queue of envelopes that all nodes write to. All nodes read the lane `ALL_NODES`, and each node also
has its own lane, `"@NAME"`, for messages to this node alone. A sender numbers its envelopes on each lane from 1. A
transport keeps the order of a sender's envelopes on a lane, but may lose or repeat envelopes.
"""

from __future__ import annotations

from typing import Final

from channels.pubsub.adapter import LostEnvelopes

__all__ = ["ALL_NODES", "Arrivals", "Numbers", "lane_to"]

ALL_NODES: Final = "0"
"""The lane that every node reads."""

MAX_SENDERS = 10_000
"""The most senders that a node remembers, over all lanes. The node first forgets the sender that was silent longest."""

MAX_LANES = 1000
"""The most lanes of other nodes whose last number a node remembers.

The node first forgets the lane that it used longest ago.
"""


def lane_to(node: str) -> str:
    """Return the lane that only this node reads."""
    return f"@{node}"


class Numbers:
    """The last number that one sender used on each lane.

        >>> numbers = Numbers()
        >>> numbers.next(ALL_NODES), numbers.next(ALL_NODES), numbers.last()
        (1, 2, {'0': 2})

    Args:
        max_others: the number of lanes of single nodes to remember. In a long run, very many node names can come and
            go.

    A forgotten lane continues above the highest number of all forgotten lanes. The node that reads the lane may then
    report losses that did not happen, but never mistakes a message for a repetition.
    """

    __slots__ = ("_forgotten", "_last", "_max_others", "_others")

    def __init__(self, *, max_others: int = MAX_LANES) -> None:
        self._last = 0
        # In the order of their latest use.
        self._others: dict[str, int] = {}
        self._max_others = max_others
        self._forgotten = 0

    def next(self, lane: str) -> int:
        """Return the number for the next envelope on a lane."""
        if lane == ALL_NODES:
            self._last += 1
            return self._last
        number = self._others.pop(lane, self._forgotten) + 1
        if len(self._others) >= self._max_others:
            self._forgotten = max(self._forgotten, self._others.pop(next(iter(self._others))))
        self._others[lane] = number
        return number

    def take_back(self, lane: str) -> None:
        """Use the latest number of a lane again: its envelope was not sent."""
        if lane == ALL_NODES:
            self._last -= 1
        else:
            self._others[lane] -= 1

    def last(self) -> dict[str, int]:
        """Return the last number of each lane; 0 for a lane without an envelope."""
        return {ALL_NODES: self._last, **self._others}


class Arrivals:
    """The numbers of the envelopes that arrived. Finds gaps and repetitions.

        >>> arrivals = Arrivals()
        >>> arrivals.message("0", "a", "i", 7)
        >>> arrivals.message("0", "a", "i", 10)
        LostEnvelopes(lane='0', node='a', incarnation='i', first=8, last=9)
        >>> arrivals.message("0", "a", "i", 10)
        True

    Counting starts with the first envelope that arrives from a sender. Earlier envelopes are not reported as lost,
    because this node may not have run yet. A node sends a heartbeat when it starts, so that others count from its first
    message.
    """

    __slots__ = ("_last", "_max_senders")

    def __init__(self, max_senders: int = MAX_SENDERS) -> None:
        self._max_senders = max_senders
        self._last: dict[tuple[str, str, str], int] = {}

    def message(
        self, lane: str, node: str, incarnation: str, number: int
    ) -> LostEnvelopes | bool | None:
        """Note an envelope with a message. Deliver it unless the result is True.

        Returns:
            None for the next or the first envelope of a sender, True for a repetition, otherwise the gap before the
            envelope.
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
        return LostEnvelopes(lane, node, incarnation, last + 1, number - 1)

    def heartbeat(
        self, lane: str, node: str, incarnation: str, number: int
    ) -> LostEnvelopes | None:
        """Note the last number of a sender. Return the envelopes up to that number that did not arrive."""
        key = lane, node, incarnation
        # Remove the entry and add it at the end, to keep the table in the order of the latest heartbeats.
        last = self._last.pop(key, None)
        if last is None:
            self._add(key, number)
            return None
        self._last[key] = max(last, number)
        return LostEnvelopes(lane, node, incarnation, last + 1, number) if number > last else None

    def __len__(self) -> int:
        return len(self._last)

    def _add(self, key: tuple[str, str, str], number: int) -> None:
        while len(self._last) >= self._max_senders:
            del self._last[next(iter(self._last))]
        self._last[key] = number
