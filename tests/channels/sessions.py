"""Helpers for tests of sessions: a session, ways to feed it, and ways to read its frames."""

from __future__ import annotations

import json
from typing import Any

from channels.protocol.session import Effect, Membership, Send, Session, Start
from channels.serializers.serializer import Codec
from channels.serializers.v2 import V2
from channels.topics import Route, Router

ROUTE = Route("room:*", "RoomChannel")
PHOENIX_ROUTE = Route("phoenix", "OddChannel")
ROUTER = Router([ROUTE, PHOENIX_ROUTE])
CODEC = Codec(V2(), lambda data: b"|" + data)


def new_session(**limits: Any) -> Session:
    return Session(CODEC, ROUTER.match, **limits)


def feed(session: Session, *message: Any, payload: Any = None) -> list[Effect]:
    """Send join_ref, ref, topic, event, and a payload that is empty unless given."""
    data = json.dumps([*message, {} if payload is None else payload])
    return session.receive(data.encode(), binary=False)


def join(
    session: Session, topic: str = "room:a", join_ref: Any = "1", ref: Any = "1"
) -> Membership:
    (start,) = feed(session, join_ref, ref, topic, "phx_join")
    assert isinstance(start, Start)
    return start.membership


def joined(session: Session, topic: str = "room:a", join_ref: Any = "1") -> Membership:
    membership = join(session, topic, join_ref)
    membership.accepted()
    return membership


def closes_of(membership: Membership) -> tuple[bytes, ...]:
    """Return the phx_close frames that wait for the answer to a join, without taking them."""
    closes = membership.take_closes()
    membership.add_closes(closes)
    return tuple(closes)


def sent(effects: list[Effect]) -> list[Any]:
    """The frames of effects which are all Send, read back."""
    frames = []
    for effect in effects:
        assert isinstance(effect, Send)
        assert effect.frame.startswith(b"|")
        frames.append(json.loads(effect.frame[1:]))
    return frames


def reply(join_ref: Any, ref: Any, topic: Any, status: str, response: Any) -> list[Any]:
    return [join_ref, ref, topic, "phx_reply", {"status": status, "response": response}]


def unmatched(ref: Any, topic: Any) -> list[Any]:
    return reply(None, ref, topic, "error", {"reason": "unmatched topic"})
