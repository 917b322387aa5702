"""Names of generated projects and modules."""

from __future__ import annotations

import pytest

from channels import ChannelsError
from channels.generators.names import Name, check_module, check_project, parse_name


@pytest.mark.parametrize(
    ("text", "snake", "camel", "dashed"),
    [
        ("chat", "chat", "Chat", "chat"),
        ("game_table", "game_table", "GameTable", "game-table"),
        ("GameTable", "game_table", "GameTable", "game-table"),
        ("room2", "room2", "Room2", "room2"),
    ],
)
def test_a_name_has_three_forms(text: str, snake: str, camel: str, dashed: str) -> None:
    name = parse_name(text)
    assert (name.snake, name.camel, name.dashed) == (snake, camel, dashed)


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("auction", "auctions"),
        ("game_table", "game_tables"),
        ("company", "companies"),
        ("day", "days"),
        ("box", "boxes"),
        ("match", "matches"),
    ],
)
def test_a_plural_follows_the_regular_rules(one: str, several: str) -> None:
    assert Name(one).plural == several


def test_a_title_has_spaces_and_a_capital_letter() -> None:
    assert Name("game_table").title == "Game table"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9",
        "_",
        "_x",
        "x_",
        "a__b",
        "my-game",
        "a b",
        "../x",
        "/x",
        "a.b",
        "é",
        "x" * 41,
        "class",
    ],
)
def test_an_invalid_name_is_refused(text: str) -> None:
    with pytest.raises(ChannelsError, match="; write "):
        parse_name(text)


def test_the_error_suggests_a_valid_name() -> None:
    with pytest.raises(ChannelsError, match="write 'my_game'"):
        parse_name("my-game")


@pytest.mark.parametrize("taken", ["json", "channels", "actors", "tests", "static", "trio"])
def test_a_project_does_not_hide_another_package(taken: str) -> None:
    with pytest.raises(ChannelsError, match="is taken by"):
        check_project(Name(taken))


@pytest.mark.parametrize(
    ("kind", "taken"),
    [("channel", "test"), ("socket", "test"), ("presence", "channel"), ("presence", "presences")],
)
def test_a_module_does_not_hide_a_class_that_it_uses(kind: str, taken: str) -> None:
    with pytest.raises(ChannelsError, match=f"write another one, such as 'my_{taken}'"):
        check_module(kind, Name(taken))
    check_module(kind, Name(f"my_{taken}"))


def test_a_project_name_that_no_package_has_is_accepted() -> None:
    check_project(Name("surely_nobody_has_this"))
