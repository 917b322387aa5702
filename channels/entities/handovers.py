"""The parts of handovers, on their way to and from other nodes. *pure*: the time is an argument."""

from __future__ import annotations

from collections import deque

import msgspec
from attrs import define, field
from msgspec.structs import replace

from channels.entities.codec import CannotTravel
from channels.entities.messages import Handover
from channels.pubsub.adapter import Node

__all__ = ["Departures", "Handovers", "parts_of"]

PART = 256 * 1024
"""Bytes in one part. Its JSON text fits into an envelope between nodes."""

MAX_DONE = 10_000
"""The most complete handovers that a node remembers, so that a repeated part does not begin a handover again; and the
most handovers that it remembers because they come too late."""


def parts_of(key: str, fence: int, data: bytes) -> list[Handover]:
    """Split the bytes of a handover."""
    count = max(1, -(-len(data) // PART))
    return [
        Handover(
            key=key,
            fence=fence,
            part=each,
            parts=count,
            data=data[each * PART : (each + 1) * PART],
        )
        for each in range(count)
    ]


@define(eq=False)
class _Line:
    """The parts on their way to one node.

    Attributes:
        small: the parts that have not left, of handovers with one part.
        large: those of larger handovers.
        travelling: the size of each part that travels, by its key, fence and number.
    """

    small: deque[Handover] = field(factory=deque)
    large: deque[Handover] = field(factory=deque)
    travelling: dict[tuple[str, int, int], int] = field(factory=dict)

    @property
    def size(self) -> int:
        return sum(self.travelling.values())


class Departures:
    """The handovers that leave one node.

    Parts of `PART` bytes together travel to a node at a time, and twice as many to all nodes, because the lines between
    nodes drop what exceeds their bounds. The others follow when the parts before them have arrived. A handover of one
    part waits for no more than one part of a larger one. The larger ones leave one after another, because they would
    all be late together if they took turns.
    """

    def __init__(self) -> None:
        self._lines: dict[Node, _Line] = {}

    def add(self, to: Node, key: str, fence: int, data: bytes) -> None:
        """Let a handover wait until its parts may travel."""
        parts = parts_of(key, fence, data)
        line = self._lines.setdefault(to, _Line())
        (line.small if len(parts) == 1 else line.large).extend(parts)

    def arrived(self, key: str, fence: int, part: int) -> None:
        """Take note that a part has arrived."""
        for line in self._lines.values():
            line.travelling.pop((key, fence, part), None)
        self._forget_empty()

    def drop(self, key: str, fence: int) -> None:
        """Send no more of a handover, and wait for no part of it."""
        for line in self._lines.values():
            for queue in (line.small, line.large):
                kept = [each for each in queue if (each.key, each.fence) != (key, fence)]
                queue.clear()
                queue.extend(kept)
            for each in [each for each in line.travelling if each[:2] == (key, fence)]:
                del line.travelling[each]
        self._forget_empty()

    def waits(self, key: str, fence: int) -> bool:
        """Return True if a part of a handover waits for its turn."""
        return any(
            (each.key, each.fence) == (key, fence)
            for line in self._lines.values()
            for each in (*line.small, *line.large)
        )

    def _forget_empty(self) -> None:
        lines = self._lines.items()
        self._lines = {
            to: each for to, each in lines if each.small or each.large or each.travelling
        }

    @property
    def has_waiting(self) -> bool:
        """True if a part waits for its turn."""
        return any(each.small or each.large for each in self._lines.values())

    def take(self) -> list[tuple[Node, Handover]]:
        """Return the parts that may travel now, with their nodes. From now on they travel."""
        taken: list[tuple[Node, Handover]] = []
        total = sum(each.size for each in self._lines.values())
        for to, line in list(self._lines.items()):
            while queue := line.small or line.large:
                size = len(queue[0].data)
                if (line.travelling and line.size + size > PART) or total + size > 2 * PART:
                    break
                part = queue.popleft()
                line.travelling[part.key, part.fence, part.part] = size
                total += size
                taken.append((to, replace(part, more=bool(line.small or line.large))))
                # The next time, the other nodes come first.
                self._lines[to] = self._lines.pop(to)
        return taken


class _Assembly(msgspec.Struct):
    """The parts of a handover that have arrived, and the time of the latest one."""

    parts: dict[int, bytes]
    latest: float


class Handovers:
    """The handovers that arrive at one node.

    Args:
        max_bytes: the most bytes of one handover.
    """

    def __init__(self, max_bytes: int) -> None:
        # One more, because the limit does not count the frame around the state.
        self._max_parts = max_bytes // PART + 2
        self._assemblies: dict[tuple[Node, str, int], _Assembly] = {}
        self._done: dict[tuple[Node, str, int], None] = {}
        self._given_up: dict[tuple[str, int], None] = {}

    def collect(self, sender: Node, part: Handover, now: float) -> bytes | None:
        """Take a part. Return all bytes of its handover if it is complete now, and None otherwise.

        Raises:
            CannotTravel: the part does not fit to its handover, or the handover is too large.
        """
        handover = sender, part.key, part.fence
        if handover in self._done or (part.parts > 1 and self.is_given_up(part.key, part.fence)):
            return None
        if not 0 <= part.part < part.parts <= self._max_parts or len(part.data) > PART:
            raise CannotTravel(
                f"part {part.part} of {part.parts} with {len(part.data)} bytes; max_handover_bytes allows "
                f"{self._max_parts} parts"
            )
        assembly = self._assemblies.setdefault(handover, _Assembly({}, now))
        assembly.parts[part.part], assembly.latest = part.data, now
        if len(assembly.parts) < part.parts:
            return None
        del self._assemblies[handover]
        self._done[handover] = None
        if len(self._done) > MAX_DONE:
            del self._done[next(iter(self._done))]
        return b"".join(assembly.parts[each] for each in sorted(assembly.parts))

    def give_up(self, key: str, fence: int) -> None:
        """Take note that a key has started without its handover, and drop the parts that are here."""
        for each in [each for each in self._assemblies if each[1:] == (key, fence)]:
            del self._assemblies[each]
        self._given_up[key, fence] = None
        if len(self._given_up) > MAX_DONE:
            del self._given_up[next(iter(self._given_up))]

    def is_given_up(self, key: str, fence: int) -> bool:
        """Return True if a key has started without this handover."""
        return (key, fence) in self._given_up

    def senders(self, since: float) -> list[Node]:
        """Return the nodes of the handovers that are not complete, and of which a part has come since a time."""
        return [key[0] for key, each in self._assemblies.items() if each.latest >= since]

    def forget_old(self, before: float) -> None:
        """Drop the incomplete handovers whose latest part came before a time."""
        for key in [key for key, each in self._assemblies.items() if each.latest < before]:
            del self._assemblies[key]
