"""Bounded buffers of frames that wait to be written to one connection each, and the flusher that writes them.

A broadcast appends its frame to the out-buffer of each recipient, so `OutBuffer.put` is the most frequent call of a
server. It counts, appends, and marks the buffer once for its writer: the flusher for plain sockets, a writing task for
other streams, a session for long polling.

    connection ── put, finish, close ──> OutBuffer ── mark(buffer), once ──> writer
                                             ^                                 │
                                             └─ take, hold, progress, fail ────┘

Guarantees: frames leave whole and in the order of their `put`. `put` never blocks and never raises. `tell` gets an
overflow once and a failed write once. Not guaranteed: that a frame reaches the peer.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

import trio
from attrs import frozen

from channels.transports.contract import OutBufferStatistics, Signal, Spawn, Tell

__all__ = ["DEFAULT_MAX_BYTES", "DEFAULT_MAX_MESSAGES", "Flusher", "FlusherStatistics", "OutBuffer"]

DEFAULT_MAX_MESSAGES = 4096
"""Frames that may wait: about eight seconds of a topic with 500 messages a second.

A client that is further behind is better served by a new connection: it returns with fresh state instead of eight
seconds of history. Recipients share the frames of a broadcast, so this mostly bounds the time to catch up.
"""

DEFAULT_MAX_BYTES = 8 * 1024 * 1024
"""Bytes that may wait: what a phone on 1 MB/s receives in those eight seconds.

This is less than the largest message a client may send (10 MB by default, as in Phoenix). It need not be more: an empty
buffer accepts a single frame of any size.
"""

_CHUNK = 65536
_SHUT = -1
_NOTHING = memoryview(b"")  # shared: a memoryview is larger than a whole idle buffer


class OutBuffer:
    """The frames that wait for one connection.

        >>> waiting = []
        >>> out = OutBuffer(waiting.append, tell=print)
        >>> out.put(b"one")
        >>> out.put(b"two")
        >>> waiting == [out]
        True
        >>> out.take()
        b'onetwo'

    Args:
        mark: called with this buffer before its first frame is appended. The callee calls `take` soon, but not at once,
            and writes the result. It is not called again before that.
        tell: called with `Signal.OVERFLOW` and with the `OSError` of a failed write, once each.
        target: the non-blocking socket for the flusher, or None for any other writer.
        max_messages: frames that may wait.
        max_bytes: bytes that may wait.

    The buffer drops and counts a frame that does not fit, and every frame after it: a gap in a conversation would be
    worse than its end. An empty buffer accepts one frame of any size. All methods belong to Trio's thread.
    """

    __slots__ = (
        "_catching_up",
        "_closed",
        "_dropped",
        "_frames",
        "_max_bytes",
        "_max_messages",
        "_overflowed",
        "_rest",
        "_room",
        "_tell",
        "finished",
        "mark",
        "target",
    )

    def __init__(
        self,
        mark: Callable[[OutBuffer], object],
        *,
        tell: Tell,
        target: socket.socket | None = None,
        max_messages: int = DEFAULT_MAX_MESSAGES,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self.mark = mark
        self.target = target
        self._tell: Tell | None = tell
        self._frames: list[bytes] = []
        self._max_messages = max_messages
        # The bytes that may still be put, and the value that take() resets them to. Both are negative in a shut
        # buffer, so one comparison in put() covers every reason to refuse.
        self._max_bytes = max_bytes
        self._room = max_bytes
        self._rest = _NOTHING
        self._catching_up = False
        self._dropped = 0
        self._overflowed = False
        self._closed = False
        self.finished: Callable[[], object] | None = None

    def put(self, frame: bytes) -> None:
        """Append an encoded frame; never block, never raise.

        `frame` is written as it is and must not be a mutable buffer. After an overflow, a failed write, `finish` or
        `close`, the buffer drops and counts the frame.
        """
        room = self._room - len(frame)
        frames = self._frames
        if frames:
            if room < 0 or len(frames) >= self._max_messages:
                self._refuse()
                return
            frames.append(frame)
        elif room >= 0 or (self._max_bytes >= 0 and not self._rest):
            # Mark first: a buffer that has a frame is not marked again, so it must stay empty if the mark fails.
            if not self._catching_up:
                self.mark(self)
            frames.append(frame)
        else:
            self._refuse()
            return
        self._room = room

    def _refuse(self) -> None:
        self._dropped += 1
        if self._max_bytes >= 0:
            self._shut()
            self._overflowed = True
            if self._tell is not None:
                self._tell(Signal.OVERFLOW)

    def _shut(self) -> None:
        self._max_bytes = self._room = _SHUT

    def finish(self, frame: bytes, finished: Callable[[], object]) -> None:
        """Append the last frame, whatever the bounds, and refuse all later ones.

        There is no time limit: the caller sets a timer and calls `close` when it expires.

        Args:
            frame: the last frame; may be empty.
            finished: called once, from the writer's task, when the operating system has all frames or cannot take them
                any more. Not called after `close`.
        """
        if self.finished is not None:
            raise RuntimeError(
                "finish() was called twice on this out-buffer; call it once, with the last frame"
            )
        if self._closed:
            return
        frames = self._frames
        if not frames and not self._catching_up:
            self.mark(self)
        self._shut()
        self.finished = finished
        frames.append(frame)

    def close(self) -> None:
        """Drop what waits, and end the writing task if there is one. May be called twice.

        Call it before the socket is closed.
        """
        self._closed = True
        self._shut()
        self._tell = self.finished = None
        self._frames.clear()
        self._rest = _NOTHING
        if self._catching_up and self.target is not None:
            self._catching_up = False
            trio.lowlevel.notify_closing(self.target.fileno())

    def statistics(self) -> OutBufferStatistics:
        """Return how much waits and what was dropped."""
        return OutBufferStatistics(
            waiting_messages=len(self._frames),
            waiting_bytes=sum(map(len, self._frames)) + len(self._rest),
            dropped_messages=self._dropped,
            overflowed=self._overflowed,
            catching_up=self._catching_up,
        )

    # For the writer only

    def take(self) -> bytes:
        """Return everything that waits as one piece, and count it as written.

        A writer that could not write all of it returns the rest with `hold`. An empty result means that there is
        nothing to write. When everything is written and the attribute `finished` is not None, the writer calls
        `written`.
        """
        frames = self._frames
        if len(frames) == 1:
            data = frames.pop()
        else:
            data = b"".join(frames)
            frames.clear()
        self._room = self._max_bytes
        return data

    @property
    def messages(self) -> list[bytes]:
        """A copy of the frames that wait, one by one."""
        return self._frames.copy()

    def drop(self, count: int | None = None) -> None:
        """Count the oldest `count` frames as written, or everything that waits."""
        frames = self._frames
        del frames[:count]
        self._room = self._max_bytes
        if frames and self._max_bytes >= 0:
            self._room -= sum(map(len, frames))

    def written(self) -> None:
        """Call `finished`, if `finish` was called."""
        finished, self.finished = self.finished, None
        if finished is not None:
            finished()

    def hold(self, rest: bytes | memoryview) -> None:
        """Take back what could not be written. From now on a separate task writes.

        The buffer is not marked until `progress` leaves nothing in `rest`.
        """
        self._rest = memoryview(rest)
        self._catching_up = True
        if self._max_bytes >= 0:
            self._room -= len(rest)

    @property
    def rest(self) -> memoryview:
        """The bytes that the writing task writes next. The task ends when this is empty."""
        return self._rest

    def progress(self, count: int) -> None:
        """Record that `count` bytes of `rest` were written, and set the next `rest`.

        Joins waiting frames in pieces of about 64 KiB: buffers share the frames of a broadcast until they are joined.
        """
        if self._max_bytes >= 0:
            self._room += count
        self._rest = self._rest[count:]
        if not self._rest:
            self._next_chunk()

    def _next_chunk(self) -> None:
        frames = self._frames
        size = taken = 0
        while taken < len(frames) and size < _CHUNK:
            size += len(frames[taken])
            taken += 1
        self._rest = memoryview(b"".join(frames[:taken]))
        del frames[:taken]
        if not self._rest:
            self._rest = _NOTHING
            self._catching_up = False

    def fail(self, error: OSError) -> None:
        """Drop what waits, refuse what comes, and report `error`.

        A connection that is finishing gets `finished`; any other gets the error.
        """
        self._frames.clear()
        self._rest = _NOTHING
        self._catching_up = False
        self._shut()
        tell, self._tell = self._tell, None
        if self.finished is not None:
            self.written()
        elif tell is not None:
            tell(error)


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
    """One task that writes the out-buffers of all plain sockets: at most one write for each socket and scheduler turn.

    A sender appends frames to an out-buffer. The first frame marks the buffer in the flusher. In its next turn the
    flusher joins the frames of each marked buffer and writes them with one non-blocking system call. So many frames for
    one connection cost one write, and a connection costs no task.

    A full socket gets a task of its own until it has caught up; its buffer is not marked meanwhile. The flusher starts
    this task with `spawn` from its own task, so with `spawn_link` the two are linked.

    Guarantees: the flusher writes a buffer at most once per turn, however often it is marked. Other tasks run between
    two turns. An error of one socket reaches the `tell` of its own buffer and nothing else. The marked buffers are kept
    in this object, so `main` can be run again after it has ended.

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
