"""Summaries of other nodes. Observers exchange summaries while a page watches on one of the nodes.

*pure*. The name of the observers' topic depends on their common secret, so that nobody else can guess the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from channels.observer.memory import Record

__all__ = ["MAX_NODES", "WANTED_SECONDS", "Nodes", "summary"]

MAX_NODES: Final = 64
WANTED_SECONDS: Final = 5.0
"""The time for which an observer sends summaries after the last request of another node."""
MAX_EVENTS: Final = 100
"""The largest number of events in one summary. The first summary after a pause has those that happened in the pause."""
_FORGET = 60.0


def summary(node: str, point: Record, events: list[Record], *, asks: bool) -> dict[str, Any]:
    """Return the message of one node to the other nodes.

    Args:
        node: the name of the node.
        point: its figures.
        events: its events since the last message.
        asks: True if a page watches on this node.
    """
    texts = [
        {name: event[name] for name in ("t", "kind", "text")} for event in events[-MAX_EVENTS:]
    ]
    return {"node": node, "point": point, "events": texts, "asks": asks}


class Nodes:
    """The last figures of the other nodes.

    Attributes:
        wanted_until: the time until which another node wants summaries, on the clock of the caller.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.wanted_until = 0.0
        self._heard: dict[str, tuple[float, Record]] = {}

    def hear(self, message: Any, now: float) -> list[Record]:
        """Take a message from another node, and return its events. Ignore all other messages.

        Args:
            message: the message.
            now: the time, on any clock that does not go back.
        """
        if not isinstance(message, Mapping):
            return []
        node, point, events = (message.get(name) for name in ("node", "point", "events"))
        if not isinstance(node, str) or node == self.name or not isinstance(point, dict):
            return []
        if node not in self._heard and len(self._heard) >= MAX_NODES:
            return []
        if message.get("asks") is True:
            self.wanted_until = now + WANTED_SECONDS
        self._heard[node] = (now, point)
        return [
            {**event, "node": node, "words": str(event.get("text"))[:500]}
            for event in (events if isinstance(events, list) else [])[:MAX_EVENTS]
            if isinstance(event, dict) and isinstance(event.get("t"), float)
        ]

    def rows(self, own: Record, now: float) -> list[Record]:
        """Return the figures of all nodes by name, with this node; empty if there is no other node.

        `silent` is the number of seconds since the last message of a node. The observer forgets a node after a minute.
        """
        for node, (heard, _) in list(self._heard.items()):
            if now - heard > _FORGET:
                del self._heard[node]
        if not self._heard:
            return []
        rows = [
            {"node": node, "silent": round(now - heard, 1), **point}
            for node, (heard, point) in self._heard.items()
        ]
        rows.append({"node": self.name, "silent": 0.0, "own": True, **own})
        return sorted(rows, key=lambda row: str(row["node"]))
