"""The mounted sockets of an endpoint, and the services that all connections of the endpoint share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
import trio
from attrs import field, frozen

from actors.errors import InvalidOption, StartIgnored
from actors.places import place_of
from actors.process import current_pid, on_exit
from actors.refs import Pid
from actors.runtime import Runtime, current_runtime
from channels import logger
from channels.channel import check_endpoint, server_of
from channels.connect_info import ConnectInfo
from channels.connection.channel_server import ChannelServer
from channels.http.handover import HttpHandover
from channels.http.lifespan import ASGIApplication
from channels.protocol.link import Broadcaster, Link, Trace
from channels.protocol.longpoll import LongPoll
from channels.protocol.session import Membership
from channels.protocol.work_budget import WorkBudget
from channels.pubsub.pubsub import PubSub
from channels.serializers.serializer import Codec, Serializer
from channels.serving.mount import Mount
from channels.socket import Socket, router_of
from channels.telemetry import (
    CONNECTION_REFUSED,
    POLLER_OUT_OF_MEMORY,
    SOCKET_UNMATCHED_PATH,
    SOCKET_WITHOUT_CHANNELS,
)
from channels.tokens.token import Secret
from channels.transports.listener import Listen, Listening
from channels.transports.transports import Transports
from channels.wire.cross_site import parse_rule
from channels.wire.deflate import Deflate
from channels.wire.urls import InvalidPath, PathTable, join_paths
from channels.wire.websocket import deflated_frames, frame
from supervision.child_spec import ChildSpec
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.supervisor import Supervisor

if TYPE_CHECKING:
    from channels.endpoint.address_limit import Addresses
    from channels.endpoint.trusted_proxies import TrustedProxies

__all__ = [
    "Admission",
    "ChannelPool",
    "LateAnswer",
    "Mounted",
    "MountedSocket",
    "Page",
    "Plug",
    "Service",
    "Services",
    "Tracer",
    "check_services",
    "hold_services",
    "mount_all",
]


Decision = TypeVar("Decision")


class ChannelPool:
    """The supervisors of all channels of one socket class.

    The supervisors do not restart a crashed channel, because its client rejoins. When the endpoint stops, they stop all
    channels at the same time.
    """

    def __init__(self, owner: object, name: str, partitions: int) -> None:
        self.name = name
        self.names: list[object] = [
            (owner, "channels", name, number) for number in range(partitions)
        ]
        self._next = 0

    def child_spec(self) -> ChildSpec:
        """Return the child spec of the pool, for the endpoint."""
        supervisors = [
            ChildSpec(
                number,
                DynamicSupervisor.start_link,
                kwargs={"name": name, "label": f"{self.name} channels {number}"},
                type="supervisor",
            )
            for number, name in enumerate(self.names)
        ]
        return Supervisor.child_spec(
            supervisors, id=f"{self.name} channels", label=f"{self.name} channels"
        )

    async def start(
        self, link: Link, membership: Membership, payload: Any, replaced: tuple[Pid, ...]
    ) -> Pid:
        """Start the channel server of a membership. The supervisors of the pool take turns."""
        try:
            return self.start_nowait(link, membership, payload, replaced)
        except trio.WouldBlock:
            pass
        start = server_of(membership.route.channel)
        spec = _CHANNEL if start is None else ChildSpec("channel", start, restart="temporary")
        return await DynamicSupervisor.start_child(
            self._next_name(), spec, link, membership, payload, replaced
        )

    def start_nowait(
        self, link: Link, membership: Membership, payload: Any, replaced: tuple[Pid, ...]
    ) -> Pid:
        """Start the channel server of a membership without waiting.

        Raises:
            trio.WouldBlock: the start may wait. Nothing was started; use `start`.
        """
        if server_of(membership.route.channel) is not None:
            # The start of the application's server may wait.
            raise trio.WouldBlock
        before = self._next
        try:
            return DynamicSupervisor.start_child_nowait(
                self._next_name(), _CHANNEL, link, membership, payload, replaced
            )
        except trio.WouldBlock:
            # `start` waits for the same supervisor.
            self._next = before
            raise

    def _next_name(self) -> object:
        self._next = (self._next + 1) % len(self.names)
        return self.names[self._next]


# spawn_link, because the init of a channel server cannot fail. The supervisor does not wait for the join.
_CHANNEL = ChildSpec("channel", ChannelServer.spawn_link, restart="temporary")


def _option(mount: Mount, name: str) -> Any:
    """Return the mount's value of an option. If it is None, return the value of the socket class."""
    value = getattr(mount, name)
    return getattr(mount.socket, name) if value is None else value


class MountedSocket:
    """A socket at a path, with checked options and with codecs that all its connections share."""

    def __init__(self, path: str, mount: Mount, pool: ChannelPool, *, checks: bool = False) -> None:
        # The path without the suffix of the transport, such as "/websocket".
        self.path = path
        self.socket = mount.socket
        self.timeout = mount.timeout
        self.max_frame_size = mount.max_frame_size
        self.serializers = tuple(mount.serializers)
        self.origin = parse_rule(mount.check_origin)
        mount.socket.check()
        self.router = router_of(mount.socket, checks=checks)
        # All connections share this bound method, because a bound method takes 80 bytes.
        self.match = self.router.match
        self.max_channels: int = _option(mount, "max_channels")
        self.max_joining: int = _option(mount, "max_joining") or max(100, self.max_channels)
        self.max_messages_per_second: float = _option(mount, "max_messages_per_second")
        self.max_joins_per_second: float = _option(mount, "max_joins_per_second")
        self.subprotocols = None if mount.subprotocols is None else tuple(mount.subprotocols)
        self.auth_token = mount.auth_token
        self.session = mount.session
        self.check_csrf = mount.check_csrf
        self.error_handler = mount.error_handler
        self.declared = tuple(each for each in mount.connect_info if isinstance(each, str))
        self.own = dict(each for each in mount.connect_info if not isinstance(each, str))
        self.longpoll = LongPoll() if mount.longpoll is True else mount.longpoll or None
        self.compress = mount.compress
        self.max_json_values = mount.max_json_values
        self.codecs: dict[Serializer, Codec] = {}
        # The codecs for clients with compression, by serializer and size of the window in bits.
        self.deflating_codecs: dict[tuple[Serializer, int], Codec] = {}
        # The codecs for transports that take whole messages, such as long polling.
        self.message_codecs: dict[Serializer, Codec] = {}
        self._pool = pool

    @property
    def pool_names(self) -> Sequence[object]:
        """The names of the supervisors that run the channels of this socket."""
        return self._pool.names

    def use_codecs(
        self,
        codecs: dict[Serializer, Codec],
        message_codecs: dict[Serializer, Codec],
        deflating_codecs: dict[tuple[Serializer, int], Codec],
    ) -> None:
        """Use the same codecs as the other mounts, because the fastlane encodes a broadcast once for each codec."""
        self.deflating_codecs = deflating_codecs
        for serializer, _ in self.serializers:
            self.codecs[serializer] = codecs.setdefault(serializer, Codec(serializer, frame))
            self.message_codecs[serializer] = message_codecs.setdefault(
                serializer, Codec(serializer, _as_it_is)
            )

    def codec(self, serializer: Serializer, deflate: Deflate | None) -> Codec:
        """Return the codec for a WebSocket."""
        if deflate is None:
            return self.codecs[serializer]
        key = (serializer, deflate.window_bits)
        codec = self.deflating_codecs.get(key)
        if codec is None:
            codec = Codec(serializer, deflated_frames(deflate.window_bits))
            self.deflating_codecs[key] = codec
        return codec

    async def start_channel(
        self, link: Link, membership: Membership, payload: Any, replaced: tuple[Pid, ...]
    ) -> Pid:
        """Start the channel of a membership in the pool of this socket."""
        return await self._pool.start(link, membership, payload, replaced)

    def start_channel_nowait(self, link: Link, membership: Membership, payload: Any) -> Pid:
        """Start the channel of a membership without waiting. If that is not possible, raise `trio.WouldBlock`."""
        return self._pool.start_nowait(link, membership, payload, ())


class Mounted(msgspec.Struct, frozen=True, kw_only=True):
    """The mounted sockets of an endpoint, by path for each transport, and the pools of their channels."""

    pools: list[ChannelPool]
    websockets: PathTable[MountedSocket]
    longpolls: PathTable[MountedSocket]


def mount_all(owner: object, mounts: Mapping[str, Mount], *, checks: bool = False) -> Mounted:
    """Mount sockets at their paths.

    Args:
        owner: the endpoint.
        mounts: the mounts, by path.
        checks: True checks what channels send against their declarations.

    Raises:
        InvalidPath: a path is malformed, or two sockets have the same path.
        ChannelsError: a mount has another mistake.
    """
    pools: dict[type[Socket], ChannelPool] = {}
    codecs: dict[Serializer, Codec] = {}
    message_codecs: dict[Serializer, Codec] = {}
    deflating_codecs: dict[tuple[Serializer, int], Codec] = {}
    websockets: PathTable[MountedSocket] = PathTable()
    longpolls: PathTable[MountedSocket] = PathTable()
    polling: list[tuple[str, MountedSocket]] = []
    for path, mount in mounts.items():
        socket = mount.socket
        if socket not in pools:
            partitions = max(each.partitions for each in mounts.values() if each.socket is socket)
            pools[socket] = ChannelPool(owner, socket.__name__, partitions)
        mounted = MountedSocket(path, mount, pools[socket], checks=checks)
        mounted.use_codecs(codecs, message_codecs, deflating_codecs)
        for route in mounted.router.routes:
            check_endpoint(route.channel, owner)
        if mount.websocket:
            websockets.add(join_paths(path, mount.path), mounted)
        if mounted.longpoll is not None:
            polling.append((join_paths(path, mounted.longpoll.path), mounted))
    # Checked after the loop, because a path may clash with the WebSocket path of a later mount.
    for full, mounted in polling:
        if full in websockets:
            raise InvalidPath(
                f"a WebSocket and long polling are both mounted at {full!r}; write different paths",
                path=full,
            )
        longpolls.add(full, mounted)
    return Mounted(pools=list(pools.values()), websockets=websockets, longpolls=longpolls)


def _as_it_is(data: bytes) -> bytes:
    return data


class Service(Protocol):
    """The part of a `Presence` or a `History` that an endpoint uses."""

    @property
    def name(self) -> str: ...

    def child_spec(self, pubsub: PubSub) -> ChildSpec: ...

    def statistics(self) -> dict[str, int]: ...


def check_services(option: str, owner: str, services: Sequence[Service]) -> None:
    """Raise InvalidOption if a service is not an object of the class `owner`, or if two services share a name."""
    for service in services:
        if isinstance(service, type) or not hasattr(service, "child_spec"):
            raise InvalidOption("Endpoint", option, services, f"[{owner}()]")
    if len({service.name for service in services}) < len(services):
        expected = f"{option} with different names: {owner}(name=...)"
        raise InvalidOption("Endpoint", option, services, expected)


class Page(Protocol):
    """The methods of a `channels.observer.Observer` that an endpoint calls."""

    def check_options(self) -> None: ...
    def mounts(self) -> Mapping[str, Mount]: ...
    def pages(self, inner: ASGIApplication | None) -> ASGIApplication: ...
    def child_spec(self, endpoint: Any, secret: bytes | None) -> ChildSpec: ...
    def announce(self, address: tuple[str, int] | None, *, tls: bool) -> None: ...


class Owner(Broadcaster, Protocol):
    """The part of an endpoint that its connections use."""

    max_buffered_messages: int
    max_buffered_bytes: int
    max_sessions: int
    presences: tuple[Service, ...]
    histories: tuple[Service, ...]


class LateAnswer(msgspec.Struct, frozen=True):
    """The answer of a plug to a request on a new connection while the endpoint drains."""

    status: int
    body: str
    headers: tuple[tuple[str, str], ...] = ()


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


class Plug:
    """Base class of extensions for the operation of a server, such as `channels.operations.health.Health`.

    Subclass it, override the methods that you need, and pass an instance to the endpoint: `plugs=[...]`. Ashtree does
    not import the modules of its plugs. The application does.

    Attributes:
        tracer: the object that makes spans of what clients cause; None makes no spans.
        public: True if the public port serves the pages of this plug even if the endpoint has an internal port. The
            internal port always serves them.
    """

    tracer: Tracer | None = None
    public: bool = False

    def attach(self, services: Services) -> Callable[[], None]:
        """Attach the plug to an endpoint that starts. Return a function that detaches it.

        The endpoint's supervisor calls this method and the returned function.
        """
        return _nothing

    def children(self, services: Services) -> Sequence[ChildSpec]:
        """Return child specs of the processes of the plug. The endpoint starts them before its channels."""
        return ()

    def find(self, scope: Any, services: Services) -> ASGIApplication | None:
        """Return the application that serves an HTTP request; None if the request is not for this plug."""
        return None

    def late_answer(self, path: str, services: Services) -> LateAnswer | None:
        """Return the answer to a request on a new connection while the endpoint drains; None for 503."""
        return None


def _nothing() -> None:
    pass


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
        has_internal_port: True if another port serves the pages of the plugs that are not public.
        runtime: the runtime of the endpoint.
        budget: the limit on the work of all connections in one turn of the scheduler.
        counters: the counters.
        admission: the state of admission.
        plugs: the plugs of the endpoint.
        addresses: the number of clients of each network address; None if there is no limit.
        proxies: the trusted proxies; None if there are none.
        public_plugs: the plugs whose pages the public port serves.
        tracer: the object that makes spans for events that clients cause; None makes no spans.
        counting: the method `count` of the counters, bound once for all connections.
    """

    endpoint: Owner
    pubsub: PubSub
    mounts: PathTable[MountedSocket]
    longpolls: PathTable[MountedSocket]
    secret_key_base: Secret
    transports: Transports
    http: HttpHandover
    head_timeout: float
    listen: Listen
    connections: str = "connections"
    has_internal_port: bool = False
    runtime: Runtime = field(factory=current_runtime)
    budget: WorkBudget = field(factory=WorkBudget)
    counters: Counters = field(factory=Counters)
    admission: Admission = field(factory=Admission)
    plugs: tuple[Plug, ...] = ()
    addresses: Addresses | None = None
    proxies: TrustedProxies | None = None
    public_plugs: tuple[Plug, ...] = field(init=False)
    tracer: Tracer | None = field(init=False)
    counting: Callable[[tuple[str, ...]], None] = field(init=False)

    @public_plugs.default
    def _without_internal_ones(self) -> tuple[Plug, ...]:
        return tuple(plug for plug in self.plugs if plug.public or not self.has_internal_port)

    @counting.default
    def _bound_once(self) -> Callable[[tuple[str, ...]], None]:
        return self.counters.count

    @tracer.default
    def _first_tracer(self) -> Tracer | None:
        return next((plug.tracer for plug in self.plugs if plug.tracer is not None), None)

    def __attrs_post_init__(self) -> None:
        for poller in self.transports.pollers.values():
            poller.on_out_of_memory = self._out_of_memory
            poller.backlog = self.runtime.wake_batches.waiting

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

    def find(self, scope: Any, *, internal: bool = False) -> ASGIApplication | None:
        """Return the application of a plug that serves a request; None if the request is for no plug.

        Args:
            scope: the scope of the request.
            internal: True for a request on the internal port.
        """
        for plug in self.plugs if internal else self.public_plugs:
            found = plug.find(scope, self)
            if found is not None:
                return found
        return None

    def late_answer(self, path: str) -> LateAnswer | None:
        """Return the answer of a plug to a request on a new connection while the endpoint drains."""
        for plug in self.public_plugs:
            answer = plug.late_answer(path, self)
            if answer is not None:
                return answer
        return None

    def close(self) -> None:
        """Close resources that no process owns, after all processes of the endpoint have ended."""
        self.admission.close()
        self.transports.close()

    def count(self, event: tuple[str, ...]) -> None:
        """Count an event for `Endpoint.statistics()`."""
        self.counters.count(event)

    def refused(self, limit: str, status: int, address: str | None = None) -> None:
        """Emit `CONNECTION_REFUSED` after a limit has refused a client.

        Args:
            limit: the name of the limit.
            status: the HTTP status of the answer.
            address: the address or network with too many clients; None for the other limits.
        """
        self.runtime.telemetry.execute(
            CONNECTION_REFUSED,
            {},
            {"endpoint": self.endpoint, "limit": limit, "status": status, "address": address},
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

    def _out_of_memory(self, reads: int) -> bool:
        """Free the memory of the largest incomplete messages. Return False if this frees none."""
        self.transports.starved_at = self.runtime.current_time()
        has_freed = self.transports.incoming.relieve()
        self.count(POLLER_OUT_OF_MEMORY)
        self.runtime.telemetry.execute(
            POLLER_OUT_OF_MEMORY, {"reads": reads}, {"endpoint": self.endpoint}
        )
        return has_freed


async def hold_services(services: Services, internal: Services | None) -> Pid:
    """Attach the logger, and release shared resources when the endpoint's supervisor ends.

    Args:
        services: the services of the endpoint.
        internal: the services of the connections on the internal port; None without one.

    The supervisor calls this start function in its own process. The function always raises StartIgnored, because it
    starts no process. So the supervisor keeps no child.
    """
    on_exit(services.close)
    mounts = [*services.mounts.values(), *services.longpolls.values()]
    if internal is not None:
        on_exit(internal.admission.close)
        mounts += internal.mounts.values()
    on_exit(
        logger.attach(
            current_runtime().telemetry,
            endpoint=services.endpoint,
            supervisor=current_pid(),
            filter_parameters=services.endpoint.filter_parameters,
            sockets=[mount.socket for mount in mounts],
            channels=[route.channel for mount in mounts for route in mount.router.routes],
        )
    )
    for plug in services.plugs:
        on_exit(plug.attach(services))
    services.report_empty_sockets()
    raise StartIgnored
