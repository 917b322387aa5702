"""What a transport tells the connection that owns it.

A connection gives its transport one callable, `tell`, and hears everything through it:

    bytes               what the peer sent; `b""` once, at its end of the stream
    OSError             the peer is gone, noticed while reading or while writing
    Signal.OVERFLOW     the out-buffer is over its bounds: close this connection
    Signal.FINISHED     the answer to `finish`: nothing is left to write, close this connection

`tell` is called from other tasks than the connection's, so it may neither block nor raise;
sending itself a message is what a connection does with it.
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
    """What a transport tells about itself, as opposed to what the peer sent."""

    OVERFLOW = "overflow"
    FINISHED = "finished"


Event: TypeAlias = bytes | OSError | Signal
"""One thing that a transport tells its connection."""

Tell: TypeAlias = Callable[[Event], object]
"""Where a transport reports to. Must not block and must not raise; its result is ignored."""

Spawn: TypeAlias = Callable[..., object]
"""Starts `await function(*arguments)` as a task of its own and returns at once.

Both a nursery's `start_soon` and the verb `spawn_link` of actors are of this shape.
"""

OnData: TypeAlias = Callable[[bytes | OSError], object]
"""Takes what was read. Must not block; its result is ignored."""


@frozen(kw_only=True)
class OutBufferStatistics:
    """One moment of an out-buffer.

    - `waiting_messages`: frames that wait, those in a started write not counted;
    - `waiting_bytes`: bytes that wait, those in a started write included;
    - `dropped_messages`: frames refused because of the bounds, or after `finish` or `close`;
    - `overflowed`: whether the bounds were ever exceeded;
    - `catching_up`: whether a task of its own is writing because the socket was full.
    """

    waiting_messages: int
    waiting_bytes: int
    dropped_messages: int
    overflowed: bool
    catching_up: bool


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
    def out(self) -> Out:
        """Where frames to be written go."""

    def pause(self) -> None:
        """Leave what the peer sends in the network until `resume`. May be called twice."""

    def resume(self) -> None:
        """Go on reading after `pause`. May be called twice."""

    def finish(self, frame: bytes = b"") -> None:
        """Write `frame` as the last one, then tell `Signal.FINISHED`. To be called once."""

    def close(self) -> None:
        """Give back socket, buffers and tasks at once. May be called twice, and at any time."""
