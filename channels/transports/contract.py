"""What a connection sees of its transport, whatever carries the bytes.

A connection gets a transport from `Transports.attach`, which is what this looks like from then on:

    attach(source, tell)      reading starts, and `tell` is called as `events` describes
    transport.out.put(frame)  write, as often as wanted
    transport.pause/resume    stop and go on reading
    transport.finish(frame)   write this last; `tell(Signal.FINISHED)` follows, nothing else
    transport.close()         give everything back, at once; `tell` is not called any more

Every connection ends with `close`, and one that ends politely calls `finish` before:

1. `finish(frame)` writes what waits and the last frame, and tells the peer that nothing follows
   (a TCP socket is shut for writing). What the peer still sends is read and dropped, because
   closing a socket with unread bytes in it resets the connection, and the peer might lose the
   last frame.
2. When the peer has closed its side too, or cannot be reached, `tell(Signal.FINISHED)`.
3. On that, or when its own timer runs out (five seconds are plenty), the connection calls `close`.

Neither waits for anything: both are plain functions, so `close` may be called while a process is
being killed. Everything here belongs to the thread that runs Trio.
"""

from __future__ import annotations

from typing import Protocol

from channels.transports.out_buffer import OutBuffer, OutBufferStatistics
from channels.transports.poller import OnData

__all__ = ["Out", "Reader", "Transport"]


class Out(Protocol):
    """Where the frames for a client go: bounded, and never in the way of who writes."""

    def put(self, frame: bytes) -> None:
        """Append a ready-made frame; never blocks, never raises."""

    def statistics(self) -> OutBufferStatistics:
        """Say how much waits and what was dropped."""


class Reader(Protocol):
    """The reading half of a transport: a `Reading` of a poller, or a `Pump`."""

    @property
    def ended(self) -> bool:
        """Whether the end or an error has been delivered, or `stop` was called."""

    def pause(self) -> None:
        """Deliver nothing until `resume`."""

    def resume(self) -> None:
        """Deliver again after `pause`."""

    def redirect(self, on_data: OnData) -> None:
        """Deliver to `on_data` from now on."""

    def stop(self) -> None:
        """Deliver nothing any more. May be called twice."""


class Transport(Protocol):
    """What one connection has of the network. See the module's description."""

    @property
    def out(self) -> OutBuffer:
        """Where frames to be written go."""

    def pause(self) -> None:
        """Leave what the peer sends in the network until `resume`. May be called twice."""

    def resume(self) -> None:
        """Go on reading after `pause`. May be called twice."""

    def finish(self, frame: bytes = b"") -> None:
        """Write `frame` as the last one, then tell `Signal.FINISHED`. To be called once."""

    def close(self) -> None:
        """Give back socket, buffers and tasks at once. May be called twice, and at any time."""
