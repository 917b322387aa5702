"""One task that writes for all plain sockets: at most one write for each socket and scheduler turn.

A sender appends frames to an out-buffer. The first frame marks the buffer in the flusher. In its next turn the flusher
joins the frames of each marked buffer and writes them with one non-blocking system call. So many frames for one
connection cost one write, and a connection costs no task.

A full socket gets a task of its own until it has caught up; its buffer is not marked meanwhile. The flusher starts this
task with `spawn` from its own task, so with `spawn_link` the two are linked.

    flusher = Flusher(spawn=spawn_link)
    spawn_link(flusher.main)
    out = OutBuffer(flusher.mark, tell=..., target=sock)

Guarantees: the flusher writes a buffer at most once per turn, however often it is marked. Other tasks run between two
turns. An error of one socket reaches the `tell` of its own buffer and nothing else. The marked buffers are kept in this
object, so `main` can be run again after it has ended.
"""

from __future__ import annotations

from collections import deque

import trio
from attrs import frozen

from channels.transports.contract import Spawn
from channels.transports.out_buffer import OutBuffer

__all__ = ["Flusher", "FlusherStatistics"]

# Sockets written before other tasks run: about three milliseconds, at five microseconds per write.
_TURN = 512
_NO_WRITER = "the task that wrote for this full socket has ended"


@frozen(kw_only=True)
class FlusherStatistics:
    """A snapshot of a flusher.

    Attributes:
        marked: buffers that wait for the next turn.
        turns: turns since the flusher was made.
        writes: buffers written since the flusher was made.
        full: how often a socket was full and got a task of its own.
        catching_up: tasks of that kind that run now.
    """

    marked: int
    turns: int
    writes: int
    full: int
    catching_up: int


class Flusher:
    """Write the out-buffers of plain, non-blocking sockets.

        >>> async def example(nursery: trio.Nursery, sock: socket.socket) -> None:
        ...     flusher = Flusher(spawn=nursery.start_soon)
        ...     nursery.start_soon(flusher.main)
        ...     OutBuffer(flusher.mark, tell=print, target=sock).put(b"hello")

    Args:
        spawn: starts the task that writes for a full socket.
    """

    __slots__ = (
        "_catching_up",
        "_full",
        "_marked",
        "_parked",
        "_running",
        "_spawn",
        "_turns",
        "_writes",
    )

    def __init__(self, *, spawn: Spawn) -> None:
        self._spawn = spawn
        self._marked: deque[OutBuffer] = deque()
        self._parked: trio.lowlevel.Task | None = None
        self._running = False
        self._turns = self._writes = self._full = self._catching_up = 0

    def mark(self, out: OutBuffer) -> None:
        """Write `out` in the next turn. Its `target` must be a non-blocking socket.

        Raises:
            RuntimeError: the caller is not in Trio's thread. Nothing has changed.
        """
        parked = self._parked
        if parked is not None:
            trio.lowlevel.reschedule(parked)
            self._parked = None
        self._marked.append(out)

    def statistics(self) -> FlusherStatistics:
        """Return what waits and what was done so far."""
        return FlusherStatistics(
            marked=len(self._marked),
            turns=self._turns,
            writes=self._writes,
            full=self._full,
            catching_up=self._catching_up,
        )

    async def main(self) -> None:
        """Write, turn by turn, until cancelled.

        Raises:
            trio.BusyResourceError: `main` runs already. What `spawn` raises passes through too.
        """
        if self._running:
            raise trio.BusyResourceError("this flusher runs already; run `main` once at a time")
        self._running = True
        marked = self._marked
        try:
            while True:
                while not marked:
                    await self._park()
                self._turn(min(len(marked), _TURN))
                await trio.lowlevel.checkpoint()
        finally:
            self._running = False

    async def _park(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._parked = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _turn(self, count: int) -> None:
        marked = self._marked
        self._turns += 1
        self._writes += count
        for _ in range(count):
            out = marked.popleft()
            data = out.take()
            if data:
                try:
                    sent = out.target.send(data)  # type: ignore[union-attr]  # see mark()
                except BlockingIOError:
                    sent = 0
                except OSError as error:
                    out.fail(error)
                    continue
                if sent < len(data):
                    out.hold(memoryview(data)[sent:])
                    self._start_catching_up(out)
                    continue
            if out.finished is not None:
                out.written()

    def _start_catching_up(self, out: OutBuffer) -> None:
        self._full += 1
        try:
            self._spawn(self._catch_up, out)
        except BaseException:
            # No task will write for this buffer again, so its connection must know.
            out.fail(ConnectionAbortedError(_NO_WRITER))
            raise

    async def _catch_up(self, out: OutBuffer) -> None:
        sock = out.target
        assert sock is not None
        self._catching_up += 1
        try:
            while out.rest:
                await trio.lowlevel.wait_writable(sock.fileno())
                try:
                    out.progress(sock.send(out.rest))
                except BlockingIOError:
                    # Readiness is a hint: the kernel may have used the space for something else.
                    continue
            out.written()
        except trio.ClosedResourceError:
            # close() was called and has dropped everything.
            pass
        except OSError as error:
            out.fail(error)
        finally:
            self._catching_up -= 1
            if out.rest:
                out.fail(ConnectionAbortedError(_NO_WRITER))
