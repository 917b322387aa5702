"""Five nodes on a Redis server, with presences and broadcasts, under every fault that a world has.

    ashtree simulate tests.simulation.cluster_scenarios:cluster --seeds 1-1000

The invariants judge. At the end the nodes must agree with each other, and with what this scenario has done.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random
from typing import Any

import trio

from actors import GenServer, Pid, kill, spawn
from channels import Broadcast, PubSub
from channels.presence import Presence
from channels.pubsub.redis.adapter import RedisAdapter
from channels.pubsub.redis.server import RedisServer
from channels.testing import BroadcastsArrive, PresencesAgree, SimulatedRedis
from supervision import Backoff, Supervisor, child_spec
from supervision.chaos import At, Kill
from supervision.laboratory.entropy import Chance
from supervision.simulation import Node, World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds_except

NAMES = ("a", "b", "c", "d", "e")
TOPICS = ("room:1", "room:2", "room:3")
KEYS = ("ann", "bob", "cem", "dee", "eve", "fay")

DOWN_PERIOD = 8.0
# A node whose request was lost asks again after five seconds.
WITHIN = 6.5
INVARIANTS = ("all", BroadcastsArrive, partial(PresencesAgree, within=WITHIN))

PROCESSES = (
    "*/top/*/tracker",
    "*/top/*/announcer",
    "*/top/pubsub/subscribe",
    "*/top/pubsub/publish",
    "*/top/pubsub/heartbeat",
    "*/top/ear",
)


def crashes(chance: Chance) -> list[Kill]:
    """Kill some processes of some nodes."""
    return [
        Kill(
            target=chance.choice(PROCESSES),
            when=At(round(chance.uniform(1.0, 9.0), 2)),
            pick=round(chance.random(), 2),
        )
        for _ in range(5)
    ]


class Ear(GenServer[None]):
    """A subscriber of all topics. Per sender, numbers only grow."""

    async def init(self, pubsub: PubSub, world: World, label: str) -> None:
        self.world, self.label = world, label
        self.last: dict[tuple[str, str], int] = {}
        for topic in TOPICS:
            pubsub.subscribe(topic)

    async def handle_info(self, message: Any) -> None:
        if isinstance(message, Broadcast) and message.event == "said":
            sender, number = message.payload["from"], message.payload["n"]
            before = self.last.get((sender, message.topic), 0)
            self.world.check(
                number > before, f"{self.label} hears {number} of {sender} after {before}"
            )
            self.last[sender, message.topic] = number


class Cluster:
    """The common data of the nodes and the scenario: the expected presences of each topic."""

    def __init__(self, world: World) -> None:
        self.world = world
        # People come and go all the time, then now and then, and then no more.
        self.pace = 2.0
        self.leave_grace: float = world.random("grace").choice([0.0, 0.0, 1.5])
        # By the label of the node, the topic and key of each owner that is alive.
        self.present: dict[str, Counter[tuple[str, str]]] = {}
        self.presences: dict[str, Presence] = {}
        self.pubsubs: dict[str, PubSub] = {}

    def lose(self, node: Node) -> None:
        """Note that a node has gone, with its presences."""
        self.present.pop(node.label, None)
        self.presences.pop(node.name, None)
        self.pubsubs.pop(node.name, None)

    def disagreement(self) -> str | None:
        """Return what some node shows and should not, or the other way round."""
        everybody = sum(self.present.values(), Counter[tuple[str, str]]())
        for name, presence in self.presences.items():
            shown = Counter(
                {
                    (topic, key): len(metas)
                    for topic in TOPICS
                    for key, metas in presence.snapshot(topic).items()
                }
            )
            if shown != everybody:
                return f"{name} shows {shown - everybody} too many and {everybody - shown} too few"
        return PresencesAgree.problem()

    def is_connected(self) -> bool:
        return len(self.pubsubs) == len(NAMES) and all(
            len(pubsub.nodes()) == len(NAMES) - 1 for pubsub in self.pubsubs.values()
        )


async def member(node: Node, cluster: Cluster) -> None:
    """Run one node: PubSub, presence, a subscriber, and people who come and go."""
    world = cluster.world
    adapter = RedisAdapter(
        RedisServer(
            "redis://redis",
            connect=world.network.connect,
            connect_timeout=1.5,
            ping_interval=1.0,
            ping_timeout=1.5,
            backoff=Backoff(0.05, 1.0),
        ),
        node_name=node.name,
        heartbeat=1.0,
        node_timeout=DOWN_PERIOD,
    )
    pubsub = PubSub(adapter)
    presence = Presence(
        name="online",
        heartbeat=1.0,
        down_period=DOWN_PERIOD,
        permdown_period=3 * DOWN_PERIOD,
        leave_grace=cluster.leave_grace,
        max_delta_sizes=(4, 16),
    )
    children = [
        pubsub.child_spec(),
        presence.child_spec(pubsub),
        child_spec(Ear, pubsub, world, node.label, id="ear"),
    ]
    try:
        await Supervisor.start_link(children, label="top", max_restarts=100)
        cluster.presences[node.name], cluster.pubsubs[node.name] = presence, pubsub
        await People(node, cluster, presence, pubsub).come_and_go()
    finally:
        cluster.lose(node)


class People:
    """Random people on one node. Each is a process, which stands for a channel."""

    def __init__(self, node: Node, cluster: Cluster, presence: Presence, pubsub: PubSub) -> None:
        self.cluster = cluster
        self.presence, self.pubsub = presence, pubsub
        self.label = node.label
        self.here: dict[Pid, tuple[str, str]] = {}
        self.known: Counter[tuple[str, str]] = Counter()
        self.said: Counter[str] = Counter()
        self.stream = node.random("people")
        cluster.present[self.label] = self.known

    async def come_and_go(self) -> None:
        stream = self.stream
        for _ in range(stream.randrange(4)):
            self.come()
        while True:
            await trio.sleep(stream.expovariate(self.cluster.pace or 1.0))
            if self.cluster.pace:
                self.act(stream.choice(["come", "go", "update", "crash", "say", "say", "untrack"]))

    def act(self, what: str) -> None:
        stream = self.stream
        if what == "say":
            topic = stream.choice(TOPICS)
            for _ in range(stream.choice([1, 1, 1, 20])):
                self.said[topic] += 1
                payload = {"from": self.label, "n": self.said[topic]}
                self.pubsub.broadcast(topic, Broadcast(topic, "said", payload))
        elif what == "come" or not self.here:
            if len(self.here) < 8:
                self.come()
        else:
            pid = stream.choice(list(self.here))
            if what == "update":
                topic, key = self.here[pid]
                self.presence.update(topic, key, {"n": stream.randrange(100)}, pid=pid)
            else:
                self.go(pid, what)

    def come(self) -> None:
        topic, key = self.stream.choice(TOPICS), self.stream.choice(KEYS)
        pid = spawn(trio.sleep_forever)
        self.presence.track(topic, key, {"at": self.label}, pid=pid)
        self.here[pid] = topic, key
        self.known[topic, key] += 1

    def go(self, pid: Pid, what: str) -> None:
        topic, key = self.here.pop(pid)
        self.known[topic, key] -= 1
        if what == "untrack":
            self.presence.untrack(topic, key, pid=pid)
        kill(pid)


class Faults:
    """The faults of the nodes, the network and the server, one after the other or several at once."""

    def __init__(self, cluster: Cluster, redis: SimulatedRedis, nursery: trio.Nursery) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.redis = redis
        self.stream: Random = cluster.world.random("faults")
        self._nursery = nursery

    async def run(self, seconds: float) -> None:
        world, stream = self.world, self.stream
        happenings = [
            self.crash,
            self.crash,
            self.deploy,
            self.netsplit,
            self.netsplit,
            self.crash_redis,
            self.pause_redis,
            self.reset,
            self.reset,
            self.skew,
        ]
        while world.seconds < seconds:
            await trio.sleep(stream.expovariate(1.2))
            self._nursery.start_soon(stream.choice(happenings))

    async def crash(self) -> None:
        """Kill a node, with or without its power, and boot it again."""
        nodes, name = self.world.nodes, self.stream.choice(NAMES)
        if nodes.is_up(name):
            self.cluster.lose(nodes[name])
            nodes.kill(name, power=self.stream.random() < 0.5)
            await trio.sleep(self.stream.choice([0.0, 0.5, 3.0, 8.0]) * self.stream.random())
            self.boot(name)

    async def deploy(self) -> None:
        """Replace the nodes one after the other."""
        nodes = self.world.nodes
        for name in NAMES:
            if nodes.is_up(name):
                nodes.stop(name)
                # The drainer and the goodbye take a second at most.
                await trio.sleep(1.5)
                self.boot(name)
                await trio.sleep(self.stream.random())

    async def netsplit(self) -> None:
        """Cut some nodes off from the server."""
        some = self.stream.sample(NAMES, self.stream.randint(1, 3))
        network = self.world.network
        one_way = self.stream.choice([None, None, "to", "from"])
        for name in some:
            if one_way != "from":
                network.partition_oneway(name, "redis")
            if one_way != "to":
                network.partition_oneway("redis", name)
        await trio.sleep(self.stream.choice([0.3, 3.0, 8.0]) * self.stream.random())
        for name in some:
            network.heal(name, "redis")

    async def crash_redis(self) -> None:
        """Kill the server, with or without its power."""
        nodes = self.world.nodes
        if nodes.is_up("redis"):
            nodes.kill("redis", power=self.stream.random() < 0.5)
            await trio.sleep(self.stream.choice([0.0, 1.0, 6.0]) * self.stream.random())
            self.boot("redis")

    async def pause_redis(self) -> None:
        self.redis.pause()
        await trio.sleep(self.stream.choice([1.0, 6.0]) * self.stream.random())
        self.redis.resume()

    async def reset(self) -> None:
        connections = self.world.network.connections
        if connections:
            self.stream.choice(connections).reset()

    async def skew(self) -> None:
        self.world.nodes.skew(self.stream.choice(NAMES), self.stream.uniform(-3, 3))

    def boot(self, name: str) -> None:
        if not self.world.nodes.is_up(name):
            self.world.nodes.boot(name)


@scenario(
    faults=crashes,
    invariants=INVARIANTS,
    params={"seconds": 9.0},
)
# With a small window, a node publishes one message per round trip, and a message expires after one second. A transfer
# between nodes can have 40 pages, so it would never arrive, and on slow networks the heartbeats would not either.
@small_bounds_except("_WINDOW")
async def cluster(world: World) -> None:
    """Five nodes under random faults; then all of them agree."""
    redis = SimulatedRedis()
    world.nodes.start("redis", redis.main)
    shared = Cluster(world)
    for name in NAMES:
        world.nodes.start(name, member, shared)
    async with trio.open_nursery() as nursery:
        await Faults(shared, redis, nursery).run(world.params["seconds"])
    redis.resume()
    world.network.heal()
    for name in (*NAMES, "redis"):
        if not world.nodes.is_up(name):
            world.nodes.boot(name)
    world.sometimes("the nodes disagree when the faults end", shared.disagreement() is not None)
    await world.recovered("all nodes hear each other", shared.is_connected, within=20.0)
    shared.pace = 0.2
    stream = world.random("end")
    # Long enough for the invariant to demand it, while people still come and go now and then.
    await trio.sleep(WITHIN + 0.5)
    if stream.random() < 0.75:
        await one_node_less(world, shared, stream)
    shared.pace = 0.0
    await trio.sleep(shared.leave_grace)
    await world.eventually("all nodes agree", lambda: shared.disagreement() is None, within=WITHIN)
    lost = sum(pubsub.statistics()["lost"] for pubsub in shared.pubsubs.values())
    world.sometimes("messages were lost", lost > 0)


async def one_node_less(world: World, shared: Cluster, stream: Random) -> None:
    """End a node for good. The others must notice, at once or after `down_period`."""
    name = max(NAMES, key=lambda each: shared.present[world.nodes[each].label].total())
    if stream.random() < 0.5:
        world.nodes.stop(name)
        await trio.sleep(WITHIN + 1.0)
    else:
        shared.lose(world.nodes[name])
        world.nodes.kill(name, power=stream.random() < 0.5)
        await trio.sleep(DOWN_PERIOD + WITHIN + 1.0)
