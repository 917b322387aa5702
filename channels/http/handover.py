"""Everything on the port that is not a WebSocket of ours: handed over to Hypercorn.

Pages, long polling, HTTP/2 and an ASGI application that is mounted are Hypercorn's business. Its
server for one connection takes a stream, so the endpoint reads the first request, and if that is
not for one of its sockets, it hands over the connection with the bytes that it has read:

    handover = HttpHandover(app, is_socket_path=mounts.__contains__)
    spawn_link(handover.main, ready)            # runs the application's lifespan; then ready()
    ...
    await handover.serve(stream, head.received)   # in the connection's process, until it is over
    ...
    await handover.drain()                      # idle connections close, busy ones after this answer

A connection stays with Hypercorn once it is there. A request for a WebSocket of ours that comes
later on the same connection (from a proxy that keeps its connections, or from a browser over
HTTP/2) goes to `websocket`, which serves it by way of ASGI. A request of any other kind for such a
path is answered 400, as on a connection of its own, except that the application's `connect` is not
asked.

`channels.http.hypercorn_server` has what is changed about Hypercorn.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

from channels.http.asgi_stream import in_origin_form, path_of
from channels.http.hypercorn_server import HypercornServer, ReplayStream, TLSReplayStream
from channels.http.lifespan import ASGIApplication, Lifespan
from channels.transports.transports import ByteStream

__all__ = ["HttpHandover", "default_config", "not_found"]

_logger = logging.getLogger("channels.http")
_SHUTDOWN_TIMEOUT = 5.0


def default_config() -> Config:
    """Make the settings that Hypercorn is run with unless others are given.

        >>> default_config().keep_alive_timeout
        5

    They are Hypercorn's own, but for its log, which goes to the logger `channels.http`, the time
    for an application to shut down (5 seconds), and no header that names the software.
    """
    config = Config()
    config.errorlog = _logger
    config.include_server_header = False
    config.shutdown_timeout = _SHUTDOWN_TIMEOUT
    return config


async def not_found(scope: Any, receive: Any, send: Any) -> None:
    """Answer 404 to everything: the application of an endpoint that has none.

    >>> handover = HttpHandover(not_found)
    """
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await _answer(send, 404, "not found", kind="websocket.http.response")
    else:
        await _answer(send, 404, "not found")


async def _answer(send: Any, status: int, text: str, *, kind: str = "http.response") -> None:
    headers = [(b"content-length", b"%d" % len(text))]
    if text:
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": text.encode()})


async def _elsewhere(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await _answer(
        send,
        421,
        "this connection is in use for HTTP: open a connection of its own, with HTTP/1.1, for this WebSocket",
        kind="websocket.http.response",
    )


def _unless_broken_off(send: Any) -> Any:
    """The same `send`, which drops an answer to a client whose request turned out to be none while it was handled.

    Hypercorn has answered that client by then, and closes the connection; h11 refuses a second answer.
    """

    async def send_if_wanted(message: Any) -> None:
        try:
            await send(message)
        except h11.LocalProtocolError:
            pass

    return send_if_wanted


def _no_path(_: str) -> bool:
    return False


def _nothing(_: Any) -> None:
    return None


class HttpHandover:
    """Serves connections with Hypercorn, and runs the lifespan of the application behind it.

        >>> handover = HttpHandover()
        >>> async def example(stream: ByteStream, read_before: bytes) -> None:
        ...     await handover.serve(stream, read_before)

    - `app`: an ASGI application; answers 404 if there is none;
    - `config`: Hypercorn's settings. Those about binding, workers and TLS have no effect here;
    - `is_socket_path`: tells the paths that native WebSockets are mounted on; it gets them as they were sent, below
      the place where the endpoint is mounted.

    Attributes, which may be set: `find` gets the scope of each request (not of WebSockets), and answers what serves it
    in place of the application, such as long polling, or None; `websocket` serves WebSockets on the paths of sockets,
    which are answered 421 without it: ask again on a connection of your own; `count` counts requests that are refused
    (`("http", "bad_request")`) and connections that Hypercorn cannot read (`("http", "unreadable")`).
    """

    def __init__(
        self,
        app: ASGIApplication | None = None,
        config: Config | None = None,
        *,
        is_socket_path: Callable[[str], bool] = _no_path,
    ) -> None:
        self._app = not_found if app is None else app
        self._is_socket_path = is_socket_path
        self._config = default_config() if config is None else config
        self._wrapper = ASGIWrapper(self.route)
        self._context = WorkerContext(None)
        self._state: LifespanState = {}
        self._connections = 0
        self.find: Callable[[Any], ASGIApplication | None] = _nothing
        self.websocket: ASGIApplication = _elsewhere
        self.count: Callable[[tuple[str, ...]], object] = _nothing

    @property
    def connections(self) -> int:
        """How many connections are being served."""
        return self._connections

    async def route(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request of Hypercorn's, or of the server that the endpoint is mounted in.

        >>> async def example(handover: HttpHandover, scope: Any, receive: Any, send: Any) -> None:
        ...     await handover.route(scope, receive, send)
        """
        kind = scope["type"]
        scope = in_origin_form(scope)
        send = _unless_broken_off(send)
        found = self.find(scope) if kind == "http" else None
        if found is not None:
            await found(scope, receive, send)
        elif not self._is_socket_path(path_of(scope)):
            await self._app(scope, receive, send)
        elif kind == "websocket":
            await self.websocket(scope, receive, send)
        elif scope["method"] == "GET":
            await _answer(send, 400, "this path is a WebSocket: ask for an upgrade")
        else:
            await _answer(send, 400, "")

    async def serve(self, stream: ByteStream, first: bytes = b"") -> None:
        """Serve one connection until it is over; always closes it.

        - `stream`: a connected, non-blocking socket or a Trio stream; becomes this method's;
        - `first`: what was read from it before.

        What a client sends wrong is answered or ends the connection. Raises what Hypercorn itself
        fails with. Cancelling it closes the connection at once.
        """
        if isinstance(stream, socket.socket):
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(stream))
        replayed = (
            TLSReplayStream(stream, first)
            if isinstance(stream, trio.SSLStream)
            else ReplayStream(stream, first)
        )
        server = HypercornServer(
            self._wrapper,
            self._config,
            self._context,
            ConnectionState(self._state.copy()),
            replayed,
            begins_with_http2=first.startswith(b"PRI "),
            count=self.count,
        )
        self._connections += 1
        try:
            await server.serve()
        except* (h11.LocalProtocolError, KeyError):
            # What clients do wrong and Hypercorn trips over: a request that breaks off while it is answered, and data
            # for a stream of HTTP/2 that was answered already. It ends this connection, and is nobody's mistake here:
            # what an application raises does not come this way.
            pass
        finally:
            self._connections -= 1

    async def drain(self) -> None:
        """Close idle connections, and all others after the answer that they are at.

        Returns at once; `connections` tells when all are gone. Not undone by anything.
        """
        await self._context.terminated.set()

    async def main(self, ready: Callable[[], object]) -> None:
        """Run the application's lifespan: start it, call `ready`, and on cancellation shut it down.

        - `ready`: called when the application has started, or has no lifespan; only then may
          connections be served. Must not block.

        Shutting down takes at most `shutdown_timeout` of the settings. Raises
        `ApplicationStartError`. May be run again after it has ended.
        """
        lifespan = Lifespan(
            self._app,
            self._state,
            startup_timeout=self._config.startup_timeout,
            shutdown_timeout=self._config.shutdown_timeout,
        )
        await lifespan.main(ready)
