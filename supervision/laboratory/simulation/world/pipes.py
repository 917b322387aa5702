"""One direction of a virtual connection: a queue of pieces of data, each with its time of arrival.

No task transports the bytes. A reader sleeps until the first piece is due. As in TCP, pieces keep their order and no
piece is lost. Data that a fault blocks arrives after the fault.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import trio
from attrs import define

from supervision.laboratory.simulation.world.clock import Alarm, VirtualClock

__all__ = ["Pipe", "Shape"]


@define
class Shape:
    """The properties of a connection.

    Attributes:
        latency: the least and the greatest time that a piece travels, in seconds.
        segment: the maximal size of a piece in bytes.
        window: the most bytes in transit or unread.
        rate: the most bytes per second.
    """

    latency: tuple[float, float]
    segment: int
    window: int
    rate: float = math.inf


class Pipe:
    """One direction of a connection.

    Args:
        shape: the properties, which both directions share. They may change.
        stream: random numbers for latencies and sizes of pieces.
        cut: returns True if a partition now blocks this direction.
    """

    def __init__(self, shape: Shape, stream: Random, cut: Callable[[], bool]) -> None:
        self.shape = shape
        self.held = False
        self.broken: str | None = None
        # The time when the writer learns that the reading end is closed.
        self.reader_gone_at = math.inf
        # Called before each write.
        self.on_write: Callable[[], None] | None = None
        self._stream = stream
        self._cut = cut
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._last_due = 0.0
        self._line_free_at = 0.0
        self._ended = False
        self._readers: Any = trio.lowlevel.ParkingLot()
        self._alarm: Alarm | None = None
        self._writers: Any = trio.lowlevel.ParkingLot()

    @property
    def blocked(self) -> bool:
        """True if a fault blocks all data now."""
        return self.held or self._cut()

    @property
    def waiting(self) -> bool:
        """True if data is in transit or unread."""
        return bool(self._pieces)

    # Writing

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of the data. Wait for room in the window if necessary."""
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
        while self._size >= self.shape.window and self.broken is None and not self._reader_is_gone:
            await self._park_writer()

    def finish(self) -> None:
        """Send the end of the data."""
        if not self._ended and self.broken is None:
            self._ended = True
            self._pieces.append((self._due(0, trio.current_time()), b""))
            if len(self._pieces) == 1:
                self._first_piece_is_here()

    def _check_writable(self) -> None:
        if self.broken is not None:
            raise trio.BrokenResourceError(self.broken)
        if self._ended:
            raise trio.ClosedResourceError("this stream was closed for writing")
        if self._reader_is_gone:
            raise trio.BrokenResourceError("the peer has closed the connection")

    @property
    def _reader_is_gone(self) -> bool:
        """True if the writer knows that the reading end is closed."""
        return trio.current_time() >= self.reader_gone_at and not self.blocked

    async def _park_writer(self) -> None:
        # While a fault blocks this direction, the writer does not learn that the reader is gone. `go_on` wakes the
        # writer after the fault.
        with trio.CancelScope(deadline=math.inf if self.blocked else self.reader_gone_at):
            await self._writers.park()

    def _put(self, data: bytes) -> None:
        most = self.shape.segment
        least = (most + 1) // 2
        now, start = trio.current_time(), 0
        was_empty = not self._pieces
        self._size += len(data)
        while start < len(data):
            piece = data[start : start + self._stream.randint(least, most)]
            start += len(piece)
            self._pieces.append((self._due(len(piece), now), piece))
        if was_empty:
            self._first_piece_is_here()

    def _due(self, size: int, now: float) -> float:
        self._line_free_at = max(now, self._line_free_at) + size / self.shape.rate
        arrival = self._line_free_at + self._stream.uniform(*self.shape.latency)
        self._last_due = due = max(self._last_due, arrival)
        return due

    # Reading

    async def read(self, max_bytes: int | None, closed: Callable[[], bool]) -> bytes:
        """Wait for data, and return it; `b""` is the end.

        Args:
            max_bytes: the most bytes to return; None returns everything that has arrived.
            closed: returns True once the reading end is closed.
        """
        # Use no full checkpoint here. A read that waits must take one step of its task, as a read of a socket does.
        await trio.lowlevel.checkpoint_if_cancelled()
        has_waited = False
        while True:
            if closed():
                raise trio.ClosedResourceError("this stream was closed")
            if self.broken is not None:
                raise trio.BrokenResourceError(self.broken)
            data = self._take(max_bytes)
            if data is not None:
                if not has_waited:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                return data
            await self._park_reader()
            has_waited = True

    async def _park_reader(self) -> None:
        """Wait until the first piece is due, or until a call of `_wake_reader`."""
        due = self._pieces[0][0] if self._pieces and not self.blocked else math.inf
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, VirtualClock):
            with trio.CancelScope(deadline=due):
                await self._readers.park()
            return
        self._alarm = clock.alarm(due)
        try:
            await self._alarm.wait()
        finally:
            self._alarm = None

    def _wake_reader(self) -> None:
        """Wake the reader now, so that it looks at this pipe again."""
        self._readers.unpark_all()
        if self._alarm is not None:
            self._alarm.wake()

    def _first_piece_is_here(self) -> None:
        """Wake the reader when the first piece is due, so that it looks at this pipe again."""
        if self._alarm is None:
            self._readers.unpark_all()
        elif not self.blocked:
            self._alarm.set(self._pieces[0][0])

    def _take(self, max_bytes: int | None) -> bytes | None:
        if self.blocked:
            return None
        now, pieces = trio.current_time(), self._pieces
        wanted = math.inf if max_bytes is None else max_bytes
        taken: list[bytes] = []
        while pieces and pieces[0][0] <= now and wanted > 0:
            due, piece = pieces[0]
            if not piece:
                # This empty piece marks the end. It stays in the queue for later reads.
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
        """Wake the waiting reader and the waiting writers after a change."""
        self._wake_reader()
        self._writers.unpark_all()

    def go_on(self) -> None:
        """Continue after a hold. Overdue data gets a new latency, as if it were sent again."""
        now = trio.current_time()
        if self._pieces and self._pieces[0][0] <= now:
            least = now + self._stream.uniform(*self.shape.latency)
            self._pieces = deque((max(due, least), piece) for due, piece in self._pieces)
            self._last_due = max(self._last_due, least)
        self.wake()

    def break_off(self, why: str) -> None:
        """Reset the connection: data in transit is lost, and both ends fail."""
        self.broken = why
        self._pieces.clear()
        self.wake()

    def reader_gone(self) -> None:
        """Tell the writer, after a latency, that the reading end is closed."""
        latency = self._stream.uniform(*self.shape.latency)
        self.reader_gone_at = min(self.reader_gone_at, trio.current_time() + latency)
        self.wake()
