"""The interface of serializers, and the negotiation of one by protocol version.

*pure*. A serializer decodes a WebSocket message into a `Message`, and encodes replies and pushes, without the framing
of a transport. A `Codec` combines a serializer with a framing, and encodes frames for an out-buffer.

Versions follow Semantic Versioning 2.0.0 (https://semver.org): three numbers without leading zeros. As in Phoenix, a
version satisfies `~> 2.0.0` if it has the same major and minor version and is not older. A pre-release is older than
its release, so `2.0.0-rc.1` does not satisfy `~> 2.0.0`, but `2.0.1-rc.1` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, Protocol

import msgspec
from attrs import field, frozen

from actors.errors import InvalidArgument
from channels.messages import Message
from channels.serializers.v1 import V1
from channels.serializers.v2 import V2

__all__ = [
    "DEFAULT_SERIALIZERS",
    "DEFAULT_VSN",
    "Codec",
    "Requirement",
    "Serializer",
    "Version",
    "negotiate",
    "parse_version",
]

DEFAULT_VSN: Final = "1.0.0"
"""The protocol version of a client that sends no `vsn`."""

# The maximum characters of a version. Without it, a client could make the server convert megabytes of digits.
_MAX_LENGTH = 128

_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRE = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"(?P<major>{_NUMBER})\.(?P<minor>{_NUMBER})\.(?P<patch>{_NUMBER})"
    rf"(?:-(?P<pre>{_PRE}(?:\.{_PRE})*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


class Version(msgspec.Struct, frozen=True, order=True):
    """A version, ordered by precedence, without build metadata.

    Attributes:
        rank: the sort key for pre-releases. A release sorts after its pre-releases. The parts of two pre-releases are
            compared one by one: numbers sort by value and before words, and words sort in ASCII order. If one
            pre-release is the beginning of the other, the longer one sorts last.
    """

    major: int
    minor: int
    patch: int
    rank: tuple[int, tuple[tuple[int, int, str], ...]] = (1, ())


def parse_version(text: str) -> Version | None:
    """Parse a version. Return None if it is invalid or longer than 128 characters.

    >>> parse_version("2.0.0-rc.1") < parse_version("2.0.0")
    True
    >>> parse_version("2.0") is None
    True
    """
    return None if len(text) > _MAX_LENGTH else _parse(text)


# A cache, because every client sends its version, and most clients send the same one.
@lru_cache(maxsize=64)
def _parse(text: str) -> Version | None:
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    numbers = int(found["major"]), int(found["minor"]), int(found["patch"])
    if found["pre"] is None:
        return Version(*numbers)
    parts = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in found["pre"].split(".")
    )
    return Version(*numbers, rank=(0, parts))


def _read_requirement(text: str) -> Version:
    operator, _, version = text.partition(" ")
    minimum = parse_version(version)
    if operator != "~>" or minimum is None:
        raise InvalidArgument(
            None,
            text,
            f"the serializer requirement {text!r} is invalid; "
            "write '~>' and three numbers, for example '~> 2.0.0'",
        )
    return minimum


def _is_no_json(data: bytes, binary: bool) -> bool:
    return False


@frozen
class Requirement:
    """The versions that a serializer supports.

        >>> Requirement("~> 2.0.0").includes(Version(2, 0, 5))
        True
        >>> Requirement("~> 2.0.0").includes(Version(2, 1, 0))
        False

    Attributes:
        minimum: the lowest version.

    Raises:
        InvalidArgument: the text is not `~>`, a space, and a version.
    """

    text: str
    minimum: Version = field(init=False)

    @minimum.default
    def _minimum(self) -> Version:
        return _read_requirement(self.text)

    def includes(self, version: Version) -> bool:
        """Return True if a version satisfies the requirement."""
        minimum = self.minimum
        return (
            version.major == minimum.major and version.minor == minimum.minor and version >= minimum
        )


class Serializer(Protocol):
    """A version of the wire protocol. Implementations must be stateless, because clients share them.

    Encoders return a `BinaryFrame` for a binary WebSocket message, and plain `bytes` (UTF-8) for a text message. They
    raise only `EncodeError`. The parameters are the fields of a Phoenix frame. A ref is any JSON value from the client.
    `topic`, `event` and `status` are strings. A payload is a JSON object or a `Binary`. A response is any JSON value or
    a `Binary`.

    A serializer may also have a method `is_json(data: bytes, binary: bool) -> bool`. If it returns True, the server
    counts the values of a long message before decoding, for `Mount(max_json_values=)`. Without the method the server
    does not count values, and `decode` must be fast for any message.

    A serializer may also have an attribute `copies_json`. If it is True, `encode_broadcast` must also accept an encoded
    payload, a `msgspec.Raw`. Without the attribute, PubSub decodes the payload of a broadcast from another node first.

    A serializer may also have an attribute `drops_malformed`. If it is True, the server drops a malformed message
    instead of closing the connection.
    """

    @property
    def vsn(self) -> str:
        """The version of the protocol, for logs and telemetry."""
        ...

    def decode(self, data: bytes, *, binary: bool) -> Message:
        """Decode one WebSocket message. Raise only `DecodeError`."""
        ...

    def encode_push(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        """Encode a message that a channel sends to its client."""
        ...

    def encode_reply(
        self, join_ref: Any, ref: Any, topic: Any, status: str, response: Any
    ) -> bytes:
        """Encode the reply to the message with this `ref`."""
        ...

    def encode_broadcast(self, topic: str, event: str, payload: Any) -> bytes | None:
        """Encode a message for every client of a topic. It has no refs, so all clients share the encoded message.

        Return None if clients of this version must not get the message.
        """
        ...

    def encode_close(self, join_ref: Any, topic: str) -> bytes:
        """Encode `phx_close`, the message about the normal end of a membership."""
        ...

    def encode_error(self, join_ref: Any, topic: str) -> bytes:
        """Encode `phx_error`, the message about the crash of a channel."""
        ...


class Codec:
    """A serializer with the framing of a transport.

        >>> from channels.serializers.v2 import V2
        >>> Codec(V2(), lambda data: data).close("1", "room:lobby")
        b'["1","1","room:lobby","phx_close",{}]'

    The methods call the encoders of `Serializer`, and raise the same errors. Make one codec for each pair of serializer
    and framing, not for each connection, because the fastlane encodes a broadcast once for each codec.

    Args:
        serializer: the wire format.
        frame: the function that turns an encoded message into the bytes to write. A binary message has the type
            `BinaryFrame`.
    """

    __slots__ = (
        "_encode_broadcast",
        "_encode_close",
        "_encode_error",
        "_encode_push",
        "_encode_reply",
        "copies_json",
        "decode",
        "drops_malformed",
        "frame",
        "is_json",
        "serializer",
    )

    def __init__(self, serializer: Serializer, frame: Callable[[bytes], bytes]) -> None:
        self.serializer = serializer
        self.frame = frame
        self.copies_json: bool = getattr(serializer, "copies_json", False)
        self.drops_malformed: bool = getattr(serializer, "drops_malformed", False)
        self.is_json: Callable[[bytes, bool], bool] = getattr(serializer, "is_json", _is_no_json)
        # Look up these methods once, because every frame needs one of them. Each connection also keeps `decode`.
        self.decode = serializer.decode
        self._encode_push = serializer.encode_push
        self._encode_reply = serializer.encode_reply
        self._encode_broadcast = serializer.encode_broadcast
        self._encode_close = serializer.encode_close
        self._encode_error = serializer.encode_error

    def __repr__(self) -> str:
        return f"<codec vsn={self.serializer.vsn}>"

    def push(self, join_ref: Any, topic: str, event: str, payload: Any) -> bytes:
        """Encode and frame a message that a channel sends to its client."""
        return self.frame(self._encode_push(join_ref, topic, event, payload))

    def reply(self, join_ref: Any, ref: Any, topic: Any, status: str, response: Any) -> bytes:
        """Encode and frame the reply to the message with this `ref`."""
        return self.frame(self._encode_reply(join_ref, ref, topic, status, response))

    def broadcast(self, topic: str, event: str, payload: Any) -> bytes | None:
        """Encode and frame a message for every client of a topic. Return None if clients must not get it."""
        data = self._encode_broadcast(topic, event, payload)
        return None if data is None else self.frame(data)

    def close(self, join_ref: Any, topic: str) -> bytes:
        """Encode and frame `phx_close`, for a channel that ended normally."""
        return self.frame(self._encode_close(join_ref, topic))

    def error(self, join_ref: Any, topic: str) -> bytes:
        """Encode and frame `phx_error`, for a channel that crashed."""
        return self.frame(self._encode_error(join_ref, topic))


def negotiate(
    vsn: object, serializers: Iterable[tuple[Serializer, Requirement]]
) -> Serializer | None:
    """Choose the serializer for a client's protocol version.

        >>> from channels.serializers.v2 import V2
        >>> v2 = V2()
        >>> negotiate("2.0.0", [(v2, Requirement("~> 2.0.0"))]) is v2
        True
        >>> negotiate("3.0.0", [(v2, Requirement("~> 2.0.0"))]) is None
        True

    Source: Phoenix.Socket 1.8.

    Args:
        vsn: the query parameter `vsn` of the client, or `DEFAULT_VSN`.
        serializers: the serializers on offer, in the order of preference.

    Returns:
        The first serializer whose requirement the version satisfies; None if no serializer matches, or if the version
        is invalid.
    """
    version = parse_version(vsn) if isinstance(vsn, str) else None
    if version is None:
        return None
    for serializer, requirement in serializers:
        if requirement.includes(version):
            return serializer
    return None


DEFAULT_SERIALIZERS: Final[tuple[tuple[Serializer, Requirement], ...]] = (
    (V1(), Requirement("~> 1.0.0")),
    (V2(), Requirement("~> 2.0.0")),
)
"""The default serializers of a socket, with their versions."""
