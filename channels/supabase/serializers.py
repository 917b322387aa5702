r"""The wire formats of supabase's clients: Phoenix's V1 and V2, with binary broadcasts in V2.

*pure*. A client of version 2.0.0 sends each of its broadcasts as a binary message of kind 3. It understands binary
messages of kind 4 only. One byte has the kind, one byte each has the size of each string, and one the encoding:

    kind                           sizes                                        encoding   then the strings, and
    3  broadcast, from a client    join_ref, ref, topic, event, metadata        0 or 1     payload
    4  broadcast, to a client      topic, event, metadata                       0 or 1     payload

The encoding is 0 for raw bytes and 1 for JSON. The metadata is empty or a JSON object.

The server sends a JSON payload as a text message, because both versions of the client read it. A raw payload travels
between nodes as a `Binary` with the message of kind 4. V1 cannot express it, so clients of version 1.0.0 get nothing.

The PubSub topic of a private channel is `PRIVATE` and the topic of its clients.

Source: `lib/serializer.ts` of @supabase/realtime-js 2.119.1.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from channels.errors import DecodeError, EncodeError
from channels.messages import Binary, BinaryFrame, Message
from channels.serializers.json_values import NOT_DECODABLE, read_float
from channels.serializers.serializer import Requirement, Serializer
from channels.serializers.v1 import V1
from channels.serializers.v2 import V2
from channels.topics import INTERNAL

__all__ = [
    "PRIVATE",
    "SUPABASE_SERIALIZERS",
    "SupabaseV1",
    "SupabaseV2",
    "raw_broadcast",
    "wire_topic",
]

PRIVATE: Final = f"{INTERNAL}private:"
"""The prefix of the PubSub topics of private channels. Public and private channels of the same name are separate.

No client can join such a topic through a route of another socket.
"""

_FROM_CLIENT = 3
_TO_CLIENT = 4
_HEADER = 7
_RAW, _JSON = 0, 1
_MAX_SIZE = 255

_decode = msgspec.json.Decoder(float_hook=read_float).decode

# The texts for refused joins of the session, before a channel exists. The Python client waits longer after these.
_REFUSALS = {
    "too many channels joined": "ChannelRateLimitReached: Too many channels",
    "too many joins in progress": "ClientJoinRateLimitReached: Too many joins per second",
    "rate limited": "ClientJoinRateLimitReached: Too many joins per second",
}


def wire_topic(topic: str) -> str:
    """Return the topic of the clients of a PubSub topic.

    >>> wire_topic("ashtree:private:realtime:lobby")
    'realtime:lobby'
    """
    return topic.removeprefix(PRIVATE)


def raw_broadcast(topic: str, event: str, data: bytes) -> Binary:
    """Return the payload of a broadcast with raw bytes, for the event `broadcast`.

        endpoint.broadcast("realtime:lobby", "broadcast", raw_broadcast("realtime:lobby", "photo", data))

    Args:
        topic: the topic of the broadcast.
        event: the event for the clients.
        data: the bytes. Only clients of version 2.0.0 get them.

    Raises:
        EncodeError: the topic or the event has more than 255 bytes.
    """
    segments = (wire_topic(topic).encode(), event.encode(), b"")
    if max(map(len, segments)) > _MAX_SIZE:
        problem = f"a topic or an event has more than {_MAX_SIZE} bytes of UTF-8"
        raise EncodeError(problem, kind="broadcast", topic=topic, event=event)
    return Binary(b"".join((bytes((_TO_CLIENT, *map(len, segments), _RAW)), *segments, data)))


class _Supabase:
    """The differences from Phoenix that both versions have."""

    __slots__ = ()

    drops_malformed = True

    def encode_reply(
        self, join_ref: Any, ref: Any, topic: Any, status: str, response: Any
    ) -> bytes:
        # Only the refs of a join are the same.
        refusal = _refusal(status, response) if join_ref in (None, ref) else response
        data: bytes = super().encode_reply(join_ref, ref, topic, status, refusal)  # type: ignore[misc]
        return data


class SupabaseV1(_Supabase, V1):
    """The serializer for version 1.0.0 of supabase's clients, such as `realtime` for Python."""

    __slots__ = ()

    def encode_push(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        return super().encode_push(join_ref, wire_topic(topic), event, payload)

    def encode_broadcast(self, topic: str, event: str, payload: Any) -> bytes | None:  # type: ignore[override]
        if type(payload) is Binary:
            return None
        return super().encode_broadcast(wire_topic(topic), event, payload)


class SupabaseV2(_Supabase, V2):
    """The serializer for version 2.0.0 of supabase's clients, such as `@supabase/realtime-js`."""

    __slots__ = ()

    def is_json(self, data: bytes, binary: bool) -> bool:
        """Return True for a text message, and for a broadcast with a JSON payload."""
        return not binary or data[_HEADER - 1 : _HEADER] == bytes((_JSON,))

    def decode(self, data: bytes, *, binary: bool) -> Message:
        return _unpack(data) if binary else super().decode(data, binary=False)

    def encode_push(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        if type(payload) is Binary:
            return _frame(topic, event, payload)
        return super().encode_push(join_ref, wire_topic(topic), event, payload)

    def encode_broadcast(self, topic: str, event: str, payload: Any) -> bytes:
        if type(payload) is Binary:
            return _frame(topic, event, payload)
        return super().encode_broadcast(wire_topic(topic), event, payload)


SUPABASE_SERIALIZERS: Final[tuple[tuple[Serializer, Requirement], ...]] = (
    (SupabaseV1(), Requirement("~> 1.0.0")),
    (SupabaseV2(), Requirement("~> 2.0.0")),
)
"""The serializers for `Mount(serializers=)`. `vsn=2.0.0` names Phoenix's format too, so the mount must choose."""


def _refusal(status: str, response: Any) -> Any:
    reason = response.get("reason") if status == "error" and type(response) is dict else None
    text = _REFUSALS.get(reason) if type(reason) is str else None
    return response if text is None else {"reason": text}


def _frame(topic: str, event: str, payload: Binary) -> BinaryFrame:
    if event != "broadcast" or payload.data[:1] != bytes((_TO_CLIENT,)):
        problem = (
            "supabase's clients read raw bytes in broadcasts only; send raw_broadcast(topic, event, data) as the "
            'payload of the event "broadcast"'
        )
        raise EncodeError(problem, kind="broadcast", topic=topic, event=event)
    return BinaryFrame(payload.data)


def _unpack(data: bytes) -> Message:
    if len(data) < _HEADER or data[0] != _FROM_CLIENT or data[6] not in (_RAW, _JSON):
        raise DecodeError("a binary message is not a broadcast", vsn=V2.vsn)
    strings, start = [], _HEADER
    try:
        for size in data[1:6]:
            strings.append(data[start : start + size].decode())
            start += size
        if start > len(data):
            raise DecodeError("a binary message is shorter than its sizes", vsn=V2.vsn)
        join_ref, ref, topic, event, metadata = strings
        payload: Any = Binary(data[start:]) if data[6] == _RAW else _decode(data[start:])
        facts = _decode(metadata) if metadata else {}
    except NOT_DECODABLE as fault:
        raise DecodeError(str(fault), vsn=V2.vsn) from fault
    if type(facts) is not dict:
        raise DecodeError("the metadata of a broadcast is not an object", vsn=V2.vsn)
    broadcast = {**facts, "type": "broadcast", "event": event, "payload": payload}
    return Message(join_ref or None, ref or None, topic, "broadcast", broadcast)
