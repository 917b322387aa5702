"""The outbox of a publishing connection: commands that wait to be sent, bounded in bytes and in time.

*pure*: the time is an argument. While the server is away or slow, messages wait here for a short time. A message that
does not fit, or has waited too long, is dropped and counted: messages of a live system are of no use when they are
late, and memory is limited.
"""

from __future__ import annotations

from collections import deque
from typing import final

__all__ = ["Outbox"]


@final
class Outbox:
    """Commands that wait to be sent, oldest first.

        >>> outbox = Outbox(max_bytes=10, max_seconds=1.0)
        >>> outbox.put(b"123456", now=0.0), outbox.put(b"7890123", now=0.5)
        (True, False)
        >>> outbox.take(2.0, 100), outbox.too_many, outbox.too_late
        ([], 1, 1)

    Args:
        max_bytes: the largest total size of the waiting commands. A single command may exceed it.
        max_seconds: the time that a command may wait.

    Attributes:
        size: bytes that wait.
        too_many: commands that were refused because `max_bytes` waited, without those that are not `counted`.
        too_late: commands that were dropped after `max_seconds`, without those that are not `counted`.
    """

    __slots__ = ("_max_bytes", "_max_seconds", "_waiting", "size", "too_late", "too_many")

    def __init__(self, *, max_bytes: int, max_seconds: float) -> None:
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._waiting: deque[tuple[float, bytes, bool]] = deque()
        self.size = 0
        self.too_many = 0
        self.too_late = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, command: bytes, now: float, *, counted: bool = True) -> bool:
        """Add a command. Return False if there is no room for it. If `counted`, `too_many` then grows by 1."""
        size = len(command)
        if self._waiting and self.size + size > self._max_bytes:
            self.expire(now)
            if self._waiting and self.size + size > self._max_bytes:
                self.too_many += counted
                return False
        self._waiting.append((now, command, counted))
        self.size += size
        return True

    def take(self, now: float, max_bytes: int) -> list[bytes]:
        """Remove and return the oldest commands that are not too late: up to `max_bytes`, but at least one."""
        self.expire(now)
        taken: list[bytes] = []
        size = 0
        while self._waiting:
            command = self._waiting[0][1]
            if taken and size + len(command) > max_bytes:
                break
            self._waiting.popleft()
            taken.append(command)
            size += len(command)
        self.size -= size
        return taken

    def expire(self, now: float) -> None:
        """Drop the commands that have waited too long, and count them."""
        oldest = now - self._max_seconds
        while self._waiting and self._waiting[0][0] < oldest:
            _, command, counted = self._waiting.popleft()
            self.size -= len(command)
            self.too_late += counted
