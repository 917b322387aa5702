"""One task that reads for all plain sockets.

Waiting for a socket in Trio's way costs a system call, a task switch and bookkeeping for each message. The poller
registers each socket once with an epoll object of its own, level-triggered, and Trio waits for the file descriptor of
that object: epoll objects nest. A turn then costs two system calls, plus one for each socket with data.

    poller = Poller()
    spawn_link(poller.main)
    reading = poller.register(sock, on_data)      # sock: connected and non-blocking
    ...
    reading.stop()                                # before sock.close()

The task that runs `main` calls `on_data` with:

- `bytes`: at most 64 KiB, and at most once a turn, so one busy peer cannot hold up the others;
- `b""`: once, when the peer ends its stream. The poller reads the socket no further;
- `OSError`: once, when reading fails. The poller reads the socket no further.

Exceptions and limits:

- Between `pause` and `resume`, and after `stop`, the poller does not call `on_data`. If the peer of a paused socket
  leaves, the poller reads the rest of the stream to its end, because the owner must know. It cannot notice this when
  so much is unread that the peer could not send its end.
- If there is no memory for a read, the poller skips it and reads all sockets again after a tenth of a second.
- If `on_data` runs out of memory, the poller gives up that socket with an error and reads on.
- If `on_data` raises anything else, `main` forgets the socket and ends with that exception. The sockets are kept in
  this object, so `main` can be run again and the other sockets have lost nothing.

Only Linux has epoll. On other platforms use a `Pump` (`channels.transports.stream_transport`), which makes the same
promises with one task for each socket.
"""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable

import trio
from attrs import frozen

from channels.transports.contract import OnData

__all__ = ["OnOutOfMemory", "Poller", "PollerStatistics", "Reading"]

OnOutOfMemory = Callable[[int], object]
"""Take a number of reads. Must not block; the result is ignored."""

_READ_SIZE = 65536
# Sockets read before other tasks run: about two milliseconds, at five microseconds each. The kernel reports the rest
# first in the next turn.
_TURN = 512
# Bytes read before other tasks run: copying them takes a millisecond.
_TURN_BYTES = 4 * 1024 * 1024
# Seconds to wait when memory has run out, so that connections can end.
_PAUSE = 0.1
# The events to ask the kernel for. It always reports broken and fully closed connections. Only Linux has these names.
_READABLE: int = getattr(select, "EPOLLIN", 0)
_GONE: int = (
    getattr(select, "EPOLLRDHUP", 0)
    | getattr(select, "EPOLLHUP", 0)
    | getattr(select, "EPOLLERR", 0)
)


_LOST = ConnectionAbortedError("the server ran out of memory for data from the peer")


def _ignore(_: object) -> None:
    pass


def _report_lost_data(on_data: OnData) -> None:
    try:
        on_data(_LOST)
    except MemoryError:
        # The idle timeout will end the connection.
        pass


@frozen(kw_only=True)
class PollerStatistics:
    """A snapshot of a poller.

    Attributes:
        sockets: registered sockets that have not ended, including paused ones.
        turns: turns since the poller was made.
        reads: sockets read since the poller was made.
        out_of_memory: reads for which there was no memory.
    """

    sockets: int
    turns: int
    reads: int
    out_of_memory: int


class Reading:
    """One socket that a poller reads. Use `Poller.register`."""

    __slots__ = ("_on_data", "_paused", "_poller", "_recv", "ended", "fd")

    def __init__(self, poller: Poller, sock: socket.socket, on_data: OnData) -> None:
        self.fd = sock.fileno()
        self.ended = False
        """True once the end of the stream or an error was delivered, or `stop` was called."""
        self._recv = sock.recv
        self._on_data = on_data
        self._poller = poller
        self._paused = False

    def pause(self) -> None:
        """Leave what the peer sends in the kernel, unless the peer leaves. Its sends block after a while."""
        if not self._paused and not self.ended:
            self._paused = True
            self._poller.change(self, _GONE)

    def resume(self) -> None:
        """Read again after `pause`."""
        if self._paused and not self.ended:
            self._paused = False
            self._poller.change(self, _READABLE)

    def redirect(self, on_data: OnData) -> None:
        """Call `on_data` from now on, instead of the callable given to `register`."""
        if not self.ended:
            self._on_data = on_data

    def stop(self) -> None:
        """Forget the socket. Call this before the socket is closed; may be called twice."""
        if not self.ended:
            self.ended = True
            self._on_data = _ignore  # break the reference cycle
            self._poller.forget(self)

    def read(self, event: int) -> int:
        """Read once and deliver the data. The poller calls this when the socket is readable or its peer has left.

        Returns:
            The number of bytes read.
        """
        if self._paused:
            if not event & _GONE:
                # Another socket of this turn has just led to the pause.
                return 0
            self.resume()
        on_data = self._on_data
        data: bytes | OSError
        try:
            data = self._recv(_READ_SIZE)
        except BlockingIOError:
            # Readiness is a hint: the kernel may have dropped the data, or a new socket may have the number of one that
            # was just closed.
            return 0
        except MemoryError:
            # Nothing was read or lost; the kernel reports this socket again.
            self._poller.note_out_of_memory()
            return 0
        except OSError as error:
            data = error
        size = 0 if isinstance(data, OSError) else len(data)
        if not size:
            self.stop()
        try:
            on_data(data)
        except MemoryError:
            self.stop()
            self._poller.note_out_of_memory()
            _report_lost_data(on_data)
        except BaseException:
            # The data is lost, so the rest of this stream is useless.
            self.stop()
            raise
        return size


class Poller:
    """Read plain sockets, all in one task.

        >>> async def example(nursery: trio.Nursery, sock: socket.socket) -> None:
        ...     poller = Poller()
        ...     nursery.start_soon(poller.main)
        ...     poller.register(sock, print)

    Attributes:
        on_out_of_memory: may be set. Called after a turn in which memory ran out, with the number of reads. Must not
            block.

    Raises:
        RuntimeError: the platform has no epoll; ask `Poller.is_supported()` first.
    """

    def __init__(self) -> None:
        if not self.is_supported():
            raise RuntimeError("this platform has no epoll; read each socket with a Pump instead")
        self._epoll = select.epoll()
        self._readings: dict[int, Reading] = {}
        self._running = False
        self._turns = self._reads = self._out_of_memory = 0
        # Reported sockets that the last turn had no room for. The kernel would not report them first.
        self._late: list[tuple[int, int]] = []
        self.on_out_of_memory: OnOutOfMemory = _ignore

    @staticmethod
    def is_supported() -> bool:
        """Return True if this platform has epoll."""
        return sys.platform == "linux"

    def register(self, sock: socket.socket, on_data: OnData) -> Reading:
        """Start to read `sock`.

        Args:
            sock: connected and non-blocking. The caller keeps it and closes it after `stop`.
            on_data: takes what is read; see the module's description.

        Raises:
            OSError: the kernel cannot watch the socket.
        """
        reading = Reading(self, sock, on_data)
        self._epoll.register(reading.fd, _READABLE)
        # A socket closed without stop() leaves its entry here; the kernel may have given its number to this one.
        self._readings[reading.fd] = reading
        return reading

    def change(self, reading: Reading, events: int) -> None:
        """Change the events that the kernel reports for a socket. `Reading` calls this."""
        if self._readings.get(reading.fd) is reading:
            try:
                self._epoll.modify(reading.fd, events)
            except OSError:
                # The socket was closed first, so the kernel has forgotten it.
                pass

    def forget(self, reading: Reading) -> None:
        """Remove the socket. `Reading` calls this."""
        if self._readings.get(reading.fd) is reading:
            del self._readings[reading.fd]
            try:
                self._epoll.unregister(reading.fd)
            except OSError:
                # The socket was closed first, so the kernel has forgotten it.
                pass

    def statistics(self) -> PollerStatistics:
        """Return how many sockets are read and what was done so far."""
        return PollerStatistics(
            sockets=len(self._readings),
            turns=self._turns,
            reads=self._reads,
            out_of_memory=self._out_of_memory,
        )

    def note_out_of_memory(self) -> None:
        """Count a read for which there was no memory. `Reading` calls this."""
        self._out_of_memory += 1

    def close(self) -> None:
        """Forget all sockets and close the epoll object. `main` must have ended."""
        for reading in list(self._readings.values()):
            reading.stop()
        self._epoll.close()

    async def main(self) -> None:
        """Read, turn by turn, until cancelled. Raises what `on_data` raises.

        Raises:
            trio.BusyResourceError: `main` runs already.
        """
        if self._running:
            raise trio.BusyResourceError("this poller runs already; run `main` once at a time")
        self._running = True
        fd = self._epoll.fileno()
        try:
            while True:
                if self._late:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(fd)
                before = self._out_of_memory
                self._turn()
                if self._out_of_memory > before:
                    self._report(self._out_of_memory - before)
                    await trio.sleep(_PAUSE)
        finally:
            self._running = False

    def _report(self, reads: int) -> None:
        try:
            self.on_out_of_memory(reads)
        except MemoryError:
            # The loss is counted; the next turn may have the memory to report it.
            pass

    def _turn(self) -> None:
        readings = self._readings
        events, self._late = self._late, []
        if not events:
            try:
                events = self._epoll.poll(0, _TURN)
            except MemoryError:
                self.note_out_of_memory()
                return
        self._turns += 1
        room = _TURN_BYTES
        for place, (fd, event) in enumerate(events):
            if room <= 0:
                self._late = events[place:]
                break
            self._reads += 1
            reading = readings.get(fd)
            if reading is not None:
                room -= reading.read(event)
