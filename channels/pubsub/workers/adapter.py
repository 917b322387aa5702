"""The adapter of a worker: PubSub with the other workers of the machine, over a socket to each of them.

`ashtree serve --workers` sets it for an endpoint without another adapter. `channels.pubsub.workers.links` has the
sockets, and `channels.pubsub.workers.frames` what they carry.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import trio

from actors.arguments import check_positive, check_whole
from actors.errors import InvalidOption
from channels.pubsub.adapter import Encoded, Receiver, worker_name
from channels.pubsub.envelope import MAX_BYTES
from channels.pubsub.exchange import Exchange, ExchangeAdapter
from channels.pubsub.lanes import lane_to
from channels.pubsub.workers.frames import MAX_FRAME, MAX_LANE, frame
from channels.pubsub.workers.grant_line import GrantClient
from channels.pubsub.workers.links import Link
from channels.telemetry import PUBSUB_DROPPED
from supervision.child_spec import ChildSpec, process_spec

__all__ = ["WorkersAdapter"]


class WorkersAdapter(ExchangeAdapter):
    """The adapter of one worker.

        pubsub.use(WorkersAdapter(sockets))

    Args:
        sockets: this worker's ends of the socket pairs that connect it to other workers. The adapter closes them.
        grants: the worker's end of the line to the table of grants in the parent, for entities; None for no entities.
        node_name: the name of this node. By default it is `worker.` and the id of the worker.
        heartbeat: seconds between two heartbeats.
        node_timeout: seconds without a heartbeat after which another worker counts as gone.
        max_waiting_bytes: bytes that can wait for one other worker. The adapter drops and counts further messages for
            it.
        max_bytes: the largest envelope in bytes.

    Raises:
        InvalidOption: a number is out of its range, or the name is too long for a lane.

    Attributes:
        grants: the argument.
    """

    name = "workers"

    def __init__(
        self,
        sockets: Sequence[socket.socket] = (),
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
        largest = MAX_FRAME - 1 - MAX_LANE
        if max_bytes > largest:
            raise InvalidOption(owner, "max_bytes", max_bytes, f"at most {largest}")
        super().__init__(worker_name("worker") if node_name is None else node_name)
        if len(lane_to(self.node_name).encode()) > MAX_LANE:
            raise InvalidOption(owner, "node_name", self.node_name, f"at most {MAX_LANE - 1} bytes")
        self.grants = grants
        self._heartbeat = heartbeat
        self._node_timeout = node_timeout
        self._max_waiting_bytes = max_waiting_bytes
        self._max_bytes = max_bytes
        # A dict, not a set: the workers get envelopes in the order of their starts.
        self._links: dict[Link, None] = {}
        # The links of the lanes that other workers have declared.
        self._readers: dict[str, Link] = {}
        # Links without a task that reads them, and links with frames for the next write.
        self._unread: list[Link] = []
        self._marked: list[Link] = []
        self._news = trio.Event()
        self._dropped = 0
        for sock in sockets:
            self.connect(sock)

    def connect(self, sock: socket.socket) -> None:
        """Connect one more worker. The adapter closes the socket when that worker has ended."""
        link = Link(sock)
        self._links[link] = None
        self._unread.append(link)
        self._put(link, frame(lane_to(self.node_name)))

    def start(self, receiver: Receiver) -> Sequence[ChildSpec]:
        """Begin a new incarnation."""
        self.exchange = exchange = Exchange(
            self.node_name,
            receiver,
            max_bytes=self._max_bytes,
            node_timeout=self._node_timeout,
        )
        grants = [] if self.grants is None else [self.grants]
        return [
            *(process_spec(each.main, id="grants", restart="transient") for each in grants),
            process_spec(self._serve, id="links", restart="transient"),
            process_spec(exchange.beat, self.publish, self._heartbeat, id="heartbeat"),
        ]

    # Out

    def direct_broadcast(self, node: str, encoded: Encoded) -> None:
        """Send a message to one other worker. No worker has a name that is too long for a lane."""
        if len(lane_to(node).encode()) <= MAX_LANE:
            super().direct_broadcast(node, encoded)

    def publish(self, lane: str, data: bytes) -> None:
        """Send an envelope to the workers that read its lane. Drop and count it for those with a full queue."""
        if lane.startswith("@"):
            link = self._readers.get(lane)
            links = [] if link is None else [link]
        else:
            links = list(self._links)
        if not links:
            return
        framed = frame(lane, data)
        for link in links:
            if link.waiting_bytes + len(framed) > self._max_waiting_bytes:
                self._drop(link)
            else:
                self._put(link, framed)

    def _put(self, link: Link, framed: bytes) -> None:
        if not link.waiting_bytes:
            self._marked.append(link)
            self._news.set()
        link.put(framed)

    def _drop(self, link: Link) -> None:
        self._dropped += 1
        if self.exchange is not None:
            problem = (
                f"{link.waiting_bytes} bytes were waiting for the worker {link.lane[1:] or '(new)'}"
            )
            self.exchange.receiver.execute(PUBSUB_DROPPED, {"count": 1}, {"problem": problem})

    async def _serve(self) -> None:
        """Read all links, and write them once in each turn of the scheduler. This is a process of the node."""
        self._unread = list(self._links)
        # After a restart, the links that were full have no task.
        self._marked = [link for link in self._links if link.waiting_bytes]
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    unread, self._unread = self._unread, []
                    for link in unread:
                        nursery.start_soon(self._read, link)
                    marked, self._marked = self._marked, []
                    for link in marked:
                        if not link.flush():
                            # Another task waits for this worker, so it delays no other.
                            nursery.start_soon(link.catch_up)
                    self._news = trio.Event()
                    await self._news.wait()
        finally:
            # Send the waiting messages. They include the goodbye of this node, because its sender stops before this
            # process.
            for link in self._links:
                link.flush()

    async def _read(self, link: Link) -> None:
        await link.read(self._receive)
        del self._links[link]
        if self._readers.get(link.lane) is link:
            del self._readers[link.lane]

    def _receive(self, link: Link, lane: str, envelope: bytes) -> None:
        if envelope:
            assert self.exchange is not None  # see `start`
            self.exchange.receive(lane, envelope)
        else:
            link.lane = lane
            self._readers[lane] = link

    def statistics(self) -> dict[str, int]:
        """Return the counters of the exchange, the bytes that wait for other workers, and the dropped messages."""
        waiting = sum(link.waiting_bytes for link in self._links)
        return {**super().statistics(), "waiting_bytes": waiting, "dropped": self._dropped}
