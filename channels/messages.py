"""The records that travel between a client and a channel, whatever the wire looks like."""

from __future__ import annotations

from typing import Any, final

import msgspec
from attrs import define, field

from channels.errors import ChannelsError, InvalidOption

__all__ = ["Binary", "BinaryFrame", "Broadcast", "JoinRefused", "Message", "PushReply"]


# One is made for every frame that arrives, so it is a struct which the JSON decoder fills in C.
# It stays out of the garbage collector's lists because it cannot be part of a cycle: whatever it
# refers to was made by a decoder, before it.
class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One message from a client: five fields, none of them checked.

    Clients choose what they send, so every field may hold any JSON value; `payload` may be a
    `Binary` as well. By convention `topic` and `event` are strings, refs are strings or null, and
    `payload` is an object.

        >>> Message("1", "2", "room:lobby", "new_msg", {"body": "hello"}).event
        'new_msg'

    - `join_ref`: the ref of the join that the client thinks this message belongs to, or None;
    - `ref`: the client's number for this message, echoed in the reply to it, or None;
    - `topic`, `event`, `payload`: where to, what, and with what.

    The shape is that of a Phoenix V2 frame, `[join_ref, ref, topic, event, payload]`.
    """

    join_ref: Any
    ref: Any
    topic: Any
    event: Any
    payload: Any


class Broadcast(msgspec.Struct, frozen=True):
    """An event for everybody who is subscribed to a topic.

        >>> Broadcast("room:lobby", "new_msg", {"body": "hello"}).topic
        'room:lobby'

    `payload` is a JSON object (a dict, or a record that encodes as one) or a `Binary`; it is
    encoded once for all clients, so nobody may change it afterwards.
    """

    topic: str
    event: str
    payload: Any


# An ordinary class and not a record: msgspec writes records of any kind as JSON objects, and bytes
# that hide somewhere inside a JSON payload must be an error, not base64 that nobody asked for.
@final
class Binary:
    """Raw bytes as the whole payload of a push, a reply or a broadcast.

        >>> Binary(b"GIF89a").data
        b'GIF89a'

    Clients that speak V2 send and get these as binary WebSocket messages, without base64. Bytes
    cannot be a part of a JSON payload, and V1 has no binary form at all: both are an
    `EncodeError`.

    Raises `TypeError` if the data is not `bytes`, `bytearray` or `memoryview`; it is copied unless
    it is `bytes`.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"Binary holds bytes, but got {type(data).__name__}: encode it first")
        self.data = bytes(data)

    def __eq__(self, other: object) -> bool:
        return self.data == other.data if isinstance(other, Binary) else NotImplemented

    def __hash__(self) -> int:
        return hash((Binary, self.data))

    def __repr__(self) -> str:
        return f"Binary({self.data!r})"


class BinaryFrame(bytes):
    """An encoded frame that has to travel as a binary WebSocket message.

    Encoded frames are plain `bytes` otherwise: UTF-8, for a text message. The distinction is made
    by type so that the common case costs nothing.
    """

    __slots__ = ()


@define
class PushReply:
    """Answer the push that is being handled.

        return PushReply({"total": 3})
        return PushReply({"reason": "too long"}, status="error")

    Args:
        payload: any JSON value or a `Binary`; the client finds it as `response`. An empty object by default.
        status: the client's `receive(status, ...)` is called; `"ok"` and `"error"` by convention, any string works.

    Raises:
        InvalidOption: the status is no string.
    """

    payload: Any = field(factory=dict)
    status: str = "ok"

    def __attrs_post_init__(self) -> None:
        # Here, because the handler that wrote it is still on the stack then.
        if not isinstance(self.status, str):
            raise InvalidOption(
                "PushReply",
                "status",
                self.status,
                'text, such as "ok" or "error", behind the payload',
            )


class JoinRefused(ChannelsError):
    """Raise it in `join` to refuse: the client's join is answered with status `error` and this payload.

    raise JoinRefused({"reason": "unauthorized"})
    """

    def __init__(self, payload: Any = None) -> None:
        super().__init__(payload)
        self.payload: Any = {} if payload is None else payload
