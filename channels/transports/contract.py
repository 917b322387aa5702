"""The contract between a connection and its transport.

A connection gets a transport from `Transports.attach`:

    attach(stream, tell)      start to read; call `tell` with each event
    transport.out.put(frame)  write a frame; may be called any number of times
    transport.pause/resume    stop reading, and go on
    transport.finish(frame)   write the last frame; only `tell(Signal.FINISHED)` follows
    transport.close()         release everything at once; `tell` is not called again

A connection passes one callable, `tell`. The transport calls it with:

    bytes               data from the peer; `b""` once, when the peer ends its stream
    OSError             the peer is gone; reading or writing failed
    Signal.OVERFLOW     the out-buffer exceeded its bounds: close this connection
    Signal.FINISHED     `finish` is complete and nothing is left to write: close this connection

The transport calls `tell` from tasks of its own, so `tell` must not block and must not raise. A connection sends itself
a message.

A connection that closes in good order:

1. The connection calls `finish(frame)`. The transport writes what waits and the last frame, then ends its side of the
   stream (a TCP socket is shut for writing). It reads and drops what the peer still sends: closing a socket with unread
   bytes resets the connection, and the peer might lose the last frame.
2. When the peer has closed its side too, or cannot be reached, the transport calls `tell(Signal.FINISHED)`.
3. The connection calls `close`, then or when its own timer expires. Five seconds are enough.

`finish` and `close` do not wait, so `close` may be called while a process is being killed. All of this runs in Trio's
thread.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol, TypeAlias

from attrs import frozen

__all__ = [
    "Event",
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
    FINISHED = "finished"


Event: TypeAlias = bytes | OSError | Signal
"""One event that a transport reports to its connection."""

Tell: TypeAlias = Callable[[Event], object]
"""The callable that a transport reports to. Must not block and must not raise; its result is ignored."""

Spawn: TypeAlias = Callable[..., object]
"""Start `await function(*arguments)` as a task and return at once.

A nursery's `start_soon` and `spawn_link` of actors both have this shape.
"""

OnData: TypeAlias = Callable[[bytes | OSError], object]
"""Take what was read. Must not block; the result is ignored."""


@frozen(kw_only=True)
class OutBufferStatistics:
    """A snapshot of an out-buffer.

    Attributes:
        waiting_messages: frames that wait, without those in a started write.
        waiting_bytes: bytes that wait, including those in a started write.
        dropped_messages: frames refused because of the bounds, or after `finish` or `close`.
        overflowed: True if the bounds were ever exceeded.
        catching_up: True while a task writes for this buffer because its socket was full.
    """

    waiting_messages: int
    waiting_bytes: int
    dropped_messages: int
    overflowed: bool
    catching_up: bool


class Out(Protocol):
    """The bounded buffer for frames to a client. Writing to it never blocks."""

    def put(self, frame: bytes) -> None:
        """Append an encoded frame; never block, never raise."""

    def statistics(self) -> OutBufferStatistics:
        """Return how much waits and what was dropped."""


class Reader(Protocol):
    """The reading half of a transport: a `Reading` of a poller, or a `Pump`."""

    @property
    def ended(self) -> bool:
        """True once the end or an error was delivered, or `stop` was called."""

    def pause(self) -> None:
        """Deliver nothing until `resume`."""

    def resume(self) -> None:
        """Deliver again after `pause`."""

    def redirect(self, on_data: OnData) -> None:
        """Deliver to `on_data` from now on."""

    def stop(self) -> None:
        """Deliver nothing more. May be called twice."""


class Transport(Protocol):
    """The network side of one connection. The module describes the order of calls."""

    @property
    def out(self) -> Out:
        """The buffer for frames to write."""

    def pause(self) -> None:
        """Leave what the peer sends in the network until `resume`. May be called twice."""

    def resume(self) -> None:
        """Read again after `pause`. May be called twice."""

    def finish(self, frame: bytes = b"") -> None:
        """Write `frame` as the last one, then call `tell(Signal.FINISHED)`. Call it once."""

    def close(self) -> None:
        """Release the socket, buffers and tasks at once. May be called at any time, and twice."""
