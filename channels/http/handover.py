"""The handover of connections to Hypercorn.

Hypercorn serves pages, long polling and a mounted ASGI application, over HTTP/1.1. The endpoint reads the first request
of a connection. If the request is not for the endpoint itself, the endpoint hands over the connection with the bytes
that it has read:

    handover = HttpHandover(app, is_socket_path=mounts.__contains__)
    spawn_link(handover.main, ready)            # runs the application's lifespan, then calls ready()
    ...
    head = await handover.serve(stream, head.received)  # in the connection's process
    ...
    await handover.drain()                      # close idle connections now, others after their current response

Hypercorn keeps the connection until it ends. Proxies reuse connections, so a later request on the same connection may
be for a socket. Then Hypercorn answers the earlier requests, and `serve` returns the head of this request. The endpoint
serves it like the first request of a connection.

`channels.http.hypercorn_server` contains the changes to Hypercorn.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import h11
import trio

from channels.http.hypercorn_server import HypercornServer, ReplayStream, ServedApplication
from channels.http.lifespan import Lifespan
from channels.protocol.work_budget import WorkBudget
from channels.transports.asgi_stream import ASGIApplication, in_origin_form, path_of
from channels.transports.tls import TlsSocket, TlsSocketStream
from channels.transports.transports import ByteStream
from channels.wire import handshake
from channels.wire.request import Head

__all__ = ["DEFAULT_KEEP_ALIVE_TIMEOUT", "HttpHandover", "not_found"]

DEFAULT_KEEP_ALIVE_TIMEOUT = 5.0
"""Seconds that a connection may stay open without a request."""


async def not_found(scope: Any, receive: Any, send: Any) -> None:
    """Answer 404 to every request. This is the application of an endpoint without `http=`.

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
        "this connection serves HTTP; open a new connection, with HTTP/1.1, for this WebSocket",
        kind="websocket.http.response",
    )


def _unless_broken_off(send: Any) -> Any:
    """Return a `send` function that drops the response if the rest of the request is malformed.

    In this case, Hypercorn has already answered the client itself, and h11 refuses a second response.
    """

    async def send_if_wanted(message: Any) -> None:
        try:
            await send(message)
        except h11.LocalProtocolError:
            pass

    return send_if_wanted


def _noting_refusal(send: Any, note: Callable[[], object]) -> Any:
    """Return a `send` function that calls `note` if the application refuses a WebSocket because of its path."""

    async def send_and_note(message: Any) -> None:
        # Frameworks refuse a path without a route with a close before the accept.
        nonlocal note
        kind = message["type"]
        if kind == "websocket.accept":
            note = _nothing_at_all
        elif kind == "websocket.close" or message.get("status") == 404:
            note()
            note = _nothing_at_all
        await send(message)

    return send_and_note


def _nothing_at_all() -> None:
    return None


def _no_path(_: str) -> bool:
    return False


def _nothing(_: Any) -> None:
    return None


def _as_it_is(scope: Any) -> Any:
    return scope


class HttpHandover:
    """Serve connections with Hypercorn, and run the lifespan of the application.

        >>> handover = HttpHandover()
        >>> async def example(stream: ByteStream, read_before: bytes) -> None:
        ...     await handover.serve(stream, read_before)

    Args:
        app: an ASGI application; None answers 404.
        is_socket_path: a function that returns True for the path of a native WebSocket. It takes the path below the
            mount point of the endpoint, still percent-encoded.
        keep_alive_timeout: seconds that a connection may stay open without a request.
        budget: the limit on the work of all connections in one turn of the scheduler; None makes one for this object.

    Attributes:
        find: may be set. A function that takes the scope of an HTTP request. It returns another application for the
            request, such as long polling, or None.
        websocket: may be set. An application for WebSockets on the paths of sockets. By default such a request gets
            421, which asks the client for a new connection.
        count: may be set. A function that counts refused requests (`("http", "bad_request")`) and connections that
            Hypercorn cannot read (`("http", "unreadable")`).
        rewrite: may be set. A function that takes the scope of a request, and returns the scope behind trusted proxies.
        no_socket: may be set. A function that gets the path of a WebSocket if no socket is there and the application
            refused it.
    """

    def __init__(
        self,
        app: ASGIApplication | None = None,
        *,
        is_socket_path: Callable[[str], bool] = _no_path,
        keep_alive_timeout: float = DEFAULT_KEEP_ALIVE_TIMEOUT,
        budget: WorkBudget | None = None,
    ) -> None:
        self._app = not_found if app is None else app
        self._is_socket_path = is_socket_path
        self._served = ServedApplication(self.route, keep_alive_timeout=keep_alive_timeout)
        self._budget = WorkBudget() if budget is None else budget
        self._connections = 0
        self.find: Callable[[Any], ASGIApplication | None] = _nothing
        self.websocket: ASGIApplication = _elsewhere
        self.count: Callable[[tuple[str, ...]], object] = _nothing
        self.rewrite: Callable[[Any], Any] = _as_it_is
        self.no_socket: Callable[[str], object] = _nothing

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return self._connections

    async def route(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request from Hypercorn, or from the ASGI server of the application that mounts the endpoint.

        >>> async def example(handover: HttpHandover, scope: Any, receive: Any, send: Any) -> None:
        ...     await handover.route(scope, receive, send)
        """
        kind = scope["type"]
        scope = self.rewrite(in_origin_form(scope))
        send = _unless_broken_off(send)
        found = self.find(scope) if kind == "http" else None
        if found is not None:
            await found(scope, receive, send)
        elif not self._is_socket_path(path_of(scope)):
            if kind == "websocket":
                send = _noting_refusal(send, partial(self.no_socket, path_of(scope)))
            await self._app(scope, receive, send)
        elif kind == "websocket":
            await self.websocket(scope, receive, send)
        elif scope["method"] == "GET":
            await _answer(send, 400, "this path serves a WebSocket; send an upgrade request")
        else:
            await _answer(send, 400, "")

    def is_for_endpoint(self, head: Head) -> bool:
        """Return True for a request that the endpoint answers itself: for a socket, or for any WebSocket."""
        return self._is_socket_path(head.path) or handshake.asks_for_websocket(head)

    async def serve(self, stream: ByteStream, first: bytes = b"") -> Head | None:
        """Serve one connection until it ends, then close it; or until a request arrives that `is_for_endpoint`.

        A malformed request gets an answer or ends the connection. Errors of Hypercorn itself pass through. To close the
        connection immediately, cancel this call.

        Args:
            stream: a connected, non-blocking socket or a Trio stream. This method closes it, unless it returns a head.
            first: the bytes that the caller has read from the stream.

        Returns:
            The head of a request for the endpoint, after the applications of all earlier requests have ended. None if
            the connection has ended.
        """
        if isinstance(stream, TlsSocket):
            stream = TlsSocketStream(stream)
        elif isinstance(stream, socket.socket):
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(stream))
        server = HypercornServer(
            self._served,
            ReplayStream(stream, first),
            has_request=bool(first),
            budget=self._budget,
            count=self.count,
            is_for_endpoint=self.is_for_endpoint,
        )
        self._connections += 1
        head = None
        try:
            head = await server.serve()
        except* h11.LocalProtocolError:
            # Hypercorn raises this error for a request that breaks off during the response. The mistake of the client
            # ends this connection. Exceptions of an application do not arrive here.
            pass
        finally:
            self._connections -= 1
        return head

    async def drain(self) -> None:
        """Close idle connections now, and all other connections after their current response.

        This does not wait for the connections. When all have closed, `connections` is 0. You cannot undo a drain.
        """
        await self._served.drain()

    async def main(self, ready: Callable[[], object]) -> None:
        """Run the application's lifespan: start the application, call `ready`, and shut it down on cancellation.

        You may run `main` again after it has ended. The shutdown takes at most Hypercorn's `shutdown_timeout` seconds.

        Args:
            ready: a function that must not block. `main` calls it when the application has started, or when it has no
                lifespan. Serve connections only after that.

        Raises:
            ApplicationStartError: the application did not start.
        """
        lifespan = Lifespan(
            self._app,
            self._served.state,
            startup_timeout=self._served.config.startup_timeout,
            shutdown_timeout=self._served.config.shutdown_timeout,
        )
        await lifespan.main(ready)
