"""The V2 wire format, text messages: JSON in, JSON out."""

from __future__ import annotations

import enum
import json
import math
from functools import partial
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import DecodeError, EncodeError
from channels.messages import Binary, Message
from channels.serializers.v2 import V2

v2 = V2()


def decode(text: str | bytes) -> Message:
    return v2.decode(text.encode() if isinstance(text, str) else text, binary=False)


def echo(payload: str) -> bytes:
    """The payload, through the decoder and back through the encoder."""
    return v2.encode_reply(None, None, "t", "ok", decode(f'[null,null,"t","e",{payload}]').payload)


def echoed(payload: str) -> str:
    before, _, after = echo(payload).partition(b'"response":')
    assert before == b'[null,null,"t","phx_reply",{"status":"ok",'
    return after.removesuffix(b"}]").decode()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Lone surrogates are no JSON text.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner),
    max_leaves=6,
)


# Text messages in.


def test_an_array_of_five_is_a_message() -> None:
    assert decode('["1","2","room:a","echo",{"x":1}]') == Message(
        "1", "2", "room:a", "echo", {"x": 1}
    )


def test_decoding_checks_only_the_number_of_elements() -> None:
    assert decode('[1,null,{"a":[]},5,"x"]') == Message(1, None, {"a": []}, 5, "x")
    assert type(decode("[1,1.0,true,null,0]").join_ref) is int
    assert type(decode("[1,1.0,true,null,0]").ref) is float
    assert decode("[1,1.0,true,null,0]").topic is True


def test_further_elements_are_ignored() -> None:
    assert decode('["1","1","t","e",{},"extra",[{}]]') == Message("1", "1", "t", "e", {})


def test_space_around_the_array_is_ignored() -> None:
    assert decode(' \t\r\n["1","1","t","e",{}] \n') == Message("1", "1", "t", "e", {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        "5",
        '"x"',
        "{}",
        '{"topic":"t","event":"e","payload":{},"ref":"1"}',
        "[]",
        '["1","1","t","e"]',
        '["1","1","t","e",{}',
        '["1","1","t","e",{}]]',
        '["1","1","t","e",{}] x',
        '["1","1","t","e",{},]',
        '{"not json',
        '["1","1","t","e",NaN]',
        '["1","1","t","e",Infinity]',
        '["1","1","t","e",-Infinity]',
        '["1","1","t","e",1e400]',
        '["1","1","t","e",01]',
        '["1","1","t","e",1.]',
        '["1","1","t","e",\'x\']',
        '["1","1","t","e",{a:1}]',
        '["1","1","t","e","\x01"]',
        '["1","1","t","e","\\x"]',
        '["1","1","t","e","\\ud800"]',
        '["1","1","t","e","\\udc00"]',
        '["1","1","t","e","\\ud800\\u0041"]',
        '["1","1","t","e",{"\\udfff":1}]',
        '["1","1","t","\\ud800",{}]',
        '["1","1","t","e",// comment\n{}]',
        "\ufeff[1,1,1,1,1]",
    ],
)
def test_invalid_json_and_other_shapes_are_refused(text: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(text)
    assert caught.value.vsn == "2.0.0"
    assert caught.value.problem


@pytest.mark.parametrize(
    "data",
    [
        b'["1","1","t","e","\xff"]',
        b'["1","1","t","e",{"\xff":1}]',
        b'["1","1","\xc0\x80","e",{}]',
        b'["1","1","t","e","\xed\xa0\x80"]',
        b'["1","1","t","e","\xf4\x90\x80\x80"]',
        b"\xff\xfe[\x00",
    ],
)
def test_text_that_is_not_utf8_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        '[1,1,1,1,{"a":' * 100_000,
        "[1,1,1,1," + "[" * 100_000 + "]" * 100_000 + "]",
        "[1,1,1,1,1," + "[" * 100_000 + "]" * 100_000 + "]",
    ],
)
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        decode(text)


def test_an_integer_beyond_pythons_limit_is_refused() -> None:
    assert decode("[1,1,1,1," + "9" * 4300 + "]").payload == int("9" * 4300)
    with pytest.raises(DecodeError):
        decode("[1,1,1,1," + "9" * 4301 + "]")


@given(st.binary(max_size=64), st.booleans())
def test_any_bytes_are_a_message_or_a_decode_error(data: bytes, binary: bool) -> None:
    try:
        assert isinstance(v2.decode(data, binary=binary), Message)
    except DecodeError:
        pass


@given(JSON, JSON, JSON, JSON, JSON)
def test_any_five_json_values_are_a_message(a: Any, b: Any, c: Any, d: Any, e: Any) -> None:
    text = json.dumps([a, b, c, d, e], ensure_ascii=False)
    assert decode(text) == Message(a, b, c, d, e)


# Payloads through and back.


@pytest.mark.parametrize(
    ("payload", "back"),
    [
        ("1.0", "1.0"),
        ("1e2", "100.0"),
        ("1.5e300", "1.5e300"),
        ("-0.0", "-0.0"),
        ("-0.0e5", "-0.0"),
        ("-0e5", "0.0"),
        ("-0E-5", "0.0"),
        ("-0", "0"),
        ("0.1", "0.1"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("-18446744073709551617", "-18446744073709551617"),
        ("9007199254740993", "9007199254740993"),
        ('"é \\u00e9 \\ud83d\\ude00 😀"', '"é é 😀 😀"'),
        ('"\\/ \\u2028 \\u007f \\u0001 \\" \\\\ <b>"', '"/ \u2028 \x7f \\u0001 \\" \\\\ <b>"'),
        ('{"z":1,"a":{"y":[],"b":{}}}', '{"z":1,"a":{"y":[],"b":{}}}'),
        ('{"a":1,"a":2}', '{"a":2}'),
        ("null", "null"),
    ],
)
def test_values_survive_a_round_trip(payload: str, back: str) -> None:
    assert echoed(payload) == back


@given(JSON)
def test_any_json_value_survives_a_round_trip(value: Any) -> None:
    assert json.loads(echoed(json.dumps(value))) == value


# Text messages out.


def test_a_push_has_a_join_ref_and_no_ref() -> None:
    assert v2.encode_push("1", "room:a", "pushed", {"x": 1}) == (
        b'["1",null,"room:a","pushed",{"x":1}]'
    )


def test_a_reply_echoes_both_refs_and_wraps_the_response() -> None:
    assert v2.encode_reply("1", "2", "room:a", "ok", {"x": 1}) == (
        b'["1","2","room:a","phx_reply",{"status":"ok","response":{"x":1}}]'
    )


def test_a_reply_may_contain_any_json_value_and_any_status() -> None:
    for response, text in (("hi", b'"hi"'), ([1, 2], b"[1,2]"), (None, b"null")):
        assert v2.encode_reply(1, None, "t", "weird", response) == (
            b'[1,null,"t","phx_reply",{"status":"weird","response":' + text + b"}]"
        )


def test_refs_and_topics_of_any_type_are_echoed() -> None:
    assert v2.encode_reply([1], {"a": 1.0}, None, "ok", {}) == (
        b'[[1],{"a":1.0},null,"phx_reply",{"status":"ok","response":{}}]'
    )


def test_a_broadcast_has_no_refs() -> None:
    assert v2.encode_broadcast("room:a", "new_msg", {"b": 1, "a": 2}) == (
        b'[null,null,"room:a","new_msg",{"b":1,"a":2}]'
    )


@pytest.mark.parametrize(("join_ref", "text"), [("1", b'"1"'), (None, b"null"), (7, b"7")])
def test_a_close_and_an_error_contain_the_join_ref_twice(join_ref: Any, text: bytes) -> None:
    refs = text + b"," + text
    assert v2.encode_close(join_ref, "t") == b"[" + refs + b',"t","phx_close",{}]'
    assert v2.encode_error(join_ref, "t") == (
        b"[" + refs + b',"t","phx_error",{"reason":"channel_crash"}]'
    )


@attrs.frozen
class Point:
    x: int
    y: int


def test_records_are_objects() -> None:
    assert v2.encode_push("1", "t", "e", Point(1, 2)) == b'["1",null,"t","e",{"x":1,"y":2}]'
    assert v2.encode_broadcast("t", "e", Point(1, 2)) == b'[null,null,"t","e",{"x":1,"y":2}]'


@pytest.mark.parametrize("text", [b"oops", b"[1]", b"", b"  ", b"7"])
def test_encoded_payloads_of_pushes_and_broadcasts_must_be_objects_too(text: bytes) -> None:
    for encode in (partial(v2.encode_push, "1"), v2.encode_broadcast):
        assert encode("room:a", "e", msgspec.Raw(b' {"a":1}')).endswith(b' {"a":1}]')
        with pytest.raises(EncodeError, match="the payload is of type Raw, not a JSON object"):
            encode("room:a", "e", msgspec.Raw(text))


@pytest.mark.parametrize("payload", [None, [], [1, 2], "hi", 5, b"raw", (), True])
def test_payloads_of_pushes_and_broadcasts_must_be_objects(payload: Any) -> None:
    with pytest.raises(EncodeError, match=r"'new_msg' on topic 'room:a'.*JSON object") as caught:
        v2.encode_push("1", "room:a", "new_msg", payload)
    assert caught.value.kind == "push"
    with pytest.raises(EncodeError, match=f"of type {type(payload).__name__}") as caught:
        v2.encode_broadcast("room:a", "new_msg", payload)
    assert (caught.value.kind, caught.value.topic) == ("broadcast", "room:a")
    assert caught.value.event == "new_msg"


def endless() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


class Color(enum.Enum):
    RED = object()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(object(), id="an object"),
        pytest.param(len, id="a function"),
        pytest.param(Color.RED, id="an enum of objects"),
        pytest.param({(1, 2): 3}, id="a tuple as key"),
        pytest.param("\ud800", id="a lone surrogate"),
        pytest.param({"\udfff": 1}, id="a lone surrogate in a key"),
        pytest.param(10**5000, id="an integer of 5000 digits"),
        pytest.param(endless(), id="a dict in itself"),
        pytest.param(Binary(b"x"), id="raw bytes inside JSON"),
    ],
)
def test_values_that_json_cannot_express_are_refused_in_every_frame(value: Any) -> None:
    payload = {"x": value}
    with pytest.raises(EncodeError) as caught:
        v2.encode_push("1", "t", "e", payload)
    assert caught.value.kind == "push"
    with pytest.raises(EncodeError) as caught:
        v2.encode_reply("1", "2", "t", "ok", payload)
    assert (caught.value.kind, caught.value.event) == ("reply", "ok")
    with pytest.raises(EncodeError) as caught:
        v2.encode_broadcast("t", "e", payload)
    assert caught.value.kind == "broadcast"


def test_a_join_ref_that_cannot_be_encoded_is_an_encode_error() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    for attempt in (v2.encode_close, v2.encode_error):
        with pytest.raises(EncodeError):
            attempt(nested, "t")
    with pytest.raises(EncodeError):
        v2.encode_reply(None, nested, "t", "ok", {})


def test_floats_that_json_cannot_express_are_written_as_null() -> None:
    assert v2.encode_push("1", "t", "e", {"x": [math.nan, math.inf]}) == (
        b'["1",null,"t","e",{"x":[null,null]}]'
    )
