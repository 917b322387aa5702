"""Erlang terms: the bytes that Erlang writes, both ways, and refused bytes."""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

import pytest

from channels.tokens._erlang_terms import (
    MAX_BYTES,
    MAX_DEPTH,
    Atom,
    NotATerm,
    NoTermFor,
    decode,
    encode,
)

# Value, and the bytes after the version.
SAME_BOTH_WAYS: list[tuple[Any, bytes]] = [
    (0, b"a\0"),
    (255, b"a\xff"),
    (256, b"b\0\0\1\0"),
    (-1, b"b\xff\xff\xff\xff"),
    (2**31 - 1, b"b\x7f\xff\xff\xff"),
    (-(2**31), b"b\x80\0\0\0"),
    (2**31, b"n\4\0\0\0\0\x80"),
    (-(2**31) - 1, b"n\4\1\1\0\0\x80"),
    (256**255, b"o\0\0\1\0\0" + bytes(255) + b"\1"),
    (256**255 - 1, b"n\xff\0" + b"\xff" * 255),
    (1.5, b"F" + struct.pack(">d", 1.5)),
    (None, b"w\3nil"),
    (True, b"w\4true"),
    (False, b"w\5false"),
    (Atom("ok"), b"w\2ok"),
    (Atom(""), b"w\0"),
    (Atom("ä" * 127), b"w\xfe" + "ä".encode() * 127),
    (Atom("ä" * 128), b"v\1\0" + "ä".encode() * 128),
    ("", b"m\0\0\0\0"),
    ("Zoë", b"m\0\0\0\4Zo\xc3\xab"),
    (b"\xff", b"m\0\0\0\1\xff"),
    ([], b"j"),
    ([1, 2], b"k\0\2\1\2"),
    ([1, 256], b"l\0\0\0\2a\1b\0\0\1\0j"),
    ([True], b"l\0\0\0\1w\4truej"),
    ((), b"h\0"),
    (("a", 1), b"h\2m\0\0\0\1aa\1"),
    ((0,) * 256, b"i\0\0\1\0" + b"a\0" * 256),
    ({}, b"t\0\0\0\0"),
    ({"a": {}}, b"t\0\0\0\1m\0\0\0\1at\0\0\0\0"),
]


@pytest.mark.parametrize(("value", "data"), SAME_BOTH_WAYS)
def test_a_value_is_written_as_erlang_writes_it_and_read_again(value: Any, data: bytes) -> None:
    assert encode(value) == b"\x83" + data
    again = decode(b"\x83" + data)
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("data", [b"d\0\2ok", b"s\2ok", b"v\0\2ok", b"w\2ok"])
def test_the_atoms_of_older_peers_are_read(data: bytes) -> None:
    assert isinstance(decode(b"\x83" + data), Atom)


def test_old_atoms_are_latin_1() -> None:
    assert decode(b"\x83s\1\xe4") == Atom("ä")
    assert decode(b"\x83d\0\3nil") is None


def test_keys_are_in_erlangs_order_however_they_were_put_in() -> None:
    keys: list[Any] = [2, 1.0, None, Atom("z"), (), ("b",), (1, 2), "a", b"\xff"]
    forwards = encode(dict.fromkeys(keys, 0))
    assert encode(dict.fromkeys(reversed(keys), 0)) == forwards
    assert list(decode(forwards)) == keys


def test_an_atom_equals_its_text_and_differs_in_type() -> None:
    data = decode(encode({Atom("id"): 7}))
    assert data["id"] == 7
    assert repr(data) == "{Atom('id'): 7}"


def test_bytes_that_are_text_come_back_as_text() -> None:
    assert decode(encode(b"abc")) == "abc"


def test_a_compressed_term_is_read() -> None:
    plain = encode(["x" * 1000])[1:]
    packed = b"\x83P" + struct.pack(">I", len(plain)) + zlib.compress(plain)
    assert decode(packed) == ["x" * 1000]


PACKED = zlib.compress(b"a\1")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x83",
        b"a\1",
        b"\x82a\1",
        b"\x83a\1a\1",
        b"\x83b\0\0\0",
        b"\x83p\0\0\0\0",  # a function
        b"\x83q" + b"w\1a" * 2 + b"a\1",  # a function with a name
        b"\x83X" + b"w\1a" + bytes(12),  # a process
        b"\x83M\0\0\0\1\7\x80",  # 7 bits
        b"\x83l\0\0\0\1a\1a\2",  # an improper list
        b"\x83F" + struct.pack(">d", math.nan),
        b"\x83F" + struct.pack(">d", math.inf),
        b"\x83n\1\2\1",
        b"\x83w\1\xff",
        b"\x83v\1\0" + b"a" * 256,
        b"\x83t\0\0\0\1ja\1",  # a list as a key
        b"\x83t\0\0\0\1h\1t\0\0\0\0a\1",
        b"\x83t\0\0\0\2a\1a\1a\1a\2",  # a key twice
        b"\x83t\0\0\0\2w\1aa\1m\0\0\0\1aa\2",
        b"\x83l\xff\xff\xff\xff" + b"j" * 100,
        b"\x83i\xff\xff\xff\xff",
        b"\x83t\xff\xff\xff\xff",
        b"\x83m\xff\xff\xff\xff",
        b"\x83o\xff\xff\xff\xff\0",
        b"\x83" + b"h\1" * (MAX_DEPTH + 1) + b"a\1",
        b"\x83" + b"h\1" * 30_000 + b"a\1",
        b"\x83m" + struct.pack(">I", MAX_BYTES) + bytes(MAX_BYTES),
        b"\x83P",
        b"\x83P\0\0\0\2junk",
        b"\x83P\0\0\0\1" + PACKED,
        b"\x83P\0\0\0\3" + PACKED,
        b"\x83P\0\0\0\0" + PACKED,
        b"\x83P\0\0\0\2" + PACKED + b"x",
        b"\x83P\0\0\0\2" + PACKED[:-1],
        b"\x83P\xff\xff\xff\xff" + PACKED,
        b"\x83P\0\0\xff\xff" + zlib.compress(bytes(50_000_000), 9),
    ],
)
def test_invalid_and_forbidden_terms_are_refused(data: bytes) -> None:
    with pytest.raises(NotATerm):
        decode(data)


def test_reading_and_writing_have_the_same_maximum_depth() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = (value,)
    assert decode(encode(value)) == value
    with pytest.raises(NoTermFor, match="more than 64 levels"):
        encode((value,))


def test_a_list_that_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(NoTermFor, match="levels"):
        encode(circle)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (math.nan, "float nan"),
        (-math.inf, "float -inf"),
        ({1}, "a set"),
        (object(), "an object"),
        ("\ud800", "surrogate"),
        ({"a": 1, b"a": 2}, "as str and as bytes"),
        ({frozenset(): 1}, "a frozenset"),
        ("x" * (MAX_BYTES + 1), "more than 65536 bytes"),
        (["x" * 40_000] * 2, "more than 65536 bytes"),
        ([[]] * 70_000, "more than 65536 bytes"),
    ],
)
def test_the_error_for_a_value_without_a_term_names_its_type(value: Any, part: str) -> None:
    with pytest.raises(NoTermFor, match=part):
        encode(value)


def test_an_int_that_is_too_long_is_refused() -> None:
    with pytest.raises(NoTermFor, match="more than 65536 bytes"):
        encode(1 << 8 * (MAX_BYTES + 1))


@pytest.mark.parametrize("name", ["nil", "true", "false", "x" * 256])
def test_an_invalid_name_of_an_atom_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="atom"):
        Atom(name)
