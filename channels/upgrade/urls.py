"""Paths that sockets are mounted at: `/socket/websocket`, `/socket/:tenant/websocket`.

*pure*. A segment that begins with a colon stands for any one segment that is not empty, and names it; what it stood
for becomes a parameter of the socket's `connect`. Paths without such segments are looked up first, the others in the
order of their declaration.

Empty segments do not count: `/socket//websocket/` is `/socket/websocket`, as phoenix.js asks for it when it is given
`"/socket/"`.

After Phoenix.Endpoint's `socket`, and Plug's `path_info`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl, unquote

from channels.errors import ChannelsError

__all__ = ["InvalidPath", "InvalidQuery", "PathTable", "cost_of_query", "join_paths", "parse_query"]

T = TypeVar("T")

_VARIABLE = re.compile(r":[A-Za-z_][A-Za-z0-9_]*")


class InvalidPath(ChannelsError, ValueError):
    """A path that something is mounted at cannot be one, or is taken. Field: `path`, as it was declared."""

    def __init__(self, message: str, *, path: object) -> None:
        super().__init__(message)
        self.path = path


def join_paths(mount: str, suffix: str) -> str:
    """Put the path of a transport behind that of its mount.

    >>> join_paths("/socket/", "/websocket")
    '/socket/websocket'
    """
    return f"{mount.rstrip('/')}/{suffix.strip('/')}".rstrip("/") or "/"


class PathTable(Generic[T]):
    """What is mounted where.

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
            InvalidPath: something of the same shape is mounted there, or a variable is none or is there twice.
        """
        segments = _segments(path)
        plain = _joined(segments)
        names = [segment for segment in segments if ":" in segment]
        for name in names:
            if not _VARIABLE.fullmatch(name) or names.count(name) > 1:
                raise InvalidPath(
                    f"the path {path!r} has the segment {name!r}; a variable is a whole segment, a colon and a name "
                    "that is there once, as in '/socket/:tenant'",
                    path=path,
                )
        shape = _shape(segments)
        if plain in self._plain or any(_shape(taken) == shape for taken, _ in self._patterns):
            raise InvalidPath(
                f"two sockets are mounted at {path!r}; give each a path of its own", path=path
            )
        if names:
            self._patterns.append((segments, value))
        else:
            self._plain[plain] = value

    def match(self, path: str) -> tuple[T, dict[str, str]] | None:
        """Find what is mounted at the path of a request, and what its variables stand for.

        Args:
            path: as it was sent, percent signs included; only what variables stand for is decoded.

        A variable whose name begins with `_` stands for a segment that nobody wants to know.
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
        """Everything that is mounted, paths without variables first."""
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
# A query that nests deeper than this, or has more fields, is not one that a client library makes.
_MAX_DEPTH = 32
_MAX_FIELDS = 1000
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


class InvalidQuery(ChannelsError, ValueError):
    """A client sent a query string that cannot be decoded.

    The query itself is not kept: tokens travel in it. Field: `problem`, the same text.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def parse_query(query: str) -> dict[str, Any]:
    """Decode a query string.

        >>> parse_query("vsn=2.0.0&user[name]=ann&tags[]=a&tags[]=b")
        {'vsn': '2.0.0', 'user': {'name': 'ann'}, 'tags': ['a', 'b']}

    Fields beyond the first thousand are left out, as are names nested more than 32 deep.

    Raises:
        InvalidQuery: a percent sign without two hexadecimal digits behind it, or bytes that are not UTF-8.
    """
    if _BAD_PERCENT.search(query):
        raise InvalidQuery(
            "the query has a percent sign without two hexadecimal digits behind it; write %25 for a percent sign"
        )
    if query.count("&") >= _MAX_FIELDS:
        query = "&".join(query.split("&", _MAX_FIELDS)[:_MAX_FIELDS])
    params: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise InvalidQuery(
            "the query is not UTF-8 when its percent signs are decoded; encode it as UTF-8"
        ) from None
    for key, value in pairs:
        match = _KEY.fullmatch(key)
        if match is None:
            params[key] = value
            continue
        path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        if len(path) <= _MAX_DEPTH:
            _put(params, path, value)
    return params


def cost_of_query(query: str) -> int:
    """Return the cost of decoding a query string, in units of the work budget. A usual query costs nothing."""
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
