r"""The head of an HTTP request, without I/O: bytes in, a `Head` or a refusal out.

*pure*. An endpoint reads the head of a connection's first request to decide who serves it: its own
WebSocket transport, or the HTTP server, which then gets everything that was read.

    parser = HeadParser()
    while (result := parser.feed(await more_bytes())) is None:
        ...
    match result:
        case BadRequest(): ...      # answer with result.status, then close
        case Head(): ...            # result.path, result.headers; result.rest came after the head

Strict where leniency has let requests be smuggled past somebody: a line ends with CR LF, a header
is on one line, a name is followed by its colon, control characters are refused, `Host` is there
once, a body has one length. Nothing is decoded: `%2F` in a path is still `%2F`.

Source: RFC 9112, sections 2 to 6; RFC 9110, section 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

from attrs import field, frozen

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
"""Bytes of a head. As much as the HTTP server behind takes, and twice what most clients send."""

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# The quantifiers are possessive, so a head that does not match is known to be wrong after one look.
_HEADERS = re.compile(rf"(?:{_NAME}++:[\t -~\x80-\xff]*+\r\n)*+".encode("latin-1"))
_REQUEST_LINE = re.compile(rf"({_NAME}++) ([!-~]++) HTTP/([0-9])\.([0-9])")
_START = re.compile(rf"{_NAME}|\r".encode())
_BARE_LF = re.compile(rb"(?<!\r)\n")
_ABSOLUTE = re.compile(r"(?i:https?)://([^/?#@]+)([^#]*)")
# Headers that carry one value. A second one is a mistake or an attack, and in any case leaves open
# which of the two counts.
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
    """The headers of one request: names in any case, values as text.

        >>> headers = Headers([("host", "example.org"), ("accept", "a"), ("accept", "b")])
        >>> headers["Host"], headers.get("ACCEPT"), headers.get("cookie")
        ('example.org', 'a, b', None)

    A header that was sent several times reads as its values joined by commas, as RFC 9110 section
    5.3 has it. Iterating gives name and value, the name in lower case, in the order of the
    request. Bytes beyond ASCII are read as ISO 8859-1.
    """

    __slots__ = ("_items",)

    def __init__(self, items: list[tuple[str, str]]) -> None:
        self._items = items

    def get(self, name: str, default: str | None = None) -> str | None:
        """Give the value of a header, or `default` if it was not sent."""
        name = name.lower()
        values = [value for each, value in self._items if each == name]
        return ", ".join(values) if values else default

    def tokens(self, name: str) -> list[str]:
        """Give the elements of a header that is a list, such as `Connection`, in lower case."""
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
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        # Values are cookies and tokens as often as not, and this is what ends up in a log.
        return f"<Headers {', '.join(name for name, _ in self._items)}>"


@frozen(kw_only=True)
class Head:
    """The head of one request.

    - `method`: as sent, `"GET"`;
    - `target`: as sent, `"/socket/websocket?vsn=2.0.0"`;
    - `path`, `query`: the two halves of it, not decoded, without the `?`. Of an absolute target
      (`http://host/path`) those after the host. `"*"` and `host:port` count as a path;
    - `version`: `"1.1"`; `"2.0"` is what a client that speaks HTTP/2 without asking says;
    - `headers`: see `Headers`. Of an absolute target, `host` is the one in the target;
    - `received`: everything that was read, head and rest, for somebody who parses it again;
    - `rest`: what came after the head.
    """

    method: str
    target: str
    path: str
    query: str
    version: str
    headers: Headers
    received: bytes = field(repr=False)
    rest: bytes = field(repr=False)


@frozen(kw_only=True)
class BadRequest:
    """What was sent is not a head that anybody here would answer.

    - `status`: the HTTP status to answer with: 400, 414, 431 or 505;
    - `problem`: what is wrong, for the body of the answer and for the log.
    """

    status: int
    problem: str


ParsedHead: TypeAlias = Head | BadRequest
"""What a `HeadParser` comes to."""


class HeadParser:
    r"""Collects the bytes of one head.

        >>> parser = HeadParser()
        >>> parser.feed(b"GET /socket?vsn=2.0.0 HTT")
        >>> head = parser.feed(b"P/1.1\r\nHost: localhost\r\n\r\n")
        >>> head.path, head.query, head.headers["host"]
        ('/socket', 'vsn=2.0.0', 'localhost')

    - `max_size`: bytes of a head, blank line included.

    Never raises, whatever is sent. Not limited in time.
    """

    __slots__ = ("_buffer", "_max_size", "_searched")

    def __init__(self, *, max_size: int = DEFAULT_MAX_HEAD_SIZE) -> None:
        self._buffer = b""
        self._searched = 0
        self._max_size = max_size

    @property
    def begun(self) -> bool:
        """Whether a part of a head has arrived."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> ParsedHead | None:
        """Take what has arrived; answer None as long as the head is not whole.

        Not to be called again after another answer.
        """
        data = self._buffer + data if self._buffer else data
        # Some clients send an empty line after the body of an earlier request: RFC 9112, 2.2.
        start = 2 if data.startswith(b"\r\n") else 0
        end = data.find(b"\r\n\r\n", max(start, self._searched))
        if end < 0:
            self._buffer = data
            self._searched = max(0, len(data) - 3)
            return self._unfinished(data, start)
        if end - start + 4 > self._max_size:
            return self._too_large(data)
        return _parse(data[start:], end - start)

    def _unfinished(self, data: bytes, start: int) -> BadRequest | None:
        if len(data) >= self._max_size:
            return self._too_large(data)
        if len(data) > start and not _START.match(data, start):
            # The beginning of TLS, for example: no need to wait for the end of it.
            return BadRequest(status=400, problem="this is not an HTTP request")
        if _BARE_LF.search(data):
            return BadRequest(status=400, problem="a line of the head ends without CR")
        return None

    def _too_large(self, data: bytes) -> BadRequest:
        if data.find(b"\r\n", 2, self._max_size) < 0:
            return BadRequest(
                status=414, problem=f"the request line is longer than {self._max_size} bytes"
            )
        return BadRequest(status=431, problem=f"the headers take more than {self._max_size} bytes")


def split_absolute(target: str) -> tuple[str, str] | None:
    """Split a request target in absolute form into its host and what follows; None for one in another form.

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
    if version not in {"1.0", "1.1"} and first != b"PRI * HTTP/2.0":
        return BadRequest(status=505, problem=f"HTTP/{version} is not spoken here")
    if not _HEADERS.fullmatch(block):
        return BadRequest(status=400, problem="a header is malformed")
    headers = []
    seen = set()
    for text in block.decode("latin-1").split("\r\n")[:-1]:
        name, _, value = text.partition(":")
        name = name.lower()
        if name in _SINGLE:
            if name in seen:
                return BadRequest(status=400, problem=f"the header {name!r} is there twice")
            seen.add(name)
        elif name == "transfer-encoding":
            seen.add(name)
        headers.append((name, value.strip(" \t")))
    if {"content-length", "transfer-encoding"} <= seen:
        # The two may disagree about the end of the body: RFC 9112, 6.1 and 6.3.
        return BadRequest(
            status=400, problem="'content-length' and 'transfer-encoding' are both there; send one"
        )
    if version == "1.1" and "host" not in seen:
        return BadRequest(status=400, problem="the header 'host' is missing")
    absolute = split_absolute(target)
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
