"""The fields of records of every kind."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import attrs
import msgspec
import pytest

from actors.masking import fields_of


@attrs.define
class Account:
    owner: str
    password: str = attrs.field(repr=False)


@dataclasses.dataclass
class Room:
    kinds: ClassVar[tuple[str, ...]] = ("public", "private")
    name: str
    key: str = dataclasses.field(default="", repr=False)


class Move(msgspec.Struct):
    x: int
    y: int


@pytest.mark.parametrize(
    ("cls", "fields"),
    [(Account, ("owner", "password")), (Room, ("name", "key")), (Move, ("x", "y")), (dict, ())],
)
def test_a_record_has_the_fields_of_its_class(cls: type, fields: tuple[str, ...]) -> None:
    assert fields_of(cls) == fields


def test_hidden_fields_can_be_left_out() -> None:
    assert fields_of(Account, shown=True) == ("owner",)
    assert fields_of(Room, shown=True) == ("name",)
