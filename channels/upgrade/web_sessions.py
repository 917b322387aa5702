"""Web sessions at the door of a socket: cookies in, a session out, if the page proves that it is of the same site.

*pure*. Browsers send cookies with a WebSocket whoever's page opens it, so a cookie alone says nothing about who asks.
A page of the site knows its CSRF token too, and sends it as the parameter `_csrf_token`; only then is there a session.

After Phoenix.Socket.Transport, and Plug.CSRFProtection for the form of tokens.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from channels.checks import yes_or_no

__all__ = ["CsrfRule", "SessionHook", "csrf_matches", "csrf_problem", "parse_cookies"]

SessionHook: TypeAlias = Callable[[dict[str, str]], Any | Awaitable[Any]]
"""Makes a session of cookies: a mapping, or None if there is none. May be async."""

CsrfRule: TypeAlias = bool | Callable[[Any, str], bool]
"""Whether a session needs a CSRF token; or what compares the session with the token that was sent."""

CSRF_KEY = "_csrf_token"
_TOKEN_SIZE = 24
_MASKED_SIZE = 56


def parse_cookies(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Read the cookies of a request; of two with one name the first counts, as in Plug.

    >>> parse_cookies((("cookie", "_key=abc; theme=dark"),))
    {'_key': 'abc', 'theme': 'dark'}
    """
    cookies: dict[str, str] = {}
    for name, value in headers:
        if name == "cookie":
            for part in value.split(";"):
                key, equals, text = part.strip(" \t").partition("=")
                if equals and key:
                    cookies.setdefault(key, text.strip('"'))
    return cookies


def csrf_problem(rule: CsrfRule, session: Any, token: object) -> str | None:
    """Say why the page that sends `token` may not use `session`, for the log; None if it may.

    Takes what `csrf_matches` takes.
    """
    if csrf_matches(rule, session, token):
        return None
    if not isinstance(token, str):
        return (
            f"the parameter {CSRF_KEY!r} is missing; send the page's CSRF token with it, as in "
            f'new Socket("/socket", {{params: {{{CSRF_KEY}: token}}}})'
        )
    if rule is True and (not isinstance(session, Mapping) or not session.get(CSRF_KEY)):
        return f"the session has no {CSRF_KEY!r} to compare the token with; put it there when the page is made"
    return f"the parameter {CSRF_KEY!r} is not the token of this session"


def csrf_matches(rule: CsrfRule, session: Any, token: object) -> bool:
    """Tell whether the page that sends `token` may use `session`.

    Args:
        rule: False asks for nothing; True compares with `session["_csrf_token"]`, as it is or masked the way that Plug
            masks tokens; a function decides for itself.
        session: what the hook made of the cookies.
        token: the parameter `_csrf_token`.

    Raises:
        InvalidResult: the function returned neither True nor False.
    """
    if rule is False:
        return True
    if not isinstance(token, str):
        return False
    if callable(rule):
        return yes_or_no("check_csrf", rule, rule(session, token))
    stored = session.get(CSRF_KEY) if isinstance(session, Mapping) else None
    if not isinstance(stored, str) or not stored:
        return False
    if hmac.compare_digest(stored.encode(), token.encode()):
        return True
    return _unmasked(token, stored)


def _unmasked(token: str, stored: str) -> bool:
    """Compare a token of Plug: 24 characters, of which each page gets another masked form of 56."""
    if len(token) != _MASKED_SIZE or len(stored) != _TOKEN_SIZE:
        return False
    try:
        hidden = base64.urlsafe_b64decode(token[: _MASKED_SIZE - _TOKEN_SIZE])
        mask = token[_MASKED_SIZE - _TOKEN_SIZE :].encode("ascii")
    except (binascii.Error, ValueError):
        return False
    if len(hidden) != len(mask):
        return False
    plain = bytes(one ^ other for one, other in zip(hidden, mask, strict=True))
    return hmac.compare_digest(plain, stored.encode())
