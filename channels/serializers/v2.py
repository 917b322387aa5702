"""The Phoenix V2 wire format: JSON arrays in text messages, and a compact layout for raw bytes.

*pure*. A text message is `[join_ref, ref, topic, event, payload]`. A binary message starts with one byte for its kind,
and one byte for the size of each string. The strings and the data follow:

    kind                           sizes                              after the strings
    0  push, client to server      join_ref, ref, topic, event        data
    0  push, server to client      join_ref, topic, event             data
    1  reply                       join_ref, ref, topic, status       data
    2  broadcast                   topic, event                       data

The encoder writes a null ref as an empty string. The decoder does not turn an empty string into null. Source: Phoenix
1.8.12, `Phoenix.Socket.V2.JSONSerializer`, as recorded on the wire.
"""

from __future__ import annotations

from typing import Any

import msgspec

from channels.errors import DecodeError, EncodeError
from channels.messages import Binary, BinaryFrame, Message
from channels.serializers.json_values import NOT_DECODABLE, NOT_ENCODABLE, explain, read_float

__all__ = ["V2"]

_VSN = "2.0.0"
_KINDS = {"push": 0, "reply": 1, "broadcast": 2}
_PUSH_HEADER = 5
_MAX_SIZE = 255

_decode = msgspec.json.Decoder(Message, float_hook=read_float).decode
_encode = msgspec.json.Encoder().encode


class _Response(msgspec.Struct, gc=False):
    """The payload of a reply. It is a struct, because msgspec encodes a struct faster than a dict."""

    status: str
    response: Any


class V2:
    """The serializer for `~> 2.0.0`, the version of phoenix.js.

        >>> V2().decode(b'["1","2","room:a","new_msg",{"body":"hi"}]', binary=False).payload
        {'body': 'hi'}
        >>> V2().encode_push("1", "room:a", "new_msg", {"body": "hi"})
        b'["1",null,"room:a","new_msg",{"body":"hi"}]'

    The decoder is strict: no NaN, no lone surrogates, UTF-8 only. Integers are exact up to 4300 digits, the limit of
    Python. If a key appears twice, the last value counts; in Phoenix the first counts. The encoder writes NaN and the
    infinities as null, because JSON cannot express them. `Serializer` describes parameters and errors.
    """

    __slots__ = ()

    vsn = _VSN
    copies_json = True

    def is_json(self, data: bytes, binary: bool) -> bool:
        """Return True for a text message."""
        return not binary

    def decode(self, data: bytes, *, binary: bool) -> Message:
        """Decode a WebSocket message, JSON or binary."""
        if binary:
            return _unpack(data)
        try:
            return _decode(data)
        except NOT_DECODABLE as fault:
            raise DecodeError(str(fault), vsn=_VSN) from fault

    def encode_push(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        """Encode a message that a channel sends to its client."""
        if type(payload) is Binary:
            return _pack("push", payload, join_ref=join_ref, topic=topic, event=event)
        return _encode_object("push", join_ref, topic, event, payload)

    def encode_reply(
        self, join_ref: Any, ref: Any, topic: Any, status: str, response: Any
    ) -> bytes:
        """Encode the reply to the message with this `ref`."""
        if type(response) is Binary:
            return _pack("reply", response, join_ref=join_ref, ref=ref, topic=topic, status=status)
        try:
            return _encode((join_ref, ref, topic, "phx_reply", _Response(status, response)))
        except NOT_ENCODABLE as fault:
            problem = explain(response, fault)
            raise EncodeError(problem, kind="reply", topic=topic, event=status) from fault

    def encode_broadcast(self, topic: str, event: str, payload: Any) -> bytes:
        """Encode a message for every client of a topic."""
        if type(payload) is Binary:
            return _pack("broadcast", payload, topic=topic, event=event)
        return _encode_object("broadcast", None, topic, event, payload)

    def encode_close(self, join_ref: Any, topic: str) -> bytes:
        """Encode `phx_close`. As in Phoenix, both refs of the message are the join_ref of the join."""
        return _encode_notice(join_ref, topic, "phx_close", {})

    def encode_error(self, join_ref: Any, topic: str) -> bytes:
        """Encode `phx_error`. As in Phoenix, both refs of the message are the join_ref of the join."""
        return _encode_notice(join_ref, topic, "phx_error", {"reason": "channel_crash"})


def _encode_object(kind: str, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
    try:
        # Attrs objects, dataclasses and structs also become JSON objects. Encoding shows the form of any other value.
        form = type(payload)
        if form is dict or (
            _is_object(payload) if form is msgspec.Raw else _encode(payload).startswith(b"{")
        ):
            return _encode((join_ref, None, topic, event, payload))
    except NOT_ENCODABLE as fault:
        problem = explain(payload, fault)
        raise EncodeError(problem, kind=kind, topic=topic, event=event) from fault
    raise EncodeError(
        f"the payload is of type {type(payload).__name__}, not a JSON object; "
        "put it into a dict under a name, or into Binary if it is raw bytes",
        kind=kind,
        topic=topic,
        event=event,
    )


def _is_object(raw: msgspec.Raw) -> bool:
    """Return True if encoded JSON is an object.

    PubSub and histories have checked the JSON that they pass on, so its first byte suffices. Other nodes may have
    written space before it.
    """
    view = memoryview(raw)
    return bytes(view[:1]) == b"{" or (
        bytes(view[:1]).isspace() and bytes(view).lstrip().startswith(b"{")
    )


def _encode_notice(join_ref: Any, topic: str, event: str, payload: dict[str, str]) -> bytes:
    try:
        return _encode((join_ref, join_ref, topic, event, payload))
    except NOT_ENCODABLE as fault:
        raise EncodeError(str(fault), kind="push", topic=topic, event=event) from fault


def _unpack(data: bytes) -> Message:
    if len(data) < _PUSH_HEADER or data[0] != _KINDS["push"]:
        raise DecodeError("a binary message does not begin with the header of a push", vsn=_VSN)
    join_ref_end = _PUSH_HEADER + data[1]
    ref_end = join_ref_end + data[2]
    topic_end = ref_end + data[3]
    event_end = topic_end + data[4]
    if event_end > len(data):
        raise DecodeError("a binary message is shorter than the sizes in its header", vsn=_VSN)
    try:
        return Message(
            data[_PUSH_HEADER:join_ref_end].decode(),
            data[join_ref_end:ref_end].decode(),
            data[ref_end:topic_end].decode(),
            data[topic_end:event_end].decode(),
            Binary(data[event_end:]),
        )
    except UnicodeDecodeError as fault:
        raise DecodeError(f"a name in a binary message is not UTF-8: {fault}", vsn=_VSN) from fault


def _pack(kind: str, payload: Binary, **strings: object) -> BinaryFrame:
    segments = []
    for name, value in strings.items():
        try:
            segments.append(_segment(value))
        except (TypeError, ValueError) as fault:
            raise EncodeError(
                f"the {name} does not fit into a binary message: {fault}",
                kind=kind,
                topic=strings["topic"],
                event=strings.get("event", strings.get("status")),
            ) from fault
    header = bytes((_KINDS[kind], *map(len, segments)))
    return BinaryFrame(b"".join((header, *segments, payload.data)))


def _segment(value: object) -> bytes:
    if value is None:
        return b""
    if isinstance(value, str):
        segment = value.encode()
    elif isinstance(value, int | float):
        segment = _encode(value)
    else:
        raise TypeError(f"a {type(value).__name__} is neither a string nor a number")
    if len(segment) > _MAX_SIZE:
        raise ValueError(f"it has {len(segment)} bytes of UTF-8, and the limit is {_MAX_SIZE}")
    return segment
