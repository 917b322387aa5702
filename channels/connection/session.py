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
from typing import Any

import msgspec

from channels.connection.effects import Close, Deliver, Effect, Membership, Send, Start
from channels.errors import DecodeError, EncodeError
from channels.messages import Message
from channels.serializers.serializer import Codec
from channels.topics import Route

__all__ = ["Session"]

# Characters of a ref. Frames repeat the join_ref of their membership, so a long one would be written again and again
# for a client that sends little. Messages that are no longer than this need no look.
_MAX_REF = 4096

_INVALID_DATA = 1007
_INTERNAL_ERROR = 1011

_canonical = msgspec.json.Encoder(order="deterministic").encode


class Session:
    """The state of one connection: the topics that it has joined, and what frames do to them.

        >>> from channels.serializers.serializer import Codec
        >>> from channels.serializers.v2 import V2
        >>> from channels.topics import Route, Router
        >>> router = Router([Route("room:*", "RoomChannel")])
        >>> session = Session(Codec(V2(), lambda data: data), router.match)
        >>> (start,) = session.receive(b'["1","1","room:a","phx_join",{}]', binary=False)
        >>> session.joined(start.membership)
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

    def joined(self, membership: Membership) -> None:
        """Note that the channel has written its ok to the join."""
        membership.accepted()

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
        cause = "join crashed"
        frame = self.codec.reply(
            membership.join_ref, membership.ref, membership.topic, "error", {"reason": cause}
        )
        return [Send(frame, cause)]

    def _refuse(self, message: Message, join_ref: Any, reason: str) -> list[Effect]:
        return self._reply(message, join_ref, "error", {"reason": reason}, cause=reason)

    def _reply(
        self,
        message: Message,
        join_ref: Any,
        status: str,
        response: dict[str, str],
        *,
        cause: str | None = None,
    ) -> list[Effect]:
        try:
            frame = self.codec.reply(join_ref, message.ref, message.topic, status, response)
        except EncodeError as error:
            return [_unwritable(error)]
        return [Send(frame, cause)]


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
