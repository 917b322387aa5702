"""Protocol versions as clients ask for them, and the requirements that choose a serializer.

*pure*. Versions follow Semantic Versioning 2.0.0 (https://semver.org), which is strict: three
numbers, no leading zeros. Requirements are written `~> 2.0.0`, as Phoenix writes them: the same
major and minor version, and not older. A pre-release is older than its release, so `2.0.0-rc.1`
does not satisfy `~> 2.0.0`, while `2.0.1-rc.1` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from attrs import field, frozen

from channels.errors import InvalidRequirement
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
"""What a client means that does not say which version of the protocol it speaks."""

# The version comes from a URL and numbers have no upper bound: without a limit, a client could
# have the server convert megabytes of digits.
_MAX_LENGTH = 128

_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRE = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"(?P<major>{_NUMBER})\.(?P<minor>{_NUMBER})\.(?P<patch>{_NUMBER})"
    rf"(?:-(?P<pre>{_PRE}(?:\.{_PRE})*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


@frozen(order=True)
class Version:
    """A version, ordered by precedence; build metadata plays no part and is not kept.

    `rank` is what pre-releases are compared by: releases come after all of their pre-releases,
    numbers before words, numbers by value, words by their ASCII order, and the longer list last
    where all else is equal.
    """

    major: int
    minor: int
    patch: int
    rank: tuple[int, tuple[tuple[int, int, str], ...]] = (1, ())


def parse_version(text: str) -> Version | None:
    """Read a version; None if it is not one, or is longer than 128 characters.

    >>> parse_version("2.0.0-rc.1") < parse_version("2.0.0")
    True
    >>> parse_version("2.0") is None
    True
    """
    if len(text) > _MAX_LENGTH:
        return None
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
        raise InvalidRequirement(
            f"a serializer is offered for the version {text!r}, which is not a requirement: "
            "write three numbers behind '~>', for example '~> 2.0.0'",
            requirement=text,
        )
    return minimum


@frozen
class Requirement:
    """Which versions a serializer serves.

        >>> Requirement("~> 2.0.0").accepts("2.0.5")
        True
        >>> Requirement("~> 2.0.0").accepts("2.1.0")
        False

    `minimum` is the version in the text. Raises `InvalidRequirement` if the text is anything but
    `~>`, a space, and a version.
    """

    text: str
    minimum: Version = field(init=False)

    @minimum.default
    def _minimum(self) -> Version:
        return _read_requirement(self.text)

    def accepts(self, vsn: str) -> bool:
        """Tell whether a version, as a client wrote it, is one of those; nonsense is not."""
        version = parse_version(vsn)
        return version is not None and self.includes(version)

    def includes(self, version: Version) -> bool:
        """Tell whether a version is one of those."""
        minimum = self.minimum
        return (
            version.major == minimum.major and version.minor == minimum.minor and version >= minimum
        )


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


DEFAULT_SERIALIZERS: Final[tuple[tuple[Serializer, Requirement], ...]] = (
    (V1(), Requirement("~> 1.0.0")),
    (V2(), Requirement("~> 2.0.0")),
)
"""Serializers with the versions that they serve, in the order in which `negotiate` tries them."""
