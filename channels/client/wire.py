"""The client's side of the wire: V2 messages, the URL of a socket, and its token.

*pure*. Text messages are the same in both directions. Binary pushes differ: a push of a client has a ref.

    kind                           sizes                              after the strings
    0  push, client to server      join_ref, ref, topic, event        data
    0  push, server to client      join_ref, topic, event             data
    1  reply                       join_ref, ref, topic, status       data
    2  broadcast                   topic, event                       data

Source: phoenix.js 1.8, `serializer.js` and `ajax.js`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote, urlsplit

import msgspec
from attrs import frozen

from actors.errors import InvalidOption
from channels.errors import ChannelsError, EncodeError
from channels.messages import Binary, Message
from channels.serializers.json_values import NOT_DECODABLE, NOT_ENCODABLE, explain, read_float

__all__ = [
    "VSN",
    "Address",
    "Frame",
    "MalformedFrame",
    "TransportName",
    "address_of",
    "decode",
    "encode",
    "prepare",
    "reason_of",
    "subprotocols",
]

VSN: Final = "2.0.0"

TransportName: TypeAlias = Literal["websocket", "longpoll"]
Frame: TypeAlias = str | bytes
"""An encoded message: text for a text message, bytes for a binary one."""

_decode = msgspec.json.Decoder(Message, float_hook=read_float).decode
_encode = msgspec.json.Encoder().encode

# The number of strings in a message of each kind from the server.
_STRINGS = {0: 3, 1: 4, 2: 2}
_MAX_SIZE = 255


class MalformedFrame(ChannelsError):
    """The server sent a frame that is not a message. The client drops the frame and counts it."""


def prepare(topic: str, event: str, payload: Any) -> Any:
    """Encode a payload once, so that it can be sent several times with different refs.

    Args:
        topic: the topic, for the error.
        event: the event, for the error.
        payload: any JSON value or a `Binary`; None becomes an empty object.

    Raises:
        EncodeError: the payload has no JSON form, or is raw bytes.
    """
    if type(payload) is Binary:
        return payload
    if isinstance(payload, bytes | bytearray | memoryview):
        # The encoder would turn raw bytes into base64 text.
        problem = f"the payload is of type {type(payload).__name__}; put raw bytes into Binary"
        raise EncodeError(problem, kind="push", topic=topic, event=event)
    try:
        return msgspec.Raw(_encode({} if payload is None else payload))
    except NOT_ENCODABLE as fault:
        problem = explain(payload, fault)
        raise EncodeError(problem, kind="push", topic=topic, event=event) from fault


def encode(join_ref: str | None, ref: str | None, topic: str, event: str, payload: Any) -> Frame:
    """Encode a message of a client.

        >>> encode("1", "2", "room:a", "new_msg", {"body": "hi"})
        '["1","2","room:a","new_msg",{"body":"hi"}]'

    Args:
        join_ref: the ref of the join; None for heartbeats.
        ref: the number of the message.
        topic: the topic.
        event: the event.
        payload: the result of `prepare`, or any payload that JSON can express.

    Raises:
        EncodeError: a name is not text that UTF-8 can express, or a name of a binary message takes more than 255 bytes.
    """
    try:
        if type(payload) is Binary:
            return _pack(payload.data, topic, event, (join_ref or "", ref or "", topic, event))
        return _encode((join_ref, ref, topic, event, payload)).decode()
    except NOT_ENCODABLE as fault:
        raise EncodeError(str(fault), kind="push", topic=topic, event=event) from fault


def _pack(data: bytes, topic: str, event: str, strings: tuple[str, ...]) -> bytes:
    parts = [text.encode() for text in strings]
    if any(len(part) > _MAX_SIZE for part in parts):
        raise EncodeError(
            f"a name in a binary message takes more than {_MAX_SIZE} bytes of UTF-8; use a shorter one",
            kind="push",
            topic=topic,
            event=event,
        )
    return b"".join((bytes((0, *map(len, parts))), *parts, data))


def decode(frame: Frame) -> Message:
    r"""Decode a message of the server.

        >>> decode(b"\x02\x06\x03room:anew\x01\x02")
        Message(join_ref=None, ref=None, topic='room:a', event='new', payload=Binary(b'\x01\x02'))

    Raises:
        MalformedFrame: the frame is not a V2 message.
    """
    if isinstance(frame, bytes):
        return _unpack(frame)
    try:
        return _decode(frame)
    except NOT_DECODABLE as fault:
        raise MalformedFrame(f"the server sent text that is not a message: {fault}") from fault


def _unpack(data: bytes) -> Message:
    kind = data[0] if data else -1
    count = _STRINGS.get(kind)
    if count is None:
        raise MalformedFrame(f"the server sent a binary message of the unknown kind {kind}")
    end = 1 + count
    strings = []
    for size in data[1:end]:
        strings.append(data[end : end + size])
        end += size
    if len(strings) < count or end > len(data):
        raise MalformedFrame(
            "the server sent a binary message that is shorter than its header says"
        )
    try:
        names = [text.decode() for text in strings]
    except UnicodeDecodeError as fault:
        raise MalformedFrame(f"a name in a binary message is not UTF-8: {fault}") from fault
    payload = Binary(data[end:])
    if kind == 0:
        return Message(names[0] or None, None, names[1], names[2], payload)
    if kind == 2:
        return Message(None, None, names[0], names[1], payload)
    join_ref, ref, topic, status = names
    answer = {"status": status, "response": payload}
    return Message(join_ref or None, ref or None, topic, "phx_reply", answer)


def reason_of(payload: Any) -> str:
    """Return the reason in the payload of a phx_error, in words. Older servers give no reason."""
    reason = payload.get("reason") if isinstance(payload, dict) else None
    return reason if isinstance(reason, str) else "the channel crashed"


# The URL


@frozen
class Address:
    """The place of a socket.

    Attributes:
        host: a name or an address.
        port: the port; by default the port of the scheme.
        is_tls: True for wss and https.
        target: the path and the query, for the request.
        url: the URL without its query, which may hold secrets.
    """

    host: str
    port: int
    is_tls: bool
    target: str
    url: str

    @property
    def authority(self) -> str:
        """The value of the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


_SCHEMES = {"ws": False, "http": False, "wss": True, "https": True}


def address_of(
    url: str, params: Mapping[str, Any] | None = None, transport: TransportName = "websocket"
) -> Address:
    """Return the address to connect to.

        >>> address_of("wss://example.org/socket", {"token": "a b"}).target
        '/socket/websocket?token=a%20b&vsn=2.0.0'

    Args:
        url: the URL of the socket, as in phoenix.js: without `/websocket`. A URL with `/websocket` works too.
        params: parameters for the socket's `connect`.
        transport: decides the last segment of the path.

    Raises:
        InvalidOption: the URL is not absolute, or its scheme is not ws, wss, http or https.
    """
    try:
        parts = urlsplit(url)
        is_tls, host, port = _SCHEMES[parts.scheme], parts.hostname, parts.port
    except (AttributeError, KeyError, ValueError):  # AttributeError: it is not text
        host = None
    if not host:
        raise InvalidOption(
            "open_socket", "url", url, 'an absolute URL, such as "wss://example.org/socket"'
        )
    path = parts.path.rstrip("/").removesuffix("/websocket").removesuffix("/longpoll")
    path = f"{quote(path, safe='/%:@!$&()*+,;=~')}/{transport}"
    query = "&".join((*([parts.query] if parts.query else []), *_pairs(params or {}), f"vsn={VSN}"))
    port = port if port is not None else (443 if is_tls else 80)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
    return Address(host, port, is_tls, f"{path}?{query}", shown)


def _pairs(params: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    for key, value in params.items():
        name = f"{parent}[{key}]" if parent else str(key)
        if isinstance(value, Mapping):
            yield from _pairs(value, name)
        elif isinstance(value, list | tuple):
            yield from (f"{_quoted(name + '[]')}={_quoted(_text(each))}" for each in value)
        else:
            yield f"{_quoted(name)}={_quoted(_text(value))}"


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    return quote(text, safe="!'()*~-._")


def subprotocols(auth_token: str | None) -> tuple[str, ...]:
    """Return the subprotocols that the client offers. They carry the token to a WebSocket.

    >>> subprotocols("secret")
    ('phoenix', 'base64url.bearer.phx.c2VjcmV0')
    """
    if auth_token is None:
        return ()
    encoded = base64.b64encode(auth_token.encode()).decode().rstrip("=")
    return "phoenix", f"base64url.bearer.phx.{encoded}"
