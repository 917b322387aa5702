"""Upgrades and subprotocols: accepted for every client, and refused with the answers of Phoenix."""

from __future__ import annotations

import base64

import pytest
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

from channels.wire.handshake import (
    VERSION,
    Agreed,
    accept,
    agree,
    method_problem,
    response,
    upgrade_problem,
)
from channels.wire.request import Head, HeadParser

UPGRADE = {
    "Host": "localhost",
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def request(method: str = "GET", version: str = "1.1", **changes: str | None) -> Head:
    headers = UPGRADE | {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    text = "\r\n".join([f"{method} /socket/websocket HTTP/{version}", *lines, "", ""])
    head = HeadParser().feed(text.encode())
    assert isinstance(head, Head), head
    return head


def test_the_example_of_the_rfc_is_accepted_with_its_answer() -> None:
    head = request()
    assert method_problem(head) is None
    assert upgrade_problem(head) is None
    answer = accept(head)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("subprotocol", [None, "phoenix"])
def test_a_client_library_accepts_the_answer(subprotocol: str | None) -> None:
    client = ClientProtocol(
        parse_uri("ws://localhost/socket/websocket"),
        subprotocols=["phoenix"],  # type: ignore[list-item]
    )
    client.send_request(client.connect())
    head = HeadParser().feed(b"".join(client.data_to_send()))
    assert isinstance(head, Head)
    assert upgrade_problem(head) is None
    client.receive_data(accept(head, subprotocol=subprotocol))
    assert client.state is State.OPEN
    assert client.subprotocol == subprotocol


def test_headers_of_an_upgrade_are_case_insensitive() -> None:
    head = request(Connection="UPGRADE", Upgrade="WebSocket")
    assert upgrade_problem(head) is None


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (request(Connection=None), "'connection' header must contain 'upgrade', got []"),
        (
            request(Connection="close"),
            "'connection' header must contain 'upgrade', got ['close']",
        ),
        (request(Upgrade=None), "'upgrade' header must contain 'websocket', got []"),
        (request(Upgrade="h2c"), "'upgrade' header must contain 'websocket', got ['h2c']"),
        (
            request(Sec_WebSocket_Version="8"),
            "'sec-websocket-version' header must be '13', got '8'",
        ),
        (
            request(Sec_WebSocket_Version=None),
            "'sec-websocket-version' header must be '13', got None",
        ),
        (request(Sec_WebSocket_Key=None), "'sec-websocket-key' header must be 16 bytes in base64"),
        (request(Sec_WebSocket_Key="x"), "'sec-websocket-key' header must be 16 bytes in base64"),
        (request(Sec_WebSocket_Key="é"), "'sec-websocket-key' header must be 16 bytes in base64"),
        (
            request(Sec_WebSocket_Key="dGhlIHNhbXBsZQ=="),
            "'sec-websocket-key' header must be 16 bytes in base64",
        ),
        (request(Content_Length="5"), "an upgrade must not have a body"),
        (request(Transfer_Encoding="chunked"), "an upgrade must not have a body"),
        (request(version="1.0"), "the version of an upgrade must be HTTP/1.1, got HTTP/1.0"),
    ],
)
def test_an_invalid_upgrade_gets_400_with_the_reason(head: Head, problem: str) -> None:
    assert upgrade_problem(head) == problem


def test_an_empty_body_is_no_body() -> None:
    assert upgrade_problem(request(Content_Length="0")) is None


def test_only_get_opens_a_websocket() -> None:
    assert method_problem(request("POST")) == "the method of an upgrade must be GET, got POST"


def test_an_answer_has_its_reason_as_text_and_the_headers_that_it_is_given() -> None:
    answer = response(400, b"because", headers=(("sec-websocket-version", VERSION),))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: text/plain; charset=utf-8" in head
    assert b"sec-websocket-version: 13" in head
    assert b"content-length: 7" in head
    assert body == b"because"


@pytest.mark.parametrize("status", [400, 403, 414, 431, 503])
def test_a_response_without_a_body_has_content_length_0(status: int) -> None:
    head, separator, body = response(status).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-length: 0\r\nconnection: close" in head
    assert b"content-type" not in head
    assert (separator, body) == (b"\r\n\r\n", b"")


def bearer(token: str) -> str:
    """Return the subprotocol that phoenix.js offers for a token."""
    return f"base64url.bearer.phx.{base64.b64encode(token.encode()).decode().rstrip('=')}"


def test_subprotocols_are_ignored_unless_the_mount_has_some() -> None:
    assert agree("a, b", None, auth_token=False) == Agreed()


def test_the_first_configured_subprotocol_that_the_client_offers_wins() -> None:
    assert agree("c,b , a", ["x", "a", "b"], auth_token=False) == Agreed(name="a")


def test_an_offer_without_a_common_subprotocol_is_refused_and_no_offer_is_accepted() -> None:
    assert agree("A", ["a"], auth_token=False) is None, "the comparison of names is exact"
    assert agree(None, ["a"], auth_token=False) == Agreed()
    assert agree(" , ", ["a"], auth_token=False) == Agreed()


@pytest.mark.parametrize("token", ["secret", "ünïcödé", "a", "ab", "abc", "?>~", ""])
def test_with_a_token_the_server_answers_phoenix(token: str) -> None:
    assert agree(f"phoenix, {bearer(token)}", None, auth_token=True) == Agreed(
        name="phoenix", token=token
    )


def test_a_token_in_url_safe_base64_is_accepted() -> None:
    encoded = base64.urlsafe_b64encode(b"?>~?>~").decode()
    assert "_" in encoded or "-" in encoded
    agreed = agree(f"base64url.bearer.phx.{encoded}", None, auth_token=True)
    assert agreed == Agreed(token="?>~?>~")


def test_a_token_without_subprotocols_gets_no_subprotocol() -> None:
    assert agree(bearer("x"), ["a"], auth_token=True) == Agreed(token="x")


def test_the_subprotocol_phoenix_is_preferred() -> None:
    agreed = agree(f"a, phoenix, {bearer('x')}", ["a"], auth_token=True)
    assert agreed == Agreed(name="phoenix", token="x")


def test_two_tokens_are_ignored() -> None:
    assert agree(f"{bearer('x')}, {bearer('y')}", None, auth_token=True) is None
    assert agree(f"phoenix, {bearer('x')}, {bearer('y')}", None, auth_token=True) == Agreed(
        name="phoenix"
    )


@pytest.mark.parametrize("text", ["*", "a", "/w"])
def test_a_token_that_is_not_base64_or_not_utf8_is_refused(text: str) -> None:
    assert agree(f"phoenix, base64url.bearer.phx.{text}", None, auth_token=True) is None


def test_a_token_is_ignored_unless_the_mount_enables_it() -> None:
    assert agree(f"phoenix, {bearer('x')}", ["phoenix"], auth_token=False) == Agreed(name="phoenix")


def test_a_token_does_not_show_in_the_repr() -> None:
    assert "secret" not in repr(Agreed(token="secret"))
