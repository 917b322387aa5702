r"""Envelopes: the bytes that carry a message from one node to the others.

*pure*. An envelope is one line of JSON, the header, followed by the body. The body is the JSON that clients get. The
node that publishes encodes the body once. Nodes that pass an envelope on do not decode it.

    [1,"a","0198c2f35a7e9d41c07b",17,"room:lobby","new_msg","json",null]\n{"body":"hello"}

The header is an array with the fields of `Envelope`. Fields at its end that have their default may be missing:

    [1, node, incarnation, number, topic, event]\nOBJECT            an event for a topic; OBJECT is a JSON object
    [1, node, incarnation, number, topic, event, "binary"]\nBYTES   the same with raw bytes as its payload
    [1, node, incarnation, number, topic, event, KIND, key]\n...    one of these two, as a value that newer ones replace
    [1, node, incarnation, number, topic, null]\nVALUE              a message for processes; VALUE is any JSON value
    [1, node, incarnation, number, "", null, "heartbeat"]           a heartbeat; "goodbye" if the node stops

* `number` counts the envelopes of that node on one lane, from 1. A heartbeat repeats the number of the last envelope. A
  receiver that misses a number has lost an envelope.
* A publisher that is not a node sends any name, `""` as its incarnation, and 0 as its number. Receivers count no losses
  for it.
* All text is UTF-8. The header contains no line break: JSON writes a line break in a string as `\n`.

A publisher in any language needs only the first form:

    PUBLISH ashtree:0 '[1,"cron","",0,"room:lobby","new_msg"]\n{"body":"hello"}'
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from actors.declared import declared
from actors.text import brief
from channels.errors import ChannelsError
from channels.messages import MAX_KEY
from channels.pubsub.adapter import Encoded
from channels.serializers.json_values import NOT_DECODABLE

__all__ = [
    "MAX_BYTES",
    "MAX_NAME",
    "VERSION",
    "Envelope",
    "MalformedEnvelope",
    "MessageTooLarge",
    "heartbeat",
    "pack",
    "unpack",
]

VERSION: Final = 1
"""The version of the format."""

MAX_BYTES: Final = 1024 * 1024
"""The largest envelope, in bytes, unless an adapter sets another limit."""

MAX_NAME: Final = 255
"""The longest name of a node, and the longest incarnation, in characters. Nodes remember thousands of names."""

_encode = msgspec.json.Encoder().encode
# These decoders check the whole text, but build no Python values.
_check_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_check_value = msgspec.json.Decoder(msgspec.Raw).decode

_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
_Key: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_KEY)]


@declared("a message from another node is no envelope: {problem}")
class MalformedEnvelope(ChannelsError):
    """Bytes from another node are not an envelope that this version understands.

    The receiver counts and drops them.

    Attributes:
        problem: the reason.
    """

    problem: str


@declared(
    "a message of {size} bytes on topic {topic!b} is too large for other nodes, whose limit is {limit}; "
    "send a reference to the data instead, or raise max_bytes of the adapter on every node"
)
class MessageTooLarge(ChannelsError):
    """A message is too large to travel to other nodes. No node gets it.

    Attributes:
        topic: the topic of the message.
        size: the size of its envelope, in bytes.
        limit: the largest size, in bytes.
    """

    topic: str
    size: int
    limit: int


# The garbage collector need not track an envelope, because it refers only to text.
class Envelope(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """The header of an envelope.

    Attributes:
        version: the version of the format.
        node: the name of the node that publishes.
        incarnation: the start of the node; `""` for a publisher that is not a node.
        number: the number of the envelope on this lane, or of the last envelope before a heartbeat. It is 0 if there
            was none, and always 0 from a publisher that is not a node.
        topic: the topic; `""` for a heartbeat.
        event: the event; None for a message for processes, and for a heartbeat.
        kind: the form of the body, or `heartbeat` or `goodbye`, which have no body.
        key: the name of the thing whose value this is; None for a message that must not be dropped.
    """

    version: Literal[1]
    node: _Name
    incarnation: _Name
    number: _Number
    topic: str
    event: str | None
    kind: Literal["json", "binary", "heartbeat", "goodbye"] = "json"
    key: _Key | None = None


_decode = msgspec.json.Decoder(Envelope).decode


def pack(node: str, incarnation: str, number: int, encoded: Encoded) -> bytes:
    r"""Return the envelope of a message.

    >>> pack("a", "i", 17, Encoded("room:lobby", "new_msg", b'{"body":"hello"}'))
    b'[1,"a","i",17,"room:lobby","new_msg","json",null]\n{"body":"hello"}'
    """
    kind: Literal["json", "binary"] = "binary" if encoded.binary else "json"
    header = Envelope(
        VERSION, node, incarnation, number, encoded.topic, encoded.event, kind, encoded.key
    )
    return b"%b\n%b" % (_encode(header), encoded.body)


def heartbeat(node: str, incarnation: str, number: int, *, goodbye: bool = False) -> bytes:
    """Return the envelope of a heartbeat, or of the last heartbeat of a node that stops.

    >>> heartbeat("a", "i", 17)
    b'[1,"a","i",17,"",null,"heartbeat",null]'
    """
    kind: Literal["heartbeat", "goodbye"] = "goodbye" if goodbye else "heartbeat"
    return _encode(Envelope(VERSION, node, incarnation, number, "", None, kind))


def unpack(data: bytes, *, max_bytes: int = MAX_BYTES) -> tuple[Envelope, Encoded | None]:
    r"""Read an envelope, and check it. The body stays as it is.

        >>> unpack(b'[1,"cron","",0,"room:lobby","new_msg"]\n{"body":"hello"}')[1]
        <16 bytes of 'new_msg' for 'room:lobby'>

    Args:
        data: the bytes that another node or any other program published.
        max_bytes: the largest envelope.

    Returns:
        The header, and the message. A heartbeat has no message.

    Raises:
        MalformedEnvelope: the envelope is too large, has another version, or does not have the form that this module
            describes. Or its event belongs to the protocol of clients (`phx_...`).
    """
    if len(data) > max_bytes:
        raise MalformedEnvelope(f"it has {len(data)} bytes, and the limit is {max_bytes}")
    line, newline, body = data.partition(b"\n")
    try:
        header = _decode(line)
    except NOT_DECODABLE as fault:
        raise MalformedEnvelope(f"its header is malformed: {fault}") from None
    topic, event, kind = header.topic, header.event, header.kind
    if kind in ("heartbeat", "goodbye"):
        if not header.incarnation:
            raise MalformedEnvelope("it is a heartbeat of a publisher that is not a node")
        return header, None
    if not newline:
        raise MalformedEnvelope("it has no line break, so it has no body")
    if event is None:
        if kind == "binary" or header.key is not None:
            raise MalformedEnvelope("it has raw bytes or a key, but no event")
        return header, Encoded(topic, None, _checked(body, _check_value))
    if event.startswith("phx_"):
        raise MalformedEnvelope(f"the event {brief(event)} belongs to the server itself")
    binary = kind == "binary"
    body = body if binary else _checked(body, _check_object)
    return header, Encoded(topic, event, body, binary=binary, key=header.key)


def _checked(body: bytes, check: Any) -> bytes:
    try:
        # The decoder skips values without checking their UTF-8. But a browser closes a connection that gets invalid
        # UTF-8.
        body.isascii() or body.decode()
        check(body)
    except NOT_DECODABLE as fault:
        raise MalformedEnvelope(f"its body is malformed: {fault}") from None
    return body
