"""Pages of other sites: the check of `Origin`, the answer to their preflight requests (CORS), and the CSRF token.

*pure*. Browsers let any page open a WebSocket to any server, and send the cookies of that server. Only the `Origin`
header names the site of the page. The server accepts a client without an `Origin`, because it is not a browser, and
could send any origin.

Rules for `check_origin`, as in Phoenix:

- `True` (the default): the origin and the request have the same host.
- `False`: any origin is allowed.
- `"conn"`: the origin and the request have the same scheme, host and port.
- A list of allowed origins: `"https://example.org"`, `"//example.org"`, `"http://localhost:4000"`, or
  `"//*.example.org"`, which includes `example.org` itself. All parts except the host are optional.
- A function that takes the parsed origin and returns True or False. Any other result is a mistake, and the server
  refuses the client.

There is one difference. Without a configured host, Phoenix allows every origin. Ashtree compares the origin with the
`Host` header.

A page of the same site knows the CSRF token of its session, and sends it as the parameter `_csrf_token`. Without the
right token, the socket gets no session. Source: Phoenix.Socket.Transport, and Plug.CSRFProtection for the format of
tokens.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

import msgspec

from actors.errors import InvalidArgument
from channels.checks import yes_or_no

__all__ = [
    "CsrfRule",
    "OriginCheck",
    "OriginRule",
    "SessionHook",
    "csrf_matches",
    "csrf_problem",
    "origin_allowed",
    "parse_cookies",
    "parse_rule",
    "preflight_headers",
]

OriginRule: TypeAlias = bool | Literal["conn"] | Sequence[str] | Callable[[SplitResult], bool]

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class _Allowed(msgspec.Struct, frozen=True):
    """One entry of a list of origins; None matches any value."""

    scheme: str | None
    host: str
    port: int | None

    def includes(self, origin: SplitResult) -> bool:
        if self.scheme is not None and origin.scheme != self.scheme:
            return False
        if self.port is not None and _port(origin) != self.port:
            return False
        host = origin.hostname or ""
        if self.host.startswith("*."):
            return host == self.host[2:] or host.endswith(self.host[1:])
        return host == self.host


class OriginCheck(msgspec.Struct, frozen=True):
    """A parsed rule for origins. Use `parse_rule`.

    Attributes:
        rule: `True`, `False`, `"conn"` or the function.
        entries: the entries, if the rule was a list.
    """

    rule: bool | Literal["conn"] | Callable[[SplitResult], bool]
    entries: tuple[_Allowed, ...] = ()


def parse_rule(rule: OriginRule) -> OriginCheck:
    """Parse a rule for origins.

    Raises:
        InvalidArgument: an entry of a list has no host, or the rule has another type.
    """
    if isinstance(rule, bool) or rule == "conn":
        return OriginCheck(rule)
    if isinstance(rule, str):
        raise _invalid(rule)
    if callable(rule):
        return OriginCheck(rule)
    try:
        entries = tuple(rule)
    except TypeError:
        raise _invalid(rule) from None
    return OriginCheck(True, tuple(map(_parse_entry, entries)))


def _invalid(origin: object) -> InvalidArgument:
    return InvalidArgument(
        None,
        origin,
        f"the origin {origin!r} in check_origin has no host; write it like 'https://example.org', "
        "'//example.org' or '//*.example.org'",
    )


def _parse_entry(entry: str) -> _Allowed:
    origin = _split(entry) if isinstance(entry, str) else None
    if origin is None or not origin.hostname:
        raise _invalid(entry)
    scheme = origin.scheme or None
    # An entry without a port allows the default port of its scheme. An entry without a scheme and port allows any port.
    return _Allowed(scheme, origin.hostname, _port(origin))


def origin_allowed(
    check: OriginCheck, origin: str | None, *, scheme: str, host: str | None
) -> bool:
    """Return True if the origin of a request is allowed.

        >>> check = parse_rule(["//*.example.org"])
        >>> origin_allowed(check, "https://chat.example.org", scheme="http", host="localhost")
        True

    Args:
        check: the rule.
        origin: the `Origin` header of the request; None is allowed.
        scheme: the scheme of the request, `http` or `https`.
        host: the `Host` header of the request.

    Raises:
        InvalidResult: the rule is a function, and returned neither True nor False.
    """
    if origin is None or check.rule is False:
        return True
    parsed = _split(origin)
    if callable(check.rule):
        return parsed is not None and yes_or_no("check_origin", check.rule, check.rule(parsed))
    if parsed is None or not parsed.hostname:
        # Pages from files and sandboxes send the origin "null". Only `False` and a function can allow it.
        return False
    if check.entries:
        return any(entry.includes(parsed) for entry in check.entries)
    here = _split(f"{scheme}://{host}") if host else None
    if here is None or parsed.hostname != here.hostname:
        return False
    return check.rule is True or (parsed.scheme == scheme and _port(parsed) == _port(here))


def preflight_headers(methods: str, requested: str) -> dict[str, str]:
    """Return the headers with which a browser lets a page send a request (CORS). The caller has checked the origin.

    Args:
        methods: the methods that pages may use.
        requested: the value of the header `access-control-request-headers`.
    """
    return {
        "access-control-allow-headers": requested,
        "access-control-allow-methods": methods,
        "access-control-max-age": "3600",
    }


def _split(origin: str) -> SplitResult | None:
    try:
        parsed = urlsplit(origin)
        _ = parsed.port
    except ValueError:
        # Unbalanced brackets, or a port that is not a number.
        return None
    return parsed


def _port(origin: SplitResult) -> int | None:
    return origin.port if origin.port is not None else _PORTS.get(origin.scheme)


SessionHook: TypeAlias = Callable[[dict[str, str]], Any | Awaitable[Any]]
"""A function that makes a session from cookies. It returns a mapping, or None, and may be async."""

CsrfRule: TypeAlias = bool | Callable[[Any, str], bool]
"""True to require a CSRF token, False to require none, or a function that compares the session with the token."""

CSRF_KEY = "_csrf_token"
_TOKEN_SIZE = 24
_MASKED_SIZE = 56


def parse_cookies(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return the cookies of a request. If two cookies have the same name, the first one counts, as in Plug.

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
    """Return None if the page that sent `token` may use `session`. Otherwise return the reason, for the log.

    This takes the same arguments as `csrf_matches`.
    """
    if csrf_matches(rule, session, token):
        return None
    if not isinstance(token, str):
        return (
            f"the parameter {CSRF_KEY!r} is missing; send the CSRF token of the page, as in "
            f'new Socket("/socket", {{params: {{{CSRF_KEY}: token}}}})'
        )
    if rule is True and (not isinstance(session, Mapping) or not session.get(CSRF_KEY)):
        return f"the session has no {CSRF_KEY!r} to compare the token with; store it there when you render the page"
    return f"the parameter {CSRF_KEY!r} is not the token of this session"


def csrf_matches(rule: CsrfRule, session: Any, token: object) -> bool:
    """Return True if the page that sent `token` may use `session`.

    Args:
        rule: False allows any page. True compares with `session["_csrf_token"]`, plain or masked as in Plug. A function
            decides itself.
        session: the session.
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
    """Compare a masked token with the stored one. Plug masks the 24 characters of a token differently for each page."""
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
