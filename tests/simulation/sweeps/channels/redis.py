"""Three nodes with one Redis server: outboxes and windows that fill, outages as long as each time-out, and latency.

    ashtree simulate tests.simulation.sweeps.channels.redis:redis --seeds 1-1000

Some runs have room for only a few messages in the outbox, and some have no heartbeat during the whole run. The model
states the time by which a message must arrive while nothing is disturbed. So a heartbeat cannot repair a lost flush.
After an outage, the model states the time by which the nodes are connected again. In the end, each node has received
each message, or has counted it as lost.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from actors import GenServer, Pid, Reply, call
from channels import Broadcast, PubSub
from channels.pubsub.redis import RedisAdapter
from channels.pubsub.redis.server import RedisServer
from channels.testing import SimulatedRedis
from supervision import Supervisor
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds

NAMES = ("a", "b", "c")
CONNECT = 2.0
PING, ANSWER = 1.5, 2.5
LONGEST_BACKOFF = 5.0
ENVELOPE = 200
"""The most bytes of a message besides its text: the envelope, and the command."""
TEXTS = (1, 100, 300)
LONGEST = TEXTS[-1] + ENVELOPE
"""The most bytes of one message. An empty outbox takes one message of any size."""


class Ear(GenServer[list[Any]]):
    """A subscriber of one node. It keeps the sender and the number of each message."""

    async def init(self, pubsub: PubSub) -> None:
        self.state: list[Any] = []
        pubsub.subscribe("t")

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(self.state.copy())

    async def handle_info(self, message: Broadcast) -> None:
        self.state.append((message.payload["from"], message.payload["n"]))


class Nodes:
    """The state of one run."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self.world = world
        self.random = random = world.random("operations")
        self.nursery = nursery
        self.server = SimulatedRedis()
        self.is_down = False
        self.most = random.choice((400, 2000, 1 << 20))
        self.patience = random.choice((0.5, 1.0, 30.0))
        self.heartbeat = random.choice((1.0, 25.0))
        self.pubsubs: list[PubSub] = []
        self.ears: list[Pid] = []
        self.sent: list[tuple[str, int]] = []
        # The messages since the nodes were last undisturbed, and their bytes.
        self.recent: list[tuple[str, int]] = []
        self.bytes = 0
        self.figures: list[tuple[int, int]] = []
        self.serial = 0
        self.what = ""

    def check(self, holds: object, problem: str) -> None:
        self.world.check(
            holds,
            f"{problem}, after {self.what}; at most {self.most} bytes wait, for {self.patience:g} s, with a heartbeat "
            f"every {self.heartbeat:g} s",
        )

    async def serve(self) -> None:
        listener = self.world.network.listen("redis", 6379)
        while True:
            stream = await listener.accept()
            if self.is_down:
                await trio.aclose_forcefully(stream)
            else:
                self.nursery.start_soon(self.server.serve, stream)

    async def start(self) -> None:
        self.nursery.start_soon(self.serve)
        for name in NAMES:
            adapter = RedisAdapter(
                RedisServer(
                    "redis://redis",
                    connect=partial(self.world.network.connect, source=name),
                    connect_timeout=CONNECT,
                    ping_interval=PING,
                    ping_timeout=ANSWER,
                ),
                node_name=name,
                heartbeat=self.heartbeat,
                max_waiting_bytes=self.most,
                max_waiting_seconds=self.patience,
            )
            pubsub = PubSub(adapter)
            await Supervisor.start_link([pubsub.child_spec()], label=f"node {name}")
            self.pubsubs.append(pubsub)
            self.ears.append(await Ear.start(pubsub))
        # A node that starts late has missed the first heartbeats. It knows the other nodes after one heartbeat.
        await trio.sleep(self.heartbeat + self.due())
        for pubsub in self.pubsubs:
            self.check(len(pubsub.nodes()) == 2, f"{pubsub} knows {pubsub.nodes()}")
        self.begin()

    # Latency

    def due(self) -> float:
        """Return the seconds in which the messages since `begin` arrive, even if each waits for the one before."""
        knobs = self.world.knobs
        step = knobs.latency[1] + 2 * knobs.quantum
        # A window of the network holds back the rest until the receiver has read it.
        pieces = self.bytes / knobs.window
        return 0.1 + 6 * step + 4 * step * (2 * len(self.recent) + pieces)

    def begin(self) -> None:
        """Begin a time without disturbances."""
        self.recent.clear()
        self.bytes = 0
        self.figures = self.drops()

    def drops(self) -> list[tuple[int, int]]:
        """Return the numbers of dropped messages and of lost connections of each node."""
        found = [pubsub.statistics()["adapter"] for pubsub in self.pubsubs]
        return [(each["dropped"], each["disconnects"]) for each in found]

    async def arrives_in_time(self) -> None:
        """Check that each message since `begin` arrives in time, unless its node has dropped some and counted them."""
        await trio.sleep(self.due())
        figures = self.drops()
        self.check(
            [each[1] for each in figures] == [each[1] for each in self.figures],
            f"nothing was disturbed, but connections were lost: {figures}",
        )
        intact = {
            name
            for name, new, old in zip(NAMES, figures, self.figures, strict=True)
            if new[0] == old[0]
        }
        self.world.sometimes("a node drops messages", len(intact) < len(NAMES))
        for name, ear in zip(NAMES, self.ears, strict=True):
            heard = set(await call(ear, "heard"))
            late = [each for each in self.recent if each[0] in intact and each not in heard]
            self.check(not late, f"the node {name} still waits for {late} after {self.due():g} s")
        for pubsub in self.pubsubs:
            waiting = pubsub.statistics()["adapter"]["waiting"]
            self.check(waiting == 0, f"{waiting} bytes of {pubsub} wait, and nothing is disturbed")
        self.begin()

    # Operations

    async def talk(self) -> None:
        """Broadcast some messages at once."""
        for _ in range(self.random.choice((1, 3, 12))):
            self.say(self.random.randrange(3))

    def say(self, number: int) -> None:
        self.serial += 1
        text = "x" * self.random.choice(TEXTS)
        payload = {"from": NAMES[number], "n": self.serial, "x": text}
        before = self.pubsubs[number].statistics()["adapter"]
        self.pubsubs[number].broadcast("t", Broadcast("t", "e", payload))
        after = self.pubsubs[number].statistics()["adapter"]
        message = (NAMES[number], self.serial)
        self.sent.append(message)
        self.recent.append(message)
        size = len(text) + ENVELOPE
        self.bytes += size
        self.check(
            after["waiting"] <= max(self.most, LONGEST),
            f"{after['waiting']} bytes wait in {number}",
        )
        self.check(
            self.waits(number, self.serial) or after["dropped"] > before["dropped"],
            f"a message of {NAMES[number]} is neither waiting nor counted as dropped: {before}, {after}",
        )
        self.check(
            after["dropped"] == before["dropped"]
            or before["waiting"] + size > self.most
            or before["waiting"] > after["waiting"] - size,
            f"{NAMES[number]} dropped a message, although there was room: {before}, {after}",
        )

    def waits(self, number: int, serial: int) -> bool:
        """Return True if the message with this serial number waits in the outbox of its node.

        The statistics cannot tell this. The message may push out heartbeats that are too late, which nobody counts, and
        then `waiting` shrinks although the message is kept.
        """
        adapter: Any = self.pubsubs[number].adapter
        outbox = adapter._publisher._outbox
        return any(b'"n":%d,' % serial in command for _, command, _ in outbox._waiting)

    async def rest(self) -> None:
        """Let all messages arrive, and then let time pass."""
        await self.arrives_in_time()
        await trio.sleep(self.random.choice((0.0, PING, PING + ANSWER, 6.0)))

    async def outage(self) -> None:
        """Let the server or the network fail for about as long as a time-out, and talk in the meantime."""
        await self.arrives_in_time()
        random = self.random
        how = random.choice(("down", "reset", "hold", "partition", "pause"))
        due = random.choice((0.1, self.patience, CONNECT, PING, PING + ANSWER, 8.0))
        lasts = min(10.0, max(0.05, due + random.choice((-0.2, 0.3))))
        self.what = f"{how} for {lasts:g} s"
        cut_off, losses = None, [each[1] for each in self.drops()]
        connections = self.world.network.connections
        if how == "down":
            self.is_down = True
            self.server.close_clients()
        elif how == "reset":
            for connection in random.sample(connections, min(2, len(connections))):
                connection.reset()
        elif how == "hold":
            for connection in random.sample(connections, min(2, len(connections))):
                connection.hold()
        elif how == "partition":
            cut_off = random.choice(NAMES)
            self.world.network.partition("redis", cut_off)
        else:
            self.server.pause()
        end = trio.current_time() + lasts
        while trio.current_time() < end:
            await trio.sleep(min(random.choice((0.05, 0.5, 2.0)), end - trio.current_time()))
            if random.random() < 0.7:
                self.say(random.randrange(3))
        if cut_off is not None and lasts > PING + ANSWER + 1.5:
            index = NAMES.index(cut_off)
            self.check(
                self.drops()[index][1] > losses[index], f"{cut_off} has not noticed the silence"
            )
        self.is_down = False
        self.server.resume()
        self.world.network.heal()
        for connection in self.world.network.connections:
            connection.release()
        await self.comes_back()

    async def comes_back(self) -> None:
        """Check that all nodes are connected again in time."""
        step = 10 * (self.world.knobs.latency[1] + 2 * self.world.knobs.quantum)
        # A silent connection ends after a PING without an answer. Then one attempt may wait for a backoff, and the
        # attempt before it for its time-out.
        await self.world.eventually(
            "all nodes are connected",
            lambda: all(each.statistics()["adapter"]["connected"] for each in self.pubsubs),
            within=PING + ANSWER + CONNECT + LONGEST_BACKOFF + 1.0 + step,
        )
        # A held PING may still be under way.
        await trio.sleep(PING + ANSWER + 1.0 + step)
        await self.world.eventually(
            "all nodes are still connected",
            lambda: all(each.statistics()["adapter"]["connected"] for each in self.pubsubs),
            within=CONNECT + LONGEST_BACKOFF + step,
        )
        # A node counts a lost message only after the sender's next message or heartbeat.
        await trio.sleep(self.heartbeat + self.due())
        await self.count()
        self.begin()

    async def count(self) -> None:
        """Check that each node has received each message of the others once and in order, or has counted it as lost."""
        for name, ear, pubsub in zip(NAMES, self.ears, self.pubsubs, strict=True):
            heard = await call(ear, "heard")
            for sender in NAMES:
                own = [n for who, n in heard if who == sender]
                self.check(own == sorted(set(own)), f"{name} got {own} of {sender}")
            extra = set(heard) - set(self.sent)
            self.check(not extra, f"{name} got {extra}, which nobody sent")
            missing = [each for each in self.sent if each not in set(heard)]
            mine = [each for each in missing if each[0] == name]
            self.check(not mine, f"{name} misses its own messages {mine}")
            lost = pubsub.statistics()["lost"]
            self.check(lost == len(missing), f"{name} counts {lost} lost, and misses {missing}")
            self.world.sometimes("a message was lost", lost > 0)

    async def run(self) -> None:
        await self.start()
        for _ in range(self.world.params["operations"]):
            operation = self.random.choices((self.talk, self.rest, self.outage), (5, 2, 2))[0]
            self.what = operation.__name__
            await operation()
        await self.arrives_in_time()
        await trio.sleep(self.heartbeat + self.due())
        await self.count()


@scenario(params={"operations": 10})
@small_bounds
async def redis(world: World) -> None:
    """Let three nodes talk over a Redis server that fails again and again."""
    async with trio.open_nursery() as nursery:
        await Nodes(world, nursery).run()
        nursery.cancel_scope.cancel()
