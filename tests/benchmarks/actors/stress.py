"""Ashtree under load that no peer could be asked for.

    python -m tests.benchmarks.actors.stress storm 10000
    python -m tests.benchmarks.actors.stress storm 10000 --tune-gc
    python -m tests.benchmarks.actors.stress crowd 100000

Prints one line of JSON. Without `--tune-gc` Python's garbage collector is left as it is; with it, it is set as
`ashtree serve` sets it when a server has started.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from typing import Any

import trio

from actors import call, cast, current_runtime, open_runtime
from supervision import ChildSpec, DynamicSupervisor, Supervisor, child_spec
from tests.benchmarks.actors.subjects.ashtree import Echo
from tests.benchmarks.actors.worker import resident_memory

__all__ = ["crowd", "storm"]


# What `ashtree serve` sets.
GC_THRESHOLDS = (100_000, 50, 100)


class Fragile(Echo):
    """A server that crashes on request. A countdown has the servers that are still to start."""

    missing = 0
    all_started = trio.Event()

    async def init(self) -> None:
        Fragile.missing -= 1
        if Fragile.missing == 0:
            Fragile.all_started.set()

    async def handle_cast(self, message: Any) -> None:
        raise RuntimeError("crash")


async def storm(count: int) -> dict[str, float]:
    """Make all children of a pool crash at once, and call a server elsewhere in the tree until all are back.

    The children are permanent, and the pool may restart as often as there are children, so every one of them is
    started again while the bystander is being called. Each of its calls is timed.
    """
    tree: list[ChildSpec] = [
        DynamicSupervisor.child_spec(name="pool", max_restarts=count),
        child_spec(Echo, kwargs={"name": "bystander"}),
    ]
    latencies: list[float] = []

    async def caller() -> None:
        while True:
            began = time.perf_counter()
            await call("bystander", None)
            latencies.append(time.perf_counter() - began)

    async with open_runtime(log=False, debug=False):
        await Supervisor.start_link(tree)
        fragile = child_spec(Fragile)
        children = [await DynamicSupervisor.start_child("pool", fragile) for _ in range(count)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller)
            await trio.sleep(0.1)
            latencies.clear()
            Fragile.missing = count
            began = time.perf_counter()
            for child in children:
                cast(child, "crash")
            await Fragile.all_started.wait()
            took = time.perf_counter() - began
            nursery.cancel_scope.cancel()
        restarted = await DynamicSupervisor.count_children("pool")
    assert restarted.active == count
    latencies.sort()
    return {
        "seconds": took,
        "calls": len(latencies),
        "median": latencies[len(latencies) // 2],
        "worst": latencies[-1],
    }


async def crowd(count: int) -> dict[str, float]:
    """Start servers under a dynamic supervisor, count them, and stop them in order."""
    before = resident_memory() or 0
    began = time.perf_counter()
    async with open_runtime(log=False, debug=False):
        pool = await DynamicSupervisor.start_link()
        idle = child_spec(Echo)
        for _ in range(count):
            await DynamicSupervisor.start_child(pool, idle)
        started = time.perf_counter()
        counts = await DynamicSupervisor.count_children(pool)
        alive = current_runtime().statistics()["processes"]
        assert counts.active == count
        assert alive == count + 1  # and the supervisor
        counted = time.perf_counter()
        memory = (resident_memory() or 0) - before
        leaving = time.perf_counter()
    return {
        "count": counts.active,
        "start": started - began,
        "counted": counted - started,
        "stop": time.perf_counter() - leaving,
        "memory": memory,
    }


if __name__ == "__main__":
    scenario = {"storm": storm, "crowd": crowd}[sys.argv[1]]
    if "--tune-gc" in sys.argv:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
    print(json.dumps(trio.run(scenario, int(sys.argv[2]))))
