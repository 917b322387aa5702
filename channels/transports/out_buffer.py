"""What waits to be written to one connection: bounded, and never in the way of who writes.

A broadcast appends its frame to the out-buffer of every recipient, so `OutBuffer.put` is the
most often called function of a server, and does as little as can be done: it counts, appends,
and marks the buffer once for whoever writes it out (the flusher for plain sockets, a writing
task of its own for any other stream).

    connection ── put, finish, close ──> OutBuffer ── mark(buffer), once ──> writer
                                             ^                                 │
                                             └─ take, hold, progress, fail ────┘

Guarantees: frames leave whole and in the order of their `put`; whatever happens, `put` neither
blocks nor raises; `tell` hears of an overflow once and of a failed write once. Not guaranteed:
that a frame which was put reaches the peer.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import trio

from channels.transports.contract import OutBufferStatistics, Signal, Tell

__all__ = ["DEFAULT_MAX_BYTES", "DEFAULT_MAX_MESSAGES", "OutBuffer"]

DEFAULT_MAX_MESSAGES = 4096
"""Frames that may wait: some eight seconds of a topic with 500 messages a second.

A client that is further behind is served better by closing its connection: it comes back with a
fresh state instead of eight seconds of history. Waiting frames of a broadcast are shared by
all recipients, so what this bounds is mostly the time it takes to catch up.
"""

DEFAULT_MAX_BYTES = 8 * 1024 * 1024
"""Bytes that may wait: what a telephone on 1 MB/s takes in those eight seconds.

It is less than the largest message that a client may send (10 MB by default, as in Phoenix), and
need not be more: an empty buffer takes a single frame of any size.
"""

_CHUNK = 65536
_SHUT = -1
_NOTHING = memoryview(b"")  # one for all, since a memoryview is larger than a whole idle buffer


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

    - `mark`: called with this buffer just before its first frame is put; whoever it is then calls
      `take` soon, but not at once, and writes what it gets. Not called again before that;
    - `tell`: where `Signal.OVERFLOW` and the `OSError` of a failed write go, once each;
    - `target`: the non-blocking socket for the flusher to write to, None for any other writer;
    - `max_messages`, `max_bytes`: how much may wait. A frame that does not fit is dropped and
      counted, and so is every frame after it, because a gap in the middle of a conversation
      would be worse than its end. An empty buffer takes one frame of any size.

    All methods belong to the thread that runs Trio.
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
        # The bytes that may still be put, and what take() puts that back to. Both become negative
        # when the buffer is shut, so that one comparison in put() covers every reason to refuse.
        self._max_bytes = max_bytes
        self._room = max_bytes
        self._rest = _NOTHING
        self._catching_up = False
        self._dropped = 0
        self._overflowed = False
        self._closed = False
        self.finished: Callable[[], object] | None = None

    def put(self, frame: bytes) -> None:
        """Append a ready-made frame; never blocks, never raises.

        `frame` is written as it is and must not be a mutable buffer. After an overflow, a failed
        write, `finish` or `close` the frame is dropped and counted.
        """
        room = self._room - len(frame)
        frames = self._frames
        if frames:
            if room < 0 or len(frames) >= self._max_messages:
                self._refuse()
                return
            frames.append(frame)
        elif room >= 0 or (self._max_bytes >= 0 and not self._rest):
            # Marked first: a buffer with a frame is not marked again, so a mark that fails must leave it empty.
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
        """Append the very last frame, whatever the bounds say, and refuse all others.

        `finished` is called once, from the writer's task: when everything that waited and
        `frame` (which may be empty) are with the operating system, or when that has become
        impossible. It is not called after `close`. There is no limit in time here: whoever calls
        this also sets a timer and calls `close` when it runs out.
        """
        if self.finished is not None:
            raise RuntimeError("finish() was called before: an out-buffer has one last frame")
        if self._closed:
            return
        frames = self._frames
        if not frames and not self._catching_up:
            self.mark(self)
        self._shut()
        self.finished = finished
        frames.append(frame)

    def close(self) -> None:
        """Drop what waits and let go of everything; may be called twice. Stops a writing task.

        To be called before the socket is closed.
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
        """Say how much waits and what was dropped."""
        return OutBufferStatistics(
            waiting_messages=len(self._frames),
            waiting_bytes=sum(map(len, self._frames)) + len(self._rest),
            dropped_messages=self._dropped,
            overflowed=self._overflowed,
            catching_up=self._catching_up,
        )

    # What follows is for the writer alone.

    def take(self) -> bytes:
        """Give out everything that waits, as one piece, counting it as written.

        A writer that could not write all of it gives the remainder back with `hold`. An empty
        answer means that there is nothing to write. When all is written and the attribute
        `finished` is not None, `written` is due.
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
        """A copy of the frames that wait, each apart."""
        return self._frames.copy()

    def drop(self) -> None:
        """Count everything that waits as written."""
        self._frames.clear()
        self._room = self._max_bytes

    def written(self) -> None:
        """Report that nothing waits any more, if that is what somebody waits for."""
        finished, self.finished = self.finished, None
        if finished is not None:
            finished()

    def hold(self, rest: bytes | memoryview) -> None:
        """Take back what could not be written: from now on a task of its own writes.

        Until `progress` answers that nothing is left, the buffer is not marked.
        """
        self._rest = memoryview(rest)
        self._catching_up = True
        if self._max_bytes >= 0:
            self._room -= len(rest)

    @property
    def rest(self) -> memoryview:
        """What the writing task has to write next. Empty when it can end."""
        return self._rest

    def progress(self, count: int) -> None:
        """Say that `count` bytes of `rest` have been written; sets the next `rest`.

        Frames that wait are joined in pieces of about 64 KiB only, because frames of a broadcast
        are shared between buffers until they are joined.
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
        """Give up: drop what waits, refuse what comes, and report `error`.

        A connection that is finishing is told that it is finished, any other one gets the error.
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
