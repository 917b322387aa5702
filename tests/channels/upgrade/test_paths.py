"""Paths with variables, in the order in which they were mounted."""

from __future__ import annotations

import pytest

from channels.upgrade.paths import InvalidPath, PathTable, join_paths


def table(*paths: str) -> PathTable[str]:
    made: PathTable[str] = PathTable()
    for path in paths:
        made.add(path, path)
    return made


def test_a_whole_path_comes_before_one_with_variables() -> None:
    made = table("/:any/websocket", "/socket/websocket")
    assert made.match("/socket/websocket") == ("/socket/websocket", {})
    assert made.match("/other/websocket") == ("/:any/websocket", {"any": "other"})


def test_what_variables_stand_for_is_decoded_and_may_not_be_empty() -> None:
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


def test_the_root_is_found_however_many_slashes_it_is_written_with() -> None:
    assert "//" in table("/")
    assert "/a" not in table("/")


def test_paths_that_differ_in_empty_segments_alone_are_the_same_path() -> None:
    with pytest.raises(InvalidPath, match="two sockets are mounted at"):
        table("/socket/websocket", "/socket//websocket/")


def test_a_variable_whose_name_begins_with_an_underscore_is_left_out() -> None:
    assert table("/:_version/socket").match("/v2/socket") == ("/:_version/socket", {})


def test_the_first_of_several_that_fit_is_taken() -> None:
    made = table("/:a/x/:b", "/:a/:b/y")
    assert made["/1/x/y"] == "/:a/x/:b"
    assert made["/1/2/y"] == "/:a/:b/y"
    with pytest.raises(KeyError):
        made["/1/2/3"]
    assert list(made.values()) == ["/:a/x/:b", "/:a/:b/y"]


@pytest.mark.parametrize(("first", "second"), [("/a", "/a"), ("/:a/b", "/:c/b")])
def test_a_path_that_is_taken_is_refused_whatever_its_variables_are_called(
    first: str, second: str
) -> None:
    with pytest.raises(InvalidPath, match="two sockets are mounted at"):
        table(first, second)


@pytest.mark.parametrize("path", ["/a:b", "/:", "/:1", "/:a/:a", "/:a-b"])
def test_a_variable_that_is_none_is_refused_with_what_to_write(path: str) -> None:
    with pytest.raises(InvalidPath, match="'/socket/:tenant'") as caught:
        table(path)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("mount", "suffix", "whole"),
    [("/", "/websocket", "/websocket"), ("/a/", "b", "/a/b"), ("/", "/", "/"), ("/a", "", "/a")],
)
def test_slashes_between_the_halves_of_a_path_are_put_right(
    mount: str, suffix: str, whole: str
) -> None:
    assert join_paths(mount, suffix) == whole
