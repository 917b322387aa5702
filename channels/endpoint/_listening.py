"""The processes of an endpoint that are neither connections nor channels: the listener and the mounted application."""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import MutableMapping
from typing import Any

import trio

from actors.errors import CallExit, StartError, StartIgnored
from actors.exits import Crash, ExitReason
from actors.links import wait_exit
from actors.process import on_exit, spawn_link
from actors.refs import Pid
from actors.servers.gen_server import GenServer
from actors.servers.results import Continue, Fail
from channels.connection.connection import Connection
from channels.endpoint._wiring import Services
from channels.http.asgi_stream import AsgiStream, path_of
from channels.http.handover import HttpHandover
from channels.http.lifespan import ApplicationStartError
from channels.transports.listener import ListenError, Listening
from channels.upgrade.first_request import answer_first_request
from supervision.child_spec import ChildSpec
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.errors import SupervisionError

__all__ = ["CONNECTION", "ListenerServer", "SamePort", "serve_websocket", "start_application"]

# Not start_link: the init of a connection cannot fail, and reading its first request comes after it.
CONNECTION = ChildSpec("connection", Connection.spawn_link, restart="temporary")


class ListenerServer(GenServer[None]):
    """Accepts connections and has each started as a process, under the supervisor of connections."""

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
        self.connections = connections
        before = services.admission.listener
        if port == 0 and before is not None:
            # Restarted: clients know the port that was chosen the first time.
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
        # Without a bound, because who puts must not block: what waits here are accepted sockets, of which the system
        # gives out no more than it has files.
        put, take = trio.open_memory_channel[Any](math.inf)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listener.main, put.send_nowait)
                async for sock in take:
                    await self._start(sock)
        finally:
            # Accepted, but nobody will serve them any more.
            put.close()
            left = [take.receive_nowait() for _ in range(take.statistics().current_buffer_used)]
            if self.services.admission.draining:
                # Shielded, because it is the end of this process that turns them away. Each has a few seconds.
                with trio.CancelScope(shield=True):
                    async with trio.open_nursery() as nursery:
                        for sock in left:
                            nursery.start_soon(self._turn_away, sock)
            else:
                for sock in left:
                    sock.close()

    async def _turn_away(self, carrier: Any) -> None:
        """Answer 503 to a client that came too late for a process of its own."""
        self.services.count(("connection", "not_started"))
        try:
            await answer_first_request(self.services, self._carried(carrier))
        finally:
            carrier.close()

    def _carried(self, carrier: Any) -> Any:
        return carrier if self.ssl_context is None else _secured(carrier, self.ssl_context)

    async def _start(self, carrier: Any) -> None:
        stream = self._carried(carrier)
        self.services.admission.hand_over(stream, carrier)
        try:
            await DynamicSupervisor.start_child(self.connections, CONNECTION, self.services, stream)
        except (StartError, StartIgnored, SupervisionError, CallExit):
            # Full, or restarting: this client has to come back later. It is counted, not logged, since there may
            # be very many of them.
            self.services.count(("connection", "not_started"))
            self.services.admission.take_over(stream)
            carrier.close()


async def serve_websocket(
    services: Services, scope: MutableMapping[str, Any], receive: Any, send: Any
) -> None:
    """Have a process serve a WebSocket, and stay for as long as it does."""
    stream = AsgiStream(scope, receive, send, path=path_of(scope))
    try:
        if not await stream.connected():
            return
        try:
            pid = await DynamicSupervisor.start_child(
                (services.endpoint, "connections"), CONNECTION, services, stream
            )
        except (StartError, StartIgnored, SupervisionError, CallExit):
            # Full, or restarting, as for connections of its own port.
            services.count(("connection", "not_started"))
            await stream.refuse(503, b"", (("retry-after", "1"),))
            return
        # Not for the stream to be closed: a process that is killed before its first step closes nothing.
        await wait_exit(pid)
    except trio.BrokenResourceError:
        # The server had no use for the answer.
        pass
    finally:
        stream.end()


class SamePort:
    """Starts an endpoint for a supervisor, each time on the port that it had the first time.

    Port 0 is any free one. Clients, and whoever printed the address, know the one that was found.
    """

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint
        self._port = 0

    async def __call__(self, *, port: int | None, **options: Any) -> Pid:
        """Start the endpoint. Raises what its `start_link` raises."""
        pid: Pid = await self._endpoint.start_link(
            port=self._port if port == 0 else port, **options
        )
        if port == 0:
            self._port = self._endpoint.address[1]
        return pid


def _secured(carrier: Any, context: ssl.SSLContext) -> trio.SSLStream[Any]:
    """Put TLS around what was accepted. Hands are shaken when the first request is read, within its time limit."""
    if isinstance(carrier, socket.socket):
        carrier = trio.SocketStream(trio.socket.from_stdlib_socket(carrier))
    # HTTP clients do not say goodbye, and do not wait for one.
    return trio.SSLStream(carrier, context, server_side=True, https_compatible=True)


async def start_application(handover: HttpHandover) -> Pid:
    """Start the process in which the mounted application's lifespan runs; returns when it has started."""
    ready = trio.Event()
    refusal: list[ApplicationStartError] = []
    failure: list[ExitReason] = []

    async def run() -> None:
        try:
            await handover.main(ready.set)
        except ApplicationStartError as error:
            # Not a crash: whoever starts the endpoint is told, and a crash report would say the same less clearly.
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
