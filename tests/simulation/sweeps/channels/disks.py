"""Histories in SQLite and in Redis, on machines that crash and lose their power in the middle of appends.

    ashtree simulate tests.simulation.sweeps.channels.disks:sqlite_history --seeds 1-10000
    ashtree simulate tests.simulation.sweeps.channels.disks:redis_history --seeds 1-10000

With `synchronous=FULL`, and with `appendfsync always`, no acknowledged append is ever lost. With other settings, only
what docs/topics/delivery.md admits is lost.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import trio
from msgspec import json

from channels import PubSub
from channels.durable import AppendFailed, History, RedisStorage, SQLiteStorage
from channels.durable.storage import NewMessage, StorageError
from channels.durable.stream import Limits
from channels.pubsub.redis.server import RedisServer
from channels.testing import SimulatedRedis
from supervision import Backoff
from supervision.chaos import At, Fault, FaultReport, KillNode, On
from supervision.laboratory.entropy import Chance
from supervision.simulation import Node, World
from tests.laws.scenarios import scenario

TOPIC = "room:1"


def crashes_of(name: str, count: int, most: int, chance: Chance) -> list[Fault]:
    """Kill a node, or cut its power, near syncs and other operations of its disk, and at some times."""
    return [
        KillNode(
            node=name,
            power=chance.random() < 0.7,
            reboot_after=chance.choice((0.0, 0.1, 0.5)),
            when=chance.choice(
                (
                    On("operation", nth=chance.randint(1, 2 * most)),
                    On("fsync", nth=chance.randint(1, most)),
                    At(round(chance.uniform(0.0, 0.8), 3)),
                )[: 1 if number == 0 else 3]
            ),
        )
        for number in range(count)
    ]


class Acknowledged:
    """The appends that a storage has acknowledged, and the checks of what it has kept.

    Attributes:
        at: for each offset, the number of the message and the time of the answer.
        epoch: the epoch of these offsets.
    """

    def __init__(self, world: World, settings: str, *, may_lose: float, may_restart: bool) -> None:
        """Make the checks.

        Args:
            world: the world.
            settings: the setting of the storage.
            may_lose: the seconds before a power failure whose appends may be lost.
            may_restart: True if the storage may begin another epoch, which tells clients of the loss.
        """
        self.world = world
        self.settings = settings
        self.may_lose = may_lose
        self.may_restart = may_restart
        self.at: dict[int, tuple[int, float]] = {}
        self.epoch = ""
        self.number = 0

    def add(self, epoch: str, offset: int, number: int) -> None:
        if epoch != self.epoch:
            self.check(epoch, {offset: number}, "append")
        self.at[offset] = (number, trio.current_time())

    def check(self, epoch: str, found: dict[int, int], when: str) -> None:
        """Compare what a storage has with the acknowledged appends."""
        world, check = self.world, self.world.check
        what = (
            f"{when}: with {self.settings}, {found} in {epoch!r}, not {self.at} in {self.epoch!r}"
        )
        if epoch != self.epoch:
            check(self.may_restart or not self.epoch, what)
            world.sometimes(f"{self.settings}: the epoch changes", self.epoch)
            self.at, self.epoch = {}, epoch
        lost = [offset for offset in self.at if found.get(offset) != self.at[offset][0]]
        cuts = [each.seconds or 0.0 for each in world.faults.report() if is_cut(each)]
        for offset in lost:
            check(self.may_lose and cuts, what)
            at = self.at[offset][1]
            recent = any(at <= cut <= at + self.may_lose for cut in cuts)
            check(recent, f"an old one: {what}")
            # A later message may be left only if the server got it after the power failure.
            later = [
                then for other, (_, then) in self.at.items() if then > at and other not in lost
            ]
            check(all(any(at <= cut <= then for cut in cuts) for then in later), f"a gap: {what}")
        for offset in lost:
            del self.at[offset]
        world.sometimes(f"{self.settings}: something is lost", lost)
        world.sometimes("an append without an answer is kept", len(found) > len(self.at))
        check(list(found) == list(range(1, len(found) + 1)) or when == "append", f"a gap: {what}")


def is_cut(report: FaultReport) -> bool:
    """Return True if a fault has cut the power of a node."""
    fault = report.fault
    return report.status == "applied" and isinstance(fault, KillNode) and fault.power


async def sqlite_server(node: Node, run: Acknowledged, synchronous: Any, appends: int) -> None:
    storage = SQLiteStorage("/simulated/history.db", synchronous=synchronous)
    limits = Limits(mode="stream", max_messages=1000, max_age=3600.0)
    await storage.open(limits, fresh_epoch=node.label)

    async def read(when: str) -> None:
        kept = await storage.read(TOPIC, after=0, limit=1000, now=node.now())
        found = {entry.offset: int(entry.body) for entry in kept.entries}
        run.check(kept.epoch, found, when)

    await read(f"the boot of {node.label}")
    random = run.world.random("server")
    while run.number < appends:
        if random.random() < 0.1:
            # SQLite moves the messages from its log into the database.
            storage.close()
            await storage.open(limits, fresh_epoch=node.label)
        count = random.choice((1, 1, 1, 3))
        numbers = range(run.number, run.number + count)
        run.number += count
        batch = [NewMessage(TOPIC, "e", b"%d" % number, None, None) for number in numbers]
        done = await storage.append(batch, now=node.now())
        for offset, number in zip(done.offsets, numbers, strict=True):
            run.add(done.epoch, offset, number)
    await read("the end")
    storage.close()
    node.disk["done"] = True
    await trio.sleep_forever()


@scenario(faults=lambda chance: crashes_of("a", 3, 12, chance), params={"appends": 10})
async def sqlite_history(world: World) -> None:
    """Append to a SQLite file, over kills and power failures in the middle of its transactions."""
    synchronous = world.random("settings").choice(("FULL", "FULL", "NORMAL"))
    run = Acknowledged(
        world,
        f"synchronous={synchronous}",
        may_lose=0.0 if synchronous == "FULL" else 60.0,
        # The epoch is lost with the first messages, which SQLite writes to the disk with its first checkpoint.
        may_restart=synchronous == "NORMAL",
    )
    appends = world.params["appends"]
    node = world.nodes.start("a", sqlite_server, run, synchronous, appends)
    await world.eventually("all is appended", lambda: "done" in node.disk, within=30.0)


async def redis_client(node: Node, run: Acknowledged, appends: int, *, trusts: bool) -> None:
    storage = RedisStorage(
        RedisServer(
            "redis://redis",
            connect=node.connect,
            connect_timeout=1.0,
            ping_interval=0.5,
            ping_timeout=0.5,
            backoff=Backoff(0.05, 0.2),
        ),
        trust_restarts=trusts,
        timeout=20.0,
    )
    history = History(storage, max_messages=1000, timeout=20.0)
    await history.start_link(PubSub())

    async def read(when: str) -> None:
        kept = await history.read(TOPIC)
        found = {entry.offset: json.decode(entry.body)["n"] for entry in kept.entries}
        run.check(kept.epoch, found, when)

    while run.number < appends:
        run.number += 1
        try:
            position = await history.append(TOPIC, "e", {"n": run.number})
            epoch, _, offset = position.rpartition(":")
            run.add(epoch, int(offset), run.number)
            if run.number % 4 == 0:
                await read("meanwhile")
        except (AppendFailed, StorageError):
            await trio.sleep(0.2)
    while "done" not in node.disk:
        try:
            await read("the end")
            node.disk["done"] = True
        except StorageError:
            await trio.sleep(0.2)


@scenario(faults=lambda chance: crashes_of("redis", 2, 7, chance), params={"appends": 10})
async def redis_history(world: World) -> None:
    """Append to a history in a Redis server, which is killed or loses its power."""
    random = world.random("settings")
    appendfsync: Any = random.choice(("always", "always", "everysec", "no"))
    is_safe, trusts = appendfsync == "always", random.random() < 0.7
    # The server syncs once a second, and the answer to an append takes a moment to arrive, even with a coarse clock.
    run = Acknowledged(
        world,
        f"appendfsync {appendfsync}",
        may_lose={"always": 0.0, "everysec": 1.5, "no": 60.0}[appendfsync],
        may_restart=not is_safe,
    )
    redis = SimulatedRedis(appendonly=True, appendfsync=appendfsync)
    world.nodes.start("redis", redis.main)
    client = partial(redis_client, run=run, appends=world.params["appends"], trusts=trusts)
    node = world.nodes.start("a", client)
    await world.eventually("all is appended", lambda: "done" in node.disk, within=300.0)
