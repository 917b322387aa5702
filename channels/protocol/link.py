"""The shared record of a connection and its channels, and the messages between their processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Any, Protocol, TypeVar

import msgspec
import trio

from actors.exits import ExitReason, Shutdown
from actors.process import send
from actors.refs import Pid
from actors.runtime import Runtime, current_runtime
from actors.threads import run_threadsafe
from channels.filters import FilterRule
from channels.protocol.work_budget import WorkBudget
from channels.pubsub.pubsub import PubSub
from channels.serializers.serializer import Codec
from channels.transports.contract import LatestKey, Out

__all__ = [
    "DUPLICATE_JOIN",
    "READ_ON_AT",
    "Broadcaster",
    "Expire",
    "Gone",
    "Link",
    "ReadOn",
    "Tap",
    "Trace",
]

Result = TypeVar("Result")

DUPLICATE_JOIN = Shutdown("duplicate_join")
"""The exit reason of a channel whose client has joined the topic again."""

READ_ON_AT = 512
"""The connection reads again when this many messages wait. More than 0, so that the channel always has work."""


class Broadcaster(Protocol):
    """The part of an endpoint that sockets and channels use."""

    pubsub: PubSub
    filter_parameters: FilterRule

    def broadcast(self, topic: str, event: str, payload: Any) -> None:
        """Send an event to every client that has joined a topic."""

    def broadcast_from(self, sender: Pid, topic: str, event: str, payload: Any) -> None:
        """Send an event to every client that has joined a topic, except the client of the process `sender`."""

    def broadcast_latest(self, topic: str, event: str, payload: Any, *, key: str) -> None:
        """Send a value to every client that has joined a topic. A client that is behind gets the newest one only."""

    def broadcast_latest_from(
        self, sender: Pid, topic: str, event: str, payload: Any, *, key: str
    ) -> None:
        """Send a value as `broadcast_latest` does, except to the client of the process `sender`."""


class Trace(Protocol):
    """The trace of one client."""

    async def join(self, channel: Any, joining: Awaitable[Result]) -> Result:
        """Await a join within a span."""

    async def handle_in(self, channel: Any, event: str, handling: Awaitable[Result]) -> Result:
        """Await the handler of a push within a span."""


class Tap(Protocol):
    """A recorder of the messages of clients. It also sends them on, because two calls would cost more than one."""

    def read(self, connection: Pid, data: bytes) -> None:
        """Record the bytes of a client, and send them to the process of its connection."""

    def deliver(self, connection: Pid, channel: Pid, message: Any, size: int) -> None:
        """Record a message of `size` bytes, and send it from a connection's process to a channel's process."""


class Link(msgspec.Struct, eq=False, kw_only=True):
    """The process, the out-buffer and the assigns of a connection, which all its channels share.

    Attributes:
        id: the id of the socket, which identifies the user; None if it has none.
        budget: the limit on the work of all connections in one turn of the scheduler.
        trace: the trace of the client; None if the endpoint does not trace.
    """

    connection: Pid
    out: Out
    codec: Codec
    pubsub: PubSub
    endpoint: Broadcaster
    assigns: dict[str, Any]
    count: Callable[[tuple[str, ...]], None]
    budget: WorkBudget
    id: str | None = None
    trace: Trace | None = None
    runtime: Runtime = msgspec.field(default_factory=current_runtime)

    def __repr__(self) -> str:
        # The assigns may contain secrets.
        return f"<link of {self.connection!r}>"

    def put(self, frame: bytes) -> None:
        """Send a frame to the client, from any thread."""
        if get_ident() == self.runtime.thread:
            self.out.put(frame)
        else:
            run_threadsafe(self.runtime, self.out.put, frame)

    def put_latest(self, key: LatestKey, frame: bytes) -> None:
        """Send a value to the client, from any thread. Of those that wait, only the newest with the same key stays."""
        if get_ident() == self.runtime.thread:
            self.out.put_latest(key, frame)
        else:
            run_threadsafe(self.runtime, self.out.put_latest, key, frame)

    def expire_after(self, seconds: float) -> None:
        """Set the deadline of the connection, from any thread. `math.inf` removes it."""
        if get_ident() == self.runtime.thread:
            send(self.connection, Expire(trio.current_time() + seconds))
        else:
            run_threadsafe(self.runtime, self.expire_after, seconds)


class Expire:
    """A message of a channel that sets the deadline of its connection, on Trio's clock. A later message replaces it."""

    __slots__ = ("deadline",)

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline


class ReadOn:
    """A channel's message to its connection: only few messages wait for the channel, so the connection may read."""

    __slots__ = ()


class Gone:
    """A connection's message to its channels: the connection closes."""

    __slots__ = ("reason",)

    def __init__(self, reason: ExitReason) -> None:
        self.reason = reason
