"""The first request of a connection: who is it for, and may it become a WebSocket?

The order is Phoenix's: method, then the application's `connect`, then the validity of the upgrade. So a request that
is refused gets 403 even where no WebSocket was asked for, and `connect` sees every request to a socket's path.
"""

from __future__ import annotations

import socket as sockets

import trio
from attrs import frozen

from channels._connecting import Connected, connect, may_come_from
from channels._mounts import MountedSocket, Services
from channels.connect_info import ConnectInfo
from channels.params import parse_query
from channels.sockets import Refusal
from channels.transports import handshake
from channels.transports.attach import Carrier
from channels.transports.head_reader import read_head
from channels.transports.peer import peer_of
from channels.transports.request import BadRequest, Head
from channels.transports.subprotocol import agree

__all__ = ["Upgraded", "answer_first_request"]


@frozen(kw_only=True)
class Upgraded:
    """A request that has become a WebSocket: what is needed to serve it.

    `answer` is to be written before anything else; `rest` came behind the head and is its first data.
    """

    connected: Connected
    answer: bytes
    rest: bytes


async def answer_first_request(services: Services, carrier: Carrier) -> Upgraded | None:
    """Read the first request and deal with it; None if the connection is done, otherwise it is a WebSocket.

    A client that does not send its head within `services.head_timeout` seconds is cut off with 408; when the endpoint
    begins to drain before that, without a word. A stream that is done is closed; a socket is the caller's to close.
    """
    upgraded = None
    try:
        upgraded = await _answer(services, carrier)
    finally:
        if upgraded is None and not isinstance(carrier, sockets.socket):
            await trio.aclose_forcefully(carrier)
    return upgraded


async def _answer(services: Services, carrier: Carrier) -> Upgraded | None:
    head = None
    with trio.move_on_after(services.head_timeout) as limit:
        services.heads[limit] = None
        try:
            head = await read_head(carrier)
        finally:
            del services.heads[limit]
    outcome: bytes | Upgraded
    if limit.cancelled_caught:
        if services.draining:
            return None
        services.count(("http", "head_timeout"))
        outcome = handshake.response(408)
    elif head is None:
        return None
    elif isinstance(head, BadRequest):
        services.count(("http", "bad_request"))
        outcome = handshake.response(head.status, head.problem.encode())
    elif services.draining:
        outcome = handshake.response(503, headers=(("retry-after", "1"),))
    elif (found := services.mounts.match(head.path)) is not None:
        outcome = await _upgrade(services, *found, head, carrier)
    else:
        await services.http.serve(carrier, head.received)
        return None
    if isinstance(outcome, Upgraded):
        return outcome
    await _last_words(carrier, outcome)
    return None


async def _upgrade(
    services: Services,
    mount: MountedSocket,
    variables: dict[str, str],
    head: Head,
    carrier: Carrier,
) -> bytes | Upgraded:
    """Decide about a request to a socket's path: a WebSocket, or the answer that refuses it."""
    headers = head.headers
    if handshake.method_problem(head) is not None:
        return handshake.response(400)
    scheme = "https" if isinstance(carrier, trio.SSLStream) else "http"
    origin, host = headers.get("origin"), headers.get("host")
    if not may_come_from(services, mount, origin, scheme=scheme, host=host):
        return handshake.response(403)
    agreed = agree(
        headers.get("sec-websocket-protocol"), mount.subprotocols, auth_token=mount.auth_token
    )
    if agreed is None:
        return handshake.response(403)
    info = ConnectInfo(
        peer_data=peer_of(carrier),
        scheme=scheme,
        path=head.path,
        query=head.query,
        headers=tuple(headers),
        auth_token=agreed.token,
    )
    params = {**parse_query(head.query), **variables}
    connected = await connect(services, mount, params, info)
    if isinstance(connected, Refusal):
        return handshake.refusal(connected.status, connected.body, connected.headers)
    problem = handshake.upgrade_problem(head)
    if problem is not None:
        return handshake.refuse(problem)
    return Upgraded(
        connected=connected,
        answer=handshake.accept(head, subprotocol=agreed.name),
        rest=head.rest,
    )


async def _last_words(carrier: Carrier, answer: bytes) -> None:
    """Write an answer to a connection that has no transport yet, and wait for the peer to have read it.

    Bounded: a peer that reads nothing for five seconds is left alone with what it has.
    """
    if isinstance(carrier, sockets.socket):
        try:
            # A copy: the carrier itself is closed when its process ends.
            copy = carrier.dup()
        except OSError:
            # There are no files left, so this client gets no answer.
            return
        stream: trio.abc.Stream = trio.SocketStream(trio.socket.from_stdlib_socket(copy))
    else:
        stream = carrier
    try:
        with trio.move_on_after(5):
            await stream.send_all(answer)
            if isinstance(stream, trio.SocketStream):
                await stream.send_eof()
                # Unread bytes at a close would reset the connection, and the answer might be lost with it.
                while await stream.receive_some(65536):
                    pass
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        # It went without waiting for the answer.
        pass
    finally:
        await trio.aclose_forcefully(stream)
