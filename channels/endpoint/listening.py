"""The processes of the listener, of WebSockets of ASGI servers, and of the mounted application."""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import MutableMapping
from functools import partial
from typing import Any

import trio
from attrs import evolve

from actors.errors import CallExit, StartError, StartIgnored
from actors.exits import Crash, ExitReason
from actors.links import wait_exit
from actors.process import on_exit, spawn_link
from actors.refs import Pid
from actors.servers.gen_server import GenServer, Request
from actors.servers.results import Continue, Fail
from channels.connection.connection import Connection
from channels.http.handover import HttpHandover
from channels.http.lifespan import ApplicationStartError
from channels.serving.services import Services
from channels.transports.asgi_stream import AsgiStream, path_of
from channels.transports.listener import ListenError, Listening
from channels.transports.tls import secure
from channels.upgrade.connecting import SERVER_FULL
from channels.upgrade.first_request import answer_first_request, refuse_connection
from supervision.child_spec import ChildSpec
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.errors import MaxChildren, SupervisionError

__all__ = [
    "CONNECTION",
    "ListenerServer",
    "SamePort",
    "of_connections",
    "serve_websocket",
    "start_application",
]

# spawn_link, because the init of a connection cannot fail. The supervisor does not wait for the first request.
CONNECTION = ChildSpec("connection", Connection.spawn_link, restart="temporary")

REFUSALS_TOGETHER = 64
"""The number of refused connections that may wait for their 503 at the same time.

The listener closes further connections without an answer.
"""

# Before the listener ends, it waits this many seconds for processes to take over the accepted connections.
_LONGEST_WAIT = 1.0


class ListenerServer(GenServer[None]):
    """A process that accepts connections, and starts a process for each connection."""

    async def init(
        self,
        services: Services,
        connections: object,
        host: str,
        port: int,
        ssl_context: ssl.SSLContext | None = None,
    ) -> Continue | Fail:
        self.services = services
        self.ssl_context = ssl_context
        if ssl_context is not None:
            ssl_context.set_alpn_protocols(["http/1.1"])
        self.refusals = 0
        # The accepted connections that wait until the supervisor has started the process of an earlier one. Unbounded,
        # because the listener must not block. The system's limit on open files bounds the accepted sockets.
        self.waiting: deque[Any] = deque()
        self.is_starting = False
        self.connections = connections
        before = services.admission.listener
        if port == 0 and before is not None:
            # This is a restart. Clients use the port of the first start.
            port = before.port
        try:
            listener = await self.services.listen(host, port)
        except ListenError as error:
            return Fail(Crash(error))
        on_exit(listener.close)
        self.services.admission.listening(listener)
        return Continue(listener)

    async def handle_continue(self, argument: Any) -> None:
        listener: Listening = argument
        self.services.admission.queued = lambda: len(self.waiting)
        try:
            async with trio.open_nursery() as nursery:
                await listener.main(partial(self._accepted, nursery))
                # The endpoint accepts no more connections. Wait here until the end, for the clean-up below.
                await trio.sleep_forever()
        finally:
            if self.services.admission.draining:
                # Shielded, because this process is ending. `answer_first_request` limits the time for each client.
                with trio.CancelScope(shield=True):
                    async with trio.open_nursery() as nursery:
                        for accepted in self.waiting:
                            nursery.start_soon(self._turn_away, accepted)
                    # The endpoint stops the connections next. A process that has not taken over its connection by then
                    # would end without an answer, and the system would reset the connection.
                    with trio.move_on_after(_LONGEST_WAIT):
                        await self.services.admission.wait_all_served()
            else:
                for accepted in self.waiting:
                    accepted.close()

    async def _turn_away(self, accepted: Any) -> None:
        """Answer 503 to a client that connected too late to get a process."""
        self.services.count(("connection", "not_started"))
        secured = self._secured(accepted)
        if secured is None:
            return
        stream, accepted = secured
        try:
            await answer_first_request(self.services, stream)
        finally:
            accepted.close()

    def _secured(self, accepted: Any) -> tuple[Any, Any] | None:
        """Return the stream for the process of a connection, and the object to close if no process takes it over.

        Without TLS, both are the accepted connection. None means that the client has gone already.
        """
        if self.ssl_context is None:
            return accepted, accepted
        if isinstance(accepted, socket.socket):
            try:
                accepted = secure(accepted, self.ssl_context)
            except OSError:
                accepted.close()
                return None
            return accepted, accepted
        # A stream of a simulated network. HTTP clients neither send close_notify nor wait for it.
        context = self.ssl_context
        return trio.SSLStream(accepted, context, server_side=True, https_compatible=True), accepted

    def _accepted(self, nursery: trio.Nursery, accepted: Any) -> None:
        self.waiting.append(accepted)
        if not self.is_starting:
            self._start_waiting(nursery)

    def _start_waiting(self, nursery: trio.Nursery) -> None:
        """Start processes for the waiting connections, until the supervisor is busy.

        Then the other connections wait here and not in the mailbox of the supervisor, so that they get an answer if the
        endpoint drains, and a process if the supervisor restarts.
        """
        while self.waiting:
            secured = self._secured(self.waiting.popleft())
            if secured is None:
                continue
            stream, accepted = secured
            self.services.admission.hand_over(stream, accepted)
            try:
                request = DynamicSupervisor.request_start(
                    self.connections, CONNECTION, self.services, stream
                )
            except CallExit as error:
                self._not_started(stream, accepted, nursery, error)
                continue
            if not request.done:
                self.is_starting = True
                nursery.start_soon(self._wait_for_start, stream, accepted, nursery, request)
                return
            self._started(stream, accepted, nursery, request.result())

    async def _wait_for_start(
        self, stream: Any, accepted: Any, nursery: trio.Nursery, request: Request
    ) -> None:
        # If this process ends meanwhile, the supervisor still starts the process of the connection.
        try:
            started = await request.wait_result()
        except CallExit as error:
            started = error
        self._started(stream, accepted, nursery, started)
        self.is_starting = False
        self._start_waiting(nursery)

    def _started(
        self, stream: Any, accepted: Any, nursery: trio.Nursery, started: Pid | Exception
    ) -> None:
        if isinstance(started, Exception):
            self._not_started(stream, accepted, nursery, started)

    def _not_started(
        self, stream: Any, accepted: Any, nursery: trio.Nursery, error: Exception
    ) -> None:
        # The supervisor is full or restarting, so the client must reconnect later. This is no error, because it can
        # happen for very many clients.
        self.services.count(("connection", "not_started"))
        if isinstance(error, MaxChildren):
            self.services.refused(f"max_{self.services.connections}", 503)
        self.services.admission.take_over(stream)
        if self.refusals < REFUSALS_TOGETHER:
            # Count here and not in `_refuse`. The listener may refuse many connections before the task of `_refuse`
            # starts.
            self.refusals += 1
            nursery.start_soon(self._refuse, stream, accepted)
        else:
            accepted.close()

    async def _refuse(self, stream: Any, accepted: Any) -> None:
        try:
            await refuse_connection(stream)
        finally:
            self.refusals -= 1
            accepted.close()


async def serve_websocket(
    services: Services, scope: MutableMapping[str, Any], receive: Any, send: Any
) -> None:
    """Start a process for the WebSocket of an ASGI server. Return when the process has ended."""
    stream = AsgiStream(scope, receive, send, path=path_of(scope))
    try:
        if not await stream.connected():
            return
        try:
            pid = await DynamicSupervisor.start_child(
                (services.endpoint, services.connections), CONNECTION, services, stream
            )
        except (StartError, StartIgnored, SupervisionError, CallExit) as error:
            # The supervisor is full or restarting, as in `ListenerServer._start`.
            services.count(("connection", "not_started"))
            if isinstance(error, MaxChildren):
                services.refused(f"max_{services.connections}", SERVER_FULL.status)
            await stream.refuse(SERVER_FULL.status, b"", SERVER_FULL.headers)
            return
        # Wait for the process, because a process that is killed before its first step does not close the stream.
        await wait_exit(pid)
    except trio.BrokenResourceError:
        # The ASGI server closed the WebSocket first.
        pass
    finally:
        stream.end()


class SamePort:
    """A start function that restarts an endpoint on the ports of its first start.

    With port 0 the system chooses the port, and clients keep using it after a restart.
    """

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint
        self._port = 0
        self._internal_port = 0

    async def __call__(self, *, port: int | None, internal_port: int | None, **options: Any) -> Pid:
        """Start the endpoint. A restart with port 0 takes the earlier port."""
        pid: Pid = await self._endpoint.start_link(
            port=self._port if port == 0 else port,
            internal_port=self._internal_port if internal_port == 0 else internal_port,
            **options,
        )
        if port == 0:
            self._port = self._endpoint.address[1]
        if internal_port == 0:
            self._internal_port = self._endpoint.internal_address[1]
        return pid


async def start_application(handover: HttpHandover) -> Pid:
    """Start the process of the mounted application's lifespan. Return when the application has started."""
    ready = trio.Event()
    refusal: list[ApplicationStartError] = []
    failure: list[ExitReason] = []

    async def run() -> None:
        try:
            await handover.main(ready.set)
        except ApplicationStartError as error:
            # Caught, so that the endpoint's start fails with this error, which says more than a crash report.
            refusal.append(error)

    pid = spawn_link(run, label="application")
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            failure.append(await wait_exit(pid))
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await ready.wait()
        nursery.cancel_scope.cancel()
    if failure:
        raise StartError(Crash(refusal[0]) if refusal else failure[0])
    return pid


def of_connections(services: Services, spec: ChildSpec) -> ChildSpec:
    """Return the spec with a new start function, which first closes connections that no process took over.

    The supervisor of connections may crash before the process of an accepted connection takes it over.
    """

    def start(*args: Any, **kwargs: Any) -> Any:
        services.admission.abandon()
        return spec.start(*args, **kwargs)

    return evolve(spec, start=start)
