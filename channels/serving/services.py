"""The services that all connections of one endpoint share."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import trio
from attrs import field, frozen

from actors.places import place_of
from actors.refs import Pid, TimerRef
from actors.runtime import Runtime, current_runtime
from channels.connect_info import ConnectInfo, PeerData
from channels.protocol.link import Broadcaster, Trace
from channels.protocol.work_budget import WorkBudget
from channels.pubsub.pubsub import PubSub
from channels.serving.mounted import MountedSocket
from channels.socket import Socket
from channels.telemetry import (
    CONNECTION_REFUSED,
    POLLER_OUT_OF_MEMORY,
    SOCKET_INCOMING_SHED,
    SOCKET_UNMATCHED_PATH,
    SOCKET_WITHOUT_CHANNELS,
)
from channels.tokens.token import Secret
from channels.transports.listener import Listen, Listening
from channels.transports.transports import ByteStream, Transports
from channels.wire.request import Head, Headers
from channels.wire.urls import PathTable
from supervision.child_spec import ChildSpec

__all__ = [
    "Admission",
    "EndpointChild",
    "Http",
    "IdleChecks",
    "Service",
    "Services",
    "Tracer",
]

Decision = TypeVar("Decision")


class Service(Protocol):
    """The part of a `Presence` or a `History` that an endpoint uses."""

    @property
    def name(self) -> str: ...

    def child_spec(self, pubsub: PubSub) -> ChildSpec: ...

    def statistics(self) -> dict[str, int]: ...


class EndpointChild:
    """Base class of objects in `Endpoint(children=[...])` that use the endpoint, or that have work to move at a drain.

    Other children need no base class: the endpoint takes everything that a supervisor takes.
    """

    def child_spec(self, services: Services) -> ChildSpec:
        """Return the child spec of the object's process. The endpoint calls this at each start.

        Args:
            services: the services of the endpoint that starts, such as `services.pubsub` and `services.endpoint`.
        """
        raise NotImplementedError

    async def drain(self) -> None:
        """Move the work of this node to other nodes. The endpoint calls this after its clients have left.

        The drainer drains the children in the reverse order of their start. `Draining(timeout=)` is the time limit for
        clients and children together; at its end, the drainer cancels this call. A child that was drained still runs,
        and answers until the endpoint stops it.
        """


class Owner(Broadcaster, Protocol):
    """The part of an endpoint that its connections use."""

    max_buffered_messages: int
    max_buffered_bytes: int
    max_sessions: int
    presences: tuple[Service, ...]
    histories: tuple[Service, ...]

    @property
    def children(self) -> tuple[object, ...]:
        """The application's own processes."""


class Tracer(Protocol):
    """An object that makes spans. `channels.operations.tracing` implements it for OpenTelemetry."""

    async def connect(
        self,
        socket: type[Socket],
        params: Mapping[str, Any],
        info: ConnectInfo,
        transport: str,
        deciding: Awaitable[Decision],
    ) -> tuple[Decision, Trace]:
        """Await the decision about a client within a span. Return the decision, and the trace of the client."""


class Http(Protocol):
    """The server of requests that are not for a socket. `channels.http.handover` implements it."""

    @property
    def connections(self) -> int:
        """The number of open connections."""

    async def route(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request of an ASGI server."""

    def is_for_endpoint(self, head: Head) -> bool:
        """Return True for a request that this server does not serve: for a socket, or for any WebSocket."""

    async def serve(self, stream: ByteStream, first: bytes = b"") -> Head | None:
        """Serve one connection until it ends, then close it. Return the head of a request for the endpoint before that.

        `first` is the data that the caller has read.
        """

    async def drain(self) -> None:
        """Close idle connections now, and all other connections after their current response."""

    async def main(self, ready: Callable[[], object]) -> None:
        """Run the lifespan of the application. Call `ready` when the application has started."""


class Proxies(Protocol):
    """The trusted proxies of an endpoint. `channels.endpoint.trusted_proxies` implements them."""

    def seen(
        self, peer: PeerData | None, scheme: str, headers: Headers
    ) -> tuple[PeerData | None, str]: ...
    def rewritten(self, scope: Any) -> Any: ...


# The length of the periods whose idle checks share a timer, in seconds.
_SHARED = 0.25


class Watched(Protocol):
    """A connection. Only `IdleChecks` sets `check_at`, the time of the next check."""

    check_at: float

    def check_silence(self) -> None: ...


class IdleChecks:
    """The times at which the connections of an endpoint look for silent clients.

    A timer for each connection would take 200 bytes more of it. 15,000 connections that send heartbeats need several
    hundred checks each second, and a scheduler turn costs more than a check.
    """

    __slots__ = ("_due", "_timers")

    def __init__(self) -> None:
        self._timers = current_runtime().timers
        self._due: dict[float, tuple[TimerRef, dict[Watched, None]]] = {}

    def add(self, connection: Watched, due: float, now: float) -> None:
        """Call `connection.check_silence()` at `due`, rounded down to a quarter of a second unless that has passed.

        If the client is silent at the earlier time, another check must follow at `due`. With `math.inf` there is none.
        """
        if due == math.inf:
            return
        shared = math.floor(due / _SHARED) * _SHARED
        time = connection.check_at = shared if shared > now else due
        found = self._due.get(time)
        if found is None:
            found = self._due[time] = self._timers.at(time, partial(self._run, time)), {}
        found[1][connection] = None

    def remove(self, connection: Watched) -> None:
        """Cancel the next check of a connection, if there is one."""
        found = self._due.get(connection.check_at)
        if found is None or connection not in found[1]:
            return
        timer, connections = found
        del connections[connection]
        if not connections:
            self._timers.forget(timer)
            del self._due[connection.check_at]

    def _run(self, time: float) -> None:
        for connection in self._due.pop(time)[1]:
            connection.check_silence()


class Counters:
    """The counters of one endpoint.

    Attributes:
        counts: the number of times that each event happened, for `Endpoint.statistics()`.
    """

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[tuple[str, ...], int] = {}

    def count(self, event: tuple[str, ...]) -> None:
        """Add one to the counter of an event."""
        self.counts[event] = self.counts.get(event, 0) + 1


class Admission:
    """The state of one endpoint that decides about new clients.

    Attributes:
        listener: the listener that accepts connections; None if there is no port.
        started: True when all processes of the endpoint run. Before that, readiness probes get 503.
        accepting: False after `Endpoint.stop_accepting`, when another endpoint takes over the port.
        leaving: True if the endpoint is about to drain, or drains. Readiness probes get 503.
        draining: True if the endpoint refuses new clients.
        closed: True if the endpoint has stopped.
        ending: the scopes that `drain` cancels.
        answering: the processes of connections that have not become a WebSocket, as keys. They read or answer HTTP
            requests.
        polling: the processes of polling sessions, by the name in the session's token.
        queued: a function that returns how many accepted connections still wait in the listener.
    """

    __slots__ = (
        "_all_served",
        "_unserved",
        "accepting",
        "answering",
        "closed",
        "draining",
        "ending",
        "leaving",
        "listener",
        "polling",
        "queued",
        "started",
    )

    def __init__(self) -> None:
        self.listener: Listening | None = None
        self.started = False
        self.accepting = True
        self.leaving = False
        self.draining = False
        self.closed = False
        self.ending: dict[trio.CancelScope, None] = {}
        self.answering: dict[Pid, None] = {}
        self.polling: dict[str, Pid] = {}
        self.queued: Callable[[], int] = int
        # Accepted connections that no process serves yet, by their stream.
        self._unserved: dict[object, Any] = {}
        # Set when there are none; None while nobody waits.
        self._all_served: trio.Event | None = None

    def listening(self, listener: Listening) -> None:
        """Store the listener. A restarted listener replaces the earlier one."""
        self.listener = listener

    @contextmanager
    def ending_at_drain(self, scope: trio.CancelScope) -> Iterator[None]:
        """Register `scope` while the body of this context manager runs, so that `drain` can cancel it.

        The body reads the head of a first request, or waits for another node on behalf of a client.
        """
        self.ending[scope] = None
        try:
            yield
        finally:
            del self.ending[scope]

    def hand_over(self, stream: object, accepted: Any) -> None:
        """Remember an accepted connection that a new process is about to serve.

        Args:
            stream: the stream for the process.
            accepted: the object to close if no process takes over.
        """
        self._unserved[stream] = accepted

    def take_over(self, stream: object) -> None:
        """Forget a connection that a process now serves, or that has been closed."""
        self._unserved.pop(stream, None)
        if self._all_served is not None and not self._unserved:
            self._all_served.set()

    async def wait_all_served(self) -> None:
        """Wait until processes have taken over all accepted connections. Only one task may wait."""
        if self._unserved:
            self._all_served = trio.Event()
            await self._all_served.wait()

    @property
    def is_quiet(self) -> bool:
        """True if every accepted connection has sent the head of its first request, and no request waits for a node."""
        return not (self.ending or self._unserved or self.queued())

    def drain(self) -> None:
        """Refuse new clients. Stop reading unfinished first requests, and stop waiting for other nodes."""
        self.leaving = self.draining = True
        for scope in list(self.ending):
            scope.cancel()

    def close(self) -> None:
        """Forget the listener, and close the connections that no process took over."""
        self.listener = None
        self.leaving = self.closed = True
        self.abandon()

    def abandon(self) -> None:
        """Close each accepted connection whose process ended before it took over the connection."""
        for accepted in self._unserved.values():
            accepted.close()
        self._unserved.clear()
        if self._all_served is not None:
            self._all_served.set()


@frozen(kw_only=True, eq=False)
class Services:
    """Services that all connections of one running endpoint share.

    Attributes:
        endpoint: the endpoint.
        pubsub: the PubSub of the endpoint.
        mounts: the mounted sockets, by their paths for WebSockets.
        longpolls: the mounted sockets, by their paths for long polling.
        secret_key_base: the secret that signs tokens of polling sessions.
        transports: the transports of connections.
        http: the handler of all other requests.
        head_timeout: seconds for the head of a first request.
        listen: the function that opens a listener.
        connections: the name of the supervisor of connections. `max_` and this name is the option with their limit.
        runtime: the runtime of the endpoint.
        budget: the limit on the work of all connections in one turn of the scheduler.
        idle_checks: the checks for silent clients.
        counters: the counters.
        admission: the state of admission.
        proxies: the trusted proxies; None if there are none.
        tracer: the object that makes spans for events that clients cause; None makes no spans.
        counting: the method `count` of the counters, bound once for all connections.
    """

    endpoint: Owner
    pubsub: PubSub
    mounts: PathTable[MountedSocket]
    longpolls: PathTable[MountedSocket]
    secret_key_base: Secret
    transports: Transports
    http: Http
    head_timeout: float
    listen: Listen
    connections: str = "connections"
    runtime: Runtime = field(factory=current_runtime)
    budget: WorkBudget = field(factory=WorkBudget)
    idle_checks: IdleChecks = field(factory=IdleChecks)
    counters: Counters = field(factory=Counters)
    admission: Admission = field(factory=Admission)
    proxies: Proxies | None = None
    tracer: Tracer | None = None
    counting: Callable[[tuple[str, ...]], None] = field(init=False)

    @counting.default
    def _bound_once(self) -> Callable[[tuple[str, ...]], None]:
        return self.counters.count

    def __attrs_post_init__(self) -> None:
        for poller in self.transports.pollers.values():
            poller.on_out_of_memory = self._out_of_memory
            poller.backlog = self.runtime.wake_batches.waiting
            if not poller.is_quiet:
                # Only one poller, because the budget of a turn must begin once.
                poller.on_turn = self.budget.begin_turn

    def report_empty_sockets(self) -> None:
        """Report each socket class without channels. Its clients can connect, but cannot join any topic."""
        mounts = (*self.mounts.values(), *self.longpolls.values())
        for socket in dict.fromkeys(mount.socket for mount in mounts):
            if not socket.channels:
                self.runtime.telemetry.execute(
                    SOCKET_WITHOUT_CHANNELS,
                    {},
                    {"endpoint": self.endpoint, "socket": socket, "place": place_of(socket)},
                )

    def close(self) -> None:
        """Close resources that no process owns, after all processes of the endpoint have ended."""
        self.admission.close()
        self.transports.close()

    def count(self, event: tuple[str, ...]) -> None:
        """Count an event for `Endpoint.statistics()`."""
        self.counters.count(event)

    def refused(self, limit: str, status: int) -> None:
        """Emit `CONNECTION_REFUSED` after a limit has refused a client.

        Args:
            limit: the name of the limit.
            status: the HTTP status of the answer.
        """
        self.runtime.telemetry.execute(
            CONNECTION_REFUSED,
            {},
            {"endpoint": self.endpoint, "limit": limit, "status": status},
        )

    def unmatched_path(self, path: str) -> None:
        """Count a WebSocket at a path without a socket, and emit `SOCKET_UNMATCHED_PATH`."""
        self.count(SOCKET_UNMATCHED_PATH)
        paths = [mount.path for mount in (*self.mounts.values(), *self.longpolls.values())]
        self.runtime.telemetry.execute(
            SOCKET_UNMATCHED_PATH,
            {},
            {"endpoint": self.endpoint, "path": path, "paths": list(dict.fromkeys(paths))},
        )

    def body_shed(self, size: int) -> None:
        """Count a request whose body the endpoint gave up, and emit `SOCKET_INCOMING_SHED`. `size` is in bytes."""
        self.count(SOCKET_INCOMING_SHED)
        self.runtime.telemetry.execute(
            SOCKET_INCOMING_SHED,
            {"bytes": size},
            {
                "endpoint": self.endpoint,
                "pid": None,
                "cause": "the incomplete messages of all clients are too large together, and this is among the largest",
                "code": 503,
            },
        )

    def _out_of_memory(self, reads: int) -> bool:
        """Free the memory of the largest incomplete messages. Return False if this frees none."""
        self.transports.starved_at = self.runtime.current_time()
        has_freed = self.transports.incoming.relieve()
        self.count(POLLER_OUT_OF_MEMORY)
        self.runtime.telemetry.execute(
            POLLER_OUT_OF_MEMORY, {"reads": reads}, {"endpoint": self.endpoint}
        )
        return has_freed
