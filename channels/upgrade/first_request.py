"""The first request of a connection, from the read of its head to the answer, the handover or the upgrade.

If the HTTP server hands a later request back, because it is for a socket, the endpoint handles it like a first request.

As in Phoenix, the checks run in this order: the method, the application's `connect`, the validity of the upgrade. So
`connect` sees every GET request for the path of a socket. If `connect` refuses the client, the client gets 403, even
for a request that is not an upgrade.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

import msgspec
import trio

from channels.connect_info import ConnectInfo, PeerData
from channels.serving.mounted import MountedSocket
from channels.serving.services import Services
from channels.socket import Refusal
from channels.transports.asgi_stream import AsgiStream
from channels.transports.stream_transport import READ_SIZE, socket_source, stream_source
from channels.transports.tls import TlsSocket
from channels.transports.transports import ByteStream
from channels.upgrade.connecting import (
    SERVER_FULL,
    Connected,
    connect,
    may_come_from,
    unsupported,
)
from channels.wire import handshake
from channels.wire.deflate import Deflate, InvalidOffer, agree_on_deflate
from channels.wire.handshake import agree
from channels.wire.request import BadRequest, Head, HeadParser, ParsedHead
from channels.wire.urls import InvalidQuery, cost_of_query, parse_query

__all__ = [
    "Upgraded",
    "answer_first_request",
    "peer_of",
    "read_head",
    "refuse_connection",
    "send_final_answer",
]


_GRACE = 5.0
# Seconds for a client that connects while the endpoint drains: to send its head, and until it has read the answer.
_LATE_HEAD = 1.0
_LATE = 3.0
# The cost of an upgrade, in units of the work budget. A join costs the same. Upgrades use the budget, because thousands
# of clients may connect at the same moment.
_UPGRADE_COST = 24
# The cost of a TLS handshake, which takes up to a millisecond.
_HANDSHAKE_COST = 128
# The cost of a handover, without the first request, which the HTTP server counts itself.
_HANDOVER_COST = 24
_NO_SOCKET = (
    "no socket is mounted at this path, and this server serves WebSockets only for its sockets"
)
_DRAINING = Refusal(503, headers=(("retry-after", "1"),))


class Upgraded(msgspec.Struct, frozen=True, kw_only=True):
    """A request that becomes a WebSocket.

    Attributes:
        connected: the client and its socket.
        answer: the bytes to write before any frame; empty if the ASGI server has answered the request.
        rest: the bytes after the head, which are the first data of the WebSocket.
        deflate: the negotiated compression, if any.
    """

    connected: Connected
    answer: bytes = b""
    rest: bytes = b""
    deflate: Deflate | None = None


async def answer_first_request(services: Services, stream: ByteStream) -> Upgraded | None:
    """Read the first request and serve it. Return the upgrade, or None if the connection has ended.

    A client that does not send its head within `services.head_timeout` seconds gets 408. If the endpoint starts to
    drain in this time, a client that has sent a part of its head gets 503. Other clients get no answer. A client that
    connects during the drain has one second for its head.

    Before this returns None, it closes `stream` if that is a Trio stream. The caller must close a socket.
    """
    upgraded = None
    try:
        if services.admission.draining and type(stream) is not AsgiStream:
            # The shield keeps this process alive until a client that connects while the endpoint drains has its 503.
            # The endpoint's supervisor gives this process more time than `_LATE`.
            with trio.move_on_after(_LATE, shield=True):
                upgraded = await _answer(services, stream)
        else:
            upgraded = await _answer(services, stream)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        # The ASGI server ended this WebSocket before the answer.
        pass
    finally:
        if upgraded is None and not isinstance(stream, socket.socket):
            await trio.aclose_forcefully(stream)
    return upgraded


async def refuse_connection(stream: ByteStream) -> None:
    """Answer the first request of a connection with 503, and then close the stream if it is a Trio stream.

    The connection needs no process for this. The function waits at most one second for the head of the request, and at
    most five seconds until the client has read the answer. A client that does not send its head gets no answer. If the
    stream is a socket, the caller must close it.
    """
    head = None
    try:
        with trio.move_on_after(_LATE_HEAD):
            head = await read_head(stream)
        if head is not None:
            await _answer_and_close(stream, SERVER_FULL)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        # The client closed the connection before the answer.
        pass
    finally:
        if not isinstance(stream, socket.socket):
            await trio.aclose_forcefully(stream)


async def _answer(services: Services, stream: ByteStream) -> Upgraded | None:
    head: ParsedHead | None
    head = stream.head if type(stream) is AsgiStream else await _first_head(services, stream)
    if (
        isinstance(head, Head)
        and type(stream) is not AsgiStream
        and not services.admission.draining
        and not services.http.is_for_endpoint(head)
    ):
        await services.budget.take(_HANDOVER_COST)
        head = await services.http.serve(stream, head.received)
    if head is None:
        return None
    outcome: Refusal | Upgraded
    if services.admission.draining:
        outcome = _DRAINING
    elif isinstance(head, BadRequest):
        services.count(("http", "bad_request"))
        outcome = Refusal(head.status, head.problem)
    elif (found := services.mounts.match(head.path)) is not None:
        outcome = await _upgrade(services, *found, head, stream)
    else:
        services.unmatched_path(head.path)
        outcome = Refusal(404, _NO_SOCKET)
    if isinstance(outcome, Upgraded):
        return outcome
    await _answer_and_close(stream, outcome)
    return None


async def _first_head(services: Services, stream: ByteStream) -> ParsedHead | None:
    """Return the head of the first request. None if the client has gone, or has its answer already."""
    parser = HeadParser()
    head = None
    if isinstance(stream, TlsSocket):
        # Nothing can interrupt the computation of a handshake, so only few may run in one turn.
        await services.budget.take(_HANDSHAKE_COST)
    elif isinstance(stream, socket.socket):
        # Most clients have sent the whole head by now, so most requests need no time limit.
        try:
            head = _read_now(stream, parser)
        except OSError:
            return None
    return await _read_in_time(services, stream, parser) if head is None else head


def _read_now(sock: socket.socket, parser: HeadParser) -> ParsedHead | None:
    """Read once without waiting. Return the head, or None if it has not arrived."""
    try:
        data = sock.recv(READ_SIZE)
    except BlockingIOError:
        return None
    return parser.feed(data) if data else None


async def _read_in_time(
    services: Services, stream: ByteStream, parser: HeadParser
) -> ParsedHead | None:
    """Read the head within its time limit. If the limit passes, answer the client and return None."""
    head = None
    seconds = services.head_timeout
    if services.admission.draining:
        seconds = min(seconds, _LATE_HEAD)
    with trio.move_on_after(seconds) as limit:
        with services.admission.ending_at_drain(limit):
            head = await read_head(stream, parser)
    if not limit.cancelled_caught:
        return head
    if not services.admission.draining:
        services.count(("http", "head_timeout"))
        await _answer_and_close(stream, Refusal(408))
        return None
    if not parser.begun and type(stream) is socket.socket:
        # The request may have arrived since this process last ran. Closing the socket would then reset the connection.
        try:
            head = _read_now(stream, parser)
        except OSError:
            return None
    if head is None and parser.begun:
        await _answer_and_close(stream, _DRAINING)
    return head


async def _upgrade(
    services: Services,
    mount: MountedSocket,
    variables: dict[str, str],
    head: Head,
    stream: ByteStream,
) -> Refusal | Upgraded:
    """Return the upgrade of a request for the path of a socket, or the refusal of the request."""
    headers, values = head.headers, head.headers.by_name
    # An ASGI server has already checked the request. The request may also be HTTP/2, which has other rules.
    is_checked = type(stream) is AsgiStream
    if not is_checked and handshake.method_problem(head) is not None:
        return Refusal(400)
    try:
        params = {**parse_query(head.query), **variables}
    except InvalidQuery as error:
        services.count(("http", "bad_request"))
        return Refusal(400, error.problem)
    scheme, peer = _scheme(stream), peer_of(stream)
    if services.proxies is not None and not is_checked:
        # `HttpHandover.route` has done this for a request of an ASGI server.
        peer, scheme = services.proxies.seen(peer, scheme, headers)
    origin, host = values.get("origin"), values.get("host")
    if not may_come_from(services, mount, origin, scheme=scheme, host=host):
        return Refusal()
    agreed = agree(
        values.get("sec-websocket-protocol"), mount.subprotocols, auth_token=mount.auth_token
    )
    if agreed is None:
        spoken = ", ".join(mount.subprotocols or ()) or "none"
        # The text does not quote the offer of the client, because the offer may contain a token.
        return unsupported(
            services,
            mount,
            f"it offered none of the supported subprotocols ({spoken}), or its token is not base64",
        )
    info = ConnectInfo(
        peer_data=peer,
        scheme=scheme,
        path=head.path,
        query=head.query,
        headers=headers.items,
        auth_token=agreed.token,
    )
    # Checked before the call of `connect`, which takes the problem. The client gets the problem after that.
    problem, deflate = (None, None) if is_checked else _upgrade_problem(head, mount)
    await services.budget.take(_UPGRADE_COST + cost_of_query(head.query))
    connected = await connect(services, mount, params, info, transport="websocket", problem=problem)
    if isinstance(connected, Refusal):
        return connected
    if is_checked and type(stream) is AsgiStream:
        await stream.accept(agreed.name)
        return Upgraded(connected=connected)
    answer = handshake.accept(
        head, subprotocol=agreed.name, extensions=deflate.answer if deflate else None
    )
    return Upgraded(connected=connected, answer=answer, rest=head.rest, deflate=deflate)


def _upgrade_problem(head: Head, mount: MountedSocket) -> tuple[str | None, Deflate | None]:
    """Return the problem of an upgrade request or None, and the negotiated compression or None."""
    problem = handshake.upgrade_problem(head)
    if problem is not None or not mount.compress:
        return problem, None
    try:
        return None, agree_on_deflate(head.headers.get("sec-websocket-extensions"))
    except InvalidOffer as error:
        return str(error), None


def _scheme(stream: ByteStream) -> str:
    if type(stream) is AsgiStream:
        return stream.scheme
    return "https" if isinstance(stream, TlsSocket | trio.SSLStream) else "http"


async def _answer_and_close(stream: ByteStream, refusal: Refusal) -> None:
    """Answer the first request of a connection, and wait until the peer has read the answer."""
    body = refusal.body.encode()
    if type(stream) is AsgiStream:
        with trio.move_on_after(5):
            await stream.refuse(refusal.status, body, refusal.headers)
        return
    await send_final_answer(
        stream, handshake.response(refusal.status, body, headers=refusal.headers)
    )


def peer_of(stream: ByteStream) -> PeerData | None:
    """Return the address of the peer. Return None if the network has no addresses, or if the peer has left.

    >>> one, other = trio.testing.memory_stream_pair()
    >>> peer_of(one) is None
    True
    """
    certificate = None
    below: Any = stream
    if isinstance(stream, TlsSocket):
        try:
            certificate = stream.getpeercert(binary_form=True)
        except (OSError, ValueError):
            # Without a TLS handshake there is no certificate.
            certificate = None
    elif not isinstance(stream, socket.socket):
        if type(stream) is AsgiStream:
            return stream.peer
        if isinstance(stream, trio.SSLStream):
            try:
                certificate = stream.getpeercert(binary_form=True)
            except (trio.NeedHandshakeError, ssl.SSLError, ValueError):
                # Without a TLS handshake there is no certificate.
                certificate = None
            below = stream.transport_stream
        if not isinstance(below, socket.socket):
            below = getattr(below, "socket", None)
    try:
        address = below.getpeername() if below is not None else None
    except OSError:
        return None
    if not isinstance(address, tuple) or len(address) < 2:
        return None
    return PeerData(address=address[0], port=address[1], ssl_cert=certificate)


async def read_head(stream: ByteStream, parser: HeadParser | None = None) -> ParsedHead | None:
    """Read from `stream` until a head is complete or invalid.

    >>> async def example(sock: socket.socket) -> None:
    ...     with trio.fail_after(10):
    ...         print(await read_head(sock))

    This has no time limit, so use `trio.move_on_after`. `Head.received` contains all bytes that this read. If there is
    no `Head`, for example after a cancellation, the bytes are lost.

    Args:
        stream: a connected, non-blocking socket or a Trio stream. No other task may read from it.
        parser: the parser for the bytes; None makes a new one. After a cancellation, `parser.begun` is True if the peer
            has sent a part of its head.

    Returns:
        The head, or a `BadRequest`. None if the connection ended before the head was complete.
    """
    parser = HeadParser() if parser is None else parser
    if isinstance(stream, TlsSocket):
        try:
            await stream.handshake()
        except (OSError, trio.ClosedResourceError):
            return None
    read = socket_source(stream) if isinstance(stream, socket.socket) else stream_source(stream)
    while True:
        try:
            data = await read()
        except (OSError, trio.ClosedResourceError):
            return None
        if not data:
            return None
        result = parser.feed(data)
        if result is not None:
            return result


async def send_final_answer(stream: ByteStream, data: bytes) -> None:
    r"""Write the last bytes to a connection that has no transport, and wait until the peer has read them.

        >>> async def example(sock: socket.socket) -> None:
        ...     await send_final_answer(sock, b"HTTP/1.1 400 Bad Request\r\n\r\n")
        ...     sock.close()

    This takes five seconds at most, and does not raise if the peer has left. It opens no file, because refused clients
    must not use up the files of the process.

    Args:
        stream: a connected, non-blocking socket or a Trio stream. This function closes a stream, but not a socket.
        data: the bytes to write.
    """
    try:
        with trio.move_on_after(_GRACE):
            if isinstance(stream, socket.socket):
                await _send_on_socket(stream, data)
            else:
                await stream.send_all(data)
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        # The peer left before the answer.
        pass
    finally:
        if not isinstance(stream, socket.socket):
            await trio.aclose_forcefully(stream)


async def _send_on_socket(sock: socket.socket, data: bytes) -> None:
    if isinstance(sock, TlsSocket) and sock.version() is None:
        # The handshake is not complete, so no answer can reach the client.
        return
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock.fileno())
    sock.shutdown(socket.SHUT_WR)
    # Closing a socket with unread bytes would reset the connection, and the peer could lose the answer.
    read = socket_source(sock)
    while await read():
        pass
