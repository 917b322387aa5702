"""The binary messages of supabase's version 2.0.0, and what its version 1.0.0 cannot express."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import DecodeError, EncodeError
from channels.messages import Binary, BinaryFrame
from channels.serializers.v2 import V2
from channels.supabase.serializers import PRIVATE, SupabaseV1, SupabaseV2, raw_broadcast
from tests.channels.supabase.clients import TOPIC, pushed, raw

V_1, V_2 = SupabaseV1(), SupabaseV2()


@pytest.mark.parametrize(
    ("payload", "decoded"), [({"x": [1, "é"]}, {"x": [1, "é"]}), (b"\x00\xff", Binary(b"\x00\xff"))]
)
def test_a_broadcast_of_a_client_has_refs_an_event_and_metadata(payload: Any, decoded: Any) -> None:
    data = pushed("größe", payload, metadata={"persist": True})
    message = V_2.decode(data, binary=True)
    assert (message.join_ref, message.ref, message.topic) == ("1", "7", TOPIC)
    assert message.event == "broadcast"
    assert message.payload == {
        "type": "broadcast",
        "event": "größe",
        "payload": decoded,
        "persist": True,
    }


def test_an_absent_ref_is_null() -> None:
    message = V_2.decode(pushed("a", {}, ref="", join_ref=""), binary=True)
    assert (message.join_ref, message.ref) == (None, None)


def test_metadata_cannot_replace_the_event_or_the_payload() -> None:
    data = pushed("a", {"x": 1}, metadata={"event": "b", "payload": 2, "type": "c"})
    assert V_2.decode(data, binary=True).payload == {
        "type": "broadcast",
        "event": "a",
        "payload": {"x": 1},
    }


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda data: b"\x03" + data))
def test_any_bytes_are_a_message_or_a_decode_error(data: bytes) -> None:
    for serializer in (V_1, V_2):
        try:
            serializer.decode(data, binary=True)
        except DecodeError:
            pass


@pytest.mark.parametrize("size", range(len(pushed("a", {}))))
def test_a_part_of_a_broadcast_is_an_error(size: int) -> None:
    with pytest.raises(DecodeError):
        V_2.decode(pushed("a", {})[:size], binary=True)


def test_a_long_broadcast_with_json_is_counted_and_a_raw_one_is_not() -> None:
    assert V_2.is_json(pushed("a", {}), True)
    assert not V_2.is_json(pushed("a", b"\x00"), True)
    assert V_2.is_json(b"[]", False)
    assert not V_2.is_json(b"\x03", True)


def test_a_raw_broadcast_has_the_topic_of_clients_and_skips_version_1() -> None:
    payload = raw_broadcast(f"{PRIVATE}{TOPIC}", "photo", b"\x00")
    frame = V_2.encode_broadcast(f"{PRIVATE}{TOPIC}", "broadcast", payload)
    assert (type(frame), frame) == (BinaryFrame, raw("photo", b"\x00").payload)
    assert V_1.encode_broadcast(f"{PRIVATE}{TOPIC}", "broadcast", payload) is None


def test_json_messages_are_those_of_phoenix_with_the_topic_of_clients() -> None:
    private = f"{PRIVATE}{TOPIC}"
    payload = {"type": "broadcast"}
    assert V_2.encode_broadcast(private, "broadcast", payload) == V2().encode_broadcast(
        TOPIC, "broadcast", payload
    )
    assert V_1.encode_broadcast(private, "broadcast", payload) == (
        b'{"topic":"realtime:lobby","event":"broadcast","payload":{"type":"broadcast"},"ref":null}'
    )
    assert V_1.encode_push("1", private, "system", {}) == (
        b'{"topic":"realtime:lobby","event":"system","payload":{},"ref":null}'
    )


@pytest.mark.parametrize("event", ["photo", "broadcast"])
def test_other_raw_bytes_are_an_error_of_the_application(event: str) -> None:
    with pytest.raises(EncodeError, match="raw_broadcast"):
        V_2.encode_broadcast(TOPIC, event, Binary(b"\x00"))


@pytest.mark.parametrize(("topic", "event"), [("é" * 128, "a"), ("a", "é" * 128)])
def test_a_name_of_more_than_255_bytes_does_not_fit_into_a_raw_broadcast(
    topic: str, event: str
) -> None:
    with pytest.raises(EncodeError, match="255 bytes"):
        raw_broadcast(topic, event, b"")


@pytest.mark.parametrize("reason", [None, {}, "unknown", 7])
def test_other_refusals_stay_as_they_are(reason: Any) -> None:
    response = {"reason": reason, "more": 1}
    assert V_2.encode_reply("1", "2", TOPIC, "error", response) == V2().encode_reply(
        "1", "2", TOPIC, "error", response
    )
