"""Exchanges, which number the outgoing envelopes of a node and check the incoming ones, for any adapter.

An adapter carries bytes on lanes. Its `Exchange` makes and reads these bytes. The exchange numbers outgoing envelopes,
and reports incoming envelopes that are lost, repeated or malformed. It also tracks the other nodes, and logs the events
of the adapter.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from actors.process import on_exit
from actors.runtime import current_runtime
from channels.pubsub import logger
from channels.pubsub.adapter import Encoded, LostEnvelopes, Node, Receiver, new_incarnation
from channels.pubsub.envelope import (
    MAX_BYTES,
    Envelope,
    MalformedEnvelope,
    MessageTooLarge,
    heartbeat,
    pack,
    unpack,
)
from channels.pubsub.lanes import ALL_NODES, Arrivals, Numbers, lane_to
from channels.telemetry import (
    PUBSUB_MALFORMED,
    PUBSUB_NAME_TAKEN,
    PUBSUB_NODE_DOWN,
    PUBSUB_NODE_UP,
    PUBSUB_STARTED,
)

__all__ = ["Exchange", "ExchangeAdapter"]

MAX_NODES = 1000
"""The most other nodes that a node tracks. It still delivers the messages of further nodes."""


class Exchange:
    """The envelopes of one incarnation of a node.

        exchange = Exchange("web-1", receiver)
        lane, data = exchange.message(encoded)      # for every other node; publish `data` on `lane`
        exchange.receive(lane, data)                # on another node

    Create it in the adapter's `start`, in the thread of the runtime. Call its methods only in that thread.

    Args:
        node_name: the name of this node.
        receiver: gets the messages that arrive.
        max_bytes: the largest envelope in bytes, in both directions.
        node_timeout: seconds without a heartbeat after which another node counts as gone.

    Attributes:
        node: this node.
        lanes: the lanes that this node reads.
        receiver: the receiver from the arguments.
    """

    def __init__(
        self,
        node_name: str,
        receiver: Receiver,
        *,
        max_bytes: int = MAX_BYTES,
        node_timeout: float = 30.0,
    ) -> None:
        self.node = Node(node_name, new_incarnation(current_runtime()))
        self.lanes = (ALL_NODES, lane_to(node_name))
        self._stop_logging = logger.attach(current_runtime().telemetry, receiver)
        self.receiver = receiver
        self._max_bytes = max_bytes
        self._node_timeout = node_timeout
        self._numbers = Numbers()
        self._arrivals = Arrivals()
        # Each other node, and the time of its latest heartbeat.
        self._heard: dict[Node, float] = {}
        self._newcomer = trio.Event()
        self._own = pack(*self._identity, 0, Encoded("", "", b"")).partition(b",0,")[0] + b","
        self._sent = self._received = self._lost = 0
        self._repeated = self._malformed = self._names_taken = 0
        receiver.execute(PUBSUB_STARTED, {}, {"exchange": self})

    @property
    def _identity(self) -> tuple[str, str]:
        return self.node.name, self.node.incarnation

    def close(self) -> None:
        """Stop logging. Call this in the adapter's `stop`."""
        self._stop_logging()

    # Out

    def message(self, encoded: Encoded) -> tuple[str, bytes]:
        """Return the lane and the envelope of a message for every other node.

        Args:
            encoded: the message.

        Raises:
            MessageTooLarge: the envelope exceeds `max_bytes`. The next envelope gets the same number.
        """
        return self._message(ALL_NODES, encoded)

    def message_to(self, node: str, encoded: Encoded) -> tuple[str, bytes]:
        """Return the lane and the envelope of a message for one other node. See `message`."""
        return self._message(lane_to(node), encoded)

    def _message(self, lane: str, encoded: Encoded) -> tuple[str, bytes]:
        number = self._numbers.next(lane)
        data = pack(*self._identity, number, encoded)
        if len(data) > self._max_bytes:
            self._numbers.take_back(lane)
            raise MessageTooLarge(encoded.topic, len(data), self._max_bytes)
        self._sent += 1
        return lane, data

    def heartbeats(self, *, goodbye: bool = False) -> list[tuple[str, bytes]]:
        """Return a heartbeat for all nodes, and one for the lane of each running node that got a direct message.

        Args:
            goodbye: True if the node stops, and these are its last envelopes.
        """
        # A node that is gone does not read its lane. If it comes back, it gets the heartbeat then.
        read = {ALL_NODES, *(lane_to(node.name) for node in self._heard)}
        return [
            (lane, heartbeat(*self._identity, number, goodbye=goodbye))
            for lane, number in self._numbers.last().items()
            if lane in read
        ]

    async def beat(self, publish: Callable[[str, bytes], None], interval: float) -> None:
        """Publish heartbeats until cancelled, and then a goodbye. Run this as a process of the adapter.

        It also drops nodes that are silent. Start it after the processes that carry messages. It then stops before
        them, so they still send the goodbye.

        Args:
            publish: publishes an envelope on a lane, without blocking.
            interval: seconds between two heartbeats.
        """

        def part() -> None:
            for lane, data in self.heartbeats(goodbye=True):
                publish(lane, data)

        on_exit(part)
        while True:
            self._newcomer = trio.Event()
            for lane, data in self.heartbeats():
                publish(lane, data)
            self.check_nodes()
            # A new node gets a heartbeat at once. It learns the running nodes, and the numbers from which it counts
            # losses.
            with trio.move_on_after(interval):
                await self._newcomer.wait()

    # In

    def receive(self, lane: str, data: bytes) -> None:
        """Read the bytes that arrived on a lane, and deliver their message. Never raises because of `data`.

        This ignores the node's own envelopes, so a transport may return its own envelopes to a node.

        Args:
            lane: the lane on which the message came.
            data: the bytes of the envelope.
        """
        if data.startswith(self._own):
            return
        try:
            envelope, encoded = unpack(data, max_bytes=self._max_bytes)
            if encoded is None:
                self._beat(lane, envelope)
            else:
                self._deliver(lane, envelope, encoded)
        except MalformedEnvelope as error:
            self._malformed += 1
            self.receiver.execute(
                PUBSUB_MALFORMED, {"bytes": len(data)}, {"lane": lane, "problem": error.problem}
            )

    def _deliver(self, lane: str, envelope: Envelope, encoded: Encoded) -> None:
        if envelope.incarnation:
            found = self._arrivals.message(
                lane, envelope.node, envelope.incarnation, envelope.number
            )
            if found is True:
                self._repeated += 1
                return
            if found:
                self._report(found)
        self._received += 1
        self.receiver.deliver(encoded)

    def _beat(self, lane: str, beat: Envelope) -> None:
        lost = self._arrivals.heartbeat(lane, beat.node, beat.incarnation, beat.number)
        if lost:
            self._report(lost)
        node, is_goodbye = Node(beat.node, beat.incarnation), beat.kind == "goodbye"
        if node.name == self.node.name:
            # An earlier start of this node may still be stopping. A later one means that two nodes share the name.
            if not is_goodbye and node.incarnation > self.node.incarnation:
                self._names_taken += 1
                self.receiver.execute(PUBSUB_NAME_TAKEN, {}, {"node": node})
            return
        if is_goodbye:
            # Keep the numbers of the node: its goodbye still has to arrive on the other lanes.
            self._gone(node, "goodbye")
        elif node in self._heard or len(self._heard) < MAX_NODES:
            is_new = node not in self._heard
            self._heard[node] = trio.current_time()
            if is_new:
                self._newcomer.set()
                self.receiver.execute(PUBSUB_NODE_UP, {}, {"node": node})

    def _report(self, lost: LostEnvelopes) -> None:
        self._lost += lost.count
        self.receiver.lost(lost)

    def check_nodes(self) -> None:
        """Drop the nodes that were silent for `node_timeout`. Call it with each heartbeat."""
        oldest = trio.current_time() - self._node_timeout
        for node in [node for node, heard in self._heard.items() if heard < oldest]:
            # Keep the numbers of the node. If it returns, they show what was lost meanwhile.
            is_replaced = any(each.name == node.name and each != node for each in self._heard)
            self._gone(node, "replaced" if is_replaced else "silent")

    def _gone(self, node: Node, why: str) -> None:
        if self._heard.pop(node, None) is not None:
            self.receiver.execute(PUBSUB_NODE_DOWN, {}, {"node": node, "reason": why})

    def nodes(self) -> tuple[Node, ...]:
        """Return the other nodes, in the order in which this node first heard of them."""
        return tuple(self._heard)

    def statistics(self) -> dict[str, int]:
        """Return the numbers of messages sent, received, lost, repeated and malformed, and of other nodes."""
        return {
            "nodes": len(self._heard),
            "sent": self._sent,
            "received": self._received,
            "lost": self._lost,
            "repeated": self._repeated,
            "malformed": self._malformed,
            "name_taken": self._names_taken,
        }


class ExchangeAdapter:
    """The methods of an adapter that its exchange carries out. The base of all adapters that carry envelopes.

    A subclass sets `name`, makes `self.exchange` in its `start`, and publishes bytes in `publish`.

    Args:
        node_name: the name of this node.

    Attributes:
        node_name: the name from the arguments.
        exchange: the exchange of this incarnation; None before the first start.
    """

    name = ""

    def __init__(self, node_name: str) -> None:
        self.node_name = node_name
        self.exchange: Exchange | None = None

    @property
    def node(self) -> Node:
        """This node. Its incarnation is empty before the first start."""
        return Node(self.node_name, "") if self.exchange is None else self.exchange.node

    def publish(self, lane: str, data: bytes) -> None:
        """Publish an envelope on a lane, without blocking. If this is not possible now, drop, count and report it.

        Args:
            lane: the lane.
            data: the bytes of the envelope.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Take note that the processes have ended. The statistics stay."""
        if self.exchange is not None:
            self.exchange.close()

    def broadcast(self, encoded: Encoded) -> None:
        """Send a message to every other node.

        Args:
            encoded: the message.

        Raises:
            MessageTooLarge: the envelope exceeds `max_bytes`.
        """
        assert self.exchange is not None, "PubSub broadcasts after the start"
        self.publish(*self.exchange.message(encoded))

    def direct_broadcast(self, node: str, encoded: Encoded) -> None:
        """Send a message to one other node. See `broadcast`."""
        assert self.exchange is not None, "PubSub broadcasts after the start"
        self.publish(*self.exchange.message_to(node, encoded))

    def nodes(self) -> tuple[Node, ...]:
        """Return the other nodes that sent a heartbeat recently."""
        return () if self.exchange is None else self.exchange.nodes()

    def statistics(self) -> dict[str, int]:
        """Return the counters of the exchange; an empty dict before the first start."""
        return {} if self.exchange is None else self.exchange.statistics()
