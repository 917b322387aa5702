"""One direction of a virtual connection: a queue of pieces of data, each with its time of arrival.

No task carries the bytes. A reader sleeps until the first piece is due. As with TCP, pieces keep their order and none
is lost: data that a fault holds up arrives when the fault is over.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import trio
from attrs import define

__all__ = ["Pipe", "Shape"]


@define
class Shape:
    """The properties of a connection.

    Attributes:
        latency: the least and the most seconds that a piece travels.
        segment: the most bytes in a piece.
        window: the most bytes in transit or unread.
        rate: bytes a second.
    """

    latency: tuple[float, float]
    segment: int
    window: int
    rate: float = math.inf


class Pipe:
    """The way from one end of a connection to the other.

    Args:
        shape: the properties, shared by both directions. They may change.
        stream: random numbers for latencies and sizes of pieces.
        cut: return whether a partition blocks the way now.
    """

    def __init__(self, shape: Shape, stream: Random, cut: Callable[[], bool]) -> None:
        self.shape = shape
        self.held = False
        self.broken: str | None = None
        # When the writer learns that the reading end was closed.
        self.reader_gone_at = math.inf
        # Called before something is sent.
        self.on_write: Callable[[], None] | None = None
        self._stream = stream
        self._cut = cut
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._last_due = 0.0
        self._line_free_at = 0.0
        self._ended = False
        self._readers: Any = trio.lowlevel.ParkingLot()
        self._writers: Any = trio.lowlevel.ParkingLot()

    @property
    def blocked(self) -> bool:
        """Return whether nothing arrives now."""
        return self.held or self._cut()

    @property
    def waiting(self) -> bool:
        """Return whether data is in transit or unread."""
        return bool(self._pieces)

    # Writing

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything. Wait for room in the window where necessary."""
        await trio.lowlevel.checkpoint()
        rest = bytes(data)
        if self.on_write is not None:
            self.on_write()
        while True:
            self._check_writable()
            room = self.shape.window - self._size
            if rest and room > 0:
                self._put(rest[:room])
                rest = rest[room:]
            if not rest:
                return
            await self._park_writer()

    async def writable(self) -> None:
        """Wait until there is room in the window."""
        await trio.lowlevel.checkpoint()
        while self._size >= self.shape.window and self.broken is None:
            await self._park_writer()

    def finish(self) -> None:
        """Send the end of the data."""
        if not self._ended and self.broken is None:
            self._ended = True
            self._pieces.append((self._due(0), b""))
            self._readers.unpark_all()

    def _check_writable(self) -> None:
        if self.broken is not None:
            raise trio.BrokenResourceError(self.broken)
        if self._ended:
            raise trio.ClosedResourceError("this stream was closed for writing")
        if trio.current_time() >= self.reader_gone_at and not self.blocked:
            raise trio.BrokenResourceError("the peer has closed the connection")

    async def _park_writer(self) -> None:
        with trio.CancelScope(deadline=self.reader_gone_at):
            await self._writers.park()

    def _put(self, data: bytes) -> None:
        segment = self.shape.segment
        self._size += len(data)
        while data:
            size = self._stream.randint((segment + 1) // 2, segment)
            piece, data = data[:size], data[size:]
            self._pieces.append((self._due(len(piece)), piece))
        self._readers.unpark_all()

    def _due(self, size: int) -> float:
        now = trio.current_time()
        self._line_free_at = max(now, self._line_free_at) + size / self.shape.rate
        arrival = self._line_free_at + self._stream.uniform(*self.shape.latency)
        self._last_due = due = max(self._last_due, arrival)
        return due

    # Reading

    async def read(self, max_bytes: int | None, closed: Callable[[], bool]) -> bytes:
        """Take the data that has arrived, or wait for some; `b""` is the end.

        Args:
            max_bytes: the most bytes to take; None takes all.
            closed: return whether the reading end was closed meanwhile.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if closed():
                raise trio.ClosedResourceError("this stream was closed")
            if self.broken is not None:
                raise trio.BrokenResourceError(self.broken)
            data = self._take(max_bytes)
            if data is not None:
                return data
            due = self._pieces[0][0] if self._pieces and not self.blocked else math.inf
            with trio.CancelScope(deadline=due):
                await self._readers.park()

    def _take(self, max_bytes: int | None) -> bytes | None:
        if self.blocked:
            return None
        now, pieces = trio.current_time(), self._pieces
        wanted = math.inf if max_bytes is None else max_bytes
        taken: list[bytes] = []
        while pieces and pieces[0][0] <= now and wanted > 0:
            due, piece = pieces[0]
            if not piece:
                # The end stays for every later read.
                break
            pieces.popleft()
            if len(piece) > wanted:
                pieces.appendleft((due, piece[int(wanted) :]))
                piece = piece[: int(wanted)]
            wanted -= len(piece)
            taken.append(piece)
        if taken:
            data = b"".join(taken)
            self._size -= len(data)
            self._writers.unpark_all()
            return data
        return b"" if pieces and pieces[0][0] <= now else None

    # Faults and the other end

    def wake(self) -> None:
        """Wake both ends after a change."""
        self._readers.unpark_all()
        self._writers.unpark_all()

    def go_on(self) -> None:
        """Go on after a hold. Data that was due meanwhile is sent again, with a new latency."""
        now = trio.current_time()
        if self._pieces and self._pieces[0][0] <= now:
            least = now + self._stream.uniform(*self.shape.latency)
            self._pieces = deque((max(due, least), piece) for due, piece in self._pieces)
            self._last_due = max(self._last_due, least)
        self.wake()

    def break_off(self, why: str) -> None:
        """Reset: data in transit is lost, and both ends fail."""
        self.broken = why
        self._pieces.clear()
        self.wake()

    def reader_gone(self) -> None:
        """Tell the writer, after a latency, that the reading end was closed."""
        latency = self._stream.uniform(*self.shape.latency)
        self.reader_gone_at = min(self.reader_gone_at, trio.current_time() + latency)
        self.wake()
