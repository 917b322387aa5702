"""An endpoint as an ASGI application: lifespan, requests and WebSockets of a server that is not ours.

What it does with them is what it does with those on its own port: this finds the way in.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import trio

from actors.errors import CallExit, StartError, StartIgnored
from actors.links import wait_exit
from actors.runtime import in_runtime
from channels.endpoint._listening import CONNECTION
from channels.http.asgi_stream import AsgiStream, path_of
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.errors import SupervisionError

if TYPE_CHECKING:
    from channels.endpoint._wiring import Services
    from channels.endpoint.endpoint import Endpoint

__all__ = ["serve_lifespan", "serve_scope", "serve_websocket"]


async def serve_lifespan(endpoint: Endpoint, receive: Any, send: Any) -> None:
    """Run the endpoint for as long as the server runs; for an endpoint that is the application itself."""
    await receive()
    phase = "startup"
    try:
        async with endpoint.running():
            await send({"type": "lifespan.startup.complete"})
            phase = "shutdown"
            await receive()
    except Exception as error:  # told to the server, which says it to whoever started it
        await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
        return
    await send({"type": "lifespan.shutdown.complete"})


async def serve_scope(
    services: Services, scope: MutableMapping[str, Any], receive: Any, send: Any
) -> None:
    """Serve one request or WebSocket, until it is over."""
    with in_runtime(services.runtime):
        await services.http.route(scope, receive, send)


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
