"""The heart of a connection: which frame means what, given what is joined.

*pure*: no I/O, no clock, no tasks, and no exception for anything that a client can send.

    bytes ──receive──▶ ┌─────────┐ ──▶ Start, Deliver   (to the channels' processes)
                       │ Session │
    joined, refused, ─▶└─────────┘ ──▶ Send, Close      (to the client)
    closed, exited

Who writes what. The channel's process writes its own frames, so that their order is the order in
which they are written: the answer to its join with the closes that go behind it, pushes, replies,
and on a leave or a clean stop its phx_close. The session writes all others: heartbeats, answers
about topics that are not joined, and what is left to say when a channel ends without a word.

The channel's process reports what it wrote (joined, refused, closed), its end is reported by
whoever monitors it (exited), in this order. Reports about a membership that has been replaced
meanwhile are ignored, but for the end of one whose join has yet to be answered: every join is.

Behaviour after Phoenix.Socket 1.8.12, recorded on the wire, with one difference: a join is answered
by the channel's own process, so other topics and heartbeats go on while it takes its time, and a
membership occupies its topic, and its share of `max_channels`, from the join message on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec

from channels.errors import DecodeError, EncodeError
from channels.excerpts import brief
from channels.messages import Message
from channels.serializers.base import Codec
from channels.topics import Route

__all__ = [
    "Close",
    "Deliver",
    "Effect",
    "Membership",
    "Send",
    "Session",
    "Start",
    "Status",
]

# Characters of a ref. Frames repeat the join_ref of their membership, so a long one would be written again and again
# for a client that sends little. Messages that are no longer than this need no look.
_MAX_REF = 4096

_INVALID_DATA = 1007
_INTERNAL_ERROR = 1011

_canonical = msgspec.json.Encoder(order="deterministic").encode


Status: TypeAlias = Literal["joining", "superseded", "joined", "leaving", "gone"]
"""The way of a membership. It is only ever `gone` in the end, from any of the others."""


class Membership:
    """One client's hold on one topic, from the moment it asks to join until its channel is gone.

    Memberships are compared by identity: after a second join of the same topic there are two with
    equal fields, and only one of them is current.

    - `topic`, `route`: what was joined, and the line of the routing table that matched;
    - `join_ref`: as the client sent it, None included. Later messages have to carry it (or None),
      and the frames that end the membership carry it;
    - `ref`: that of the join message, for the reply to it;
    - `channel_ref`: what the channel's own pushes and replies carry as their join_ref: the
      `join_ref`, or where that is None or False the `ref`;
    - `status`: `joining`; `superseded` (its topic was joined again before its own join was
      answered: the answer is still to be written, and nothing else); `joined`; `leaving` (a leave
      was handed to the channel); or `gone` (the session has forgotten it, and has said or arranged
      what the client has to know: neither an answer to its join nor a phx_close may be written any
      more). The session's to change, but for `accepted`;
    - `process`: whatever the connection needs to find the channel's process again; None until it
      has one. The connection's to change;
    - `ended`: that the last frame of the membership (the refusal of its join, or its phx_close)
      is written. To be set by whoever writes that frame, in the same step, since a client may join
      again before the session hears of it.
    - `waiting`: messages that were handed to the channel and that it has not begun to handle. Counted up by the
      connection and down by the channel, so that the one can stop reading when the other cannot keep up. Long
      messages count several times: see `load`.
    """

    __slots__ = (
        "_close",
        "_closes",
        "_loads",
        "_successor",
        "channel_ref",
        "ended",
        "join_ref",
        "process",
        "ref",
        "route",
        "status",
        "topic",
        "waiting",
    )

    def __init__(self, message: Message, route: Route) -> None:
        self.topic: str = message.topic
        self.join_ref = message.join_ref
        self.ref = message.ref
        # `join_ref || ref` in Elixir, where false counts as nil does.
        absent = message.join_ref is None or message.join_ref is False
        self.channel_ref = message.ref if absent else message.join_ref
        self.route = route
        self.status: Status = "joining"
        self.process: Any = None
        self.ended = False
        self.waiting = 0
        self._loads: dict[int, int] = {}
        self._closes: list[bytes] | None = None
        self._successor: Membership | None = None
        self._close = b""

    def __repr__(self) -> str:
        return f"<membership of {brief(self.topic)} join_ref={brief(self.join_ref)} {self.status}>"

    def join_message(self, payload: Any) -> Message:
        """The message that asked for this membership, with the payload that it had."""
        return Message(self.join_ref, self.ref, self.topic, "phx_join", payload)

    def load(self, message: Message, weight: int) -> None:
        """Count a message that waits `weight` times."""
        self.waiting += weight
        # By identity: two of the same words are two messages. It is kept alive by the mailbox that it waits in.
        self._loads[id(message)] = weight

    def unload(self, message: Message) -> int:
        """Count a message that waits no longer, and return what waited before."""
        before = self.waiting
        self.waiting -= self._loads.pop(id(message), 1) if self._loads else 1
        return before

    def supersede(self, successor: Membership, close: bytes) -> None:
        """Note that the topic was joined again before this join was answered.

        Args:
            successor: the membership of the later join.
            close: the phx_close of this one, which is written if its join is answered with ok.
        """
        self.status = "superseded"
        self._successor = successor
        self._close = close

    def accepted(self) -> None:
        """Note that the ok to the join is written. To be called by whoever writes it, in the same step.

        If it is superseded, it is over with that: its phx_close is written behind the answer to the latest join of the
        topic, or behind this answer if the latest has ended already.
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
        """Hand over the phx_close frames of the memberships that this one replaced.

        Whoever writes the answer to the join (ok, refused or crashed) writes these right behind
        it: clients get the new answer first and the old close after it, as with Phoenix. Each
        frame is handed over once.
        """
        closes = self._closes
        if closes is None:
            return []
        self._closes = None
        return closes

    def add_closes(self, frames: list[bytes]) -> None:
        """Put frames behind those that wait already."""
        if frames:
            self._closes = [*(self._closes or ()), *frames]


# Effects are made for every frame that arrives: structs are built in C, in a third of the time
# that a class with slots takes. They live for as long as it takes to carry them out, so the
# garbage collector need not know them.


class Start(msgspec.Struct, gc=False):
    """Start the channel of a membership, and have it answer the join.

    - `membership`: new, current, and `joining`;
    - `message`: the join, with the payload for the channel's `join`;
    - `replaced`: the membership that had the topic before and whose channel has to go, with the
      reason `Shutdown("duplicate_join")`: now, or if it is superseded when it has answered its
      join. None where there is none, or where its channel has written its last frame already and
      is about to end by itself.
    """

    membership: Membership
    message: Message
    replaced: Membership | None = None


class Deliver(msgspec.Struct, gc=False):
    """Hand a message, a leave included, to the channel of a membership."""

    membership: Membership
    message: Message


class Send(msgspec.Struct, gc=False):
    """Write a ready-made frame to the client."""

    frame: bytes


class Close(msgspec.Struct, gc=False):
    """Close the connection, and do not feed its session again.

    - `code`, `reason`: for the WebSocket close frame. The reason is empty as in Phoenix: details
      are nothing for whoever sent the frame;
    - `cause`: one sentence for the log.
    """

    code: int
    reason: str
    cause: str


Effect: TypeAlias = Start | Deliver | Send | Close
"""What a session may ask for."""


class Session:
    """The state of one connection: the topics that it has joined, and what frames do to them.

        >>> from channels.serializers.base import Codec
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

    - `codec`: the client's wire format, with the framing of its transport;
    - `route`: finds the route for a topic, None if there is none; it is asked for strings only
      and has to give the same answer every time;
    - `max_channels`: how many topics may be joined at once.
    """

    __slots__ = ("_decode", "_memberships", "_route", "codec", "max_channels")

    def __init__(
        self,
        codec: Codec,
        route: Callable[[str], Route | None],
        *,
        max_channels: int = 100,
    ) -> None:
        self.codec = codec
        self.max_channels = max_channels
        self._route = route
        self._decode = codec.serializer.decode
        self._memberships: dict[str, Membership] = {}

    @property
    def memberships(self) -> tuple[Membership, ...]:
        """What is joined or being joined, in the order of the joins."""
        return tuple(self._memberships.values())

    # Bytes in.

    def receive(self, data: bytes, *, binary: bool) -> list[Effect]:
        """Take one WebSocket message and say what is to be done.

        - `data`: the message, whole. Text need not have been checked for UTF-8;
        - `binary`: whether it came as a binary message.

        Returns the effects, to be carried out in order; an empty list for messages that are
        dropped in silence, which are those with the join_ref of an earlier join. A message that
        cannot be understood gives one `Close`, with 1007 if it is text that is not UTF-8 and
        1011 if not. Never raises, whatever the client sends.
        """
        try:
            message = self._decode(data, binary=binary)
        except DecodeError as error:
            return [_malformed(data, binary, error)]
        if len(data) > _MAX_REF and (_is_long(message.join_ref) or _is_long(message.ref)):
            cause = f"a client sent a message whose ref has more than {_MAX_REF} characters"
            return [Close(_INTERNAL_ERROR, "", cause)]
        try:
            membership = self._memberships.get(message.topic)
        except TypeError:
            # A topic that is a JSON array or object cannot even be looked up.
            membership = None
        # Messages to joined topics come first, and get by with the fewest steps.
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
        if event == "phx_leave" and membership.status == "joined":
            membership.status = "leaving"
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
            return self._refuse(message, None, "unmatched topic")
        if len(self._memberships) >= self.max_channels:
            return self._refuse(message, message.join_ref, "too many channels joined")
        membership = self._memberships[topic] = Membership(message, route)
        return [Start(membership, message)]

    def _rejoin(self, old: Membership, message: Message) -> list[Effect]:
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
                # Every join is answered, as in Phoenix, so this one is closed only if the answer is ok.
                old.supersede(new, close)
            else:
                old.status = "gone"
                closes.append(close)
        # The new membership takes the slot of the old one, so there is no limit to check.
        self._memberships[old.topic] = new
        new.add_closes(closes)
        return [Start(new, message, None if old.ended else old)]

    # Reports about channels in.

    def refused(self, membership: Membership) -> None:
        """Note that the channel has written its refusal of the join: the topic is free again."""
        self._forget(membership)

    def closed(self, membership: Membership) -> None:
        """Note that the channel has written its phx_close: the topic is free again."""
        self._forget(membership)

    def exited(self, membership: Membership) -> list[Effect]:
        """Take the news that the process of a channel is gone, or could not be started.

        Returns the frames that the client has yet to get: that the join crashed if it was not
        answered, or a phx_error, whatever the exit reason was, since a channel that ends in good
        order says so before. Nothing if it did, or if the membership was joined and has been replaced.
        """
        status = membership.status
        if not self._forget(membership) or membership.ended:
            return []
        try:
            if status in ("joining", "superseded"):
                effects = self._crashed_join(membership)
            else:
                effects = [Send(self.codec.error(membership.join_ref, membership.topic))]
        except EncodeError as error:
            return [_unwritable(error)]
        effects += [Send(frame) for frame in membership.take_closes()]
        return effects

    def _forget(self, membership: Membership) -> bool:
        """Drop a membership, and from the table if it is there; tell whether it was not gone already."""
        if membership.status == "gone":
            return False
        if membership.status != "superseded":
            del self._memberships[membership.topic]
        membership.status = "gone"
        return True

    # Frames out.

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
        self, message: Message, join_ref: Any, status: str, response: dict[str, str]
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


def _is_long(ref: Any) -> bool:
    if type(ref) is str:
        return len(ref) > _MAX_REF
    try:
        return ref is not None and len(_canonical(ref)) > _MAX_REF
    except RecursionError:
        # It is nested so deeply that it could be read but not written, and no answer can repeat it.
        return True


def _unwritable(error: EncodeError) -> Close:
    """Give up on a client whose refs or topics can be read but not written (RFC 6455: 1011).

    They are nested so deeply that the decoder just made it and the encoder does not.
    """
    return Close(_INTERNAL_ERROR, "", str(error))


def _same_json(one: Any, other: Any) -> bool:
    """Compare two refs as JSON: in Python 1 equals 1.0 and true, on the wire it does not."""
    try:
        return _canonical(one) == _canonical(other)
    except RecursionError:
        # One is nested so deeply that it could be read but not written.
        return False
