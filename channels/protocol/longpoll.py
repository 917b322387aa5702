"""The options of long polling, and its messages: batches from clients, and answers to them.

*pure*. A client's first GET starts a session. In a session, a GET waits for messages, and a POST sends messages:

    GET                       200 {"messages":[],"status":410,"token":T}         a new session
    GET  + T                  200 {"messages":["..."],"status":200,"token":T}    or 204, if no message came in time
    POST + T, NDJSON          200 {"status":200}                                 or 408, or 410 without a session

T is the token of the session. The status in the body is the result of the request. The HTTP status is 200, except for
malformed requests. A batch (NDJSON) has one message on each line. A line that begins with `[` is JSON. Any other line
is a binary message in base64. A body of any other type is one message.

Source: Phoenix.Transports.LongPoll 1.8.12. The answers have the same bytes.

A load balancer may send a request to a node that does not hold the session of the request. Then this node exchanges
messages with the node of the session. The second half of this module defines these messages, which are JSON objects
with a `kind`. `channels.longpoll.relay` sends them:

    the node that got the request             the node of the session
    ForwardedPoll, ForwardedPost ───────────▶
      ◀────────────────────────────────────── Found, or NotFound
      ◀────────────────────────────────────── Answer
    Delivered, or NotDelivered ─────────────▶ for an answer with messages

The first message carries the first piece of a body. The receiver asks for further pieces with `More`, and gets each one
as a `Piece`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from actors.arguments import check_positive, check_whole
from actors.errors import InvalidOption
from channels.topics import INTERNAL
from channels.wire.cross_site import preflight_headers

__all__ = [
    "MAX_BASE64",
    "MAX_LINES",
    "NDJSON",
    "PIECE",
    "PIECES",
    "TOKEN_HEADER",
    "Answer",
    "Arriving",
    "Delivered",
    "ForwardedPoll",
    "ForwardedPost",
    "Found",
    "Line",
    "LongPoll",
    "More",
    "NotDelivered",
    "NotFound",
    "Piece",
    "PollAnswer",
    "Relayed",
    "left_out",
    "messages_answer",
    "messages_of",
    "plain_answer",
    "preflight_answer",
    "read_relayed",
    "relay_topic",
    "relayed_answer",
    "status_answer",
    "token_of",
]


class LongPoll(msgspec.Struct, frozen=True, kw_only=True):
    """Options of long polling, for `Mount(UserSocket, longpoll=LongPoll(window=20.0))`.

    Args:
        path: the suffix of the mount's path for polling clients. It may contain variables.
        window: seconds that a poll waits for messages, and seconds to process a message of the client. The server ends
            a session after one and a half windows without a poll. It checks at this interval, so by default a session
            ends 15 to 30 seconds after its last poll.
        pubsub_timeout: seconds for a session to answer a request, on this node or another one. After that, the session
            counts as gone. When a poll came through another node, that node has the same time to confirm that it got
            the messages.
        max_age: seconds until the token of a session expires. The token expires even if the session still runs.
        max_body_bytes: the maximum bytes of a request body. A request with a larger body gets 400.
        body_timeout: seconds for a client to send a request body. After that, the client gets 408.

    Phoenix has the same defaults, and Plug has the same limit on bodies. Phoenix has no `body_timeout`.

    Raises:
        InvalidOption: a number is not above 0, or the path does not begin with a slash.
    """

    path: str = "/longpoll"
    window: float = 10.0
    pubsub_timeout: float = 2.0
    max_age: float = 1_209_600
    max_body_bytes: int = 8_000_000
    body_timeout: float = 30.0

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not self.path.startswith("/"):
            raise InvalidOption(
                "LongPoll", "path", self.path, 'a path that begins with a slash: "/longpoll"'
            )
        for name in ("window", "pubsub_timeout", "max_age", "body_timeout"):
            check_positive("LongPoll", name, getattr(self, name))
        check_whole("LongPoll", "max_body_bytes", self.max_body_bytes)


TOKEN_HEADER: Final = "x-phoenix-longpoll-token"  # noqa: S105 - the name of a header
NDJSON: Final = "application/x-ndjson"
MAX_LINES: Final = 100
"""The maximum messages of a batch. The server ignores further messages, and does not tell the client."""
MAX_BASE64: Final = 10_000_000
"""The maximum characters of a message in base64."""

_ORIGIN = ("access-control-allow-origin", "*")
_JSON_HEADERS = (
    _ORIGIN,
    ("content-type", "application/json; charset=utf-8"),
    ("cache-control", "no-store"),
)
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_PADDINGS = (b"", b"=", b"==")


class PollAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer.

    Attributes:
        status: the HTTP status.
        headers: pairs of lower-case name and value, without the length of the body.
        body: the body.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = (_ORIGIN,)
    body: bytes = b""


class Line(msgspec.Struct, frozen=True):
    """One message of a client: UTF-8 text, or the bytes of a binary message."""

    data: bytes
    binary: bool


# Answers


def status_answer(status: int) -> PollAnswer:
    """Make an answer whose body contains only a status.

    >>> status_answer(410).body
    b'{"status":410}'
    """
    return PollAnswer(headers=_JSON_HEADERS, body=b'{"status":%d}' % status)


def messages_answer(status: int, token: str, messages: Iterable[bytes] = ()) -> PollAnswer | None:
    r"""Make an answer that contains messages. Each message is an encoded frame.

        >>> messages_answer(200, "T", [b'["1"]']).body
        b'{"messages":["[\\"1\\"]"],"status":200,"token":"T"}'

    Returns:
        The answer; None if a binary message is not UTF-8, because long polling cannot carry it.
    """
    try:
        texts = [message.decode() for message in messages]
    except UnicodeDecodeError:
        return None
    body = msgspec.json.encode({"messages": texts, "status": status, "token": token})
    return PollAnswer(headers=_JSON_HEADERS, body=body)


def plain_answer(status: int, headers: Iterable[tuple[str, str]] = ()) -> PollAnswer:
    """Make the answer to a refused request: an HTTP status, additional headers and an empty body."""
    return PollAnswer(status=status, headers=(_ORIGIN, *headers))


def preflight_answer(requested: str) -> PollAnswer:
    """Make the answer to a CORS preflight request that allows the real request. The caller has checked the origin.

    Args:
        requested: the value of the header `access-control-request-headers`.
    """
    return PollAnswer(
        headers=(_ORIGIN, *preflight_headers("get, post, options", requested).items())
    )


# Requests


def token_of(header: str | None, params: Mapping[str, Any]) -> str | None:
    """Return the token in a request: the value of the header `TOKEN_HEADER`. Without this header, the parameter."""
    token = header if header is not None else params.get("token")
    return token if isinstance(token, str) else None


def messages_of(body: bytes, content_type: str | None) -> Iterator[Line | PollAnswer]:
    r"""Yield the messages of a body. If a line is invalid, the last item is a `PollAnswer` that refuses it.

    >>> list(messages_of(b'["1"]\nAAEC', NDJSON))
    [Line(data=b'["1"]', binary=False), Line(data=b'\x00\x01\x02', binary=True)]

    An empty line is an empty binary message. So a newline at the end of a batch adds an empty binary message.

    Args:
        body: the body of the request.
        content_type: the content type of the request. The body is a batch only if this is exactly `NDJSON`, without
            parameters.
    """
    if content_type != NDJSON:
        yield Line(body, binary=False)
        return
    # `_lines` returns the lines after the maximum as one last item, which this drops.
    for line in _lines(body)[:MAX_LINES]:
        if line.startswith(b"["):
            yield Line(line, binary=False)
            continue
        if len(line) > MAX_BASE64:
            yield plain_answer(400)
            return
        if len(line) % 4 or not _is_base64(line):
            yield plain_answer(500)
            return
        yield Line(base64.b64decode(line), binary=True)


def _lines(body: bytes) -> list[bytes]:
    # `split` takes a tenth of the time of a regular expression.
    *lines, last = body.split(b"\n", MAX_LINES)
    return [*(line.removesuffix(b"\r") for line in lines), last]


def _is_base64(line: bytes) -> bool:
    # Checked here, because Python's decoder accepts some padding that is too long, depending on Python's version.
    padding = line.translate(None, _BASE64)
    return padding in _PADDINGS and line.endswith(padding)


def left_out(body: bytes, content_type: str | None) -> int:
    r"""Return the number of lines that `messages_of` ignores because they are beyond `MAX_LINES`.

    >>> left_out(b"\n" * 101, NDJSON)
    2
    """
    return max(0, body.count(b"\n") + 1 - MAX_LINES) if content_type == NDJSON else 0


# Between nodes

PIECE: Final = 96 * 1024
"""The maximum bytes of a body in one message between nodes. In JSON they become 128 KiB of base64."""
PIECES: Final = 8
"""The number of pieces that a node sends for one `More`. When all have arrived, the receiver sends another `More`."""

_Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
_Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class _Relayed(msgspec.Struct, frozen=True, tag_field="kind"):
    """A message about one forwarded request.

    Attributes:
        id: the id of the request. It begins with the name of the relay that forwarded the request.
    """

    id: str


class ForwardedPoll(_Relayed, frozen=True, tag="poll"):
    """A GET for a session of another node.

    Attributes:
        node: the name of the node that got the request.
        token: the token of the session.
        find: seconds to find the session, and seconds to confirm messages afterwards.
        window: seconds for the answer.
    """

    node: str
    token: str
    find: _Seconds
    window: _Seconds


class ForwardedPost(_Relayed, frozen=True, tag="post"):
    """A POST for a session of another node. See `ForwardedPoll`.

    Attributes:
        content_type: the content type of the body; None if the request has no such header, or several.
        size: bytes of the body.
        data: the first piece of the body.
    """

    node: str
    token: str
    find: _Seconds
    window: _Seconds
    content_type: str | None
    size: _Size
    data: bytes


class Found(_Relayed, frozen=True, tag="found"):
    """The session exists. An `Answer` follows."""


class NotFound(_Relayed, frozen=True, tag="not_found"):
    """The session does not exist, or has ended."""


class Answer(_Relayed, frozen=True, tag="answer"):
    """The answer for the client.

    Attributes:
        status: the HTTP status.
        size: bytes of the body, which is JSON or empty.
        data: the first piece of the body.
        confirm: True if the answer contains messages. The session keeps them until it gets `Delivered`.
    """

    status: Annotated[int, msgspec.Meta(ge=100, le=599)]
    size: _Size
    data: bytes
    confirm: bool = False


class More(_Relayed, frozen=True, tag="more"):
    """A request for the pieces of a body that begin at `offset`."""

    offset: _Size


class Piece(_Relayed, frozen=True, tag="piece"):
    """The piece of a body that begins at `offset`."""

    offset: _Size
    data: bytes


class Delivered(_Relayed, frozen=True, tag="delivered"):
    """A node got the whole answer, and its client is still connected."""


class NotDelivered(_Relayed, frozen=True, tag="not_delivered"):
    """A node no longer waits for the answer: the client left, or the time is up. The session keeps its messages."""


Relayed: TypeAlias = (
    ForwardedPoll
    | ForwardedPost
    | Found
    | NotFound
    | Answer
    | More
    | Piece
    | Delivered
    | NotDelivered
)
"""A message between the relays of two nodes."""


def relayed_answer(status: int, body: bytes) -> PollAnswer:
    """Make the answer for the client from the answer of another node. Its body is JSON or empty."""
    return PollAnswer(status=status, headers=_JSON_HEADERS if body else (_ORIGIN,), body=body)


def relay_topic(node: str) -> str:
    """Return the PubSub topic on which a node receives the messages of other relays.

    >>> relay_topic("web-1")
    'ashtree:longpoll:web-1'
    """
    return f"{INTERNAL}longpoll:{node}"


def read_relayed(message: Any) -> Relayed | None:
    """Decode a message of another node from its JSON value. Return None if the message is malformed."""
    try:
        relayed: Relayed = msgspec.convert(message, Relayed)
    except msgspec.ValidationError:
        return None
    return relayed


class Arriving:
    """A body that arrives in pieces.

        >>> body = Arriving(size=5, data=b"abc")
        >>> body.wants(), body.add(3, b"de"), body.whole()
        (3, True, b'abcde')

    Args:
        size: bytes of the whole body.
        data: the first piece of the body.
    """

    __slots__ = ("_data", "_expected", "size")

    def __init__(self, size: int, data: bytes) -> None:
        self.size = size
        self._data = bytearray(data)
        # `wants` has requested all bytes before this offset.
        self._expected = len(data)

    def add(self, offset: int, data: bytes) -> bool:
        """Add the next piece. Return False if it does not follow, for example because an earlier piece was lost."""
        if offset != len(self._data) or not data or offset + len(data) > self.size:
            return False
        self._data += data
        return True

    def wants(self) -> int | None:
        """Return the offset for the next `More`; None while requested pieces are missing, or if the body is whole."""
        have = len(self._data)
        if have < self._expected or have >= self.size:
            return None
        self._expected = min(self.size, have + PIECES * PIECE)
        return have

    @property
    def is_whole(self) -> bool:
        """True if the body is complete."""
        return len(self._data) == self.size

    def whole(self) -> bytes:
        """Return the complete body."""
        return bytes(self._data)
