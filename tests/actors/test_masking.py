"""The contents of secret names never appear in a recording."""

import gc
from typing import Any
from weakref import ref

import msgspec
import pytest
from attrs import frozen

from actors.masking import (
    FILTERED,
    KIND_LENGTH,
    bounded_copy,
    is_secret,
    mask,
    shown_kind,
)


@frozen
class Login:
    user: str
    password: str


class Signed(msgspec.Struct):
    id: int
    access_token: str


class Key(str):
    """A text that can have a weak reference."""

    __slots__ = ("__weakref__",)


class Opaque:
    __slots__ = ("password",)


@pytest.mark.parametrize(
    "kind",
    [
        "reset_password",
        "token.expired",
        "password-reset.Done",
        "api_keys_listed",
        "passwordReset2",
        "v2.token",
        "new_msg",
        "a b",
        "user=ann",
    ],
)
def test_a_kind_that_is_a_name_or_has_no_secret_term_is_shown(kind: str) -> None:
    assert shown_kind(kind) == kind


@pytest.mark.parametrize(
    "kind",
    [
        "password=x",
        "password x",
        '{"password": "x"}',
        "Access-Token: x",
        "x" * 100 + " secret",
        "password-hunter2",
        "password_hunter2",
        "token.eyJhbGciOiJIUzI1NiJ9",
        "access_token." + "x" * 21,
        "API-KEY-12345",
        "token." + "reset." * 40,
        "a.long.name.of.an.event.with.a.password.of.hunter2",
    ],
)
def test_a_kind_with_a_secret_term_and_more_than_a_name_is_masked(kind: str) -> None:
    assert shown_kind(kind) == FILTERED


def test_a_long_name_with_a_secret_term_is_shown_and_cut() -> None:
    kind = "the.user.wants.to.change.the.password.of.an.account"
    assert shown_kind(kind) == kind[:KIND_LENGTH]


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ({"user": "ann", "newPassword": "x"}, {"user": "ann", "newPassword": FILTERED}),
        ([("login", {"API-KEY": 1})], [["login", {"API-KEY": FILTERED}]]),
        (Login("ann", "x"), {"user": "ann", "password": FILTERED}),
        (("join", Signed(1, "x")), ["join", {"id": 1, "access_token": FILTERED}]),
        ("user=ann&token=x", FILTERED),
        ('{"password": "x"}', FILTERED),
        ("hello = world", "hello = world"),
        (b"password=x", "<10 bytes>"),
        ([Opaque()], ["<Opaque>"]),
        (7, 7),
    ],
)
def test_a_term_masks_every_name_that_contains_it(value: Any, masked: Any) -> None:
    assert mask(value) == masked


def test_a_value_is_cut_at_fifty_items_and_eight_levels() -> None:
    deep: Any = "end"
    for _ in range(10):
        deep = [deep]
    assert "end" not in repr(mask(deep))
    assert len(mask(list(range(1000)))) == 50


def test_a_copy_shows_sets_as_lists_and_a_class_by_its_name() -> None:
    assert bounded_copy({"set": {7}, "class": Opaque, "object": Opaque()}) == {
        "set": [7],
        "class": "Opaque",
        "object": "<Opaque>",
    }
    assert bounded_copy([[1]], 1) == ["..."]


def test_a_marked_copy_names_the_classes_of_records_and_what_was_cut() -> None:
    assert bounded_copy(Login("ann", "x"), marked=True) == {
        "": "Login",
        "user": "ann",
        "password": "x",
    }
    assert bounded_copy(list(range(53)), marked=True)[50:] == ["… 3 more"]
    assert bounded_copy(dict.fromkeys(range(53)), marked=True)["…"] == "3 more"


@pytest.mark.parametrize("name", ["password", "x" * 1000 + "Api-Key"])
def test_a_name_of_any_length_can_be_secret(name: str) -> None:
    assert is_secret(name)
    assert not is_secret("x" * len(name))


def test_a_long_name_does_not_stay_in_memory() -> None:
    name = Key("x" * 81)
    living = ref(name)
    assert not is_secret(name)
    del name
    gc.collect()
    assert living() is None
