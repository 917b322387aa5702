"""The HTTP side of long polling, which reads the bodies of requests, finds their sessions, and answers.

The HTTP server runs each request in a task. That is Hypercorn, or the server of the application that mounts the
endpoint. The task calls the process of the session (`channels.longpoll.session`). If the session is on another node,
the task calls the relay (`channels.longpoll.relay`). `channels.protocol.longpoll` builds the answers.

Source: Phoenix.Transports.LongPoll.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import trio

from actors.errors import CallExit, StartError, StartIgnored
from actors.servers.gen_server import call
from channels.connect_info import ConnectInfo, PeerData
from channels.longpoll.relay import Relay
from channels.longpoll.session import Enter, LongPollSession, Place, Poll, Sessions
from channels.protocol.longpoll import (
    TOKEN_HEADER,
    LongPoll,
    PollAnswer,
    plain_answer,
    preflight_answer,
    status_answer,
    token_of,
)
from channels.serving.mounted import MountedSocket
from channels.serving.services import Services
from channels.socket import Refusal
from channels.telemetry import SOCKET_INCOMING_SHED
from channels.transports.asgi_stream import ASGIApplication, path_of
from channels.upgrade.connecting import SERVER_FULL, address_refusal, may_come_from
from channels.wire.fragments import PIECE_OVERHEAD
from channels.wire.urls import InvalidQuery, cost_of_query, parse_query
from supervision.child_spec import ChildSpec
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.errors import MaxChildren, SupervisionError

if TYPE_CHECKING:
    from channels.transports.backlog import Backlog

__all__ = ["Bodies", "Body", "LongPolling"]

_BAD_REQUEST, _TIMEOUT, _UNAVAILABLE = 400, 408, 503
# The cost of an answer, in units of the work budget. A join costs the same.
_ANSWER_COST = 24


class Body:
    """The body of a request. It is a context manager: the bytes of a whole body count until the block ends.

    Args:
        incoming: the backlog that counts the bytes.
        on_shed: a function that gets the size in bytes if the backlog gives up the body before it is whole.

    Attributes:
        data: the whole body; empty until it is whole.
        size: the bytes of the body so far.
        reserved: the bytes that count now.
        problem: the HTTP status of a refusal; 0 if there is none.
    """

    def __init__(self, incoming: Backlog, on_shed: Callable[[int], object]) -> None:
        self.data = b""
        self.size = 0
        self.reserved = 0
        self.problem = 0
        self._pieces: list[bytes] = []
        self._is_whole = False
        self._incoming = incoming
        self._on_shed = on_shed

    def add(self, piece: bytes, *, max_bytes: int) -> None:
        """Add the next piece. If the body becomes too big, refuse it. After a refusal, drop the piece."""
        if not piece or self.problem:
            return
        self.size += len(piece)
        if self.size > max_bytes:
            self.refuse(_BAD_REQUEST)
        else:
            self._pieces.append(piece)
            self._incoming.replace(self, self.size + PIECE_OVERHEAD * len(self._pieces))

    def refuse(self, status: int) -> None:
        """Drop the body, and note the HTTP status for the answer."""
        self.problem = status
        self._pieces.clear()
        self._incoming.replace(self, 0)

    def complete(self) -> None:
        """Join the pieces. From now on, the backlog cannot give up the body."""
        self.data = b"".join(self._pieces)
        self._pieces.clear()
        self._is_whole = True
        self._incoming.replace(self, len(self.data))

    def shed(self) -> bool:
        """Drop the pieces. The request gets 503. A whole body stays, because its messages may be half delivered."""
        if self._is_whole:
            self._incoming.remove(self)
            self._incoming.keep(self, self.reserved)
            return False
        size = self.size
        self.refuse(_UNAVAILABLE)
        self._on_shed(size)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._incoming.replace(self, 0)


class _Promised:
    """The body of another node's request, which counts in full before it arrives. It cannot be given up."""

    def __init__(self, size: int) -> None:
        self.reserved = size

    def shed(self) -> bool:
        return False


class Bodies:
    """Read the bodies of requests, with limits on size, time, and the memory of all bodies together.

        >>> async def example(receive: Callable[[], Awaitable[Any]]) -> None:
        ...     bodies = Bodies(Backlog(max_bytes=1_000_000), on_shed=print)
        ...     outcome = await bodies.read(receive, max_bytes=8_000_000, timeout=30)
        ...     if isinstance(outcome, Body):
        ...         with outcome:
        ...             print(outcome.data)

    Args:
        incoming: the backlog that limits the bytes of the incomplete messages and bodies of all clients.
        on_shed: a function that gets the size in bytes of each body that the backlog gives up.
    """

    def __init__(self, incoming: Backlog, *, on_shed: Callable[[int], object]) -> None:
        self._incoming = incoming
        self._on_shed = on_shed

    async def read(
        self, receive: Callable[[], Awaitable[Any]], *, max_bytes: int, timeout: float
    ) -> Body | int | None:
        """Read a body to its end.

        If a body is refused, this reads and drops the rest until the timeout, because a client that is still sending
        would not read the answer.

        Args:
            receive: the ASGI `receive` of the request.
            max_bytes: the maximum bytes of this body.
            timeout: seconds for the whole body.

        Returns:
            The body, the HTTP status of a refusal, or None if the client has left.
        """
        body = Body(self._incoming, self._on_shed)
        is_read = False
        try:
            with trio.move_on_after(timeout) as limit:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body.add(message.get("body", b""), max_bytes=max_bytes)
                    if not message.get("more_body", False):
                        break
            if body.problem or limit.cancelled_caught:
                return body.problem or _TIMEOUT
            body.complete()
            is_read = True
            return body
        finally:
            if not is_read:
                self._incoming.replace(body, 0)

    @contextmanager
    def holding(self, size: int) -> Iterator[bool]:
        """Count the bytes of another node's body while the block runs. Yield False if they do not fit.

        Args:
            size: bytes of the whole body.
        """
        if not self._incoming.has_room(size):
            yield False
            return
        promised = _Promised(size)
        self._incoming.keep(promised, size)
        try:
            yield True
        finally:
            self._incoming.remove(promised)


Receive: TypeAlias = Callable[[], Awaitable[Any]]

_AUTH_HEADER = "x-phoenix-authtoken"
# spawn_link, because the supervisor must not wait for the application's connect, which may be slow.
_SESSION = ChildSpec("session", LongPollSession.spawn_link, restart="temporary")


class _Request:
    """The parts of a request that long polling needs."""

    def __init__(
        self, mount: MountedSocket, variables: dict[str, str], path: str, scope: Any
    ) -> None:
        assert mount.longpoll is not None  # the table has only mounts with long polling
        self.mount = mount
        self.options: LongPoll = mount.longpoll
        self.path = path
        self.method: str = scope["method"]
        self.scheme: str = scope.get("scheme", "http")
        self.client = scope.get("client")
        self.query: str = scope.get("query_string", b"").decode("latin-1")
        self.headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in scope["headers"]
        )
        self.params: dict[str, Any] = variables
        self.is_malformed = False
        try:
            self.params = {**parse_query(self.query), **variables}
        except InvalidQuery:
            self.is_malformed = True

    def all(self, name: str) -> list[str]:
        """Return the values of a header, by its lower-case name."""
        return [value for key, value in self.headers if key == name]

    def first(self, name: str) -> str | None:
        """Return the first value of a header, by its lower-case name."""
        return next(iter(self.all(name)), None)


class LongPolling:
    """Serve the long-polling requests of one endpoint.

    Attributes:
        relay: the relay to other nodes; None if there are no other nodes. A process must run its `main`.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._bodies = Bodies(services.transports.incoming, on_shed=self._body_shed)
        self._sessions = Sessions(services)
        self.relay: Relay | None = None
        if not services.pubsub.is_local:
            self.relay = Relay(services, self._sessions, self._bodies.holding)

    def find(self, scope: Any) -> ASGIApplication | None:
        """Return the application that serves a request, if its path belongs to a socket with long polling."""
        path = path_of(scope)
        found = self._services.longpolls.match(path)
        return None if found is None else partial(self._serve, *found, path)

    async def _serve(  # noqa: PLR0917 - an ASGI application, after the arguments that `find` binds
        self,
        mount: MountedSocket,
        variables: dict[str, str],
        path: str,
        scope: Any,
        receive: Any,
        send: Any,
    ) -> None:
        budget = self._services.budget
        cost = cost_of_query(scope.get("query_string", b"").decode("latin-1"))
        if cost:
            # The server of the connection has paid for everything else in the request.
            await budget.take(cost)
        answer = await self._answer(_Request(mount, variables, path, scope), receive)
        if answer is not None:
            # A broadcast, or the end of a window, may answer thousands of polls in the same turn of the scheduler.
            await budget.take(_ANSWER_COST)
            await _send(send, answer)

    async def _answer(self, request: _Request, receive: Receive) -> PollAnswer | None:
        """Return the answer to a request; None if the client has left."""
        options = request.options
        if request.method == "GET":
            if request.is_malformed:
                return self._malformed()
            if not self._may_come(request):
                return status_answer(403)
            return await self._get(request, receive)
        # Read the body first, because a client does not read an answer before it has sent its body.
        body = await self._bodies.read(
            receive, max_bytes=options.max_body_bytes, timeout=options.body_timeout
        )
        if body is None:
            return None
        if not isinstance(body, Body):
            self._services.count(("http", "body_refused"))
            return plain_answer(body)
        with body:
            if request.is_malformed:
                return self._malformed()
            if not self._may_come(request):
                return status_answer(403)
            if request.method == "OPTIONS":
                return preflight_answer(", ".join(request.all("access-control-request-headers")))
            if request.method == "POST":
                return await self._post(request, body.data)
            return plain_answer(400)

    def _body_shed(self, size: int) -> None:
        services = self._services
        services.count(SOCKET_INCOMING_SHED)
        services.runtime.telemetry.execute(
            SOCKET_INCOMING_SHED,
            {"bytes": size},
            {
                "endpoint": services.endpoint,
                "pid": None,
                "cause": "the incomplete messages of all clients are too large together, and this is among the largest",
                "code": _UNAVAILABLE,
            },
        )

    def _malformed(self) -> PollAnswer:
        self._services.count(("http", "bad_request"))
        return plain_answer(400)

    def _may_come(self, request: _Request) -> bool:
        return may_come_from(
            self._services,
            request.mount,
            request.first("origin"),
            scheme=request.scheme,
            host=request.first("host"),
        )

    async def _start(self, request: _Request) -> PollAnswer:
        """Start a session. Return the answer with its token, or a refusal."""
        services = self._services
        info = ConnectInfo(
            peer_data=_peer(request.client),
            scheme=request.scheme,
            path=request.path,
            query=request.query,
            headers=request.headers,
            auth_token=request.first(_AUTH_HEADER) if request.mount.auth_token else None,
        )
        if services.admission.draining:
            return plain_answer(503)
        too_many = address_refusal(services, info.peer_data)
        if too_many is not None:
            return plain_answer(too_many.status, too_many.headers)
        try:
            pid = await DynamicSupervisor.start_child(
                (services.endpoint, "sessions"),
                _SESSION,
                services,
                request.mount,
                request.params,
                info,
            )
            # No time limit, because the application's connect may be slow. WebSockets have no limit here either.
            entered = await call(pid, Enter(), timeout=math.inf)
        except (StartError, StartIgnored, SupervisionError, CallExit) as error:
            # The supervisor is full or restarting, or the session ended immediately. The client must try again later.
            services.count(("session", "not_started"))
            if isinstance(error, MaxChildren):
                services.refused("max_sessions", SERVER_FULL.status)
            return plain_answer(SERVER_FULL.status, SERVER_FULL.headers)
        if isinstance(entered, Refusal) and entered.status == 429:
            return plain_answer(entered.status, entered.headers)
        if isinstance(entered, Refusal):
            return plain_answer(500) if entered.status == 500 else status_answer(403)
        token = self._sessions.token(entered)
        return self._sessions.answer(token, [], pid, status=410)

    # Requests

    def _place(self, request: _Request) -> Place | None:
        """Return the place of a request's session; None if the request has no valid token."""
        token = token_of(request.first(TOKEN_HEADER), request.params)
        if token is None:
            return None
        return self._sessions.place(token, max_age=request.options.max_age)

    def _relay_to(self, place: Place) -> Relay | None:
        """Return the relay if the session is on another node, else None."""
        return None if place.node == self._services.pubsub.node_name else self.relay

    async def _get(self, request: _Request, receive: Receive) -> PollAnswer | None:
        place = self._place(request)
        if place is None:
            return await self._start(request)
        answer: PollAnswer | None = None
        left = True
        async with trio.open_nursery() as nursery:

            async def leave_with_the_client() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(leave_with_the_client)
            answer = await self._poll(place, request.options)
            left = False
            nursery.cancel_scope.cancel()
        if left:
            return None
        return await self._start(request) if answer is None else answer

    async def _poll(self, place: Place, options: LongPoll) -> PollAnswer | None:
        """Return the answer to a poll; None if the session does not exist or does not react in time."""
        relay, sessions = self._relay_to(place), self._sessions
        if relay is not None:
            return await relay.poll(place, options)
        pid = await sessions.find(place, options.pubsub_timeout)
        if pid is None:
            return None
        return sessions.answer(place.token, await sessions.poll(pid, Poll(), options.window), pid)

    async def _post(self, request: _Request, body: bytes) -> PollAnswer:
        place, options = self._place(request), request.options
        if place is None:
            return status_answer(410)
        types = request.all("content-type")
        content_type = types[0] if len(types) == 1 else None
        relay, sessions = self._relay_to(place), self._sessions
        if relay is not None:
            answer = await relay.post(place, body, content_type, options)
            return status_answer(410) if answer is None else answer
        pid = await sessions.find(place, options.pubsub_timeout)
        if pid is None:
            return status_answer(410)
        return await sessions.post(pid, body, content_type, options.window)


def _peer(client: Any) -> PeerData | None:
    return PeerData(address=client[0], port=client[1] or 0) if client else None


async def _send(send: Any, answer: PollAnswer) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
