"""Helpers for tests of sessions: a session whose owner notes its calls, and ways to feed it and to read its frames."""

from __future__ import annotations

import json
from collections.abc import MutableSequence
from typing import Any

import attrs

from channels.messages import Message
from channels.protocol.session import Membership, Session
from channels.serializers.serializer import Codec
from channels.serializers.v2 import V2
from channels.topics import Route, Router

ROUTE = Route("room:*", "RoomChannel")
PHOENIX_ROUTE = Route("phoenix", "OddChannel")
ROUTER = Router([ROUTE, PHOENIX_ROUTE])
CODEC = Codec(V2(), lambda data: b"|" + data)


@attrs.frozen
class Start:
    membership: Membership
    message: Message


@attrs.frozen
class Deliver:
    membership: Membership
    message: Message


@attrs.frozen
class Stop:
    membership: Membership


@attrs.frozen
class Send:
    frame: bytes


@attrs.frozen
class Close:
    code: int
    cause: str


@attrs.frozen
class Limited:
    limit: str


@attrs.frozen
class Unmatched:
    topic: Any


@attrs.frozen
class Ignored:
    cause: str


class NotingOwner:
    """The owner of a session. It notes each call. Each channel starts at once, unless `starts_at_once` is False."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.starts_at_once = True
        self.calls: MutableSequence[Any] = []
        self.held_back = 0

    def start_channel(self, membership: Membership, message: Message, size: int) -> None:
        self.calls.append(Start(membership, message))
        if self.starts_at_once:
            assert self.session is not None
            self.session.started(membership, object())

    def deliver(self, membership: Membership, message: Message, size: int) -> None:
        self.calls.append(Deliver(membership, message))

    def stop_channel(self, membership: Membership) -> None:
        self.calls.append(Stop(membership))

    def send_frame(self, frame: bytes) -> None:
        self.calls.append(Send(frame))

    def violated(self, code: int, cause: str) -> None:
        self.calls.append(Close(code, cause))

    def hold_back(self) -> None:
        self.held_back += 1

    def limited(self, limit: str) -> None:
        self.calls.append(Limited(limit))

    def unmatched(self, topic: Any) -> None:
        self.calls.append(Unmatched(topic))

    def ignored(self, cause: str) -> None:
        self.calls.append(Ignored(cause))


def new_session(**limits: Any) -> Session:
    owner = NotingOwner()
    owner.session = Session(CODEC, ROUTER.match, owner, **limits)
    return owner.session


def owner_of(session: Session) -> NotingOwner:
    owner = session.owner
    assert isinstance(owner, NotingOwner)
    return owner


def calls_of(session: Session) -> list[Any]:
    """Return the calls of a session since the last time."""
    owner = owner_of(session)
    calls, owner.calls = owner.calls, []
    return list(calls)


def receive(session: Session, data: bytes, *, binary: bool = False) -> list[Any]:
    """Return the calls of a session for a message of the client."""
    calls_of(session)
    session.receive(data, binary=binary)
    return calls_of(session)


def exited(session: Session, membership: Membership) -> list[Any]:
    """Return the calls of a session for the end of a channel."""
    calls_of(session)
    session.exited(membership)
    return calls_of(session)


def feed(session: Session, *message: Any, payload: Any = None) -> list[Any]:
    """Send join_ref, ref, topic, event, and a payload that is empty unless given. Return the calls of the session."""
    data = json.dumps([*message, {} if payload is None else payload])
    return receive(session, data.encode())


def join(
    session: Session, topic: str = "room:a", join_ref: Any = "1", ref: Any = "1"
) -> Membership:
    (start,) = feed(session, join_ref, ref, topic, "phx_join")
    assert isinstance(start, Start)
    return start.membership


def accept(membership: Membership) -> list[bytes]:
    """Let the channel of a membership accept the join with the answer "ok". Return the written frames."""
    written: list[bytes] = []
    membership.accept(written.append, b"ok")
    return written


def refuse(membership: Membership) -> list[bytes]:
    """Let the channel of a membership refuse the join with the answer "no". Return the written frames."""
    written: list[bytes] = []
    membership.refuse(written.append, b"no")
    return written


def joined(session: Session, topic: str = "room:a", join_ref: Any = "1") -> Membership:
    membership = join(session, topic, join_ref)
    accept(membership)
    return membership


def sent(calls: list[Any]) -> list[Any]:
    """The frames of calls that all send one, read back."""
    frames = []
    for call in calls:
        assert isinstance(call, Send)
        assert call.frame.startswith(b"|")
        frames.append(json.loads(call.frame[1:]))
    return frames


def reply(join_ref: Any, ref: Any, topic: Any, status: str, response: Any) -> list[Any]:
    return [join_ref, ref, topic, "phx_reply", {"status": status, "response": response}]


def unmatched(ref: Any, topic: Any) -> list[Any]:
    return reply(None, ref, topic, "error", {"reason": "unmatched topic"})
