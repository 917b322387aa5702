"""The state machine of a connection, which decides the effects of each frame.

*pure*: no I/O, no clock, no tasks, and no exception for any input from a client.

    bytes ──receive──▶ ┌─────────┐ ──▶ Start, Deliver   (to the channels' processes)
                       │ Session │
    refused, closed, ─▶└─────────┘ ──▶ Send, Close      (to the client)
    exited                  │
                            │ status, closes
                       ┌────┴───────┐
                       │ Membership │ ◀── accepted, end, take_closes ── Ticket (of the channel's process)
                       └────────────┘

The channel's process writes its own frames, so they keep the order of its actions. Its frames are the answer to its
join, the phx_close of each membership that the join replaced, pushes, replies, and phx_close after a leave or a clean
stop. The session writes all other frames: replies to heartbeats, answers about topics that are not joined, and the last
frame of a crashed channel.

The channel reports an accepted join through its ticket. It reports a refused join and a phx_close to the connection
(`refused`, `closed`). The connection's monitor reports the end of the process last (`exited`). The session ignores
reports about a replaced membership, except if the join of that membership still needs an answer.

Source: Phoenix.Socket 1.8.12, recorded on the wire. There is one difference: the channel's own process answers the
join, so other topics and heartbeats do not wait. So a membership already occupies its topic, and counts for
`max_channels`, when its join message arrives.

One `TokenBucket` limits the joins, and another bucket limits the messages to channels. Phoenix has no rate limits.
Heartbeats and leaves take no token, so the server always answers them. A client without an answer to a heartbeat would
reconnect, and a client without an answer to a leave would stay in the topic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec

from actors.text import brief
from channels.errors import DecodeError, EncodeError
from channels.messages import Message
from channels.serializers.serializer import Codec
from channels.topics import Route

__all__ = [
    "BURST",
    "Close",
    "Deliver",
    "Effect",
    "Ignored",
    "Limit",
    "Limited",
    "Membership",
    "Send",
    "Session",
    "Start",
    "Status",
    "TokenBucket",
    "Unmatched",
]

BURST = 10.0
"""The size of a full `TokenBucket`, in seconds of its rate. A quiet client can send the messages of this many seconds
at once."""

# The longest ref, in characters. Every frame of a membership repeats its join_ref, so a long join_ref would cost the
# server much more than the client. A message that is shorter than this limit needs no check.
_MAX_REF = 4096

_INVALID_DATA = 1007
_INTERNAL_ERROR = 1011
# The largest `retry_after_ms`: what JavaScript can represent exactly.
_LONGEST_WAIT = 2**53 - 1

_canonical = msgspec.json.Encoder(order="deterministic").encode


Limit: TypeAlias = Literal["max_messages_per_second", "max_joins_per_second", "max_joining"]
"""The name of the `Socket` option whose limit a message exceeds."""


Status: TypeAlias = Literal["joining", "superseded", "joined", "leaving", "gone"]
"""The state of a membership. `gone` is the final state, and can follow any other state."""


class Membership:
    """The session's record of one client's membership in one topic, from its join message until its channel is gone.

    Only code of the session changes it: the methods of `Session`, and for reports of the channel the methods below,
    which the channel calls through its `Ticket`. They change the record in the step that writes the frame. A message
    about the frame would be too late, because a client may join again right after the last frame of a membership. It
    would also cost every join two more messages. All this runs in one thread.

    Memberships compare by identity, because a second join of a topic can create a membership with equal fields.

    Attributes:
        topic: the topic.
        route: the matching route.
        join_ref: the join_ref of the join message, which may be None. Later messages of the client contain this
            join_ref or None. The last frame of the membership contains this join_ref.
        ref: the ref of the join message, for its reply.
        channel_ref: the join_ref of the channel's pushes and replies. It is `join_ref`, or `ref` if `join_ref` is None
            or False.
        status: `joining`; `superseded` if the client joined the topic again before the answer to this join (the answer
            is then the last frame); `joined`; `leaving` if the client sent a leave; `gone` after the last frame.
        process: the channel's process, from `Session.started`; None before it starts.
        is_given_up: True after `Session.give_up`.
        ended: True after the refusal of the join, or after phx_close.
    """

    __slots__ = (
        "_close",
        "_closes",
        "_successor",
        "channel_ref",
        "ended",
        "is_given_up",
        "join_ref",
        "process",
        "ref",
        "route",
        "status",
        "topic",
    )

    def __init__(self, message: Message, route: Route) -> None:
        join_ref, ref = message.join_ref, message.ref
        self.topic: str = message.topic
        self.join_ref = join_ref
        # In the joins of phoenix.js, `ref` and `join_ref` are equal. Keep only one of the two strings.
        self.ref = join_ref if type(ref) is str and ref == join_ref else ref
        # Like `join_ref || ref` in Elixir, where false counts as nil.
        self.channel_ref = ref if join_ref is None or join_ref is False else join_ref
        self.route = route
        self.status: Status = "joining"
        self.process: Any = None
        self.is_given_up = False
        self.ended = False
        self._closes: list[bytes] | None = None
        self._successor: Membership | None = None
        self._close = b""

    def __repr__(self) -> str:
        return f"<membership of {brief(self.topic)} join_ref={brief(self.join_ref)} {self.status}>"

    @property
    def is_superseded(self) -> bool:
        """True if the client joined the topic again before the answer to this join."""
        return self.status == "superseded"

    @property
    def is_gone(self) -> bool:
        """True if the membership has ended, and its topic is free."""
        return self.status == "gone"

    def end(self) -> None:
        """Note that the channel has refused the join or has written phx_close. Call this in the step of the frame."""
        self.ended = True

    def supersede(self, successor: Membership, close: bytes) -> None:
        """Note that the client joined the topic again before the answer to this join.

        Args:
            successor: the membership of the later join.
            close: the phx_close of this membership, which the client gets if the channel still accepts this join.
        """
        self.status = "superseded"
        self._successor = successor
        self._close = close

    def accepted(self) -> None:
        """Note that the channel has accepted the join. Call this in the step that writes the reply.

        The reply is the last frame of a superseded membership, except for its phx_close. The phx_close follows the
        answer to the latest join of the topic. If the latest membership has already ended, it follows this reply.
        """
        if self.status == "joining":
            self.status = "joined"
        elif self.status == "superseded":
            self.status = "gone"
            latest = self
            while latest._successor is not None:
                latest = latest._successor
            (self if latest.status == "gone" else latest).add_closes([self._close])

    def take_closes(self) -> list[bytes]:
        """Return the phx_close frames of the memberships that this membership replaced. A second call returns none.

        The party that answers the join writes these frames right after the answer, as Phoenix does.
        """
        closes = self._closes
        if closes is None:
            return []
        self._closes = None
        return closes

    def add_closes(self, frames: list[bytes]) -> None:
        """Add phx_close frames for `take_closes`."""
        if frames:
            self._closes = [*(self._closes or ()), *frames]


class TokenBucket:
    """A limit on the number of messages per second.

        >>> bucket = TokenBucket(rate=2.0, burst=3.0, now=100.0)
        >>> [bucket.take() for _ in range(4)]
        [True, True, True, False]
        >>> bucket.seconds_to_wait()
        0.5
        >>> bucket.refill(100.5)
        >>> bucket.take()
        True

    Each message takes a token. The bucket gets new tokens at a constant rate, up to `burst` tokens. So a client that
    was quiet for a while may send some messages at once.

    Args:
        rate: new tokens per second.
        burst: the maximum number of tokens, at least 1. A new bucket is full.
        now: the current time in seconds, on any clock that never goes back.

    Attributes:
        tokens: the tokens at the last `refill`, minus the tokens taken since then. `Session.receive` changes this
            number itself and does not call `take`, because `receive` runs for every message.
    """

    __slots__ = ("_burst", "_rate", "_refilled", "tokens")

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._refilled = now
        self.tokens = burst

    def refill(self, now: float) -> None:
        """Add the tokens for the time since the last call."""
        tokens = self.tokens + (now - self._refilled) * self._rate
        self.tokens = min(tokens, self._burst)
        self._refilled = now

    def take(self) -> bool:
        """Take a token. Return False if there is none."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def seconds_to_wait(self) -> float:
        """Return the seconds between the last `refill` and the next token; 0 if there is a token now."""
        return max(0.0, (1.0 - self.tokens) / self._rate)


# Effects are structs for speed, because every frame has effects. msgspec builds a struct in a third of the time of a
# class with slots. Effects are short-lived, so they need no garbage collection.


class Start(msgspec.Struct, gc=False):
    """Start the channel of a membership, which then answers the join.

    Attributes:
        membership: the new membership, with the status `joining`.
        message: the join, with the payload for the channel's `join`.
        replaced: the earlier membership of the topic, whose channel must end with `Shutdown("duplicate_join")`. The
            channel of a superseded membership ends after the answer to its join. None if no channel needs to end.
    """

    membership: Membership
    message: Message
    replaced: Membership | None = None


class Deliver(msgspec.Struct, gc=False):
    """Pass a message to the channel of a membership. The message can be a leave."""

    membership: Membership
    message: Message


class Send(msgspec.Struct, gc=False):
    """Write an encoded frame to the client."""

    frame: bytes


class Close(msgspec.Struct, gc=False):
    """Close the connection. After that, the caller must give the session no more frames.

    Attributes:
        code: the code for the WebSocket close frame.
        reason: the reason for the close frame. As in Phoenix, it is empty, so that the client gets no details.
        cause: the reason for the log, as one sentence.
    """

    code: int
    reason: str
    cause: str


class Limited(msgspec.Struct, gc=False):
    """Count a refused message. If the client gets an answer, a `Send` follows.

    Attributes:
        limit: the name of the option whose limit the message exceeds.
    """

    limit: Limit


class Unmatched(msgspec.Struct, gc=False):
    """Report a join of a topic that no route matches. A `Send` with the answer follows.

    Attributes:
        topic: the topic, which may be any JSON value.
    """

    topic: Any


class Ignored(msgspec.Struct, gc=False):
    """Count a malformed message that has no effect, because the serializer drops malformed messages.

    Attributes:
        cause: the mistake, for the log.
    """

    cause: str


Effect: TypeAlias = Start | Deliver | Send | Close | Limited | Unmatched | Ignored
"""Any effect."""


class Session:
    """The joined topics of one connection, and the rules for its frames.

        >>> from channels.serializers.serializer import Codec
        >>> from channels.serializers.v2 import V2
        >>> from channels.topics import Route, Router
        >>> router = Router([Route("room:*", "RoomChannel")])
        >>> session = Session(Codec(V2(), lambda data: data), router.match)
        >>> (start,) = session.receive(b'["1","1","room:a","phx_join",{}]', binary=False)
        >>> start.membership.accepted()
        >>> (deliver,) = session.receive(b'["1","2","room:a","ping",{}]', binary=False)
        >>> deliver.message.event
        'ping'
        >>> session.exited(deliver.membership)[0].frame
        b'["1","1","room:a","phx_error",{"reason":"channel_crash"}]'

    Args:
        codec: the client's wire format, with the framing of its transport.
        route: a function that returns the route of a topic, or None. It must always return the same route for a topic.
        max_channels: the maximum number of topics that the client may have joined at the same time.
        max_joining: the maximum number of joins without an answer. A superseded join counts until the server answers
            it, or until the connection gives up the membership.
        messages: the limit on messages to channels; None for no limit.
        joins: the limit on joins; None for no limit.
    """

    __slots__ = (
        "_decode",
        "_joins",
        "_memberships",
        "_messages",
        "_route",
        "_superseded",
        "codec",
        "max_channels",
        "max_joining",
    )

    def __init__(
        self,
        codec: Codec,
        route: Callable[[str], Route | None],
        *,
        max_channels: int = 100,
        max_joining: int = 100,
        messages: TokenBucket | None = None,
        joins: TokenBucket | None = None,
    ) -> None:
        self.codec = codec
        self.max_channels = max_channels
        self.max_joining = max_joining
        self._messages = messages
        self._joins = joins
        # The superseded memberships. The join of some of them still needs an answer. Most clients never have any.
        self._superseded: tuple[Membership, ...] = ()
        self._route = route
        self._decode = codec.decode
        self._memberships: dict[str, Membership] = {}

    @property
    def memberships(self) -> tuple[Membership, ...]:
        """The memberships that are not gone, in the order of the joins."""
        return tuple(self._memberships.values())

    # Bytes from the client

    def refill(self, now: float) -> None:
        """Add tokens to the buckets for the time since the last call.

        If the session has a `TokenBucket`, call `refill` before `receive`.

        Args:
            now: the current time, on the clock of the buckets.
        """
        if self._messages is not None:
            self._messages.refill(now)
        if self._joins is not None:
            self._joins.refill(now)

    def receive(  # noqa: C901, PLR0912 - runs for every message, so it saves calls
        self, data: bytes, *, binary: bool
    ) -> list[Effect]:
        """Return the effects of a message from the client. Never raises.

        Args:
            data: the whole message. Text may be invalid UTF-8.
            binary: True for a binary WebSocket message.

        Returns:
            The effects, in order. A message with the join_ref of an earlier join has no effects. A malformed message
            has one effect, a `Close`: with 1007 for text that is not UTF-8, else with 1011. If the serializer drops
            malformed messages, the effect is `Ignored`.
        """
        try:
            message = self._decode(data, binary=binary)
        except DecodeError as error:
            if self.codec.drops_malformed:
                return [Ignored(str(error))]
            return [_malformed(data, binary, error)]
        if len(data) > _MAX_REF and (_is_long(message.join_ref) or _is_long(message.ref)):
            cause = f"a client sent a message whose ref has more than {_MAX_REF} characters"
            return [Close(_INTERNAL_ERROR, "", cause)]
        try:
            membership = self._memberships.get(message.topic)
        except TypeError:
            # The topic is a JSON array or object, which cannot be a dict key.
            membership = None
        # Most messages are for joined topics.
        if membership is None:
            return self._receive_unjoined(message)
        event = message.event
        if event == "phx_join":
            return self._rejoin(membership, message)
        if event == "heartbeat" and message.topic == "phoenix":
            return self._reply(message, None, "ok", {})
        join_ref = message.join_ref
        if type(join_ref) is str:
            if join_ref != membership.join_ref:
                return []
        elif join_ref is not None and not _same_json(join_ref, membership.join_ref):
            return []
        if event == "phx_leave":
            if membership.status == "joined":
                membership.status = "leaving"
        elif self._messages is not None:
            tokens = self._messages.tokens
            if tokens < 1.0:
                return self._limit_push(membership, message, self._messages)
            self._messages.tokens = tokens - 1.0
        return [Deliver(membership, message)]

    def _receive_unjoined(self, message: Message) -> list[Effect]:
        topic, event = message.topic, message.event
        if event == "heartbeat" and topic == "phoenix":
            return self._reply(message, None, "ok", {})
        if event == "phx_leave":
            return self._reply(message, message.join_ref, "ok", {})
        if event != "phx_join":
            return self._reply(message, None, "error", {"reason": "unmatched topic"})
        route = self._route(topic) if isinstance(topic, str) else None
        if route is None:
            return [Unmatched(topic), *self._refuse(message, None, "unmatched topic")]
        if len(self._memberships) >= self.max_channels:
            return self._refuse(message, message.join_ref, "too many channels joined")
        limited = self._limit_join(message)
        if limited is not None:
            return limited
        membership = self._memberships[topic] = Membership(message, route)
        return [Start(membership, message)]

    def _rejoin(self, old: Membership, message: Message) -> list[Effect]:
        limited = self._limit_join(message)
        if limited is not None:
            return limited
        new = Membership(message, old.route)
        closes = old.take_closes()
        if old.ended:
            old.status = "gone"
        else:
            try:
                close = self.codec.close(old.join_ref, old.topic)
            except EncodeError as error:
                return [_unwritable(error)]
            if old.status == "joining":
                # As in Phoenix, every join gets an answer. Only an accepted join also gets a phx_close.
                old.supersede(new, close)
                self._superseded = (*self._superseded, old)
            else:
                old.status = "gone"
                closes.append(close)
        # The new membership replaces the old one, so the number of topics stays the same.
        self._memberships[old.topic] = new
        new.add_closes(closes)
        return [Start(new, message, None if old.ended else old)]

    # Limits

    def _limit_push(
        self, membership: Membership, message: Message, bucket: TokenBucket
    ) -> list[Effect]:
        """Return the effects of a message to a channel if the bucket has no token."""
        limited: list[Effect] = [Limited("max_messages_per_second")]
        if message.ref is not None:
            limited += self._reply(message, membership.channel_ref, "error", _rate_limited(bucket))
        return limited

    def _limit_join(self, message: Message) -> list[Effect] | None:
        """Return the effects of a join that exceeds a limit; None if the client may join."""
        limit: Limit
        # Most clients have few memberships, so the cheap test is usually enough.
        many = len(self._memberships) + len(self._superseded) >= self.max_joining
        if many and self._has_too_many_joins():
            limit, response = "max_joining", {"reason": "too many joins in progress"}
        elif self._joins is not None and not self._joins.take():
            limit, response = "max_joins_per_second", _rate_limited(self._joins)
        else:
            return None
        return [Limited(limit), *self._reply(message, message.join_ref, "error", response)]

    def _has_too_many_joins(self) -> bool:
        self._superseded = tuple(
            each
            for each in self._superseded
            if each.status == "superseded" and not each.is_given_up
        )
        joining = sum(each.status == "joining" for each in self._memberships.values())
        return joining + len(self._superseded) >= self.max_joining

    # Reports about channels

    def started(self, membership: Membership, process: object) -> None:
        """Note the process of the channel of a membership."""
        membership.process = process

    def give_up(self, membership: Membership) -> None:
        """Note that the connection has told the channel to end before the channel answered the join.

        The connection does this when too many joins of the topic wait for each other.
        """
        membership.is_given_up = True

    def refused(self, membership: Membership) -> None:
        """Free a topic whose channel has refused the join."""
        self._forget(membership)

    def closed(self, membership: Membership) -> None:
        """Free a topic whose channel has written phx_close."""
        self._forget(membership)

    def exited(self, membership: Membership) -> list[Effect]:
        """Handle the end of a channel's process, or a failure to start it.

        The exit reason does not matter, because a channel that ends normally has already written its last frame.

        Returns:
            The remaining frames for the client: `join crashed` if the join has no answer, else phx_error. The list is
            empty if the channel has written its last frame, or if a later membership has replaced this joined one.
        """
        if membership.ended or membership.status == "gone":
            self._forget(membership)
            return []
        try:
            if membership.status in ("joining", "superseded"):
                effects = self._crashed_join(membership)
            else:
                effects = [Send(self.codec.error(membership.join_ref, membership.topic))]
        except EncodeError as error:
            self._forget(membership)
            return [_unwritable(error)]
        self._forget(membership)
        effects += [Send(frame) for frame in membership.take_closes()]
        return effects

    def _forget(self, membership: Membership) -> bool:
        """Mark a membership as gone, and free its topic. Return False if the membership was gone before."""
        if membership.status == "gone":
            return False
        if membership.status != "superseded":
            del self._memberships[membership.topic]
        membership.status = "gone"
        return True

    # Frames to the client

    def _crashed_join(self, membership: Membership) -> list[Effect]:
        frame = self.codec.reply(
            membership.join_ref,
            membership.ref,
            membership.topic,
            "error",
            {"reason": "join crashed"},
        )
        return [Send(frame)]

    def _refuse(self, message: Message, join_ref: Any, reason: str) -> list[Effect]:
        return self._reply(message, join_ref, "error", {"reason": reason})

    def _reply(
        self, message: Message, join_ref: Any, status: str, response: dict[str, Any]
    ) -> list[Effect]:
        try:
            frame = self.codec.reply(join_ref, message.ref, message.topic, status, response)
        except EncodeError as error:
            return [_unwritable(error)]
        return [Send(frame)]


def _malformed(data: bytes, binary: bool, error: DecodeError) -> Close:
    if not binary:
        try:
            data.decode()
        except UnicodeDecodeError as fault:
            return Close(_INVALID_DATA, "", f"a client sent text that is not UTF-8: {fault.reason}")
    return Close(_INTERNAL_ERROR, "", str(error))


def _rate_limited(bucket: TokenBucket) -> dict[str, Any]:
    # Bounded, because a tiny rate makes the time infinite.
    milliseconds = math.ceil(min(bucket.seconds_to_wait() * 1000, _LONGEST_WAIT))
    return {"reason": "rate limited", "retry_after_ms": milliseconds}


def _is_long(ref: Any) -> bool:
    if type(ref) is str:
        return len(ref) > _MAX_REF
    try:
        return ref is not None and len(_canonical(ref)) > _MAX_REF
    except RecursionError:
        # The ref is too deeply nested to encode, so no answer can repeat it.
        return True


def _unwritable(error: EncodeError) -> Close:
    """Return the close for a client whose refs or topics are too deeply nested to encode."""
    return Close(_INTERNAL_ERROR, "", str(error))


def _same_json(one: Any, other: Any) -> bool:
    """Compare two refs as JSON. In Python, 1 equals 1.0 and True. In JSON, the three are different."""
    try:
        return _canonical(one) == _canonical(other)
    except RecursionError:
        # A ref is too deeply nested to encode.
        return False
