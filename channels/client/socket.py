"""A connection to a Phoenix server that the client reopens when it breaks, and its channels."""

from __future__ import annotations

import random as chance
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import trio
from attrs import asdict, define, field, frozen

from actors.arguments import check_positive, check_whole
from actors.errors import InvalidOption, RuntimeClosed
from actors.instrumentation.telemetry import OPERATION_BEGAN, Telemetry
from actors.runtime import current_runtime
from channels.client.backoff import RECONNECT, REJOIN, RetryTable
from channels.client.channel import ClientChannel
from channels.client.connection import ClientConnection, End
from channels.client.errors import BufferFull, NotConnected
from channels.client.events import (
    TELEMETRY,
    ConnectFailed,
    Disconnected,
    Dropped,
    Lifecycle,
)
from channels.client.feed import Change, Feed
from channels.client.operations import Operations
from channels.client.options import check, close_codes
from channels.client.protocol import Protocol
from channels.client.records import (
    Arrived,
    ChannelRecord,
    ClientSettings,
    Close,
    ConnectionState,
    Effect,
    Ended,
    Left,
    Open,
    Pong,
    PositionTracker,
    PushRecord,
    Send,
    Settled,
    Tell,
)
from channels.client.transports.contract import (
    Connect,
    Link,
    LinkFailed,
    Options,
    Params,
)
from channels.client.transports.longpoll import open_longpoll
from channels.client.transports.websocket import open_websocket
from channels.client.wire import Frame, TransportName, address_of

__all__ = ["ClientSocket", "SocketStatistics", "open_socket"]

_MAX_EVENTS = 1000

# The statuses that a busy server sends: request timeout, too early, too many requests. The next attempt may succeed.
_BUSY = frozenset((408, 425, 429))


@frozen(kw_only=True)
class SocketStatistics:
    """The counters of a socket at one moment.

    Attributes:
        state: the state of the connection: closed, connecting or open.
        transport: "websocket" or "longpoll".
        connections: the number of connections that have been open so far.
        channels: the number of channels that are not closed.
        joined: the number of joined channels.
        buffered: the number of pushes that wait until their channel joins.
        waiting: the number of frames that wait to be written.
        malformed: the number of frames of the server that were not messages.
        dropped: the number of messages that open channels have dropped, because the program did not read them.
    """

    state: ConnectionState
    transport: TransportName
    connections: int
    channels: int
    joined: int
    buffered: int
    waiting: int
    malformed: int
    dropped: int


def open_socket(
    url: str,
    *,
    params: Params = None,
    auth_token: str | Callable[[], str] | None = None,
    wait: bool = True,
    timeout: float = 10.0,
    heartbeat_interval: float = 30.0,
    reconnect: RetryTable = RECONNECT,
    rejoin: RetryTable = REJOIN,
    final_close_codes: Iterable[int] = (),
    transport: TransportName = "websocket",
    longpoll_fallback_after: float | None = None,
    connect: Connect = trio.open_tcp_stream,
    ssl_context: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    connect_timeout: float = 10.0,
    poll_timeout: float = 20.0,
    max_buffered: int = 1000,
    max_message_bytes: int = 16 * 1024 * 1024,
    telemetry: Telemetry | None = None,
    random: Callable[[], float] | None = None,
) -> AbstractAsyncContextManager[ClientSocket]:
    """Connect to a socket of a Phoenix server, and stay connected until the block ends.

        async with open_socket("wss://example.org/socket", params={"token": token}) as socket:
            async with socket.channel("room:lobby") as channel:
                await channel.push("new_msg", {"body": "hello"})

    If the connection breaks, the client tries to connect again, without a limit, with the waits of `reconnect`. Then
    all channels join again. At the end of the block, the client closes the connection in order.

    Args:
        url: the URL of the socket, as for phoenix.js: ws, wss, http or https, without `/websocket`.
        params: parameters for the socket's `connect`. The client calls a function at every connect.
        auth_token: the token that phoenix.js calls `authToken`; it does not appear in the URL. The client calls a
            function at every connect.
        wait: With True, the block begins when the connection is open. With False, it begins immediately, and joins and
            pushes wait for the connection.
        timeout: seconds for the reply to a join or a push without its own timeout.
        heartbeat_interval: seconds between heartbeats, and seconds for each answer.
        reconnect: the waits before attempts to connect. They start from the first wait again when a connection is open,
            unless ten connections in a row ended within five seconds.
        rejoin: the waits before attempts to join a topic again, on an open connection.
        final_close_codes: close codes of the server that end the socket for good. Since 1.8.16, phoenix.js connects
            again after every code. Before, 1000 was final.
        transport: "websocket" or "longpoll".
        longpoll_fallback_after: seconds for a WebSocket to open, and then to answer a ping. If the WebSocket fails or
            takes longer, the client changes to long polling. With None, the client always uses a WebSocket.
        connect: opens a stream to a host and a port. In a simulation, pass `world.network.connect`.
        ssl_context: the context for wss and https; by default that of `ssl.create_default_context()`.
        headers: further headers of the requests, such as `{"origin": "https://example.org"}`; a mapping, or pairs.
        connect_timeout: seconds for each attempt to connect, and for all attempts before the block begins.
        poll_timeout: seconds for one request of long polling. The client polls at most fifty times a second, and at
            most once a second while the answers contain no messages.
        max_buffered: pushes of one channel that may wait for its join, and frames that may wait to be written.
        max_message_bytes: bytes of one message of the server. A longer message ends the connection.
        telemetry: emits the lifecycle events; by default the telemetry of the current runtime, if there is one.
        random: returns a number from 0 to 1, for jitter; by default the `random` of the current runtime, if there is
            one.

    Returns:
        An async context manager, whose value is the socket.

    Raises:
        NotConnected: the first connection did not open in time, or the server refused it with a status from 400 to 499,
            except 408, 425 and 429, which a busy server sends.
        InvalidOption: an option has an invalid value.

    If a function of your program raises (`params`, a listener), the block ends with that exception, unchanged.

    Source: phoenix.js 1.8.16, with three differences. Here a refused first connection is an error. phoenix.js begins
    with the first wait again at every open connection, even if all of them end immediately. It also polls again
    immediately after each answer. So a server decides how often phoenix.js does both.
    """
    settings = ClientSettings(
        timeout=timeout,
        heartbeat_interval=heartbeat_interval,
        reconnect=reconnect,
        rejoin=rejoin,
        final_close_codes=close_codes(final_close_codes),
        transport=transport,
        longpoll_fallback_after=longpoll_fallback_after,
        max_buffered=max_buffered,
    )
    options = Options(
        url=url,
        params=params,
        auth_token=auth_token,
        connect=connect,
        ssl_context=ssl_context,
        headers=tuple(headers.items() if isinstance(headers, Mapping) else headers),
        connect_timeout=connect_timeout,
        poll_timeout=poll_timeout,
        max_message_bytes=max_message_bytes,
    )
    check(settings, options)
    if not isinstance(telemetry, Telemetry | None):
        raise InvalidOption("open_socket", "telemetry", telemetry, "a Telemetry")
    socket = ClientSocket(settings, options, telemetry, random)
    return _running(socket, connect_timeout if wait else None)


@asynccontextmanager
async def _running(
    socket: ClientSocket, connect_timeout: float | None
) -> AsyncIterator[ClientSocket]:
    """Run the tasks of a socket. Errors leave the block unchanged, without the exception group of a nursery."""
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        socket.start(nursery)
        try:
            if connect_timeout is not None:
                await socket.wait_open(connect_timeout)
            yield socket
        except BaseException as error:  # raised again below, when the tasks have ended
            raised = error
        socket.close()
    if socket.failure is not None:
        raise socket.failure
    if raised is not None:
        raise raised


class ClientSocket:
    """A connection that the client reopens when it breaks. `open_socket` makes it.

    Attributes:
        url: the URL, without parameters.
        telemetry: emits the lifecycle events; see `channels.client.events`.
        failure: the exception that a function of the program raised, and that ends the block; None without one.
    """

    __slots__ = (
        "_changed",
        "_connection",
        "_feeds",
        "_is_closed",
        "_last_failure",
        "_max_buffered",
        "_nursery",
        "_operations",
        "_options",
        "_pongs",
        "_protocol",
        "_random",
        "_sleep",
        "failure",
        "telemetry",
        "url",
    )

    def __init__(
        self,
        settings: ClientSettings,
        options: Options,
        telemetry: Telemetry | None,
        random: Callable[[], float] | None,
    ) -> None:
        self.url = address_of(options.url).url
        self.failure: BaseException | None = None
        try:
            runtime = current_runtime()
            self.telemetry = runtime.telemetry if telemetry is None else telemetry

            def of_runtime() -> float:
                # Look it up each time, because every process has its own `random`.
                return runtime.random.random()

            random = of_runtime if random is None else random
        except RuntimeClosed:
            # Outside of a runtime, in a program that uses the client alone.
            self.telemetry = Telemetry() if telemetry is None else telemetry
            random = chance.random if random is None else random
        self._options = options
        # As in `connect=partial(world.network.connect, source="ann")`.
        source = getattr(options.connect, "keywords", {}).get("source")
        self._operations = Operations(self, self.telemetry, source)
        self._max_buffered = settings.max_buffered
        self._random = random
        self._protocol = Protocol(settings, random)
        self._connection: ClientConnection | None = None
        self._nursery: trio.Nursery | None = None
        self._is_closed = False
        self._sleep = trio.CancelScope()
        self._feeds: list[Feed[Lifecycle]] = []
        self._changed = Change()
        self._last_failure: ConnectFailed | None = None
        self._pongs: dict[str, _Ping] = {}

    def __repr__(self) -> str:
        return f"<client socket {self.url} {self.state}>"

    @property
    def state(self) -> ConnectionState:
        """The state of the connection: closed, connecting or open."""
        return self._protocol.state

    # For programs

    def channel(
        self,
        topic: str,
        params: Any = None,
        *,
        timeout: float | None = None,
        wait: bool = True,
        max_messages: int = 1000,
        durable: bool = False,
    ) -> ClientChannel:
        """Return a channel, for `async with`, which joins the topic.

            async with socket.channel("room:lobby", {"name": "ann"}) as channel: ...

        Args:
            topic: the topic.
            params: the payload for `join`. The client calls a function at every join.
            timeout: seconds for the replies to joins and pushes; by default the timeout of the socket.
            wait: With True, the block begins when the server has accepted the join; a refused join raises `Refused`.
                With False, the block begins immediately, and the client repeats a refused join, as phoenix.js does.
            max_messages: messages to keep for a program that does not read them; see `Feed`.
            durable: True sends the position of the last message at each join, so that a server with durable topics
                sends the messages that the client missed. `channel.response["_recovered"]` is False if the server could
                not. The position includes messages that arrived and that the channel then dropped. Each push gets a
                key, and the client sends it again after a rejoin if its answer has not come.

        Raises:
            InvalidOption: an option has an invalid value.

        If another channel of this socket is in the topic, that channel leaves. A client can be in a topic only once.
        """
        if not isinstance(topic, str):
            raise InvalidOption("channel", "topic", topic, 'text, such as "room:lobby"')
        if timeout is not None:
            check_positive("channel", "timeout", timeout)
        check_whole("channel", "max_messages", max_messages)
        tracker = PositionTracker(params, self._random) if durable else None
        record = self._protocol.channel(
            topic, params if tracker is None else tracker.params, timeout
        )
        record.owner = channel = ClientChannel(
            self, record, wait=wait, max_messages=max_messages, tracker=tracker
        )
        return channel

    def events(self) -> Feed[Lifecycle]:
        """Return a feed of the lifecycle events that follow this call: connected, lost, retrying, rejoined, and so on.

            with socket.events() as events:
                async for event in events:
                    print(event)

        The feed ends at the end of the `with` block, or when the socket ends.
        """
        feed: Feed[Lifecycle] = Feed("lifecycle events", _MAX_EVENTS, on_close=self._feeds.remove)
        self._feeds.append(feed)
        return feed

    async def ping(self) -> float:
        """Send a heartbeat, and return the seconds until its answer.

        Raises:
            NotConnected: the connection is not open, or was lost before the answer.
        """
        ref, effects = self._protocol.ping(trio.current_time())
        await trio.lowlevel.checkpoint()
        if ref is None:
            raise NotConnected(self.url, f"the connection is {self.state}")
        ping = self._pongs[ref] = _Ping()
        self._act(effects)
        try:
            await ping.done.wait()
        finally:
            self._pongs.pop(ref, None)
        if ping.seconds is None:
            raise NotConnected(self.url, "the connection was lost before the answer")
        return ping.seconds

    async def wait_open(self, timeout: float | None = None) -> None:
        """Wait until the connection is open.

        Args:
            timeout: seconds; by default there is no limit.

        Raises:
            NotConnected: the time is over, or the socket has ended. Or the server refused the first connection with a
                status that `open_socket` describes.
        """
        seconds = float("inf") if timeout is None else timeout
        with trio.move_on_after(seconds):
            await trio.lowlevel.checkpoint()
            while self._protocol.state != "open":
                failure = self._last_failure
                if self._protocol.has_ended:
                    raise NotConnected(self.url, "the socket has ended")
                if failure is not None and self._protocol.connections == 0 and _is_final(failure):
                    raise NotConnected(self.url, failure.cause, failure.status)
                await self._changed.wait()
            return
        cause = f"no answer within {seconds:g} seconds"
        status = None
        if self._last_failure is not None:
            cause, status = self._last_failure.cause, self._last_failure.status
        raise NotConnected(self.url, cause, status)

    def statistics(self) -> SocketStatistics:
        """Return the numbers of the socket."""
        protocol = self._protocol
        channels = protocol.channels
        return SocketStatistics(
            state=protocol.state,
            transport=protocol.transport,
            connections=protocol.connections,
            channels=len(channels),
            joined=sum(each.state == "joined" for each in channels),
            buffered=sum(each.buffered for each in channels),
            waiting=0 if self._connection is None else len(self._connection.waiting),
            malformed=protocol.malformed,
            dropped=sum(each.owner.dropped for each in channels),
        )

    # For channels

    def join(self, record: ChannelRecord) -> None:
        """Send the first join of a channel."""
        if self.telemetry.handlers(OPERATION_BEGAN):
            self._operations.joining(record)
        self._act(self._protocol.join(record, trio.current_time()))

    def push(
        self,
        record: ChannelRecord,
        event: str,
        payload: Any,
        timeout: float | None,
        *,
        is_repeatable: bool,
    ) -> PushRecord:
        """Send an event of a channel."""
        connection = self._connection
        if connection is not None and len(connection.waiting) >= self._max_buffered:
            raise BufferFull(record.topic, event, self._max_buffered)
        pushed, effects = self._protocol.push(
            record,
            event,
            payload,
            now=trio.current_time(),
            timeout=timeout,
            is_repeatable=is_repeatable,
        )
        if self.telemetry.handlers(OPERATION_BEGAN):
            self._operations.pushed(pushed, payload)
        self._act(effects)
        return pushed

    def cancel(self, record: PushRecord) -> None:
        """Forget a push."""
        if record.is_observed and not record.is_settled:
            self._operations.settled(record, "timeout", None)
        self._protocol.cancel(record)

    def leave(self, record: ChannelRecord) -> None:
        """Leave the topic of a channel."""
        if self.telemetry.handlers(OPERATION_BEGAN):
            self._operations.begin((record, "leave"), "leave", record, "phx_leave", None)
        self._act(self._protocol.leave(record, trio.current_time()))

    # For open_socket

    def start(self, nursery: trio.Nursery) -> None:
        """Begin to connect."""
        self._nursery = nursery
        nursery.start_soon(self._guard, self._drive)
        self._act(self._protocol.connect(trio.current_time()))

    def close(self) -> None:
        """End everything. The nursery ends when the connection is closed."""
        self._is_closed = True
        self._act(self._protocol.disconnect(trio.current_time()))
        self._sleep.cancel()

    async def _drive(self) -> None:
        """Call the protocol whenever its deadline has come."""
        while not self._is_closed:
            with trio.CancelScope(deadline=self._protocol.deadline) as self._sleep:
                await trio.sleep_forever()
            self._act(self._protocol.tick(trio.current_time()))

    async def _guard(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task of the socket. If it fails, keep the error, and end the block."""
        try:
            await task()
        except Exception as failed:
            # An error in a function of the program must leave the block as it is.
            error: BaseException = failed
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            if self.failure is None:
                self.failure = error
            assert self._nursery is not None  # this is a task of it
            self._nursery.cancel_scope.cancel()

    # Effects

    def _act(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                if self._connection is not None:
                    self._connection.send_nowait(effect.frame)
            elif isinstance(effect, Arrived):
                channel = effect.channel
                if self.telemetry.handlers(OPERATION_BEGAN):
                    self._operations.received(effect)
                if channel.owner.arrived(effect.message):
                    self._tell(Dropped(channel.topic, channel.owner.max_messages))
            elif isinstance(effect, Settled):
                effect.push.waiter.settle(effect.status, effect.response)
                if effect.push.is_observed:
                    self._operations.settled(effect.push, effect.status, effect.response)
            else:
                self._act_rarely(effect)
        deadline = self._protocol.deadline
        self._sleep.deadline = min(self._sleep.deadline, deadline)

    def _act_rarely(self, effect: Effect) -> None:
        match effect:
            case Tell():
                self._tell(effect.event)
                if effect.channel is not None:
                    if self.telemetry.handlers(OPERATION_BEGAN):
                        self._operations.told(effect.channel, effect.event)
                    effect.channel.owner.told(effect.event)
            case Open():
                self._connection = ClientConnection(self, effect.transport)
                assert self._nursery is not None  # `start` has set it
                self._nursery.start_soon(self._guard, self._connection.main)
            case Close():
                if self._connection is not None:
                    self._connection.close(effect.code, effect.reason)
                    self._connection = None
            case Left():
                effect.channel.owner.left()
                if self.telemetry.handlers(OPERATION_BEGAN):
                    self._operations.end((effect.channel, "leave"), "answered")
            case Ended():
                effect.channel.owner.ended(is_clean=effect.is_clean)
            case Pong():
                ping = self._pongs.get(effect.ref)
                if ping is not None:
                    ping.seconds = effect.seconds
                    ping.done.set()

    # For the connection

    async def open_link(self, transport: TransportName, nursery: trio.Nursery) -> Link:
        """Open a link, with a nursery for its tasks."""
        opening = self._options.opening(transport)
        if transport == "longpoll":
            return await open_longpoll(opening)
        return await open_websocket(nursery, opening)

    def opened(self) -> None:
        """Tell the protocol that the connection is open."""
        self._act(self._protocol.opened(trio.current_time()))

    def received(self, frame: Frame) -> None:
        """Pass a frame of the server to the protocol."""
        self._act(self._protocol.received(frame, trio.current_time()))

    def ended(self, end: End) -> None:
        """Tell the protocol that the connection has ended."""
        self._connection = None
        now = trio.current_time()
        if isinstance(end, LinkFailed):
            self._act(self._protocol.failed(end.cause, end.status, now))
        else:
            self._act(self._protocol.lost(end.code, end.reason, now))

    # Lifecycle events

    def _tell(self, event: Lifecycle) -> None:
        if isinstance(event, ConnectFailed):
            self._last_failure = event
        for feed in self._feeds:
            feed.put(event)
        if isinstance(event, Disconnected):
            for feed in self._feeds:
                feed.end()
        name = TELEMETRY[type(event)]
        if self.telemetry.handlers(name):
            numbers = {
                key: value
                for key, value in asdict(event, recurse=False).items()
                if isinstance(value, int | float)
            }
            about = {"url": self.url, "topic": getattr(event, "topic", None), "event": event}
            self.telemetry.execute(name, numbers, about)
        self._changed.notify()


def _is_final(failure: ConnectFailed) -> bool:
    status = failure.status
    return status is not None and 400 <= status < 500 and status not in _BUSY


@define(eq=False)
class _Ping:
    """A heartbeat of `ClientSocket.ping`."""

    done: trio.Event = field(factory=trio.Event)
    seconds: float | None = None
