"""Two connected endpoints, with clients on both. The requests of a polling client go to a random one of the two.

    ashtree simulate tests.simulation.sweeps.channels.nodes:two_nodes --seeds 1-1000

The network between the nodes loses nothing. So each message arrives exactly once on every node, and the messages of one
sender stay in order. A polling client must get the same results from both nodes.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import trio

from actors import GenServer, Pid, Reply, call
from channels import Broadcast, Endpoint, LongPoll, Mount, PubSub
from channels.pubsub.envelope import MessageTooLarge
from channels.testing import BroadcastsArrive, JoinedNodes
from supervision import DynamicSupervisor
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.channels.clients import Client
from tests.simulation.sweeps.channels.room import CHECKED, Ledger, UserSocket

NAMES = ("one", "two")
TOPICS = ("room:a", "room:b")


class Ear(GenServer[list[Any]]):
    """A subscriber of a node's PubSub."""

    async def init(self, pubsub: PubSub) -> None:
        self.pubsub = pubsub
        self.state: list[Any] = []
        for topic in (*TOPICS, "values"):
            pubsub.subscribe(topic)

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        heard, self.state = self.state, []
        return Reply(heard)

    async def handle_info(self, message: Any) -> None:
        is_event = isinstance(message, Broadcast)
        self.state.append(message.payload["n"] if is_event else message["n"])


class Roamer(Client):
    """A polling client that sends each request to a random node."""

    nodes: list[Endpoint]

    async def request(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        self.endpoint = self.random.choice(self.nodes)
        return await super().request(*arguments, **options)


class Nodes:
    """The state of one run."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self.world = world
        self.nursery = nursery
        self.random = world.random("operations")
        self.latency = self.random.choice((0.0, 0.01, 0.1))
        network = JoinedNodes(latency=self.latency, heartbeat=1.0)
        self.endpoints: list[Endpoint] = []
        self.ledger = Ledger()
        for name in NAMES:
            adapter = network.adapter(name, max_bytes=300_000)
            endpoint = Endpoint(
                sockets={"/socket": Mount(UserSocket, longpoll=LongPoll(window=3.0))},
                pubsub=PubSub(adapter),
                secret_key_base="s" * 64,
            )
            endpoint.ledger = self.ledger  # type: ignore[attr-defined]
            self.endpoints.append(endpoint)
        self.clients: list[Client] = []
        self.ears: list[Pid] = []
        self.wanted: dict[Client, list[Any]] = defaultdict(list)
        self.heard: dict[Pid, list[int]] = defaultdict(list)
        self.joined: dict[Client, set[str]] = defaultdict(set)
        self.serial = 0
        self.what = ""

    def check(self, holds: object, problem: str) -> None:
        self.world.check(holds, f"{problem}, after {self.what}")

    def number(self) -> int:
        self.serial += 1
        return self.serial

    async def start(self) -> None:
        for endpoint in self.endpoints:
            await endpoint.start_link(port=None)
            self.ears.append(await Ear.start(endpoint.pubsub))
        # Wait until each node knows the other.
        await trio.sleep(2.5)
        for index in range(4):
            name = f"c{index}"
            kind = Roamer if index < 2 else Client
            client = kind(
                self.world,
                self.endpoints[index % 2],
                name,
                carrier="poll" if index < 2 else "asgi",
                params={"name": name, "user": f"u{index}"},
            )
            if isinstance(client, Roamer):
                client.nodes = self.endpoints
            accepted = await client.connect(self.nursery)
            self.check(accepted, f"{client} was refused")
            self.clients.append(client)
            for topic in TOPICS[: self.random.randint(1, 2)]:
                ref = str(self.number())
                await client.send(ref, ref, topic, "phx_join", {})
                self.joined[client].add(topic)
                self.wanted[client].append(("phx_reply", topic, {"status": "ok", "response": {}}))
                await trio.sleep(0.5)

    async def step(self) -> None:
        """Do one operation, and check the messages of all clients and subscribers."""
        operation = self.random.choice(
            (self.broadcast, self.broadcast, self.push, self.direct, self.big, self.leave_polls)
        )
        self.what = operation.__name__
        await operation()
        await trio.sleep(1.0 + 4 * self.latency)
        await self.compare()

    async def broadcast(self) -> None:
        """Broadcast on one node. The clients of both nodes must get the message, unless the broadcast is local."""
        topic, node = self.random.choice(TOPICS), self.random.choice(self.endpoints)
        for _ in range(self.random.randint(1, 3)):
            payload = {"n": self.number()}
            if self.random.random() < 0.2:
                node.pubsub.local_broadcast(topic, Broadcast(topic, "said", payload))
                self.expect(topic, payload, nodes=[node])
            else:
                node.broadcast(topic, "said", payload)
                self.expect(topic, payload)
        if self.random.random() < 0.3:
            value = {"n": self.number()}
            node.pubsub.broadcast("values", value)
            for ear in self.ears:
                self.heard[ear].append(value["n"])

    def expect(
        self, topic: str, payload: Any, *, nodes: Any = None, but: Client | None = None
    ) -> None:
        for client in self.clients:
            gets_it = topic in self.joined[client] and client is not but
            if gets_it and (nodes is None or self.home(client) in nodes):
                self.wanted[client].append(("said", topic, payload))
        for endpoint, ear in zip(self.endpoints, self.ears, strict=True):
            if nodes is None or endpoint in nodes:
                self.heard[ear].append(payload["n"])

    def home(self, client: Client) -> Endpoint:
        """Return the endpoint on whose node the channels of a client run."""
        pid = self.ledger.of(client.name, "room:a")[0].pid
        return next(each for each in self.endpoints if pid in each.pubsub.subscribers("room:a"))

    async def push(self) -> None:
        """Make a channel broadcast to the clients of both nodes."""
        client = self.random.choice(self.clients)
        topic = self.random.choice(sorted(self.joined[client]))
        name = self.random.choice(("broadcast", "broadcast_from"))
        payload, ref = {"n": self.number()}, str(self.number())
        acts = [[name, "said", payload], ["reply", "ok", {}]]
        self.expect(topic, payload, but=client if name == "broadcast_from" else None)
        self.wanted[client].append(("phx_reply", topic, {"status": "ok", "response": {}}))
        await client.send(None, ref, topic, "do", {"acts": acts})

    async def direct(self) -> None:
        """Broadcast to one node only."""
        topic, node = self.random.choice(TOPICS), self.random.choice(self.endpoints)
        target = self.random.choice((*self.endpoints, None))
        payload = {"n": self.number()}
        name = "nobody" if target is None else target.pubsub.node_name
        node.pubsub.direct_broadcast(name, topic, Broadcast(topic, "said", payload))
        self.expect(topic, payload, nodes=[] if target is None else [target])

    async def leave_polls(self) -> None:
        """Let clients leave their polls while messages come. No message may be lost, and no session may end."""
        topic = self.random.choice(TOPICS)
        for _ in range(self.random.randint(1, 4)):
            for client in self.clients[:2]:
                if self.random.random() < 0.7:
                    client.leave_poll()
            if self.random.random() < 0.7:
                payload = {"n": self.number()}
                self.endpoints[0].broadcast(topic, "said", payload)
                self.expect(topic, payload)
            await trio.sleep(self.random.choice((0.0, self.latency, 0.3)))
        # A session waits two seconds for the confirmation of a poll.
        await trio.sleep(3.0)

    async def big(self) -> None:
        """Broadcast large messages. The nodes exchange some in pieces, and refuse others."""
        client = self.random.choice(self.clients[:2])
        size = self.random.choice((90_000, 200_000))
        text, ref = "x" * size, str(self.number())
        topic = self.random.choice(sorted(self.joined[client]))
        await client.send(None, ref, topic, "echo", {"x": text})
        self.wanted[client].append(("phx_reply", topic, {"status": "ok", "response": {"x": text}}))
        try:
            self.endpoints[0].broadcast("values", "huge", {"x": "x" * 400_000})
        except MessageTooLarge:
            return
        self.check(False, "a broadcast of 400,000 bytes was accepted")

    async def compare(self) -> None:
        """Compare the messages of each client and each `Ear` with the model."""
        for client in self.clients:
            self.check(not client.ended, f"{client} has ended")
            frames = client.take()
            got = [(frame.event, frame.topic, frame.payload) for frame in frames]
            wanted = self.wanted.pop(client, [])
            for topic in TOPICS:
                one = [each for each in got if each[1] == topic]
                other = [each for each in wanted if each[1] == topic]
                self.check(
                    one == other,
                    f"{client} got {str(one)[:300]} on {topic}, not {str(other)[:300]}",
                )
        for name, ear in zip(NAMES, self.ears, strict=True):
            heard, wanted_numbers = await call(ear, "heard"), self.heard.pop(ear, [])
            self.check(
                sorted(heard) == sorted(wanted_numbers),
                f"the node {name} heard {heard}, not {wanted_numbers}",
            )
        for endpoint in self.endpoints:
            figures = endpoint.pubsub.statistics()
            self.check(figures["lost"] == 0, f"{endpoint.pubsub} has lost messages: {figures}")

    async def end(self) -> None:
        """Disconnect all clients by id, from one node. Check that both nodes have no process left for any client."""
        self.what = "disconnect of everybody"
        node = self.random.choice(self.endpoints)
        for index in range(4):
            node.broadcast(f"user:u{index}", "disconnect", {})
        # A polling client starts another session at once. Wait until this session has ended too.
        await trio.sleep(25)
        for client in self.clients:
            self.check(client.ended, f"{client} was not disconnected")
            self.check(client.code in (None, 1001), f"{client} was closed with {client.code}")
        for endpoint in self.endpoints:
            for name in ("sessions", "connections"):
                left = await DynamicSupervisor.which_children((endpoint, name))
                self.check(not left, f"{endpoint.pubsub} has {len(left)} {name} left")
        self.check(not self.ledger.alive(), f"channels are left: {self.ledger.alive()}")


@scenario(params={"operations": 12}, invariants=("all", *CHECKED, BroadcastsArrive))
@small_bounds
async def two_nodes(world: World) -> None:
    """Run random operations on two nodes, each with an exact check."""
    async with trio.open_nursery() as nursery:
        state = Nodes(world, nursery)
        await state.start()
        await trio.sleep(1)
        await state.compare()
        for _ in range(world.params["operations"]):
            await state.step()
        await state.end()
        nursery.cancel_scope.cancel()
