"""Nodes own keys in a simulated Redis, under kills, pauses beyond the lease, netsplits, restarts and lost data."""

from __future__ import annotations

import os
from random import Random

import pytest
import trio

from channels.entities.arbiter import Arbiter, ArbiterUnavailable, Owned
from channels.entities.arbiters.redis import RedisArbiter
from channels.pubsub import adapter
from channels.pubsub.redis.server import RedisServer
from channels.testing import SimulatedRedis
from supervision import Backoff, Supervisor
from supervision.laboratory.simulation.world.nodes import Node
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"

NAMES, KEYS = "abc", "vwxyz"
LEASE = 10.0


class Book:
    """The grants of all nodes, which no node may contradict.

    Attributes:
        fences: for each key the greatest fence that a node has got.
        steps: the number of steps with a key.
    """

    def __init__(self) -> None:
        self.fences: dict[str, int] = {}
        self.incarnations: dict[str, adapter.Node] = {}
        self.steps = self.transfers = self.sessions = 0

    def granted(self, key: str, fence: int) -> None:
        """Note the start of a process. Each start has a greater fence."""
        before = self.fences.get(key, 0)
        assert fence > before, (key, fence, before)
        self.fences[key] = fence

    def step(self, key: str, fence: int) -> None:
        """Note that the owner with this fence handles a message. No later owner exists."""
        self.steps += 1
        assert self.fences[key] == fence, (key, fence, self.fences[key])


class Owner:
    """One node: it acquires, uses, releases and transfers keys at random."""

    def __init__(self, node: Node, book: Book) -> None:
        self.node = node
        self.book = book
        self.chance = node.random("owner")
        self.me = adapter.Node(node.name, node.label)
        # The keys whose processes run, and for each key the fence of the last start on this node.
        self.owned: dict[str, int] = {}
        self.last: dict[str, int] = {}

    async def main(self) -> None:
        server = RedisServer("redis://redis", connect=self.node.connect, backoff=Backoff(0.1, 1.0))
        arbiter = RedisArbiter(server, lease=LEASE)
        children = arbiter.start("keys", on_node_lost=lambda _: None)
        await Supervisor.start_link(children)
        while True:
            self.owned = {}
            try:
                await arbiter.open_session(self.me)
            except ArbiterUnavailable:
                await trio.sleep(0.2)
                continue
            self.book.incarnations[self.me.name] = self.me
            self.book.sessions += 1
            while arbiter.lease.is_valid:
                try:
                    await self.act(arbiter)
                except ArbiterUnavailable:
                    # A lost session ends the loop. Otherwise the owner tries again.
                    await trio.sleep(0.1)
                await trio.sleep(self.chance.uniform(0, 0.6))
                for key, fence in self.owned.items():
                    if arbiter.lease.is_valid:
                        self.book.step(key, fence)

    async def act(self, arbiter: Arbiter) -> None:
        key, chance = self.chance.choice(KEYS), self.chance
        fence = self.owned.pop(key, None)
        if fence is None or chance.random() < 0.3:
            # Without a process, or after its crash.
            await self.start(arbiter, key)
        elif chance.random() < 0.5:
            await arbiter.release(key, fence)
        else:
            to = self.book.incarnations.get(chance.choice(NAMES), self.me)
            if await arbiter.transfer(key, fence, to) is not None:
                self.book.transfers += 1

    async def start(self, arbiter: Arbiter, key: str) -> None:
        """Acquire a key, and start its process."""
        answer = await arbiter.acquire(key, at_least=self.last.get(key, -1) + 1)
        if isinstance(answer, Owned) and arbiter.lease.is_valid:
            self.book.granted(key, answer.fence)
            self.owned[key] = self.last[key] = answer.fence


async def trouble(world: World, chance: Random, redis: SimulatedRedis) -> None:
    """One fault, and its end."""
    name = chance.choice(NAMES)
    seconds = chance.choice([0.5, 3.0, LEASE, LEASE + 5.0])
    match chance.choice(["kill", "pause", "split", "restart", "hang", "reset"]):
        case "kill":
            world.nodes.kill(name)
            await trio.sleep(seconds)
            world.nodes.boot(name)
        case "pause":
            world.nodes.pause(name)
            await trio.sleep(seconds)
            world.nodes.resume(name)
        case "split":
            world.network.partition(name, "redis")
            await trio.sleep(seconds)
            world.network.heal(name, "redis")
        case "restart":
            redis.appendonly = chance.random() < 0.5
            world.nodes.kill("redis")
            await trio.sleep(chance.choice([0.1, seconds]))
            world.nodes.boot("redis")
        case "hang":
            redis.pause()
            await trio.sleep(seconds)
            redis.resume()
        case "reset":
            redis.close_clients()


async def keys_in_trouble(world: World, book: Book) -> None:
    redis, chance = SimulatedRedis(), world.random("trouble")
    world.nodes.start("redis", redis.main)

    async def member(node: Node) -> None:
        await Owner(node, book).main()

    for name in NAMES:
        world.nodes.start(name, member)
    await trio.sleep(LEASE + 1.0)
    for _ in range(6):
        await trio.sleep(chance.uniform(0, 8.0))
        await trouble(world, chance, redis)
    # Each key is granted again soon after the last fault.
    before = dict(book.fences)
    await trio.sleep(2 * LEASE)
    assert all(book.fences.get(key, 0) > before.get(key, 0) for key in KEYS), (before, book.fences)


@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "300" if DEEP else "5"))))
def test_no_owner_acts_after_a_later_owner_exists(seed: int) -> None:
    book = Book()

    async def scenario(world: World) -> None:
        await keys_in_trouble(world, book)

    simulate(scenario, seed).check()
    assert book.steps > 50
    assert book.sessions >= len(NAMES)
