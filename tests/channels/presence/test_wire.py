"""The messages between nodes as JSON values."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.presence import wire
from channels.presence.clock import MAX_INTEGER, Clocks, Version
from channels.presence.delta import Delta, Entry, Segment
from channels.presence.wire import (
    Goodbye,
    Heartbeat,
    InvalidGossip,
    Message,
    Transfer,
    TransferRequest,
    decode_clocks,
    decode_delta,
    decode_message,
    encode_clocks,
    encode_delta,
    encode_message,
    entry_bytes,
)

ANN = Entry("a", "room:1", "ann", 7, {"phx_ref": "x", "deep": [{"n": 1.5}]})
DELTA: Delta = {
    "a": Segment(incarnation=3, start=4, end=9, entries={6: ANN}, removed=frozenset({4, 1})),
    "b": Segment(incarnation=8, start=0, end=0, entries={}),
}
CLOCKS: Clocks = {"a": Version(3, 9), "b": Version(8, 0)}

ENCODED_DELTA = {
    "a": [3, 4, 9, [[6, "room:1", "ann", "7", ANN.meta]], [1, 4]],
    "b": [8, 0, 0, [], []],
}
ENCODED_CLOCKS = {"a": [3, 9], "b": [8, 0]}

MESSAGES: list[tuple[Message, list[Any]]] = [
    (
        Heartbeat(incarnation=3, clocks=CLOCKS, delta=DELTA),
        ["heartbeat", 3, ENCODED_CLOCKS, ENCODED_DELTA],
    ),
    (Heartbeat(incarnation=3, clocks=CLOCKS), ["heartbeat", 3, ENCODED_CLOCKS, {}]),
    (TransferRequest(ref="r", clocks=CLOCKS), ["request", "r", ENCODED_CLOCKS]),
    (
        Transfer(ref="r", index=1, count=2, page=DELTA),
        ["transfer", "r", 1, 2, ENCODED_DELTA],
    ),
    (Goodbye(incarnation=3, delta=DELTA), ["goodbye", 3, ENCODED_DELTA]),
    (Goodbye(incarnation=3), ["goodbye", 3, {}]),
]


def transported(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def test_clocks_keep_their_value() -> None:
    assert encode_clocks(CLOCKS) == ENCODED_CLOCKS
    assert decode_clocks(transported(ENCODED_CLOCKS)) == CLOCKS


def test_a_delta_keeps_its_value_but_owners_become_texts() -> None:
    assert encode_delta(DELTA) == ENCODED_DELTA
    read = decode_delta(transported(ENCODED_DELTA))
    assert read["b"] == DELTA["b"]
    part = read["a"]
    assert (part.incarnation, part.start, part.end, part.removed) == (3, 4, 9, frozenset({1, 4}))
    (tag,) = part.entries
    entry = part.entries[tag]
    assert (tag, entry.node, entry.topic, entry.key) == (6, "a", "room:1", "ann")
    assert (entry.owner, entry.meta) == ("7", ANN.meta)


def test_the_application_chooses_the_texts_of_owners() -> None:
    encoded = encode_delta(DELTA, owner_id=lambda owner: f"<{owner}>")
    assert encoded["a"][3][0][3] == "<7>"


@pytest.mark.parametrize(("message", "encoded"), MESSAGES)
def test_a_message_keeps_its_value(message: Message, encoded: list[Any]) -> None:
    assert encode_message(message) == encoded
    read = decode_message(transported(encoded))
    assert type(read) is type(message)
    assert encode_message(read) == encoded


INVALID_SEGMENTS: dict[str, Any] = {
    "no list": {},
    "too short": [1, 0, 0, []],
    "too long": [1, 0, 0, [], [], []],
    "negative": [1, -1, 0, [], []],
    "a number too high for others": [1, 0, MAX_INTEGER + 1, [], []],
    "a huge number": [1, 0, 10**400, [], []],
    "a fraction": [1, 0, 1.5, [], []],
    "a bool": [1, 0, True, [], []],
    "ends before it starts": [1, 3, 2, [], []],
    "a tag before the start": [1, 3, 5, [[3, "t", "k", "o", {}]], []],
    "a tag after the end": [1, 3, 5, [[6, "t", "k", "o", {}]], []],
    "a tag twice": [1, 3, 5, [[4, "t", "k", "o", {}], [4, "t", "k", "o", {}]], []],
    "tags that descend": [1, 3, 5, [[5, "t", "k", "o", {}], [4, "t", "k", "o", {}]], []],
    "a removed tag after the start": [1, 3, 5, [], [4]],
    "a removed tag of zero": [1, 3, 5, [], [0]],
    "removed tags that descend": [1, 3, 5, [], [2, 1]],
    "a removed tag twice": [1, 3, 5, [], [2, 2]],
    "a key that is a number": [1, 0, 1, [[1, "t", 7, "o", {}]], []],
    "a meta that is no object": [1, 0, 1, [[1, "t", "k", "o", []]], []],
    "a topic of a megabyte": [1, 0, 1, [[1, "t" * 1_000_000, "k", "o", {}]], []],
    "an owner of a megabyte": [1, 0, 1, [[1, "t", "k", "o" * 1_000_000, {}]], []],
    "an entry without a meta": [1, 0, 1, [[1, "t", "k", "o"]], []],
}


@pytest.mark.parametrize("segment", INVALID_SEGMENTS.values(), ids=INVALID_SEGMENTS)
def test_an_invalid_segment_is_refused(segment: Any) -> None:
    with pytest.raises(InvalidGossip) as caught:
        decode_delta({"a": segment})
    # The error does not carry the content.
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "value",
    [None, 3, "x", [], {"a": 1}, {"a": [1]}, {"a": [1, 2, 3]}, {"": [1, 2]}, {"x" * 256: [1, 2]}],
)
def test_invalid_clocks_are_refused(value: object) -> None:
    with pytest.raises(InvalidGossip):
        decode_clocks(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [],
        ["unknown", 1],
        [7, 1, {}, {}],
        ["heartbeat"],
        ["heartbeat", 1, {}, {}, 9],
        ["request", "", {}],
        ["request", "r" * 65, {}],
        ["transfer", "r", 2, 2, {}],
        ["transfer", "r", -1, 2, {}],
        ["transfer", "r", 0, 0, {}],
        ["transfer", "r", 0, wire.MAX_PAGES + 1, {}],
        ["goodbye", "1", {}],
    ],
    ids=repr,
)
def test_an_invalid_message_is_refused(value: object) -> None:
    with pytest.raises(InvalidGossip):
        decode_message(value)


def test_the_size_of_a_message_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"node {number}": [1, 1] for number in range(wire.MAX_NODES + 1)}
    with pytest.raises(InvalidGossip):
        decode_clocks(names)
    monkeypatch.setattr(wire, "MAX_SIZE", 5)
    half: list[Any] = [[tag, "t", "k", "o", {}] for tag in (8, 9)]
    assert decode_delta({"a": [1, 7, 9, half, [1]], "b": [1, 7, 9, half, []]})
    with pytest.raises(InvalidGossip, match="6 entries"):
        decode_delta({"a": [1, 7, 9, half, [1]], "b": [1, 7, 9, half, [1]]})


DAMAGE: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    7,
    2**53,
    10**30,
    1.5,
    float("nan"),
    "",
    "a",
    "x" * 5_000,
]
DAMAGE += [[], {}, [[]], [1, 2], [1] * 5, {"a": 1}, {"a": [1, 2]}, {"a": [1, 0, 0, [], []]}]
PLACES = st.lists(st.integers(0, 5), max_size=5)


@given(st.sampled_from(MESSAGES), PLACES, st.sampled_from(DAMAGE))
def test_a_damaged_message_is_refused_or_valid(
    message: tuple[Message, list[Any]], places: list[int], damage: Any
) -> None:
    """Any value in the place of any part of a message raises nothing but InvalidGossip."""
    value: Any = transported(message[1])
    parent: Any = [value]
    place: Any = 0
    for number in places:
        inner = parent[place]
        steps = list(inner) if isinstance(inner, dict) else list(range(len(inner or [])))
        if not steps:
            break
        parent, place = inner, steps[number % len(steps)]
        if not isinstance(parent[place], list | dict):
            break
    parent[place] = damage
    try:
        read = decode_message(value)
    except InvalidGossip:
        return
    again = encode_message(decode_message(transported(encode_message(read))))
    assert again == encode_message(read)


def test_the_estimate_of_the_bytes_of_an_entry_is_not_too_low() -> None:
    delta: Delta = {
        "a": Segment(incarnation=1, start=0, end=MAX_INTEGER, entries={MAX_INTEGER - 1: ANN})
    }
    (encoded,) = encode_delta(delta)["a"][3]
    assert len(msgspec.json.encode(encoded)) <= entry_bytes(ANN) < 200
