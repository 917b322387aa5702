"""One incarnation of a node on Redis or Valkey: its exchange, its two connections, and their processes.

The processes, in the order of their start:

    subscribe        reads from the server; its start waits until the first attempt to connect has ended
    publish          writes to it
    flush            when stopped, waits until the server has confirmed all waiting messages
    heartbeat        sends the number of the last message; when stopped, sends a goodbye
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from actors.process import spawn_link
from actors.refs import Pid
from channels.pubsub.adapter import Receiver
from channels.pubsub.exchange import Exchange
from channels.pubsub.redis.connection import Options, Publisher, RedisConnection, Subscriber
from channels.pubsub.redis.url import RedisUrl
from channels.telemetry import PUBSUB_CONNECTED, PUBSUB_DISCONNECTED, PUBSUB_DROPPED
from supervision.child_spec import ChildSpec, process_spec

__all__ = ["Incarnation"]

_FLUSH_TIMEOUT = 1.0


class _Reports:
    """Emits the changes of the connections as telemetry events."""

    def __init__(self, receiver: Receiver, server: str) -> None:
        self._receiver = receiver
        self._server = server

    def connected(self, connection: str, attempts: int) -> None:
        about = {"connection": connection, "server": self._server}
        self._receiver.execute(PUBSUB_CONNECTED, {"attempts": attempts}, about)

    def disconnected(self, connection: str, problem: str, delay: float) -> None:
        about = {"connection": connection, "server": self._server, "problem": problem}
        self._receiver.execute(PUBSUB_DISCONNECTED, {"delay": delay}, about)

    def dropped(self, count: int, problem: str) -> None:
        self._receiver.execute(PUBSUB_DROPPED, {"count": count}, {"problem": problem})


class Incarnation:
    """The processes of a node, from `start` to `stop`. Made by `RedisAdapter.start`.

    Args:
        exchange: numbers outgoing envelopes, and reads incoming ones.
        receiver: gets the events of the connections.
        url: the server.
        heartbeat: seconds between two heartbeats.
        options: the other arguments of `Options`.

    Attributes:
        exchange: the exchange from the arguments.
        publisher: the connection that sends messages.
        subscriber: the connection that receives messages.
    """

    def __init__(
        self,
        exchange: Exchange,
        receiver: Receiver,
        url: RedisUrl,
        heartbeat: float,
        options: Mapping[str, Any],
    ) -> None:
        self.exchange = exchange
        self._heartbeat = heartbeat
        self._prefix = url.prefix.encode()
        settings = Options(
            url=url,
            client_name=f"{url.prefix}:{exchange.node.name}",
            reports=_Reports(receiver, str(url)),
            **options,
        )
        self._lanes = {self._channel(lane): lane for lane in exchange.lanes}
        # Encoded once. The lane of another node is encoded each time.
        self._channels = {lane: channel for channel, lane in self._lanes.items()}
        # These heartbeats say that this node sent nothing before. So other nodes notice if its first messages are lost.
        first = [(self._channel(lane), data) for lane, data in exchange.heartbeats()]
        self.publisher = Publisher(settings, first)
        self.subscriber = Subscriber(settings, list(self._lanes), self._arrived)

    def children(self) -> list[ChildSpec]:
        """Return the child specs of the processes."""
        beat, interval = self.exchange.beat, self._heartbeat
        return [
            ChildSpec("subscribe", self._start_subscriber),
            process_spec(self.publisher.main, id="publish"),
            process_spec(self._flush, id="flush"),
            process_spec(beat, self._publish_heartbeat, interval, id="heartbeat"),
        ]

    def _channel(self, lane: str) -> bytes:
        return b"%b:%b" % (self._prefix, lane.encode())

    def _arrived(self, channel: bytes, payload: bytes) -> None:
        self.exchange.receive(self._lanes[channel], payload)

    def publish(self, lane: str, data: bytes) -> None:
        """Publish an envelope soon."""
        channel = self._channels.get(lane) or self._channel(lane)
        self.publisher.publish(channel, data)

    def _publish_heartbeat(self, lane: str, data: bytes) -> None:
        # Do not count a dropped heartbeat: the next heartbeat replaces it.
        self.publisher.publish(self._channel(lane), data, counted=False)

    async def _start_subscriber(self) -> Pid:
        """Start the subscriber. Return when it has subscribed or failed to.

        So, if the server is reachable, an endpoint has subscribed before it serves its first client.
        """
        pid = spawn_link(self.subscriber.main, label="subscribe")
        # Bounded by connect_timeout.
        await self.subscriber.tried.wait()
        return pid

    async def _flush(self) -> None:
        """Sleep until this process is stopped. Then wait until the server has confirmed all waiting messages."""
        try:
            await trio.sleep_forever()
        finally:
            # Shielded, because this process is ending: the goodbye and the last messages of channels wait to be sent.
            with trio.move_on_after(_FLUSH_TIMEOUT, shield=True):
                await self.publisher.flush()

    def statistics(self) -> dict[str, int]:
        """Return the counters. See `RedisAdapter.statistics`."""
        publisher = self.publisher
        connections: tuple[RedisConnection, ...] = (publisher, self.subscriber)
        return {
            **self.exchange.statistics(),
            "connected": int(all(each.is_connected for each in connections)),
            "disconnects": sum(each.losses for each in connections),
            "published": publisher.published,
            "dropped": publisher.too_many + publisher.too_late + publisher.refused,
            "unconfirmed": publisher.unconfirmed,
            "waiting": publisher.waiting_bytes,
        }
