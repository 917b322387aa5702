"""A WebSocket of an ASGI server as a Trio stream.

An endpoint that another application mounts gets `receive`, `send` and whole messages, not a socket and bytes. An
`AsgiStream` encodes each received message as a WebSocket frame, and decodes each frame that it sends. So the code for
native WebSockets also serves this stream, with the same limits, close codes and out-buffers. Native and ASGI clients
share the encoded frames of a broadcast.

    stream = AsgiStream(scope, receive, send, path="/socket/websocket")
    ...             # the process of the connection calls accept or refuse
    stream.end()    # after that process has ended; then the application may return

Any exception from the ASGI server ends the connection, because each server raises different exceptions. The server
handles compression, pings and fragments. Source: the ASGI specification 3.0, WebSocket 2.3 and 2.4.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

import trio

from channels.connect_info import PeerData
from channels.wire.request import Head, Headers, split_absolute
from channels.wire.websocket import may_be_received

__all__ = [
    "ASGIApplication",
    "AsgiStream",
    "client_frame",
    "in_origin_form",
    "path_of",
    "split_frames",
]

ASGIApplication: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application: `await application(scope, receive, send)`."""

_TEXT, _BINARY, _CLOSE = 0x81, 0x82, 0x88
_NO_MASK = bytes(4)
_NO_CODE = 1005
_RESPONSE = "websocket.http.response"


def path_of(scope: MutableMapping[str, Any]) -> str:
    """Return the path of a request below the mount point of the application, still percent-encoded.

    >>> path_of({"path": "/live/socket/websocket", "root_path": "/live"})
    '/socket/websocket'
    """
    raw = scope.get("raw_path")
    # Some servers include the query in `raw_path`.
    path = raw.decode("latin-1").partition("?")[0] if raw else quote(scope["path"])
    root = quote(scope.get("root_path", "").rstrip("/"))
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path or "/"


def in_origin_form(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return a scope whose request target is a path. If the target is a whole URL, split it into host and path.

        >>> scope = {"path": "http://a/b", "raw_path": b"http://a/b", "headers": [(b"host", b"c")]}
        >>> in_origin_form(scope)
        {'path': '/b', 'raw_path': b'/b', 'headers': [(b'host', b'a')]}

    Clients send whole URLs to proxies, and every server must accept such targets. Some ASGI servers pass them on
    unchanged. Source: RFC 9112, section 3.2.2.
    """
    raw = scope.get("raw_path") or b""
    absolute = None if raw.startswith(b"/") else split_absolute(raw.decode("latin-1"))
    if absolute is None:
        return scope
    host, rest = absolute[0].encode("latin-1"), absolute[1] or "/"
    return {
        **scope,
        "path": unquote(rest.partition("?")[0]) or "/",
        "raw_path": rest.encode("latin-1"),
        "headers": [(name, host if name == b"host" else value) for name, value in scope["headers"]],
    }


def client_frame(first: int, payload: bytes) -> bytes:
    """Return the frame in which a client would send a message, masked with zeros."""
    size = len(payload)
    if size < 126:
        header = bytes((first, 0x80 | size))
    elif size < 65536:
        header = bytes((first, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        header = bytes((first, 0x80 | 127)) + size.to_bytes(8, "big")
    return b"".join((header, _NO_MASK, payload))


def split_frames(data: bytes | bytearray | memoryview) -> Iterator[tuple[int, bytes]]:
    """Yield the first byte and the payload of each frame in `data`, which contains whole frames of the server."""
    view = memoryview(data)
    start = 0
    while start < len(view):
        size, body = view[start + 1], start + 2
        if size >= 126:
            body += 2 if size == 126 else 8
            size = int.from_bytes(view[start + 2 : body], "big")
        yield view[start], bytes(view[body : body + size])
        start = body + size


class AsgiStream(trio.abc.Stream):
    """A WebSocket of an ASGI server as a Trio stream.

    Args:
        scope: the scope of the request, of type `websocket`.
        receive: the `receive` of the ASGI application.
        send: the `send` of the ASGI application.
        path: the path of the request, below the mount point of the endpoint.

    Attributes:
        head: the request.
        scheme: `http` or `https`.
        peer: the address of the client, or None.
        closed: True when reads and writes are no longer possible.
    """

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        *,
        path: str,
    ) -> None:
        self.head = _head_of(scope, path)
        self.scheme = "https" if scope.get("scheme") == "wss" else "http"
        client = scope.get("client")
        self.peer = PeerData(address=client[0], port=client[1] or 0) if client else None
        self.closed = False
        self._ended = False
        extensions = scope.get("extensions") or {}
        self._may_answer = _RESPONSE in extensions
        self._receive = receive
        self._send = send
        self._rest = b""
        self._peer_has_gone = False
        self._calls: dict[trio.CancelScope, None] = {}

    # The answer to the request

    async def connected(self) -> bool:
        """Wait for the `websocket.connect` message. Return False if the client has left."""
        message = await self._call(self._receive)
        return bool(message["type"] == "websocket.connect")

    async def accept(self, subprotocol: str | None) -> None:
        """Accept the WebSocket."""
        await self._call(self._send, {"type": "websocket.accept", "subprotocol": subprotocol})

    async def refuse(self, status: int, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
        """Refuse the WebSocket with this response. An ASGI server without the response extension sends 403 instead."""
        if not self._may_answer:
            await self._call(self._send, {"type": "websocket.close"})
            return
        pairs = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
        ]
        if body and not any(name == b"content-type" for name, _ in pairs):
            pairs.append((b"content-type", b"text/plain; charset=utf-8"))
        pairs.append((b"content-length", b"%d" % len(body)))
        start = {"type": f"{_RESPONSE}.start", "status": status, "headers": pairs}
        await self._call(self._send, start)
        await self._call(self._send, {"type": f"{_RESPONSE}.body", "body": body})

    # Frames

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for a message, and return it as a frame. Return `b""` if the client left without a close frame."""
        while not self._rest and not self._peer_has_gone:
            self._rest = self._framed(await self._call(self._receive))
        size = len(self._rest) if max_bytes is None else max_bytes
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def _framed(self, message: MutableMapping[str, Any]) -> bytes:
        if message["type"] != "websocket.disconnect":
            text = message.get("text")
            if text is not None:
                return client_frame(_TEXT, text.encode())
            return client_frame(_BINARY, message["bytes"])
        self._peer_has_gone = True
        code = message.get("code") or _NO_CODE
        if code == _NO_CODE:
            return client_frame(_CLOSE, b"")
        if not may_be_received(code):
            # The connection broke (1006), or the ASGI server closed it (1012).
            return b""
        reason = (message.get("reason") or "").encode()[:120].decode(errors="ignore").encode()
        return client_frame(_CLOSE, code.to_bytes(2, "big") + reason)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send the messages in `data`, which contains whole frames. The ASGI server handles pings and pongs."""
        await trio.lowlevel.checkpoint()
        for first, payload in split_frames(data):
            if self._peer_has_gone:
                # The client reads no more, and some ASGI servers raise if the application sends more.
                return
            if first == _TEXT:
                await self._call(self._send, {"type": "websocket.send", "text": payload.decode()})
            elif first == _BINARY:
                await self._call(self._send, {"type": "websocket.send", "bytes": payload})
            elif first == _CLOSE:
                code = int.from_bytes(payload[:2], "big")
                close = {"type": "websocket.close", "code": code, "reason": payload[2:].decode()}
                await self._call(self._send, close)

    async def wait_send_all_might_not_block(self) -> None:
        """Return without waiting, because ASGI does not report when a send would block."""
        await trio.lowlevel.checkpoint()

    # The end

    async def _call(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Call `receive` or `send` of the ASGI server. `end` cancels the call."""
        if self._ended:
            # Not ClosedResourceError: the reader must learn that the client is gone.
            raise trio.BrokenResourceError("the ASGI server has ended this WebSocket")
        if self.closed:
            raise trio.ClosedResourceError("this WebSocket is closed")
        with trio.CancelScope() as call:
            self._calls[call] = None
            try:
                return await function(*arguments)
            except Exception as error:
                # Broad, because each server raises different exceptions at the end of a connection.
                raise trio.BrokenResourceError(f"the ASGI server failed: {error!r}") from error
            finally:
                del self._calls[call]
        raise trio.BrokenResourceError("the ASGI server has ended this WebSocket")

    def end(self) -> None:
        """Cancel reads and writes, and forbid more. After this, the ASGI application may return to the server."""
        self.closed = self._ended = True
        for call in list(self._calls):
            call.cancel()

    async def aclose(self) -> None:
        """Forbid further reads and writes.

        If the client got no close frame, the ASGI server sends one with 1011 when the application returns.
        """
        self.closed = True
        await trio.lowlevel.checkpoint()


def _head_of(scope: MutableMapping[str, Any], path: str) -> Head:
    query = scope.get("query_string", b"").decode("latin-1")
    return Head(
        method="GET",
        target=f"{path}?{query}" if query else path,
        path=path,
        query=query,
        version=scope.get("http_version", "1.1"),
        headers=Headers(
            [
                (name.decode("latin-1").lower(), value.decode("latin-1"))
                for name, value in scope["headers"]
            ]
        ),
        received=b"",
        rest=b"",
    )
