"""The WebSocket handshake: checks of the request, the subprotocol, and the responses.

*pure*. The steps are the same as in Phoenix, in the same order:

1. `method_problem(head)` checks the method. A client with any method except GET gets 400 with an empty body.
2. `agree(...)` chooses the subprotocol, and finds the token of phoenix.js.
3. The application's `connect` runs. A refused client gets 403, even for a request that is not an upgrade.
4. `upgrade_problem(head)` checks the upgrade. After an invalid upgrade, the client gets 400 with the reason as text and
   the supported version.
5. `accept(head)` builds the response that opens the WebSocket. The bytes after the head (`head.rest`) are the first
   frames of the client.

Source: RFC 6455, section 4.2; Phoenix 1.8.12 for the order and the status codes.
"""

from __future__ import annotations

import base64
import binascii
import http
import re
from collections.abc import Iterable, Sequence

import msgspec
from websockets.utils import accept_key

from channels.wire.request import Head

__all__ = [
    "VERSION",
    "Agreed",
    "accept",
    "agree",
    "asks_for_websocket",
    "method_problem",
    "response",
    "upgrade_problem",
]

VERSION = "13"
"""The version of the WebSocket protocol, for `Sec-WebSocket-Version`."""

# 16 bytes in base64.
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")


def method_problem(head: Head) -> str | None:
    """Return the problem with the method of an upgrade request; None if the method is GET."""
    if head.method != "GET":
        return f"the method of an upgrade must be GET, got {head.method}"
    return None


def asks_for_websocket(head: Head) -> bool:
    """Return True for a request whose `Upgrade` header is `websocket`, even if it is not a valid upgrade request."""
    return (head.headers.get("upgrade") or "").lower() == "websocket"


def upgrade_problem(head: Head) -> str | None:
    """Return the problem with a GET request for an upgrade, in one sentence, or None."""
    headers, values = head.headers, head.headers.by_name
    if head.version != "1.1":
        return f"the version of an upgrade must be HTTP/1.1, got HTTP/{head.version}"
    for name, token in (("connection", "upgrade"), ("upgrade", "websocket")):
        # Most clients send only this token.
        if values.get(name, "").lower() != token and token not in (tokens := headers.tokens(name)):
            return f"'{name}' header must contain '{token}', got {tokens}"
    if values.get("content-length", "0") != "0" or "transfer-encoding" in values:
        return "an upgrade must not have a body"
    version = values.get("sec-websocket-version")
    if version != VERSION:
        return f"'sec-websocket-version' header must be '{VERSION}', got {version!r}"
    if not _KEY.fullmatch(values.get("sec-websocket-key", "")):
        return "'sec-websocket-key' header must be 16 bytes in base64"
    return None


def accept(head: Head, *, subprotocol: str | None = None, extensions: str | None = None) -> bytes:
    """Build the response that opens the WebSocket.

    Args:
        head: a head without an `upgrade_problem`.
        subprotocol: the chosen subprotocol, or None.
        extensions: the negotiated extensions as a header value, or None.

    Returns:
        The bytes to write before any frame.
    """
    answer = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(head.headers.by_name['sec-websocket-key'])}\r\n"
    )
    if subprotocol is not None:
        answer += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    if extensions is not None:
        answer += f"Sec-WebSocket-Extensions: {extensions}\r\n"
    return f"{answer}\r\n".encode("ascii")


def response(status: int, body: bytes = b"", *, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Build an HTTP response after which the server closes the connection.

        >>> response(403).splitlines()[0]
        b'HTTP/1.1 403 Forbidden'

    The response has no `Date` header, because this module has no clock. Caches do not store such responses.

    Args:
        status: an HTTP status.
        body: the body, text in UTF-8. It may be empty.
        headers: more headers.
    """
    headers = list(headers)
    lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}"]
    if body and not any(name.lower() == "content-type" for name, _ in headers):
        lines.append("content-type: text/plain; charset=utf-8")
    lines.append(f"content-length: {len(body)}")
    lines.append("connection: close")
    lines.extend(f"{name}: {value}" for name, value in headers)
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


_PHOENIX = "phoenix"
_BEARER = "base64url.bearer.phx."
_STANDARD = str.maketrans("-_", "+/")


class Agreed(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `agree`.

    Attributes:
        name: the chosen subprotocol, or None.
        token: the `authToken` of phoenix.js, or None.
    """

    name: str | None = None
    token: str | None = None

    def __repr__(self) -> str:
        # The token is a secret.
        return f"Agreed(name={self.name!r})"


def agree(
    offered: str | None, configured: Sequence[str] | None, *, auth_token: bool
) -> Agreed | None:
    """Choose a subprotocol from the offer of a client. Return None to refuse the client.

        >>> agree("phoenix, base64url.bearer.phx.c2VjcmV0", None, auth_token=True).name
        'phoenix'
        >>> agree("soap", ["chat.v2", "chat.v1"], auth_token=False) is None
        True

    `Sec-WebSocket-Protocol` is the only header of an upgrade that a browser page can set. So phoenix.js sends its
    `authToken` there in base64: `phoenix, base64url.bearer.phx.c2VjcmV0`. The server chooses `phoenix`, never the
    token. If the token is not valid base64, Ashtree refuses the client. Phoenix answers HTTP 500.

    Args:
        offered: the header `Sec-WebSocket-Protocol`; None if the client did not send it, which is allowed.
        configured: the supported subprotocols in order of preference. None ignores the offer and chooses none.
        auth_token: True to look for the `authToken` in the offer.
    """
    names = (
        [] if offered is None else [name for each in offered.split(",") if (name := each.strip())]
    )
    token = None
    if auth_token:
        configured = (_PHOENIX, *(configured or ()))
        encoded = [name for name in names if name.startswith(_BEARER)]
        if len(encoded) == 1:
            names.remove(encoded[0])
            token = _decode(encoded[0][len(_BEARER) :])
            if token is None:
                return None
    if configured is None or not names:
        return Agreed(token=token)
    for name in configured:
        if name in names:
            return Agreed(name=name, token=token)
    return None


def _decode(text: str) -> str | None:
    try:
        padded = text.rstrip("=").translate(_STANDARD)
        padded += "=" * (-len(padded) % 4)
        return base64.b64decode(padded, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
