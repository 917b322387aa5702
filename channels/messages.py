"""Messages between a client and a channel, independent of the wire format, and the refusals of clients."""

from __future__ import annotations

import warnings
from typing import Any, Final, final

import msgspec

from actors.errors import InvalidOption
from channels.errors import ChannelsError

__all__ = [
    "MAX_KEY",
    "Binary",
    "BinaryFrame",
    "Broadcast",
    "ConnectRefused",
    "JoinRefused",
    "Message",
    "PushReply",
]

MAX_KEY: Final = 255
"""The longest key of a value that may be dropped, in characters. Each client that is behind has a thousand keys."""


# A struct for speed, because the server makes a message for every frame, and the JSON decoder fills a struct in C.
# Without garbage collection, because a message refers only to older values, and so cannot be part of a cycle.
class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A message from a client, with unchecked fields in the order of a Phoenix V2 frame.

        >>> Message("1", "2", "room:lobby", "new_msg", {"body": "hello"}).event
        'new_msg'

    A client may send any JSON value in every field. The payload may also be a `Binary`. By convention `topic` and
    `event` are strings, refs are strings or null, and `payload` is an object.

    Attributes:
        join_ref: the ref of the join that this message belongs to, or None.
        ref: the client's number for this message, or None. The reply repeats it.
        topic: the topic.
        event: the name of the event.
        payload: the data of the event.
    """

    join_ref: Any
    ref: Any
    topic: Any
    event: Any
    payload: Any


class Broadcast(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """An event for all subscribers of a topic.

        >>> Broadcast("room:lobby", "new_msg", {"body": "hello"}).topic
        'room:lobby'

    `payload` is a dict, a record that encodes as a JSON object, or a `Binary`. Do not change it afterwards, because
    channels with a `handle_out` get the same object.

    With a `key`, the broadcast is a value that may be dropped: for a client that is behind, only the newest value of
    each topic, event and key waits. `Channel.broadcast_latest` sends such a broadcast.
    """

    topic: str
    event: str
    payload: Any
    key: str | None = None


# Not a record. msgspec would encode a record inside a JSON payload as base64, but there `Binary` must raise an error.
@final
class Binary:
    """Raw bytes as the whole payload of a push, a reply or a broadcast.

        >>> Binary(b"GIF89a").data
        b'GIF89a'

    V2 clients send and receive the bytes as binary WebSocket messages, without base64. A `Binary` inside a JSON payload
    raises `EncodeError`, and so does a `Binary` for a V1 client.

    Args:
        data: the bytes.

    Raises:
        TypeError: `data` is not `bytes`, `bytearray` or `memoryview`.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"Binary got {type(data).__name__}, not bytes; encode it first")
        self.data = bytes(data)

    def __eq__(self, other: object) -> bool:
        return self.data == other.data if isinstance(other, Binary) else NotImplemented

    def __hash__(self) -> int:
        return hash((Binary, self.data))

    def __repr__(self) -> str:
        return f"Binary({self.data!r})"


class BinaryFrame(bytes):
    """An encoded frame for a binary WebSocket message.

    A frame for a text message is plain `bytes`, in UTF-8.
    """

    __slots__ = ()


_MISSPELLED = {
    **dict.fromkeys(("err", "Err", "ERR", "errors", "Error", "ERROR"), "error"),
    **dict.fromkeys(("okay", "Ok", "OK"), "ok"),
}
"""Statuses that differ from the two of Phoenix only in the spelling."""


class PushReply(msgspec.Struct, frozen=True):
    """The reply to the current push.

        return PushReply({"total": 3})
        return PushReply({"reason": "too long"}, status="error")

    Args:
        payload: the `response` for the client: any JSON value or a `Binary`. The default is an empty object.
        status: the status for the client's `receive(status, ...)`: `"ok"` or `"error"` by convention, or any string.

    Raises:
        InvalidOption: the status is not a string.
    """

    payload: Any = msgspec.field(default_factory=dict)
    status: str = "ok"

    def __post_init__(self) -> None:
        # Checked here, so that the traceback shows the handler.
        if not isinstance(self.status, str):
            raise InvalidOption(
                "PushReply",
                "status",
                self.status,
                'text such as "ok" or "error", after the payload',
            )
        if self.status in _MISSPELLED:
            right = _MISSPELLED[self.status]
            # A warning, because a client can wait for any status. Most clients wait for these two only.
            warnings.warn(
                f"PushReply(status={self.status!r}): a client that waits for {right!r} does not get this reply; write "
                f"status={right!r}",
                stacklevel=2,
            )


class JoinRefused(ChannelsError):
    """The refusal of a join. Raise it in `join`. The client gets status `error` and the payload.

        raise JoinRefused({"reason": "unauthorized"})

    Attributes:
        payload: the response that the client gets; an empty object by default.
    """

    def __init__(self, payload: Any = None) -> None:
        super().__init__(payload)
        self.payload: Any = {} if payload is None else payload


class ConnectRefused(ChannelsError):
    """The refusal of a client. Raise it in `connect`. The client gets HTTP 403, without the reason.

        raise ConnectRefused("no such token")

    If you give a reason, the `error_handler` of the `Mount` can choose another response.

    Attributes:
        reason: the reason, for the `error_handler`, telemetry and logs.
    """

    def __init__(self, reason: Any = None) -> None:
        super().__init__(reason)
        self.reason = reason
