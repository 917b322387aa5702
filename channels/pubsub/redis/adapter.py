"""The adapter for Redis and Valkey: it connects all nodes that use the same server.

    pubsub = PubSub(RedisAdapter("redis://127.0.0.1:6379"))
    endpoint = Endpoint(sockets={"/socket": UserSocket}, pubsub=pubsub)

A node subscribes to the channel `PREFIX:0`, which all nodes read, and to `PREFIX:@NAME` for messages to it alone. It
subscribes when it starts, not when a client joins a topic. So a join never misses messages. The cost is that each node
gets every message. Messages travel as envelopes: see `channels.pubsub.envelope`.

The processes of a node, in the order of their start:

    subscribe        reads from the server; its start waits until the first attempt to connect has ended
    publish          writes to it
    flush            when stopped, waits until the server has confirmed all waiting messages
    heartbeat        sends the number of the last message; when stopped, sends a goodbye
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import trio

from actors.arguments import check_positive, check_whole
from actors.errors import InvalidOption
from channels.pubsub.adapter import Receiver, worker_name
from channels.pubsub.envelope import MAX_BYTES, MAX_NAME
from channels.pubsub.exchange import Exchange, ExchangeAdapter
from channels.pubsub.redis.connection import Options, Publisher, Subscriber
from channels.pubsub.redis.server import RedisServer
from channels.telemetry import PUBSUB_CONNECTED, PUBSUB_DISCONNECTED, PUBSUB_DROPPED
from supervision.child_spec import ChildSpec, process_spec

__all__ = ["RedisAdapter"]

# The largest message on a channel, as a multiple of the largest envelope. A message above this closes the connection.
# An envelope above its own limit is only dropped.
_ROOM = 8
# The most characters of a name. It leaves room for the number of a worker.
_MAX_NAME = MAX_NAME - 5
# Bytes for replies that are no messages.
_LEAST_ROOM = 64 * 1024
_FLUSH_TIMEOUT = 1.0
_EVENTS = {
    "connected": PUBSUB_CONNECTED,
    "disconnected": PUBSUB_DISCONNECTED,
    "dropped": PUBSUB_DROPPED,
}


class RedisAdapter(ExchangeAdapter):
    """The transport to all nodes that use the same server and the same prefix.

        RedisAdapter("redis://:secret@db.example:6379?prefix=shop", node_name="web-1")

    Args:
        server: the server, or its URL. The prefix of the URL must be the same on all nodes.
        node_name: the name of this node. Two nodes that run at the same time need two names. None takes the name of the
            machine. `ashtree serve --workers` adds the number of the worker.
        max_bytes: the largest envelope in bytes. A broadcast above it raises `MessageTooLarge`.
        heartbeat: seconds between two heartbeats. Within this time, receivers notice that the last messages of a node
            were lost.
        node_timeout: seconds without a heartbeat after which another node counts as gone.
        max_waiting_bytes: bytes that may wait to be published while the server is slow or away.
        max_waiting_seconds: seconds that a message may wait to be published.

    Raises:
        InvalidArgument: the URL has another form.
        InvalidOption: an option has an invalid value.

    Delivery is at most once. While the server is away, broadcasts reach only this node. The node drops and counts
    messages that it cannot send in time. Receivers count every message of a known node that did not reach them.

    A node starts whether the server is there or not. The log, the event `PUBSUB_DISCONNECTED` and `statistics` show
    that it is not connected.

    Attributes:
        server: the server, with its URL and the prefix.
    """

    name = "redis"

    def __init__(
        self,
        server: RedisServer | str,
        *,
        node_name: str | None = None,
        max_bytes: int = MAX_BYTES,
        heartbeat: float = 2.0,
        node_timeout: float = 30.0,
        max_waiting_bytes: int = 1024 * 1024,
        max_waiting_seconds: float = 1.0,
    ) -> None:
        self.server = RedisServer.of(server)
        check_positive("RedisAdapter", "heartbeat", heartbeat)
        check_positive("RedisAdapter", "node_timeout", node_timeout)
        check_positive("RedisAdapter", "max_waiting_seconds", max_waiting_seconds)
        check_whole("RedisAdapter", "max_bytes", max_bytes)
        check_whole("RedisAdapter", "max_waiting_bytes", max_waiting_bytes)
        if node_timeout <= heartbeat:
            expected = f"more than heartbeat={heartbeat}"
            raise InvalidOption("RedisAdapter", "node_timeout", node_timeout, expected)
        if node_name is not None and not _is_name(node_name):
            expected = f"1 to {_MAX_NAME} characters of text, or None"
            raise InvalidOption("RedisAdapter", "node_name", node_name, expected)
        super().__init__(worker_name(node_name or socket.gethostname()))
        self._max_bytes = max_bytes
        self._heartbeat = heartbeat
        self._node_timeout = node_timeout
        self._max_waiting_bytes = max_waiting_bytes
        self._max_waiting_seconds = max_waiting_seconds
        # The two connections and the encoded names of the channels of this incarnation.
        self._publisher: Publisher | None = None
        self._subscriber: Subscriber | None = None
        self._channels: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<RedisAdapter {self.server.url} node {self.node_name!r}>"

    def start(self, receiver: Receiver) -> Sequence[ChildSpec]:
        """Begin a new incarnation, and return the child specs of its processes."""
        self.exchange = exchange = Exchange(
            self.node_name,
            receiver,
            max_bytes=self._max_bytes,
            node_timeout=self._node_timeout,
        )
        self._channels = {lane: self._channel(lane) for lane in exchange.lanes}
        lanes = {channel: lane for lane, channel in self._channels.items()}

        def report(kind: str, numbers: Mapping[str, Any], about: Mapping[str, Any]) -> None:
            receiver.execute(_EVENTS[kind], numbers, about)

        def arrived(channel: bytes, payload: bytes) -> None:
            exchange.receive(lanes[channel], payload)

        options = Options(
            server=self.server,
            client_name=f"{self.server.url.prefix}:{self.node_name}",
            report=report,
            max_waiting_bytes=self._max_waiting_bytes,
            max_waiting_seconds=self._max_waiting_seconds,
            max_reply_bytes=self._max_bytes * _ROOM + _LEAST_ROOM,
        )
        # These heartbeats say that this node sent nothing before. So other nodes notice if its first messages are lost.
        first = [(self._channel(lane), data) for lane, data in exchange.heartbeats()]
        self._publisher = publisher = Publisher(options, first)
        self._subscriber = Subscriber(options, list(lanes), arrived)
        # Do not count a dropped heartbeat: the next heartbeat replaces it.
        publish = partial(self.publish, counted=False)
        return [
            ChildSpec("subscribe", self._subscriber.start_link),
            process_spec(publisher.main, id="publish"),
            process_spec(_flush, publisher, id="flush"),
            process_spec(exchange.beat, publish, self._heartbeat, id="heartbeat"),
        ]

    def publish(self, lane: str, data: bytes, *, counted: bool = True) -> None:
        """Publish an envelope soon.

        Args:
            lane: the lane.
            data: the bytes of the envelope.
            counted: True to count and report the envelope if it is dropped.
        """
        assert self._publisher is not None, "PubSub broadcasts after the start"
        # The channel of another node is encoded each time.
        channel = self._channels.get(lane) or self._channel(lane)
        self._publisher.publish(channel, data, counted=counted)

    def _channel(self, lane: str) -> bytes:
        return f"{self.server.url.prefix}:{lane}".encode()

    def statistics(self) -> dict[str, int]:
        """Return the counters of this incarnation, or an empty dict before the first start.

        They include the counters of `Exchange.statistics`. `connected` is 1 if both connections are up. `disconnects`
        counts lost connections. `published` counts messages that the server has confirmed, heartbeats included.
        `dropped` counts messages that were not sent. `unconfirmed` counts messages that were sent and may not have
        arrived. `waiting` is the number of bytes that are still to be sent.
        """
        publisher, subscriber = self._publisher, self._subscriber
        if publisher is None or subscriber is None:
            return {}
        return {
            **super().statistics(),
            "connected": int(publisher.is_connected and subscriber.is_connected),
            "disconnects": publisher.losses + subscriber.losses,
            "published": publisher.published,
            "dropped": publisher.too_many + publisher.too_late + publisher.refused,
            "unconfirmed": publisher.unconfirmed,
            "waiting": publisher.waiting_bytes,
        }


async def _flush(publisher: Publisher) -> None:
    """Sleep until this process is stopped. Then wait until the server has confirmed all waiting messages."""
    try:
        await trio.sleep_forever()
    finally:
        # Shielded, because this process is ending: the goodbye and the last messages of channels wait to be sent.
        with trio.move_on_after(_FLUSH_TIMEOUT, shield=True):
            await publisher.flush()


def _is_name(value: Any) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME:
        return False
    # Half of a surrogate pair cannot be sent.
    return not any("\ud800" <= each <= "\udfff" for each in value)
