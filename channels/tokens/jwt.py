"""JSON Web Tokens (RFC 7519) that a shared secret signs with HS256, such as the keys and the user tokens of supabase.

token = sign_jwt(SECRET, {"role": "authenticated", "sub": "ann", "exp": time.time() + 3600})
claims = verify_jwt(SECRET, token).data
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from actors.arguments import is_number
from channels.tokens._signing import MAX_TOKEN, decode64, encode64
from channels.tokens.token import (
    Context,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    VerifiedToken,
    check_secret,
)

__all__ = ["sign_jwt", "verify_jwt"]


def sign_jwt(secret: Context, claims: Mapping[str, Any]) -> str:
    """Make a token with claims. Anyone can read the claims, and nobody can change them.

    Args:
        secret: at least 20 bytes that only servers know, as for `channels.sign`.
        claims: JSON values. `exp` is the time when the token expires, in seconds since 1970.

    Returns:
        The token.

    Raises:
        InvalidArgument: the secret is too short.
    """
    parts = (msgspec.json.encode(each) for each in ({"alg": "HS256", "typ": "JWT"}, claims))
    text = ".".join(encode64(each) for each in parts)
    return f"{text}.{encode64(_mac(check_secret(secret)[0], text))}"


def verify_jwt(secret: Context, token: object, *, now: float | None = None) -> VerifiedToken:
    """Return the claims of a token, and the seconds until its `exp`.

    Args:
        secret: the secret that signed the token, or a list of secrets.
        token: the value from the client, of any type.
        now: the time for the check, in seconds since 1970. The default is the current time.

    Raises:
        TokenMissing: the token is None.
        TokenExpired: the time in `exp` is over.
        TokenInvalid: the token is malformed, is not signed with HS256 and this secret, is not valid yet (`nbf`), or has
            no `exp`.
    """
    if token is None:
        raise TokenMissing
    if not isinstance(token, str) or len(token) > MAX_TOKEN:
        raise TokenInvalid("malformed", f"it is not text of at most {MAX_TOKEN} characters")
    if "=" in token:  # each token has one spelling; source: RFC 7515, section 2
        raise TokenInvalid("malformed", "its base64 is padded")
    try:
        text, _, signature = token.rpartition(".")
        header, claims = (msgspec.json.decode(decode64(part)) for part in text.split("."))
        mac = decode64(signature)
    except (ValueError, RecursionError) as error:
        raise TokenInvalid("malformed", str(error)) from None
    # The algorithm is fixed, because a client chooses the header.
    if type(header) is not dict or type(claims) is not dict or header.get("alg") != "HS256":
        raise TokenInvalid("malformed", "it is not a JSON Web Token with HS256")
    if not any(hmac.compare_digest(_mac(key, text), mac) for key in check_secret(secret)):
        raise TokenInvalid("signature", "someone changed it, or made it with another secret")
    at = time.time() if now is None else now
    expires, begins = claims.get("exp"), claims.get("nbf", 0)
    if not (is_number(expires, finite=True) and is_number(begins, finite=True)):
        raise TokenInvalid("payload", "its exp is missing, or its exp or nbf is no number")
    if expires <= at:
        raise TokenExpired(signed_at=expires, max_age=0, now=at)
    if begins > at:
        raise TokenInvalid("future", "its nbf has not come yet")
    return VerifiedToken(claims, expires - at)


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
