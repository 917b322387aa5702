"""The fastlane, which writes broadcasts to clients without a message to their channels.

The fastlane encodes a `Broadcast` once for each wire format, and appends the frame to every client's out-buffer. A
joined channel subscribes to its topic with a `Fastlane`, which names that buffer. The channel's process gets only the
events that it *intercepts*. All other messages go to the subscriber's process, and so do all messages for subscribers
without a fastlane.

A fastlane frame has no join_ref. As in Phoenix, it may arrive after the phx_close of its topic. Clients ignore such a
frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from actors.process import send
from actors.refs import Pid
from channels.messages import Broadcast
from channels.pubsub.pubsub import PubSub
from channels.pubsub.table import Subscription
from channels.serializers.serializer import Codec
from channels.transports.contract import Out

__all__ = ["Fastlane", "dispatch", "publish"]


class Fastlane:
    """A subscriber's out-buffer, and the events that go to the subscriber's process instead."""

    __slots__ = ("codec", "intercepts", "put")

    def __init__(self, out: Out, codec: Codec, intercepts: frozenset[str]) -> None:
        self.put = out.put
        self.codec = codec
        self.intercepts = intercepts


def publish(pubsub: PubSub, message: Broadcast, sender: Pid | None = None) -> None:
    """Broadcast to all subscribers except `sender`, from any thread.

    If the caller is in another thread than the runtime, it encodes the frames itself. An encoding error raises in that
    thread.

    Raises:
        EncodeError: as for `dispatch`. In another thread, no subscriber got the message.
    """
    dispatcher = dispatch
    if not pubsub.is_here:
        dispatcher = partial(dispatch, frames=_frames(pubsub, message, sender))
    pubsub.broadcast(message.topic, message, sender=sender, dispatcher=dispatcher)


def _frames(pubsub: PubSub, message: Broadcast, sender: Pid | None) -> dict[Codec, bytes]:
    lanes = {
        subscription.metadata.codec
        for subscription in pubsub.subscriptions(message.topic)
        if subscription.pid is not sender
        and type(subscription.metadata) is Fastlane
        and message.event not in subscription.metadata.intercepts
    }
    return {
        codec: codec.broadcast(message.topic, message.event, message.payload) for codec in lanes
    }


def dispatch(
    subscriptions: Iterable[Subscription],
    sender: Pid | None,
    message: Any,
    *,
    frames: dict[Codec, bytes] | None = None,
) -> None:
    """Deliver a message to all subscribers except `sender`.

    This has no checkpoint, so all subscribers get the broadcasts of one sender in the same order.

    Args:
        subscriptions: the subscriptions of the topic.
        sender: the process to leave out, or None.
        message: the message.
        frames: frames that the caller has encoded.

    Raises:
        EncodeError: the wire format of a subscriber cannot express the payload. Subscribers with other formats may have
            the message.
    """
    if type(message) is not Broadcast:
        for subscription in subscriptions:
            if subscription.pid is not sender:
                send(subscription.pid, message)
        return
    event = message.event
    if frames is None:
        frames = {}
    codec: Codec | None = None
    frame = b""
    for subscription in subscriptions:
        if subscription.pid is sender:
            continue
        lane = subscription.metadata
        if type(lane) is not Fastlane or event in lane.intercepts:
            send(subscription.pid, message)
            continue
        if lane.codec is not codec:
            codec = lane.codec
            known = frames.get(codec)
            if known is None:
                known = frames[codec] = codec.broadcast(message.topic, event, message.payload)
            frame = known
        lane.put(frame)
