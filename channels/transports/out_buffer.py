"""Bounded buffers of frames, one for each connection, and the flusher that writes them.

A broadcast appends its frame to the out-buffer of each recipient, so `OutBuffer.put` is the most frequent call of a
server. `put` counts the frame, appends it, and marks the buffer once for its writer. The writer is the flusher for
plain sockets, a writing task for other streams, and the session for long polling.

    connection ── put, finish, close ──> OutBuffer ── mark(buffer), once ──> writer
                                             ^                                 │
                                             └─ take, hold, progress, fail ────┘

The writer writes whole frames, in the order of the calls of `put`. `put` never blocks and never raises. The buffer
reports an overflow or a failed write to `tell`, each at most once. A written frame may still not reach the peer.

A `Backlog` limits the bytes of all buffers together. It does not count waiting frames of a client that keeps up,
because its writer takes them within a turn of the scheduler. A writing task holds the bytes of its write, so these
count until the stream has taken them. Once a client is behind, its buffer reserves bytes of the backlog in steps, so
that `put` only compares two numbers for most frames.

`put_latest` appends a value such as a position. While the client is behind, the value replaces the waiting value with
the same key. These values have bounds of their own, in `LatestTotals`. A value that does not fit is dropped, and the
client stays connected.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from channels.transports.contract import LatestKey, OutBufferStatistics, Signal, Spawn, Tell

if TYPE_CHECKING:
    from channels.transports.backlog import Backlog
    from channels.transports.latest import LatestTotals, LatestValues

__all__ = [
    "DEFAULT_MAX_BYTES",
    "DEFAULT_MAX_LATEST_BYTES",
    "DEFAULT_MAX_LATEST_VALUES",
    "DEFAULT_MAX_MESSAGES",
    "DEFAULT_MAX_TOTAL_BYTES",
    "RESERVED_STEP",
    "Flusher",
    "FlusherStatistics",
    "OutBuffer",
    "Writer",
]

DEFAULT_MAX_MESSAGES = 4096
"""The maximum number of waiting frames: about eight seconds of a topic with 500 messages a second.

A client that is further behind should reconnect. It then gets fresh state instead of old messages. This limit is about
the time to catch up, not about memory, because recipients share the frames of a broadcast.
"""

DEFAULT_MAX_BYTES = 8 * 1024 * 1024
"""The maximum number of waiting bytes. A phone with 1 MB/s receives this in eight seconds.

A client may send a larger message, up to 10 MB by default, as in Phoenix. A broadcast of that message still fits,
because an empty buffer accepts a single frame of any size.
"""

DEFAULT_MAX_TOTAL_BYTES = 1024 * 1024 * 1024
"""The maximum number of bytes that wait for all clients together: 100 KB for each of 10,000 clients that are behind.

A broadcast counts once for each recipient, although all recipients share the memory of its frame until the server
writes the frame.
"""

DEFAULT_MAX_LATEST_VALUES = 1024
"""The maximum number of waiting values of `put_latest` for one client, one for each key."""

DEFAULT_MAX_LATEST_BYTES = 48 * 1024
"""The maximum number of bytes of these values. With the bytes of a started write, they are less than 64 KB."""

RESERVED_STEP = 16 * 1024
"""The number of bytes that a buffer reserves at a time. So a buffer may have up to this many unused reserved bytes."""

_CHUNK = 65536
# The same while values wait that newer values may still replace.
_LATEST_CHUNK = 8192
# The bytes that the kernel takes beyond those that are on their way. By default, it takes some megabytes for a client
# that does not read, and a client with a slow network would get positions that are minutes old.
_UNSENT = 16384
# Newer values replace older ones if more than 1/64 of the frames that may wait have come in one turn. As a shift.
_FEW = 6
# The part of the room that values beyond their own bounds may take in one turn. As a shift.
_HALF = 1
_SHUT = -1
_NOTHING = memoryview(b"")  # shared: a memoryview is larger than a whole idle buffer


class Writer(Protocol):
    """The owner of an out-buffer, which writes its frames."""

    @property
    def mark(self) -> Callable[[OutBuffer], object]:
        """The function that an empty buffer calls with itself before it appends a frame. It may change between calls.

        The function must not call `take`. It must make the writer call `take` later and write the result. Until then,
        the buffer does not call `mark` again.
        """

    def limit_unsent(self, out: OutBuffer) -> None:
        """Make the kernel take few bytes in advance, so that newer values can replace older ones in the buffer.

        The buffer calls this before its first value of `put_latest`.
        """


def limit_unsent(setsockopt: Callable[[int, int, int], object]) -> None:
    """Limit the bytes that the kernel takes in advance for a socket, if the socket and the platform can."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        with suppress(OSError):
            setsockopt(socket.IPPROTO_TCP, option, _UNSENT)


class OutBuffer:
    """A buffer for the frames to one connection.

        >>> flusher = Flusher(spawn=print)
        >>> out = OutBuffer(flusher, tell=print)
        >>> out.put(b"one")
        >>> out.put(b"two")
        >>> flusher.statistics().marked
        1
        >>> out.take()
        b'onetwo'

    Args:
        writer: the flusher, or another writer.
        tell: a function that gets `Signal.OVERFLOW` or `Signal.SHED`, and the `OSError` of a failed write. The buffer
            reports each of these at most once. It also gets `Signal.LATEST_DROPPED`, see `put_latest`.
        target: the non-blocking socket for the flusher, or None for any other writer.
        max_messages: frames that may wait.
        max_bytes: bytes that may wait.
        backlog: the limit for all buffers together; None for no limit.
        latest: the bounds and counters of the values of `put_latest`; None for the default bounds.

    Attributes:
        reserved: the bytes of the backlog that this buffer has reserved; 0 while the client keeps up.
        client: the number that stands for this buffer in the calls of `Flusher.on_written`. With None, these calls omit
            the buffer.
        on_write: functions that get the size in bytes and the number of frames of each write. The turns of the flusher
            do not call them. They must not block and must not raise.

    If a frame does not fit, the buffer drops this frame and all later frames, because clients cannot handle a gap. The
    buffer counts the dropped frames. If the backlog gives up the client, the buffer also drops the waiting frames. An
    empty buffer accepts one frame of any size. Call all methods in Trio's thread.
    """

    __slots__ = (
        "_backlog",
        "_catching_up",
        "_closed",
        "_dropped",
        "_frames",
        "_latest",
        "_latest_totals",
        "_max_bytes",
        "_max_messages",
        "_overflowed",
        "_rest",
        "_room",
        "_spare",
        "_tell",
        "client",
        "finished",
        "on_write",
        "reserved",
        "target",
        "writer",
    )

    def __init__(
        self,
        writer: Writer,
        *,
        tell: Tell,
        target: socket.socket | None = None,
        max_messages: int = DEFAULT_MAX_MESSAGES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        backlog: Backlog | None = None,
        latest: LatestTotals | None = None,
    ) -> None:
        self.writer = writer
        self.target = target
        self._tell: Tell | None = tell
        self._frames: list[bytes] = []
        self._max_messages = max_messages
        # `_room` is the number of bytes that still fit. take() resets it to `_max_bytes`. In a closed buffer, both are
        # negative. So one comparison in put() covers every reason to refuse a frame. While the client is behind,
        # `_room` is the unused part of `reserved`, and the buffer may reserve up to `_spare` more bytes.
        self._max_bytes = max_bytes
        self._room = max_bytes
        self._spare = 0
        self.reserved = 0
        self._backlog = backlog
        self._latest_totals = latest
        # Made for the first value.
        self._latest: LatestValues | None = None
        self._rest = _NOTHING
        self._catching_up = False
        self._dropped = 0
        self._overflowed = False
        self._closed = False
        self.finished: Callable[[], object] | None = None
        self.client: int | None = None
        self.on_write: tuple[Callable[[int, int], object], ...] = ()

    def put(self, frame: bytes) -> None:
        """Append an encoded frame. Never blocks, never raises.

        The frame must be immutable. After an overflow, a failed write, `finish` or `close`, the buffer drops and counts
        the frame.
        """
        room = self._room - len(frame)
        frames = self._frames
        if frames:
            if room < 0 or len(frames) >= self._max_messages:
                self._put_beyond(frame, room)
                return
            frames.append(frame)
        elif room >= 0 or (self._max_bytes >= 0 and not self._rest):
            # Mark first. If `mark` raises, the buffer stays empty, so that the next `put` calls `mark` again.
            if not self._catching_up:
                self.writer.mark(self)
            frames.append(frame)
        else:
            self._put_beyond(frame, room)
            return
        self._room = room

    def put_latest(self, key: LatestKey, frame: bytes) -> None:
        """Append a value. While the client is behind, it replaces the waiting value with the same key.

        Never blocks, never raises. If the value does not fit into the bounds of `latest`, or if the backlog has no room
        for it, the buffer drops and counts it, and reports `Signal.LATEST_DROPPED`, once until the client has all
        frames. If the client keeps up and many values come in one turn, the further ones may take half of the room of
        other frames.
        """
        frames = self._frames
        latest = self._latest
        if latest is None and self._max_bytes >= 0:
            latest = self._begin_latest()
        size = len(frame)
        is_behind = self._catching_up or self.reserved
        is_much = frames and (len(frames) >= self._max_messages >> _FEW or size > self._room)
        # `put` refuses a frame for a closed buffer.
        if latest is None or not (is_behind or is_much) or self._max_bytes < 0:
            self.put(frame)
            return
        freed = latest.room_for(frames, key, size)
        if freed is not None:
            room = self._room + freed - size
            step = self._step(room)
            if step <= 0 or self._backlog is None or self._backlog.has_room(step):
                latest.append(frames, key, frame)
                self._take_room(room, step)
                return
        elif (
            not is_behind
            and len(frames) < self._max_messages >> _HALF
            and size <= self._room - (self._max_bytes >> _HALF)
        ):
            # The writer takes all frames at the end of this turn.
            self.put(frame)
            return
        if latest.refuse() and self._tell is not None:
            self._tell(Signal.LATEST_DROPPED)

    def _begin_latest(self) -> LatestValues:
        # Import here, so that `import channels` loads fewer modules.
        from channels.transports.latest import LatestTotals, LatestValues  # noqa: PLC0415

        totals = self._latest_totals or LatestTotals(
            max_values=DEFAULT_MAX_LATEST_VALUES, max_bytes=DEFAULT_MAX_LATEST_BYTES
        )
        self._latest = latest = LatestValues(totals)
        self.writer.limit_unsent(self)
        return latest

    def _put_beyond(self, frame: bytes, room: int) -> None:
        """Reserve more bytes in the backlog and append a frame. If the buffer is full, drop the frame instead."""
        latest = self._latest
        # The values of `put_latest` have bounds of their own, so they leave all room to other frames.
        values, size = (
            (0, 0) if latest is None else (len(latest.places) + latest.gaps, latest.bytes)
        )
        if (
            -room <= self._spare + size
            and len(self._frames) < self._max_messages + values
            and self._max_bytes >= 0
        ):
            self._frames.append(frame)
            self._take_room(room, self._step(room))
            return
        self._dropped += 1
        if self._max_bytes >= 0:
            self._shut()
            self._overflowed = True
            if self._tell is not None:
                self._tell(Signal.OVERFLOW)

    def _step(self, room: int) -> int:
        """Return the bytes to reserve before `room` bytes are left. A client that keeps up reserves none.

        The result is negative if a large value was replaced, so that the buffer has too many unused reserved bytes.
        """
        if not self.reserved:
            return 0
        if room < 0:
            return max(-room, min(self._spare, RESERVED_STEP))
        return min(0, RESERVED_STEP - room)

    def _take_room(self, room: int, step: int) -> None:
        self._room = room + step
        if step and self._backlog is not None:
            self._spare -= step
            self.reserved += step
            self._backlog.grow(step)

    def _shut(self) -> None:
        self._max_bytes = self._room = _SHUT
        self._spare = 0

    def _reserve(self, size: int) -> None:
        """Replace the buffer's reservation in the backlog by `size` bytes. 0 means that the client keeps up."""
        backlog = self._backlog
        if backlog is None:
            return
        backlog.remove(self)
        self.reserved = size
        if self._max_bytes >= 0:
            self._room = 0 if size else self._max_bytes
            self._spare = self._max_bytes - size if size else 0
        if size:
            backlog.add(self, size)

    def shed(self) -> bool:
        """Drop the waiting frames and refuse all later frames. Return False if the buffer already refused new frames.

        The rest of a started write and the last frame from `finish` stay. Only the backlog calls this method.
        """
        frames = self._frames
        kept = frames[-1:] if self.finished is not None else []
        self._dropped += len(frames) - len(kept)
        frames[:] = kept
        self._latest = None
        is_open = self._max_bytes >= 0
        self._shut()
        if self._backlog is not None:
            self._backlog.remove(self)
            self.reserved = len(self._rest) + sum(map(len, kept))
            if self.reserved:
                self._backlog.keep(self, self.reserved)
        if is_open:
            self._overflowed = True
            if self._tell is not None:
                self._tell(Signal.SHED)
        return is_open

    def finish(self, frame: bytes, finished: Callable[[], object]) -> None:
        """Append the last frame, even beyond the bounds, and refuse all later ones.

        There is no time limit. The caller must set a timer and call `close` when it expires.

        Args:
            frame: the last frame. It may be empty.
            finished: a function that the writer calls once, in its task, when it has written all frames or a write has
                failed. The writer does not call it after `close`.
        """
        if self.finished is not None:
            raise RuntimeError(
                "finish() was called twice on this out-buffer; call it once, with the last frame"
            )
        if self._closed:
            return
        frames = self._frames
        if not frames and not self._catching_up:
            self.writer.mark(self)
        self._shut()
        self.finished = finished
        frames.append(frame)
        if self.reserved and self._backlog is not None:
            # `adjust` and not `grow`, because a last frame must not make the backlog give up a client.
            self.reserved += len(frame)
            self._backlog.adjust(len(frame))

    def close(self) -> None:
        """Drop the waiting frames, and end the writing task if there is one. You may call it twice.

        Call it before you close the socket.
        """
        self._closed = True
        self._shut()
        self._tell = self.finished = None
        self.on_write = ()
        self._frames.clear()
        self._latest = None
        self._rest = _NOTHING
        self._reserve(0)
        if self._catching_up and self.target is not None:
            self._catching_up = False
            trio.lowlevel.notify_closing(self.target.fileno())

    def statistics(self) -> OutBufferStatistics:
        """Return the numbers of waiting and dropped frames."""
        latest = self._latest
        return OutBufferStatistics(
            waiting_messages=self.waiting,
            waiting_bytes=sum(map(len, self._frames)) + len(self._rest),
            dropped_messages=self._dropped,
            overflowed=self._overflowed,
            catching_up=self._catching_up,
            latest_values=0 if latest is None else len(latest.places),
            latest_bytes=0 if latest is None else latest.bytes,
        )

    # For the writer only

    def take(self) -> bytes:
        """Return all waiting frames as one piece, and count them as written.

        The result may be empty. If the writer cannot write the whole result, it must pass the rest to `hold`. After it
        has written everything, it must call `written` if the attribute `finished` is not None. A writer other than the
        flusher must also call the functions of `on_write`. The arguments are the size of the result and the number of
        frames, which `waiting` states before this call.
        """
        frames = self._frames
        if len(frames) == 1:
            data = frames.pop()
        else:
            data = b"".join(frames)
            frames.clear()
        self._room = self._max_bytes
        if self._latest is not None and (self._latest.places or self._latest.reported):
            self._latest.clear()
        return data

    @property
    def waiting(self) -> int:
        """The number of waiting frames."""
        return len(self._frames) - (0 if self._latest is None else self._latest.gaps)

    @property
    def messages(self) -> list[bytes]:
        """A copy of the list of waiting frames."""
        if self._latest is not None and self._latest.gaps:
            self._latest.close_gaps(self._frames)
        return self._frames.copy()

    def keep_values(self) -> None:
        """Let no newer value replace a waiting one, because a reader may have got the waiting frames."""
        if self._latest is not None:
            self._latest.clear()

    def drop(self, count: int | None = None) -> None:
        """Remove the oldest `count` frames, and count them as written. None removes all waiting frames."""
        frames = self._frames
        if self.on_write:
            written = frames[:count]
            if written:
                size = sum(map(len, written))
                for listener in self.on_write:
                    listener(size, len(written))
        if self._latest is not None:
            self._latest.leave(frames, len(frames) if count is None else count)
        del frames[:count]
        if self._backlog is not None:
            self.stall()
            return
        self._room = self._max_bytes
        if frames and self._max_bytes >= 0:
            self._room -= sum(map(len, frames))

    def stall(self) -> None:
        """Reserve bytes in the backlog for the waiting frames, because the writer cannot write them now."""
        self._reserve(sum(map(len, self._frames)))

    def written(self) -> None:
        """Call `finished`, if `finish` was called."""
        finished, self.finished = self.finished, None
        if finished is not None:
            finished()

    def hold(self, rest: bytes | memoryview) -> None:
        """Take back the bytes that a write left over. A separate task must write them, and all later frames.

        Until `rest` is empty, the buffer does not call `mark`.
        """
        self._rest = memoryview(rest)
        self._catching_up = True
        if self._backlog is not None:
            self._reserve(len(rest))
        elif self._max_bytes >= 0:
            self._room -= len(rest)

    @property
    def rest(self) -> memoryview:
        """The next bytes for the writing task. If this is empty, the task ends."""
        return self._rest

    def progress(self, count: int) -> None:
        """Note that the task has written `count` bytes of `rest`, and set the next `rest`.

        This joins at most about 64 KiB of frames at a time, to save memory. Buffers share the frames of a broadcast,
        but not the joined bytes.
        """
        if self._closed:
            # `close` ran during the write, and counted the rest as gone.
            return
        if self._backlog is not None:
            self._backlog.adjust(-count)
            self.reserved -= count
            if self._max_bytes >= 0:
                self._spare += count
        elif self._max_bytes >= 0:
            self._room += count
        self._rest = self._rest[count:]
        if not self._rest:
            self._next_chunk()

    def _next_chunk(self) -> None:
        frames, latest = self._frames, self._latest
        chunk = _LATEST_CHUNK if latest is not None and latest.places else _CHUNK
        size = taken = gaps = 0
        while taken < len(frames) and size < chunk:
            size += len(frames[taken])
            taken += 1
        self._rest = memoryview(b"".join(frames[:taken]))
        if taken:
            if latest is not None:
                gaps = latest.leave(frames, taken)
            for listener in self.on_write:
                listener(size, taken - gaps)
        del frames[:taken]
        if not self._rest:
            self._rest = _NOTHING
            self._catching_up = False
            if latest is not None:
                latest.reported = False
            self._reserve(0)

    def fail(self, error: OSError) -> None:
        """Drop the waiting frames, refuse all later ones, and report `error`.

        After `finish`, this calls `finished` instead of reporting the error.
        """
        self._frames.clear()
        self._latest = None
        self._rest = _NOTHING
        self._catching_up = False
        self._shut()
        self._reserve(0)
        tell, self._tell = self._tell, None
        if self.finished is not None:
            self.written()
        elif tell is not None:
            # Remove the traceback. It refers to the flusher's stack frame, which refers to this and other buffers.
            tell(error.with_traceback(None))


# The maximum number of writes before other tasks run: about three milliseconds, at five microseconds for each write.
_TURN = 512
_NO_WRITER = "the writing task of this full socket has ended"


class FlusherStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a flusher.

    Attributes:
        marked: buffers that wait for the next turn.
        turns: turns of the flusher so far.
        writes: written buffers so far.
        full: tasks that the flusher has started for full sockets so far.
        catching_up: tasks for full sockets that run now.
    """

    marked: int
    turns: int
    writes: int
    full: int
    catching_up: int


class Flusher:
    """A task that writes the out-buffers of all plain sockets, each at most once in a turn of the scheduler.

    A sender appends frames to an out-buffer. The first frame marks the buffer in the flusher. In its next turn, the
    flusher joins the frames of each marked buffer, and writes them with one non-blocking system call. So many frames
    for one connection cost one write, and a connection needs no task.

    If a socket is full, the flusher calls `spawn` to start a task that writes the rest. Until that task is done, the
    flusher does not write the buffer. If `spawn` is `spawn_link`, the flusher and the task are linked.

    Other tasks run between two turns. If a socket fails, only the `tell` of its buffer gets the error. The flusher
    object keeps the marked buffers, so you can run `main` again after it has ended.

        >>> async def example(nursery: trio.Nursery, sock: socket.socket) -> None:
        ...     flusher = Flusher(spawn=nursery.start_soon)
        ...     nursery.start_soon(flusher.main)
        ...     OutBuffer(flusher, tell=print, target=sock).put(b"hello")

    Args:
        spawn: a function that starts the task for a full socket.

    Attributes:
        mark: the function that makes the next turn write an out-buffer. The `target` of the buffer must be a
            non-blocking socket. In another thread than Trio's, a call may raise `RuntimeError`. It then has no effect.
        on_written: functions that get a list of the writes of each turn. The list has three items for each written
            buffer with a `client`: the client, the size in bytes, and the number of frames. The functions must not
            change the list, must not block and must not raise.
    """

    __slots__ = (
        "__weakref__",
        "_catching_up",
        "_full",
        "_marked",
        "_parked",
        "_running",
        "_spawn",
        "_turns",
        "_writes",
        "mark",
        "on_written",
    )

    def __init__(self, *, spawn: Spawn) -> None:
        self._spawn = spawn
        self._marked: deque[OutBuffer] = deque()
        self._parked: trio.lowlevel.Task | None = None
        # While the task waits, this is `_wake`. Otherwise it only appends, because a broadcast marks many buffers.
        self.mark: Callable[[OutBuffer], object] = self._marked.append
        self._running = False
        self._turns = self._writes = self._full = self._catching_up = 0
        self.on_written: tuple[Callable[[list[int]], object], ...] = ()

    @property
    def is_running(self) -> bool:
        """True while a task runs `main`."""
        return self._running

    def statistics(self) -> FlusherStatistics:
        """Return a snapshot of the flusher."""
        return FlusherStatistics(
            marked=len(self._marked),
            turns=self._turns,
            writes=self._writes,
            full=self._full,
            catching_up=self._catching_up,
        )

    async def main(self) -> None:
        """Write the marked buffers, turn by turn, until cancelled. Exceptions of `spawn` pass through.

        Raises:
            trio.BusyResourceError: `main` is already running.
        """
        if self._running:
            raise trio.BusyResourceError(
                "this flusher is already running; run `main` only once at a time"
            )
        self._running = True
        marked = self._marked
        try:
            while True:
                while not marked:
                    # Other tasks run while this task is parked. So a turn that has written everything needs no further
                    # checkpoint, which would cost a reply on an idle server a fourth scheduler turn.
                    await self._park()
                self._turn(min(len(marked), _TURN))
                if marked:
                    await trio.lowlevel.checkpoint()
        finally:
            self._running = False

    async def _park(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._parked = None
            self.mark = self._marked.append
            return trio.lowlevel.Abort.SUCCEEDED

        self._parked = trio.lowlevel.current_task()
        self.mark = self._wake
        await trio.lowlevel.wait_task_rescheduled(abort)

    # Ctrl-C in the middle could leave the flusher awake without a buffer to write.
    @trio.lowlevel.enable_ki_protection
    def _wake(self, out: OutBuffer) -> None:
        assert self._parked is not None  # see `_park`
        # In the wrong thread this raises, so it must run before any change.
        trio.lowlevel.reschedule(self._parked)
        self._parked = None
        self.mark = self._marked.append
        self._marked.append(out)

    def limit_unsent(self, out: OutBuffer) -> None:
        """Limit the bytes that the kernel takes in advance for the socket of a buffer."""
        if out.target is not None:
            limit_unsent(out.target.setsockopt)

    def _turn(self, count: int) -> None:
        marked = self._marked
        self._turns += 1
        self._writes += count
        written: list[int] | None = [] if self.on_written else None
        for _ in range(count):
            out = marked.popleft()
            frames = out._frames
            number = len(frames)
            if number == 1:
                data = frames.pop()
                out._room = out._max_bytes
            else:
                if out._latest is not None:
                    number = out.waiting
                data = out.take()
            if written is not None and out.client is not None:
                written += (out.client, len(data), number)
            if data:
                try:
                    sent = out.target.send(data)  # type: ignore[union-attr]  # see `mark`
                except BlockingIOError:
                    sent = 0
                except OSError as error:
                    out.fail(error)
                    continue
                if sent < len(data):
                    out.hold(memoryview(data)[sent:])
                    try:
                        self._start_catching_up(out)
                    except BaseException:
                        # Broad, because any exception ends this turn. The writes before it must still be reported.
                        self._report(written)
                        raise
                    continue
            if out.finished is not None:
                out.written()
        self._report(written)

    def _report(self, written: list[int] | None) -> None:
        if written:
            for listener in self.on_written:
                listener(written)

    def _start_catching_up(self, out: OutBuffer) -> None:
        self._full += 1
        try:
            self._spawn(self._catch_up, out)
        except BaseException:
            # No task will write this buffer, so its connection must end.
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
                    # The socket is full again, because the kernel used its free space in the meantime.
                    continue
            out.written()
        except trio.ClosedResourceError:
            # close() has dropped the frames.
            pass
        except OSError as error:
            out.fail(error)
        finally:
            self._catching_up -= 1
            if out.rest:
                out.fail(ConnectionAbortedError(_NO_WRITER))
