"""Mount paths with variables, and query strings as parameters."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.wire.urls import InvalidPath, InvalidQuery, PathTable, join_paths, parse_query


def table(*paths: str) -> PathTable[str]:
    made: PathTable[str] = PathTable()
    for path in paths:
        made.add(path, path)
    return made


def test_a_whole_path_comes_before_one_with_variables() -> None:
    made = table("/:any/websocket", "/socket/websocket")
    assert made.match("/socket/websocket") == ("/socket/websocket", {})
    assert made.match("/other/websocket") == ("/:any/websocket", {"any": "other"})


def test_values_of_path_variables_are_decoded_and_not_empty() -> None:
    made = table("/socket/:tenant/:room/websocket")
    assert made.match("/socket/a%20b/x%2Fy/websocket") == (
        "/socket/:tenant/:room/websocket",
        {"tenant": "a b", "room": "x/y"},
    )
    assert made.match("/socket//room/websocket") is None
    assert made.match("/socket/a//b/websocket") is not None
    assert made.match("/socket/a/websocket") is None


@pytest.mark.parametrize(
    "sent",
    ["/socket/websocket/", "/socket//websocket", "//socket/websocket", "///socket/websocket//"],
)
@pytest.mark.parametrize(
    "mounted", ["/socket/websocket", "/socket/:transport", "//socket//websocket/"]
)
def test_empty_segments_do_not_count(mounted: str, sent: str) -> None:
    assert table(mounted)[sent] == mounted


def test_any_number_of_slashes_is_the_root_path() -> None:
    assert "//" in table("/")
    assert "/a" not in table("/")


def test_paths_that_differ_in_empty_segments_alone_are_the_same_path() -> None:
    with pytest.raises(InvalidPath) as refused:
        table("/socket/websocket", "/socket//websocket/")
    assert refused.value.path == "/socket//websocket/"


def test_a_variable_whose_name_begins_with_an_underscore_is_left_out() -> None:
    assert table("/:_version/socket").match("/v2/socket") == ("/:_version/socket", {})


def test_the_first_match_wins() -> None:
    made = table("/:a/x/:b", "/:a/:b/y")
    assert made["/1/x/y"] == "/:a/x/:b"
    assert made["/1/2/y"] == "/:a/:b/y"
    with pytest.raises(KeyError):
        made["/1/2/3"]
    assert list(made.values()) == ["/:a/x/:b", "/:a/:b/y"]


@pytest.mark.parametrize(("first", "second"), [("/a", "/a"), ("/:a/b", "/:c/b")])
def test_paths_that_differ_only_in_names_of_variables_clash(first: str, second: str) -> None:
    with pytest.raises(InvalidPath) as refused:
        table(first, second)
    assert refused.value.path == second


@pytest.mark.parametrize("path", ["/a:b", "/:", "/:1", "/:a/:a", "/:a-b"])
def test_an_invalid_path_variable_raises_with_a_correction(path: str) -> None:
    with pytest.raises(InvalidPath, match="'/socket/:tenant'") as caught:
        table(path)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("mount", "suffix", "whole"),
    [("/", "/websocket", "/websocket"), ("/a/", "b", "/a/b"), ("/", "/", "/"), ("/a", "", "/a")],
)
def test_joining_paths_normalizes_slashes(mount: str, suffix: str, whole: str) -> None:
    assert join_paths(mount, suffix) == whole


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
    ("vsn=2.0.0&a=%zz", {"vsn": "2.0.0", "a": "%zz"}),
    ("a=%", {"a": "%"}),
    ("a%2=1", {"a%2": "1"}),
    ("a=%%41%4", {"a": "%A%4"}),
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
        ("a=%e2%zz", "not UTF-8"),
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


def test_a_very_long_parameter_name_is_parsed_quickly() -> None:
    for name in ("[" * 16_000, "a" + "[]" * 8_000, "a" + "[b]" * 5_000, "]" * 16_000):
        assert isinstance(parse_query(f"{name}=1"), dict)


@given(st.lists(st.text(alphabet="ab=%2+ é;", max_size=20), max_size=8).map("&".join))
def test_a_query_without_brackets_is_decoded_as_by_the_standard_library(query: str) -> None:
    try:
        expected = dict(parse_qsl(query, keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError:
        with pytest.raises(InvalidQuery):
            parse_query(query)
    else:
        assert parse_query(query) == expected


@given(st.lists(st.text(alphabet="ab[]=&%+ \0é;", max_size=20), max_size=8).map("&".join))
def test_any_query_gives_strings_lists_and_dicts_or_is_refused(query: str) -> None:
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
