"""The costs of observing 10,000 channels: `python -m tests.benchmarks.observer`.

It prints the longest slice of a snapshot, and the share of a core that a watching page costs. Everything is measured in
processor time of this thread, with the garbage collector as `ashtree serve` sets it.
"""

from __future__ import annotations

import gc
import tempfile
import time

import trio

from actors import GenServer, open_runtime
from channels import Endpoint, Socket
from channels.observer import Observer
from channels.testing import open_channel_test
from supervision import DynamicSupervisor, child_spec
from supervision.observer import snapshot

CHANNELS = 10_000
LIMIT = 0.005
WATCH_LIMIT = 0.03


class Nobody(Socket):
    """Has no clients."""


class Room(GenServer[None]):
    """A process for each channel."""


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
        await watch()


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


async def watch() -> None:
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
            for name, view in (
                ("the tree", {}),
                ("an open group", {"open": ["g1:Room"]}),
                ("a search", {"search": "room"}),
            ):
                await page.receive_reply(page.push("view", view), timeout=5)
                print(
                    f"a page with {name} costs {await share_of_a_core() - alone:.2%} of a core, "
                    f"{WATCH_LIMIT:.0%} are allowed"
                )


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
