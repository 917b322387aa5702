"""The credentials of supabase's clients, and the texts about them that the clients get.

*pure*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

from channels.tokens.token import (
    TokenError,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    VerifiedToken,
)

__all__ = ["Access", "Action", "Claims", "Verify", "is_key", "problem_of"]

Action: TypeAlias = Literal["read", "write"]
"""The permission that a private channel needs: `read` to join, `write` to broadcast and to track a presence."""

Claims: TypeAlias = Mapping[str, Any]
"""The content of a verified token, such as `role` and `sub`."""

Verify: TypeAlias = Callable[[str | None], VerifiedToken]
"""A function that checks a token, and returns its claims and its lifetime. It raises a `TokenError` to refuse it."""


@frozen
class Access:
    """The credentials of one connection, which `SupabaseSocket` puts into `assigns["access"]`."""

    verify: Verify = field(repr=False)
    apikey: str = field(repr=False)


def is_key(token: str) -> bool:
    """Return True for a publishable or secret key of supabase, which is not a token of a user."""
    return token.startswith("sb_")


def problem_of(error: TokenError, now: float) -> tuple[str, str]:
    """Return the code and the text of supabase for a refused token.

    >>> problem_of(TokenExpired(signed_at=100, max_age=0, now=107), 107)
    ('InvalidJWTToken', 'Token has expired 7 seconds ago')
    """
    match error:
        case TokenMissing():
            return "Unauthorized", "API key is missing"
        case TokenExpired():
            ago = max(0, round(now - error.signed_at - error.max_age))
            return "InvalidJWTToken", f"Token has expired {ago} seconds ago"
        case TokenInvalid(reason="signature"):
            return "JwtSignatureError", "Failed to validate JWT signature"
        case TokenInvalid(reason="payload"):
            return "InvalidJWTToken", "Fields `role` and `exp` are required in JWT"
        case _:
            return "MalformedJWT", "The token provided is not a valid JWT"
