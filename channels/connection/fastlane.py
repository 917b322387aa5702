"""The short way of a broadcast: encoded once for each wire format, appended to every client's out-buffer.

A channel that is joined subscribes to its topic with a `Fastlane`, which says where its client's frames go. When a
`Broadcast` is dispatched, frames go straight there; the channel's process sees only what it *intercepts*. Other
messages, and subscriptions without a fastlane, are ordinary messages to the subscriber.

A frame that went this way carries no join_ref, so it may reach a client behind the phx_close of its topic, as with
Phoenix; clients ignore it then.
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
from channels.serializers.base import Codec
from channels.transports.contract import Out

__all__ = ["Fastlane", "dispatch", "publish"]


class Fastlane:
    """Where the frames of one subscriber go, and which events its process wants to see instead."""

    __slots__ = ("codec", "intercepts", "put")

    def __init__(self, out: Out, codec: Codec, intercepts: frozenset[str]) -> None:
        self.put = out.put
        self.codec = codec
        self.intercepts = intercepts


def publish(pubsub: PubSub, message: Broadcast, sender: Pid | None = None) -> None:
    """Broadcast by the fastlane, from any thread. `sender` is left out.

    Another thread than the runtime's makes the frames itself, so that it gets the error if there is one, and the
    runtime's thread only has to append them.

    Raises:
        EncodeError: see `dispatch`. In another thread nobody has got the message then.
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
    """Deliver a message to subscribers, `sender` excepted, broadcasts by the fastlane where there is one.

    Runs without a checkpoint, so one sender's broadcasts arrive everywhere in order. `frames` has the frames that are
    made already.

    Raises:
        EncodeError: the payload cannot be written in the wire format of some subscriber. Subscribers of other
            formats may have got it.
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
