"""The adapter of a worker: PubSub with the other workers of the machine, through the hub in their parent.

`ashtree serve --workers` sets it for an endpoint without another adapter. It sends frames of
`channels.pubsub.workers.frames` on a socket that the worker inherits.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence

import trio

from actors.arguments import check_positive, check_whole
from actors.errors import InvalidOption
from channels.pubsub.adapter import Encoded, Receiver, worker_name
from channels.pubsub.envelope import MAX_BYTES
from channels.pubsub.exchange import Exchange, ExchangeAdapter
from channels.pubsub.lanes import lane_to
from channels.pubsub.workers.frames import (
    DECLARE,
    EVERYBODY,
    MAX_FRAME,
    MAX_LANE,
    ONE,
    BrokenFrame,
    cut,
    frame,
    unframe,
)
from channels.pubsub.workers.grant_line import GrantClient
from channels.telemetry import PUBSUB_DROPPED
from supervision.child_spec import ChildSpec, process_spec

__all__ = ["WorkersAdapter"]

_CHUNK = 64 * 1024
# Messages between two checkpoints. Each goes to all subscribers of its topic.
_TURN = 16


class WorkersAdapter(ExchangeAdapter):
    """The adapter of one worker.

        pubsub.use(WorkersAdapter(sock))

    Args:
        sock: the worker's end of the socket pair that connects it to the hub. The adapter does not close it.
        grants: the worker's end of the line to the table of grants in the parent, for entities; None for no entities.
        node_name: the name of this node. By default it is `worker.` and the id of the worker.
        heartbeat: seconds between two heartbeats.
        node_timeout: seconds without a heartbeat after which another worker counts as gone.
        max_waiting_bytes: bytes that can wait to be sent to the hub. The adapter drops and counts further messages.
        max_bytes: the largest envelope in bytes.

    Raises:
        InvalidOption: a number is out of its range, or the name is too long for a lane.

    Attributes:
        grants: the argument.

    If the parent has ended, a worker cannot reach other workers. While it drains, the adapter drops and counts outgoing
    messages.
    """

    name = "workers"

    def __init__(
        self,
        sock: socket.socket,
        *,
        grants: GrantClient | None = None,
        node_name: str | None = None,
        heartbeat: float = 5.0,
        node_timeout: float = 30.0,
        max_waiting_bytes: int = 8 * 1024 * 1024,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        owner = "WorkersAdapter"
        check_positive(owner, "heartbeat", heartbeat)
        check_positive(owner, "node_timeout", node_timeout)
        check_whole(owner, "max_waiting_bytes", max_waiting_bytes)
        check_whole(owner, "max_bytes", max_bytes)
        if node_timeout <= heartbeat:
            raise InvalidOption(owner, "node_timeout", node_timeout, f"more than {heartbeat:g}")
        largest = MAX_FRAME - 2 - MAX_LANE
        if max_bytes > largest:
            raise InvalidOption(owner, "max_bytes", max_bytes, f"at most {largest}")
        super().__init__(worker_name("worker") if node_name is None else node_name)
        if len(lane_to(self.node_name).encode()) > MAX_LANE:
            raise InvalidOption(owner, "node_name", self.node_name, f"at most {MAX_LANE - 1} bytes")
        sock.setblocking(False)
        self.grants = grants
        self._socket = sock
        self._heartbeat = heartbeat
        self._node_timeout = node_timeout
        self._max_waiting_bytes = max_waiting_bytes
        self._max_bytes = max_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._news = trio.Event()
        # The bytes of the next frame that have arrived.
        self._rest = b""
        self._is_connected = True
        self._dropped = 0

    def start(self, receiver: Receiver) -> Sequence[ChildSpec]:
        """Begin a new incarnation, and declare the lane of this node to the hub."""
        self.exchange = exchange = Exchange(
            self.node_name,
            receiver,
            max_bytes=self._max_bytes,
            node_timeout=self._node_timeout,
        )
        self._append(frame(lane_to(self.node_name), kind=DECLARE))
        grants = [] if self.grants is None else [self.grants]
        return [
            *(process_spec(each.main, id="grants", restart="transient") for each in grants),
            process_spec(self._read, exchange, id="reader", restart="transient"),
            process_spec(self._write, id="writer", restart="transient"),
            process_spec(exchange.beat, self.publish, self._heartbeat, id="heartbeat"),
        ]

    # Out

    def direct_broadcast(self, node: str, encoded: Encoded) -> None:
        """Send a message to one other worker. No worker has a name that is too long for a lane."""
        if len(lane_to(node).encode()) <= MAX_LANE:
            super().direct_broadcast(node, encoded)

    def publish(self, lane: str, data: bytes) -> None:
        """Send an envelope to the hub, or drop and count it. Never blocks."""
        if not self._is_connected:
            self._drop("the parent of the workers has ended")
            return
        framed = frame(lane, data, kind=ONE if lane.startswith("@") else EVERYBODY)
        if self._waiting_bytes + len(framed) > self._max_waiting_bytes:
            self._drop(f"{self._waiting_bytes} bytes were waiting for the hub")
        else:
            self._append(framed)

    def _append(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self._news.set()

    def _drop(self, problem: str) -> None:
        self._dropped += 1
        if self.exchange is not None:
            self.exchange.receiver.execute(PUBSUB_DROPPED, {"count": 1}, {"problem": problem})

    async def _write(self) -> None:
        """Send the waiting messages, once in each turn of the scheduler. This is a process of the node."""
        try:
            while self._is_connected:
                if not self._waiting:
                    self._news = trio.Event()
                    await self._news.wait()
                self._flush()
                if self._waiting:
                    await trio.lowlevel.wait_writable(self._socket)
        finally:
            # Send the waiting messages. They include the goodbye of this node, because its sender stops before this
            # process.
            self._flush()

    def _flush(self) -> None:
        """Send as much as the socket takes. Never blocks."""
        while self._waiting:
            pieces, size = [], 0
            while self._waiting and size < _CHUNK:
                pieces.append(self._waiting.popleft())
                size += len(pieces[-1])
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                # The parent has ended.
                self._disconnect()
                return
            self._waiting_bytes -= sent
            if sent < size:
                self._waiting.appendleft(data[sent:])
                return

    def _disconnect(self) -> None:
        self._is_connected = False
        self._waiting.clear()
        self._waiting_bytes = 0
        self._news.set()

    # In

    async def _read(self, exchange: Exchange) -> None:
        """Deliver arriving messages until the hub ends. This is a process of the node."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                chunk = self._socket.recv(_CHUNK)
            except BlockingIOError:
                continue
            except OSError:
                break
            if not chunk:
                break
            data = self._rest + chunk if self._rest else chunk
            try:
                found = cut(data)
            except BrokenFrame:
                break
            # Set this before the delivery: if the delivery fails, only these messages are lost.
            self._rest = data[found.end :]
            for number, (lane, envelope) in enumerate(unframe(data, found.ends), 1):
                exchange.receive(lane, envelope)
                if number % _TURN == 0:
                    await trio.lowlevel.checkpoint()
        self._disconnect()

    def statistics(self) -> dict[str, int]:
        """Return the counters of the exchange, the bytes that wait for the hub, and the number of dropped messages."""
        waiting = self._waiting_bytes
        return {**super().statistics(), "waiting_bytes": waiting, "dropped": self._dropped}
