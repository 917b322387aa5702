"""Whether a page from elsewhere may open a connection: the `Origin` header against a rule.

*pure*. Browsers let any page open a WebSocket to any server, and send the cookies of that server along; only the
`Origin` header tells where the page came from. Clients that are not browsers send none, and are let in: they could
write there what they like.

Rules, after Phoenix's `check_origin`:

- `True` (the default): the host is that of the request itself, or the one that was given;
- `False`: anywhere;
- `"conn"`: scheme, host and port are those of the request;
- a list of origins, each part of which may be left out but the host: `"https://example.org"`, `"//example.org"`,
  `"//*.example.org"`, which also stands for `example.org` itself, and `"http://localhost:4000"`;
- a function, which gets the parsed origin and returns True or False. Any other value is a mistake and lets nobody in.

One difference: where no host is configured Phoenix lets everybody in, and this compares with the request's `Host`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from attrs import frozen

from channels.checks import yes_or_no
from channels.errors import ChannelsError

__all__ = ["InvalidOrigin", "OriginCheck", "OriginRule", "origin_allowed", "parse_rule"]

OriginRule: TypeAlias = bool | Literal["conn"] | Sequence[str] | Callable[[SplitResult], bool]

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class InvalidOrigin(ChannelsError, ValueError):
    """An origin in `check_origin` cannot be understood. Field: `origin`, as it was declared."""

    def __init__(self, origin: object) -> None:
        super().__init__(
            f"the origin {origin!r} in check_origin has no host; write it like 'https://example.org', "
            "'//example.org' or '//*.example.org'"
        )
        self.origin = origin


@frozen
class _Allowed:
    """One entry of a list of origins; None stands for anything."""

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


@frozen
class OriginCheck:
    """A rule that was looked at once, when the endpoint was mounted. Made by `parse_rule`.

    - `rule`: `True`, `False`, `"conn"` or the function; `entries`: the list, if it was one.
    """

    rule: bool | Literal["conn"] | Callable[[SplitResult], bool]
    entries: tuple[_Allowed, ...] = ()


def parse_rule(rule: OriginRule) -> OriginCheck:
    """Understand a rule.

    Raises:
        InvalidOrigin: an entry of a list has no host, or the rule is none of those above.
    """
    if isinstance(rule, bool) or rule == "conn":
        return OriginCheck(rule)
    if isinstance(rule, str):
        raise InvalidOrigin(rule)
    if callable(rule):
        return OriginCheck(rule)
    try:
        entries = tuple(rule)
    except TypeError:
        raise InvalidOrigin(rule) from None
    return OriginCheck(True, tuple(map(_parse_entry, entries)))


def _parse_entry(entry: str) -> _Allowed:
    origin = _split(entry) if isinstance(entry, str) else None
    if origin is None or not origin.hostname:
        raise InvalidOrigin(entry)
    scheme = origin.scheme or None
    # A scheme without a port means its usual one, as everywhere; an entry without a scheme any port.
    return _Allowed(scheme, origin.hostname, _port(origin))


def origin_allowed(
    check: OriginCheck, origin: str | None, *, scheme: str, host: str | None
) -> bool:
    """Tell whether a request may connect.

        >>> check = parse_rule(["//*.example.org"])
        >>> origin_allowed(check, "https://chat.example.org", scheme="http", host="localhost")
        True

    Args:
        check: the rule.
        origin: the `Origin` header of the request; None lets it in.
        scheme: of the request, `http` or `https`.
        host: the `Host` header of the request.

    Raises:
        InvalidResult: the function returned neither True nor False.
    """
    if origin is None or check.rule is False:
        return True
    parsed = _split(origin)
    if callable(check.rule):
        return parsed is not None and yes_or_no("check_origin", check.rule, check.rule(parsed))
    if parsed is None or not parsed.hostname:
        # "null", which a page from a file or a sandbox sends, is no place that could be on a list.
        return False
    if check.entries:
        return any(entry.includes(parsed) for entry in check.entries)
    here = _split(f"{scheme}://{host}") if host else None
    if here is None or parsed.hostname != here.hostname:
        return False
    return check.rule is True or (parsed.scheme == scheme and _port(parsed) == _port(here))


def _split(origin: str) -> SplitResult | None:
    try:
        parsed = urlsplit(origin)
        _ = parsed.port
    except ValueError:
        # Brackets that do not match, or a port that is no number.
        return None
    return parsed


def _port(origin: SplitResult) -> int | None:
    return origin.port if origin.port is not None else _PORTS.get(origin.scheme)
