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
"""The largest number of events in one summary."""
_FORGET = 60.0


def summary(
    nodes: Nodes, point: Record, events: list[Record], *, program: float, asks: bool
) -> dict[str, Any]:
    """Return the message of one node to the other nodes.

    Args:
        nodes: the other nodes, as this node knows them.
        point: the figures of this node.
        events: its events since the last message.
        program: the start of its program. After a restart, its events have numbers from 1 again.
        asks: True if a page watches on this node.
    """
    names = ("n", "t", "kind", "text")
    told = [{name: event[name] for name in names} for event in events[-MAX_EVENTS:]]
    about = {"node": nodes.name, "point": point, "events": told, "program": program, "asks": asks}
    # A node that nobody has watched for a while then sends its events since the last known one.
    return {**about, "known": dict(nodes.known)} if asks else about


class Nodes:
    """The last figures of the other nodes.

    Args:
        name: the name of this node.
        known: the attribute, which may be kept for a later object.

    Attributes:
        wanted_until: the time until which another node wants summaries, on the clock of the caller.
        known: for each node, the start of its program and the number of its last event that a page could show.
    """

    def __init__(self, name: str, known: dict[str, tuple[float, int]]) -> None:
        self.name = name
        self.wanted_until = 0.0
        self.known = known
        self._heard: dict[str, tuple[float, Record]] = {}

    def hear(self, message: Any, now: float, *, watched: bool) -> list[Record]:
        """Take a message from another node, and return its new events. Ignore all other messages.

        Args:
            message: the message.
            now: the time, on any clock that does not go back.
            watched: True if a page watches on this node. Otherwise return no events, so that they stay new.
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
        if not watched:
            return []
        program = _number(message.get("program"))
        before, last = self.known.pop(node, (program, 0))
        last = last if before == program else 0
        found = []
        for event in (events if isinstance(events, list) else [])[:MAX_EVENTS]:
            if not isinstance(event, dict) or _number(event.get("n")) <= last:
                continue
            last = int(event["n"])
            about = {"t": _number(event.get("t")), "node": node, "from": event.get("kind")}
            found.append({**about, "words": str(event.get("text"))[:500]})
        self.known[node] = program, last
        if len(self.known) > MAX_NODES:
            del self.known[next(iter(self.known))]
        return found

    def known_of(self, message: Any, program: float) -> int | None:
        """Return the number of the last event of this node that a node with a page knows; None if it does not ask."""
        if not isinstance(message, Mapping) or message.get("asks") is not True:
            return None
        known = message.get("known")
        entry = known.get(self.name) if isinstance(known, Mapping) else None
        if not isinstance(entry, list | tuple) or len(entry) != 2 or entry[0] != program:
            return 0
        return int(_number(entry[1]))

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


def _number(value: object) -> float:
    """Return a number of a message; 0.0 for anything else."""
    return value if isinstance(value, int | float) else 0.0
