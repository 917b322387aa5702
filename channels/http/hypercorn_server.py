"""Hypercorn's protocols for one connection, with changes so that clients cannot hold or delay the server.

- `ReplayStream` first returns the bytes that the endpoint read before the handover. It cuts off a peer that does not
  read.
- `StrictConnection` parses the heads of HTTP/1.1 requests as strictly as an endpoint does. It hands requests for
  sockets back to the endpoint, and ignores all other upgrades.
- `Http1` is Hypercorn's protocol, with a limit on the work in one turn of the scheduler.
- `Exchange` replaces the message queue of a request.
- `HypercornServer` replaces Hypercorn's server for one connection. It ends when its peer leaves.

Hypercorn serves HTTP/1.1 and nothing else here. In plain Hypercorn, a client can change to HTTP/2 with `Upgrade: h2c`,
or with the preface of HTTP/2 in the place of a second request. If a proxy passes these bytes on, it no longer sees the
requests that follow, so its rules do not apply to them.

This is the only module that imports Hypercorn. Hypercorn's protocols are not a public interface. So `pyproject.toml`
pins Hypercorn's minor version, and `tests/channels/http/test_handover.py` tests the parts that this module uses.
"""

from __future__ import annotations

import logging
import math
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState
from hypercorn.utils import parse_socket_addr

from actors.text import log_exception
from channels.protocol.work_budget import WorkBudget
from channels.transports.tls import TlsSocketStream
from channels.wire.request import DEFAULT_MAX_HEAD_SIZE, BadRequest, Head, HeadParser

__all__ = [
    "Exchange",
    "Exchanges",
    "Http1",
    "HypercornServer",
    "ReplayStream",
    "ServedApplication",
    "Shields",
    "StrictConnection",
]

_logger = logging.getLogger("channels.http")

_NEVER_LAST = ("http.response.start", "http.response.push", "http.response.early_hint")
# One read returns all bytes that the endpoint has read before the handover: the beginning of a head, and 64 KiB.
_READ_SIZE = DEFAULT_MAX_HEAD_SIZE + 64 * 1024
_PIECE = 64 * 1024
_STALLED = 60.0
_CLOSE_TIMEOUT = 5.0
_SHUTDOWN_TIMEOUT = 5.0

# The cost of a request, in units of the work budget, for all steps until its answer. A join costs half as much.
_REQUEST_COST = 48
# The bytes of a body for each unit of work, as a shift.
_BODY_COST_SHIFT = 10


def _config(keep_alive_timeout: float) -> Config:
    """Return the settings for Hypercorn."""
    config = Config()
    config.errorlog = _logger
    # No header of a response names the software.
    config.include_server_header = False
    config.shutdown_timeout = _SHUTDOWN_TIMEOUT
    # Hypercorn declares whole seconds, but accepts any number.
    config.keep_alive_timeout = keep_alive_timeout
    # By default, Hypercorn closes a connection after 1,000 requests, which bounds nothing that the endpoint must bound.
    config.keep_alive_max_requests = sys.maxsize
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

    A request to change to another protocol is an ordinary request, because a server may ignore `Upgrade` (RFC 9110,
    section 7.8). So this object removes the header, and Hypercorn does not see it.

    Args:
        on_bad_request: a function that the connection calls when it refuses a head. The function must not block.
        is_for_endpoint: a function that returns True for the head of a request that Hypercorn must not serve.

    Attributes:
        handed_back: the head of a request that Hypercorn must not serve. The earlier requests have been answered, and
            h11 has not parsed any byte of this one.
    """

    def __init__(
        self,
        *,
        on_bad_request: Callable[[], object] = lambda: None,
        is_for_endpoint: Callable[[Head], bool] = lambda head: False,
    ) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=DEFAULT_MAX_HEAD_SIZE)
        self.handed_back: Head | None = None
        self._on_bad_request = on_bad_request
        self._is_for_endpoint = is_for_endpoint
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
            elif head is not None and self._is_for_endpoint(head):
                self.handed_back = head
                return h11.NEED_DATA
        elif self.their_state is h11.MUST_CLOSE and self.trailing_data[0]:
            # The answer ends the connection. h11 would raise an error for the bytes after the last request, and
            # Hypercorn would then close the connection before the answer.
            return h11.PAUSED
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._is_last = any(name == b"transfer-encoding" for name, _ in event.headers)
            if any(name == b"upgrade" for name, _ in event.headers):
                return h11.Request(
                    method=event.method,
                    headers=[each for each in event.headers if each[0] != b"upgrade"],
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


class Exchanges(TaskGroup):
    """The task group of one connection, with an `Exchange` for each request. It is an async context manager."""

    def __init__(self) -> None:
        super().__init__()
        self._shields = Shields()

    async def spawn_app(self, app: Any, config: Config, scope: Any, send: Any) -> Any:
        """Start the application in a task. Return the function that passes messages to it."""
        exchange = Exchange(send, self._shields, max_messages=config.max_app_queue_size)

        async def run(scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
            await app(scope, exchange.receive, send, sync_spawn, call_soon)

        await super().spawn_app(run, config, scope, exchange.send)
        return exchange.put

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
        is_for_endpoint: a function that returns True for the head of a request that Hypercorn must not serve.
    """

    connection: StrictConnection

    def __init__(
        self,
        *options: Any,
        budget: WorkBudget,
        count: Callable[[tuple[str, ...]], object],
        is_for_endpoint: Callable[[Head], bool],
    ) -> None:
        super().__init__(*options)
        self.connection = StrictConnection(
            on_bad_request=lambda: count(("http", "bad_request")), is_for_endpoint=is_for_endpoint
        )
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
        else:
            await self._budget.take(_REQUEST_COST + (len(event.data) >> _BODY_COST_SHIFT))
            await super().handle(event)


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
    """The server for one connection. It ends when its peer leaves, or with a request that Hypercorn must not serve.

    Hypercorn's own server keeps the socket open until the timeout for the next request.

    Args:
        served: the application.
        stream: the connection. This object closes it, unless it hands a request back.
        has_request: True if the first bytes of the stream are the head of a request.
        budget: the work budget of all connections.
        count: a function that counts an event.
        is_for_endpoint: a function that returns True for the head of a request that Hypercorn must not serve.
    """

    def __init__(
        self,
        served: ServedApplication,
        stream: ReplayStream,
        *,
        has_request: bool,
        budget: WorkBudget,
        count: Callable[[tuple[str, ...]], object],
        is_for_endpoint: Callable[[Head], bool],
    ) -> None:
        self._served = served
        self._stream = stream
        self._has_request = has_request
        self._budget = budget
        self._count = count
        self._is_for_endpoint = is_for_endpoint
        self._handed_back: Head | None = None
        self._protocol: Http1 | None = None
        self._exchanges = Exchanges()
        # The deadline is infinite while a request runs.
        self._idle = trio.CancelScope()
        self._writing = trio.Lock()
        self._reading = trio.CancelScope()
        self._reading_has_ended = False

    async def serve(self) -> Head | None:
        """Serve until the connection ends, or until a request for the endpoint arrives.

        On cancellation, close the connection immediately.

        Returns:
            The head of the request for the endpoint. The stream is then open, and nothing uses it. None if the
            connection has ended.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._close_when_cancelled)
                await self._run()
                nursery.cancel_scope.cancel()
        finally:
            self._break_cycles()
        return self._handed_back

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
            if self._handed_back is None:
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
                self._reading_has_ended = True
                self._idle.cancel()
            # Only now, because an application may run on after its last answer, and a cancellation during that time
            # must close the stream.
            self._handed_back = protocol.connection.handed_back
        except OSError:
            # The peer has left.
            pass
        finally:
            if self._handed_back is None:
                await self._close()

    def _new_protocol(self) -> Http1:
        served, sock = self._served, self._stream.socket
        return Http1(
            served.app,
            served.config,
            served.context,
            self._exchanges,
            ConnectionState(served.state.copy()),
            self._stream.is_tls,
            parse_socket_addr(sock.family, sock.getpeername()),
            parse_socket_addr(sock.family, sock.getsockname()),
            self._send,
            budget=self._budget,
            count=self._count,
            is_for_endpoint=self._is_for_endpoint,
        )

    async def _read(self, protocol: Http1) -> None:
        """Pass the client's data to the protocol, until the connection ends or a request for the endpoint arrives."""
        try:
            while True:
                try:
                    data = await self._stream.receive_some(_READ_SIZE)
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    break
                await self._handle(protocol, bytes(data))
                if protocol.connection.handed_back is not None:
                    return
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
            # Hypercorn sends no disconnect to streams whose requests are incomplete, so cancel the applications.
            self._exchanges.cancel()

    async def _handle(self, protocol: Http1, data: bytes) -> None:
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
        if not self._reading_has_ended:
            await self._end()
            await self._stream.aclose()
