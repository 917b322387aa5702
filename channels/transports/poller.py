"""The poller, one task that reads from all plain sockets.

With a task for each socket, each message would cost Trio a system call, a task switch and bookkeeping. The poller
instead registers each socket once with its own epoll object, level-triggered. An epoll object has a file descriptor, so
Trio can wait for it as for a socket. A turn costs two system calls, plus one for each socket with data.

    poller = Poller()
    spawn_link(poller.main)
    reading = poller.register(sock, on_data)      # sock: connected and non-blocking
    ...
    reading.stop()                                # before sock.close()

The task that runs `main` calls `on_data` with:

- `bytes`: at most 64 KiB, and at most once a turn, so that a busy peer does not delay other peers;
- `b""`: once, when the peer ends its stream. Then the poller forgets the socket;
- `OSError`: once, when reading fails. Then the poller forgets the socket.

**Quiet clients.** Most clients send only a heartbeat every 30 s. With thousands of such clients, the loop would wake
several hundred times a second, each time for one heartbeat, and each wake-up would cost more than the heartbeat. So a
second poller can take over the quiet sockets, and rest after each turn:

    quiet = Poller(longest_rest=0.1)
    poller = Poller(quiet=quiet)
    spawn_link(quiet.main)

A socket is quiet if its last two reads were more than five seconds apart. Time in which the program paused the socket
does not count. After a second read within five seconds, the first poller reads the socket again.

Data of a quiet socket waits until the rest ends. The rest lasts at most `longest_rest`. It is shorter if there are few
quiet sockets: 0.1 s for 15,000, and 0.01 s for 1,500. With fewer than 150, the poller does not rest. The rest is also
shorter if the quiet sockets have so much data that a turn would read more than 50 of them.

Exceptions and limits:

- Between `pause` and `resume`, and after `stop`, the poller does not call `on_data`. There is one exception: if the
  peer of a paused socket leaves, the poller reads the stream to its end, because the connection must end. If unread
  data prevents the peer from sending the end of its stream, the poller does not notice that the peer left.
- If there is no memory for a read, the poller skips this read, and calls `on_out_of_memory`, which may free memory. If
  it could not, the poller reads all sockets again only after a tenth of a second.
- If `on_data` raises `MemoryError`, the poller ends that socket with an error, and continues with the other sockets.
- If `on_data` raises any other exception, `main` forgets that socket and raises the exception. The poller keeps the
  other sockets, so you can run `main` again, and no data of these sockets is lost.

Only Linux has epoll. On other platforms, use a `Pump` (`channels.transports.stream_transport`). It behaves like the
poller, with one task for each socket.
"""

from __future__ import annotations

import math
import select
import socket
import sys
from collections.abc import Callable

import msgspec
import trio

from channels.transports.contract import OnData

__all__ = [
    "DEFAULT_LONGEST_REST",
    "OnOutOfMemory",
    "Poller",
    "PollerStatistics",
    "Reading",
]

DEFAULT_LONGEST_REST = 0.1
"""Seconds for which data of a quiet client may wait."""

OnOutOfMemory = Callable[[int], object]
"""A function that takes the number of failed reads, and returns True if it has freed memory. It must not block."""

_READ_SIZE = 65536
# The maximum number of sockets to read before other tasks run. A runtime wakes the same number of processes in one
# turn. In the next turn, the kernel reports the remaining sockets first. So all sockets take turns.
_TURN = 128
# The number of sockets to read in each turn, even if many processes still have work.
_LEAST = 16
# The maximum bytes to read before other tasks run. Copying them takes a millisecond.
_TURN_BYTES = 4 * 1024 * 1024
# Seconds to wait when memory has run out. In this time, connections may end and free memory.
_PAUSE = 0.1
# A socket is quiet if its last two reads were more than this many seconds apart. Heartbeats come every 30 s.
_QUIET_AFTER = 5.0
# The number of quiet sockets to read in a turn. A longer rest saves little, so the rest is shorter if they send faster.
_BATCH = 50
# Seconds of rest for each quiet socket. With 15,000 heartbeats in 30 s, a turn then reads a whole batch. On a server
# with few clients, wake-ups cost little, so their data need not wait.
_REST_PER_SOCKET = 1 / 150_000
# A shorter rest saves nothing, because the kernel rounds timeouts up to milliseconds.
_SHORTEST_REST = 0.001
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


class PollerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a poller.

    Attributes:
        sockets: registered sockets, including paused ones.
        turns: turns of the poller so far.
        reads: reads so far.
        out_of_memory: reads that failed because there was no memory.
        handed_over: sockets that this poller has handed over to the other poller, because they became quiet or were
            quiet no longer.
        rests: turns after which the poller rested.
    """

    sockets: int
    turns: int
    reads: int
    out_of_memory: int
    handed_over: int
    rests: int


class Reading:
    """One socket that a poller reads. Use `Poller.register`."""

    __slots__ = ("_on_data", "_paused", "_poller", "_read_at", "_socket", "ended", "fd")

    def __init__(self, poller: Poller, sock: socket.socket, on_data: OnData) -> None:
        self.fd = sock.fileno()
        self.ended = False
        """True after the poller has delivered the end or an error, or after `stop`."""
        self._socket = sock
        self._on_data = on_data
        self._poller = poller
        self._paused = False
        self._read_at = trio.current_time()

    def pause(self) -> None:
        """Stop reading until `resume`, unless the peer leaves. When the buffers are full, the peer cannot send more."""
        if not self._paused and not self.ended:
            self._paused = True
            self._poller.change(self, _GONE)

    def resume(self) -> None:
        """Read again after `pause`."""
        if self._paused and not self.ended:
            self._paused = False
            # The program paused reading, so the peer was not quiet.
            self._read_at = trio.current_time()
            self._poller.change(self, _READABLE)

    def redirect(self, on_data: OnData) -> None:
        """Deliver further data to `on_data`, instead of the earlier function."""
        if not self.ended:
            self._on_data = on_data

    def stop(self) -> None:
        """Stop reading the socket for good. Call this before you close the socket. You may call it twice."""
        if not self.ended:
            self.ended = True
            self._on_data = _ignore  # break the reference cycle
            self._poller.forget(self)

    def move(self, poller: Poller) -> None:
        """Let `poller` change and forget this socket from now on. `Poller.hand_over` calls this."""
        self._poller = poller

    def read(self, event: int) -> int:
        """Read once and deliver the data. The poller calls this if the socket is readable or its peer has left.

        Returns:
            The number of bytes read.
        """
        if self._paused:
            if not event & _GONE:
                # The data of another socket, read earlier in this turn, caused the pause.
                return 0
            self.resume()
        # The poller changes if the socket is handed over. `on_data` runs in a turn of this poller all the same.
        on_data, poller = self._on_data, self._poller
        data: bytes | OSError
        size = 0
        try:
            data = self._socket.recv(_READ_SIZE)
            size = len(data)
        except BlockingIOError:
            # No data after all. The kernel dropped it, or the event was for a closed socket with the same number.
            return 0
        except MemoryError:
            # No data is lost. The kernel reports this socket again.
            poller.note_out_of_memory()
            return 0
        except OSError as error:
            # Remove the traceback. It refers to this stack frame, which refers to the error and the connection. Only
            # the garbage collector could free this reference cycle, and it runs rarely.
            data = error.with_traceback(None)
        if not size:
            self.stop()
        else:
            read_at, self._read_at = self._read_at, poller.now
            if (self._read_at - read_at > _QUIET_AFTER) is not poller.is_quiet:
                poller.hand_over(self)
        try:
            on_data(data)
        except MemoryError:
            self.stop()
            poller.note_out_of_memory()
            _report_lost_data(on_data)
        except BaseException:
            # Broad, because any exception loses this data, and without it the rest of the stream is useless.
            self.stop()
            raise
        return size


class Poller:
    """Read all plain sockets in one task.

        >>> async def example(nursery: trio.Nursery, sock: socket.socket) -> None:
        ...     poller = Poller()
        ...     nursery.start_soon(poller.main)
        ...     poller.register(sock, print)

    Args:
        quiet: the poller for quiet sockets. None reads all sockets without a rest.
        longest_rest: the longest time in seconds that the poller rests after a turn. 0 never rests. Above 0, this is a
            poller for quiet sockets.

    Attributes:
        is_quiet: True if this is a poller for quiet sockets.
        now: the time at which the current turn began, on Trio's clock.
        on_out_of_memory: may be set to a function. After a turn in which memory ran out, the poller calls this function
            with the number of failed reads. If the function returns True, it has freed memory, and the poller reads
            again immediately. The function must not block.
        on_turn: may be set to a function that the poller calls at the begin of each turn.
        backlog: may be set to a function that returns the number of processes that still have earlier data to handle.
            The higher this number, the fewer sockets the poller reads in a turn. So new data waits in the kernel, and
            not in long queues of the program.

    Raises:
        RuntimeError: the platform has no epoll. Check `Poller.is_supported()` first.
    """

    def __init__(self, *, quiet: Poller | None = None, longest_rest: float = 0.0) -> None:
        if not self.is_supported():
            raise RuntimeError("this platform has no epoll; read each socket with a Pump instead")
        self._epoll = select.epoll()
        self._readings: dict[int, Reading] = {}
        self._running = False
        self._turns = self._reads = self._out_of_memory = self._handed_over = self._rests = 0
        # Sockets that the last turn had no time to read. The kernel would not report them first.
        self._late: list[tuple[int, int]] = []
        self.on_out_of_memory: OnOutOfMemory = _ignore
        self.backlog: Callable[[], int] = int
        self.on_turn: Callable[[], object] = int
        self.is_quiet = longest_rest > 0
        self.now = -math.inf
        self._longest_rest = longest_rest
        self._other = quiet
        if quiet is not None:
            quiet._other = self

    @staticmethod
    def is_supported() -> bool:
        """Return True if this platform has epoll."""
        return sys.platform == "linux"

    @property
    def is_running(self) -> bool:
        """True while a task runs `main`."""
        return self._running

    def register(self, sock: socket.socket, on_data: OnData) -> Reading:
        """Start to read `sock`.

        Args:
            sock: a connected, non-blocking socket. The caller closes it after `stop`.
            on_data: the function for the data; see the description of the module.

        Raises:
            OSError: the kernel cannot watch the socket.
        """
        reading = Reading(self, sock, on_data)
        self._epoll.register(reading.fd, _READABLE)
        # If a socket was closed without stop(), this replaces its entry, because the kernel reuses its number.
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

    def hand_over(self, reading: Reading) -> None:
        """Let the other poller read this socket. `Reading` calls this."""
        other = self._other
        if other is None or self._readings.get(reading.fd) is not reading:
            return
        try:
            other._readings[reading.fd] = reading
            other._epoll.register(reading.fd, _READABLE)
        except (OSError, MemoryError):
            # There is no room for it. This poller goes on reading the socket.
            other._readings.pop(reading.fd, None)
            return
        self.forget(reading)
        self._handed_over += 1
        reading.move(other)

    def statistics(self) -> PollerStatistics:
        """Return a snapshot of the poller."""
        return PollerStatistics(
            sockets=len(self._readings),
            turns=self._turns,
            reads=self._reads,
            out_of_memory=self._out_of_memory,
            handed_over=self._handed_over,
            rests=self._rests,
        )

    def note_out_of_memory(self) -> None:
        """Count a read that failed because there was no memory. `Reading` calls this."""
        self._out_of_memory += 1

    def close(self) -> None:
        """Forget all sockets and close the epoll object. `main` must have ended."""
        if self._other is not None:
            # The other poller keeps its sockets from now on.
            self._other._other = None
            self._other = None
        for reading in list(self._readings.values()):
            reading.stop()
        self._epoll.close()

    async def main(self) -> None:
        """Read the sockets, turn by turn, until cancelled. Exceptions of `on_data` pass through.

        Raises:
            trio.BusyResourceError: `main` is already running.
        """
        if self._running:
            raise trio.BusyResourceError(
                "this poller is already running; run `main` only once at a time"
            )
        self._running = True
        fd = self._epoll.fileno()
        has_rested = False
        try:
            while True:
                if self._late:
                    await trio.lowlevel.checkpoint()
                elif not has_rested:
                    await trio.lowlevel.wait_readable(fd)
                turn_before, self.now = self.now, trio.current_time()
                before = self._out_of_memory
                found = self._turn()
                if self._out_of_memory > before and not self._report(self._out_of_memory - before):
                    await trio.sleep(_PAUSE)
                has_rested = found > 0 and self.is_quiet and await self._rest(found, turn_before)
        finally:
            self._running = False

    async def _rest(self, found: int, turn_before: float) -> bool:
        """Rest, unless there are only few sockets or much data. Return True if the poller rested.

        Args:
            found: the number of sockets that the turn has read, more than 0.
            turn_before: the time of the turn before this turn.
        """
        until_full = _BATCH / found * (self.now - turn_before)
        rest = min(self._longest_rest, len(self._readings) * _REST_PER_SOCKET, until_full)
        if rest < _SHORTEST_REST:
            return False
        self._rests += 1
        await trio.sleep_until(self.now + rest)
        return True

    def _report(self, reads: int) -> bool:
        """Call `on_out_of_memory`. Return True if it has freed memory."""
        try:
            return self.on_out_of_memory(reads) is True
        except MemoryError:
            # `statistics` still counts these reads. A later turn may have enough memory for a report.
            return False

    def _turn(self) -> int:
        """Read the sockets with data. Return their number, or 0 if the turn had no time for all of them."""
        self.on_turn()
        readings = self._readings
        events, self._late = self._late, []
        limit = 0
        if not events:
            limit = max(_LEAST, _TURN - self.backlog())
            try:
                events = self._epoll.poll(0, limit)
            except MemoryError:
                self.note_out_of_memory()
                return 0
        self._turns += 1
        room = _TURN_BYTES
        for place, (fd, event) in enumerate(events):
            if room <= 0:
                self._late = events[place:]
                return 0
            self._reads += 1
            reading = readings.get(fd)
            if reading is not None:
                room -= reading.read(event)
        return len(events) if len(events) < limit else 0
