"""The URLs of requests: paths of mounted sockets, and query strings.

*pure*. A path segment that begins with a colon is a variable, such as `:tenant` in `/socket/:tenant/websocket`. A
variable matches any one segment, and this segment becomes a parameter of the socket's `connect`. The table first tries
the paths without variables, then the paths with variables in the order of their declaration. It ignores empty segments:
`/socket//websocket/` is the same path as `/socket/websocket`. phoenix.js sends a path with an empty segment for
`"/socket/"`. Source: `socket` of Phoenix.Endpoint, and `path_info` of Plug.

Query strings become parameters, nested as in Phoenix: `a=1` is `{"a": "1"}`, `a[]=1&a[]=2` is `{"a": ["1", "2"]}`, and
`a[b]=1` is `{"a": {"b": "1"}}`. If a name has two values, the last one counts. Source: Plug.Conn.Query. Ashtree does
not support lists of maps: it reads `a[][b]=1` as a map with an empty name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Generic, TypeVar
from urllib.parse import unquote

from actors.declared import declared
from channels.errors import ChannelsError

__all__ = ["InvalidPath", "InvalidQuery", "PathTable", "cost_of_query", "join_paths", "parse_query"]

T = TypeVar("T")

_VARIABLE = re.compile(r":[A-Za-z_][A-Za-z0-9_]*")


@declared("{message}")
class InvalidPath(ChannelsError, ValueError):
    """A mount path is invalid, or another socket has the same path.

    Attributes:
        message: the text.
        path: the path.
    """

    message: str
    path: object


def join_paths(mount: str, suffix: str) -> str:
    """Append the path of a transport to the path of a mount.

    >>> join_paths("/socket/", "/websocket")
    '/socket/websocket'
    """
    return f"{mount.rstrip('/')}/{suffix.strip('/')}".rstrip("/") or "/"


class PathTable(Generic[T]):
    """A table of mounted values by path.

    >>> table = PathTable()
    >>> table.add("/socket/:tenant/websocket", "a socket")
    >>> table.match("/socket/acme/websocket")
    ('a socket', {'tenant': 'acme'})
    >>> "/elsewhere" in table
    False
    """

    def __init__(self) -> None:
        self._plain: dict[str, T] = {}
        self._patterns: list[tuple[tuple[str, ...], T]] = []

    def add(self, path: str, value: T) -> None:
        """Mount a value.

        Raises:
            InvalidPath: another value has a path that matches the same requests, or a variable is malformed or
            repeated.
        """
        segments = _segments(path)
        plain = _joined(segments)
        names = [segment for segment in segments if ":" in segment]
        for name in names:
            if not _VARIABLE.fullmatch(name) or names.count(name) > 1:
                raise InvalidPath(
                    f"the path {path!r} has the segment {name!r}; write a variable as a whole segment, with a colon "
                    "and a unique name, as in '/socket/:tenant'",
                    path=path,
                )
        shape = _shape(segments)
        if plain in self._plain or any(_shape(taken) == shape for taken, _ in self._patterns):
            raise InvalidPath(
                f"two sockets are mounted at {path!r}; write different paths", path=path
            )
        if names:
            self._patterns.append((segments, value))
        else:
            self._plain[plain] = value

    def match(self, path: str) -> tuple[T, dict[str, str]] | None:
        """Return the value mounted at the path of a request, and the values of the path's variables.

        The result leaves out variables whose name begins with `_`.

        Args:
            path: the path of the request, still percent-encoded. Only the values of variables are decoded.
        """
        value = self._plain.get(path)
        if value is not None:
            return value, {}
        sent = _segments(path)
        value = self._plain.get(_joined(sent))
        if value is not None:
            return value, {}
        for segments, each in self._patterns:
            if len(segments) == len(sent) and all(map(_fits, segments, sent)):
                return each, {
                    name[1:]: unquote(text)
                    for name, text in zip(segments, sent, strict=True)
                    if name.startswith(":") and not name.startswith(":_")
                }
        return None

    def values(self) -> Iterator[T]:
        """Yield all mounted values: first the values at paths without variables, then all others."""
        yield from self._plain.values()
        for _, value in self._patterns:
            yield value

    def __len__(self) -> int:
        return len(self._plain) + len(self._patterns)

    def __contains__(self, path: str) -> bool:
        return self.match(path) is not None

    def __getitem__(self, path: str) -> T:
        found = self.match(path)
        if found is None:
            raise KeyError(path)
        return found[0]


def _segments(path: str) -> tuple[str, ...]:
    return tuple(segment for segment in path.split("/") if segment)


def _joined(segments: tuple[str, ...]) -> str:
    return "/" + "/".join(segments)


def _fits(segment: str, sent: str) -> bool:
    return segment == sent or segment.startswith(":")


def _shape(segments: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(":" if segment.startswith(":") else segment for segment in segments)


_KEY = re.compile(r"([^\[\]]*)((?:\[[^\[\]]*\])*)")
# No client library sends a query with deeper nesting or more fields.
_MAX_DEPTH = 32
_MAX_FIELDS = 1000


@declared("{problem}")
class InvalidQuery(ChannelsError, ValueError):
    """A client sent a malformed query string.

    The error does not contain the query, which may contain tokens.

    Attributes:
        problem: the mistake.
    """

    problem: str


def parse_query(query: str) -> dict[str, Any]:
    """Decode a query string.

        >>> parse_query("vsn=2.0.0&user[name]=ann&tags[]=a&tags[]=b")
        {'vsn': '2.0.0', 'user': {'name': 'ann'}, 'tags': ['a', 'b']}

    This ignores all fields after the first thousand, and fields whose names have more than 32 levels. A percent sign
    without two hexadecimal digits after it stays in the text, as in Phoenix.

    Raises:
        InvalidQuery: percent-encoded bytes are not UTF-8.
    """
    params: dict[str, Any] = {}
    is_encoded = "%" in query or "+" in query
    for field in query.split("&", _MAX_FIELDS)[:_MAX_FIELDS]:
        if not field:
            continue
        key, _, value = field.partition("=")
        if is_encoded:
            key, value = _decoded(key), _decoded(value)
        match = _KEY.fullmatch(key) if "[" in key else None
        if match is None:
            params[key] = value
            continue
        path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        if len(path) <= _MAX_DEPTH:
            _put(params, path, value)
    return params


def _decoded(text: str) -> str:
    try:
        return unquote(text.replace("+", " "), errors="strict")
    except UnicodeDecodeError:
        raise InvalidQuery(
            "the query contains percent-encoded bytes that are not UTF-8; encode text as UTF-8"
        ) from None


def cost_of_query(query: str) -> int:
    """Return the cost of decoding a query string, in units of the work budget. A short query costs nothing."""
    return len(query) >> 3 if len(query) > 512 else 0


def _put(params: dict[str, Any], path: list[str], value: str) -> None:
    here = params
    while len(path) > 1:
        name, *path = path
        if path == [""]:
            items = here.get(name)
            if isinstance(items, list):
                items.append(value)
            else:
                here[name] = [value]
            return
        inner = here.get(name)
        if not isinstance(inner, dict):
            inner = here[name] = {}
        here = inner
    here[path[0]] = value
