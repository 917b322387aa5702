"""Pushes with a key, and the answers that a history remembers for them.

*pure*. A client that got no answer to a push repeats the push with the same key. If the server has handled the push
before, the client gets the first answer.

    {"text": "hello", "_key": "6f1c"}  ──▶ take_key     ──▶ the key, and the payload for the handler
    who pushes, topic and key          ──▶ name_push    ──▶ the key in the storage
    event and payload                  ──▶ mark_push   ──▶ a fingerprint, which distinguishes pushes
    PushReply or None                  ◀─▶ Answer       ◀─▶ bytes in the storage
"""

from __future__ import annotations

import base64
from hashlib import blake2b
from typing import Any

import msgspec
from attrs import define, frozen

from channels.messages import Binary, PushReply

__all__ = ["KEY", "MAX_KEY", "Answer", "KeyedPush", "mark_push", "name_push", "take_key"]

KEY = "_key"
"""The name of the key in the payload of a push."""

MAX_KEY = 128
"""The longest key of a client, in characters."""

_canonical = msgspec.json.Encoder(order="deterministic").encode
_encode = msgspec.json.Encoder().encode
_SIZE = 16


def take_key(payload: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return the key in the payload of a push, and the payload without it. The key is None if it is not valid.

    >>> take_key({"text": "hello", "_key": "6f1c"})
    ('6f1c', {'text': 'hello'})
    """
    key = payload[KEY]
    is_valid = isinstance(key, str) and 0 < len(key) <= MAX_KEY
    rest = {name: value for name, value in payload.items() if name != KEY}
    return (key if is_valid else None), rest


def name_push(owner: str | None, topic: str, key: str) -> str:
    """Return the key of a push in the storage, which differs for each user and topic.

    Args:
        owner: the id of the socket, which identifies the user. Clients without an id share their keys.
        topic: the topic.
        key: the key from the client.
    """
    digest = blake2b(digest_size=_SIZE)
    for part in (owner or "", topic, key):
        data = part.encode("utf-8", "surrogatepass")
        # Include the length, so that two different lists of parts never give the same bytes.
        digest.update(b"%d:%b" % (len(data), data))
    return digest.hexdigest()


def mark_push(event: object, payload: Any) -> str:
    """Return a fingerprint of a push. It shows if a client uses one key for two different pushes."""
    return blake2b(_canonical([event, payload]), digest_size=_SIZE).hexdigest()


@frozen
class Answer:
    """The answer to a push.

    Attributes:
        mark: the fingerprint of the push.
        reply: the reply; None if the handler gave none.
    """

    mark: str
    reply: PushReply | None

    def encode(self) -> bytes:
        """Return the answer as bytes. The reply must have a JSON form, or be a `Binary`."""
        reply = self.reply
        if reply is None:
            return _encode([self.mark])
        if type(reply.payload) is Binary:
            text = base64.b64encode(reply.payload.data).decode()
            return _encode([self.mark, reply.status, text, "base64"])
        return _encode([self.mark, reply.status, reply.payload])

    @classmethod
    def decode(cls, data: bytes) -> Answer:
        """Return an answer from its bytes.

        >>> Answer.decode(Answer("1f", PushReply({"total": 3})).encode()).reply
        PushReply(payload={'total': 3}, status='ok')
        """
        mark, *rest = msgspec.json.decode(data)
        match rest:
            case [status, text, "base64"]:
                return cls(mark, PushReply(Binary(base64.b64decode(text)), status))
            case [status, payload]:
                return cls(mark, PushReply(payload, status))
        return cls(mark, None)


@define(eq=False)
class KeyedPush:
    """A push with a key, while its handler runs.

    Attributes:
        topic: the topic.
        event: the name of the event, for errors.
        name: the key in the storage.
        mark: the fingerprint of the push.
        appends: the number of messages that the handler has appended. If the handler runs again, its nth append counts
            as the nth append of the first run.
        has_failed: True if the handler appended a message without waiting, and the storage may not have kept it.
        is_deferred: True if the handler took a `socket_ref` to answer later.
    """

    topic: str
    event: str
    name: str
    mark: str
    appends: int = 0
    has_failed: bool = False
    is_deferred: bool = False

    def next_key(self) -> str:
        """Return the key of the next message that the handler appends."""
        self.appends += 1
        return f"{self.name}:{self.appends}"
