"""Hypercorn's protocols for one connection, with changes so that clients cannot hold or delay the server.

- `ReplayStream` first returns the bytes that the endpoint read before the handover. It cuts off a peer that does not
  read.
- `StrictConnection` parses the heads of HTTP/1.1 requests as strictly as an endpoint does, and ignores `Upgrade: h2c`.
- `Http1` and `Http2` are Hypercorn's protocols, with a limit on the work in one turn of the scheduler.
- `Exchange` replaces the message queue of a request.
- `PiecewiseStream` keeps no incomplete message of a WebSocket if the application wants pieces.
- `HypercornServer` replaces Hypercorn's server for one connection. It ends when its peer leaves.

A connection never changes its protocol, except from HTTP/1.1 to a WebSocket. In plain Hypercorn, a client can change to
HTTP/2 with `Upgrade: h2c`, or with the preface of HTTP/2 in the place of a second request. If a proxy passes these
bytes on, it no longer sees the requests that follow, so its rules do not apply to them.

This is the only module that imports Hypercorn. Hypercorn's protocols are not a public interface. So `pyproject.toml`
pins Hypercorn's minor version, and `tests/channels/http/test_handover.py` tests the parts that this module uses.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h2.events
import h2.exceptions
import h11
import trio
from h2.errors import ErrorCodes
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState
from hypercorn.utils import parse_socket_addr
from wsproto.connection import ConnectionState as WebSocketState
from wsproto.events import CloseConnection, Message, Ping

from actors.text import log_exception
from channels.protocol.work_budget import WorkBudget
from channels.transports.asgi_stream import PIECES
from channels.transports.tls import TlsSocketStream
from channels.wire.request import DEFAULT_MAX_HEAD_SIZE, BadRequest, HeadParser

__all__ = [
    "Exchange",
    "Exchanges",
    "FrameGroups",
    "Http1",
    "Http2",
    "HypercornServer",
    "Pieces",
    "PiecewiseStream",
    "ReplayStream",
    "ServedApplication",
    "Shields",
    "StrictConnection",
]

_logger = logging.getLogger("channels.http")

_NEVER_LAST = ("http.response.start", "http.response.push", "http.response.early_hint")
_READ_SIZE = 64 * 1024
_PIECE = 64 * 1024
_STALLED = 60.0
_CLOSE_TIMEOUT = 5.0
_SHUTDOWN_TIMEOUT = 5.0

# The cost of a request, in units of the work budget, for all steps until its answer. A join costs half as much.
_REQUEST_COST = 48
# The bytes of a body for each unit of work, as a shift.
_BODY_COST_SHIFT = 10
# A WebSocket that Hypercorn serves gets its bytes in pieces of this size, because a piece may contain many tiny frames.
_WEBSOCKET_PIECE = 1024
# The bytes of such a WebSocket for each unit of work, as a shift. The smallest frame has six bytes.
_WEBSOCKET_COST_SHIFT = 3
# The cost of an HTTP/2 frame without headers.
_FRAME_COST = 2
# The cost of the HTTP/2 frames that the server parses together.
_GROUP_COST = 64
# The bytes of compressed HTTP/2 headers for each unit of work, as a shift. One byte may stand for a whole header.
_HEADERS_COST_SHIFT = 1
_PREFACE_SIZE = 24
_FRAME_HEADER_SIZE = 9
_DATA, _HEADERS, _CONTINUATION = 0x0, 0x1, 0x9


def _config(keep_alive_timeout: float) -> Config:
    """Return the settings for Hypercorn."""
    config = Config()
    config.errorlog = _logger
    # No header of a response names the software.
    config.include_server_header = False
    config.shutdown_timeout = _SHUTDOWN_TIMEOUT
    # Hypercorn declares whole seconds, but accepts any number.
    config.keep_alive_timeout = keep_alive_timeout
    # The headers of an HTTP/2 request have the same limit as the head of an HTTP/1.1 request.
    config.h2_max_header_list_size = DEFAULT_MAX_HEAD_SIZE
    return config


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

    Args:
        stream: the stream. This object closes it.
        first: the bytes that the caller has read from the stream.

    Attributes:
        is_tls: True if the stream is a TLS connection.
    """

    def __init__(self, stream: trio.abc.Stream, first: bytes) -> None:
        self.is_tls = isinstance(stream, TlsSocketStream | trio.SSLStream)
        self._stream = stream
        self._first = first

    @property
    def socket(self) -> Any:
        """The socket of the stream, or a stand-in without addresses."""
        below = (
            self._stream.transport_stream
            if isinstance(self._stream, trio.SSLStream)
            else self._stream
        )
        return getattr(below, "socket", None) or _NoSocket()

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
        """Close the stream for writing, if it can be closed for writing alone. TLS cannot."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the stream. TLS sends its closing alert first, for at most five seconds."""
        with trio.move_on_after(_CLOSE_TIMEOUT):
            await self._stream.aclose()


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

    A request to change to another protocol than WebSocket is an ordinary request, because a server may ignore `Upgrade`
    (RFC 9110, section 7.8). So this object removes the header, and Hypercorn does not see it.

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
            if any(map(_asks_for_other_protocol, event.headers)):
                return h11.Request(
                    method=event.method,
                    headers=[each for each in event.headers if not _asks_for_other_protocol(each)],
                    target=event.target,
                    http_version=event.http_version,
                )
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


def _asks_for_other_protocol(header: tuple[bytes, bytes]) -> bool:
    name, value = header
    return name == b"upgrade" and value.strip().lower() != b"websocket"


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


class Pieces:
    """A function with which an application asks for the messages of its WebSocket in pieces.

    It does not refer to the WebSocket, whose scope contains it. So there is no reference cycle.

    Attributes:
        are_wanted: True after the call.
    """

    __slots__ = ("are_wanted",)

    def __init__(self) -> None:
        self.are_wanted = False

    def __call__(self) -> None:
        self.are_wanted = True


class PiecewiseStream(WSStream):
    """A WebSocket of Hypercorn that passes on the pieces of a message as they arrive, if the application wants pieces.

    Hypercorn's own class keeps up to 16 MiB of an incomplete message, and ten whole messages. The memory for incomplete
    messages has a limit for all clients together, so a connection of an endpoint keeps these bytes itself. An
    application of the user gets whole messages.
    """

    @classmethod
    def replace(cls, stream: Any) -> None:
        """Make a new stream of Hypercorn an object of this class, if it is a WebSocket. Hypercorn creates it itself."""
        if isinstance(stream, WSStream):
            stream.__class__ = cls

    async def _handle_events(self) -> None:
        pieces: Any = self.scope["extensions"][PIECES]
        if not pieces.are_wanted:
            await super()._handle_events()
            return
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
    """The task group of one connection, with an `Exchange` for each request. It is an async context manager."""

    def __init__(self) -> None:
        super().__init__()
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
        scope["extensions"][PIECES] = Pieces()
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

    def cancel_finishing(self) -> None:
        """Cancel the exchanges that are finishing. Call this when the connection ends."""
        self._shields.cancel()

    def cancel(self) -> None:
        """Cancel all tasks of the connection."""
        assert self._nursery is not None  # the connection runs inside this context manager
        self._nursery.cancel_scope.cancel()


class Http1(H11Protocol):
    """Hypercorn's protocol for HTTP/1.1, with a limit on the work in one turn of the scheduler.

    Args:
        options: the arguments of `H11Protocol`.
        budget: the work budget of all connections.
        count: a function that counts an event.
    """

    def __init__(
        self, *options: Any, budget: WorkBudget, count: Callable[[tuple[str, ...]], object]
    ) -> None:
        super().__init__(*options)
        self.connection = StrictConnection(on_bad_request=lambda: count(("http", "bad_request")))
        self._budget = budget
        # The head of a response whose body has not begun.
        self._head = b""

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a part of a response. If the application ends without a body, send the head now."""
        if isinstance(event, StreamClosed) and self._head:
            await self._flush_head()
        await super().stream_send(event)

    async def _send_h11_event(self, event: Any) -> None:
        """Write the head of a response together with the beginning of its body.

        Otherwise, a small answer would take two writes and two packets. ASGI allows servers to wait for the body.
        """
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            # As in Hypercorn: the client has broken the protocol, and has got an answer.
            if self.connection.their_state != h11.ERROR:
                raise
            return
        if type(event) is h11.Response:
            self._head = data or b""
            return
        if self._head and len(data or b"") > _PIECE:
            # A copy of a large body costs more than a second write.
            await self._flush_head()
        head, self._head = self._head, b""
        if head or data:
            await self.send(RawData(data=head + (data or b"")))

    async def _flush_head(self) -> None:
        head, self._head = self._head, b""
        await self.send(RawData(data=head))

    async def handle(self, event: Event) -> None:
        """Handle data from the client, or the end of the connection."""
        if not isinstance(event, RawData) or not event.data:
            await super().handle(event)
        elif isinstance(self.connection, StrictConnection):
            await self._budget.take(_REQUEST_COST + (len(event.data) >> _BODY_COST_SHIFT))
            await super().handle(event)
        else:
            for piece in _websocket_pieces(event.data):
                await self._budget.take(_cost_of_websocket(piece))
                await super().handle(RawData(data=piece))

    async def _create_stream(self, request: h11.Request) -> None:
        """Begin a request. Hypercorn's method calls this one."""
        await super()._create_stream(request)
        PiecewiseStream.replace(self.stream)

    async def go_away(self, code: ErrorCodes) -> None:
        """Do nothing. HTTP/1.1 has no message for the end of a connection without a request."""

    async def release(self) -> None:
        """Do nothing. An application that writes notices the end of the connection."""


def _websocket_pieces(data: bytes) -> Iterator[bytes]:
    """Divide the bytes of a WebSocket, because 64 KiB may contain 10,000 frames."""
    for start in range(0, len(data), _WEBSOCKET_PIECE):
        yield data[start : start + _WEBSOCKET_PIECE]


def _cost_of_websocket(piece: bytes) -> int:
    return max(1, len(piece) >> _WEBSOCKET_COST_SHIFT)


class FrameGroups:
    r"""The bytes of an HTTP/2 client, divided into groups of whole frames.

        >>> groups = FrameGroups(max_frame_size=16384)
        >>> list(groups.feed(b"PRI * HTTP/2.0"))
        [(b'PRI * HTTP/2.0', 0)]
        >>> settings = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
        >>> list(groups.feed(b"\r\n\r\nSM\r\n\r\n" + settings + settings[:5]))
        [(b'\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00', 2)]

    A read of 64 KiB may contain 7,000 frames. The work budget spreads its groups over several turns of the scheduler.

    Args:
        max_frame_size: the maximum bytes of a frame without its header.
    """

    def __init__(self, *, max_frame_size: int) -> None:
        self._max_frame_size = max_frame_size
        self._preface_left = _PREFACE_SIZE
        self._rest = b""
        self._headers_size = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield each group, with its cost in units of the work budget. Keep the bytes of an incomplete frame.

        Raises:
            FrameTooLargeError: a frame is too large. h2 would keep its bytes until the frame is complete.
            DenialOfServiceError: the headers of one request are too large. h2 would decode all of them at once.
        """
        data = self._rest + data
        start, cost = 0, 0
        here = min(self._preface_left, len(data))
        self._preface_left -= here
        while len(data) - here >= _FRAME_HEADER_SIZE:
            size, kind = int.from_bytes(data[here : here + 3], "big"), data[here + 3]
            if size > self._max_frame_size:
                raise h2.exceptions.FrameTooLargeError(
                    f"the client sent a frame of {size} bytes; the maximum is {self._max_frame_size}"
                )
            end = here + _FRAME_HEADER_SIZE + size
            if end > len(data):
                break
            cost += self._cost_of(kind, size)
            here = end
            if cost >= _GROUP_COST:
                yield data[start:here], cost
                start, cost = here, 0
        if here > start:
            yield data[start:here], cost
        self._rest = data[here:]

    def _cost_of(self, kind: int, size: int) -> int:
        if kind == _DATA:
            return _FRAME_COST + (size >> _BODY_COST_SHIFT)
        if kind not in {_HEADERS, _CONTINUATION}:
            return _FRAME_COST
        self._headers_size = size if kind == _HEADERS else self._headers_size + size
        if self._headers_size > DEFAULT_MAX_HEAD_SIZE:
            raise h2.exceptions.DenialOfServiceError(
                f"the headers of a request take more than {DEFAULT_MAX_HEAD_SIZE} bytes"
            )
        return _REQUEST_COST + (size >> _HEADERS_COST_SHIFT)


class Http2(H2Protocol):
    """Hypercorn's protocol for HTTP/2, with a limit on the work in one turn of the scheduler.

    Args:
        options: the arguments of `H2Protocol`.
        budget: the work budget of all connections.
    """

    def __init__(self, *options: Any, budget: WorkBudget) -> None:
        super().__init__(*options)
        # Hypercorn sets the limit in the settings, which h2 applies only after the client has confirmed them.
        self.connection.decoder.max_header_list_size = self.config.h2_max_header_list_size
        self._groups = FrameGroups(max_frame_size=self.config.h2_max_inbound_frame_size)
        self._budget = budget

    async def handle(self, event: Event) -> None:
        """Handle data from the client, or the end of the connection."""
        if not isinstance(event, RawData):
            await super().handle(event)
            return
        for frames, cost in self._groups.feed(event.data):
            await self._budget.take(cost)
            if self.closed:
                return
            await super().handle(RawData(data=frames))

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        """Handle the events of one group of frames. Hypercorn's method calls this one.

        This ignores priorities of streams, which RFC 9113 deprecates (section 5.3.2). In Hypercorn's tree of
        priorities, one small frame can move a thousand streams.
        """
        others: list[h2.events.Event] = []
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                await super()._handle_events(others)
                others = []
                await self._handle_data(event)
            elif isinstance(event, h2.events.StreamReset):
                await super()._handle_events(others)
                others = []
                await self._handle_reset(event)
            elif not isinstance(event, h2.events.PriorityUpdated):
                others.append(event)
        await super()._handle_events(others)

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        """Begin a request. Hypercorn's method calls this one."""
        await super()._create_stream(request)
        PiecewiseStream.replace(self.streams.get(request.stream_id))

    async def _handle_reset(self, event: h2.events.StreamReset) -> None:
        """End a stream. Report an idle connection, because Hypercorn does that only after a response."""
        was_open = event.stream_id in self.streams
        await super()._handle_events([event])
        if was_open and not self.closed:
            await self.send(Updated(idle=self.idle))

    async def _handle_data(self, event: h2.events.DataReceived) -> None:
        """Pass data to its stream. Ignore data that comes after the response, because the stream has ended."""
        stream = self.streams.get(event.stream_id)
        if isinstance(stream, WSStream):
            for piece in _websocket_pieces(event.data):
                await self._budget.take(_cost_of_websocket(piece))
                await stream.handle(Body(stream_id=event.stream_id, data=piece))
        elif stream is not None:
            await stream.handle(Body(stream_id=event.stream_id, data=event.data))
        if not self.closed:
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    async def go_away(self, code: ErrorCodes) -> None:
        """Send a GOAWAY frame. It tells the client the last request that the server has read."""
        try:
            self.connection.close_connection(code)
        except h2.exceptions.ProtocolError:
            # HTTP/2 has closed the connection already.
            return
        await self._flush()

    async def release(self) -> None:
        """End the writes of applications to a client that has left. Otherwise they would wait forever."""
        for buffer in list(self.stream_buffers.values()):
            await buffer.close()


class ServedApplication:
    """An application as Hypercorn calls it, with the settings and the state that all its connections share.

    Args:
        app: the ASGI application.
        keep_alive_timeout: seconds that a connection may stay open without a request.

    Attributes:
        app: the application in Hypercorn's wrapper.
        config: Hypercorn's settings. The settings about binding, workers, reading and TLS have no effect.
        context: Hypercorn's worker context, which shows whether the endpoint drains.
        state: the state of the lifespan.
    """

    def __init__(self, app: Any, *, keep_alive_timeout: float) -> None:
        self.app = ASGIWrapper(app)
        self.config = _config(keep_alive_timeout)
        self.context = WorkerContext(None)
        self.state: LifespanState = {}

    async def drain(self) -> None:
        """Close idle connections now, and all other connections after their current response."""
        await self.context.terminated.set()


class HypercornServer:
    """The server for one connection. It ends when its peer leaves.

    Hypercorn's own server keeps the socket open until the timeout for the next request.

    Args:
        served: the application.
        stream: the connection. This object closes it.
        http2: True for a client that speaks HTTP/2, False for HTTP/1.1.
        has_request: True if the first bytes of the stream are the head of a request.
        budget: the work budget of all connections.
        count: a function that counts an event.
    """

    def __init__(
        self,
        served: ServedApplication,
        stream: ReplayStream,
        *,
        http2: bool,
        has_request: bool,
        budget: WorkBudget,
        count: Callable[[tuple[str, ...]], object],
    ) -> None:
        self._served = served
        self._stream = stream
        self._has_request = has_request
        self._budget = budget
        self._count = count
        self._http2 = http2
        self._protocol: Http1 | Http2 | None = None
        self._exchanges = Exchanges()
        # The deadline is infinite while a request runs.
        self._idle = trio.CancelScope()
        self._writing = trio.Lock()
        self._reading = trio.CancelScope()
        self._peer_has_gone = False

    async def serve(self) -> None:
        """Serve until the connection ends. On cancellation, close the connection immediately."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._close_when_cancelled)
                await self._run()
                nursery.cancel_scope.cancel()
        finally:
            self._break_cycles()

    def _break_cycles(self) -> None:
        """Break the reference cycles of this connection. Otherwise only the garbage collector could free its objects.

        Hypercorn's objects hold each other's bound methods. All tasks that use these objects have ended.
        """
        if self._protocol is not None:
            vars(self._protocol).clear()
        self._protocol = None

    async def _close_when_cancelled(self) -> None:
        """Close the stream on cancellation, even while the server writes to a peer that does not read.

        The server writes in a shielded scope, so only closing the stream ends the write.
        """
        try:
            await trio.sleep_forever()
        finally:
            self._exchanges.cancel_finishing()
            await trio.aclose_forcefully(self._stream)

    async def _run(self) -> None:
        try:
            protocol = self._protocol = self._new_protocol()
            async with self._exchanges:
                await protocol.initiate()
                # A connection whose first bytes are a request is not idle, even if the endpoint begins to drain now.
                self._set_idle(not self._has_request)
                self._exchanges.spawn(self._close_when_idle)
                with self._reading:
                    await self._read(protocol)
                self._peer_has_gone = True
                await protocol.release()
                self._idle.cancel()
        except OSError:
            # The peer has left.
            pass
        finally:
            await self._close()

    def _new_protocol(self) -> Http1 | Http2:
        served, sock = self._served, self._stream.socket
        options = (
            served.app,
            served.config,
            served.context,
            self._exchanges,
            ConnectionState(served.state.copy()),
            self._stream.is_tls,
            parse_socket_addr(sock.family, sock.getpeername()),
            parse_socket_addr(sock.family, sock.getsockname()),
            self._send,
        )
        if self._http2:
            return Http2(*options, budget=self._budget)
        return Http1(*options, budget=self._budget, count=self._count)

    async def _read(self, protocol: Http1 | Http2) -> None:
        """Pass the client's data to the protocol, until the client leaves or the server closes the connection."""
        try:
            while True:
                try:
                    data = await self._stream.receive_some(_READ_SIZE)
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    break
                await self._handle(protocol, bytes(data))
                if not data:
                    break
            await protocol.handle(Closed())
        except OSError:
            raise
        except Exception as error:
            # Broad, because Hypercorn raises many errors for input that it cannot read, such as a path that is not
            # ASCII. Exceptions of applications do not arrive here, because they run in other tasks.
            self._count(("http", "unreadable"))
            log_exception(
                _logger,
                "closed a connection that Hypercorn could not read",
                exception=error,
                level=logging.DEBUG,
            )
            await protocol.go_away(ErrorCodes.PROTOCOL_ERROR)
            # Hypercorn sends no disconnect to streams whose requests are incomplete, so cancel the applications.
            self._exchanges.cancel()

    async def _handle(self, protocol: Http1 | Http2, data: bytes) -> None:
        """Pass data to the protocol. Meanwhile the connection is not idle.

        Otherwise, a request that waits for the work budget could run after its connection has been closed.
        """
        deadline, self._idle.deadline = self._idle.deadline, math.inf
        requests = protocol.keep_alive_requests
        await protocol.handle(RawData(data=data))
        if deadline != math.inf and protocol.keep_alive_requests == requests:
            # No request has begun, so the connection is still idle, and part of a head gives it no more time.
            self._set_idle(True)
            self._idle.deadline = min(self._idle.deadline, deadline)

    async def _send(self, event: Event) -> None:
        """Carry out an event of the protocol: write, close, or start or stop the idle timeout."""
        try:
            if isinstance(event, RawData):
                # Shielded, because the protocol counts these bytes as written. If a cancelled application stopped the
                # write, the peer would miss some bytes. The stream limits the time of the write.
                with trio.CancelScope(shield=True):
                    await self._write(event.data)
            elif isinstance(event, Closed):
                await self._close()
                await self._end()
            elif isinstance(event, Updated):
                self._set_idle(event.idle)
        except trio.BusyResourceError:
            # Another task has closed the stream, because of data from the client.
            await self._end()
        if isinstance(event, Closed):
            # After the last response, Hypercorn serves no further request, but would wait for one forever.
            self._reading.cancel()

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self._end()

    async def _end(self) -> None:
        """Tell the protocol that the connection has ended."""
        if self._protocol is not None:
            await self._protocol.handle(Closed())

    async def _close(self) -> None:
        try:
            await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
            # The peer has left, or another task still writes.
            pass
        await self._stream.aclose()

    def _set_idle(self, idle: bool) -> None:
        """Start or stop the timeout for the next request. While the endpoint drains, it is over at once."""
        if not idle:
            self._idle.deadline = math.inf
        elif self._served.context.terminated.is_set():
            self._idle.cancel()
        else:
            self._idle.deadline = trio.current_time() + self._served.config.keep_alive_timeout

    async def _close_when_idle(self) -> None:
        """Close the connection when the timeout for the next request is over, or when the endpoint drains."""
        with self._idle:
            await self._served.context.terminated.wait()
            if self._idle.deadline == math.inf:
                await trio.sleep_forever()
        if not self._peer_has_gone:
            if self._protocol is not None and not self._writing.locked():
                # Not while another task writes, because then the client does not read.
                await self._protocol.go_away(ErrorCodes.NO_ERROR)
            await self._end()
            await self._stream.aclose()
