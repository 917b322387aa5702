"""Which origins may open a connection."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.upgrade.origin import InvalidOrigin, OriginRule, origin_allowed, parse_rule


def allowed(rule: OriginRule, origin: str | None, *, host: str | None = "here.org:4000") -> bool:
    return origin_allowed(parse_rule(rule), origin, scheme="http", host=host)


@pytest.mark.parametrize("rule", [True, False, "conn", ["//here.org"], lambda origin: False])
def test_a_client_without_an_origin_is_let_in(rule: OriginRule) -> None:
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
def test_a_rule_that_names_no_host_is_refused_with_how_to_write_it(rule: Any) -> None:
    with pytest.raises(InvalidOrigin, match=r"write it like 'https://example\.org'"):
        parse_rule(rule)


@given(st.text(max_size=60), st.text(max_size=30))
def test_headers_of_any_kind_are_answered(origin: str, host: str) -> None:
    for rule in (True, "conn", ["//*.example.org"]):
        assert allowed(rule, origin, host=host) in (True, False)
