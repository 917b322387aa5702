"""The client's side of V2, and the URLs of sockets."""

from __future__ import annotations

from typing import Any

import pytest

from actors.errors import InvalidOption
from channels.client.wire import MalformedFrame, address_of, decode, encode, prepare, subprotocols
from channels.errors import EncodeError
from channels.messages import Binary, Message
from channels.serializers.v2 import V2
from channels.wire.handshake import agree
from channels.wire.urls import parse_query

SERVER = V2()


@pytest.mark.parametrize("payload", [{"body": "hé"}, [], "text", 0, False, {"a": [1.5, None]}])
def test_the_server_reads_the_text_that_the_client_writes(payload: Any) -> None:
    frame = encode("1", "2", "room:ä", "new", prepare("room:ä", "new", payload))
    assert isinstance(frame, str)
    message = SERVER.decode(frame.encode(), binary=False)
    assert message == Message("1", "2", "room:ä", "new", payload)


def test_no_payload_is_an_empty_object() -> None:
    assert encode("1", "2", "t", "e", prepare("t", "e", None)) == '["1","2","t","e",{}]'


def test_the_server_reads_the_binary_message_that_the_client_writes() -> None:
    frame = encode("1", "22", "room:ä", "nëw", Binary(b"\x00\xff"))
    assert isinstance(frame, bytes)
    message = SERVER.decode(frame, binary=True)
    assert message == Message("1", "22", "room:ä", "nëw", Binary(b"\x00\xff"))


def test_the_client_reads_what_the_server_writes() -> None:
    raw = Binary(b"\x01\x02")
    assert decode(SERVER.encode_push("1", "t", "e", raw)) == Message("1", None, "t", "e", raw)
    assert decode(SERVER.encode_broadcast("t", "e", raw)) == Message(None, None, "t", "e", raw)
    answer = {"status": "ok", "response": raw}
    assert decode(SERVER.encode_reply("1", "2", "t", "ok", raw)) == Message(
        "1", "2", "t", "phx_reply", answer
    )
    text = SERVER.encode_reply("1", "2", "t", "ok", {"n": 1}).decode()
    assert decode(text).payload == {"status": "ok", "response": {"n": 1}}


def test_sizes_are_bytes_and_not_characters() -> None:
    with pytest.raises(EncodeError, match="255 bytes"):
        encode("1", "2", "ä" * 128, "e", Binary(b""))
    frame = encode("1", "2", "ä" * 127, "e", Binary(b"x"))
    assert isinstance(frame, bytes)
    assert frame[3] == 254


@pytest.mark.parametrize("size", range(1, 22))
def test_a_cut_binary_message_is_malformed_or_has_a_shorter_payload(size: int) -> None:
    whole = SERVER.encode_reply("1", "2", "room:a", "ok", Binary(b"12345"))
    try:
        message = decode(bytes(whole[:size]))
    except MalformedFrame:
        assert size < len(whole) - 5
    else:
        assert message.payload["response"] == Binary(whole[len(whole) - 5 : size])


@pytest.mark.parametrize(
    ("url", "target", "authority", "port"),
    [
        ("ws://example.org/socket", "/socket/websocket?vsn=2.0.0", "example.org", 80),
        ("wss://example.org/socket/", "/socket/websocket?vsn=2.0.0", "example.org", 443),
        ("http://example.org:4000/a/b", "/a/b/websocket?vsn=2.0.0", "example.org:4000", 4000),
        ("https://[::1]:8443/s", "/s/websocket?vsn=2.0.0", "[::1]:8443", 8443),
        ("ws://example.org/s/websocket?x=1", "/s/websocket?x=1&vsn=2.0.0", "example.org", 80),
        ("ws://example.org/ä", "/%C3%A4/websocket?vsn=2.0.0", "example.org", 80),
        ("ws://example.org", "/websocket?vsn=2.0.0", "example.org", 80),
    ],
)
def test_the_address_of_a_socket(url: str, target: str, authority: str, port: int) -> None:
    address = address_of(url)
    assert (address.target, address.authority, address.port) == (target, authority, port)
    assert address.is_tls == (url.startswith(("wss", "https")))


def test_long_polling_has_its_own_path() -> None:
    assert (
        address_of("ws://h/socket/websocket", {}, "longpoll").target == "/socket/longpoll?vsn=2.0.0"
    )


def test_parameters_are_written_as_the_server_reads_them() -> None:
    params = {
        "token": "a b&c=ü",
        "n": 1,
        "ok": True,
        "none": None,
        "user": {"id": 7, "t": ["x", "y"]},
    }
    query = address_of("ws://h/s", params).target.partition("?")[2]
    assert parse_query(query) == {
        "token": "a b&c=ü",
        "n": "1",
        "ok": "true",
        "none": "",
        "user": {"id": "7", "t": ["x", "y"]},
        "vsn": "2.0.0",
    }


def test_the_shown_url_has_no_secrets() -> None:
    address = address_of("wss://ann:pw@example.org/s?key=1", {"token": "secret"})
    assert address.url == "wss://example.org/s/websocket"


@pytest.mark.parametrize(
    "url", ["/socket", "ftp://h/s", "ws://", "ws://h:x/s", "example.org", "", 7]
)
def test_an_unusable_url_is_refused(url: Any) -> None:
    with pytest.raises(InvalidOption) as refused:
        address_of(url)
    assert refused.value.option == "url"


@pytest.mark.parametrize("token", ["secret", "a?>~ü", "", "a.b-c_d"])
def test_a_token_becomes_a_subprotocol_that_the_server_reads(token: str) -> None:
    agreed = agree(", ".join(subprotocols(token)), None, auth_token=True)
    assert agreed is not None
    assert (agreed.name, agreed.token) == ("phoenix", token)


def test_without_a_token_there_are_no_subprotocols() -> None:
    assert subprotocols(None) == ()
