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
from typing import TypeAlias

__all__ = ["Event", "Signal", "Spawn", "Tell"]


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
