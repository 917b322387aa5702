"""Delivery on this node: the table of subscribers, and the fastlane of broadcasts.

The table maps each topic to its subscriptions, oldest first, and each process to its own subscriptions.

The fastlane encodes a `Broadcast` once for each wire format, and appends the frame to every client's out-buffer. A
joined channel subscribes to its topic with a `Fastlane`, which names that buffer. The channel's process gets only the
events that it *intercepts*. All other messages go to the subscriber's process. A subscriber without a fastlane gets all
messages in its process.

A broadcast with a key is a value that may be dropped (`OutBuffer.put_latest`). A channel that intercepts it gets every
value.

A fastlane frame has no join_ref. As in Phoenix, it may arrive after the phx_close of its topic. Clients ignore such a
frame.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, final

import msgspec

from actors.process import send
from actors.refs import Pid
from actors.small_set import Table, add_to, remove_from, view_of, without_item
from channels.errors import EncodeError
from channels.messages import Broadcast
from channels.pubsub.adapter import Encoded, encode
from channels.serializers.serializer import Codec
from channels.transports.contract import Out

__all__ = [
    "Fastlane",
    "Leaving",
    "Subscription",
    "SubscriptionTable",
    "dispatch",
    "dispatch_encoded",
    "frames_of",
]


class Subscription(msgspec.Struct, eq=False):
    """The subscription of a process to a topic. Compared by identity: two calls make two subscriptions.

    Attributes:
        pid: the subscribed process.
        topic: the topic.
        metadata: data for the dispatcher; None for plain messages.
    """

    pid: Pid
    topic: str
    metadata: Any

    def __repr__(self) -> str:
        return f"<subscription of {self.pid!r} to {self.topic!r}>"


class SubscriptionTable:
    """The table of subscriptions. The cost of a method does not depend on other topics or subscribers."""

    __slots__ = ("_by_pid", "_by_topic")

    def __init__(self) -> None:
        self._by_topic: Table[str, Subscription] = {}
        # A process with an empty set has no subscription now, but has the clean-up `Leaving` already.
        self._by_pid: Table[Pid, Subscription] = {}

    def add(self, pid: Pid, topic: str, metadata: Any) -> tuple[Subscription, bool]:
        """Subscribe a process. Return the subscription, and True if it is the process's first ever."""
        subscription = Subscription(pid, topic, metadata)
        add_to(self._by_topic, topic, subscription)
        is_first = pid not in self._by_pid
        add_to(self._by_pid, pid, subscription)
        return subscription, is_first

    def remove(self, pid: Pid, topic: str) -> None:
        """Remove every subscription of a process to a topic."""
        own = self._by_pid.get(pid)
        for subscription in [each for each in view_of(own) if each.topic == topic]:
            remove_from(self._by_topic, subscription.topic, subscription)
            own = self._by_pid[pid] = without_item(own, subscription)

    def remove_process(self, pid: Pid) -> None:
        """Drop every subscription of a process, and forget the process."""
        for subscription in view_of(self._by_pid.pop(pid, None)):
            remove_from(self._by_topic, subscription.topic, subscription)

    def subscribers(self, topic: str) -> Collection[Subscription]:
        """Return the subscriptions of a topic, oldest first. A live view: do not change the table while iterating."""
        return view_of(self._by_topic.get(topic))

    def topics(self) -> tuple[str, ...]:
        """Return the topics that have a subscriber."""
        return tuple(self._by_topic)

    def __len__(self) -> int:
        return sum(len(view_of(own)) for own in self._by_pid.values())


@final
class Leaving:
    """The clean-up that drops a process's subscriptions. A `functools.partial` would take four times the memory."""

    __slots__ = ("_pid", "_table")

    def __init__(self, table: SubscriptionTable, pid: Pid) -> None:
        self._table = table
        self._pid = pid

    def __call__(self) -> None:
        self._table.remove_process(self._pid)


class Fastlane(msgspec.Struct, eq=False):
    """A subscriber's out-buffer, and the events that go to the subscriber's process instead."""

    out: Out
    codec: Codec
    intercepts: frozenset[str]


def dispatch(
    subscriptions: Iterable[Subscription],
    sender: Pid | None,
    message: Any,
    *,
    frames: dict[Codec, bytes | None] | None = None,
    encoded: Encoded | None = None,
) -> None:
    """Deliver a message to all subscribers except `sender`.

    This has no checkpoint, so all subscribers get the broadcasts of one sender in the same order.

    Args:
        subscriptions: the subscriptions of the topic.
        sender: the process to leave out, or None.
        message: the message.
        frames: frames that the caller has encoded.
        encoded: the encoded message, if the caller has encoded it. Frames copy its payload.

    Raises:
        EncodeError: JSON cannot express the payload, and nobody gets the message. Or the wire format of some
            subscribers cannot express it, and all other subscribers get the message.
    """
    if type(message) is Broadcast:
        _fan_out(subscriptions, sender, message.topic, message.event, message, frames, encoded)
        return
    for subscription in subscriptions:
        if subscription.pid is not sender:
            send(subscription.pid, message)


def dispatch_encoded(subscriptions: Iterable[Subscription], encoded: Encoded) -> None:
    """Deliver a message from another node. Decode it only if a subscriber needs the decoded message.

    Raises:
        EncodeError: see `dispatch`. Or some subscribers need the decoded message, and Python cannot represent it. All
            other subscribers get the message.
    """
    if encoded.event is None:
        dispatch(subscriptions, None, encoded.message())
    else:
        _fan_out(subscriptions, None, encoded.topic, encoded.event, None, None, encoded)


def _fan_out(  # noqa: C901, PLR0912, PLR0915, PLR0917 - one loop over all subscribers, with local variables, for speed
    subscriptions: Iterable[Subscription],
    sender: Pid | None,
    topic: str,
    event: str,
    message: Broadcast | None,
    frames: dict[Codec, bytes | None] | None,
    encoded: Encoded | None,
) -> None:
    known: dict[Codec, bytes | None] = {} if frames is None else {**frames}
    # Before the first delivery, the payload must have been encoded as JSON. If that fails, nobody gets the message.
    is_checked = encoded is not None
    failed: EncodeError | None = None
    is_readable = True
    codec: Codec | None = None
    frame: bytes | None = None
    value: bytes | None = None
    name = (encoded if message is None else message).key  # type: ignore[union-attr]  # one of them is given
    key = None if name is None else (topic, event, name)
    for subscription in subscriptions:
        if subscription.pid is sender:
            continue
        lane = subscription.metadata
        if type(lane) is not Fastlane or event in lane.intercepts:
            if message is None and is_readable:
                try:
                    message = _decoded(encoded)
                except EncodeError as error:
                    # Try to decode only once: there can be thousands of subscribers, and the message can be large.
                    is_readable, failed = False, error
            if message is not None:
                if not is_checked:
                    encoded = encode(topic, message)
                    is_checked = True
                send(subscription.pid, message)
            continue
        if lane.codec is not codec:
            codec = lane.codec
            if codec not in known:
                try:
                    if encoded is not None and codec.copies_json:
                        payload: Any = encoded.payload()
                    else:
                        message = message or _decoded(encoded)
                        payload = message.payload
                        if not is_checked and not codec.copies_json:
                            encoded = encode(topic, message)
                            is_checked = True
                    known[codec] = codec.broadcast(topic, event, payload)
                    is_checked = True
                except EncodeError as error:
                    if not is_checked:
                        raise
                    known[codec], failed = None, error
            value = known[codec]
            # A frame is for `put` and a value for `put_latest`, so a frame needs no further check.
            frame = value if key is None else None
        if frame is not None:
            lane.out.put(frame)
        elif key is not None and value is not None:
            lane.out.put_latest(key, value)
    if failed is not None:
        raise failed
    if not is_checked and message is not None:
        encode(topic, message)


def _decoded(encoded: Encoded | None) -> Broadcast:
    assert encoded is not None, "a broadcast is given decoded, encoded or both"
    message: Broadcast = encoded.message()
    return message


def frames_of(
    subscriptions: Iterable[Subscription],
    sender: Pid | None,
    message: Broadcast,
    encoded: Encoded | None = None,
) -> dict[Codec, bytes | None]:
    """Encode the frames of a broadcast in advance, for every wire format that its subscribers use.

    The arguments are those of `dispatch`.

    Raises:
        EncodeError: the wire format of a subscriber cannot express the payload.
    """
    codecs = {
        subscription.metadata.codec
        for subscription in subscriptions
        if subscription.pid is not sender
        and type(subscription.metadata) is Fastlane
        and message.event not in subscription.metadata.intercepts
    }
    return {
        codec: codec.broadcast(
            message.topic,
            message.event,
            encoded.payload() if encoded is not None and codec.copies_json else message.payload,
        )
        for codec in codecs
    }
