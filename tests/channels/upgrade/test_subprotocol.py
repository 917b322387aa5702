"""Which subprotocol is answered, and the token that phoenix.js hides in it."""

from __future__ import annotations

import base64

import pytest

from channels.upgrade.subprotocol import Agreed, agree


def bearer(token: str) -> str:
    """What phoenix.js offers for a token."""
    return f"base64url.bearer.phx.{base64.b64encode(token.encode()).decode().rstrip('=')}"


def test_subprotocols_are_not_looked_at_unless_there_are_some_on_offer() -> None:
    assert agree("a, b", None, auth_token=False) == Agreed()


def test_the_first_on_offer_that_the_client_names_is_answered() -> None:
    assert agree("c,b , a", ["x", "a", "b"], auth_token=False) == Agreed(name="a")


def test_none_in_common_is_refused_and_none_at_all_is_fine() -> None:
    assert agree("A", ["a"], auth_token=False) is None, "names are compared to the letter"
    assert agree(None, ["a"], auth_token=False) == Agreed()
    assert agree(" , ", ["a"], auth_token=False) == Agreed()


@pytest.mark.parametrize("token", ["secret", "ünïcödé", "a", "ab", "abc", "?>~", ""])
def test_a_token_is_found_and_phoenix_is_answered(token: str) -> None:
    assert agree(f"phoenix, {bearer(token)}", None, auth_token=True) == Agreed(
        name="phoenix", token=token
    )


def test_a_token_in_the_alphabet_for_urls_is_read_as_well() -> None:
    encoded = base64.urlsafe_b64encode(b"?>~?>~").decode()
    assert "_" in encoded or "-" in encoded
    agreed = agree(f"base64url.bearer.phx.{encoded}", None, auth_token=True)
    assert agreed == Agreed(token="?>~?>~")


def test_a_token_alone_is_answered_with_no_subprotocol() -> None:
    assert agree(bearer("x"), ["a"], auth_token=True) == Agreed(token="x")


def test_phoenix_comes_before_what_else_is_on_offer() -> None:
    agreed = agree(f"a, phoenix, {bearer('x')}", ["a"], auth_token=True)
    assert agreed == Agreed(name="phoenix", token="x")


def test_two_tokens_are_none_and_are_no_subprotocol_either() -> None:
    assert agree(f"{bearer('x')}, {bearer('y')}", None, auth_token=True) is None
    assert agree(f"phoenix, {bearer('x')}, {bearer('y')}", None, auth_token=True) == Agreed(
        name="phoenix"
    )


@pytest.mark.parametrize("text", ["*", "a", "/w"])
def test_what_is_no_base64_or_no_text_is_refused(text: str) -> None:
    assert agree(f"phoenix, base64url.bearer.phx.{text}", None, auth_token=True) is None


def test_a_token_is_not_looked_for_unless_asked_to() -> None:
    assert agree(f"phoenix, {bearer('x')}", ["phoenix"], auth_token=False) == Agreed(name="phoenix")


def test_a_token_does_not_show_in_the_repr() -> None:
    assert "secret" not in repr(Agreed(token="secret"))
