"""The Phoenix V1 wire format: JSON objects in text messages.

*pure*. A message is `{"topic": ..., "event": ..., "payload": ..., "ref": ...}`, from a client also with a `join_ref`
if it has one. There is no binary form: raw bytes cannot be sent, and whether a message came as text or as binary makes
no difference. It is what clients from before 2018 speak, and what a client gets that names no version.

Behaviour after Phoenix 1.8.12, `Phoenix.Socket.V1.JSONSerializer`, as recorded on the wire.
"""

from __future__ import annotations

from typing import Any

import msgspec

from channels.errors import DecodeError, EncodeError
from channels.messages import Binary, Message
from channels.serializers.json_values import explain, read_float

__all__ = ["V1"]

_VSN = "1.0.0"


class _Incoming(msgspec.Struct, gc=False):
    """A message as V1 writes it: all but `join_ref` have to be there."""

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

# As in V2: not JSON of the right shape, and values without a JSON form.
_NOT_DECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NOT_ENCODABLE = (TypeError, ValueError, RecursionError, msgspec.MsgspecError)


class V1:
    """The serializer for `~> 1.0.0`.

        >>> data = b'{"topic":"room:a","event":"new_msg","payload":{},"ref":"1"}'
        >>> V1().decode(data, binary=False).event
        'new_msg'
        >>> V1().encode_push("1", "room:a", "new_msg", {"body": "hi"})
        b'{"topic":"room:a","event":"new_msg","payload":{"body":"hi"},"ref":null}'

    Unlike in V2, the payload of a push or a broadcast may be any JSON value. See `Serializer` for the parameters and
    what is raised.
    """

    __slots__ = ()

    vsn = _VSN

    def is_json(self, binary: bool) -> bool:
        """Tell whether a message is JSON: all are."""
        return True

    def decode(self, data: bytes, *, binary: bool) -> Message:
        """Read one WebSocket message, text or binary alike."""
        try:
            incoming = _decode(data)
        except _NOT_DECODABLE as fault:
            raise DecodeError(str(fault), vsn=_VSN) from fault
        return Message(
            incoming.join_ref, incoming.ref, incoming.topic, incoming.event, incoming.payload
        )

    def encode_push(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        """Write what a channel sends to its client unasked; V1 does not say which join it belongs to."""
        return _write("push", topic, event, payload)

    def encode_reply(
        self, join_ref: Any, ref: Any, topic: Any, status: str, response: Any
    ) -> bytes:
        """Write the answer to the message that carried `ref`."""
        _refuse_binary("reply", topic, status, response)
        try:
            return _encode(_Outgoing(topic, "phx_reply", _Response(status, response), ref))
        except _NOT_ENCODABLE as fault:
            problem = explain(response, fault)
            raise EncodeError(problem, kind="reply", topic=topic, event=status) from fault

    def encode_broadcast(self, topic: str, event: str, payload: Any) -> bytes:
        """Write what goes to every client of a topic."""
        return _write("broadcast", topic, event, payload)

    def encode_close(self, join_ref: Any, topic: str) -> bytes:
        """Write that a membership is over. Its ref is the join_ref of the join, which V1 clients leave out."""
        return _write("push", topic, "phx_close", {}, join_ref)

    def encode_error(self, join_ref: Any, topic: str) -> bytes:
        """Write that a channel crashed. Its ref is as that of a close."""
        return _write("push", topic, "phx_error", {"reason": "channel_crash"}, join_ref)


def _write(kind: str, topic: str, event: str, payload: Any, ref: Any = None) -> bytes:
    _refuse_binary(kind, topic, event, payload)
    try:
        return _encode(_Outgoing(topic, event, payload, ref))
    except _NOT_ENCODABLE as fault:
        problem = explain(payload, fault)
        raise EncodeError(problem, kind=kind, topic=topic, event=event) from fault


def _refuse_binary(kind: str, topic: object, event: object, payload: Any) -> None:
    if type(payload) is Binary:
        raise EncodeError(
            "its client speaks V1, which has no form for raw bytes: send text, such as base64, to clients of that age",
            kind=kind,
            topic=topic,
            event=event,
        )
