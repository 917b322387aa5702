"""The V2 wire format, binary messages: the compact layout, byte by byte."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import DecodeError, EncodeError
from channels.messages import Binary, BinaryFrame, Message
from channels.serializers.v2 import V2

v2 = V2()

# Lone surrogates have no UTF-8.
SHORT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def unpack(data: bytes) -> Message:
    return v2.decode(data, binary=True)


# Binary messages in.


def push(join_ref: str, ref: str, topic: str, event: str, data: bytes) -> bytes:
    strings = [text.encode() for text in (join_ref, ref, topic, event)]
    return bytes([0, *map(len, strings)]) + b"".join(strings) + data


def test_a_binary_push_holds_four_strings_and_the_data() -> None:
    data = bytes.fromhex("00010106043132726f6f6d3a616563686f0102ff")
    assert unpack(data) == Message("1", "2", "room:a", "echo", Binary(b"\x01\x02\xff"))
    assert data == push("1", "2", "room:a", "echo", b"\x01\x02\xff")


def test_an_empty_string_is_not_null_and_data_may_be_empty() -> None:
    assert unpack(push("", "", "t", "e", b"")) == Message("", "", "t", "e", Binary(b""))


def test_sizes_count_bytes_and_not_characters() -> None:
    message = unpack(push("é", "😀", "räum", "e" * 255, b"\xff"))
    assert message == Message("é", "😀", "räum", "e" * 255, Binary(b"\xff"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x00\x01",
        b"\x00\x00\x00\x00",
        bytes.fromhex("00010106f03132726f6f6d3a616563686f"),
        bytes.fromhex("01010106043132726f6f6d3a616563686f01"),
        bytes.fromhex("02010106043132726f6f6d3a616563686f01"),
        b'["1","2","room:a","echo",{}]',
        b"\x00\x01\x01\x01\x02" + b"12te",
    ],
)
def test_binary_messages_that_are_not_pushes_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        unpack(data)


@pytest.mark.parametrize("position", range(4))
def test_a_name_in_a_binary_message_has_to_be_utf8(position: int) -> None:
    strings = [b"1", b"2", b"t", b"e"]
    strings[position] = b"\xff"
    with pytest.raises(DecodeError, match="not UTF-8"):
        unpack(bytes([0, 1, 1, 1, 1]) + b"".join(strings))


@given(SHORT, SHORT, SHORT, SHORT, st.binary(max_size=40))
def test_any_binary_push_survives_a_round_trip(a: str, b: str, c: str, d: str, data: bytes) -> None:
    assert unpack(push(a, b, c, d, data)) == Message(a, b, c, d, Binary(data))


# Binary messages out.


def test_a_binary_reply_is_kind_1_with_four_sizes() -> None:
    frame = v2.encode_reply("1", "2", "room:a", "ok", Binary(b"\x01\x02\xff"))
    assert frame.hex() == "01010106023132726f6f6d3a616f6b0102ff"
    assert type(frame) is BinaryFrame


def test_a_binary_push_is_kind_0_with_three_sizes() -> None:
    frame = v2.encode_push("1", "room:a", "pushed", Binary(b"\x01\x02\xff"))
    assert frame.hex() == "0001060631726f6f6d3a617075736865640102ff"
    assert type(frame) is BinaryFrame


def test_a_binary_broadcast_is_kind_2_with_two_sizes() -> None:
    frame = v2.encode_broadcast("room:a", "new_msg", Binary(b"\x01\x02\xff"))
    assert frame.hex() == "020607726f6f6d3a616e65775f6d73670102ff"
    assert type(frame) is BinaryFrame


def test_text_messages_are_plain_bytes() -> None:
    assert type(v2.encode_push("1", "t", "e", {})) is bytes
    assert type(v2.encode_reply("1", "2", "t", "ok", {})) is bytes
    assert type(v2.encode_broadcast("t", "e", {})) is bytes


@pytest.mark.parametrize(
    ("ref", "written"),
    [(None, b""), (12, b"12"), (1.5, b"1.5"), (True, b"true"), ("é", b"\xc3\xa9")],
)
def test_refs_are_written_as_strings_in_binary_messages(ref: Any, written: bytes) -> None:
    assert v2.encode_reply(ref, "2", "t", "ok", Binary(b"!")) == (
        bytes((1, len(written), 1, 1, 2)) + written + b"2tok!"
    )


def test_names_of_255_bytes_fit_and_longer_ones_raise_with_the_field() -> None:
    assert v2.encode_push("1", "é" * 127 + "a", "e", Binary(b""))[2] == 255
    with pytest.raises(EncodeError, match=r"the topic does not fit .* 256 bytes of UTF-8"):
        v2.encode_push("1", "é" * 128, "e", Binary(b""))
    with pytest.raises(EncodeError, match="the event does not fit") as caught:
        v2.encode_broadcast("t", "e" * 256, Binary(b""))
    assert (caught.value.kind, caught.value.topic) == ("broadcast", "t")
    with pytest.raises(EncodeError, match="the status does not fit") as caught:
        v2.encode_reply("1", "2", "t", "s" * 256, Binary(b""))
    assert caught.value.event == "s" * 256
    with pytest.raises(EncodeError, match="the join_ref does not fit"):
        v2.encode_reply("1" * 256, "2", "t", "ok", Binary(b""))
    with pytest.raises(EncodeError, match="the ref does not fit"):
        v2.encode_reply("1", "2" * 256, "t", "ok", Binary(b""))


@pytest.mark.parametrize("ref", [[1], {"a": 1}, "\ud800"])
def test_refs_that_a_binary_frame_cannot_express_are_refused(ref: Any) -> None:
    with pytest.raises(EncodeError, match="the ref does not fit into a binary message"):
        v2.encode_reply("1", ref, "t", "ok", Binary(b""))
