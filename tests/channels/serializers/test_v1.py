"""The V1 wire format."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import DecodeError, EncodeError
from channels.messages import Binary, Message
from channels.serializers.v1 import V1

v1 = V1()


@pytest.mark.parametrize("binary", [False, True])
def test_text_and_binary_frames_decode_alike(binary: bool) -> None:
    data = b'{"topic":"room:a","event":"echo","payload":{"x":1},"ref":"2","extra":0}'
    assert v1.decode(data, binary=binary) == Message(None, "2", "room:a", "echo", {"x": 1})


def test_an_optional_join_ref_is_decoded() -> None:
    data = b'{"topic":"t","event":"e","payload":null,"ref":1,"join_ref":"7"}'
    assert v1.decode(data, binary=False) == Message("7", 1, "t", "e", None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b'["1","1","room:a","phx_join",{}]',
        b'{"topic":"room:a","event":"phx_join","payload":{}}',
        b'{"topic":"t","event":"e","payload":NaN,"ref":1}',
        b'{"topic":"t","event":"e","payload":"\\ud800","ref":1}',
        b'{"topic":"t","event":"e","payload":' + b"[" * 100_000,
        b"\x00\x01\x01\x06\x04" + b"12room:aecho\x01\x02",
        b"\xff",
    ],
)
def test_an_invalid_message_is_a_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        v1.decode(data, binary=False)
    assert caught.value.vsn == "1.0.0"


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_a_message_or_a_decode_error(data: bytes) -> None:
    try:
        v1.decode(data, binary=True)
    except DecodeError:
        pass


def test_no_frame_contains_a_join_ref() -> None:
    frames = [
        v1.encode_push("1", "room:a", "pushed", {"x": 1}),
        v1.encode_reply("1", "2", "room:a", "ok", {"x": 1}),
        v1.encode_broadcast("room:a", "new_msg", {"x": 1}),
    ]
    assert [json.loads(frame) for frame in frames] == [
        {"ref": None, "event": "pushed", "payload": {"x": 1}, "topic": "room:a"},
        {
            "ref": "2",
            "event": "phx_reply",
            "payload": {"status": "ok", "response": {"x": 1}},
            "topic": "room:a",
        },
        {"ref": None, "event": "new_msg", "payload": {"x": 1}, "topic": "room:a"},
    ]


@pytest.mark.parametrize("join_ref", [None, "7"])
def test_a_close_and_an_error_have_the_join_ref_as_ref(join_ref: str | None) -> None:
    assert json.loads(v1.encode_close(join_ref, "room:a")) == {
        "ref": join_ref,
        "event": "phx_close",
        "payload": {},
        "topic": "room:a",
    }
    assert json.loads(v1.encode_error(join_ref, "room:a")) == {
        "ref": join_ref,
        "event": "phx_error",
        "payload": {"reason": "channel_crash"},
        "topic": "room:a",
    }


@pytest.mark.parametrize("payload", [[1, 2], "text", None, 3])
def test_payloads_may_be_any_json_value(payload: Any) -> None:
    assert json.loads(v1.encode_push("1", "t", "e", payload))["payload"] == payload
    assert json.loads(v1.encode_broadcast("t", "e", payload))["payload"] == payload


@pytest.mark.parametrize("kind", ["push", "reply", "broadcast"])
def test_raw_bytes_are_refused_with_a_correction(kind: str) -> None:
    with pytest.raises(EncodeError, match="cannot express raw bytes"):
        if kind == "push":
            v1.encode_push("1", "t", "e", Binary(b"x"))
        elif kind == "reply":
            v1.encode_reply("1", "1", "t", "ok", Binary(b"x"))
        else:
            v1.encode_broadcast("t", "e", Binary(b"x"))


@pytest.mark.parametrize("payload", [{"x": object()}, {"x": "\ud800"}, {1: {2: object()}}])
def test_a_value_that_json_cannot_express_is_an_encode_error(payload: Any) -> None:
    with pytest.raises(EncodeError):
        v1.encode_push("1", "t", "e", payload)
    with pytest.raises(EncodeError):
        v1.encode_reply("1", "1", "t", "ok", payload)


def test_nan_and_infinity_become_null() -> None:
    assert b'"payload":{"x":null}' in v1.encode_push("1", "t", "e", {"x": math.nan})
