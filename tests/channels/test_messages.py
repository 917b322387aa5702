"""The records between client and channel."""

from __future__ import annotations

import gc
from enum import StrEnum
from typing import Any

import msgspec
import pytest

from actors.errors import InvalidOption
from channels.messages import Binary, BinaryFrame, Broadcast, Message, PushReply


def test_a_message_has_the_shape_of_a_v2_frame() -> None:
    message = Message("1", 2, "room:a", "echo", {"x": [1]})
    frame = b'["1",2,"room:a","echo",{"x":[1]}]'
    assert msgspec.json.encode(message) == frame
    assert msgspec.json.decode(frame, type=Message) == message


def test_messages_are_immutable_and_untracked_by_the_garbage_collector() -> None:
    message = Message("1", "2", "room:a", "echo", {"x": [1]})
    with pytest.raises(AttributeError):
        message.topic = "room:b"  # type: ignore[misc]
    assert not gc.is_tracked(message)


def test_broadcasts_compare_by_value() -> None:
    assert Broadcast("t", "e", {"x": 1}) == Broadcast("t", "e", {"x": 1})
    assert Broadcast("t", "e", {"x": 1}) != Broadcast("t", "f", {"x": 1})


def test_binary_payloads_compare_by_their_bytes_and_to_nothing_else() -> None:
    assert Binary(b"\x01") == Binary(b"\x01")
    assert hash(Binary(b"\x01")) == hash(Binary(b"\x01"))
    assert Binary(b"\x01") != Binary(b"\x02")
    assert Binary(b"\x01") != b"\x01"
    assert repr(Binary(b"\x01")) == "Binary(b'\\x01')"


def test_binary_payloads_copy_any_buffer_to_bytes() -> None:
    assert Binary(bytearray(b"ab")).data == b"ab"
    assert Binary(memoryview(b"ab")).data == b"ab"
    with pytest.raises(TypeError, match="Binary got str, not bytes; encode it"):
        Binary("ab")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got int, not bytes"):
        Binary(5)  # type: ignore[arg-type]


def test_binary_payloads_are_not_silently_written_as_json() -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode({"nested": Binary(b"\x01")})


def test_a_binary_frame_is_the_bytes_that_it_holds() -> None:
    frame = BinaryFrame(b"\x00\x01")
    assert frame == b"\x00\x01"
    assert isinstance(frame, bytes)
    assert type(frame) is not bytes


@pytest.mark.parametrize("status", [3, None, {"n": 1}, b"ok"])
def test_a_status_that_is_not_text_raises_in_the_handler(status: Any) -> None:
    with pytest.raises(InvalidOption) as refused:
        PushReply({}, status)
    assert refused.value.option == "status"


def test_a_reply_with_its_arguments_swapped_raises_with_a_correction() -> None:
    backwards: Any = ("ok", {"total": 3})
    with pytest.raises(InvalidOption, match="after the payload"):
        PushReply(*backwards)


def test_any_string_is_a_valid_status() -> None:
    class Status(StrEnum):
        WEIRD = "weird"

    assert PushReply(status="weird") == PushReply({}, Status.WEIRD)
