"""Query strings become parameters as Phoenix nests them, or are refused as malformed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.upgrade.params import InvalidQuery, parse_query

CASES: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("&&", {}),
    ("a=1", {"a": "1"}),
    ("a=1&b=2", {"a": "1", "b": "2"}),
    ("a=1&a=2", {"a": "2"}),
    ("a", {"a": ""}),
    ("a=", {"a": ""}),
    ("a=b=c", {"a": "b=c"}),
    ("=1", {"": "1"}),
    ("a=1;b=2", {"a": "1;b=2"}),
    ("a=x+y%20z", {"a": "x y z"}),
    ("a=%C3%A9", {"a": "é"}),
    ("a%5Bb%5D=1", {"a": {"b": "1"}}),
    ("a[]=1&a[]=2", {"a": ["1", "2"]}),
    ("a[b]=1", {"a": {"b": "1"}}),
    ("a[b]=1&a[c]=2", {"a": {"b": "1", "c": "2"}}),
    ("a[b][c][]=1&a[b][c][]=2", {"a": {"b": {"c": ["1", "2"]}}}),
    # Phoenix makes a list of maps of this one.
    ("a[][b]=1", {"a": {"": {"b": "1"}}}),
    ("a=1&a[b]=2", {"a": {"b": "2"}}),
    ("a[b]=2&a=1", {"a": "1"}),
    ("a[]=1&a[b]=2", {"a": {"b": "2"}}),
    ("a[b]=2&a[]=1", {"a": ["1"]}),
    ("a[=1", {"a[": "1"}),
    ("a]=1", {"a]": "1"}),
    ("a[b=1", {"a[b": "1"}),
    ("a[b]c=1", {"a[b]c": "1"}),
    ("a[[b]]=1", {"a[[b]]": "1"}),
    ("vsn[]=2.0.0", {"vsn": ["2.0.0"]}),
]


@pytest.mark.parametrize(("query", "params"), CASES)
def test_a_query_is_nested_as_phoenix_does(query: str, params: dict[str, Any]) -> None:
    assert parse_query(query) == params


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("a=%FF", "not UTF-8"),
        ("%c3=1", "not UTF-8"),
        ("a=1&b[%e2%82]=", "not UTF-8"),
        ("a=%zz", "percent sign"),
        ("a=%", "percent sign"),
        ("a%2=1", "percent sign"),
    ],
)
def test_a_query_that_cannot_be_decoded_is_refused(query: str, problem: str) -> None:
    with pytest.raises(InvalidQuery, match=problem) as caught:
        parse_query(query)
    assert query not in str(caught.value)


def test_fields_beyond_the_first_thousand_are_left_out() -> None:
    query = "&".join(f"a{n}={n}" for n in range(5000))
    assert list(parse_query(query).values()) == [str(n) for n in range(1000)]


def test_names_that_nest_deeper_than_32_are_left_out() -> None:
    assert parse_query("a" + "[b]" * 32 + "=1&c=2") == {"c": "2"}
    assert parse_query("a" + "[b]" * 31 + "=1")["a"] != "1"


def test_a_name_of_a_whole_request_is_read_in_no_time() -> None:
    for name in ("[" * 16_000, "a" + "[]" * 8_000, "a" + "[b]" * 5_000, "]" * 16_000):
        assert isinstance(parse_query(f"{name}=1"), dict)


@given(st.lists(st.text(alphabet="ab[]=&%+ \0é;", max_size=20), max_size=8).map("&".join))
def test_anything_gives_strings_lists_and_dicts_or_is_refused(query: str) -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                assert isinstance(key, str)
                check(inner)
        elif isinstance(value, list):
            assert all(isinstance(each, str) for each in value)
        else:
            assert isinstance(value, str)

    try:
        params = parse_query(query)
    except InvalidQuery:
        return
    check(params)
