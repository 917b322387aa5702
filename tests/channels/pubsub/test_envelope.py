"""Envelopes: they carry every message unchanged, and foreign bytes are refused with the reason."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from channels import Binary, Broadcast, EncodeError
from channels.pubsub.adapter import Encoded, encode
from channels.pubsub.envelope import (
    Envelope,
    MalformedEnvelope,
    heartbeat,
    pack,
    unpack,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
EVENTS = TEXT.filter(lambda event: not event.startswith("phx_"))


def carried(message: Any, topic: str = "room:a") -> Any:
    envelope, encoded = unpack(pack("a", "i", 1, encode(topic, message)))
    assert (envelope.node, envelope.incarnation, envelope.number) == ("a", "i", 1)
    assert encoded is not None
    assert encoded.topic == topic
    return encoded.message()


@given(TEXT, EVENTS, st.dictionaries(TEXT, JSON, max_size=3), st.none() | TEXT)
def test_an_event_arrives_as_it_was_sent(
    topic: str, event: str, payload: Any, key: str | None
) -> None:
    message = Broadcast(topic, event, payload, key)
    assert carried(message, topic) == message


@given(JSON)
def test_a_message_for_processes_arrives_as_it_was_sent(message: Any) -> None:
    assert carried(message) == message


@given(st.binary(), st.none() | st.just("binary") | TEXT)
def test_raw_bytes_arrive_as_they_were_sent(data: bytes, key: str | None) -> None:
    message = Broadcast("room:a", "photo", Binary(data), key)
    assert carried(message) == message


def test_the_bytes_are_those_that_the_documentation_gives() -> None:
    event = encode("room:lobby", Broadcast("room:lobby", "new_msg", {"body": "hi"}))
    packed = b'[1,"a","i",17,"room:lobby","new_msg","json",null]\n{"body":"hi"}'
    assert pack("a", "i", 17, event) == packed
    photo = encode("room:lobby", Broadcast("room:lobby", "photo", Binary(b"\n\x00")))
    packed = b'[1,"a","i",18,"room:lobby","photo","binary",null]\n\n\x00'
    assert pack("a", "i", 18, photo) == packed
    here = encode("map", Broadcast("map", "position", {"x": 1}, "bus"))
    assert pack("a", "i", 18, here) == b'[1,"a","i",18,"map","position","json","bus"]\n{"x":1}'
    assert pack("a", "i", 19, encode("t", [1])) == b'[1,"a","i",19,"t",null,"json",null]\n[1]'
    assert heartbeat("a", "i", 19) == b'[1,"a","i",19,"",null,"heartbeat",null]'
    assert heartbeat("a", "i", 19, goodbye=True) == b'[1,"a","i",19,"",null,"goodbye",null]'


def test_a_heartbeat_arrives_as_it_was_sent() -> None:
    beat = Envelope(1, "a", "i", 19, "", None, "goodbye")
    assert unpack(heartbeat("a", "i", 19, goodbye=True)) == (beat, None)


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        (b'[1,"cron","",0,"t","e"]', b"{}", Broadcast("t", "e", {})),
        (b'[1,"cron","",0,"t","e","binary"]', b"{", Broadcast("t", "e", Binary(b"{"))),
        (b'[1,"cron","",0,"t",null]', b"7", 7),
    ],
)
def test_a_header_may_leave_out_defaults_at_its_end(
    header: bytes, body: bytes, message: Any
) -> None:
    _, encoded = unpack(header + b"\n" + body)
    assert encoded is not None
    assert encoded.message() == message


def test_the_frame_of_a_client_copies_the_payload_as_it_arrived() -> None:
    _, encoded = unpack(b'[1,"cron","",0,"room:a","new_msg"]\n{ "body" : 1e2 }')
    assert encoded is not None
    assert bytes(encoded.payload()) == b'{ "body" : 1e2 }'  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "header is malformed"),
        (b"hello", "header is malformed"),
        (b"\xff\xfe", "header is malformed"),
        (b"{}", "header is malformed"),
        (b"[]", "header is malformed"),
        (b'[2,"a","i",1,"t","e"]\n{}', r"header is malformed: .*2.*\$\[0\]"),
        (b'[1,"a","i",1,"t"]\n{}', "header is malformed"),
        (b'[1,"a","i",1,"t","e"]', "no body"),
        (b'[1,"a","i",1,"t","e","json","k"]', "no body"),
        (b'[1,"a","i",1,"t","e","yaml","k"]\n{}', "yaml"),
        (b'[1,"a","i",1,"t","e","json",7]\n{}', "header is malformed"),
        (b'[1,"a","i",1,"t","e","json","k",1]\n{}', "header is malformed"),
        (b'[1,"a","i",1,"t","e","json","%b"]\n{}' % (b"k" * 256), "length <= 255"),
        (b'[1,"a","i",1,"t",null,"json","k"]\n{}', "no event"),
        (b'[1,"a","i",1,"t",null,"binary"]\n{}', "no event"),
        (b'[1,"a","i",1,"t","e","json","k"]\n[]', "body is malformed"),
        (b'[1,"a","i",1,"t","phx_e","json","k"]\n{}', "belongs to the server"),
        (b'[1,"a","i","1","t","e"]\n{}', "header is malformed"),
        (b'[1,"a","i",-1,"t","e"]\n{}', "`int` >= 0"),
        (b'[1,"a","i",true,"t","e"]\n{}', "got `bool`"),
        (b'[1,"a","i",99999999999999999999,"t","e"]\n{}', "header is malformed"),
        (b'[1,null,"i",1,"t","e"]\n{}', "got `null`"),
        (b'[1,"a","i",1,"t","e"]\n[]', "body"),
        (b'[1,"a","i",1,"t","e"]\n{"a":}', "body"),
        (b'[1,"a","i",1,"t","e"]\n{"a":1} {}', "body"),
        (b'[1,"a","i",1,"t","e"]\n{"a":"\xff"}', "body"),
        (b'[1,"a","i",1,"t","e"]\n{"a":' + b"[" * 100_000, "body"),
        (b'[1,"a","i",1,"t",null]\n' + b"[" * 100_000, "body"),
        (b'[1,"a","i",1,"t",null]\n', "body"),
        (b'[1,"a","i",1,"t","phx_reply"]\n{}', "belongs to the server"),
        (b'[1,"a","i",1,"t","phx_reply","binary"]\n', "belongs to the server"),
        (b'[1,"a","",1,"",null,"heartbeat"]', "not a node"),
        (b"[%b]" % (b"9" * 1000), "header is malformed"),
        (b"[" * 200_000, "header is malformed"),
        (b'[1,"%b","i",1,"t","e"]\n{}' % (b"a" * 256), "length <= 255"),
        (b'[1,"a","%b",1,"","","goodbye"]' % (b"i" * 256), "length <= 255"),
    ],
)
def test_foreign_bytes_are_refused_with_the_reason(data: bytes, problem: str) -> None:
    with pytest.raises(MalformedEnvelope, match=problem):
        unpack(data)


@given(st.binary(max_size=200) | st.text().map(lambda text: b"[1," + text.encode(errors="replace")))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(MalformedEnvelope):
        unpack(data)


def test_an_envelope_beyond_the_limit_is_refused_unread() -> None:
    data = pack("a", "i", 1, encode("t", "x" * 100))
    unpack(data, max_bytes=len(data))
    with pytest.raises(MalformedEnvelope, match="the limit is"):
        unpack(data, max_bytes=len(data) - 1)


@define
class Point:
    x: int


def test_a_record_travels_as_an_object() -> None:
    assert carried(Broadcast("room:a", "moved", Point(3))).payload == {"x": 3}


@pytest.mark.parametrize(
    ("topic", "message", "problem"),
    [
        ("t", object(), "of type object"),
        ("t", Broadcast("t", "e", ["a", "list"]), "not a JSON object"),
        ("t", Broadcast("t", "e", {"deep": {"at": object()}}), r'payload\["deep"\]\["at"\]'),
        ("t", Broadcast("t", "e", {"a": "\ud800"}), "JSON cannot express"),
        ("\ud800", Broadcast("t", "e", {}), "its topic"),
        ("t", Broadcast("t", "\ud800", {}), "its event"),
        ("t", Broadcast("t", "e", {}, "\ud800"), "its key"),
        ("t", Broadcast("t", "e", {}, 7), "its key is 7"),  # type: ignore[arg-type]
        (5, 1, "its topic is 5"),
    ],
)
def test_a_message_that_cannot_travel_is_the_senders_error(
    topic: Any, message: Any, problem: str
) -> None:
    with pytest.raises(EncodeError, match=problem):
        encode(topic, message)


def test_an_encoded_message_shows_what_it_is_but_not_its_payload() -> None:
    assert repr(Encoded("room:a", "login", b"secret")) == "<6 bytes of 'login' for 'room:a'>"
