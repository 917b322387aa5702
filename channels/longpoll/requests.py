"""The HTTP side of long polling, which reads the bodies of requests, finds their sessions, and answers.

The HTTP server runs each request in a task. That is Hypercorn, or the server of the application that mounts the
endpoint. The task calls the process of the session (`channels.longpoll.session`). If the session is on another node,
the task calls the relay (`channels.longpoll.relay`). `channels.protocol.longpoll` builds the answers.

Source: Phoenix.Transports.LongPoll.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

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
from channels.transports.asgi_stream import ASGIApplication, path_of
from channels.transports.bodies import Bodies, Body
from channels.upgrade.connecting import SERVER_FULL, may_come_from
from channels.wire.urls import InvalidQuery, cost_of_query, parse_query
from supervision.child_spec import ChildSpec
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.errors import MaxChildren, SupervisionError

__all__ = ["LongPolling"]

_TOO_LARGE, _BAD_REQUEST = 413, 400
# The cost of an answer, in units of the work budget. A join costs the same.
_ANSWER_COST = 24

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
        self._bodies = Bodies(services.transports.incoming, on_shed=services.body_shed)
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
            # As in Phoenix, a body that is too large is a bad request.
            return plain_answer(_BAD_REQUEST if body == _TOO_LARGE else body)
        with body:
            if request.is_malformed:
                return self._malformed()
            if not self._may_come(request):
                return status_answer(403)
            if request.method == "OPTIONS":
                return preflight_answer(", ".join(request.all("access-control-request-headers")))
            if request.method == "POST":
                return await self._post(request, body.data)
            return plain_answer(_BAD_REQUEST)

    def _malformed(self) -> PollAnswer:
        self._services.count(("http", "bad_request"))
        return plain_answer(_BAD_REQUEST)

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
