"""The rules of one client's conversation: its topics, and the answer to each of its frames.

*pure*: no I/O, no clock, no tasks, and no exception for any input from a client.

    bytes ── receive ──▶ ┌─────────┐ ── start_channel, deliver, stop_channel ──▶ channels
                         │ Session │
    started, exited ───▶ └─────────┘ ── send_frame, violated ──────────────────▶ client

The session calls its owner, as an `asyncio.Protocol` calls its transport. The owner is the process of the connection.

The session writes the replies to heartbeats, the answers about topics that are not joined, and the last frame of a
crashed channel. The channel's process writes all other frames itself, so they keep the order of its actions. It marks
its `Membership` in the step that writes a frame, because a client may send the next join right after the frame.

A topic has one channel at a time. A second join of a topic waits until the running channel has ended, and so do all
later messages for this topic:

    joined channel    the owner stops it. The answer to the second join comes next, then phx_close of the first
    joining channel   it answers its join first, and then it stops

This is the order of Phoenix, which reads nothing from the client during a join, and lets the other topics and the
heartbeats wait, too. Here the channel's own process answers the join, so only messages for the same topic wait.

Source: Phoenix.Socket 1.8.12, recorded on the wire.

One `TokenBucket` limits the joins, and another bucket limits the messages to channels. Phoenix has no rate limits.
Heartbeats and leaves take no token, so the server always answers them. A client without an answer to a heartbeat would
reconnect, and a client without an answer to a leave would stay in the topic.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from actors.text import brief
from channels.errors import DecodeError, EncodeError
from channels.messages import Message
from channels.serializers.serializer import Codec
from channels.topics import Route

__all__ = ["BURST", "Limit", "Membership", "Owner", "Session", "Status", "TokenBucket", "weight_of"]

BURST = 10.0
"""The size of a full `TokenBucket`, in seconds of its rate. A quiet client can send the messages of this many seconds
at once."""

# The longest ref, in characters. Every frame of a membership repeats its join_ref, so a long join_ref would cost the
# server much more than the client. A message that is shorter than this limit needs no check.
_MAX_REF = 4096
# A long message counts once more for each 8 KiB. This constant is the shift for 8 KiB.
_HEAVY_SHIFT = 13

_INVALID_DATA = 1007
_INTERNAL_ERROR = 1011
# The largest `retry_after_ms`: what JavaScript can represent exactly.
_LONGEST_WAIT = 2**53 - 1

_canonical = msgspec.json.Encoder(order="deterministic").encode


Limit: TypeAlias = Literal["max_messages_per_second", "max_joins_per_second", "max_joining"]
"""The name of the `Socket` option whose limit a message exceeds."""


Status: TypeAlias = Literal["joining", "joined", "leaving", "gone"]
"""The state of a membership. `gone` is the final state, and can follow any other state."""


def weight_of(size: int) -> int:
    """Return how often a waiting message of `size` bytes counts. A long message counts several times."""
    return 1 + (size >> _HEAVY_SHIFT)


class Membership:
    """One client's membership in one topic, from the start of its channel until the channel has ended.

    The session and the channel's process share it, and both run in one thread. The channel marks its answer and its
    last frame here, in the step that writes them. The connection counts the messages that it passes to the channel
    (`load`), and the channel counts them off (`unload`).

    Memberships compare by identity, because a second join of a topic can create a membership with equal fields.

    Attributes:
        topic: the topic.
        route: the matching route.
        join_ref: the join_ref of the join message, which may be None. Later messages of the client contain this
            join_ref or None. The last frame of the membership contains this join_ref.
        ref: the ref of the join message, for its reply.
        channel_ref: the join_ref of the channel's pushes and replies. It is `join_ref`, or `ref` if `join_ref` is None
            or False.
        status: `joining`; `joined`; `leaving` if the client sent a leave; `gone` after the last frame, which is the
            refusal of the join, phx_close or phx_error.
        is_replaced: True if a later join of the topic waits for the end of this channel. The channel then sends no
            phx_close, because the phx_close follows the answer to the later join.
        process: the channel's process, from `Session.started`; None before it starts.
        waiting: messages of the connection that the channel has not begun to handle. The connection stops reading if
            there are too many. A long message counts several times.
        loads: the weights of the waiting long messages, by the id of the message; None before the first.
    """

    __slots__ = (
        "_close_of_replaced",
        "channel_ref",
        "is_replaced",
        "join_ref",
        "loads",
        "process",
        "ref",
        "route",
        "status",
        "topic",
        "waiting",
    )

    def __init__(
        self, message: Message, route: Route, *, close_of_replaced: bytes | None = None
    ) -> None:
        join_ref, ref = message.join_ref, message.ref
        self.topic: str = message.topic
        self.join_ref = join_ref
        # In the joins of phoenix.js, `ref` and `join_ref` are equal. Keep only one of the two strings.
        self.ref = join_ref if type(ref) is str and ref == join_ref else ref
        # Like `join_ref || ref` in Elixir, where false counts as nil.
        self.channel_ref = ref if join_ref is None or join_ref is False else join_ref
        self.route = route
        self.status: Status = "joining"
        self.is_replaced = False
        self.process: Any = None
        self.waiting = 0
        self.loads: dict[int, int] | None = None  # made on first use, to save memory
        self._close_of_replaced = close_of_replaced

    def __repr__(self) -> str:
        return f"<membership of {brief(self.topic)} join_ref={brief(self.join_ref)} {self.status}>"

    @property
    def is_gone(self) -> bool:
        """True if the client has got the last frame of the membership."""
        return self.status == "gone"

    def join_message(self, payload: Any) -> Message:
        """Return the join message of this membership, with the given payload."""
        return Message(self.join_ref, self.ref, self.topic, "phx_join", payload)

    def accept(self, put: Callable[[bytes], object], reply: bytes) -> None:
        """Write the answer of an accepted join.

        Args:
            put: a function that writes a frame.
            reply: the encoded answer.
        """
        self._answer(put, reply, "joined")

    def refuse(self, put: Callable[[bytes], object], reply: bytes) -> None:
        """Write the answer of a refused or crashed join, which is the last frame of the membership."""
        self._answer(put, reply, "gone")

    def _answer(self, put: Callable[[bytes], object], reply: bytes, status: Status) -> None:
        """Write the answer to the join. As in Phoenix, the phx_close of the replaced membership follows it."""
        if self.status != "joining":
            # The runtime has declared the process of the channel dead, so the session has answered the join.
            return
        close, self._close_of_replaced = self._close_of_replaced, None
        self.status = status
        put(reply)
        if close is not None:
            put(close)

    def end(self) -> None:
        """Note that the client gets no further frame about this membership."""
        self.status = "gone"

    def load(self, message: Message, weight: int) -> None:
        """Count a waiting message `weight` times."""
        self.waiting += weight
        if weight > 1:
            # By id, because equal messages count separately. The mailbox keeps the message alive, so its id is unique.
            if self.loads is None:
                self.loads = {}
            self.loads[id(message)] = weight

    def unload(self, message: Message) -> None:
        """Stop counting a message as waiting."""
        self.waiting -= self.loads.pop(id(message), 1) if self.loads else 1


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
        tokens: the tokens at the last `refill`, minus the tokens taken since then.
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


class Owner(Protocol):
    """The functions that a session calls: they reach the client, and the processes of its channels."""

    def start_channel(self, membership: Membership, message: Message, size: int) -> None:
        """Start the channel of a new membership, which then answers its join.

        Call `Session.started` when it runs, or `Session.exited` if it cannot start. The owner may wait before that,
        but must not call `receive` until then. If this function calls one of them itself, that must be `started`.
        """

    def deliver(self, membership: Membership, message: Message, size: int) -> None:
        """Pass a message of `size` bytes to the channel of a membership. The message can be a leave."""

    def stop_channel(self, membership: Membership) -> None:
        """End the channel of a replaced membership with `Shutdown("duplicate_join")`, and kill it if it is slow.

        If the membership is `joining`, its channel ends itself after the answer to its join, but gets no more time.
        """

    def send_frame(self, frame: bytes) -> None:
        """Write an encoded frame to the client."""

    def violated(self, code: int, cause: str) -> None:
        """Close the connection of a client that has violated the protocol.

        After that, the owner must give the session no more frames.

        Args:
            code: the code for the WebSocket close frame. As in Phoenix, its reason is empty.
            cause: the reason for the log, as one sentence.
        """

    def hold_back(self) -> None:
        """Stop reading from the client if `Session.waiting` is too large."""

    def limited(self, limit: Limit) -> None:
        """Count a refused message. If the client gets an answer, a call of `send_frame` follows."""

    def unmatched(self, topic: Any) -> None:
        """Report a join of a topic that no route matches. A call of `send_frame` follows.

        Args:
            topic: the topic, which may be any JSON value.
        """

    def ignored(self, cause: str) -> None:
        """Count a malformed message that has no effect, because the serializer drops malformed messages."""


class _Held:
    """The messages that wait for the end of a channel, or for the start of the next one.

    Attributes:
        topics: for each topic the messages, with their sizes in bytes. The first one is a join while a channel runs.
        joins: the number of joins among them.
        weight: the sum of their weights.
    """

    __slots__ = ("joins", "topics", "weight")

    def __init__(self) -> None:
        self.topics: dict[str, deque[tuple[Message, int]]] = {}
        self.joins = 0
        self.weight = 0

    def add(self, message: Message, size: int) -> None:
        self.topics.setdefault(message.topic, deque()).append((message, size))
        self.joins += message.event == "phx_join"
        self.weight += weight_of(size)

    def take(self, topic: str) -> tuple[Message, int]:
        message, size = self.topics[topic].popleft()
        self.joins -= message.event == "phx_join"
        self.weight -= weight_of(size)
        return message, size


class Session:
    """The joined topics of one connection, and the rules for its frames.

        >>> from channels.serializers.serializer import Codec
        >>> from channels.serializers.v2 import V2
        >>> from channels.topics import Route, Router
        >>> class Owner:
        ...     def start_channel(self, membership, message, size):
        ...         session.started(membership, "a process")
        ...         membership.accept(self.send_frame, b"the answer of the channel")
        ...
        ...     def deliver(self, membership, message, size):
        ...         print("deliver", message.event)
        ...
        ...     def send_frame(self, frame):
        ...         print("send", frame.decode())
        >>> router = Router([Route("room:*", "RoomChannel")])
        >>> session = Session(Codec(V2(), lambda data: data), router.match, Owner())
        >>> session.receive(b'["1","1","room:a","phx_join",{}]', binary=False)
        send the answer of the channel
        >>> session.receive(b'["1","2","room:a","ping",{}]', binary=False)
        deliver ping
        >>> (membership,) = session.memberships
        >>> session.exited(membership)
        send ["1","1","room:a","phx_error",{"reason":"channel_crash"}]
        'phx_error'

    Args:
        codec: the client's wire format, with the framing of its transport.
        route: a function that returns the route of a topic, or None. It must always return the same route for a topic.
        owner: the functions that the session calls.
        max_channels: the maximum number of topics that the client may have joined at the same time.
        max_joining: the maximum number of joins without an answer, with those that wait for the end of a channel.
        messages: the limit on messages to channels; None for no limit.
        joins: the limit on joins; None for no limit.
    """

    __slots__ = (
        "_decode",
        "_held",
        "_joins",
        "_memberships",
        "_messages",
        "_route",
        "codec",
        "max_channels",
        "max_joining",
        "owner",
    )

    def __init__(
        self,
        codec: Codec,
        route: Callable[[str], Route | None],
        owner: Owner,
        *,
        max_channels: int = 100,
        max_joining: int = 100,
        messages: TokenBucket | None = None,
        joins: TokenBucket | None = None,
    ) -> None:
        self.codec = codec
        self.owner = owner
        self.max_channels = max_channels
        self.max_joining = max_joining
        self._messages = messages
        self._joins = joins
        self._route = route
        self._decode = codec.decode
        # By topic. A membership that is gone stays until its process has ended, or until the client joins again.
        self._memberships: dict[str, Membership] = {}
        # Most clients never send a second join, so this is made on first use.
        self._held: _Held | None = None

    @property
    def memberships(self) -> tuple[Membership, ...]:
        """The memberships that are not gone, in the order of the joins."""
        return tuple(each for each in self._memberships.values() if each.status != "gone")

    @property
    def waiting(self) -> int:
        """The weight of the messages that wait for the end of a channel, or for the start of the next one."""
        return 0 if self._held is None else self._held.weight

    def forget_owner(self) -> None:
        """Break the cycle of the session and its owner, which would live until the next garbage collection."""
        del self.owner

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

    def receive(self, data: bytes, *, binary: bool) -> None:
        """Handle a message from the client. Never raises.

        A message with the join_ref of an earlier join has no effect. A malformed message closes the connection: with
        1007 for text that is not UTF-8, else with 1011. If the serializer drops malformed messages, the session only
        reports it (`Owner.ignored`).

        Args:
            data: the whole message. Text may be invalid UTF-8.
            binary: True for a binary WebSocket message.
        """
        try:
            message = self._decode(data, binary=binary)
        except DecodeError as error:
            self._malformed(data, binary, error)
            return
        size = len(data)
        if size > _MAX_REF and (_is_long(message.join_ref) or _is_long(message.ref)):
            cause = f"a client sent a message whose ref has more than {_MAX_REF} characters"
            self.owner.violated(_INTERNAL_ERROR, cause)
            return
        topic = message.topic
        try:
            membership = self._memberships.get(topic)
        except TypeError:
            # The topic is a JSON array or object, which cannot be a dict key.
            membership = None
        # Most messages are for joined topics.
        if membership is None:
            self._receive_unjoined(message, size)
        elif message.event == "heartbeat" and topic == "phoenix":
            self._reply(message, None, "ok", {})
        elif self._held is not None and topic in self._held.topics:
            self._hold(message, size)
        elif membership.status == "gone":
            self._receive_unjoined(message, size)
        elif message.event == "phx_join":
            if self._hold(message, size):
                self._replace(membership)
        else:
            self._pass_on(membership, message, size)

    def _malformed(self, data: bytes, binary: bool, error: DecodeError) -> None:
        if self.codec.drops_malformed:
            self.owner.ignored(str(error))
            return
        if not binary:
            try:
                data.decode()
            except UnicodeDecodeError as fault:
                cause = f"a client sent text that is not UTF-8: {fault.reason}"
                self.owner.violated(_INVALID_DATA, cause)
                return
        self.owner.violated(_INTERNAL_ERROR, str(error))

    def _receive_unjoined(self, message: Message, size: int) -> None:
        topic, event = message.topic, message.event
        if event == "heartbeat" and topic == "phoenix":
            self._reply(message, None, "ok", {})
        elif event == "phx_leave":
            self._reply(message, message.join_ref, "ok", {})
        elif event != "phx_join":
            self._refuse(message, None, "unmatched topic")
        elif (route := self._route(topic) if isinstance(topic, str) else None) is None:
            self.owner.unmatched(topic)
            self._refuse(message, None, "unmatched topic")
        elif not self._has_room(topic):
            self._refuse(message, message.join_ref, "too many channels joined")
        elif self._may_join(message):
            self._start(message, route, size)

    def _pass_on(self, membership: Membership, message: Message, size: int) -> None:
        """Pass a message to the channel of its membership, unless it is for an earlier one or exceeds a limit."""
        join_ref = message.join_ref
        if type(join_ref) is str:
            if join_ref != membership.join_ref:
                return
        elif join_ref is not None and not _same_json(join_ref, membership.join_ref):
            return
        if message.event == "phx_leave":
            if membership.status == "joined":
                membership.status = "leaving"
        elif self._messages is not None and not self._messages.take():
            self.owner.limited("max_messages_per_second")
            if message.ref is not None:
                response = _rate_limited(self._messages)
                self._reply(message, membership.channel_ref, "error", response)
            return
        self.owner.deliver(membership, message, size)

    # The start and the end of channels

    def _start(
        self, message: Message, route: Route, size: int, close_of_replaced: bytes | None = None
    ) -> None:
        membership = Membership(message, route, close_of_replaced=close_of_replaced)
        # At the end of the dict, which has the order of the joins.
        self._memberships.pop(membership.topic, None)
        self._memberships[membership.topic] = membership
        self.owner.start_channel(membership, message, size)

    def started(self, membership: Membership, process: object) -> None:
        """Note the process of the channel of a membership."""
        membership.process = process
        if self._held is not None and membership.topic in self._held.topics:
            self._release(self._held, membership.topic)

    def exited(self, membership: Membership) -> Literal["join crashed", "phx_error"] | None:
        """Handle the end of a channel's process, or a failure to start it.

        The exit reason does not matter, because a channel that ends normally has already written its last frame.

        Returns:
            The news for the client: `join crashed` if the join has had no answer, and `phx_error` if the membership
            ended without phx_close. None if the channel has written its last frame, or if a later join replaces it.
        """
        topic = membership.topic
        if self._memberships.get(topic) is not membership:
            # The channel had written its last frame, and the client has joined again.
            return None
        news: Literal["join crashed", "phx_error"] | None = None
        close = None
        try:
            if membership.status == "joining":
                news = "join crashed"
                membership.refuse(self.owner.send_frame, self._crashed_join(membership))
            elif membership.status != "gone" and membership.is_replaced:
                close = self.codec.close(membership.join_ref, topic)
            elif membership.status != "gone":
                news = "phx_error"
                self.owner.send_frame(self.codec.error(membership.join_ref, topic))
        except EncodeError as error:
            # The client's refs are too deeply nested to encode.
            membership.status = "gone"
            del self._memberships[topic]
            self.owner.violated(_INTERNAL_ERROR, str(error))
            return None
        membership.status = "gone"
        del self._memberships[topic]
        held = self._held
        if held is not None and topic in held.topics:
            if close is not None:
                message, size = held.take(topic)
                self._start(message, membership.route, size, close)
            self._release(held, topic)
        return news

    # Messages that wait for the end of a channel, or for the start of the next one

    def _hold(self, message: Message, size: int) -> bool:
        """Let a message wait. Return False if it was a join that exceeds a limit."""
        if message.event == "phx_join" and not self._may_join(message):
            return False
        if self._held is None:
            self._held = _Held()
        self._held.add(message, size)
        self.owner.hold_back()
        return True

    def _replace(self, membership: Membership) -> None:
        membership.is_replaced = True
        self.owner.stop_channel(membership)

    def _release(self, held: _Held, topic: str) -> None:
        """Handle the messages that waited, until the next one has to wait for a start or for an end."""
        while waiting := held.topics.get(topic):
            membership = self._memberships.get(topic)
            is_join = waiting[0][0].event == "phx_join"
            if membership is not None and membership.process is None:
                return  # its start is still to come
            if membership is not None and membership.status != "gone":
                if is_join:
                    self._replace(membership)
                    return
                self._pass_on(membership, *held.take(topic))
                continue
            message, size = held.take(topic)
            route = self._route(topic) if is_join else None
            if route is not None:
                # The join has passed the limits when it arrived, and its topic has a place.
                self._start(message, route, size)
            else:
                self._receive_unjoined(message, size)
        held.topics.pop(topic, None)

    # Limits

    def _has_room(self, topic: str) -> bool:
        """Return True if the client may join a further topic."""
        if len(self._memberships) < self.max_channels:
            return True
        return sum(each.status != "gone" for each in self._memberships.values()) < self.max_channels

    def _may_join(self, message: Message) -> bool:
        """Return True if a join exceeds no limit. If it exceeds one, answer it."""
        limit: Limit
        held = 0 if self._held is None else self._held.joins
        # Most clients have few memberships, so the cheap test is usually enough.
        many = len(self._memberships) + held >= self.max_joining
        if many and self._joining() + held >= self.max_joining:
            limit, response = "max_joining", {"reason": "too many joins in progress"}
        elif self._joins is not None and not self._joins.take():
            limit, response = "max_joins_per_second", _rate_limited(self._joins)
        else:
            return True
        self.owner.limited(limit)
        self._reply(message, message.join_ref, "error", response)
        return False

    def _joining(self) -> int:
        return sum(each.status == "joining" for each in self._memberships.values())

    # Frames to the client

    def _crashed_join(self, membership: Membership) -> bytes:
        return self.codec.reply(
            membership.join_ref,
            membership.ref,
            membership.topic,
            "error",
            {"reason": "join crashed"},
        )

    def _refuse(self, message: Message, join_ref: Any, reason: str) -> None:
        self._reply(message, join_ref, "error", {"reason": reason})

    def _reply(
        self, message: Message, join_ref: Any, status: str, response: dict[str, Any]
    ) -> None:
        try:
            frame = self.codec.reply(join_ref, message.ref, message.topic, status, response)
        except EncodeError as error:
            # The client's refs or topics are too deeply nested to encode.
            self.owner.violated(_INTERNAL_ERROR, str(error))
        else:
            self.owner.send_frame(frame)


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


def _same_json(one: Any, other: Any) -> bool:
    """Compare two refs as JSON. In Python, 1 equals 1.0 and True. In JSON, the three are different."""
    try:
        return _canonical(one) == _canonical(other)
    except RecursionError:
        # A ref is too deeply nested to encode.
        return False
