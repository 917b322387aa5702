"""The options and the messages of long polling, without I/O: batches in, answers out.

*pure*. A client without a session gets one with a GET. With a session, a GET waits for messages and a POST sends some:

    GET                       200 {"messages":[],"status":410,"token":T}         a new session
    GET  + T                  200 {"messages":["..."],"status":200,"token":T}    or 204, if no message came in time
    POST + T, NDJSON          200 {"status":200}                                 or 408, or 410 without a session

The status in the body counts. The HTTP status is 200, except for malformed requests. A batch has one message on each
line: JSON, which begins with `[`, or base64 of a binary message. A body of any other type is one message.

After Phoenix.Transports.LongPoll 1.8.12, byte for byte.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from attrs import field, frozen

from channels.errors import InvalidOption, positive, whole

__all__ = [
    "MAX_BASE64",
    "MAX_LINES",
    "NDJSON",
    "TOKEN_HEADER",
    "Line",
    "LongPoll",
    "PollAnswer",
    "left_out",
    "messages_answer",
    "messages_of",
    "plain_answer",
    "preflight_answer",
    "status_answer",
    "token_of",
]


def _path(options: LongPoll, attribute: Any, value: Any) -> None:
    if not isinstance(value, str) or not value.startswith("/"):
        raise InvalidOption(
            "LongPoll", "path", value, 'a path that begins with a slash: "/longpoll"'
        )


@frozen(kw_only=True)
class LongPoll:
    """Options of long polling, for `Mount(UserSocket, longpoll=LongPoll(window=20.0))`.

    Args:
        path: appended to the path of the mount. It may have variables, too.
        window: seconds that the server holds a poll while no message waits, and seconds to process a message of the
            client. The server ends a session that was not polled for one and a half windows. It checks once per such
            time, so a session ends after 15 to 30 seconds by default.
        pubsub_timeout: seconds for a session to answer a request. A session that does not answer counts as gone.
        max_age: seconds until the token of a session expires, even if the session still runs.
        max_body_bytes: bytes of one request, for all its messages. A larger one gets 400.
        body_timeout: seconds for a client to send a request. A slower one gets 408.

    The defaults are those of Phoenix, and those of Plug for the size of bodies. `body_timeout` is ours.

    Raises:
        InvalidOption: a number is not above 0, or the path does not begin with a slash.
    """

    path: str = field(default="/longpoll", validator=_path)
    window: float = field(default=10.0, validator=positive)
    pubsub_timeout: float = field(default=2.0, validator=positive)
    max_age: float = field(default=1_209_600, validator=positive)
    max_body_bytes: int = field(default=8_000_000, validator=whole)
    body_timeout: float = field(default=30.0, validator=positive)


TOKEN_HEADER: Final = "x-phoenix-longpoll-token"  # noqa: S105 - the name of a header
NDJSON: Final = "application/x-ndjson"
MAX_LINES: Final = 100
"""Messages of a batch. The server ignores the rest and does not tell the client."""
MAX_BASE64: Final = 10_000_000
"""Characters of a message in base64."""

_ORIGIN = ("access-control-allow-origin", "*")
_JSON_HEADERS = (
    _ORIGIN,
    ("content-type", "application/json; charset=utf-8"),
    ("cache-control", "no-store"),
)
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_PADDINGS = (b"", b"=", b"==")


@frozen(kw_only=True)
class PollAnswer:
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
    """Make an answer with a status alone.

    >>> status_answer(410).body
    b'{"status":410}'
    """
    return PollAnswer(headers=_JSON_HEADERS, body=b'{"status":%d}' % status)


def messages_answer(status: int, token: str, messages: Iterable[bytes] = ()) -> PollAnswer | None:
    r"""Make an answer with messages, each an encoded frame.

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


def plain_answer(status: int) -> PollAnswer:
    """Make an answer with an HTTP status and no body, for a request that cannot be served."""
    return PollAnswer(status=status)


def preflight_answer(requested: str) -> PollAnswer:
    """Allow pages of other origins to ask. The caller has checked the origin.

    Args:
        requested: the header `access-control-request-headers`.
    """
    return PollAnswer(
        headers=(
            _ORIGIN,
            ("access-control-allow-headers", requested),
            ("access-control-allow-methods", "get, post, options"),
            ("access-control-max-age", "3600"),
        )
    )


# Requests


def token_of(header: str | None, params: Mapping[str, Any]) -> str | None:
    """Return the token of a session: the header `TOKEN_HEADER`, even if it is invalid, or else the parameter."""
    token = header if header is not None else params.get("token")
    return token if isinstance(token, str) else None


def messages_of(body: bytes, content_type: str | None) -> Iterator[Line | PollAnswer]:
    r"""Yield the messages of a body. A `PollAnswer` is the last item; it says that a line is invalid.

    >>> list(messages_of(b'["1"]\nAAEC', NDJSON))
    [Line(data=b'["1"]', binary=False), Line(data=b'\x00\x01\x02', binary=True)]

    An empty line is an empty binary message; a newline at the end of a batch makes one.

    Args:
        body: of the request.
        content_type: of the request. Only `NDJSON` exactly, without parameters, is a batch.
    """
    if content_type != NDJSON:
        yield Line(body, binary=False)
        return
    # The lines beyond the bound are one piece, which is ignored.
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
    # This takes a tenth of the time of a regular expression.
    *lines, last = body.split(b"\n", MAX_LINES)
    return [*(line.removesuffix(b"\r") for line in lines), last]


def _is_base64(line: bytes) -> bool:
    # Python's decoder accepts some padding that is too long; which depends on its version.
    padding = line.translate(None, _BASE64)
    return padding in _PADDINGS and line.endswith(padding)


def left_out(body: bytes, content_type: str | None) -> int:
    r"""Return the number of lines that `messages_of` ignores because they are beyond `MAX_LINES`.

    >>> left_out(b"\n" * 101, NDJSON)
    2
    """
    return max(0, body.count(b"\n") + 1 - MAX_LINES) if content_type == NDJSON else 0
