"""Connections to a Redis or Valkey server: one process to publish, and one to subscribe. `Caller` is a third kind.

    subscriber = Subscriber(options, [b"news:0"], on_message)
    publisher = Publisher(options)
    children = [process_spec(subscriber.main), process_spec(publisher.main)]
    publisher.publish(b"news:0", b"...")

The process of a connection never ends by itself. It connects, and after a loss it connects again, after growing waits.
It reports each loss and each return of the connection. Only a defect ends the process, and its supervisor then restarts
it.

There are two connections because the server may close the connection of a subscriber that reads too slowly. Publishing
must not suffer from this.

- A server that stops answers no PING. The connection counts as lost after `ping_interval` and `ping_timeout`.
- `Outbox` bounds the messages that wait to be published. The number of bytes that were sent and not confirmed is
bounded too.
- Between two checkpoints, a connection reads at most 64 KiB and handles at most 64 messages.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import trio
from attrs import field, frozen

from actors.arguments import positive, whole
from actors.process import spawn_link
from actors.refs import Pid
from actors.runtime import current_runtime
from channels.pubsub.redis.outbox import Outbox
from channels.pubsub.redis.protocol import (
    DEFAULT_MAX_REPLY_BYTES,
    Event,
    Protocol,
    ProtocolViolation,
    Ready,
    Refused,
    pack_publish,
)
from channels.pubsub.redis.server import RedisServer
from supervision.backoff import Delays

__all__ = [
    "ConnectionLost",
    "Options",
    "Publisher",
    "RedisConnection",
    "RedisSession",
    "Report",
    "Subscriber",
]

_READ_SIZE = 65536
# Messages between two checkpoints. Each can have thousands of local subscribers.
_TURN = 64
# Replies to PUBLISH between two checkpoints. They are only counted.
_REPLIES = 2000
# The most bytes that are sent and not confirmed. A usual network carries fewer bytes in one round trip.
_WINDOW = 4 * 1024 * 1024
# Seconds between two reports of dropped messages.
_REPORT_INTERVAL = 1.0
# Seconds for a reader to read an answer that arrived while the event loop was busy.
_GRACE = 0.1
_JITTER = 0.5


Report: TypeAlias = Callable[[str, Mapping[str, Any], Mapping[str, Any]], None]
"""A function that a connection calls when its state changes. It must not block or raise.

It gets the kind of the change, the numbers and the circumstances:

| kind | numbers | circumstances | the connection |
|---|---|---|---|
| `connected` | `attempts` | `connection`, `server` | is up |
| `disconnected` | `delay`, until the next attempt | `connection`, `server`, `problem` | is lost, or could not be made |
| `dropped` | `count` | `problem` | did not publish messages; at most one report a second for one problem |
"""


@frozen(kw_only=True)
class Options:
    """The settings that the connections of a node share.

    Attributes:
        server: the server.
        client_name: the first part of the name of each connection in CLIENT LIST.
        report: gets the changes of state of each connection.
        max_waiting_bytes: bytes that may wait to be published.
        max_waiting_seconds: seconds that a message may wait to be published.
        max_reply_bytes: the largest message that this node accepts.

    Raises:
        InvalidOption: a number is not positive.
    """

    server: RedisServer
    client_name: str
    report: Report
    max_waiting_bytes: int = field(default=1024 * 1024, validator=whole)
    max_waiting_seconds: float = field(default=1.0, validator=positive)
    max_reply_bytes: int = field(default=DEFAULT_MAX_REPLY_BYTES, validator=whole)


class ConnectionLost(Exception):
    """The connection cannot be used any more. The argument is the reason."""


# UnicodeError: the host is a name that cannot be looked up.
_LOSSES = (
    ConnectionLost,
    ProtocolViolation,
    OSError,
    UnicodeError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


class RedisSession:
    """One stream, from its handshake to its loss.

    Attributes:
        heard: the time at which something arrived last.
        ready: True once the handshake has succeeded.
        ping: True if a PING is to be sent.
        problem: the reason of the loss, or None.
    """

    def __init__(self, stream: trio.abc.Stream, protocol: Protocol) -> None:
        self.stream = stream
        self.protocol = protocol
        self.heard = trio.current_time()
        self.ready = False
        self.ping = False
        self.problem: str | None = None


class RedisConnection:
    """A connection that is kept up. The base of `Publisher`, `Subscriber` and `Caller`.

    Attributes:
        name: `"publish"`, `"subscribe"` or `"call"`.
        connects: the number of successful handshakes.
        losses: the number of established connections that were lost.
        failures: attempts to connect that failed before the handshake was complete.
        problem: the reason of the latest loss or failure; None before the first one.
        tried: set once the first attempt has succeeded or failed.
    """

    name = ""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._server = options.server
        self._session: RedisSession | None = None
        self._marked = trio.Event()
        self.connects = self.losses = self.failures = 0
        self.problem: str | None = None
        self.tried = trio.Event()

    @property
    def is_connected(self) -> bool:
        """True between a handshake and the loss of its connection."""
        session = self._session
        return session is not None and session.ready

    async def start_link(self) -> Pid:
        """Start the process of this connection. Return when it has connected, or when the first attempt has failed.

        So, if the server is reachable, an endpoint has subscribed before it serves its first client.
        """
        pid = spawn_link(self.main, label=self.name)
        # Bounded by connect_timeout.
        await self.tried.wait()
        return pid

    async def main(self) -> None:
        """Connect, and connect again after each loss, until cancelled."""
        try:
            await self._keep_up()
        finally:
            # Set it even after a crash in the first attempt: otherwise its waiters would wait for ever.
            self.tried.set()

    async def _keep_up(self) -> None:
        delays = Delays(self._server.backoff)
        attempts = 0
        while True:
            attempts += 1
            before = self.connects
            problem = self.problem = await self._attempt(attempts)
            if self.connects > before:
                attempts = 0
                self.losses += 1
            else:
                self.failures += 1
                self.tried.set()
            delay = delays.next(trio.current_time())
            delay *= current_runtime().random.uniform(1 - _JITTER, 1)
            about = {"connection": self.name, "server": str(self._server.url), "problem": problem}
            self._options.report("disconnected", {"delay": delay}, about)
            await trio.sleep(delay)

    async def _attempt(self, attempts: int) -> str:
        """Connect, and run until the connection is lost. Return the reason."""
        limit = self._server.connect_timeout
        late = f"the server did not answer within {limit:g} s, which is connect_timeout"
        deadline = trio.current_time() + limit
        stream: trio.abc.Stream | None = None
        try:
            with trio.move_on_at(deadline):
                stream = await self._open()
            if stream is None:
                return late
            session = RedisSession(stream, Protocol(max_reply_bytes=self._options.max_reply_bytes))
            with trio.move_on_at(deadline):
                await self._shake_hands(session)
            if not session.ready:
                return late
            self._session = session
            self.connects += 1
            self.tried.set()
            about = {"connection": self.name, "server": str(self._server.url)}
            self._options.report("connected", {"attempts": attempts}, about)
            self._begin(session)
            return await self._run(session)
        except _LOSSES as error:
            return _describe(error)
        finally:
            lost, self._session = self._session, None
            if lost is not None:
                self._end(lost)
            if stream is not None:
                await trio.aclose_forcefully(stream)

    async def _open(self) -> trio.abc.Stream:
        try:
            return await self._server.open()
        except UnicodeError:
            raise
        except ValueError as error:
            host = self._server.url.host
            raise ConnectionLost(f"TLS cannot check the host {host}: {error}") from error

    async def _shake_hands(self, session: RedisSession) -> None:
        name = f"{self._options.client_name}:{self.name}"
        greeting = session.protocol.hello(
            self._server.url, client_name=name, channels=self._channels
        )
        await session.stream.send_all(greeting)
        while not session.ready:
            await self._receive(session)

    async def _run(self, session: RedisSession) -> str:
        async with trio.open_nursery() as nursery:
            for task in (self._read, self._write, self._keep_alive):
                nursery.start_soon(self._until_lost, task, session, nursery.cancel_scope)
        return session.problem or "the connection ended"

    async def _until_lost(
        self,
        task: Callable[[RedisSession], Awaitable[None]],
        session: RedisSession,
        scope: trio.CancelScope,
    ) -> None:
        try:
            await task(session)
        except _LOSSES as error:
            session.problem = session.problem or _describe(error)
            scope.cancel()

    # The three tasks

    async def _read(self, session: RedisSession) -> None:
        while True:
            while session.protocol.more:
                await trio.lowlevel.checkpoint()
                self._handle(session)
            await self._receive(session)

    async def _receive(self, session: RedisSession) -> None:
        data = await session.stream.receive_some(_READ_SIZE)
        if not data:
            raise ConnectionLost("the server closed the connection")
        session.heard = trio.current_time()
        session.protocol.feed(bytes(data))
        self._handle(session)
        while not session.ready and session.protocol.more:
            self._handle(session)

    async def _write(self, session: RedisSession) -> None:
        while True:
            await self._marked.wait()
            self._marked = trio.Event()
            while data := self._next(session):
                await session.stream.send_all(data)

    def _next(self, session: RedisSession) -> bytes:
        if session.ping:
            session.ping = False
            return session.protocol.ping()
        return self._take(session)

    async def _keep_alive(self, session: RedisSession) -> None:
        interval, limit = self._server.ping_interval, self._server.ping_timeout
        while True:
            await trio.sleep_until(session.heard + interval)
            asked = trio.current_time()
            if session.heard + interval > asked:
                continue
            session.ping = True
            self._marked.set()
            # Any bytes that arrive show that the server is alive.
            await trio.sleep(limit)
            if session.heard < asked:
                await trio.sleep(_GRACE)
            if session.heard < asked:
                raise ConnectionLost(f"the server did not answer a PING within {limit:g} s")

    # Publishing and subscribing

    _channels: Sequence[bytes] = ()

    def _begin(self, session: RedisSession) -> None:
        """Begin to use a connection that is up."""

    def _take(self, session: RedisSession) -> bytes:
        """Return the next bytes to send."""
        return b""

    def _end(self, session: RedisSession) -> None:
        """Stop using a connection that was lost."""

    def _handle(self, session: RedisSession) -> None:
        """Handle some of what has arrived."""
        for event in session.protocol.events(_REPLIES):
            self._happened(session, event)

    def _happened(self, session: RedisSession, event: Event) -> None:
        if type(event) is Ready:
            session.ready = True
        elif type(event) is Refused:
            command = f" to {event.command}" if event.command else ""
            raise ConnectionLost(f"the server answered{command}: {event.error}")


class Subscriber(RedisConnection):
    """The connection that receives messages.

    Args:
        options: the settings.
        channels: the channels to subscribe to. Patterns are not allowed: overlapping subscriptions deliver a message
            twice.
        on_message: takes the channel and the payload of each message, in this connection's process. It must not block.

    Attributes:
        messages: messages that have arrived.
    """

    name = "subscribe"

    def __init__(
        self,
        options: Options,
        channels: Sequence[bytes],
        on_message: Callable[[bytes, bytes], None],
    ) -> None:
        super().__init__(options)
        self._channels = tuple(channels)
        self._on_message = on_message
        self.messages = 0

    def _handle(self, session: RedisSession) -> None:
        on_message = self._on_message
        for event in session.protocol.events(_TURN):
            if type(event) is tuple:
                self.messages += 1
                on_message(*event)
            else:
                self._happened(session, event)


class Publisher(RedisConnection):
    """The connection that sends messages.

    Args:
        options: the settings.
        first: channels and payloads that are sent before everything else, as soon as there is a connection.

    Attributes:
        refused: messages that the server has refused.
        unconfirmed: messages whose connection was lost after they were sent and before they were confirmed. They may
            have arrived.
    """

    name = "publish"

    def __init__(self, options: Options, first: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(options)
        self._first = [pack_publish(channel, payload) for channel, payload in first]
        # The part of `_first` that this connection has not sent yet.
        self._introducing: list[bytes] = []
        self._outbox = Outbox(
            max_bytes=options.max_waiting_bytes, max_seconds=options.max_waiting_seconds
        )
        # Batches that were sent and not confirmed: the number of the last message on this connection, and bytes.
        self._in_flight: deque[tuple[int, int]] = deque()
        self._in_flight_bytes = 0
        self._sent = 0
        self._flushing = trio.lowlevel.ParkingLot()
        self._reported = {"too_many": 0, "too_late": 0, "refused": 0}
        self._reported_at = -_REPORT_INTERVAL
        self._last_refusal = ""
        self._published = self.refused = self.unconfirmed = 0

    @property
    def published(self) -> int:
        """Messages that the server has confirmed."""
        session = self._session
        protocol = None if session is None else session.protocol
        now = 0 if protocol is None else protocol.acknowledged - protocol.refused
        return self._published + now

    @property
    def too_many(self) -> int:
        """Messages that were dropped because `max_waiting_bytes` waited."""
        return self._outbox.too_many

    @property
    def too_late(self) -> int:
        """Messages that were dropped because they had waited for `max_waiting_seconds`."""
        return self._outbox.too_late

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return self._outbox.size

    def publish(self, channel: bytes, payload: bytes, *, counted: bool = True) -> bool:
        """Send a message soon. Never blocks.

        Args:
            channel: the channel.
            payload: the message.
            counted: True to count and report the message if it is dropped.

        Returns:
            False if it was dropped at once, because the outbox is full. A message in the outbox may be dropped later.
        """
        now = trio.current_time()
        kept = self._outbox.put(pack_publish(channel, payload), now, counted=counted)
        if self._session is None:
            self._outbox.expire(now)
            self._report_drops(now)
        elif not kept:
            self._report_drops(now)
        self._marked.set()
        return kept

    async def flush(self) -> None:
        """Wait until the server has confirmed everything, or the connection is lost. Set a time limit around it."""
        while self.is_connected and (self._introducing or self._outbox or self._in_flight):
            await self._flushing.park()

    def _begin(self, session: RedisSession) -> None:
        self._introducing = self._first
        self._marked.set()

    def _take(self, session: RedisSession) -> bytes:
        room = _WINDOW - self._in_flight_bytes
        if room <= 0:
            return b""
        commands, self._introducing = self._introducing, []
        if not commands:
            commands = self._outbox.take(trio.current_time(), room)
        if not commands:
            self._report_drops(trio.current_time())
            return b""
        data = b"".join(commands)
        session.protocol.publishing(len(commands))
        self._sent += len(commands)
        self._in_flight.append((self._sent, len(data)))
        self._in_flight_bytes += len(data)
        return data

    def _handle(self, session: RedisSession) -> None:
        super()._handle(session)
        confirmed = session.protocol.acknowledged
        if self._first and confirmed >= len(self._first):
            self._first = []
        in_flight = self._in_flight
        if in_flight and in_flight[0][0] <= confirmed:
            while in_flight and in_flight[0][0] <= confirmed:
                self._in_flight_bytes -= in_flight.popleft()[1]
            if self._outbox:
                self._marked.set()
            self._flushing.unpark_all()

    def _happened(self, session: RedisSession, event: Event) -> None:
        if type(event) is Refused and event.command == "PUBLISH":
            # Do not connect again: the answer would be the same.
            self.refused += 1
            self._last_refusal = f"the server answered to PUBLISH: {event.error}"
            self._report_drops(trio.current_time())
        else:
            super()._happened(session, event)

    def _end(self, session: RedisSession) -> None:
        protocol = session.protocol
        self._published += protocol.acknowledged - protocol.refused
        self.unconfirmed += self._sent - protocol.acknowledged
        self._in_flight.clear()
        self._in_flight_bytes = 0
        self._sent = 0
        self._report_drops(trio.current_time(), at_once=True)
        self._flushing.unpark_all()

    def _report_drops(self, now: float, *, at_once: bool = False) -> None:
        """Report the messages dropped since the last report, unless that was less than a second ago.

        With `at_once`, report in any case.
        """
        if now - self._reported_at < _REPORT_INTERVAL and not at_once:
            return
        for kind, count, problem in (
            ("too_many", self.too_many, "max_waiting_bytes were waiting to be published"),
            ("too_late", self.too_late, "they waited for max_waiting_seconds to be published"),
            ("refused", self.refused, self._last_refusal),
        ):
            new = count - self._reported[kind]
            if new:
                self._reported[kind] = count
                self._reported_at = now
                self._options.report("dropped", {"count": new}, {"problem": problem})


def _describe(error: Any) -> str:
    """Return the reason of a loss in one sentence."""
    while True:
        cause = error.__cause__
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif cause is not None and isinstance(cause, (OSError, BaseExceptionGroup)):
            error = cause
        else:
            break
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, OSError):
        return f"the system answered: {error.strerror or error}"
    if isinstance(error, (trio.BrokenResourceError, trio.ClosedResourceError)):
        return "the connection broke"
    if isinstance(error, UnicodeError):
        return "the name of the host is invalid"
    return str(error)
