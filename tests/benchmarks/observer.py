"""The costs of observing 10,000 channels: `python -m tests.benchmarks.observer`.

It prints the longest slice of a snapshot, and the share of a core that a watching page costs. It measures the page with
idle rooms and with busy rooms. The busy rooms get 1,000 messages a second, and 20 of them restart each second. All
figures are processor time of this thread, with the settings of the garbage collector from `ashtree serve`.
"""

from __future__ import annotations

import gc
import tempfile
import time
from random import Random
from typing import Any

import trio

from actors import GenServer, Pid, cast, kill, open_runtime
from channels import Endpoint, Socket
from channels.observer import Observer
from channels.testing import TestChannel, open_channel_test
from supervision import DynamicSupervisor, child_spec
from supervision.tree import snapshot

CHANNELS = 10_000
LIMIT = 0.005
WATCH_LIMIT = 0.03


class Nobody(Socket):
    """Has no clients."""


class Room(GenServer[None]):
    """A process that stands for one channel."""

    async def handle_cast(self, message: Any) -> None:
        """Handle a message."""


async def main() -> None:
    async with open_runtime():
        spec = child_spec(Room, restart="temporary")
        pools = [await DynamicSupervisor.start() for _ in range(2)]
        for number in range(CHANNELS):
            await DynamicSupervisor.start_child(pools[number % 2], spec)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        for _ in range(3):
            await take_one()
        await watch("idle rooms")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_busy, pools)
            await watch("busy rooms")
            nursery.cancel_scope.cancel()


async def take_one() -> None:
    slices: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(measure, slices)
        began = time.thread_time()
        await snapshot()
        took = time.thread_time() - began
        nursery.cancel_scope.cancel()
    longest = max(slices)
    verdict = "within" if longest <= LIMIT else "BEYOND"
    print(
        f"{len(slices)} slices, the longest {longest * 1000:.1f} ms, {verdict} the limit of "
        f"{LIMIT * 1000:.0f} ms; {took * 1000:.0f} ms altogether"
    )


async def keep_busy(pools: list[Pid]) -> None:
    spec = child_spec(Room, restart="temporary")
    random = Random(1)
    rooms = [
        child.pid
        for pool in pools
        for child in await DynamicSupervisor.which_children(pool)
        if isinstance(child.pid, Pid)
    ]
    while True:
        for _ in range(50):
            cast(random.choice(rooms), "tick")
        place = random.randrange(len(rooms))
        kill(rooms[place])
        started = await DynamicSupervisor.start_child(pools[place % 2], spec)
        assert isinstance(started, Pid)
        rooms[place] = started
        await trio.sleep(0.05)


async def watch(rooms: str) -> None:
    with tempfile.NamedTemporaryFile(suffix=".mjs") as phoenix:
        observer = Observer(phoenix_js=phoenix.name, announce=lambda line: None)
        endpoint = Endpoint(sockets={"/socket": Nobody}, observer=observer)
        async with open_channel_test(endpoint, timeout=10) as case:
            alone = await share_of_a_core()
            client = await case.connect(
                "/_ashtree/observer/socket", {"ticket": observer.access.ticket()}
            )
            _, page = await client.subscribe_and_join("observer", {})
            await trio.sleep(2)
            print(f"{rooms}: {alone:.2%} of a core without a page")
            for name, view in (
                ("the tree", {}),
                ("an open group", {"open": ["g1:Room"]}),
                ("a search", {"search": "room"}),
            ):
                await page.receive_reply(page.push("view", view), timeout=5)
                print(
                    f"{rooms}: a page with {name} costs {await share_of_a_core() - alone:.2%} of a core, "
                    f"{WATCH_LIMIT:.0%} are allowed"
                )
            async with trio.open_nursery() as nursery:
                page.push("timeline", {"on": True})
                nursery.start_soon(draw, page)
                await trio.sleep(15)
                cost = await share_of_a_core() - alone
                print(f"{rooms}: a page with its timeline costs {cost:.2%} of a core")
                nursery.cancel_scope.cancel()


async def draw(page: TestChannel) -> None:
    """Ask for each part of the timeline, as the script of the page does."""
    while True:
        await page.assert_push("timeline", timeout=60)
        page.push("timeline", {"drawn": True})


async def share_of_a_core(seconds: float = 10) -> float:
    began = time.thread_time()
    await trio.sleep(seconds)
    return (time.thread_time() - began) / seconds


async def measure(slices: list[float]) -> None:
    before = time.thread_time()
    while True:
        await trio.lowlevel.checkpoint()
        now = time.thread_time()
        slices.append(now - before)
        before = now


if __name__ == "__main__":
    trio.run(main)
