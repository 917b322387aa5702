"""JSON Web Tokens with HS256: the example of the RFC, and everything that is not one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from channels.tokens.jwt import sign_jwt, verify_jwt
from channels.tokens.token import TokenError, TokenExpired, TokenInvalid, TokenMissing

SECRET = "a secret that only these tests know"
NOW = 1_000_000.0
CLAIMS = {"role": "anon", "exp": NOW + 60}
# Appendix A.1 of RFC 7515.
RFC_KEY = base64.urlsafe_b64decode(
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
)
RFC_TOKEN = (
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQog"
    "Imh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_the_example_of_the_rfc_is_valid() -> None:
    verified = verify_jwt(RFC_KEY, RFC_TOKEN, now=1_300_819_370)
    assert verified.data["iss"] == "joe"
    assert verified.seconds_left == 10


def test_a_signed_token_is_valid_until_its_exp() -> None:
    token = sign_jwt(SECRET, CLAIMS)
    assert verify_jwt(SECRET, token, now=NOW).data == CLAIMS
    with pytest.raises(TokenExpired):
        verify_jwt(SECRET, token, now=NOW + 60)


def test_a_list_of_secrets_accepts_the_tokens_of_each() -> None:
    other = "another secret that only these tests know"
    token = sign_jwt([SECRET, other], CLAIMS)
    assert verify_jwt([other, SECRET], token, now=NOW).data == CLAIMS
    with pytest.raises(TokenInvalid, match="another secret"):
        verify_jwt(other, token, now=NOW)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "malformed"),
        ("a.b", "malformed"),
        ("a.b.c.d", "malformed"),
        ("é.é.é", "malformed"),
        (7, "malformed"),
        ("x" * 200_000, "malformed"),
        (f"{part({'alg': 'none'})}.{part(CLAIMS)}.", "malformed"),
        (f"{part({'alg': 'HS512'})}.{part(CLAIMS)}.AAAA", "malformed"),
        (f"{part('text')}.{part(CLAIMS)}.AAAA", "malformed"),
        (f"{part({'alg': 'HS256'})}.{part(CLAIMS)}.", "signature"),
        (f"{sign_jwt(SECRET, CLAIMS)}=", "malformed"),
        (sign_jwt(SECRET, {"role": "anon"}), "payload"),
        (sign_jwt(SECRET, {"exp": "soon"}), "payload"),
        (sign_jwt(SECRET, {"exp": 10**400}), "payload"),
        (sign_jwt(SECRET, {"exp": NOW + 60, "nbf": None}), "payload"),
        (sign_jwt(SECRET, {"exp": NOW + 60, "nbf": NOW + 1}), "future"),
    ],
)
def test_a_token_of_another_form_is_refused_with_a_reason(token: Any, reason: str) -> None:
    with pytest.raises(TokenInvalid) as refused:
        verify_jwt(SECRET, token, now=NOW)
    assert refused.value.reason == reason


@pytest.mark.parametrize("place", range(3))
def test_a_change_in_any_part_is_noticed(place: int) -> None:
    parts = sign_jwt(SECRET, CLAIMS).split(".")
    parts[place] = ("A" if parts[place][0] != "A" else "B") + parts[place][1:]
    with pytest.raises(TokenError):
        verify_jwt(SECRET, ".".join(parts), now=NOW)


def test_no_token_is_missing() -> None:
    with pytest.raises(TokenMissing):
        verify_jwt(SECRET, None)
