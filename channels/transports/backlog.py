"""The limit on the bytes that an endpoint keeps for all its clients together, in one direction.

*pure*. An endpoint has a backlog for each direction. On the way out, the out-buffer of a client that is behind reserves
bytes. On the way in, each incomplete message reserves bytes. Beyond the limit, the backlog gives up only the clients
with the most bytes.

    OutBuffer ── add, grow, remove ──▶ Backlog ── shed ──▶ the largest OutBuffers ── Signal.SHED ──▶ their connections
    Connection, Bodies ── replace ───▶ Backlog ── shed ──▶ the largest messages ── Signal.INCOMING_SHED ──▶ 1013, or 503
"""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

__all__ = ["Backlog", "BacklogStatistics", "Buffer"]

# The fewest bytes of a client for which it is worthwhile to close the client when the memory has run out.
_WORTHWHILE = 64 * 1024


class Buffer(Protocol):
    """The members of an `OutBuffer`, of a connection or of a request body that a backlog uses."""

    reserved: int

    def shed(self) -> bool:
        """Drop the bytes, and close the client. Return False if the client was closing already."""


@frozen(kw_only=True)
class BacklogStatistics:
    """A snapshot of a backlog.

    Attributes:
        behind: the number of out-buffers whose clients are behind, or of clients whose messages are incomplete.
        waiting_bytes: the number of bytes that they have reserved. At most this many bytes wait in them.
        shed: the number of clients that the backlog has given up so far.
    """

    behind: int
    waiting_bytes: int
    shed: int


class Backlog:
    """The total of the bytes that an endpoint keeps for its clients in one direction, and its limit.

        >>> from channels.transports.out_buffer import Flusher, OutBuffer
        >>> backlog = Backlog(max_bytes=100)
        >>> slow = OutBuffer(Flusher(spawn=print), tell=print, backlog=backlog)
        >>> slow.hold(b"x" * 101)
        Signal.SHED

    Beyond the limit, the backlog gives up the clients with the most waiting bytes, until a sixteenth of the limit is
    free. It drops their waiting frames at once, and each buffer reports `Signal.SHED`. The bytes of a started write
    stay, because a client cannot read half a frame. So started writes alone may exceed the limit, until their
    connections have closed.

    Args:
        max_bytes: the maximum number of bytes.

    Attributes:
        waiting_bytes: see `BacklogStatistics`.
    """

    __slots__ = ("_behind", "_given_up", "_max_bytes", "_shed", "waiting_bytes")

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # A dict and not a set, because the order of a set differs from run to run.
        self._behind: dict[Buffer, None] = {}
        # Buffers that have dropped all that they can. Their last bytes count, but shedding them again frees nothing.
        self._given_up: dict[Buffer, None] = {}
        self._shed = 0
        self.waiting_bytes = 0

    def statistics(self) -> BacklogStatistics:
        """Return a snapshot of the backlog."""
        return BacklogStatistics(
            behind=len(self._behind) + len(self._given_up),
            waiting_bytes=self.waiting_bytes,
            shed=self._shed,
        )

    def add(self, out: Buffer, size: int) -> None:
        """Add a buffer whose client has fallen behind.

        Args:
            out: the buffer.
            size: the number of bytes that the buffer has reserved.
        """
        self._behind[out] = None
        self.grow(size)

    def keep(self, out: Buffer, size: int) -> None:
        """Add a buffer that has been shed, with the bytes that stay in it. This does not check the limit."""
        self._given_up[out] = None
        self.adjust(size)

    def remove(self, out: Buffer) -> None:
        """Remove a buffer whose client has caught up or has gone. You may call it twice."""
        for buffers in (self._behind, self._given_up):
            if out in buffers:
                del buffers[out]
                self.waiting_bytes -= out.reserved

    def adjust(self, size: int) -> None:
        """Add `size` bytes to the reservation of a buffer, without a check of the limit. `size` may be negative."""
        self.waiting_bytes += size

    def grow(self, size: int) -> None:
        """Count further bytes that a buffer has reserved. This may give up clients, even the client of that buffer."""
        self.waiting_bytes += size
        if self.waiting_bytes > self._max_bytes:
            self._make_room()

    def replace(self, out: Buffer, size: int) -> None:
        """Count `size` bytes for a buffer, in place of the bytes that counted before. This may give up clients."""
        self.remove(out)
        out.reserved = size
        if size:
            self.add(out, size)

    def has_room(self, size: int) -> bool:
        """Return True if `size` further bytes fit without giving up a client."""
        return self.waiting_bytes + size <= self._max_bytes

    def relieve(self) -> bool:
        """Give up the clients with the most bytes, until a quarter of all bytes is free. The memory has run out.

        This keeps clients with less than 64 KiB: to close them would free too little for the next read of a socket.

        Returns:
            False if no client has so many bytes to give up.
        """
        before = self._shed
        enough = self.waiting_bytes - (self.waiting_bytes >> 2) - 1
        self._shed_down_to(enough, smallest=_WORTHWHILE)
        return self._shed > before

    def _make_room(self) -> None:
        # Free more than necessary, so that this search is rare. It sorts all clients that are behind.
        self._shed_down_to(self._max_bytes - (self._max_bytes >> 4))

    def _shed_down_to(self, enough: int, *, smallest: int = 0) -> None:
        for out in sorted(self._behind, key=_reserved_bytes, reverse=True):
            if self.waiting_bytes <= enough or out.reserved < smallest:
                return
            if out.shed():
                self._shed += 1


def _reserved_bytes(out: Buffer) -> int:
    return out.reserved
