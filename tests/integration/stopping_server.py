"""A server that stops while it has clients. It has a socket, and pages that wait for their clients.

Start it with `python -m tests.integration.stopping_server`. `DRAIN_SECONDS` is the duration of the drain.
"""

import os
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from channels import Channel, Draining, Endpoint, Socket
from channels.cli.serve import run_endpoint


class UserSocket(Socket):
    channels = {"room:*": Channel}


async def page(request: Request) -> Response:
    """Answer when the whole body has arrived."""
    return PlainTextResponse(f"{len(await request.body())} bytes")


async def streamed(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    return StreamingResponse(pieces())


class Echo:
    """Send each piece of the body back immediately. So the client decides how long the answer takes."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            more = message.get("more_body", False)
            await send(
                {"type": "http.response.body", "body": message.get("body", b""), "more_body": more}
            )


endpoint = Endpoint(
    sockets={"/socket": UserSocket},
    http=Starlette(
        routes=[
            Route("/page", page, methods=["GET", "POST"]),
            Route("/streamed", streamed),
            Route("/echo", Echo(), methods=["POST"]),
        ]
    ),
    draining=Draining(
        batch_size=40, batch_interval=0.1, timeout=float(os.environ.get("DRAIN_SECONDS", "30"))
    ),
    # On a busy machine, minutes may pass until hundreds of clients have connected.
    head_timeout=300.0,
)

if __name__ == "__main__":
    run_endpoint(endpoint, default_port=0, default_log_level="warning")
