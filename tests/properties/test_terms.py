"""Properties of all values in a token, and of all bytes that claim to be one."""

from __future__ import annotations

import hmac
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from channels import Atom, TokenError, decrypt, encrypt, sign, verify
from channels.tokens._erlang_terms import NotATerm, decode, encode
from channels.tokens._signing import derive, encode64

SECRET = "a secret of more than twenty bytes"
ATOMS = st.text(max_size=5).filter(lambda name: name not in {"nil", "true", "false"}).map(Atom)
# Bytes that are text would come back as text.
RAW = st.binary(max_size=5).map(lambda data: data + b"\xff")
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**3000), 2**3000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | ATOMS
    | RAW
)
KEYS = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
VALUES = st.recursive(
    PLAIN | st.lists(st.integers(0, 255), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


def shape(value: Any) -> Any:
    """A value with the types that `==` does not look at."""
    if isinstance(value, list | tuple):
        return type(value), [shape(item) for item in value]
    if isinstance(value, dict):
        return {key: (shape(key), shape(item)) for key, item in value.items()}
    return type(value), repr(value)


@given(VALUES)
def test_every_value_survives_a_round_trip_through_a_term(value: Any) -> None:
    assert shape(decode(encode(value))) == shape(value)


@given(VALUES)
def test_every_value_survives_a_round_trip_through_a_token(value: Any) -> None:
    assert shape(verify(SECRET, "salt", sign(SECRET, "salt", value))) == shape(value)
    assert shape(decrypt(SECRET, "salt", encrypt(SECRET, "salt", value))) == shape(value)


@given(st.binary() | st.binary().map(lambda data: b"\x83" + data))
def test_bytes_are_a_term_or_refused(data: bytes) -> None:
    try:
        value = decode(data)
    except NotATerm:
        return
    assert shape(decode(encode(value))) == shape(value)


@given(VALUES, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4))
def test_a_damaged_term_is_a_term_or_refused(value: Any, changes: list[tuple[int, int]]) -> None:
    data = bytearray(encode(value))
    for place, byte in changes:
        data[place % len(data)] = byte
    try:
        decode(bytes(data))
    except NotATerm:
        pass


@given(st.binary())
def test_a_genuine_token_with_any_payload_gives_data_or_a_token_error(payload: bytes) -> None:
    text = f"SFMyNTY.{encode64(payload)}"
    key = derive(SECRET.encode(), b"salt", 1000, 32, "sha256")
    try:
        verify(SECRET, "salt", f"{text}.{encode64(hmac.digest(key, text.encode(), 'sha256'))}")
    except TokenError:
        pass


@given(
    st.text()
    | st.binary()
    | st.text("SFMyNTYXCP.=-_A", max_size=30)
    | st.lists(st.binary().map(encode64)).map(lambda parts: ".".join(["SFMyNTY", *parts]))
    | st.binary().map(lambda data: f"XCP.{encode64(data)}")
    | VALUES
)
@example("SFMyNTY.\ud800.A")
def test_any_invalid_token_raises_a_token_error(offered: Any) -> None:
    for read in (verify, decrypt):
        try:
            read(SECRET, "salt", offered)
        except TokenError:
            continue
        raise AssertionError("it was accepted")
