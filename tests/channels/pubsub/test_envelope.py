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
    Heartbeat,
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
    envelope = unpack(pack("a", "i", 1, encode(topic, message)))
    assert isinstance(envelope, Envelope)
    assert (envelope.node, envelope.incarnation, envelope.number) == ("a", "i", 1)
    assert envelope.encoded.topic == topic
    return envelope.encoded.message()


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
    assert pack("a", "i", 17, event) == b'[1,"a","i",17,"room:lobby","new_msg"]\n{"body":"hi"}'
    photo = encode("room:lobby", Broadcast("room:lobby", "photo", Binary(b"\n\x00")))
    assert pack("a", "i", 18, photo) == b'[1,"a","i",18,"room:lobby","photo","binary"]\n\n\x00'
    here = encode("map", Broadcast("map", "position", {"x": 1}, "bus"))
    assert pack("a", "i", 18, here) == b'[1,"a","i",18,"map","position","json","bus"]\n{"x":1}'
    assert pack("a", "i", 19, encode("t", [1])) == b'[1,"a","i",19,"t",null]\n[1]'
    beat = Heartbeat("a", "i", 19, 4, goodbye=True)
    assert heartbeat(beat) == b'[1,"a","i",19,{"shards":4,"goodbye":true}]'
    assert unpack(heartbeat(beat)) == beat


def test_facts_of_later_versions_in_a_heartbeat_are_ignored() -> None:
    assert unpack(b'[1,"a","i",3,{"shards":1,"color":"red"}]') == Heartbeat("a", "i", 3)


def test_the_frame_of_a_client_copies_the_payload_as_it_arrived() -> None:
    spaced = b'[1,"cron","",0,"room:a","new_msg"]\n{ "body" : 1e2 }'
    envelope = unpack(spaced)
    assert isinstance(envelope, Envelope)
    assert bytes(envelope.encoded.payload()) == b'{ "body" : 1e2 }'  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"{}", "any kind"),
        (b"[]", "any kind"),
        (b'[2,"a","i",1,"t","e"]\n{}', "version 2"),
        (b'[1,"a","i",1,"t"]\n{}', "any kind"),
        (b'[1,"a","i",1,"t","e"]', "any kind"),
        (b'[1,"a","i",1,"t","e","json","k"]', "any kind"),
        (b'[1,"a","i",1,"t","e","yaml","k"]\n{}', "any kind"),
        (b'[1,"a","i",1,"t","e","json",7]\n{}', "any kind"),
        (b'[1,"a","i",1,"t","e","json","%b"]\n{}' % (b"k" * 256), "any kind"),
        (b'[1,"a","i",1,"t","e","json","k"]\n[]', "body is malformed"),
        (b'[1,"a","i",1,"t","phx_e","json","k"]\n{}', "belongs to the server"),
        (b'[1,"a","i","1","t","e"]\n{}', "any kind"),
        (b'[1,"a","i",-1,"t","e"]\n{}', "number is -1"),
        (b'[1,"a","i",true,"t","e"]\n{}', "number is True"),
        (b'[1,"a","i",99999999999999999999,"t","e"]\n{}', "number is"),
        (b'[1,null,"i",1,"t","e"]\n{}', "any kind"),
        (b'[1,"a","i",1,"t","e"]\n[]', "body"),
        (b'[1,"a","i",1,"t","e"]\n{"a":}', "body"),
        (b'[1,"a","i",1,"t","e"]\n{"a":1} {}', "body"),
        (b'[1,"a","i",1,"t","e"]\n{"a":"\xff"}', "body"),
        (b'[1,"a","i",1,"t","e"]\n{"a":' + b"[" * 100_000, "body"),
        (b'[1,"a","i",1,"t",null]\n' + b"[" * 100_000, "body"),
        (b'[1,"a","i",1,"t",null]\n', "body"),
        (b'[1,"a","i",1,"t","phx_reply"]\n{}', "belongs to the server"),
        (b'[1,"a","i",1,"t","phx_reply","binary"]\n', "belongs to the server"),
        (b'[1,"a","i",1,"t","e","text"]\n{}', "any kind"),
        (b'[1,"a","i",1,{}]', "shards"),
        (b'[1,"a","",1,{"shards":1}]', "heartbeat"),
        (b'[1,"a","i",1,{"shards":0}]', "shards"),
        (b'[1,"a","i",1,{"shards":true}]', "shards"),
        (b'[1,"a","i",1,{"shards":%b}]' % (b"9" * 1000), "shards"),
        (b"[%b]" % (b"9" * 1000), "version"),
        (b"[" * 200_000, "not JSON"),
        *[
            (b'[1,"%b","i",1,%b' % (b"a" * 256, rest), "more than 255 characters")
            for rest in (b'"t","e"]\n{}', b'"t",null]\n1', b'"t","e","binary"]\n', b'{"shards":1}]')
        ],
        (b'[1,"a","%b",1,"t","e"]\n{}' % (b"i" * 256), "more than 255 characters"),
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
