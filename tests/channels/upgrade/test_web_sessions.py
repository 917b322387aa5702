"""Cookies, and the CSRF tokens without which a session is not for a page to have."""

from __future__ import annotations

import base64

import pytest

from channels.upgrade.web_sessions import csrf_matches, parse_cookies

TOKEN = base64.urlsafe_b64encode(b"eighteen bytes....").decode()


def masked(token: str, mask: str) -> str:
    """The form that Plug gives a token on a page."""
    mixed = bytes(one ^ other for one, other in zip(token.encode(), mask.encode(), strict=True))
    return base64.urlsafe_b64encode(mixed).decode() + mask


def test_cookies_are_read_the_first_of_a_name_counting() -> None:
    headers = (("cookie", 'a=1; b="two";c=x=y; novalue; =noname'), ("cookie", "a=9; d="))
    assert parse_cookies(headers) == {"a": "1", "b": "two", "c": "x=y", "d": ""}
    assert parse_cookies((("x-cookie", "a=1"),)) == {}


def test_a_token_matches_as_it_is_and_masked() -> None:
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


def test_false_asks_for_nothing_and_a_function_decides_itself() -> None:
    assert csrf_matches(False, {}, None)
    assert csrf_matches(lambda session, token: session["mine"] == token, {"mine": "t"}, "t")
    assert not csrf_matches(lambda session, token: True, {}, None), "a token must be there"
