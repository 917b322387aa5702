"""The application: a page, a route that sends an announcement to all clients, and the sockets below `/live`.

Clients connect to `/live/socket`, as `new Socket("/live/socket")` does.
"""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Mount, Route

from channels import Channel, Endpoint, PushReply, Socket, handle_in

PAGE = """<!doctype html>
<title>News</title>
<h1>News</h1>
<p>Sockets are at <code>/live/socket</code>. Announce something to all of them:</p>
<form method="post" action="/announce"><input name="text" value="hello"> <button>Announce</button></form>
"""


class NewsChannel(Channel):
    """A channel whose clients get all announcements."""

    @handle_in("echo")
    async def echo(self, payload: Any) -> PushReply:
        return PushReply(payload)

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        raise RuntimeError("a client asked for this")


class NewsSocket(Socket):
    """A socket that accepts every client."""

    channels = {"news": NewsChannel}


endpoint = Endpoint(sockets={"/socket": NewsSocket})


async def index(request: Request) -> HTMLResponse:
    """Return the page."""
    return HTMLResponse(PAGE)


async def announce(request: Request) -> JSONResponse:
    """Send an announcement to all joined clients, from a Starlette handler outside any process."""
    text = (await request.body()).decode(errors="replace")[:200]
    endpoint.broadcast("news", "announced", {"text": text})
    return JSONResponse({"announced": text})


def announce_slowly(request: Request) -> JSONResponse:
    """Send an announcement from a plain `def`. Starlette runs it in a thread, so that it may block."""
    text = request.query_params.get("text", "")[:200]
    endpoint.broadcast("news", "announced", {"text": text})
    return JSONResponse({"announced": text})


app = Starlette(
    routes=[
        Route("/", index),
        Route("/announce", announce, methods=["POST"]),
        Route("/announce-slowly", announce_slowly, methods=["POST"]),
        Mount("/live", app=endpoint),
    ],
    lifespan=endpoint.lifespan,
)
