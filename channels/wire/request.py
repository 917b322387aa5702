"""A parser for the head of an HTTP request.

*pure*. An endpoint reads the head of a connection's first request. Then its WebSocket transport serves the connection,
or the endpoint passes all bytes to the HTTP server.

    parser = HeadParser()
    while (result := parser.feed(await more_bytes())) is None:
        ...
    match result:
        case BadRequest(): ...      # answer with result.status, then close
        case Head(): ...            # result.path, result.headers; result.rest has the bytes after the head

The parser is strict, because lenient parsers allow request smuggling. A line must end with CR LF. A header must be on
one line, with the colon right after its name, and without control characters. `Host` must appear once, and a body must
have one length. The parser decodes nothing: `%2F` in a path stays `%2F`.

Source: RFC 9112, sections 2 to 6; RFC 9110, section 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

__all__ = [
    "DEFAULT_MAX_HEAD_SIZE",
    "BadRequest",
    "Head",
    "HeadParser",
    "Headers",
    "ParsedHead",
    "split_absolute",
]

DEFAULT_MAX_HEAD_SIZE = 16 * 1024
"""The maximum bytes of a head. Hypercorn has the same limit, and most clients send half as much."""

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# Possessive quantifiers, so that a head that does not match fails after one pass.
_HEADER = re.compile(rf"({_NAME}++):([\t -~\x80-\xff]*+)\r\n")
_HEADERS = re.compile(f"(?:{_HEADER.pattern})*+")
_REQUEST_LINE = re.compile(rf"({_NAME}++) ([!-~]++) HTTP/([0-9])\.([0-9])")
_START = re.compile(rf"{_NAME}|\r".encode())
_BARE_LF = re.compile(rb"(?<!\r)\n")
_ABSOLUTE = re.compile(r"(?i:https?)://([^/?#@]+)([^#]*)")
# Headers that must have one value. A second value is a mistake or an attack, because some parsers use the first value
# and others the second.
_SINGLE = frozenset(
    (
        "authorization",
        "content-length",
        "host",
        "origin",
        "sec-websocket-key",
        "sec-websocket-version",
    )
)


class Headers:
    """The headers of a request. Look-ups ignore the case of names.

        >>> headers = Headers([("host", "example.org"), ("accept", "a"), ("accept", "b")])
        >>> headers["Host"], headers.get("ACCEPT"), headers.get("cookie")
        ('example.org', 'a, b', None)

    If a header appears several times, its value is all values joined by commas (RFC 9110, section 5.3). Iteration
    yields pairs of lower-case name and value in the order of the request. Bytes beyond ASCII decode as ISO 8859-1.

    Attributes:
        items: the pairs.
        by_name: the values by lower-case name. An upgrade needs ten of them, so it looks them up here.
    """

    __slots__ = ("by_name", "items")

    def __init__(self, items: list[tuple[str, str]]) -> None:
        self.items = tuple(items)
        self.by_name = dict(items)
        if len(self.by_name) < len(items):
            values: dict[str, list[str]] = {}
            for name, value in items:
                values.setdefault(name, []).append(value)
            self.by_name = {name: ", ".join(each) for name, each in values.items()}

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of a header, or `default` if the request does not have it."""
        return self.by_name.get(name.lower(), default)

    def tokens(self, name: str) -> list[str]:
        """Return the elements of a list header, such as `Connection`, in lower case."""
        value = self.get(name, "")
        assert value is not None
        return [token for each in value.split(",") if (token := each.strip(" \t").lower())]

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        # Only names, because this text may appear in logs, and values may be cookies and tokens.
        return f"<Headers {', '.join(name for name, _ in self.items)}>"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The head of one request.

    Attributes:
        method: the method, such as `"GET"`.
        target: the target, such as `"/socket/websocket?vsn=2.0.0"`.
        path: the path of the target, not decoded. If the target is a whole URL, this is the part after the host. If it
            is `"*"` or `host:port`, this is the whole target.
        query: the part after the `?`, not decoded.
        version: `"1.1"` or `"1.0"`.
        headers: the headers. If the target is a whole URL, `host` is the host of that URL.
        received: all bytes that the parser got, head and rest, for another parser.
        rest: the bytes after the head.
    """

    method: str
    target: str
    path: str
    query: str
    version: str
    headers: Headers
    received: bytes
    rest: bytes

    def __repr__(self) -> str:
        # The bytes contain secrets. `Headers` hides its values itself.
        return f"Head({self.method!r}, {self.path!r}, HTTP/{self.version}, {self.headers!r})"


class BadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The refusal of a head.

    Attributes:
        status: the HTTP status of the response: 400, 414, 431 or 505.
        problem: the problem, for the body of the response and for the log.
    """

    status: int
    problem: str


ParsedHead: TypeAlias = Head | BadRequest
"""The result of a `HeadParser`."""


class HeadParser:
    r"""Collect and parse the bytes of one head.

        >>> parser = HeadParser()
        >>> parser.feed(b"GET /socket?vsn=2.0.0 HTT")
        >>> head = parser.feed(b"P/1.1\r\nHost: localhost\r\n\r\n")
        >>> head.path, head.query, head.headers["host"]
        ('/socket', 'vsn=2.0.0', 'localhost')

    The parser never raises. It has no time limit.

    Args:
        max_size: bytes of a head, including the blank line.
    """

    __slots__ = ("_buffer", "_max_size", "_searched")

    def __init__(self, *, max_size: int = DEFAULT_MAX_HEAD_SIZE) -> None:
        self._buffer = b""
        self._searched = 0
        self._max_size = max_size

    @property
    def begun(self) -> bool:
        """True if a part of a head has arrived."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> ParsedHead | None:
        """Parse more bytes. Return None while the head is incomplete.

        After a result other than None, do not call this again.
        """
        data = self._buffer + data if self._buffer else data
        # Some clients send an empty line after the body of an earlier request (RFC 9112, section 2.2).
        start = 2 if data.startswith(b"\r\n") else 0
        end = data.find(b"\r\n\r\n", max(start, self._searched))
        if end < 0:
            read = len(self._buffer)
            self._buffer = data
            self._searched = max(0, len(data) - 3)
            return self._unfinished(data, start, read)
        if end - start + 4 > self._max_size:
            return self._too_large(data)
        return _parse(data[start:], end - start)

    def _unfinished(self, data: bytes, start: int, read: int) -> BadRequest | None:
        if len(data) >= self._max_size:
            return self._too_large(data)
        if len(data) > start and not _START.match(data, start):
            # Refused now, because a client that begins with TLS may send no more bytes.
            return BadRequest(status=400, problem="this is not an HTTP request")
        # Search only the new bytes, because a head may arrive byte by byte.
        if _BARE_LF.search(data, read):
            return BadRequest(status=400, problem="a line of the head ends without CR")
        return None

    def _too_large(self, data: bytes) -> BadRequest:
        if data.find(b"\r\n", 2, self._max_size) < 0:
            return BadRequest(
                status=414, problem=f"the request line is longer than {self._max_size} bytes"
            )
        return BadRequest(status=431, problem=f"the headers take more than {self._max_size} bytes")


def split_absolute(target: str) -> tuple[str, str] | None:
    """Split a request target that is a whole URL into the host and the rest. Return None for any other target.

    >>> split_absolute("http://example.org:4000/socket?vsn=2.0.0")
    ('example.org:4000', '/socket?vsn=2.0.0')
    """
    absolute = _ABSOLUTE.fullmatch(target)
    return None if absolute is None else (absolute[1], absolute[2])


def _parse(received: bytes, end: int) -> ParsedHead:
    first, _, block = received[: end + 2].partition(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first.decode("latin-1"))
    if line is None:
        return BadRequest(status=400, problem="the request line is malformed")
    method, target, major, minor = line.groups()
    version = f"{major}.{minor}"
    if version not in {"1.0", "1.1"}:
        return BadRequest(status=505, problem=f"HTTP/{version} is not supported; use HTTP/1.1")
    text = block.decode("latin-1")
    if not _HEADERS.fullmatch(text):
        return BadRequest(status=400, problem="a header is malformed")
    headers = [(name.lower(), value.strip(" \t")) for name, value in _HEADER.findall(text)]
    seen = dict(headers)
    if len(seen) < len(headers):
        names = [name for name, _ in headers if name in _SINGLE]
        for name in names:
            if names.count(name) > 1:
                return BadRequest(
                    status=400, problem=f"the header {name!r} appears twice; send it once"
                )
    if "content-length" in seen and "transfer-encoding" in seen:
        # The two headers may disagree about the end of the body (RFC 9112, sections 6.1 and 6.3).
        return BadRequest(
            status=400,
            problem="the headers 'content-length' and 'transfer-encoding' are both present; send one",
        )
    if version == "1.1" and "host" not in seen:
        return BadRequest(status=400, problem="the header 'host' is missing; HTTP/1.1 requires it")
    # Most targets are a path, so they need no further look.
    absolute = None if target.startswith("/") else split_absolute(target)
    if absolute is None:
        path, _, query = target.partition("?")
    else:
        path, _, query = absolute[1].partition("?")
        path = path or "/"
        headers = [(name, absolute[0] if name == "host" else value) for name, value in headers]
    return Head(
        method=method,
        target=target,
        path=path,
        query=query,
        version=version,
        headers=Headers(headers),
        received=received,
        rest=received[end + 4 :],
    )
