"""Endpoints, the servers that clients connect to.

    endpoint = Endpoint(sockets={"/socket": UserSocket}, http=pages)

    async with open_runtime():
        await endpoint.start_link(port=4000)
        ...

A running endpoint is a supervision tree. It starts its children from top to bottom, and stops them in reverse:

    endpoint (one_for_one)
    ├── observer                              collects data for its page, if there is an observer
    ├── pubsub                                connects to other nodes, if there is an adapter
    ├── presence Online                       one for each `Presence`, here for a class `Online`
    ├── relay                                 forwards polling requests to other nodes, if there is an adapter
    ├── children (one_for_one)                the application's own processes, if it has some
    ├── UserSocket channels (one_for_one)     one for each socket class
    │   ├── 0 (dynamic)                       one temporary process for each channel
    │   └── 1 (dynamic)
    ├── flusher                               writes for all plain sockets
    ├── poller                                reads for all plain sockets
    ├── quiet_poller                          reads for plain sockets with little data
    ├── internal_connections (dynamic)        one temporary process for each connection on the internal port
    ├── internal_listener                     accepts these connections, if there is an internal port
    ├── internal_drainer                      closes these connections after those of the clients
    ├── application                           runs the lifespan of the mounted ASGI application
    ├── sessions (dynamic)                    one temporary process for each polling client
    ├── connections (dynamic)                 one temporary process for each connection
    ├── listener                              accepts connections, if there is a port
    └── drainer                               stops first, and closes clients so that they reconnect to another server

One port serves all requests. With an internal port, that port serves the observer and the plugs, such as metrics. It
answers while the application starts, and until all clients have been drained.

The endpoint reads the head of a connection's first request. If the request is for the WebSocket of a mounted socket,
the endpoint serves the connection itself. It passes any other connection on to Hypercorn. An endpoint is also an ASGI
application, which another server can serve.
"""

from __future__ import annotations

import os
import secrets
import ssl
import warnings
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, Protocol

import trio
from attrs import evolve
from msgspec import structs

from actors.arguments import check_not_negative, check_positive, check_whole
from actors.errors import InvalidOption, StartIgnored
from actors.masking import SECRETS
from actors.process import current_pid, on_exit, spawn
from actors.refs import Pid
from actors.runtime import current_runtime, in_runtime, open_runtime
from actors.text import brief
from channels import logger
from channels.channel import Channel, check_endpoint
from channels.endpoint.drainer import DrainerServer, Draining
from channels.endpoint.listening import (
    ListenerServer,
    SamePort,
    of_connections,
    serve_websocket,
    start_application,
)
from channels.endpoint.pools import CHILDREN, ChannelPool, pools_of
from channels.errors import ChannelsError
from channels.filters import FilterRule, check_rule
from channels.handlers import Declarations
from channels.http.handover import DEFAULT_KEEP_ALIVE_TIMEOUT, HttpHandover
from channels.http.lifespan import serve_lifespan
from channels.messages import Broadcast
from channels.protocol.work_budget import WorkBudget
from channels.pubsub.pubsub import PubSub
from channels.serving.mount import Mount
from channels.serving.mounted import Mounted, mount_all
from channels.serving.plug import Plug
from channels.serving.services import Admission, EndpointChild, Service, Services
from channels.socket import Socket, router_of
from channels.tokens.token import Secret, check_secret
from channels.topics import Router
from channels.transports.asgi_stream import ASGIApplication
from channels.transports.listener import Listen, Listener, connections_that_fit
from channels.transports.out_buffer import (
    DEFAULT_MAX_BYTES,
    DEFAULT_MAX_LATEST_BYTES,
    DEFAULT_MAX_LATEST_VALUES,
    DEFAULT_MAX_MESSAGES,
    DEFAULT_MAX_TOTAL_BYTES,
)
from channels.transports.poller import DEFAULT_LONGEST_REST
from channels.transports.transports import DEFAULT_MAX_INCOMING_BYTES, NO_STATISTICS, Transports
from channels.wire.urls import InvalidPath
from supervision.child_spec import ChildSpec, Supervised, process_spec
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.events import RECORDER_WANTED
from supervision.strategy import DEFAULT_MAX_RESTARTS, DEFAULT_MAX_SECONDS, Strategy
from supervision.supervisor import Supervisor

if TYPE_CHECKING:
    from channels.development.crashes import Crashes
    from channels.endpoint.trusted_proxies import TrustedProxies
    from channels.longpoll.requests import LongPolling
    from channels.publishing.http import HttpPublish

__all__ = ["DEFAULT_INTERNAL_HOST", "Endpoint", "EndpointError", "services_of"]

DEFAULT_INTERNAL_HOST = "127.0.0.1"
"""The address of the internal port. Only programs on this machine reach it."""

# The drain of the internal port, which begins when all clients of the public port have gone. It finishes the current
# answers, and closes the pages of the observer.
_INTERNAL_DRAINING = Draining(timeout=1.0)
# Seconds between two checks of the connections that have not sent their first request.
_POLL = 0.01
_WHOLE_OPTIONS = (
    "max_internal_connections",
    "max_sessions",
    "max_buffered_messages",
    "max_buffered_bytes",
    "max_total_buffered_bytes",
    "max_latest_values",
    "max_latest_bytes",
    "max_total_incoming_bytes",
)


class EndpointError(ChannelsError, RuntimeError):
    """A mistake in the use of an endpoint. The message states the correction."""


class Page(Protocol):
    """The methods of a `channels.observer.Observer` that an endpoint calls."""

    def check_options(self) -> None: ...
    def mounts(self) -> Mapping[str, Mount]: ...
    def pages(self, inner: ASGIApplication | None) -> ASGIApplication: ...
    def child_spec(self, endpoint: Any, secret: bytes | None) -> ChildSpec: ...
    def announce(self, address: tuple[str, int] | None, *, tls: bool) -> None: ...


class Endpoint:
    """The sockets and pages of one server.

    Args:
        sockets: a dict from paths to socket classes, or to `Mount`s with options. The WebSocket of a socket at
            `/socket` has the path `/socket/websocket`, as Phoenix clients expect.
        http: an ASGI application for all other requests, which the endpoint runs itself. It gets no WebSockets. Without
            an application, these requests get 404.
        static: a folder whose files the endpoint serves at `/`, or a dict from paths to folders. The folders must exist
            when the endpoint starts. `http` handles the requests that name no file. See `channels.http.static`.
        pubsub: the PubSub for broadcasts. By default the endpoint has its own PubSub, for this node alone.
        presences: all `Presence` objects of the application. The endpoint starts and stops their processes.
        histories: all `History` objects of the application, for its durable topics. The endpoint starts and stops them.
        children: the application's own processes, as a supervisor takes them: classes with `start_link`, child specs,
            and `EndpointChild` objects. They start in this order after the PubSub, the presences and the histories, and
            before the first channel. They stop in reverse order after the last channel. So a channel may call them from
            `join` to `terminate`. Each node and each worker runs its own.
        children_strategy: the children to restart when a child ends, as in `Supervisor`: "one_for_one", "one_for_all"
            or "rest_for_one".
        children_max_restarts: the number of restarts of children within `children_max_seconds`. At the next restart the
            endpoint stops too.
        children_max_seconds: the length of this restart window in seconds.
        head_timeout: seconds for a client to send the head of its first request. After that, the client gets 408.
        max_connections: the maximum number of open connections. A further client gets 503. By default, the number of
            connections for which the process has file descriptors, up to 100,000.
        max_internal_connections: the maximum number of open connections on the internal port. A further one gets 503.
        max_sessions: the maximum number of sessions of polling clients. A request for a further session gets 503, and
            the endpoint counts it.
        trusted_proxies: the addresses and networks of your own proxies, such as `["127.0.0.1", "10.0.0.0/8"]`, and
            `"unix:"` for a Unix socket. For their requests, the address and the scheme of the client come from
            `X-Forwarded-For` and `X-Forwarded-Proto`: for `connect_info`, `check_origin="conn"`, and the scope of the
            `http` application. For all other requests, the endpoint ignores these headers.
        max_buffered_messages: the maximum number of frames that wait for one client. If more frames wait, the endpoint
            closes the client's connection with 1013.
        max_buffered_bytes: the maximum number of bytes that wait for one client. If more bytes wait, the endpoint
            closes the client's connection with 1013.
        max_total_buffered_bytes: the maximum number of bytes that wait for all clients together. If more bytes wait,
            the endpoint closes connections with 1013, beginning with the clients with the most waiting bytes.
        max_latest_values: the maximum number of values of `broadcast_latest` and `push_latest` that wait for one
            client, one for each topic, event and key. The endpoint drops and counts further values.
        max_latest_bytes: the maximum number of bytes of these values. A single value may have any size.
        max_total_incoming_bytes: the maximum number of bytes that the incomplete messages and posted bodies of all
            clients have together. If they have more, the endpoint closes connections with 1013, and answers posts with
            503, beginning with the largest messages.
        quiet_delay: the longest time in seconds that data of a quiet client may wait, so that the server wakes less
            often. A client is quiet if its last two messages came more than five seconds apart. With fewer than 150
            quiet clients, no data waits. 0 reads all clients immediately. See `channels.transports.poller`.
        keep_alive_timeout: seconds that an HTTP connection may stay open without a request.
        draining: the options for closing clients when the endpoint stops.
        filter_parameters: the client parameters that the log masks: a list of terms, or a `Keep`. A term masks every
            parameter whose name contains the term.
        secret_key_base: the secret that signs the tokens of polling sessions, at least 20 bytes, better 64. With a list
            of secrets, the endpoint signs with the first secret, and accepts tokens that any secret of the list has
            signed. By default, each start makes a new secret, which is enough for one server. Give the same secret to
            all nodes.
        listen: the function that opens the listener; None opens a real listener. A scenario passes `world.listen`.
        observer: a `channels.observer.Observer`, whose page shows the processes of this endpoint; None for no page.
        development: True serves the development page at `/_ashtree`, but only to browsers on this machine. If the
            endpoint has no other pages, `/` redirects to it. None means True if the environment variable `ASHTREE_ENV`
            is `development`. `ashtree serve --reload` sets this variable. In development, the endpoint also checks what
            channels send against their `pushes` and `replies`.
        plugs: extensions for the operation of the server: `Health`, `Metrics` and `Tracing` of `channels.operations`.
            By default there are none.
        publish: a `channels.publishing.http.HttpPublish`, with which other programs publish over HTTP; None for none.

    The endpoint checks its options when it starts. A stopped endpoint can start again. A running endpoint cannot.
    """

    # True checks what channels send against their declarations, as in development. `channels.testing` sets it.
    checks_declarations: bool = False

    def __init__(
        self,
        *positional: Never,
        sockets: Mapping[str, type[Socket] | Mount],
        http: ASGIApplication | None = None,
        static: str | Path | Mapping[str, str | Path] | None = None,
        pubsub: PubSub | None = None,
        presences: Sequence[Service] = (),
        histories: Sequence[Service] = (),
        children: Sequence[Supervised | EndpointChild] = (),
        children_strategy: Strategy = "one_for_one",
        children_max_restarts: float = DEFAULT_MAX_RESTARTS,
        children_max_seconds: float = DEFAULT_MAX_SECONDS,
        head_timeout: float = 10.0,
        max_connections: int | None = None,
        max_internal_connections: int = 64,
        max_sessions: int = 20_000,
        trusted_proxies: Sequence[str] = (),
        max_buffered_messages: int = DEFAULT_MAX_MESSAGES,
        max_buffered_bytes: int = DEFAULT_MAX_BYTES,
        max_total_buffered_bytes: int = DEFAULT_MAX_TOTAL_BYTES,
        max_latest_values: int = DEFAULT_MAX_LATEST_VALUES,
        max_latest_bytes: int = DEFAULT_MAX_LATEST_BYTES,
        max_total_incoming_bytes: int = DEFAULT_MAX_INCOMING_BYTES,
        quiet_delay: float = DEFAULT_LONGEST_REST,
        keep_alive_timeout: float = DEFAULT_KEEP_ALIVE_TIMEOUT,
        draining: Draining | None = None,
        filter_parameters: FilterRule = SECRETS,
        secret_key_base: Secret | None = None,
        listen: Listen | None = None,
        observer: Page | None = None,
        development: bool | None = None,
        plugs: Sequence[Plug] = (),
        publish: HttpPublish | None = None,
    ) -> None:
        if positional:
            # If `sockets` is missing, Python's own error already names it.
            raise EndpointError(
                f"Endpoint got {brief(positional[0])} without a name; write the name of the option, such as sockets="
            )
        if not isinstance(sockets, Mapping):
            raise EndpointError(
                f'Endpoint got sockets={sockets!r}; write a dict of paths to sockets: {{"/socket": UserSocket}}'
            )
        _check_list("presences", presences, "Presence()")
        _check_list("histories", histories, "History()")
        _check_list("children", children, "Counter")
        _check_list("plugs", plugs, "Health()")
        self.sockets = dict(sockets)
        self.http = http
        self.static = static
        self.pubsub = PubSub() if pubsub is None else pubsub
        self.presences = tuple(presences)
        self.histories = tuple(histories)
        self.children = tuple(children)
        self.children_strategy = children_strategy
        self.children_max_restarts = children_max_restarts
        self.children_max_seconds = children_max_seconds
        self.head_timeout = head_timeout
        self.max_connections = max_connections
        self.max_internal_connections = max_internal_connections
        self.max_sessions = max_sessions
        self.trusted_proxies = trusted_proxies
        self.max_buffered_messages = max_buffered_messages
        self.max_buffered_bytes = max_buffered_bytes
        self.max_total_buffered_bytes = max_total_buffered_bytes
        self.max_latest_values = max_latest_values
        self.max_latest_bytes = max_latest_bytes
        self.max_total_incoming_bytes = max_total_incoming_bytes
        self.quiet_delay = quiet_delay
        self.keep_alive_timeout = keep_alive_timeout
        self.draining = Draining() if draining is None else draining
        self.filter_parameters = filter_parameters
        self.secret_key_base = secret_key_base
        self.listen = Listener.open if listen is None else listen
        self.observer = observer
        self.development = development
        self.publish = publish
        self.plugs = tuple(plugs) if publish is None else (*plugs, publish)
        # The reason why the newest version of the application could not be loaded. The development page shows it.
        self.load_problem: str | None = None
        self._is_starting = False
        self._services: Services | None = None
        self._internal: Services | None = None
        self._supervisor: Pid | None = None

    def __repr__(self) -> str:
        return f"<endpoint {' '.join(map(str, self.sockets)) or 'without sockets'}>"

    # Starting

    def check(self) -> None:
        """Check options, paths, routes and handlers, without starting anything.

        Raises:
            ChannelsError: there is a mistake. The error describes the first mistake in one sentence.
        """
        mounts = self._checked_mounts()
        self._mount(mounts, pools_of(self, mounts))

    async def start_link(
        self,
        *,
        host: str = "127.0.0.1",
        port: int | None = 4000,
        ssl_context: ssl.SSLContext | None = None,
        listen: Listen | None = None,
        secret_key_base: Secret | None = None,
        internal_host: str = DEFAULT_INTERNAL_HOST,
        internal_port: int | None = None,
        internal_listen: Listen | None = None,
    ) -> Pid:
        """Start the endpoint and all its children. Return when it accepts connections.

        Args:
            host: the address to listen on; `0.0.0.0` is every address of this machine.
            port: the port; 0 takes any free port, which `address` then returns. With None the endpoint does not listen,
                and is only an ASGI application.
            ssl_context: the context for TLS, such as `ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)` with a
                loaded certificate. None is plain HTTP. The endpoint sets the protocol that this context offers (ALPN),
                which is HTTP/1.1.
            listen: the function that opens the listener for this start, instead of the endpoint's own `listen`. A
                worker passes `channels.transports.listener.inherited(sockets)`.
            secret_key_base: the secret for an endpoint without a `secret_key_base` of its own. All workers of a server
                get the same secret.
            internal_host: the address of the internal port.
            internal_port: a second port, for the observer and the plugs; 0 takes any free port, which
                `internal_address` then returns. With it, the public port serves only the plugs that are `public`, which
                are health probes. The internal port serves nothing else, never TLS, and also answers while the endpoint
                drains. None serves everything on the public port.
            internal_listen: the function that opens the internal listener; None takes the endpoint's own `listen`.

        Raises:
            EndpointError: the endpoint is already running or starting, or both ports are the same, or it has long
                polling and other nodes, but no `secret_key_base`.
            ChannelsError: `check` found a mistake.
            StartError: a child did not start, for example because the port is in use.
        """
        if internal_port is not None and internal_port == port != 0:
            raise EndpointError(
                f"the public port and the internal port are both {port}; write two different ports"
            )
        has_internal_port = internal_port is not None
        mounts = self._checked_mounts(observer=not has_internal_port)
        pools = pools_of(self, mounts)
        mounted = self._mount(mounts, pools)
        if self._services is not None and not self._services.admission.closed:
            raise EndpointError(
                "this endpoint is already running; stop it first, or make another Endpoint"
            )
        if self._is_starting:
            raise EndpointError(
                "this endpoint is already starting; call start_link once, or make another Endpoint"
            )
        self.pubsub.attach(current_runtime())
        telemetry = current_runtime().telemetry
        if telemetry.handlers(RECORDER_WANTED):
            telemetry.execute(RECORDER_WANTED, {}, {"extend": _record_frames})
        transports = Transports(
            spawn=spawn,
            max_messages=self.max_buffered_messages,
            max_bytes=self.max_buffered_bytes,
            max_total_bytes=self.max_total_buffered_bytes,
            max_latest_values=self.max_latest_values,
            max_latest_bytes=self.max_latest_bytes,
            max_incoming_bytes=self.max_total_incoming_bytes,
            quiet_delay=self.quiet_delay,
        )
        crashes = self._crashes()
        plugs = self.plugs if crashes is None else (*self.plugs, crashes)
        budget = WorkBudget()
        http = HttpHandover(
            self._pages(crashes, observer=not has_internal_port),
            is_socket_path=mounted.websockets.__contains__,
            keep_alive_timeout=self.keep_alive_timeout,
            budget=budget,
        )
        services = Services(
            endpoint=self,
            budget=budget,
            pubsub=self.pubsub,
            mounts=mounted.websockets,
            longpolls=mounted.longpolls,
            secret_key_base=self._secret(self.secret_key_base or secret_key_base, mounted),
            transports=transports,
            http=http,
            head_timeout=self.head_timeout,
            listen=listen or self.listen,
            proxies=self._proxies(),
            tracer=next((plug.tracer for plug in plugs if plug.tracer is not None), None),
        )
        polling = _polling(services)
        public = tuple(plug for plug in plugs if plug.public or not has_internal_port)
        _connect(http, services, partial(_find, public, services, polling))
        internal, of_internal_port = None, []
        if internal_port is not None:
            inner = {} if self.observer is None else self.observer.mounts()
            pools |= (inner_pools := pools_of(self, inner))
            internal = self._internal_services(
                services, plugs, self._mount(inner, inner_pools), internal_listen or self.listen
            )
            of_internal_port = self._internal_children(internal, internal_host, internal_port)
        children = [
            *self._services_of_channels(services, polling),
            *self._children(services, internal, plugs, list(pools.values()), of_internal_port),
        ]
        if port is not None:
            listener = (services, (self, "connections"), host, port, ssl_context)
            children.insert(-1, ChildSpec("listener", ListenerServer.start_link, listener))
        # The observer is the first child, so that it sees the start and the stop of all other children.
        children[:0] = self._observers(self.secret_key_base or secret_key_base)
        # The supervisor of the application's children is the significant child: if it gives up, the endpoint does too.
        self._is_starting = True
        try:
            pid = await Supervisor.start_link(
                children, auto_shutdown="any_significant", label="endpoint"
            )
        finally:
            self._is_starting = False
        services.admission.started = True
        self._services, self._internal, self._supervisor = services, internal, pid
        self._announce(has_port=port is not None, tls=ssl_context is not None)
        return pid

    def _internal_services(
        self, services: Services, plugs: Sequence[Plug], mounted: Mounted, listen: Listen
    ) -> Services:
        """Return the services of the connections on the internal port.

        They have their own admission, so that the drain and the limits of the public port do not apply to them.
        """
        http = HttpHandover(
            None if self.observer is None else self.observer.pages(None),
            is_socket_path=mounted.websockets.__contains__,
            keep_alive_timeout=self.keep_alive_timeout,
            budget=services.budget,
        )
        internal = evolve(
            services,
            mounts=mounted.websockets,
            longpolls=mounted.longpolls,
            http=http,
            listen=listen,
            connections="internal_connections",
            admission=Admission(),
        )
        # The plugs get the services of the endpoint, because they report its state.
        _connect(http, internal, partial(_find, plugs, services, None))
        return internal

    def _internal_children(self, services: Services, host: str, port: int) -> list[ChildSpec]:
        connections = (self, services.connections)
        listener = (services, connections, host, port)
        return [
            of_connections(services, _dynamic(connections, self.max_internal_connections)),
            ChildSpec("internal_listener", ListenerServer.start_link, listener),
            ChildSpec(
                "internal_drainer",
                DrainerServer.start_link,
                (services, (connections,), _INTERNAL_DRAINING),
                shutdown=_INTERNAL_DRAINING.longest + 5.0,
            ),
        ]

    def _proxies(self) -> TrustedProxies | None:
        """Return the trusted proxies, or None without any. Raises InvalidOption."""
        if isinstance(self.trusted_proxies, tuple) and not self.trusted_proxies:
            return None
        # Import here, because many servers have no proxy.
        from channels.endpoint.trusted_proxies import TrustedProxies  # noqa: PLC0415

        return TrustedProxies(self.trusted_proxies)

    def _crashes(self) -> Crashes | None:
        """Return the plug that records crashes for the development page; None in production."""
        if not self._develops():
            return None
        # Import here, because a server in production does not record crashes.
        from channels.development.crashes import Crashes  # noqa: PLC0415

        return Crashes()

    def _pages(self, crashes: Crashes | None, *, observer: bool) -> ASGIApplication | None:
        """Return the application for all requests on the public port that are not for a socket.

        Args:
            crashes: the crashes for the development page; None adds no development page.
            observer: False leaves out the page of the observer, because it is on the internal port.
        """
        pages = self.http
        if self.static is not None or crashes is not None:
            # Import here, because many servers in production need neither files nor the development page.
            from channels.endpoint.pages import pages_of  # noqa: PLC0415

            pages = pages_of(self, crashes)
        return self.observer.pages(pages) if self.observer is not None and observer else pages

    def _develops(self) -> bool:
        if self.development is None:
            return os.environ.get("ASHTREE_ENV") == "development"
        return self.development

    def _announce(self, *, has_port: bool, tls: bool) -> None:
        """Tell the observer the address of the endpoint, so that it can print the address of its page."""
        if self.observer is not None:
            internal = self.internal_address
            public = self.address if has_port else None
            self.observer.announce(internal or public, tls=tls and internal is None)

    def _observers(self, secret: Secret | None) -> list[ChildSpec]:
        """Return the child spec of the observer; empty without one."""
        if self.observer is None:
            return []
        first = None if secret is None else check_secret(secret)[0]
        return [self.observer.child_spec(self, first)]

    def child_spec(
        self,
        *,
        host: str = "127.0.0.1",
        port: int | None = 4000,
        ssl_context: ssl.SSLContext | None = None,
        listen: Listen | None = None,
        secret_key_base: Secret | None = None,
        internal_host: str = DEFAULT_INTERNAL_HOST,
        internal_port: int | None = None,
        internal_listen: Listen | None = None,
    ) -> ChildSpec:
        """Return a child spec for your own supervisor. With port 0, a restart takes the port of the first start.

        This takes the same arguments as `start_link`.
        """
        return ChildSpec(
            "endpoint",
            SamePort(self),
            kwargs={
                "host": host,
                "port": port,
                "ssl_context": ssl_context,
                "listen": listen,
                "secret_key_base": secret_key_base,
                "internal_host": internal_host,
                "internal_port": internal_port,
                "internal_listen": internal_listen,
            },
            type="supervisor",
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the endpoint in its own runtime, without a port, while the body of the context manager runs.

            async with endpoint.running():
                ...                         # an ASGI server passes requests on to the endpoint

        When the body ends, the endpoint stops in order. Raises the same errors as `start_link`.
        """
        async with open_runtime():
            await self.start_link(port=None)
            yield

    def lifespan(self, app: object = None) -> AbstractAsyncContextManager[None]:
        """Return `running()`, for Starlette: `Starlette(..., lifespan=endpoint.lifespan)`. It ignores `app`."""
        return self.running()

    async def drain(self) -> None:
        """Close all clients in batches, as at a stop. Refuse new clients. Return when all connections have closed.

        If another ASGI server serves the endpoint, call this before you stop that server, because most servers cut
        connections before they shut the application down. `draining.timeout` bounds the wait. The endpoint keeps
        running, but cannot admit clients again.

        Raises:
            EndpointError: the endpoint is not running.
        """
        services = self._running("cannot drain")
        with in_runtime(services.runtime):
            await Supervisor.terminate_child(self._supervisor, "drainer")

    async def stop_accepting(self, *, grace: float = 1.0) -> None:
        """Accept no more connections. Return when each accepted connection has sent the head of its first request.

        Args:
            grace: the maximum wait for these heads, in seconds.

        Raises:
            EndpointError: the endpoint is not running.

        Connected clients stay connected. The endpoint closes the listening sockets of both ports. Then the system
        resets connections that the endpoint has not accepted, unless another process, such as the parent of workers,
        holds the sockets.
        """
        services = self._running("cannot stop accepting connections")
        admissions = [each.admission for each in (services, self._internal) if each is not None]
        for admission in admissions:
            admission.accepting = False
            if admission.listener is not None:
                admission.listener.close()
        with trio.move_on_after(grace):
            # Checked twice in a row, because a new process takes over its connection one step before it reads the head.
            quiet = 0
            while quiet < 2:
                await trio.sleep(_POLL)
                quiet = quiet + 1 if all(each.is_quiet for each in admissions) else 0

    def _running(self, problem: str) -> Services:
        services = self._services
        if services is None or services.admission.closed:
            raise EndpointError(
                f"this endpoint {problem}, because it is not running; pass lifespan=endpoint.lifespan to the "
                "application that mounts it, or start it with start_link"
            )
        return services

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request, a WebSocket or the lifespan of an ASGI server that runs on Trio.

            app = Starlette(routes=[Mount("/", app=endpoint)], lifespan=endpoint.lifespan)

        Raises:
            EndpointError: the endpoint is not running. An ASGI server starts the application that it serves. If this
                application mounts the endpoint, it must start the endpoint with `lifespan` or `start_link`.
        """
        if scope["type"] == "lifespan":
            await serve_lifespan(self.running(), receive, send)
            return
        services = self._running("cannot serve a request")
        with in_runtime(services.runtime):
            await services.http.route(scope, receive, send)

    def _secret(self, secret: Secret | None, mounted: Mounted) -> Secret:
        """Return the secret for the tokens of polling sessions. It is `secret`, or a new one for this node alone.

        Raises:
            EndpointError: `secret` is None, but other nodes must read the tokens.
        """
        if secret is not None:
            return secret
        if mounted.longpolls and not self.pubsub.is_local:
            raise EndpointError(
                f"this endpoint has long polling and the {self.pubsub.adapter.name} adapter to other nodes, but no "
                "secret_key_base; write Endpoint(secret_key_base=...) with the same secret on every node, so that each "
                "can read the tokens of the others"
            )
        return secrets.token_bytes(64)

    def _checked_mounts(self, *, observer: bool = True) -> dict[str, Mount]:
        """Check the options of this endpoint. Return the mounts of the public port, by path.

        Args:
            observer: False leaves out the socket of the observer, because it is on the internal port.
        """
        self._check_options()
        if self.secret_key_base is not None:
            check_secret(self.secret_key_base)
        mounts = {path: _options(path, value) for path, value in self.sockets.items()}
        if self.observer is not None and observer:
            mounts.update(self.observer.mounts())
        return mounts

    def _mount(
        self, mounts: Mapping[str, Mount], pools: Mapping[type[Socket], ChannelPool]
    ) -> Mounted:
        checks = self.checks_declarations or self._develops()

        def route(socket: type[Socket]) -> Router:
            router = router_of(
                socket, durable=_durable, declarations_of=_declarations_of if checks else None
            )
            for each in router.routes:
                check_endpoint(each.channel, self)
            return router

        try:
            return mount_all(mounts, pools, route)
        except InvalidPath as error:
            raise EndpointError(str(error)) from None

    def _check_options(self) -> None:
        check_positive("Endpoint", "head_timeout", self.head_timeout)
        check_positive("Endpoint", "keep_alive_timeout", self.keep_alive_timeout)
        check_not_negative("Endpoint", "quiet_delay", self.quiet_delay)
        if self.max_connections is not None:
            check_whole("Endpoint", "max_connections", self.max_connections)
        for name in _WHOLE_OPTIONS:
            check_whole("Endpoint", name, getattr(self, name))
        check_rule("Endpoint", self.filter_parameters)
        if self.static is not None:
            from channels.http.static import check_folders  # noqa: PLC0415 # as in _pages

            check_folders(self.static)
        if self.observer is not None:
            if isinstance(self.observer, type) or not hasattr(self.observer, "check_options"):
                raise InvalidOption("Endpoint", "observer", self.observer, "Observer(...), or None")
            self.observer.check_options()
        self._proxies()
        self._check_plugs()
        for option, kind in (("pubsub", PubSub), ("draining", Draining)):
            value = getattr(self, option)
            if not isinstance(value, kind):
                raise InvalidOption("Endpoint", option, value, f"{kind.__name__}(...), or None")
        for option, owner in (("presences", "Presence"), ("histories", "History")):
            _check_services(option, owner, getattr(self, option))
        self._check_children()

    def _check_plugs(self) -> None:
        if self.publish is not None and not isinstance(self.publish, Plug):
            expected = "HttpPublish(token=...), or None"
            raise InvalidOption("Endpoint", "publish", self.publish, expected)
        for plug in self.plugs:
            if not isinstance(plug, Plug):
                raise InvalidOption(
                    "Endpoint", "plugs", plug, "objects of channels.operations: [Health()]"
                )

    def _check_children(self) -> None:
        for child in self.children:
            if isinstance(child, type) and issubclass(child, EndpointChild):
                raise InvalidOption("Endpoint", "children", child, f"[{child.__name__}(...)]")
        # The children that are left out make their specs with the services, when the endpoint starts.
        self._supervisor_of([each for each in self.children if not isinstance(each, EndpointChild)])

    def _services_of_channels(
        self, services: Services, polling: LongPolling | None
    ) -> list[ChildSpec]:
        """Return the children that start before the channels and stop after them.

        Channels need these children until their end, to broadcast and to track presence.
        """
        children = (
            [] if self.pubsub.is_local or self.pubsub.is_running else [self.pubsub.child_spec()]
        )
        if polling is not None and polling.relay is not None:
            # Before the sessions, so that it stops after them. The last answers of sessions pass through the relay.
            children.append(process_spec(polling.relay.main, id="relay"))
        for plug in self.plugs:
            children += plug.children(services)
        for service in (*self.presences, *self.histories):
            children.append(service.child_spec(self.pubsub))
        return children

    def _children(
        self,
        services: Services,
        internal: Services | None,
        plugs: Sequence[Plug],
        pools: Sequence[ChannelPool],
        of_internal_port: Sequence[ChildSpec],
    ) -> list[ChildSpec]:
        connections, sessions = (self, "connections"), (self, "sessions")
        transports = services.transports
        children = [
            ChildSpec("services", _hold_services, (services, internal, plugs), restart="temporary"),
            *self._children_of_application(services),
            *(pool.child_spec() for pool in pools),
            process_spec(transports.flusher.main, id="flusher"),
            *(process_spec(each.main, id=name) for name, each in transports.pollers.items()),
            # Before the application, so that the internal port answers while the application starts and stops.
            *of_internal_port,
            ChildSpec("application", start_application, args=(services.http,), shutdown=10.0),
        ]
        if services.longpolls:
            children.append(_dynamic(sessions, self.max_sessions))
        # A listener of a simulated network needs no file descriptors.
        fitting = connections_that_fit() if self.listen == Listener.open else 100_000
        most = fitting if self.max_connections is None else self.max_connections
        children.append(of_connections(services, _dynamic(connections, most)))
        children.append(
            ChildSpec(
                "drainer",
                DrainerServer.start_link,
                (services, (sessions, connections), self._draining(), self._drained_children()),
                shutdown=self.draining.longest + 5.0,
            )
        )
        return children

    def _children_of_application(self, services: Services) -> list[ChildSpec]:
        """Return the supervisor of the application's children; empty without children."""
        children = [
            child.child_spec(services) if isinstance(child, EndpointChild) else child
            for child in self.children
        ]
        return [self._supervisor_of(children)] if children else []

    def _supervisor_of(self, children: Sequence[Supervised]) -> ChildSpec:
        try:
            return Supervisor.child_spec(
                children,
                id=CHILDREN,
                label=CHILDREN,
                # Restarted after a kill. An end after too many restarts is final, and ends the endpoint.
                restart="transient",
                significant=True,
                strategy=self.children_strategy,
                max_restarts=self.children_max_restarts,
                max_seconds=self.children_max_seconds,
            )
        except InvalidOption as error:
            option = f"children_{error.option}"
            raise InvalidOption("Endpoint", option, error.value, error.expected) from None

    def _drained_children(self) -> tuple[EndpointChild, ...]:
        return tuple(child for child in self.children if isinstance(child, EndpointChild))

    def _draining(self) -> Draining:
        """Return the options of the drain. In development no proxy waits for the notice, so there is none."""
        return structs.replace(self.draining, notice=0.0) if self._develops() else self.draining

    # Running

    @property
    def address(self) -> tuple[str, int]:
        """The host and port of the listener.

        Raises:
            EndpointError: the endpoint is not listening.
        """
        listener = self._services.admission.listener if self._services is not None else None
        if listener is None:
            raise EndpointError("this endpoint is not listening; start it with start_link first")
        return listener.host, listener.port

    @property
    def internal_address(self) -> tuple[str, int] | None:
        """The host and port of the internal listener; None without one."""
        listener = self._internal.admission.listener if self._internal is not None else None
        return None if listener is None else (listener.host, listener.port)

    def broadcast(self, topic: str, event: str, payload: Any) -> None:
        """Send an event to every client that has joined a topic. Any task and any thread can call this.

            endpoint.broadcast("room:lobby", "new_msg", {"body": "hello"})
            endpoint.broadcast(user.socket_id, "disconnect", {})        # closes that user's connections

        Args:
            topic: the topic.
            event: the name of the event.
            payload: a JSON object. Do not change it afterwards.

        Raises:
            EncodeError: the payload is not a JSON object.
            RuntimeClosed: the caller is in another thread, and the runtime of the endpoint has ended.
            ThreadQueueFull: the caller is in another thread, and the queue of the runtime was full for 30 seconds.

        In the endpoint's thread, this never blocks. Another thread, such as the thread of a plain `def` handler of a
        web framework, encodes the frames itself and queues them for the endpoint. While the queue is full, that thread
        waits: see `open_runtime(max_thread_calls=)`. Broadcasts of one thread arrive in order. If the endpoint is not
        running, the call does nothing. Before the first start, it also emits a `UserWarning`.
        """
        if self._services is None and not self.pubsub.has_begun:
            self._warn_of_too_early("broadcast", topic, event)
        self.pubsub.broadcast(topic, Broadcast(topic, event, payload))

    def broadcast_from(self, sender: Pid, topic: str, event: str, payload: Any) -> None:
        """Broadcast to all clients of `topic` except one: the client of the channel process `sender`.

        Otherwise, this method works like `broadcast`.
        """
        self.pubsub.broadcast(topic, Broadcast(topic, event, payload), sender=sender)

    def broadcast_latest(self, topic: str, event: str, payload: Any, *, key: str) -> None:
        """Send a value that may be dropped to every client that has joined a topic. Any task and thread can call this.

            endpoint.broadcast_latest("map", "position", {"bus": 7, "x": x, "y": y}, key="bus 7")

        `Channel.broadcast_latest` describes the values and the key. Otherwise, this method works like `broadcast`.
        """
        if self._services is None and not self.pubsub.has_begun:
            self._warn_of_too_early("broadcast_latest", topic, event)
        self.pubsub.broadcast(topic, Broadcast(topic, event, payload, key))

    def broadcast_latest_from(
        self, sender: Pid, topic: str, event: str, payload: Any, *, key: str
    ) -> None:
        """Broadcast a value as `broadcast_latest` does, except to the client of the channel process `sender`."""
        self.pubsub.broadcast(topic, Broadcast(topic, event, payload, key), sender=sender)

    def _warn_of_too_early(self, verb: str, topic: str, event: str) -> None:
        warnings.warn(
            f"{verb}({topic!r}, {event!r}, ...) reached no one, because {self!r} has not started; broadcast "
            "after start_link, for example in a channel, or in a route of the http= application",
            stacklevel=3,
        )

    def statistics(self) -> dict[str, Any]:
        """Return the statistics of the PubSub, the work budget and the transports, and the counters of events."""
        services = self._services
        return {
            **self.pubsub.statistics(),
            "counts": dict(services.counters.counts) if services is not None else {},
            "work": services.budget.statistics() if services is not None else None,
            **(services.transports.statistics() if services is not None else NO_STATISTICS),
        }


def services_of(endpoint: Endpoint) -> Services:
    """Return the services of a running endpoint, for diagnostic tools.

    Raises:
        EndpointError: the endpoint is not running.
    """
    return endpoint._running("has no services to inspect")


def _check_list(option: str, given: object, example: str) -> None:
    if not isinstance(given, Sequence):
        raise EndpointError(f"Endpoint got {option}={given!r}; write a list: [{example}]")


def _check_services(option: str, owner: str, services: Sequence[Service]) -> None:
    """Raise InvalidOption if a service is not an object of the class `owner`, or if two services share a name."""
    for service in services:
        if isinstance(service, type) or not hasattr(service, "child_spec"):
            raise InvalidOption("Endpoint", option, services, f"[{owner}()]")
    if len({service.name for service in services}) < len(services):
        expected = f"{option} with different names: {owner}(name=...)"
        raise InvalidOption("Endpoint", option, services, expected)


def _dynamic(name: tuple[Any, str], max_children: int) -> ChildSpec:
    return DynamicSupervisor.child_spec(
        id=name[1], name=name, label=name[1], max_children=max_children
    )


def _durable(channel: type[Channel], history: object) -> type[Channel]:
    # Imported here, so that only programs with durable topics load this package.
    from channels.durable.channel import durable_class  # noqa: PLC0415

    return durable_class(channel, history)


def _declarations_of(channel: type[Channel]) -> Declarations | None:
    # Imported here, because a server in production does not check what its channels send.
    from channels.development.declarations import declarations_of  # noqa: PLC0415

    return declarations_of(channel)


def _polling(services: Services) -> LongPolling | None:
    """Return the handler of the requests of polling clients; None if no socket has long polling."""
    if not services.longpolls:
        return None
    # Imported here, because many servers have no polling clients.
    from channels.longpoll.requests import LongPolling  # noqa: PLC0415

    return LongPolling(services)


def _record_frames(recorder: Any) -> None:
    """Record the frames of clients in the trace of a simulated run."""
    # Imported here, so that a production server does not load the modules for recordings.
    from channels.recording.frames import record_frames  # noqa: PLC0415

    record_frames(recorder)


def _connect(
    http: HttpHandover, services: Services, find: Callable[[Any], ASGIApplication | None]
) -> None:
    """Connect the handover to the services. `find` returns the application of a plug or of long polling."""
    http.find = find
    http.websocket = partial(serve_websocket, services)
    http.count = services.count
    if services.proxies is not None:
        http.rewrite = services.proxies.rewritten
    http.no_socket = services.unmatched_path


def _find(
    plugs: Sequence[Plug], services: Services, polling: LongPolling | None, scope: Any
) -> ASGIApplication | None:
    """Return the plug or the long polling that serves an HTTP request; None if the request is for the pages."""
    for plug in plugs:
        found = plug.find(scope, services)
        if found is not None:
            return found
    return None if polling is None else polling.find(scope)


async def _hold_services(
    services: Services, internal: Services | None, plugs: Sequence[Plug]
) -> Pid:
    """Attach the logger and the plugs, and release shared resources when the endpoint's supervisor ends.

    Args:
        services: the services of the endpoint.
        internal: the services of the connections on the internal port; None without one.
        plugs: the plugs of the endpoint.

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
    for plug in plugs:
        on_exit(plug.attach(services))
    services.report_empty_sockets()
    raise StartIgnored


def _options(path: str, value: Any) -> Mount:
    if not isinstance(path, str) or not path.startswith("/"):
        raise EndpointError(
            f'the socket path {path!r} does not begin with a slash; write "/{path}"'
        )
    mount = value if isinstance(value, Mount) else Mount(value)
    if not isinstance(mount.socket, type) or not issubclass(mount.socket, Socket):
        raise EndpointError(
            f"the socket at {path!r} is {mount.socket!r}, which is not a subclass of Socket; write the class itself"
        )
    return mount
