"""Hypercorn's server for one connection, with changes so that no connection stays open forever.

- `ReplayStream` first returns the bytes that the endpoint read before the handover. It cuts off a peer that does not
  read.
- `StrictConnection` parses the heads of HTTP/1.1 requests as strictly as an endpoint does.
- `Exchange` replaces the message queue of a request.
- `PiecewiseStream` keeps no incomplete message of a WebSocket.
- `HypercornServer` ends when its peer leaves.

`TCPServer` is not a public interface. So `pyproject.toml` pins Hypercorn's minor version, and
`tests/channels/http/test_handover.py` tests the parts that this module uses.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import h2.exceptions
import h11
import trio
from h2.errors import ErrorCodes
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from wsproto.connection import ConnectionState as WebSocketState
from wsproto.events import CloseConnection, Message, Ping

from actors.instrumentation.logger import log_exception
from channels.http.asgi_stream import PIECES
from channels.upgrade.request import DEFAULT_MAX_HEAD_SIZE, BadRequest, HeadParser

__all__ = [
    "Exchange",
    "Exchanges",
    "HypercornServer",
    "PiecewiseStream",
    "ReplayStream",
    "StrictConnection",
    "TLSReplayStream",
]

_logger = logging.getLogger("channels.http")

_NEVER_LAST = ("http.response.start", "http.response.push", "http.response.early_hint")
_PIECE = 64 * 1024
_STALLED = 60.0
_CLOSE_TIMEOUT = 5.0


class _NoSocket:
    """A stand-in for the socket of a stream that has no socket, such as a stream in memory."""

    family = socket.AF_UNSPEC

    def getpeername(self) -> None:
        """Return None, because this address family has no addresses."""

    def getsockname(self) -> None:
        """Return None, because this address family has no addresses."""


class ReplayStream(trio.abc.HalfCloseableStream):
    """A stream that first returns the bytes `first`, and then the bytes of `stream`.

    >>> async def example(stream: trio.abc.Stream, read_before: bytes) -> bytes:
    ...     return bytes(await ReplayStream(stream, read_before).receive_some())

    If `stream` has no `send_eof`, this object's `send_eof` raises `AttributeError`, as Hypercorn expects.

    Args:
        stream: the stream. This object closes it.
        first: the bytes that the caller has read from the stream.
    """

    def __init__(self, stream: trio.abc.Stream, first: bytes) -> None:
        self._stream = stream
        self._first = first

    @property
    def socket(self) -> Any:
        """The socket of the stream, or a stand-in without addresses."""
        return getattr(self._stream, "socket", None) or _NoSocket()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return the next bytes, first from `first` and then from the stream."""
        if not self._first:
            return await self._stream.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        size = len(self._first) if max_bytes is None else max_bytes
        data, self._first = self._first[:size], self._first[size:]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write the data. If the peer does not read, close the stream.

        Otherwise, Hypercorn would wait forever for this peer, and keep the response in memory.

        Raises:
            trio.BrokenResourceError: the peer did not read the next 64 KiB, or the rest, within a minute. The stream is
                then closed.
        """
        view = memoryview(data)
        for start in range(0, len(view) or 1, _PIECE):
            with trio.move_on_after(_STALLED) as limit:
                await self._stream.send_all(view[start : start + _PIECE])
            if limit.cancelled_caught:
                await trio.aclose_forcefully(self._stream)
                raise trio.BrokenResourceError(
                    f"the peer did not read {_PIECE} bytes within {_STALLED:g} seconds"
                )

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream can probably take more bytes."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Close the stream for writing."""
        await self._stream.send_eof()  # type: ignore[attr-defined]  # see the class

    async def aclose(self) -> None:
        """Close the stream. TLS sends its closing alert first, for at most five seconds."""
        with trio.move_on_after(_CLOSE_TIMEOUT):
            await self._stream.aclose()


class TLSReplayStream(ReplayStream):
    """A `ReplayStream` for TLS, with the attributes that Hypercorn uses."""

    def __init__(self, stream: trio.SSLStream[Any], first: bytes) -> None:
        super().__init__(stream, first)
        self._tls = stream

    @property
    def transport_stream(self) -> Any:
        """The stream below TLS, as a `ReplayStream`."""
        return ReplayStream(self._tls.transport_stream, b"")

    async def do_handshake(self) -> None:
        """Do the TLS handshake if it has not been done."""
        await self._tls.do_handshake()

    def selected_alpn_protocol(self) -> str | None:
        """Return the protocol that the client chose: `"h2"`, `"http/1.1"` or None."""
        protocol: str | None = self._tls.selected_alpn_protocol()
        return protocol


class StrictConnection(h11.Connection):
    r"""The server side of an HTTP/1.1 connection. It refuses each head that `HeadParser` refuses.

        >>> connection = StrictConnection()
        >>> connection.receive_data(b"GET / HTTP/1.1\nHost: localhost\n\n")
        >>> connection.next_event()
        Traceback (most recent call last):
            ...
        h11._util.RemoteProtocolError: a line of the head ends without CR

    h11 accepts lines that end with a bare LF, and headers folded over several lines. A proxy may find other requests in
    the same bytes, so a client could smuggle a request past the proxy. So `HeadParser` checks each head before h11
    parses it.

    A request with a chunked body is the last request of its connection. h11 is lenient about the trailers after a
    chunked body, so it must not read another request after them. Source: RFC 9112, sections 2.2, 5.2, 6.1 and 7.1.

    Args:
        on_bad_request: a function that the connection calls when it refuses a head. The function must not block.
    """

    def __init__(self, *, on_bad_request: Callable[[], object] = lambda: None) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=DEFAULT_MAX_HEAD_SIZE)
        self._on_bad_request = on_bad_request
        self._is_last = False

    def next_event(self) -> Any:
        """Return the next event, as h11 does.

        Raises:
            h11.RemoteProtocolError: the head is malformed.
        """
        if self.their_state is h11.IDLE:
            data, ended = self.trailing_data
            head = HeadParser().feed(data) if data else None
            if isinstance(head, BadRequest):
                self._refuse(head)
            elif data and head is None:
                if not ended:
                    return h11.NEED_DATA
                self._refuse(BadRequest(status=400, problem="the request ends in its head"))
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._is_last = any(name == b"transfer-encoding" for name, _ in event.headers)
        return event

    def _refuse(self, head: BadRequest) -> None:
        self._on_bad_request()
        raise h11.RemoteProtocolError(head.problem, error_status_hint=head.status)

    def send(self, event: Any) -> Any:
        """Serialize an event, as h11 does. The response to a chunked request ends the connection."""
        if self._is_last and isinstance(event, h11.Response):
            event = h11.Response(
                status_code=event.status_code,
                headers=[*event.headers, (b"connection", b"close")],
                http_version=event.http_version,
                reason=event.reason,
            )
        return super().send(event)


class Shields:
    """The shielded cancel scopes in which the exchanges of one connection finish."""

    def __init__(self) -> None:
        self._scopes: dict[trio.CancelScope, None] = {}
        self._cancelled = False

    @contextmanager
    def holding(self, scope: trio.CancelScope) -> Iterator[None]:
        """Register a scope for `cancel` while the body runs. If `cancel` was called before, cancel the scope now."""
        self._scopes[scope] = None
        if self._cancelled:
            scope.cancel()
        try:
            yield
        finally:
            del self._scopes[scope]

    def cancel(self) -> None:
        """Cancel all registered scopes, and all later ones: applications may finish after the connection has ended."""
        self._cancelled = True
        for scope in list(self._scopes):
            scope.cancel()


class Exchange:
    """The messages between one request and its application.

        >>> async def example(hypercorn_send: Callable[[Any], Awaitable[None]]) -> None:
        ...     exchange = Exchange(hypercorn_send, {}, max_messages=10)
        ...     await exchange.put({"type": "http.request", "body": b"", "more_body": False})
        ...     print(await exchange.receive())

    Hypercorn finishes the exchange in the task of the application. After the last piece of the response, it sends a
    disconnect to the application. Then it closes the connection, or starts the idle timeout. In plain Hypercorn, two
    kinds of application can interrupt this work, so that their connections stay open forever:

    - An application that stops when its client leaves, such as a `StreamingResponse` of Starlette, cancels the work.
    - An application that does not read a large body leaves the queue full, and Hypercorn waits for room in the queue.

    In an `Exchange`, the disconnect needs no room in the queue, and the application cannot cancel the work after its
    last piece. Only the end of the connection can cancel it: see `Exchanges.cancel`.

    Args:
        send: a function that passes a message of the application to Hypercorn. The message None reports the end of the
            application.
        shields: the cancel scopes in which the exchanges of the connection finish.
        max_messages: pieces of the body that may wait for the application.
    """

    def __init__(
        self,
        send: Callable[[Any], Awaitable[None]],
        shields: Shields,
        *,
        max_messages: int,
    ) -> None:
        self._send = send
        self._shields = shields
        self._put, self._take = trio.open_memory_channel[Any](max_messages)

    async def put(self, message: Any) -> None:
        """Wait until the queue has room, and pass a message to the application. A disconnect needs no room."""
        if message["type"] == "http.disconnect":
            self._put.close()
            return
        try:
            await self._put.send(message)
        except trio.ClosedResourceError:
            # The exchange has ended, so the application will not read this piece.
            pass

    async def receive(self) -> Any:
        """Wait for the next message. After the end of the exchange, return `http.disconnect`."""
        try:
            return await self._take.receive()
        except trio.EndOfChannel:
            return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Pass a piece of the response to Hypercorn. The application cannot cancel the work after the last piece."""
        if message is not None and message.get("more_body", message["type"] in _NEVER_LAST):
            await self._send(message)
            return
        # Shielded, because after a cancellation here nothing would close the connection. If the peer does not read, the
        # stream limits the time of the write. The end of the connection cancels the scope.
        with trio.CancelScope(shield=True) as shield, self._shields.holding(shield):
            await self._send(message)
        if message is None:
            # Break the reference cycle with Hypercorn's stream. Otherwise only the garbage collector could free both
            # objects.
            self._send = _ignore


async def _ignore(message: Any) -> None:
    """Ignore a message from an application that has ended."""


class PiecewiseStream(WSStream):
    """A WebSocket of Hypercorn that passes on the pieces of a message as they arrive.

    Hypercorn's own class keeps up to 16 MiB of an incomplete message, and ten whole messages. The memory for incomplete
    messages has a limit for all clients together, so a connection of an endpoint keeps these bytes itself. An
    application of the user gets whole messages.
    """

    async def _handle_events(self) -> None:
        assert self.app_put is not None  # the application runs
        for event in self.connection.events():
            if isinstance(event, Message):
                text = event.data if isinstance(event.data, str) else None
                piece = {
                    "type": "websocket.receive",
                    "text": text,
                    "bytes": None if text is not None else bytes(event.data),
                    PIECES: not event.message_finished,
                }
                await self.app_put(piece)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                if self.connection.state == WebSocketState.REMOTE_CLOSING:
                    await self._send_wsproto_event(event.response())
                await self.send(StreamClosed(stream_id=self.stream_id))


class Exchanges(TaskGroup):
    """The task group of one Hypercorn connection, with an `Exchange` for each request.

    Args:
        group: the task group of the connection, in whose nursery the applications run.
    """

    def __init__(self, group: TaskGroup) -> None:
        super().__init__()
        self._nursery = group._nursery
        self._shields = Shields()

    async def spawn_app(self, app: Any, config: Config, scope: Any, send: Any) -> Any:
        """Start the application in a task. Return the function that passes messages to it."""
        if scope["type"] != "http":
            return await self._spawn_websocket(app, config, scope, send)
        exchange = Exchange(send, self._shields, max_messages=config.max_app_queue_size)

        async def run(scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
            await app(scope, exchange.receive, send, sync_spawn, call_soon)

        await super().spawn_app(run, config, scope, exchange.send)
        return exchange.put

    async def _spawn_websocket(self, app: Any, config: Config, scope: Any, send: Any) -> Any:
        """Start the application of a WebSocket. Return the function that passes messages to it.

        In plain Hypercorn, this function waits forever if the application has ended and left ten messages unread. Then
        all other requests of an HTTP/2 connection wait too.
        """
        stream = send.__self__  # `send` is a method of Hypercorn's WSStream
        scope["extensions"][PIECES] = partial(setattr, stream, "__class__", PiecewiseStream)
        put, take = trio.open_memory_channel[Any](config.max_app_queue_size)

        async def run(scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
            with take:
                await app(scope, take.receive, send, sync_spawn, call_soon)

        async def put_unless_ended(message: Any) -> None:
            try:
                await put.send(message)
            except trio.BrokenResourceError:
                # The application has ended.
                pass

        await super().spawn_app(run, config, scope, send)
        return put_unless_ended

    def cancel(self) -> None:
        """Cancel the exchanges that are finishing. Call this when the connection ends."""
        self._shields.cancel()


class HypercornServer(TCPServer):
    """The server for one connection, which ends when its peer leaves.

    Hypercorn's own server keeps the socket open until the timeout for the next request. It also treats the preface of
    HTTP/2 as a request that never ends, so a client that sends only the preface would stay connected forever.

    Args:
        app: the application.
        config: Hypercorn's settings.
        context: Hypercorn's worker context, which shows whether the endpoint drains.
        state: the state of the lifespan.
        stream: the connection. This object closes it.
        begins_with_http2: True if the first bytes are the preface of HTTP/2.
        has_request: True if the first bytes are the head of a request.
        count: a function that counts an event.
    """

    def __init__(
        self,
        app: ASGIWrapper,
        config: Config,
        context: WorkerContext,
        state: ConnectionState,
        stream: ReplayStream,
        *,
        begins_with_http2: bool,
        has_request: bool,
        count: Callable[[tuple[str, ...]], object],
    ) -> None:
        # The annotation asks for TLS, but the class accepts any stream.
        connection: Any = stream
        super().__init__(app, config, context, state, connection)
        self._begins_with_http2 = begins_with_http2
        self._has_request = has_request
        self._count = count
        self._peer_has_gone = False
        self._reading: trio.CancelScope | None = None
        self._exchanges: Exchanges | None = None

    async def serve(self) -> None:
        """Serve until the connection ends. On cancellation, close the connection immediately."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._close_when_cancelled)
                await self.run()
                nursery.cancel_scope.cancel()
        finally:
            self._break_cycles()

    def _break_cycles(self) -> None:
        """Break the reference cycles of this connection. Otherwise only the garbage collector could free its objects.

        Hypercorn's objects hold each other's bound methods. All tasks that use these objects have ended.
        """
        wrapper = vars(self).pop("protocol", None)
        if wrapper is not None:
            vars(wrapper.protocol).clear()
            vars(wrapper).clear()
        self._exchanges = self._reading = None

    async def _close_when_cancelled(self) -> None:
        """Close the stream on cancellation, even while Hypercorn writes to a peer that does not read.

        Hypercorn writes in a shielded scope, so only closing the stream ends the write.
        """
        try:
            await trio.sleep_forever()
        finally:
            if self._exchanges is not None:
                self._exchanges.cancel()
            await trio.aclose_forcefully(self.stream)

    async def _read_data(self) -> None:
        self._exchanges = Exchanges(self._task_group)
        wrapper, protocol = self.protocol, self.protocol.protocol
        # Set on the wrapper too, because the wrapper creates a new protocol if the connection switches to HTTP/2.
        wrapper.task_group = protocol.task_group = self._exchanges
        if isinstance(protocol, H11Protocol):
            protocol.connection = StrictConnection(
                on_bad_request=lambda: self._count(("http", "bad_request"))
            )
        with trio.CancelScope() as self._reading:
            try:
                await super()._read_data()
            except OSError:
                raise
            except Exception as error:
                # Broad, because Hypercorn raises many errors for input that it cannot read, such as a path that is not
                # ASCII. Exceptions of applications do not arrive here, because they run in other tasks.
                await self._give_up(error)
        self._peer_has_gone = True
        protocol = wrapper.protocol
        if isinstance(protocol, H2Protocol):
            # Hypercorn no longer writes, so an application that still writes would wait forever.
            for buffer in list(protocol.stream_buffers.values()):
                await buffer.close()
        await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        """Close the connection after the keep-alive timeout, or when the endpoint drains, unless it has a request.

        Hypercorn cancels this task when it reads a request. That is too late if the endpoint begins to drain at the
        same moment.
        """
        with trio.move_on_after(self.config.keep_alive_timeout):
            await self.context.terminated.wait()
        if not self._has_request:
            # Shielded as in Hypercorn, because closing the connection cancels this task.
            with trio.CancelScope(shield=True):
                await self._initiate_server_close()

    async def _give_up(self, error: Exception) -> None:
        self._count(("http", "unreadable"))
        log_exception(
            _logger,
            "closed a connection that Hypercorn could not read",
            exception=error,
            level=logging.DEBUG,
        )
        protocol = self.protocol.protocol
        if isinstance(protocol, H2Protocol):
            try:
                protocol.connection.close_connection(ErrorCodes.PROTOCOL_ERROR)
                await protocol._flush()
            except h2.exceptions.ProtocolError:
                # HTTP/2 has closed the connection already.
                pass
        # Cancel the applications, because Hypercorn sends no disconnect to streams whose requests are incomplete.
        nursery = self._task_group._nursery
        assert nursery is not None  # this method runs in the nursery
        nursery.cancel_scope.cancel()

    async def protocol_send(self, event: Event) -> None:
        """Carry out an event of Hypercorn's protocol: write, close, or start the idle timeout."""
        if isinstance(event, Updated):
            self._has_request = not event.idle
        if isinstance(event, Updated) and (self._peer_has_gone or self._begins_with_http2):
            self._begins_with_http2 = False
            return
        try:
            # Shielded, because the protocol counts these bytes as written. If a cancelled application stopped the
            # write, the peer would miss some bytes. The stream limits the time of the write.
            with trio.CancelScope(shield=isinstance(event, RawData)):
                await super().protocol_send(event)
        except trio.BusyResourceError:
            # Another task has closed the stream, because of data from the client.
            await self.protocol.handle(Closed())
        if isinstance(event, Closed) and self._reading is not None:
            # After the last response, Hypercorn serves no further request, but would wait for one forever.
            self._reading.cancel()
