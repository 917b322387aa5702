"""The longest slice of a snapshot with 10,000 channels: `python -m tests.benchmarks.observer`.

The slices are measured in processor time of this thread, with the garbage collector as `ashtree serve` sets it.
"""

from __future__ import annotations

import gc
import time

import trio

from actors import GenServer, open_runtime
from supervision import DynamicSupervisor, child_spec
from supervision.observer import snapshot

CHANNELS = 10_000
LIMIT = 0.005


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
        for _ in range(5):
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


async def measure(slices: list[float]) -> None:
    before = time.thread_time()
    while True:
        await trio.lowlevel.checkpoint()
        now = time.thread_time()
        slices.append(now - before)
        before = now


if __name__ == "__main__":
    trio.run(main)
