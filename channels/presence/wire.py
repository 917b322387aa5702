"""The messages between nodes about presence, as JSON values.

*pure*. Deltas and clocks have these forms:

    clocks    {"a": [incarnation, clock], ...}
    delta     {"a": [incarnation, start, end, [entry, ...], [removed tag, ...]], ...}
    entry     [tag, "topic", "key", "owner", {meta}]

Entries and removed tags ascend. The messages contain them:

    ["heartbeat", incarnation, clocks, delta]             to all nodes
    ["request", "ref", clocks]                            to one node, which answers with transfer pages
    ["transfer", "ref", index, count, page]               to one node
    ["goodbye", incarnation, delta]                       to all nodes

The envelope around a message names the sender. A node checks each message in full before it uses the message:
`decode_message` and the other readers raise only `InvalidGossip`, for any JSON value.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from attrs import field, frozen

from actors.declared import declared
from channels.errors import ChannelsError
from channels.presence.clock import MAX_INTEGER, Clocks, Version
from channels.presence.delta import Delta, Entry, Segment

__all__ = [
    "MAX_NAME",
    "MAX_NODES",
    "MAX_PAGES",
    "MAX_SIZE",
    "MAX_TEXT",
    "Goodbye",
    "Heartbeat",
    "InvalidGossip",
    "Message",
    "Transfer",
    "TransferRequest",
    "decode_clocks",
    "decode_delta",
    "decode_message",
    "encode_clocks",
    "encode_delta",
    "encode_message",
    "entry_bytes",
]

MAX_NODES = 1_024
"""The most nodes in clocks and deltas."""

MAX_SIZE = 100_000
"""The most entries and removed tags of one message."""

MAX_PAGES = 10_000
"""The most pages of one transfer."""

MAX_TEXT = 4_096
"""The most characters of a topic or a key. Topics in binary frames are shorter than this."""

MAX_NAME = 255
"""The most characters of the name of a node."""


@declared(
    "a node sent an invalid presence message: {problem}; it runs another version, or is no node"
)
class InvalidGossip(ChannelsError):
    """Another node sent something that is not a message about presence.

    The error does not keep the message, which may be large and private.

    Attributes:
        problem: the mistake and its place in the message, as text.
    """

    problem: str


# The messages.


@frozen(kw_only=True)
class Heartbeat:
    """The sender runs. It sends this to all nodes at regular times, and with each delta.

    Attributes:
        incarnation: the run of the sender.
        clocks: the sender's version of each part, after the delta.
        delta: the sender's latest changes; empty if there are none.
    """

    incarnation: int
    clocks: Clocks
    delta: Delta = field(factory=dict)


@frozen(kw_only=True)
class TransferRequest:
    """The sender has missed changes.

    Attributes:
        ref: a new name for the transfer.
        clocks: the sender's version of each part.
    """

    ref: str
    clocks: Clocks


@frozen(kw_only=True)
class Transfer:
    """One page of the answer to a request; see `transfer.split`.

    Attributes:
        ref: the `ref` of the request.
        index: the number of the page, from 0.
        count: the number of pages.
        page: its content.
    """

    ref: str
    index: int
    count: int
    page: Delta


@frozen(kw_only=True)
class Goodbye:
    """The sender ends, and its entries leave with it.

    Attributes:
        incarnation: the run of the sender.
        delta: its last changes; empty if there are none.
    """

    incarnation: int
    delta: Delta = field(factory=dict)


Message: TypeAlias = Heartbeat | TransferRequest | Transfer | Goodbye
"""A message about presence from one node to others."""


# The forms of the messages. The names of these classes and fields appear in no message.

_Integer = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
_Ref = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Owner = Annotated[str, msgspec.Meta(max_length=255)]
_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
_Tags = Annotated[list[_Integer], msgspec.Meta(max_length=MAX_SIZE)]
_Entry = tuple[_Integer, _Text, _Text, _Owner, dict[str, Any]]
_Entries = Annotated[list[_Entry], msgspec.Meta(max_length=MAX_SIZE)]
_Segment = tuple[_Integer, _Integer, _Integer, _Entries, _Tags]
_Delta = Annotated[dict[_Name, _Segment], msgspec.Meta(max_length=MAX_NODES)]
_Clocks = Annotated[dict[_Name, tuple[_Integer, _Integer]], msgspec.Meta(max_length=MAX_NODES)]


class _Heartbeat(msgspec.Struct, array_like=True, forbid_unknown_fields=True, tag="heartbeat"):
    incarnation: _Integer
    clocks: _Clocks
    delta: _Delta


class _Request(msgspec.Struct, array_like=True, forbid_unknown_fields=True, tag="request"):
    ref: _Ref
    clocks: _Clocks


class _Transfer(msgspec.Struct, array_like=True, forbid_unknown_fields=True, tag="transfer"):
    ref: _Ref
    index: _Integer
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGES)]
    page: _Delta


class _Goodbye(msgspec.Struct, array_like=True, forbid_unknown_fields=True, tag="goodbye"):
    incarnation: _Integer
    delta: _Delta


# Writing.


def encode_clocks(clocks: Clocks) -> dict[str, list[int]]:
    """Return clocks as a JSON value.

    >>> encode_clocks({"a": Version(7, 3)})
    {'a': [7, 3]}
    """
    return {name: list(version) for name, version in clocks.items()}


def encode_delta(
    delta: Delta, *, owner_id: Callable[[Hashable], str] = str
) -> dict[str, list[Any]]:
    """Return a delta as a JSON value.

    Args:
        delta: the delta.
        owner_id: gives the text by which other nodes know an owner, up to 255 characters.
    """
    return {
        name: [
            segment.incarnation,
            segment.start,
            segment.end,
            [
                [tag, entry.topic, entry.key, owner_id(entry.owner), entry.meta]
                for tag, entry in segment.entries.items()
            ],
            sorted(segment.removed),
        ]
        for name, segment in delta.items()
    }


def encode_message(message: Message, *, owner_id: Callable[[Hashable], str] = str) -> list[Any]:
    """Return a message as a JSON value.

    >>> encode_message(TransferRequest(ref="r1", clocks={"a": Version(7, 3)}))
    ['request', 'r1', {'a': [7, 3]}]
    """
    if isinstance(message, Heartbeat):
        delta = encode_delta(message.delta, owner_id=owner_id)
        return ["heartbeat", message.incarnation, encode_clocks(message.clocks), delta]
    if isinstance(message, TransferRequest):
        return ["request", message.ref, encode_clocks(message.clocks)]
    if isinstance(message, Transfer):
        page = encode_delta(message.page, owner_id=owner_id)
        return ["transfer", message.ref, message.index, message.count, page]
    return ["goodbye", message.incarnation, encode_delta(message.delta, owner_id=owner_id)]


def entry_bytes(entry: Entry) -> int:
    """Return about how many bytes an entry takes in a message, for `transfer.split`.

    The tag and the owner count as 64 bytes.
    """
    return len(msgspec.json.encode([entry.topic, entry.key, entry.meta])) + 64


# Reading.


def decode_clocks(value: object) -> dict[str, Version]:
    """Read clocks from a JSON value.

    >>> decode_clocks({"a": [7, 3]})
    {'a': Version(incarnation=7, clock=3)}

    Raises:
        InvalidGossip: the value is something else.
    """
    return _clocks(_checked(value, _Clocks))


def decode_delta(value: object) -> dict[str, Segment]:
    """Read a delta from a JSON value.

    Raises:
        InvalidGossip: the value is something else, or larger than `MAX_SIZE` and `MAX_NODES` allow.
    """
    return _delta(_checked(value, _Delta))


def decode_message(value: object) -> Message:
    """Read a message from a JSON value.

    Raises:
        InvalidGossip: the value is something else, or larger than `MAX_SIZE`, `MAX_NODES` and `MAX_PAGES` allow.
    """
    read = _checked(value, _Heartbeat | _Request | _Transfer | _Goodbye)
    if isinstance(read, _Heartbeat):
        clocks, delta = _clocks(read.clocks), _delta(read.delta)
        return Heartbeat(incarnation=read.incarnation, clocks=clocks, delta=delta)
    if isinstance(read, _Request):
        return TransferRequest(ref=read.ref, clocks=_clocks(read.clocks))
    if isinstance(read, _Transfer):
        if read.index >= read.count:
            raise InvalidGossip(f"page {read.index} of a transfer of {read.count} pages")
        return Transfer(ref=read.ref, index=read.index, count=read.count, page=_delta(read.page))
    return Goodbye(incarnation=read.incarnation, delta=_delta(read.delta))


def _checked(value: object, form: Any) -> Any:
    try:
        return msgspec.convert(value, form)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidGossip(str(error)) from None


def _clocks(read: Mapping[str, tuple[int, int]]) -> dict[str, Version]:
    return {name: Version(*version) for name, version in read.items()}


def _delta(read: Mapping[str, tuple[int, int, int, list[Any], list[int]]]) -> dict[str, Segment]:
    size = sum(len(entries) + len(removed) for _, _, _, entries, removed in read.values())
    if size > MAX_SIZE:
        raise InvalidGossip(f"{size} entries and removed tags, more than {MAX_SIZE}")
    return {name: _segment(name, parts) for name, parts in read.items()}


def _segment(name: str, parts: tuple[int, int, int, list[Any], list[int]]) -> Segment:
    incarnation, start, end, listed, removed = parts
    if start > end:
        raise InvalidGossip(f"a segment from {start} to {end}")
    entries = {}
    last = start
    for tag, topic, key, owner, meta in listed:
        if not last < tag <= end:
            raise InvalidGossip(f"tag {tag} after {last} in a segment up to {end}")
        entries[tag] = Entry(name, topic, key, owner, meta)
        last = tag
    last = 0
    for tag in removed:
        if not last < tag <= start:
            raise InvalidGossip(f"removed tag {tag} after {last} in a segment from {start}")
        last = tag
    return Segment(
        incarnation=incarnation, start=start, end=end, entries=entries, removed=frozenset(removed)
    )
