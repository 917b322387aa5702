r"""Envelopes: the bytes that carry a message from one node to the others.

*pure*. An envelope is one line of JSON, the header, followed by the body. The body is the JSON that clients get. The
node that publishes encodes the body once. Nodes that pass an envelope on do not decode it.

    [1,"a","0198c2f35a7e9d41c07b",17,"room:lobby","new_msg"]\n{"body":"hello"}

The header is an array. Its first item is the version of this format, which is 1. The other items depend on the kind of
envelope:

    [1, node, incarnation, number, topic, event]\nOBJECT            an event for a topic; OBJECT is a JSON object
    [1, node, incarnation, number, topic, event, "binary"]\nBYTES   the same with raw bytes as its payload
    [1, node, incarnation, number, topic, event, FORM, key]\n...    one of these two, as a value that newer ones replace
                                                                   (FORM is "json" or "binary", and key is short text)
    [1, node, incarnation, number, topic, null]\nVALUE              a message for processes; VALUE is any JSON value
    [1, node, incarnation, number, FACTS]                           a heartbeat; FACTS is an object, see `heartbeat`

* `node` is the name of the node that publishes, and `incarnation` identifies one start of that node. Each has at most
  255 characters.
* `number` counts the envelopes of that node on one lane, from 1. A heartbeat repeats the number of the last envelope. A
  receiver that misses a number has lost an envelope.
* A publisher that is not a node sends any name, `""` as its incarnation, and 0 as its number. Receivers count no losses
  for it.
* All text is UTF-8. The header contains no line break: JSON writes a line break in a string as `\n`.

A publisher in any language needs only the first form:

    PUBLISH ashtree:0 '[1,"cron","",0,"room:lobby","new_msg"]\n{"body":"hello"}'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from attrs import frozen

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
    "Heartbeat",
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

_json = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
_Key: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_KEY)]
# The header of an event, and of a message for processes.
_decode_usual = msgspec.json.Decoder(
    tuple[Literal[1], _Name, _Name, _Number, str, str | None]
).decode
# The header of a binary event, such as the messages between the routers of entities.
_decode_binary = msgspec.json.Decoder(
    tuple[Literal[1], _Name, _Name, _Number, str, str, Literal["binary"]]
).decode
_decode_latest = msgspec.json.Decoder(
    tuple[Literal[1], _Name, _Name, _Number, str, str, Literal["json", "binary"], _Key]
).decode
_NO_KIND = "its header does not have the items of any kind of envelope"
# These decoders check the whole text, but build no Python values.
_check_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_check_value = msgspec.json.Decoder(msgspec.Raw).decode


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


# The garbage collector need not track an envelope: it refers only to values that existed before it.
class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A message from another node.

    Attributes:
        node: the name of the node.
        incarnation: the start of the node; `""` for a publisher that is not a node.
        number: the number of the envelope on this lane; always 0 from a publisher that is not a node.
        encoded: the message.
    """

    node: str
    incarnation: str
    number: int
    encoded: Encoded


@frozen
class Heartbeat:
    """The last number of a node on one lane.

    Attributes:
        node: the name of the node.
        incarnation: the start of the node.
        number: the number of the last envelope that it published; 0 if there was none.
        shards: the number of lanes that the topics of this node are spread over.
        goodbye: True if the node stops, and this is its last envelope.
    """

    node: str
    incarnation: str
    number: int
    shards: int = 1
    goodbye: bool = False


def pack(node: str, incarnation: str, number: int, encoded: Encoded) -> bytes:
    r"""Return the envelope of a message.

    >>> pack("a", "i", 17, Encoded("room:lobby", "new_msg", b'{"body":"hello"}'))
    b'[1,"a","i",17,"room:lobby","new_msg"]\n{"body":"hello"}'
    """
    header: tuple[Any, ...] = VERSION, node, incarnation, number, encoded.topic, encoded.event
    if encoded.key is not None:
        header = (*header, "binary" if encoded.binary else "json", encoded.key)
    elif encoded.binary:
        header = (*header, "binary")
    return b"%b\n%b" % (_json(header), encoded.body)


def heartbeat(beat: Heartbeat) -> bytes:
    """Return the envelope of a heartbeat, with the number of shards, and `goodbye` if the node stops.

    >>> heartbeat(Heartbeat("a", "i", 17))
    b'[1,"a","i",17,{"shards":1}]'
    """
    facts: dict[str, Any] = {"shards": beat.shards}
    if beat.goodbye:
        facts["goodbye"] = True
    return _json((VERSION, beat.node, beat.incarnation, beat.number, facts))


def unpack(data: bytes, *, max_bytes: int = MAX_BYTES) -> Envelope | Heartbeat:
    r"""Read an envelope, and check it. The body stays as it is.

        >>> unpack(b'[1,"cron","",0,"room:lobby","new_msg"]\n{"body":"hello"}').encoded
        <16 bytes of 'new_msg' for 'room:lobby'>

    Args:
        data: the bytes that another node or any other program published.
        max_bytes: the largest envelope.

    Raises:
        MalformedEnvelope: the envelope is too large, has another version, or does not have the form that this module
            describes. Or its event belongs to the protocol of clients (`phx_...`).
    """
    if len(data) > max_bytes:
        raise MalformedEnvelope(f"it has {len(data)} bytes, and the limit is {max_bytes}")
    line, newline, body = data.partition(b"\n")
    if newline and line.endswith(b'"binary"]'):
        try:
            _, node, incarnation, number, topic, name, _ = _decode_binary(line)
        except NOT_DECODABLE:
            pass  # an event with this name, or malformed
        else:
            if name.startswith("phx_"):
                raise MalformedEnvelope(_reserved(name))
            return Envelope(node, incarnation, number, Encoded(topic, name, body, binary=True))
    try:
        # Decoding with types checks nearly every message at once, in a tenth of the time that the patterns below need.
        _, node, incarnation, number, topic, event = _decode_usual(line)
    except NOT_DECODABLE:
        return _unpack_unusual(line, newline, body)
    if not newline:
        raise MalformedEnvelope(_NO_KIND)
    if event is None:
        return Envelope(
            node, incarnation, number, Encoded(topic, None, _checked(body, _check_value))
        )
    if event.startswith("phx_"):
        raise MalformedEnvelope(_reserved(event))
    return Envelope(node, incarnation, number, Encoded(topic, event, _checked(body, _check_object)))


def _unpack_unusual(line: bytes, newline: bytes, body: bytes) -> Envelope | Heartbeat:
    """Read a heartbeat, a binary event, or a value with a key. Raise MalformedEnvelope for any other header."""
    try:
        _, node, incarnation, number, topic, event, form, key = _decode_latest(line)
    except NOT_DECODABLE:
        pass  # another kind, or malformed
    else:
        if event.startswith("phx_"):
            raise MalformedEnvelope(_reserved(event))
        if not newline:
            raise MalformedEnvelope(_NO_KIND)
        binary = form == "binary"
        body = body if binary else _checked(body, _check_object)
        encoded = Encoded(topic, event, body, binary=binary, key=key)
        return Envelope(node, incarnation, number, encoded)
    try:
        header = _decode(line)
    except NOT_DECODABLE as fault:
        raise MalformedEnvelope(f"its header is not JSON: {fault}") from None
    match header:
        case [1, str(node), str(incarnation), int(number), str(topic), str(event), "binary"] if (
            newline
        ):
            _check_sender(node, incarnation, number)
            if event.startswith("phx_"):
                raise MalformedEnvelope(_reserved(event))
            return Envelope(node, incarnation, number, Encoded(topic, event, body, binary=True))
        case [1, str(node), str(incarnation), int(number), dict(facts)] if not newline:
            _check_sender(node, incarnation, number)
            return _heartbeat(node, incarnation, number, facts)
        case [1, str(node), str(incarnation), int(number), str(), str() | None]:
            _check_sender(node, incarnation, number)
            raise MalformedEnvelope(_NO_KIND)
        case [int(version), *_] if version != VERSION:
            raise MalformedEnvelope(
                f"it has version {brief(version)}, and this node reads {VERSION}"
            )
        case _:
            raise MalformedEnvelope(_NO_KIND)


def _reserved(event: str) -> str:
    return f"the event {brief(event)} belongs to the server itself"


def _check_sender(node: str, incarnation: str, number: int) -> None:
    if max(len(node), len(incarnation)) > MAX_NAME:
        raise MalformedEnvelope(f"its node or incarnation has more than {MAX_NAME} characters")
    # `True` is an int. Numbers grow by one for each message, so none is near 2**63.
    if isinstance(number, bool) or not 0 <= number < 2**63:
        raise MalformedEnvelope(f"its number is {brief(number)}")


def _checked(body: bytes, check: Any) -> bytes:
    try:
        # The decoder skips values without checking their UTF-8. But a browser closes a connection that gets invalid
        # UTF-8.
        body.isascii() or body.decode()
        check(body)
    except NOT_DECODABLE as fault:
        raise MalformedEnvelope(f"its body is malformed: {fault}") from None
    return body


def _heartbeat(node: str, incarnation: str, number: int, facts: Mapping[str, Any]) -> Heartbeat:
    shards = facts.get("shards")
    if (
        isinstance(shards, bool)
        or not isinstance(shards, int)
        or not 0 < shards < 2**63
        or not incarnation
    ):
        raise MalformedEnvelope("it is a heartbeat without the number of shards, or without a node")
    # Other facts belong to later versions.
    return Heartbeat(node, incarnation, number, shards, facts.get("goodbye") is True)
