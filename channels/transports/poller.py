"""One task that reads for every plain socket.

Trio's way of waiting for a socket costs a system call, a task switch and the bookkeeping of both
for every message. Here sockets are registered once with an epoll object of our own, level
triggered, and Trio waits for that object's file descriptor, for epoll objects nest. Then a turn
of the reader costs two system calls, and each socket with something to read one more.

    poller = Poller()
    spawn_link(poller.main)
    reading = poller.register(sock, on_data)      # sock: connected and non-blocking
    ...
    reading.stop()                                # before sock.close()

`on_data` is called, from the task that runs `main`, with

- `bytes`, at most 64 KiB of them, and at most once a turn, so that one busy peer cannot keep the
  others waiting;
- `b""`, once, at the peer's end of the stream, after which the socket is not read any more;
- an `OSError`, once, when reading failed, after which the socket is not read any more.

Between `pause` and `resume`, and after `stop`, it is not called, with one exception: a peer that
goes while its socket is paused is noticed, and what is left of its stream is read to the end. It
cannot become more, and whoever paused wants to know that nobody waits for an answer any more. If
so much is unread that the peer could not even send its end, nobody can notice. If there is no memory
for what a socket has to say, that read is left out, and all sockets are read again a tenth of a second
later. If `on_data` runs out of memory, its socket is given up with an error, and the others are read
on. If `on_data` raises anything else,
`main` ends with that exception and the socket is forgotten; sockets are kept here and not in the
task, so `main` can be run again, and the others have lost nothing.

There is epoll on Linux only. Elsewhere use a `Pump` (see `channels.transports.stream_transport`), which keeps
the same promises with one task for each socket.
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
"""Takes a number of reads. Must not block; its result is ignored."""

_READ_SIZE = 65536
# Sockets read before other tasks have their turn: at five microseconds each, about two milliseconds
# (the kernel puts what is left first in line).
_TURN = 512
# Bytes read before other tasks have their turn: copying so many takes a millisecond.
_TURN_BYTES = 4 * 1024 * 1024
# Seconds to wait when there is no memory: connections that end are what helps then.
_PAUSE = 0.1
# What the kernel is asked to report; that a connection is broken or closed both ways, it reports unasked. These names
# exist on Linux only, and so does the poller.
_READABLE: int = getattr(select, "EPOLLIN", 0)
_GONE: int = (
    getattr(select, "EPOLLRDHUP", 0)
    | getattr(select, "EPOLLHUP", 0)
    | getattr(select, "EPOLLERR", 0)
)


_LOST = ConnectionAbortedError("there was no memory for what the peer sent")


def _ignore(_: object) -> None:
    pass


def _tell_of_a_loss(on_data: OnData) -> None:
    try:
        on_data(_LOST)
    except MemoryError:
        # Its idle timeout will end the connection.
        pass


@frozen(kw_only=True)
class PollerStatistics:
    """One moment of a poller.

    - `sockets`: registered ones that have not come to their end, paused ones included;
    - `turns`, `reads`: how often it ran, and how many sockets it read, since it was made;
    - `out_of_memory`: reads for which there was no memory.
    """

    sockets: int
    turns: int
    reads: int
    out_of_memory: int


class Reading:
    """One socket that a poller reads. Made by `Poller.register`."""

    __slots__ = ("_on_data", "_paused", "_poller", "_recv", "ended", "fd")

    def __init__(self, poller: Poller, sock: socket.socket, on_data: OnData) -> None:
        self.fd = sock.fileno()
        self.ended = False
        """Whether the end of the stream or an error has been delivered, or `stop` was called."""
        self._recv = sock.recv
        self._on_data = on_data
        self._poller = poller
        self._paused = False

    def pause(self) -> None:
        """Leave what the peer sends in the kernel, unless it goes; its sends will block after a while."""
        if not self._paused and not self.ended:
            self._paused = True
            self._poller.change(self, _GONE)

    def resume(self) -> None:
        """Read again after `pause`."""
        if self._paused and not self.ended:
            self._paused = False
            self._poller.change(self, _READABLE)

    def redirect(self, on_data: OnData) -> None:
        """Call `on_data` from now on in place of what was given to `register`."""
        if not self.ended:
            self._on_data = on_data

    def stop(self) -> None:
        """Forget the socket; may be called twice. To be called before the socket is closed."""
        if not self.ended:
            self.ended = True
            self._on_data = _ignore  # what it refers to may refer to this object
            self._poller.forget(self)

    def read(self, event: int) -> int:
        """Read once and hand over what came. Called by the poller when the socket is readable, or its peer has gone.

        Returns how many bytes that were.
        """
        if self._paused:
            if not event & _GONE:
                # Paused a moment ago, by what another socket of this turn had to say.
                return 0
            self.resume()
        on_data = self._on_data
        data: bytes | OSError
        try:
            data = self._recv(_READ_SIZE)
        except BlockingIOError:
            # Readiness is a hint: the datum may have been dropped, or this may be another socket
            # which got the number of one that was closed a moment ago.
            return 0
        except MemoryError:
            # Nothing was read, so nothing is lost: the kernel reports this socket again.
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
            _tell_of_a_loss(on_data)
        except BaseException:
            # What was read is lost, so the rest of this stream is worth nothing.
            self.stop()
            raise
        return size


class Poller:
    """Reads plain sockets, all of them in one task.

        >>> async def example(nursery: trio.Nursery, sock: socket.socket) -> None:
        ...     poller = Poller()
        ...     nursery.start_soon(poller.main)
        ...     poller.register(sock, print)

    Attribute, which may be set: `on_out_of_memory` is called after a turn in which there was no memory, with the number
    of reads. Must not block.

    Raises `RuntimeError` where the platform has no epoll; ask `Poller.is_supported()`.
    """

    def __init__(self) -> None:
        if not self.is_supported():
            raise RuntimeError("this platform has no epoll: read each socket with a Pump instead")
        self._epoll = select.epoll()
        self._readings: dict[int, Reading] = {}
        self._running = False
        self._turns = self._reads = self._out_of_memory = 0
        # Reported sockets for which there was no room in the last turn. The kernel would not report them first.
        self._late: list[tuple[int, int]] = []
        self.on_out_of_memory: OnOutOfMemory = _ignore

    @staticmethod
    def is_supported() -> bool:
        """Tell whether sockets can be read this way on this platform."""
        return sys.platform == "linux"

    def register(self, sock: socket.socket, on_data: OnData) -> Reading:
        """Start reading `sock`.

        - `sock`: connected and non-blocking; stays the caller's, who closes it after `stop`;
        - `on_data`: takes what is read, see the module's description.

        Raises `OSError` if the kernel will not watch the socket.
        """
        reading = Reading(self, sock, on_data)
        self._epoll.register(reading.fd, _READABLE)
        # A socket that was closed without stop() has left its entry behind, under a number that
        # the kernel has given to this one.
        self._readings[reading.fd] = reading
        return reading

    def change(self, reading: Reading, events: int) -> None:
        """Have the kernel report other events of a socket. Called by `Reading`."""
        if self._readings.get(reading.fd) is reading:
            try:
                self._epoll.modify(reading.fd, events)
            except OSError:
                # It was closed first, and the kernel has forgotten it by itself.
                pass

    def forget(self, reading: Reading) -> None:
        """Drop the socket for good. Called by `Reading`."""
        if self._readings.get(reading.fd) is reading:
            del self._readings[reading.fd]
            try:
                self._epoll.unregister(reading.fd)
            except OSError:
                # It was closed first, and the kernel has forgotten it by itself.
                pass

    def statistics(self) -> PollerStatistics:
        """Say how many sockets are read and what has been done so far."""
        return PollerStatistics(
            sockets=len(self._readings),
            turns=self._turns,
            reads=self._reads,
            out_of_memory=self._out_of_memory,
        )

    def note_out_of_memory(self) -> None:
        """Count a read for which there was no memory. Called by `Reading`."""
        self._out_of_memory += 1

    def close(self) -> None:
        """Forget all sockets and give the epoll object back; `main` must have ended."""
        for reading in list(self._readings.values()):
            reading.stop()
        self._epoll.close()

    async def main(self) -> None:
        """Read, turn by turn, until cancelled.

        Raises `trio.BusyResourceError` if it runs already, and whatever an `on_data` raises.
        """
        if self._running:
            raise trio.BusyResourceError("this poller runs already")
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
            # It is counted, and the next turn may have enough to tell.
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
