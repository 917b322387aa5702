"""Values of an application on an observer page: bounded, and never with a filtered name."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec
import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from actors import Registry
from actors.masking import SECRETS
from channels.filters import Keep
from channels.observer.showing import shown
from supervision.recording.describe import describe


@define
class User:
    name: str
    password: str


@dataclasses.dataclass
class Account:
    owner: User
    api_key: str


class Card(msgspec.Struct):
    number: int
    secret: str


class Opaque:
    """Its repr must not be shown, because it may contain anything."""

    def __repr__(self) -> str:
        return "hunter2"


@pytest.mark.parametrize(
    "value",
    [
        {"password": "hunter2"},
        {"deep": [{"newPassword": {"a": "hunter2"}}]},
        User("ann", "hunter2"),
        Account(User("ann", "hunter2"), "hunter2"),
        [Card(7, "hunter2")],
        Opaque(),
        {"x": {Opaque()}},
        "token=hunter2",
        {Opaque(): 1},
    ],
)
def test_a_secret_is_never_shown(value: Any) -> None:
    assert "hunter2" not in json.dumps(shown(value, SECRETS))


def test_a_record_shows_its_fields() -> None:
    assert shown(User("ann", "x"), SECRETS) == {"User": {"name": "ann", "password": "[FILTERED]"}}
    assert shown({"name": "ann", "other": 1}, Keep(("name",))) == {
        "name": "ann",
        "other": "[FILTERED]",
    }


def test_an_address_in_a_registry_shows_its_key() -> None:
    registry = Registry[int, None]("unique", name="lots")
    assert shown({"to": registry.via(5)}, SECRETS) == {"to": "via(5)"}
    assert describe(("bid", registry.via(5))) == "('bid', via(5))"


def test_large_values_are_cut() -> None:
    found = shown({"list": list(range(1000)), "text": "x" * 1000}, SECRETS)
    assert len(found["list"]) == 50 + 1
    assert len(found["text"]) < 400
    nested: Any = 1
    for _ in range(100):
        nested = [nested]
    assert len(json.dumps(shown(nested, SECRETS))) < 100


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.floats() | st.binary(),
        lambda inside: (
            st.lists(inside) | st.dictionaries(st.text(), inside) | st.tuples(inside, inside)
        ),
        max_leaves=20,
    )
)
def test_every_value_becomes_json(value: Any) -> None:
    json.dumps(shown(value, SECRETS))
