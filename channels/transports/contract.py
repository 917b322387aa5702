"""The contract between a connection and its transport.

A connection gets a transport from `Transports.attach`:

    attach(stream, tell)      start to read, and call `tell` with each event
    transport.out.put(frame)  write a frame
    transport.pause/resume    stop reading, and read again
    transport.finish(frame)   write the last frame; after this, the only call is `tell(Signal.FINISHED)`
    transport.close()         release all resources without waiting; after this, there is no call of `tell`

A connection passes a function, `tell`. The transport calls it with:

    bytes               data from the peer; `b""` once, when the peer ends its stream
    OSError             reading or writing failed, so the peer is gone
    Signal.OVERFLOW     the out-buffer exceeded its bounds; the connection must close
    Signal.SHED         all out-buffers together exceeded their limit, and this one is large; the connection must close
    Signal.INCOMING_SHED    all incomplete messages together exceeded their limit, and the client's message is large, or
                        there is no memory for it; a connection sends this to itself
    Signal.LATEST_DROPPED   a value of `put_latest` did not fit, and was dropped; the connection stays open
    Signal.FINISHED     `finish` is complete; the connection must close

The transport calls `tell` in its own tasks, so `tell` must not block and must not raise. The `tell` of a connection
sends the event to the connection's process.

An orderly close has three steps:

1. The connection calls `finish(frame)`. The transport writes the waiting frames and the last frame. Then it ends its
   side of the stream. For TCP, it shuts the socket for writing. It continues to read, and drops the data, because
   closing a socket with unread bytes resets the connection. The peer could then lose the last frame.
2. When the peer has closed its side too, or is unreachable, the transport calls `tell(Signal.FINISHED)`.
3. The connection calls `close` after this signal, or when its own timer expires. A timer of five seconds is enough.

`finish` and `close` do not wait, so a process may call `close` while it ends. Call all methods in Trio's thread.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec

__all__ = [
    "Event",
    "LatestKey",
    "OnData",
    "Out",
    "OutBufferStatistics",
    "Reader",
    "Signal",
    "Spawn",
    "Tell",
    "Transport",
]


class Signal(enum.Enum):
    """An event about the transport itself, not about data from the peer."""

    OVERFLOW = "overflow"
    SHED = "shed"
    INCOMING_SHED = "incoming_shed"
    LATEST_DROPPED = "latest_dropped"
    FINISHED = "finished"


Event: TypeAlias = bytes | OSError | Signal
"""An event that a transport reports to its connection."""

LatestKey: TypeAlias = tuple[str, str, str]
"""The topic, the event and the key of a value of `put_latest`."""

Tell: TypeAlias = Callable[[Event], object]
"""A function that takes events of a transport. It must not block and must not raise."""

Spawn: TypeAlias = Callable[..., object]
"""A function that starts `await function(*arguments)` as a task, such as a nursery's `start_soon` or `spawn_link`."""

OnData: TypeAlias = Callable[[bytes | OSError], object]
"""A function that takes data or an error from a reader. It must not block."""


class OutBufferStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of an out-buffer.

    Attributes:
        waiting_messages: waiting frames, without the frames in a started write.
        waiting_bytes: waiting bytes, including the bytes in a started write.
        dropped_messages: frames that the buffer dropped because of its bounds, or after `finish` or `close`.
        overflowed: True if the frames ever exceeded the bounds.
        catching_up: True while a separate task writes for this buffer, because its socket was full.
        latest_values: waiting values of `put_latest` that a newer value would replace.
        latest_bytes: the bytes of these values.
    """

    waiting_messages: int
    waiting_bytes: int
    dropped_messages: int
    overflowed: bool
    catching_up: bool
    latest_values: int = 0
    latest_bytes: int = 0


class Out(Protocol):
    """The bounded buffer for frames to a client. Writing to it never blocks."""

    def put(self, frame: bytes) -> None:
        """Append an encoded frame. Never blocks, never raises."""

    def put_latest(self, key: LatestKey, frame: bytes) -> None:
        """Append a value, which replaces the waiting value with the same key if the client is behind."""

    def statistics(self) -> OutBufferStatistics:
        """Return the numbers of waiting and dropped frames."""


class Reader(Protocol):
    """The reading half of a transport: a `Reading` of a poller, or a `Pump`."""

    @property
    def ended(self) -> bool:
        """True after the reader has delivered the end or an error, or after `stop`."""

    def pause(self) -> None:
        """Deliver no data until `resume`."""

    def resume(self) -> None:
        """Deliver data again after `pause`."""

    def redirect(self, on_data: OnData) -> None:
        """Deliver further data to `on_data`, instead of the earlier function."""

    def stop(self) -> None:
        """Deliver no more data. You may call it twice."""


class Transport(Protocol):
    """The network side of one connection. See the module for the order of calls."""

    @property
    def out(self) -> Out:
        """The buffer for frames to the client."""

    def pause(self) -> None:
        """Stop reading from the peer until `resume`. You may call it twice."""

    def resume(self) -> None:
        """Read again after `pause`. You may call it twice."""

    def finish(self, frame: bytes = b"") -> None:
        """Start an orderly close with a last frame. When it is complete, the transport calls `tell(Signal.FINISHED)`.

        Call `finish` only once. It does not wait.
        """

    def close(self) -> None:
        """Release the socket, buffers and tasks without waiting. You may call it at any time, and twice."""
