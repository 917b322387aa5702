"""What a wire format has to do, how a client chooses one, and how frames are made of both.

*pure*. A serializer turns the bytes of one WebSocket message into a `Message` and the answers into
bytes; it knows nothing of the framing around them. A `Codec` is a serializer and a framing
together: what it returns can be appended to an out-buffer as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from channels.messages import Message
from channels.serializers.versions import Requirement, parse_version

__all__ = ["Codec", "Serializer", "negotiate"]


class Serializer(Protocol):
    """One version of the wire protocol. Implementations are stateless and shared.

    Encoders return a `BinaryFrame` for what has to travel as a binary WebSocket message, plain
    `bytes` (UTF-8) for a text message, and raise `EncodeError`, and nothing else, for what cannot
    be sent. The parameters are those of a Phoenix frame: refs are what the client sent (any JSON
    value), `topic`, `event` and `status` are strings, a payload is a JSON object or a `Binary`, a
    response is any JSON value or a `Binary`.

    A serializer may have another method, `is_json(binary: bool) -> bool`. Where it returns True, the
    values of a long message are counted before it is decoded, as `Mount(max_json_values=)` says.
    Without the method nothing is counted, and `decode` has to be fast enough for any message.
    """

    @property
    def vsn(self) -> str:
        """The version of the protocol, for logs and telemetry."""
        ...

    def decode(self, data: bytes, *, binary: bool) -> Message:
        """Read one WebSocket message; raise `DecodeError`, and nothing else, if it is none."""
        ...

    def encode_push(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        """Write what a channel sends to its client unasked."""
        ...

    def encode_reply(
        self, join_ref: Any, ref: Any, topic: Any, status: str, response: Any
    ) -> bytes:
        """Write the answer to the message that carried `ref`."""
        ...

    def encode_broadcast(self, topic: str, event: str, payload: Any) -> bytes:
        """Write what goes to every client of a topic: no refs, so one encoding serves all."""
        ...

    def encode_close(self, join_ref: Any, topic: str) -> bytes:
        """Write that a membership is over, in good order."""
        ...

    def encode_error(self, join_ref: Any, topic: str) -> bytes:
        """Write that a membership is over because its channel crashed."""
        ...


class Codec:
    """A serializer and the framing of a transport, together.

        >>> from channels.serializers.v2 import V2
        >>> Codec(V2(), lambda data: data).close("1", "room:lobby")
        b'["1","1","room:lobby","phx_close",{}]'

    - `serializer`: the wire format;
    - `frame`: makes of an encoded message the bytes to write to the connection. It can tell what
      has to be a binary message by the type, `BinaryFrame`.

    An endpoint has one codec for each pair of serializer and framing, and broadcasts are encoded
    once per codec, by identity: so make codecs when the endpoint starts, not per connection.

    The methods are the encoders of `Serializer`, and raise what those raise.
    """

    __slots__ = (
        "_encode_broadcast",
        "_encode_close",
        "_encode_error",
        "_encode_push",
        "_encode_reply",
        "frame",
        "serializer",
    )

    def __init__(self, serializer: Serializer, frame: Callable[[bytes], bytes]) -> None:
        self.serializer = serializer
        self.frame = frame
        # Bound once, because every frame that leaves the server passes through one of these.
        self._encode_push = serializer.encode_push
        self._encode_reply = serializer.encode_reply
        self._encode_broadcast = serializer.encode_broadcast
        self._encode_close = serializer.encode_close
        self._encode_error = serializer.encode_error

    def __repr__(self) -> str:
        return f"<codec vsn={self.serializer.vsn}>"

    def push(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        """Make the frame of what a channel sends to its client unasked."""
        return self.frame(self._encode_push(join_ref, topic, event, payload))

    def reply(self, join_ref: Any, ref: Any, topic: Any, status: str, response: Any) -> bytes:
        """Make the frame that answers the message that carried `ref`."""
        return self.frame(self._encode_reply(join_ref, ref, topic, status, response))

    def broadcast(self, topic: str, event: str, payload: Any) -> bytes:
        """Make the frame that goes to every client of a topic."""
        return self.frame(self._encode_broadcast(topic, event, payload))

    def close(self, join_ref: Any, topic: str) -> bytes:
        """Make the frame that ends a membership in good order."""
        return self.frame(self._encode_close(join_ref, topic))

    def error(self, join_ref: Any, topic: str) -> bytes:
        """Make the frame that ends a membership whose channel crashed."""
        return self.frame(self._encode_error(join_ref, topic))


def negotiate(
    vsn: object, serializers: Iterable[tuple[Serializer, Requirement]]
) -> Serializer | None:
    """Choose the serializer for the version that a client asked for.

        >>> from channels.serializers.v2 import V2
        >>> v2 = V2()
        >>> negotiate("2.0.0", [(v2, Requirement("~> 2.0.0"))]) is v2
        True
        >>> negotiate("3.0.0", [(v2, Requirement("~> 2.0.0"))]) is None
        True

    - `vsn`: the query parameter of that name as it came (`DEFAULT_VSN` if it did not);
    - `serializers`: what is on offer. The first whose requirement the version satisfies is taken.

    Returns None, and the connection is to be refused with 403, if nothing fits or if the version
    is not a string that Semantic Versioning allows. Behaviour after Phoenix.Socket 1.8.
    """
    version = parse_version(vsn) if isinstance(vsn, str) else None
    if version is None:
        return None
    for serializer, requirement in serializers:
        if requirement.includes(version):
            return serializer
    return None
