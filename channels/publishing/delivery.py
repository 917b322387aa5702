"""Delivery of a message from outside to the clients of all nodes. The history of a durable topic keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from actors.text import brief
from channels.errors import EncodeError
from channels.messages import Broadcast, PushReply
from channels.pubsub.envelope import MessageTooLarge
from channels.serving.requests import RequestRefused
from channels.serving.services import Services
from channels.topics import INTERNAL

if TYPE_CHECKING:
    from channels.durable.history import History

__all__ = ["KEY_HEADER", "Delivered", "Key", "check_key", "check_names", "deliver"]

KEY_HEADER: Final = "Idempotency-Key"
"""The header with the key of a message. The server keeps only one message with the same key and topic."""

Key: TypeAlias = tuple[str, int]
"""The key of a request, and the place of a message in this request."""

# All publishers share their keys, so that a key works with a renewed token. Keys of clients have other owners. Each
# place in a batch has an owner of its own, because a key stands for the whole request.
_OWNER: Final = f"{INTERNAL}publish"


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a delivery.

    Attributes:
        nodes: the number of nodes that the message was sent to, this node included.
        position: the position of the message in its history; None if the topic is not durable.
    """

    nodes: int
    position: str | None = None


def check_names(topic: str, event: str, *, within: str = "") -> None:
    """Check the names of a message.

    Args:
        topic: the topic.
        event: the name of the event.
        within: the path of the message in the request, for the field in the error.

    Raises:
        RequestRefused: a name is empty or reserved (422). The topics that begin with `ashtree:` are for messages
            between nodes, and the events that begin with `phx_` are for the server.
    """
    for field, name, reserved in (("topic", topic, INTERNAL), ("event", event, "phx_")):
        if not name or name.startswith(reserved):
            problem = f"the {field} begins with {reserved!r}, which is for the server itself"
            raise RequestRefused(
                422, problem if name else f"the {field} is empty", field=f"{within}{field}"
            )


def check_key(services: Services, topic: str, key: str) -> None:
    """Check the idempotency key of a message.

    Args:
        services: the services of the endpoint.
        topic: the topic of the message.
        key: the key.

    Raises:
        RequestRefused: the topic is not durable, or the key is empty or too long (422).
    """
    if _history_of(services, topic) is None:
        problem = f"the topic {brief(topic)} is not durable and has no keys; leave out {KEY_HEADER}"
        raise RequestRefused(422, problem, field=KEY_HEADER)
    from channels.durable.answers import MAX_KEY  # noqa: PLC0415 # as in `_append`

    if not 0 < len(key) <= MAX_KEY:
        problem = f"the key must have 1 to {MAX_KEY} characters"
        raise RequestRefused(422, problem, field=KEY_HEADER)


async def deliver(
    services: Services, topic: str, event: str, payload: Any, *, key: Key | None = None
) -> Delivered:
    """Send a message to the clients of its topic on all nodes. The history of a durable topic keeps it first.

    Args:
        services: the services of the endpoint.
        topic: the topic. `check_names` has accepted it.
        event: the name of the event. `check_names` has accepted it.
        payload: a JSON object, or a `Binary` if the topic is not durable.
        key: the idempotency key of the message; None for none. `check_key` has accepted its text. A repeated message
            with the key gets the first result.

    Raises:
        RequestRefused: the message is too large (413). The payload cannot be encoded, or another message had the key
            (422). A process owns the topic (409). The history did not keep the message, or may not have kept it (503).
    """
    history = _history_of(services, topic)
    nodes = 1 + len(services.pubsub.nodes())
    try:
        if history is not None:
            return await _append(history, topic, event, payload, key, nodes)
        services.pubsub.broadcast(topic, Broadcast(topic, event, payload))
    except MessageTooLarge as error:
        raise RequestRefused(413, str(error)) from error
    except EncodeError as error:
        raise RequestRefused(422, str(error), field="payload") from error
    return Delivered(nodes=nodes)


def _history_of(services: Services, topic: str) -> History | None:
    """Return the history of a topic; None if the topic is not durable."""
    histories: tuple[Any, ...] = services.endpoint.histories
    mounts = (*services.mounts.values(), *services.longpolls.values()) if histories else ()
    found = [getattr(mount.router.match(topic), "channel", None) for mount in mounts]
    used = [getattr(channel, "history", None) for channel in found]
    return next((each for each in histories if any(each is one for one in used)), None)


async def _append(  # noqa: PLR0917 - the arguments of `deliver`, and what it found
    history: History, topic: str, event: str, payload: Any, key: Key | None, nodes: int
) -> Delivered:
    # Imported here, so that only programs with durable topics load this package.
    from channels.durable.answers import (  # noqa: PLC0415
        Answer,
        KeyedPush,
        mark_push,
        name_push,
    )
    from channels.durable.queue import encode_payload  # noqa: PLC0415
    from channels.durable.storage import (  # noqa: PLC0415
        AnswerNotKept,
        AppendFailed,
        FenceRefused,
    )

    push = None
    try:
        if key is not None:
            encode_payload(topic, event, payload)  # an invalid payload must not use up the key
            text, place = key
            mark, name = mark_push(event, payload), name_push(f"{_OWNER}:{place}", topic, text)
            push = KeyedPush(topic, event, name, mark)
            # Kept before the message, so that of two messages with one key only the first is ever appended.
            mine = Answer(mark, PushReply(nodes)).encode()
            first = Answer.decode(await history.keep_answer(push, mine))
            if first.mark != mark or first.reply is None:
                problem = "another message had this key; write a new key"
                raise RequestRefused(422, problem, field=KEY_HEADER)
            nodes = first.reply.payload
            # The history may forget the answer before the message, and then this name belongs to no other message.
            push.name = f"{name}:{mark}"
        return Delivered(
            nodes=nodes, position=await history.append(topic, event, payload, push=push)
        )
    except FenceRefused as error:
        raise RequestRefused(409, str(error), field="topic") from error
    except (AppendFailed, AnswerNotKept) as error:
        if isinstance(error, AppendFailed) and error.is_too_large:
            raise RequestRefused(413, str(error)) from error
        again = "" if key is None else f" with the same {KEY_HEADER}"
        problem = (
            f"the history may not have kept the message: {error.problem}; send it again{again}"
        )
        raise RequestRefused(503, problem, headers={"retry-after": "1"}) from error
