"""A server with its own TLS and HTTP/2, a socket, and slow pages.

Start it with `python -m tests.integration.http2_server --port 4443`. `CERTIFICATE` is the path of its certificate and
key. The server closes a connection without a request after `KEEP_ALIVE` seconds. `/slow` takes three times as long.
"""

import argparse
import os
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from channels import Channel, ConnectInfo, Endpoint, PushReply, Socket, handle_in
from channels.cli.program import tls_context
from channels.cli.serve import serve_endpoint

# A busy machine needs some time between the handshake of a client and its request.
KEEP_ALIVE = 1.0


class Room(Channel):
    @handle_in("echo")
    async def echo(self, payload: Any) -> PushReply:
        return PushReply(payload)


class UserSocket(Socket):
    channels = {"room:*": Room}
    # The values of the header `upgrade`, which HTTP/2 does not have.
    upgrades: list[str | None] = []

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        self.upgrades.append(connect_info.header("upgrade"))


async def slow(request: Request) -> Response:
    await trio.sleep(3 * KEEP_ALIVE)
    return HTMLResponse(f"<p>HTTP/{request.scope['http_version']}</p>")


async def upgrades(request: Request) -> Response:
    return PlainTextResponse(str(UserSocket.upgrades))


endpoint = Endpoint(
    sockets={"/socket": UserSocket},
    http=Starlette(routes=[Route("/slow", slow), Route("/upgrades", upgrades)]),
    http2=True,
    keep_alive_timeout=KEEP_ALIVE,
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    certificate = os.environ["CERTIFICATE"]
    serve_endpoint(
        endpoint,
        port=parser.parse_args().port,
        ssl_context=tls_context(certificate, certificate),
        on_started=lambda url: print(f"Serving on {url}", flush=True),
    )
