"""Nodes that are joined in memory, for tests of the messages between nodes.

    nodes = JoinedNodes()
    here, there = PubSub(nodes.adapter("here")), PubSub(nodes.adapter("there"))

Each `PubSub` is a separate node, with or without an endpoint. All nodes may run in one runtime. The network between
them keeps the order of each sender. A test can cut it, slow it down, or lose messages on purpose.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

import trio

from actors.arguments import check_positive, check_whole
from channels.entities.arbiters.local import LocalArbiter
from channels.pubsub.adapter import Receiver
from channels.pubsub.envelope import MAX_BYTES
from channels.pubsub.exchange import Exchange, ExchangeAdapter
from channels.pubsub.workers.grants import Grants
from channels.telemetry import PUBSUB_DROPPED
from supervision.child_spec import ChildSpec, process_spec

__all__ = ["JoinedAdapter", "JoinedNodes"]


class JoinedNodes:
    """A network in memory.

        nodes = JoinedNodes(latency=0.01)
        pubsub = PubSub(nodes.adapter("a"))
        nodes.cut("a", "b")             # a netsplit
        nodes.heal()

    Args:
        latency: seconds that a message travels.
        heartbeat: seconds between two heartbeats of a node.
        node_timeout: seconds after which a silent node counts as gone.
        max_waiting: messages that can be in flight to one node. Further messages are lost, and a counter counts them.

    Attributes:
        loses: a function of sender, receiver, lane and envelope. If it returns True, the network loses the envelope.
    """

    def __init__(
        self,
        *,
        latency: float = 0.0,
        heartbeat: float = 2.0,
        node_timeout: float = 30.0,
        max_waiting: int = 100_000,
    ) -> None:
        check_positive("JoinedNodes", "heartbeat", heartbeat)
        check_positive("JoinedNodes", "node_timeout", node_timeout)
        check_whole("JoinedNodes", "max_waiting", max_waiting)
        self.latency = latency
        self.heartbeat = heartbeat
        self.node_timeout = node_timeout
        self.max_waiting = max_waiting
        self.loses: Callable[[str, str, str, bytes], bool] = lambda *_: False
        self._adapters: list[JoinedAdapter] = []
        self._grants = Grants()
        self._holders = count(1)
        self._cuts: set[frozenset[str]] = set()

    def adapter(self, name: str, *, max_bytes: int = MAX_BYTES) -> JoinedAdapter:
        """Return the adapter of a new node. Two nodes may have the same name, because a test may need this mistake.

        Args:
            name: the name of the node.
            max_bytes: the largest envelope in bytes, in both directions.

        Returns:
            An adapter for one `PubSub`. The node joins the network when that `PubSub` starts.
        """
        return JoinedAdapter(self, name, max_bytes)

    def arbiter(self) -> LocalArbiter:
        """Return the arbiter of the entities of one node, for `EntitySupervisor(arbiter=)`. All nodes share its table.

        A cut does not separate a node from it.
        """
        return LocalArbiter(grants=self._grants, holder=next(self._holders))

    def cut(self, one: str, other: str) -> None:
        """Lose everything between two nodes, in both directions, until `heal`.

        Envelopes that are already in flight still arrive.

        Args:
            one: the name of a node.
            other: the name of the other node.
        """
        self._cuts.add(frozenset((one, other)))

    def isolate(self, name: str) -> None:
        """Cut a node off from all other nodes that run now. Nodes that start later reach it.

        Args:
            name: the name of the node.
        """
        for adapter in self._adapters:
            if adapter.node.name != name:
                self.cut(name, adapter.node.name)

    def heal(self) -> None:
        """Undo every cut."""
        self._cuts.clear()

    def _carry(self, sender: JoinedAdapter, lane: str, data: bytes) -> None:
        one = sender.node.name
        for receiver in self._adapters:
            other = receiver.node.name
            if receiver is sender or (lane.startswith("@") and lane != f"@{other}"):
                continue
            if frozenset((one, other)) not in self._cuts and not self.loses(one, other, lane, data):
                receiver.arrive(lane, data)


class JoinedAdapter(ExchangeAdapter):
    """The adapter of one node of `JoinedNodes`."""

    name = "joined"

    def __init__(self, network: JoinedNodes, name: str, max_bytes: int) -> None:
        super().__init__(name)
        self._network = network
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[float, str, bytes]] = deque()
        self._arrived = trio.Event()
        self._dropped = 0

    def start(self, receiver: Receiver) -> Sequence[ChildSpec]:
        """Join the network with a new incarnation."""
        network = self._network
        self._waiting.clear()
        self.exchange = exchange = Exchange(
            self.node_name,
            receiver,
            max_bytes=self._max_bytes,
            node_timeout=network.node_timeout,
        )
        network._adapters.append(self)
        return [
            process_spec(self._deliver, exchange, id="deliver"),
            process_spec(exchange.beat, self.publish, network.heartbeat, id="heartbeat"),
        ]

    def stop(self) -> None:
        """Leave the network."""
        self._network._adapters.remove(self)
        super().stop()
        self._waiting.clear()

    def statistics(self) -> dict[str, int]:
        """Return the counters of the exchange, and the number of messages that were lost because too many waited."""
        waiting = len(self._waiting)
        return {**super().statistics(), "waiting": waiting, "dropped": self._dropped}

    def publish(self, lane: str, data: bytes) -> None:
        """Send an envelope to the other nodes that the network connects with this one."""
        self._network._carry(self, lane, data)

    def arrive(self, lane: str, data: bytes) -> None:
        """Take an envelope from another node. The process of this node delivers it after the latency."""
        if len(self._waiting) >= self._network.max_waiting:
            self._dropped += 1
            if self.exchange is not None:
                problem = f"{self._network.max_waiting} messages were on their way to this node"
                self.exchange.receiver.execute(PUBSUB_DROPPED, {"count": 1}, {"problem": problem})
            return
        self._waiting.append((trio.current_time() + self._network.latency, lane, data))
        self._arrived.set()

    async def _deliver(self, exchange: Exchange) -> None:
        """Deliver the messages that have arrived. This is a process of the node."""
        while True:
            await self._arrived.wait()
            self._arrived = trio.Event()
            while self._waiting:
                due, lane, data = self._waiting[0]
                if due > trio.current_time():
                    await trio.sleep_until(due)
                # A checkpoint for each message, so that other processes run between two messages.
                await trio.lowlevel.checkpoint()
                # Remove the message only now, so that a crash of this process does not lose it.
                self._waiting.popleft()
                exchange.receive(lane, data)
