"""Streams: the numbered messages of a durable topic, and the messages that a returning client gets.

*pure*. A position is an epoch and an offset, `epoch:offset`. The offsets of a topic grow by one for each message. The
epoch names one history: a storage that has lost its history begins a new epoch. Positions of different epochs have no
order.

    join with a position, and a slice of the stream ──▶ recover ──▶ Recovery: all that is missing, or a reason
    each message that arrives later                 ──▶ Cursor  ──▶ deliver, duplicate, gap or changed
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, final

from attrs import define, field, frozen

from actors.arguments import check_positive, check_whole
from actors.errors import InvalidOption

__all__ = [
    "POSITION",
    "Cursor",
    "Entry",
    "Limits",
    "Mode",
    "Position",
    "Reason",
    "Recovery",
    "Slice",
    "Verdict",
    "parse_position",
    "recover",
    "take_position",
    "with_position",
]

POSITION = "_position"
"""The key of the position in join params, join replies and messages."""

Mode: TypeAlias = Literal["stream", "latest"]
"""`stream` replays every message that a client missed. `latest` keeps and sends only the last message."""

Reason: TypeAlias = Literal["new", "epoch_changed", "too_old", "too_many"]
"""The reason why a client did not get the messages that it missed.

`new`: the client sent no position. `epoch_changed`: the position belongs to another history, or to none. `too_old`: the
storage no longer keeps all missed messages. `too_many`: the client missed more than `max_replay` messages.
"""

Verdict: TypeAlias = Literal["deliver", "duplicate", "gap", "changed"]

# The longest position that a client may send, and the greatest offset, which fits the integers of every storage.
_MAX_TEXT = 128
_MAX_OFFSET = 2**63 - 1


@frozen
class Position:
    """A place in the stream of a topic: right after the message with this offset.

    >>> str(Position("5f1c", 17))
    '5f1c:17'
    """

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"


_NOWHERE = Position("", 0)


def parse_position(value: object) -> Position | None:
    """Read the position of a client. Return None if there is none.

        >>> parse_position("5f1c:17")
        Position(epoch='5f1c', offset=17)

    Any other value becomes a position without an epoch, from which no history recovers.
    """
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        return _NOWHERE
    epoch, colon, number = value.rpartition(":")
    if not colon or not number.isascii() or not number.isdigit():
        return _NOWHERE
    offset = int(number)
    return Position(epoch, offset) if offset <= _MAX_OFFSET else _NOWHERE


def take_position(params: Any) -> tuple[Position | None, Any]:
    """Return the position in the params of a join, and the params without it.

    >>> take_position({"name": "ann", "_position": "5f1c:17"})
    (Position(epoch='5f1c', offset=17), {'name': 'ann'})
    """
    if not isinstance(params, dict) or POSITION not in params:
        return None, params
    rest = {name: value for name, value in params.items() if name != POSITION}
    return parse_position(params[POSITION]), rest


def with_position(body: bytes, position: Position) -> bytes:
    """Add the position of a message to its payload, an encoded JSON object.

    >>> with_position(b'{"body":"hello"}', Position("5f1c", 17))
    b'{"_position":"5f1c:17","body":"hello"}'
    """
    rest = body[1:].lstrip()
    comma = b"" if rest.startswith(b"}") else b","
    # An epoch has no character that JSON escapes.
    return b'{"%b":"%b"%b%b' % (POSITION.encode(), str(position).encode(), comma, rest)


@final
class Entry:
    """A message of a stream.

    Attributes:
        epoch: the epoch of the stream.
        offset: the number of the message in its topic.
        event: the name of the event.
        body: the payload of the application, as JSON.
    """

    __slots__ = ("_payload", "body", "epoch", "event", "offset")

    def __init__(self, epoch: str, offset: int, event: str, body: bytes) -> None:
        self.epoch = epoch
        self.offset = offset
        self.event = event
        self.body = body
        self._payload: bytes | None = None

    def __repr__(self) -> str:
        return f"<{self.event!r} at {self.epoch}:{self.offset}, {len(self.body)} bytes>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, int, str, bytes]:
        return self.epoch, self.offset, self.event, self.body

    @property
    def payload(self) -> bytes:
        """The payload with the position, as JSON. It is made once for all clients."""
        if self._payload is None:
            self._payload = with_position(self.body, Position(self.epoch, self.offset))
        return self._payload


@frozen
class Slice:
    """A part of a stream, read in one step.

    Attributes:
        epoch: the epoch of the stream.
        first: the offset of the oldest kept message; `last + 1` if there is none.
        last: the offset of the last message; a new topic begins at 0.
        entries: messages, oldest first, without a gap.
    """

    epoch: str
    first: int
    last: int
    entries: Sequence[Entry] = ()

    @property
    def end(self) -> Position:
        """The position after the last message."""
        return Position(self.epoch, self.last)


@frozen
class Recovery:
    """The result of a join of a durable topic, for `DurableChannel.on_recovered`.

    Attributes:
        recovered: True if the client gets every message that it missed.
        reason: the reason if `recovered` is False: new, epoch_changed, too_old or too_many.
        start: the position that the client has after the reply to its join.
        entries: the messages that follow the reply.
    """

    recovered: bool
    reason: Reason | None
    start: Position
    entries: Sequence[Entry] = ()

    def response(self) -> dict[str, Any]:
        """Return the fields of the join reply about the recovery."""
        facts: dict[str, Any] = {POSITION: str(self.start), "_recovered": self.recovered}
        if self.reason is not None:
            facts["_reason"] = self.reason
        return facts


def recover(position: Position | None, found: Slice, *, mode: Mode, max_replay: int) -> Recovery:
    """Return the messages that a client gets when it joins with a position.

    Args:
        position: the position of the client; None if the client sent no position.
        found: the stream. It contains at most `max_replay` entries after the position. For a client without a position
            in this epoch, it contains the kept entries.
        mode: the mode of the history.
        max_replay: messages that the client may get.

    The result is all or nothing: every message after the position, or no message and a reason. In the mode `latest`,
    every client gets the last message unless it has it.
    """
    reason: Reason | None = None
    if position is None:
        reason = "new"
    elif position.epoch != found.epoch or position.offset > found.last:
        reason = "epoch_changed"
    elif mode == "latest":
        if position.offset < found.last and not found.entries:
            reason = "too_old"
    elif position.offset + 1 < found.first:
        reason = "too_old"
    elif found.last - position.offset > max_replay:
        reason = "too_many"
    if mode == "latest" and found.entries and (reason is not None or position is not None):
        last = found.entries[-1]
        if reason is not None or last.offset > (position or _NOWHERE).offset:
            before = Position(found.epoch, last.offset - 1)
            start = before if reason is not None or position is None else position
            return Recovery(reason is None, reason, start, (last,))
    if reason is not None or position is None:
        return Recovery(False, reason, found.end)
    return Recovery(True, None, position, tuple(found.entries) if mode == "stream" else ())


@define
class Cursor:
    """The position of one client's channel in the stream, to distinguish new messages from old ones.

    >>> cursor = Cursor(Position("5f1c", 17))
    >>> cursor.look(Position("5f1c", 17)), cursor.look(Position("5f1c", 19))
    ('duplicate', 'gap')
    """

    position: Position
    mode: Mode = "stream"

    def look(self, at: Position) -> Verdict:
        """Return the action for a message at this position. This does not move the cursor."""
        here = self.position
        if at.epoch != here.epoch:
            return "changed"
        if at.offset <= here.offset:
            return "duplicate"
        if at.offset == here.offset + 1 or self.mode == "latest":
            return "deliver"
        return "gap"

    def move(self, at: Position) -> None:
        """Move the cursor after a delivered message."""
        self.position = at


_COUNTS = (
    "max_messages",
    "max_bytes",
    "max_topics",
    "max_total_bytes",
    "max_answers",
    "max_answer_bytes",
    "max_fences",
)


def _mode(limits: Limits, attribute: Any, mode: Any) -> None:
    if mode not in ("stream", "latest"):
        raise InvalidOption("History", "mode", mode, '"stream" or "latest"')


@frozen(kw_only=True)
class Limits:
    """The bounds of a history. `History` describes them.

    Raises:
        InvalidOption: a bound is not positive, or the mode is unknown.
    """

    mode: Mode = field(default="stream", validator=_mode)
    max_messages: int = 100
    max_bytes: int = 1024 * 1024
    max_age: float = 300.0
    max_topics: int = 10_000
    max_total_bytes: int = 256 * 1024 * 1024
    max_answers: int = 10_000
    max_answer_bytes: int = 16 * 1024 * 1024
    max_answer_age: float = 300.0
    max_fences: int = 1_000_000

    def __attrs_post_init__(self) -> None:
        for name in _COUNTS:
            check_whole("History", name, getattr(self, name))
        for name in ("max_age", "max_answer_age"):
            check_positive("History", name, getattr(self, name))

    @property
    def kept(self) -> int:
        """The number of messages that a topic keeps."""
        return 1 if self.mode == "latest" else self.max_messages
