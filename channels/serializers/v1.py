"""The Phoenix V1 wire format: JSON objects in text messages.

*pure*. A message is `{"topic": ..., "event": ..., "payload": ..., "ref": ...}`, and a client may add a `join_ref`. V1
cannot express raw bytes. The server reads a binary WebSocket message like a text message. Clients from before 2018 use
V1, and so do clients that send no `vsn`.

Source: Phoenix 1.8.12, `Phoenix.Socket.V1.JSONSerializer`, as recorded on the wire.
"""

from __future__ import annotations

from typing import Any

import msgspec

from channels.errors import DecodeError, EncodeError
from channels.messages import Binary, Message
from channels.serializers.json_values import NOT_DECODABLE, NOT_ENCODABLE, explain, read_float

__all__ = ["V1"]

_VSN = "1.0.0"


class _Incoming(msgspec.Struct, gc=False):
    """A message from a client."""

    topic: Any
    event: Any
    payload: Any
    ref: Any
    join_ref: Any = None


class _Response(msgspec.Struct, gc=False):
    status: str
    response: Any


class _Outgoing(msgspec.Struct, gc=False):
    topic: Any
    event: str
    payload: Any
    ref: Any = None


_decode = msgspec.json.Decoder(_Incoming, float_hook=read_float).decode
_encode = msgspec.json.Encoder().encode


class V1:
    """The serializer for `~> 1.0.0`.

        >>> data = b'{"topic":"room:a","event":"new_msg","payload":{},"ref":"1"}'
        >>> V1().decode(data, binary=False).event
        'new_msg'
        >>> V1().encode_push("1", "room:a", "new_msg", {"body": "hi"})
        b'{"topic":"room:a","event":"new_msg","payload":{"body":"hi"},"ref":null}'

    The payload of a push or a broadcast may be any JSON value, unlike in V2. `Serializer` describes parameters and
    errors.
    """

    __slots__ = ()

    vsn = _VSN
    copies_json = True

    def is_json(self, data: bytes, binary: bool) -> bool:
        """Return True, because every message is JSON."""
        return True

    def decode(self, data: bytes, *, binary: bool) -> Message:
        """Decode one WebSocket message, text or binary."""
        try:
            incoming = _decode(data)
        except NOT_DECODABLE as fault:
            raise DecodeError(str(fault), vsn=_VSN) from fault
        return Message(
            incoming.join_ref, incoming.ref, incoming.topic, incoming.event, incoming.payload
        )

    def encode_push(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        """Encode a message that a channel sends to its client. V1 leaves out the join_ref."""
        return _write("push", topic, event, payload)

    def encode_reply(
        self, join_ref: Any, ref: Any, topic: Any, status: str, response: Any
    ) -> bytes:
        """Encode the reply to the message with this `ref`."""
        _refuse_binary("reply", topic, status, response)
        try:
            return _encode(_Outgoing(topic, "phx_reply", _Response(status, response), ref))
        except NOT_ENCODABLE as fault:
            problem = explain(response, fault)
            raise EncodeError(problem, kind="reply", topic=topic, event=status) from fault

    def encode_broadcast(self, topic: str, event: str, payload: Any) -> bytes:
        """Encode a message for every client of a topic."""
        return _write("broadcast", topic, event, payload)

    def encode_close(self, join_ref: Any, topic: str) -> bytes:
        """Encode `phx_close`. Its ref is the join_ref of the join; null if the client sent no join_ref."""
        return _write("push", topic, "phx_close", {}, join_ref)

    def encode_error(self, join_ref: Any, topic: str) -> bytes:
        """Encode `phx_error`. Its ref is the join_ref of the join; null if the client sent no join_ref."""
        return _write("push", topic, "phx_error", {"reason": "channel_crash"}, join_ref)


def _write(kind: str, topic: str, event: str, payload: Any, ref: Any = None) -> bytes:
    _refuse_binary(kind, topic, event, payload)
    try:
        return _encode(_Outgoing(topic, event, payload, ref))
    except NOT_ENCODABLE as fault:
        problem = explain(payload, fault)
        raise EncodeError(problem, kind=kind, topic=topic, event=event) from fault


def _refuse_binary(kind: str, topic: object, event: object, payload: Any) -> None:
    if type(payload) is Binary:
        raise EncodeError(
            "the client uses V1, which cannot express raw bytes; send text such as base64 to V1 clients",
            kind=kind,
            topic=topic,
            event=event,
        )
