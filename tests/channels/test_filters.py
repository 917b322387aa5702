"""Parameters of clients in the log: shown and masked ones, at any depth."""

from __future__ import annotations

from typing import Any

import pytest

from actors import InvalidOption
from actors.masking import FILTERED, mask
from channels import Binary, Endpoint, Keep
from channels.filters import filter_parameters
from tests.channels.rooms import UserSocket

MASKED = [
    ({"password": "x"}, {"password": FILTERED}),
    ({"old_password_hash": ["x"], "name": "ann"}, {"old_password_hash": FILTERED, "name": "ann"}),
    ({"user": [{"password": 1}]}, {"user": [{"password": FILTERED}]}),
    ({"body": "name=ann&password=x"}, {"body": FILTERED}),
    ("password=x", FILTERED),
    ({"body": '{"password": "x"}'}, {"body": FILTERED}),
    ({"headers": "Authorization: Bearer x"}, {"headers": FILTERED}),
    ({"body": "my password is x"}, {"body": "my password is x"}),
    ({"token": "t", "secret": 1}, {"token": FILTERED, "secret": FILTERED}),
    (
        {"accessToken": "t", "newPassword": "p", "SECRET": "s", "Old-Password": "p"},
        dict.fromkeys(("accessToken", "newPassword", "SECRET", "Old-Password"), FILTERED),
    ),
    (
        {"x-api-key": "k", "apiKey": "k", "API_KEY": "k", "Authorization": "b", "key": 1},
        {
            **dict.fromkeys(("x-api-key", "apiKey", "API_KEY", "Authorization"), FILTERED),
            "key": 1,
        },
    ),
    ({"body": "name=ann&newPassword=x"}, {"body": FILTERED}),
    ({"body": "name=ann&X-API-Key=x"}, {"body": FILTERED}),
    ({1: {"password": "x"}, 2.5: 3}, {1: {"password": FILTERED}, 2.5: 3}),
    (None, None),
    (3, 3),
]


@pytest.mark.parametrize(("value", "shown"), MASKED)
def test_a_parameter_whose_name_contains_a_term_is_masked_at_any_depth(
    value: Any, shown: Any
) -> None:
    assert filter_parameters(value) == shown


@pytest.mark.parametrize("value", [value for value, _ in MASKED])
def test_logs_and_recordings_mask_the_same_parameters(value: Any) -> None:
    assert filter_parameters(value) == mask(value)


def test_the_filter_does_not_look_into_values_that_are_not_json() -> None:
    record = Keep(["password"])
    assert filter_parameters({"rule": record}) == {"rule": record}


def test_custom_terms_replace_the_default() -> None:
    value = {"pin": 1234, "password": "x"}
    assert filter_parameters(value, ["pin"]) == {"pin": FILTERED, "password": "x"}
    assert filter_parameters(value, []) == value
    assert filter_parameters({"socialSecurityNo": 1}, ["social_security"]) == {
        "socialSecurityNo": FILTERED
    }


def test_the_names_that_are_kept_are_exact() -> None:
    assert filter_parameters({"id": 1, "ID": 2}, Keep(["id"])) == {"id": 1, "ID": FILTERED}


def test_keep_masks_everything_except_its_names() -> None:
    value = {"id": {"any": 1}, "ids": 2, "more": [{"id": 3, "name": "ann"}], "data": Binary(b"x")}
    assert filter_parameters(value, Keep(["id"])) == {
        "id": {"any": 1},
        "ids": FILTERED,
        "more": [{"id": 3, "name": FILTERED}],
        "data": Binary(b"x"),
    }


@pytest.mark.parametrize("rule", ["password", 3, [1], Keep("id"), None])
def test_an_invalid_filter_rule_raises(rule: Any) -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket}, filter_parameters=rule)
    with pytest.raises(InvalidOption) as refused:
        endpoint.check()
    assert refused.value.option == "filter_parameters"
