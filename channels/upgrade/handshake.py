r"""Whether a request becomes a WebSocket, and what is answered: pure decisions, no I/O.

*pure*. The steps are those of Phoenix, in its order; the connection does what lies between:

1. `method_problem(head)`: anything but GET is answered 400 with an empty body;
2. the application's `connect` runs: who is refused there gets 403 with an empty body, even if no
   WebSocket was asked for;
3. `upgrade_problem(head)`: a request that is not a proper upgrade is answered 400 with the reason
   as its text, and with the version that is spoken here;
4. `accept(head)` is the answer that makes it a WebSocket. Bytes that came behind the head
   (`head.rest`) are its first frames.

Source: RFC 6455, section 4.2; Phoenix 1.8.12 for the order and the status codes.
"""

from __future__ import annotations

import base64
import binascii
import http
from collections.abc import Iterable

from websockets.utils import accept_key

from channels.upgrade.request import Head

__all__ = ["VERSION", "accept", "method_problem", "response", "upgrade_problem", "wants_upgrade"]

VERSION = "13"
"""Of WebSockets, for the header that names it."""


def wants_upgrade(head: Head) -> bool:
    """Tell whether a request asks for a WebSocket, properly or not."""
    return "websocket" in head.headers.tokens("upgrade")


def method_problem(head: Head) -> str | None:
    """Say what is wrong with the method of a request to a WebSocket path, or None."""
    if head.method != "GET":
        return f"a WebSocket is opened with GET, not with {head.method}"
    return None


def upgrade_problem(head: Head) -> str | None:
    """Say why a GET request cannot become a WebSocket, in one sentence, or None if it can."""
    headers = head.headers
    if head.version != "1.1":
        return f"a WebSocket is opened with HTTP/1.1, not with HTTP/{head.version}"
    for name, token in (("connection", "upgrade"), ("upgrade", "websocket")):
        tokens = headers.tokens(name)
        if token not in tokens:
            return f"'{name}' header must contain '{token}', got {tokens}"
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        return "a request that opens a WebSocket has no body"
    version = headers.get("sec-websocket-version")
    if version != VERSION:
        return f"'sec-websocket-version' header must be '{VERSION}', got {version!r}"
    if not _is_key(headers.get("sec-websocket-key", "")):
        return "'sec-websocket-key' header must be 16 bytes in base64"
    return None


def _is_key(key: str | None) -> bool:
    try:
        return len(base64.b64decode(key or "", validate=True)) == 16
    except (binascii.Error, ValueError):  # the latter for letters beyond ASCII
        return False


def accept(head: Head, *, subprotocol: str | None = None, extensions: str | None = None) -> bytes:
    """Build the answer that turns the connection into a WebSocket.

    - `head`: one for which `upgrade_problem` is None;
    - `subprotocol`: one of those that the client has offered, or None;
    - `extensions`: those that were agreed on, as the value of their header, or None.

    Returns the bytes to write, before any frame.
    """
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(head.headers['sec-websocket-key'])}",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    if extensions is not None:
        lines.append(f"Sec-WebSocket-Extensions: {extensions}")
    return "\r\n".join((*lines, "", "")).encode("ascii")


def response(status: int, body: bytes = b"", *, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    r"""Build a whole HTTP answer after which the connection is closed.

        >>> response(403).splitlines()[0]
        b'HTTP/1.1 403 Forbidden'

    - `status`: a status of HTTP, 400 or more;
    - `body`: text in UTF-8; empty for the answers that Phoenix gives without one;
    - `headers`: more of them.

    There is no `Date`: this module knows no clock, and answers of this kind are never cached.
    """
    headers = list(headers)
    lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}"]
    if body and not any(name.lower() == "content-type" for name, _ in headers):
        lines.append("content-type: text/plain; charset=utf-8")
    lines.append(f"content-length: {len(body)}")
    lines.append("connection: close")
    lines.extend(f"{name}: {value}" for name, value in headers)
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body
