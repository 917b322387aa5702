"""The first request of a connection: who is it for, and may it become a WebSocket?

The order is Phoenix's: method, then the application's `connect`, then the validity of the upgrade. So a request that
is refused gets 403 even where no WebSocket was asked for, and `connect` sees every request to a socket's path.
"""

from __future__ import annotations

import math
import socket as sockets

import trio
from attrs import frozen

from channels.connect_info import ConnectInfo
from channels.endpoint._wiring import MountedSocket, Services
from channels.http.asgi_stream import AsgiStream
from channels.socket import Refusal
from channels.transports.transports import Carrier
from channels.upgrade import handshake
from channels.upgrade.connecting import Connected, connect, may_come_from, unsupported
from channels.upgrade.final_answer import say_last
from channels.upgrade.head_reader import read_head
from channels.upgrade.params import InvalidQuery, cost_of_query, parse_query
from channels.upgrade.peer import peer_of
from channels.upgrade.request import BadRequest, Head, HeadParser
from channels.upgrade.subprotocol import agree
from channels.wire.deflate import Deflate, InvalidOffer, agree_on_deflate

__all__ = ["Upgraded", "answer_first_request"]

# Of a client that comes while the endpoint drains: seconds for its head, and for everything until its answer is read.
_LATE_HEAD = 1.0
_LATE = 3.0
_DRAINING = Refusal(503, headers=(("retry-after", "1"),))


@frozen(kw_only=True)
class Upgraded:
    """A request that has become a WebSocket: what is needed to serve it.

    `answer` is to be written before anything else, if there is one; `rest` came behind the head and is its first data;
    `deflate` is what was agreed on about compression.
    """

    connected: Connected
    answer: bytes = b""
    rest: bytes = b""
    deflate: Deflate | None = None


async def answer_first_request(services: Services, carrier: Carrier) -> Upgraded | None:
    """Read the first request and deal with it; None if the connection is done, otherwise it is a WebSocket.

    A client that does not send its head within `services.head_timeout` seconds is cut off with 408. When the endpoint
    begins to drain before that, a client that has sent a part of its head is answered 503, and one that has sent
    nothing is let go of. A client that comes later has a second for its head. A stream that is done is closed; a socket
    is the caller's to close.
    """
    upgraded = None
    try:
        # Shielded for those who come while the endpoint drains: nobody waits for them, and they were promised a 503.
        # Short enough for the supervisor that stops this process meanwhile.
        late = services.admission.draining and not isinstance(carrier, AsgiStream)
        with trio.move_on_after(_LATE if late else math.inf, shield=late):
            upgraded = await _answer(services, carrier)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        # Somebody else's server has ended this WebSocket before it was answered.
        pass
    finally:
        if upgraded is None and not isinstance(carrier, sockets.socket):
            await trio.aclose_forcefully(carrier)
    return upgraded


async def _answer(services: Services, carrier: Carrier) -> Upgraded | None:
    head: Head | BadRequest | None = None
    if isinstance(carrier, AsgiStream):
        head = carrier.head
    else:
        parser = HeadParser()
        seconds = (
            min(services.head_timeout, _LATE_HEAD)
            if services.admission.draining
            else services.head_timeout
        )
        with trio.move_on_after(seconds) as limit:
            with services.admission.reading_head(limit):
                head = await read_head(carrier, parser)
        if limit.cancelled_caught:
            if services.admission.draining:
                if parser.begun:
                    await _last_words(carrier, _DRAINING)
                return None
            services.count(("http", "head_timeout"))
            await _last_words(carrier, Refusal(408))
            return None
    if head is None:
        return None
    outcome: Refusal | Upgraded
    if isinstance(head, BadRequest):
        services.count(("http", "bad_request"))
        outcome = Refusal(head.status, head.problem)
    elif services.admission.draining:
        outcome = _DRAINING
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
) -> Refusal | Upgraded:
    """Decide about a request to a socket's path: a WebSocket, or the answer that refuses it."""
    headers = head.headers
    # A server that speaks ASGI has looked at that, and it may have been HTTP/2, where other rules hold.
    is_checked = isinstance(carrier, AsgiStream)
    if not is_checked and handshake.method_problem(head) is not None:
        return Refusal(400)
    try:
        params = {**parse_query(head.query), **variables}
    except InvalidQuery as error:
        services.count(("http", "bad_request"))
        return Refusal(400, error.problem)
    scheme = _scheme(carrier)
    origin, host = headers.get("origin"), headers.get("host")
    if not may_come_from(services, mount, origin, scheme=scheme, host=host):
        return Refusal()
    agreed = agree(
        headers.get("sec-websocket-protocol"), mount.subprotocols, auth_token=mount.auth_token
    )
    if agreed is None:
        spoken = ", ".join(mount.subprotocols or ()) or "none"
        # What it offered is not told: its token may be among it.
        return unsupported(
            services,
            mount,
            f"it offered no subprotocol that is spoken ({spoken}), or a token that is no base64",
        )
    info = ConnectInfo(
        peer_data=peer_of(carrier),
        scheme=scheme,
        path=head.path,
        query=head.query,
        headers=tuple(headers),
        auth_token=agreed.token,
    )
    # Worked out before, for the log to tell the truth, and answered after `connect` has had its say.
    problem, deflate = (None, None) if is_checked else _upgrade_problem(head, mount)
    await services.budget.take(cost_of_query(head.query))
    connected = await connect(services, mount, params, info, transport="websocket", problem=problem)
    if isinstance(connected, Refusal):
        return connected
    if isinstance(carrier, AsgiStream):
        await carrier.accept(agreed.name)
        return Upgraded(connected=connected)
    answer = handshake.accept(
        head, subprotocol=agreed.name, extensions=deflate.answer if deflate else None
    )
    return Upgraded(connected=connected, answer=answer, rest=head.rest, deflate=deflate)


def _upgrade_problem(head: Head, mount: MountedSocket) -> tuple[str | None, Deflate | None]:
    """Say why a request cannot become a WebSocket, or which compression it may have."""
    problem = handshake.upgrade_problem(head)
    if problem is not None or not mount.compress:
        return problem, None
    try:
        return None, agree_on_deflate(head.headers.get("sec-websocket-extensions"))
    except InvalidOffer as error:
        return str(error), None


def _scheme(carrier: Carrier) -> str:
    if isinstance(carrier, AsgiStream):
        return carrier.scheme
    return "https" if isinstance(carrier, trio.SSLStream) else "http"


async def _last_words(carrier: Carrier, refusal: Refusal) -> None:
    """Answer a connection that has no transport yet, and wait for the peer to have read it, for a while."""
    body = refusal.body.encode()
    if isinstance(carrier, AsgiStream):
        with trio.move_on_after(5):
            await carrier.refuse(refusal.status, body, refusal.headers)
        return
    await say_last(carrier, handshake.response(refusal.status, body, headers=refusal.headers))
