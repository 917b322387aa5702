"""Origins that may open a connection, and CSRF tokens that open a session."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import InvalidArgument
from channels.wire.cross_site import (
    OriginRule,
    csrf_matches,
    origin_allowed,
    parse_cookies,
    parse_rule,
)


def allowed(rule: OriginRule, origin: str | None, *, host: str | None = "here.org:4000") -> bool:
    return origin_allowed(parse_rule(rule), origin, scheme="http", host=host)


@pytest.mark.parametrize("rule", [True, False, "conn", ["//here.org"], lambda origin: False])
def test_a_client_without_an_origin_is_accepted(rule: OriginRule) -> None:
    assert allowed(rule, None)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://here.org:4000", True),
        ("https://here.org", True),
        ("http://HERE.org", True),
        ("http://there.org", False),
        ("http://here.org.evil.org", False),
        ("http://evil-here.org", False),
        ("null", False),
        ("file://", False),
        ("", False),
        ("http://[::1", False),
        ("http://here.org:port", False),
    ],
)
def test_by_default_the_host_of_the_page_is_that_of_the_request(
    origin: str, expected: bool
) -> None:
    assert allowed(True, origin) is expected


def test_a_request_without_a_host_matches_no_page() -> None:
    assert not allowed(True, "http://here.org", host=None)


def test_false_lets_every_page_in() -> None:
    assert allowed(False, "http://evil.org")
    assert allowed(False, "null")


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://here.org:4000", True),
        ("https://here.org:4000", False),
        ("http://here.org", False),
        ("http://here.org:4001", False),
    ],
)
def test_conn_compares_scheme_host_and_port(origin: str, expected: bool) -> None:
    assert allowed("conn", origin) is expected


@pytest.mark.parametrize(
    ("entry", "origin", "expected"),
    [
        ("https://example.org", "https://example.org", True),
        ("https://example.org", "https://example.org:443", True),
        ("https://example.org", "http://example.org", False),
        ("https://example.org", "https://example.org:8443", False),
        ("//example.org", "http://example.org:1234", True),
        ("//example.org:1234", "http://example.org:1234", True),
        ("//example.org:1234", "http://example.org", False),
        ("//*.example.org", "http://a.b.example.org", True),
        ("//*.example.org", "http://example.org", True),
        ("//*.example.org", "http://badexample.org", False),
        ("//*.example.org", "http://example.org.bad", False),
    ],
)
def test_a_list_names_origins_whose_parts_may_be_left_out(
    entry: str, origin: str, expected: bool
) -> None:
    assert allowed(["//other.org", entry], origin) is expected


def test_a_function_gets_the_parsed_origin() -> None:
    assert allowed(lambda origin: origin.hostname == "example.org", "http://example.org")
    assert not allowed(lambda origin: origin.hostname == "example.org", "http://other.org")


@pytest.mark.parametrize("rule", [["example.org"], ["https://"], [5], "example.org", 5, None])
def test_an_origin_without_a_host_raises_with_a_correction(rule: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"write it like 'https://example\.org'"):
        parse_rule(rule)


@given(st.text(max_size=60), st.text(max_size=30))
def test_origin_checks_do_not_raise_for_arbitrary_headers(origin: str, host: str) -> None:
    for rule in (True, "conn", ["//*.example.org"]):
        assert allowed(rule, origin, host=host) in (True, False)


TOKEN = base64.urlsafe_b64encode(b"eighteen bytes....").decode()


def masked(token: str, mask: str) -> str:
    """The form that Plug gives a token on a page."""
    mixed = bytes(one ^ other for one, other in zip(token.encode(), mask.encode(), strict=True))
    return base64.urlsafe_b64encode(mixed).decode() + mask


def test_the_first_of_two_cookies_with_one_name_counts() -> None:
    headers = (("cookie", 'a=1; b="two";c=x=y; novalue; =noname'), ("cookie", "a=9; d="))
    assert parse_cookies(headers) == {"a": "1", "b": "two", "c": "x=y", "d": ""}
    assert parse_cookies((("x-cookie", "a=1"),)) == {}


def test_a_csrf_token_matches_plain_and_masked() -> None:
    session = {"_csrf_token": TOKEN}
    assert csrf_matches(True, session, TOKEN)
    assert csrf_matches(True, session, masked(TOKEN, TOKEN[::-1]))
    assert not csrf_matches(True, session, masked(TOKEN[::-1], TOKEN[::-1]))


@pytest.mark.parametrize("token", [None, "", "x", 7, ["x"], TOKEN[:-1], "ä" * 56, "=" * 56])
def test_any_other_token_does_not_match(token: object) -> None:
    assert not csrf_matches(True, {"_csrf_token": TOKEN}, token)


@pytest.mark.parametrize("session", [{}, {"_csrf_token": None}, {"_csrf_token": ""}, "text"])
def test_a_session_without_a_token_matches_nothing(session: object) -> None:
    assert not csrf_matches(True, session, "")
    assert not csrf_matches(True, session, TOKEN)


def test_false_allows_any_token_and_a_function_decides() -> None:
    assert csrf_matches(False, {}, None)
    assert csrf_matches(lambda session, token: session["mine"] == token, {"mine": "t"}, "t")
    assert not csrf_matches(lambda session, token: True, {}, None), "a token must be there"
