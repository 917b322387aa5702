"""The server of `tests.benchmarks.entities.costs`: a channel that echoes, and that calls entities.

With REDIS_URL, the node NODE_NAME meets the other nodes at that server.
"""

from __future__ import annotations

import os
import time
from typing import Any

import trio
from msgspec import Struct

from actors import Reply, Sender, call, spawn
from channels import Channel, Endpoint, Mount, PubSub, PushReply, Socket, handle_in
from channels.cli.serve import run_endpoint
from channels.entities import Entity, EntitySupervisor, EntityUnavailable
from channels.pubsub.redis import RedisAdapter


class Add(Struct, tag=True, frozen=True):
    """Add a number to the total."""

    amount: int


class Total(Struct, tag=True, frozen=True):
    """The total of an entity."""

    total: int


class Sum(Entity):
    """An entity with a small state, which moves with it."""

    requests = Add
    answers = Total
    handoff = int

    async def init(self, key: str, state: int | None = None) -> None:
        self.total = 0 if state is None else state

    async def handle_call(self, request: Add, sender: Sender) -> Reply:
        self.total += request.amount
        return Reply(Total(self.total))

    async def handle_handoff(self) -> int:
        return self.total


class LoopMeter(trio.abc.Instrument):
    """The longest time without a look at the sockets: in CPU time of the thread, and as the clock shows it.

    The clock also counts the time in which other processes have the core.
    """

    def __init__(self) -> None:
        self.longest_cpu = self.longest_wall = 0.0
        self._cpu, self._wall = time.thread_time(), time.monotonic()

    def after_io_wait(self, timeout: float) -> None:
        self._cpu, self._wall = time.thread_time(), time.monotonic()

    def before_io_wait(self, timeout: float) -> None:
        self.longest_cpu = max(self.longest_cpu, time.thread_time() - self._cpu)
        self.longest_wall = max(self.longest_wall, time.monotonic() - self._wall)


meters: list[LoopMeter] = []
sums = EntitySupervisor("sums", Sum, idle_timeout=3600.0, max_entities=1_000_000)


async def in_parallel(callers: int, work: Any) -> None:
    """Run `work(number)` in processes, and wait for all of them."""
    left = callers
    done = trio.Event()

    async def one(number: int) -> None:
        nonlocal left
        await work(number)
        left -= 1
        if not left:
            done.set()

    for number in range(callers):
        spawn(one, number)
    await done.wait()


class Bench(Channel):
    """Carry out the measured operations."""

    @handle_in("echo")
    async def echo(self, payload: Any) -> PushReply:
        return PushReply(payload)

    @handle_in("who")
    async def who(self, payload: Any) -> PushReply:
        return PushReply({"pid": os.getpid(), "node": endpoint.pubsub.node_name})

    @handle_in("owner")
    async def owner(self, payload: Any) -> PushReply:
        # A new Valkey server grants no key for the length of a lease.
        while True:
            try:
                await sums.start(payload["key"])
                break
            except EntityUnavailable:
                await trio.sleep(0.1)
        found = await sums.where(payload["key"])
        return PushReply({"node": None if found is None else found.node})

    @handle_in("calls")
    async def calls(self, payload: Any) -> PushReply:
        """Call one entity from several processes."""
        address, request = sums.via(payload["key"]), Add(1)

        async def work(_: int) -> None:
            for _ in range(payload["each"]):
                await call(address, request, timeout=60.0)

        await in_parallel(payload["callers"], work)
        return PushReply({})

    @handle_in("start")
    async def start(self, payload: Any) -> PushReply:
        """Call each of many entities once."""

        async def work(number: int) -> None:
            for key in range(payload["first"] + number, payload["after"], payload["callers"]):
                await call(sums.via(f"{payload['prefix']}{key}"), Add(1), timeout=60.0)

        await in_parallel(payload["callers"], work)
        return PushReply({})

    @handle_in("meter")
    async def meter(self, payload: Any) -> PushReply:
        """Return the longest pause of the loop, and begin to measure anew."""
        found = {}
        for meter in meters:
            trio.lowlevel.remove_instrument(meter)
            found = {"cpu": meter.longest_cpu, "wall": meter.longest_wall}
        meters[:] = [LoopMeter()]
        trio.lowlevel.add_instrument(meters[0])
        return PushReply(found)

    @handle_in("statistics")
    async def statistics(self, payload: Any) -> PushReply:
        return PushReply(sums.statistics())


class UserSocket(Socket):
    """Anybody."""

    channels = {"bench:*": Bench}
    log = None


redis_url = os.environ.get("REDIS_URL")
endpoint = Endpoint(
    pubsub=None
    if redis_url is None
    else PubSub(RedisAdapter(redis_url, node_name=os.environ["NODE_NAME"])),
    # A client waits for long operations, and sends no heartbeats.
    sockets={"/socket": Mount(UserSocket, timeout=3600.0)},
    children=[sums],
)

if __name__ == "__main__":
    run_endpoint(endpoint)
