"""One task that writes for every plain socket: once per turn of the scheduler, one write each.

Whoever has something to send appends it to an out-buffer, and the out-buffer's first frame marks
it here. When the scheduler comes round, the flusher joins what waits in every marked buffer and
writes it with one system call that does not block. Many frames for one connection become one
write, and many connections cost no task each.

A socket that is full gets a task of its own until it has caught up; its buffer is not marked
meanwhile. That task is started with `spawn`, always from the flusher's own task: as an actor
(`spawn_link`) it is linked to the flusher.

    flusher = Flusher(spawn=spawn_link)
    spawn_link(flusher.main)
    out = OutBuffer(flusher.mark, tell=..., target=sock)

Guarantees: a buffer is written at most once per turn however often it is marked; other tasks run
between two turns; an error of one socket reaches the `tell` of its own buffer and nothing else.
What is marked is kept here and not in the task, so `main` can be run again after it has ended.
"""

from __future__ import annotations

from collections import deque

import trio
from attrs import frozen

from channels.transports.contract import Spawn
from channels.transports.out_buffer import OutBuffer

__all__ = ["Flusher", "FlusherStatistics"]

# A turn with more sockets than this is cut in two, with other tasks running in between: five
# microseconds per write make this about three milliseconds.
_TURN = 512
_NO_WRITER = "no task may write for this full socket any more"


@frozen(kw_only=True)
class FlusherStatistics:
    """One moment of a flusher.

    - `marked`: buffers that wait for its next turn;
    - `turns`, `writes`: how often it ran, and how many buffers it wrote, since it was made;
    - `full`: how often a socket was full and got a task of its own;
    - `catching_up`: tasks of that kind that run now.
    """

    marked: int
    turns: int
    writes: int
    full: int
    catching_up: int


class Flusher:
    """Writes out the out-buffers of plain, non-blocking sockets.

        >>> async def example(nursery: trio.Nursery, sock: socket.socket) -> None:
        ...     flusher = Flusher(spawn=nursery.start_soon)
        ...     nursery.start_soon(flusher.main)
        ...     OutBuffer(flusher.mark, tell=print, target=sock).put(b"hello")

    - `spawn`: starts the task that writes for a full socket.
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
        """Have `out` written in the next turn. Its `target` must be a non-blocking socket.

        For the thread that runs Trio. In any other, nothing has changed when this raises RuntimeError.
        """
        parked = self._parked
        if parked is not None:
            trio.lowlevel.reschedule(parked)
            self._parked = None
        self._marked.append(out)

    def statistics(self) -> FlusherStatistics:
        """Say what waits, and what has been done so far."""
        return FlusherStatistics(
            marked=len(self._marked),
            turns=self._turns,
            writes=self._writes,
            full=self._full,
            catching_up=self._catching_up,
        )

    async def main(self) -> None:
        """Write, turn by turn, until cancelled.

        Raises `trio.BusyResourceError` if it runs already, and whatever `spawn` raises.
        """
        if self._running:
            raise trio.BusyResourceError("this flusher runs already")
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
            # Nobody would ever write for it again, so its connection has to hear of it.
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
                    # Readiness is a hint: the kernel may have found another use for the space.
                    continue
            out.written()
        except trio.ClosedResourceError:
            # close() was called, and it has dropped everything already.
            pass
        except OSError as error:
            out.fail(error)
        finally:
            self._catching_up -= 1
            if out.rest:
                out.fail(ConnectionAbortedError(_NO_WRITER))
