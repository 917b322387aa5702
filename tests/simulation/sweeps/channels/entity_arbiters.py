"""The arbiters of three nodes on one Redis server, and the fences of a shared storage, without routers.

    ashtree simulate tests.simulation.sweeps.channels.entity_arbiters:entity_arbiters --seeds 1-1000

Each node acquires the same keys again and again, works for a while, and releases or transfers them. A model knows the
owners. Nodes are killed, paused, suspended and cut off; Redis restarts, with or without its data.
"""

from __future__ import annotations

import math
from random import Random

import trio

from actors import spawn
from channels.durable.storage import NewMessage
from channels.durable.stream import Limits
from channels.entities.arbiter import ArbiterUnavailable, OwnedBy
from channels.entities.arbiters.redis import RedisArbiter
from channels.entities.lease import Lease
from channels.pubsub.adapter import Node as NodeName
from channels.pubsub.redis.server import RedisServer
from channels.testing import SimulatedRedis
from supervision import Backoff, Supervisor
from supervision.simulation import Node, World, scenario
from tests.simulation.sweeps.channels.entities import Log, Store

NAMES = ("a", "b", "c")
KEYS = ("x", "y")
LEASE, RENEW, MARGIN, TIMEOUT = 1.5, 0.4, 0.2, 1.0


class Run(Log):
    """The model. It outlives the nodes.

    Attributes:
        started: the fence of the last start of each key.
        working: for each key the members that work on it.
        members: the present member of each node.
        valid: for each start of a node the last time at which its lease was valid.
    """

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        super().__init__(world)
        random = world.random("run")
        self.redis = SimulatedRedis(appendonly=random.random() < 0.4)
        self.store = Store(self, nursery)
        self.slack = 4 * (world.knobs.latency[1] + 2 * world.knobs.quantum) + 0.05
        self.lease = LEASE + 2 * self.slack
        self.started: dict[str, int] = {}
        self.working: dict[str, list[tuple[Member, Lease]]] = {key: [] for key in KEYS}
        self.members: dict[str, Member] = {}
        self.valid: dict[str, float] = {}
        # True while no node should own a key.
        self.rests = False
        self.is_over = False

    def lives(self, member: Member) -> bool:
        return self.members.get(member.node.name) is member and self.world.nodes.is_up(
            member.node.name
        )

    def starts(self, key: str, fence: int, where: str) -> None:
        """Take note of a new owner."""
        last = self.started.get(key, 0)
        self.check(fence > last, f"{key} starts on {where} with fence {fence} after {last}")
        self.started[key] = fence

    def works(self, key: str, member: Member) -> None:
        """Check that no other member may work on a key now."""
        for other, lease in self.working[key]:
            if other is not member and self.lives(other):
                # A paused node that wakes now checks its lease first.
                self.check(
                    not lease.is_valid, f"{member.label} works on {key} beside {other.label}"
                )

    def refused(self, key: str, member: Member, owner: NodeName) -> None:
        """Check that the node which owns a key had a session not long ago."""
        self.check(owner != member.me, f"{member.label} does not get {key}, which it owns")
        # A renewal that has travelled for long may prolong a session by one more lease.
        age = trio.current_time() - self.valid.get(owner.incarnation, -math.inf)
        most = 2 * self.lease + MARGIN + TIMEOUT + self.slack
        self.check(age < most, f"{owner.name} owns {key}, and lost its lease {age:g} s ago")


class Member:
    """One start of a node."""

    def __init__(self, node: Node, run: Run) -> None:
        self.node = node
        self.run = run
        self.label = node.label
        self.me = NodeName(node.name, node.label)
        self.random: Random = node.random("member")
        # The smallest fence of the next start of each key.
        self.least: dict[str, int] = {}
        server = RedisServer(
            "redis://redis",
            connect=node.connect,
            connect_timeout=0.5 + run.slack,
            ping_interval=0.5,
            ping_timeout=0.5 + run.slack,
            backoff=Backoff(0.05, 0.2),
        )
        self.arbiter = RedisArbiter(
            server, lease=run.lease, renew_interval=RENEW, margin=MARGIN, timeout=TIMEOUT
        )

    async def main(self) -> None:
        run = self.run
        run.members[self.node.name] = self
        children = self.arbiter.start("keys", on_node_lost=lambda _: None)
        await Supervisor.start_link(children, label="top", max_restarts=100)
        for key in KEYS:
            spawn(self.own, key, label=f"owner of {key}")
        while True:
            try:
                # All processes of the last session must have ended.
                for working in run.working.values():
                    working[:] = [each for each in working if each[0] is not self]
                self.least.clear()
                run.valid[self.label] = trio.current_time()
                lease = await self.arbiter.open_session(self.me)
            except ArbiterUnavailable:
                await trio.sleep(0.1)
                continue
            while lease.is_valid:
                run.valid[self.label] = trio.current_time()
                await trio.sleep(0.02)

    async def own(self, key: str) -> None:
        """Own a key now and then."""
        run, random = self.run, self.random
        while not run.is_over:
            await trio.sleep(random.expovariate(20.0))
            lease = self.arbiter.lease
            if not lease.is_valid or run.rests:
                continue
            try:
                answer = await self.arbiter.acquire(key, at_least=self.least.get(key, 0))
            except ArbiterUnavailable:
                continue
            if isinstance(answer, OwnedBy):
                run.refused(key, self, answer.node)
            elif lease is self.arbiter.lease and lease.is_valid:
                run.counts["owned"] += 1
                run.starts(key, answer.fence, self.label)
                self.least[key] = answer.fence + 1
                entry = self, lease
                run.working[key].append(entry)
                is_owner = await self.work(key, answer.fence, lease)
                run.working[key] = [each for each in run.working[key] if each is not entry]
                if is_owner:
                    await self.give_up(key, answer.fence, lease)

    async def work(self, key: str, fence: int, lease: Lease) -> bool:
        """Claim the fence, and append messages. Return False if another node may own the key."""
        run, random = self.run, self.random
        if (await run.store.claim(key, fence)).refused is not None:
            return False
        for number in range(random.choice((1, 4, 40))):
            if not lease.is_valid:
                return False
            run.works(key, self)
            message = NewMessage(key, "done", b'{"id":"%d %d"}' % (fence, number), fence=fence)
            if (await run.store.append([message], now=0.0)).refused:
                return False
            await trio.sleep(random.random() * 0.1)
            if run.rests:
                break
        return True

    async def give_up(self, key: str, fence: int, lease: Lease) -> None:
        """End the ownership, or let the next process of this node have it."""
        run, random = self.run, self.random
        if not lease.is_valid or (random.random() < 0.2 and not run.rests):
            return
        try:
            if random.random() < 0.5 or run.rests:
                is_done = await self.arbiter.release(key, fence)
            else:
                to = random.choice([each for each in run.members.values() if each is not self])
                was_down = not run.lives(to)
                left = run.valid.get(to.label, -math.inf)
                is_done = await self.arbiter.transfer(key, fence, to.me) is not None
                age = trio.current_time() - left
                run.check(
                    not (is_done and was_down and age > 3 * run.lease + TIMEOUT),
                    f"{key} moves to {to.label}, whose session ended {age:g} s ago",
                )
        except ArbiterUnavailable:
            return
        if is_done:
            self.least.pop(key, None)


async def serve(node: Node, run: Run) -> None:
    await Member(node, run).main()


async def trouble(run: Run, random: Random) -> None:
    """Cause one fault, and undo it."""
    world, name = run.world, random.choice(NAMES)
    nodes, network = world.nodes, world.network
    seconds = random.choice((0.3, run.lease - MARGIN, run.lease, run.lease + 1.0, 2.5 * run.lease))
    match kind := random.choice(
        ("kill", "pause", "suspend", "cut", "late answers", "late requests", "restart", "hang")
    ):
        case "kill":
            nodes.kill(name)
            await trio.sleep(random.choice((0.0, seconds, 4 * run.lease)))
            nodes.boot(name)
        case "pause":
            nodes.pause(name)
            await trio.sleep(seconds)
            nodes.resume(name)
        case "suspend":
            lease = run.members[name].arbiter.lease
            was_valid = lease.is_valid
            nodes.suspend(name, seconds)
            run.check(
                not (was_valid and seconds >= run.lease and lease.is_valid),
                f"the lease of {name} is valid after a suspend of {seconds:g} s",
            )
        case "cut":
            network.partition(name, "redis")
            await trio.sleep(seconds)
            network.heal(name, "redis")
        case "late answers":
            network.partition_oneway("redis", name)
            await trio.sleep(random.uniform(MARGIN, TIMEOUT))
            network.heal("redis", name)
            await trio.sleep(random.choice((0.0, random.random() * RENEW)))
            network.partition(name, "redis")
            await trio.sleep(run.lease + 1.0)
            network.heal(name, "redis")
        case "late requests":
            network.partition_oneway(name, "redis")
            await trio.sleep(seconds)
            network.heal(name, "redis")
        case "restart":
            # Without owners, nobody restores the last fence.
            run.rests = random.random() < 0.5
            await trio.sleep(1.0 if run.rests else 0.0)
            nodes.kill("redis", power=random.random() < 0.3)
            await trio.sleep(random.choice((0.0, random.random() * 2.0)))
            nodes.boot("redis")
            await trio.sleep(run.lease if run.rests else 0.0)
            run.rests = False
        case _:
            run.redis.pause()
            await trio.sleep(seconds)
            run.redis.resume()
    run.counts[f"fault {kind}"] += 1


@scenario(params={"troubles": 5})
async def entity_arbiters(world: World) -> dict[str, int]:
    """Let three nodes own the same keys while nodes, the network and Redis fail."""
    async with trio.open_nursery() as nursery:
        run = Run(world, nursery)
        random = world.random("faults")
        await run.store.open(Limits(max_messages=100_000, max_age=3600.0), fresh_epoch="epoch")
        world.nodes.start("redis", run.redis.main)
        for name in NAMES:
            world.nodes.start(name, serve, run)
        await trio.sleep(run.lease + 0.5)
        for _ in range(world.params["troubles"]):
            await trio.sleep(random.random())
            await trouble(run, random)
        # Every key has an owner soon after the last fault.
        before = dict(run.started)
        await trio.sleep(2 * run.lease + 2.0 + 8 * run.slack)
        for key in KEYS:
            run.check(run.started.get(key) != before.get(key), f"{key} has no new owner")
        run.is_over = True
        nursery.cancel_scope.cancel()
    return dict(run.counts)
