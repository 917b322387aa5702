"""Declared errors: constructor, text, inheritance, pickles and copies."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

from actors.declared import declared, fixed
from actors.errors import InvalidOption


@declared("{name!r} has {count:g} members")
class RoomFull(LookupError):
    name: str
    count: float
    limit: int = 10


@declared("{name!b} is banned by {by}", kw_only=True)
class Banned(RoomFull, ValueError):
    by: str


def test_fields_become_attributes_and_arguments_of_the_error() -> None:
    error = RoomFull("lobby", count=3)
    assert (error.name, error.count, error.limit) == ("lobby", 3, 10)
    assert error.args == ("lobby", 3, 10)
    assert str(error) == "'lobby' has 3 members"
    assert repr(error) == "RoomFull('lobby', 3, 10)"


def test_a_subclass_adds_its_fields_and_has_its_own_text() -> None:
    error = Banned("lobby", 3, by="ann")
    assert (error.limit, error.by) == (10, "ann")
    assert str(error) == "'lobby' is banned by ann"
    assert isinstance(error, ValueError)
    assert str(inspect.signature(Banned)) == "(name, count, limit=10, *, by)"


class BannedForever(Banned):
    def __init__(self, name: str) -> None:
        super().__init__(name, 0, by="the owner")


def test_a_subclass_with_its_own_constructor_shows_the_signature_of_the_constructor() -> None:
    assert str(inspect.signature(BannedForever)) == "(name: 'str') -> 'None'"
    assert pickle.loads(pickle.dumps(BannedForever("lobby"))).by == "the owner"


@pytest.mark.parametrize("args", [(), ("lobby",), ("lobby", 1, 2, 3)])
def test_wrong_arguments_raise_a_type_error(args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="argument"):
        RoomFull(*args)


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_can_be_copied_and_pickled(again: Any) -> None:
    error = Banned("lobby", 3, by="ann")
    error.add_note("a note")
    copied = again(error)
    assert type(copied) is Banned
    assert vars(copied) == vars(error)
    assert (str(copied), copied.args) == (str(error), error.args)


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_invalid_option_can_be_copied_and_pickled_and_hides_a_password(again: Any) -> None:
    error = InvalidOption("Store", "url", "redis://ann:secret@host", "a URL without a database")
    error.add_note("a note")
    copied = again(error)
    assert vars(copied) == vars(error)
    assert str(copied) == str(error)
    assert "secret" not in f"{copied} {copied!r}"


def test_an_excerpt_in_a_text_is_bounded() -> None:
    assert len(str(Banned("x" * 10_000, 1, by="ann"))) < 200


@declared("{status}: {name!r}")
class Refused(Exception):
    status: int
    name: str


@declared()
class NotFound(Refused):
    status: int = fixed(404)


def test_the_constructor_does_not_take_a_fixed_field() -> None:
    error = NotFound("lobby")
    assert (error.status, error.args, str(error)) == (404, (404, "lobby"), "404: 'lobby'")
    with pytest.raises(TypeError, match="too many positional arguments"):
        NotFound(404, "lobby")  # type: ignore[call-arg, arg-type]
