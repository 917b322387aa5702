"""What tokens raise. `TokenError` is about what a client sent; the others are about the application."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from channels.errors import ChannelsError

__all__ = [
    "MIN_SECRET_BYTES",
    "EncryptionUnavailable",
    "InvalidSecret",
    "TokenError",
    "TokenExpired",
    "TokenInvalid",
    "TokenMissing",
    "UnsignableData",
]

InvalidReason: TypeAlias = Literal["malformed", "signature", "payload", "future"]

MIN_SECRET_BYTES: Final = 20


class TokenError(ChannelsError):
    """A token is not accepted. The client is at fault, or nobody: tokens grow old.

    Its text is for logs. Tell a client no more than that it was refused.
    """


class TokenMissing(TokenError):
    """There is no token: None was given in its place."""

    def __init__(self) -> None:
        super().__init__("there is no token: the client sent none")


class TokenExpired(TokenError):
    """The token is genuine, and too old.

    Fields: `signed_at`, seconds since 1970; `max_age`, the seconds that it was good for.
    """

    def __init__(self, *, signed_at: float, max_age: float, now: float) -> None:
        super().__init__(
            f"the token has expired: it is {now - signed_at:.0f} seconds old and was good for {max_age:g}"
        )
        self.signed_at = signed_at
        self.max_age = max_age


class TokenInvalid(TokenError):
    """The token is not one that these secrets and this salt have made.

    Fields: `reason`, and `problem`, the same in words. Reasons are

    - `"malformed"`: it does not look like a token at all;
    - `"signature"`: it was changed, or made with another secret, salt or `key_` option. Nothing can tell which;
    - `"future"`: it is genuine, and signed more than a minute from now. Some server's clock is wrong;
    - `"payload"`: it is genuine, and holds what is not allowed in one, a function of Erlang for example.
    """

    def __init__(self, reason: InvalidReason, problem: str) -> None:
        super().__init__(f"the token is not valid: {problem}")
        self.reason = reason
        self.problem = problem


class UnsignableData(ChannelsError, TypeError):
    """The application wants to put something into a token that cannot be in one.

    Field: `problem`, what it is and what to write instead. The data is not kept.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"this data cannot be in a token: {problem}")
        self.problem = problem


class InvalidSecret(ChannelsError, ValueError):
    """The application has a secret that is none, or is too short to be one.

    Field: `length`, its bytes; None if it is no text. The secret is not kept.
    """

    def __init__(self, problem: str, *, length: int | None = None) -> None:
        super().__init__(
            f"{problem}; use {MIN_SECRET_BYTES} bytes or more, such as `python -c "
            '"import secrets; print(secrets.token_urlsafe(48))"` prints, and keep them out of the code'
        )
        self.length = length


class EncryptionUnavailable(ChannelsError, ImportError):
    """`encrypt` and `decrypt` need a library that is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "encrypted tokens need the library cryptography: pip install 'ashtree[encrypt]'"
        )
