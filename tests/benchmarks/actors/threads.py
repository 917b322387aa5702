"""The CPU time of calls into an asyncio loop and into a pool of threads: `python -m tests.benchmarks.actors.threads`.

Each round measures every row once, so that the ratios belong to one moment of the machine. The figures are the CPU
time of the whole process, with both threads. Prints one line of JSON: for each row the seconds of one call, for each
round. With the URL of a Postgres server as argument, there are rows with a query of asyncpg.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

import trio

from actors import open_runtime
from actors.asyncio_loop import AsyncioLoop, asyncio_call
from actors.blocking_pool import BlockingPool, blocking_call

__all__ = ["BARE", "CALL", "ROWS"]

BARE = "await a coroutine in asyncio"
CALL = "asyncio_call, one after another"
ROWS = (
    BARE,
    CALL,
    "asyncio_call, 50 callers",
    "blocking_call, one after another",
    "blocking_call, 50 callers",
    "trio.to_thread.run_sync, one after another",
    "asyncio.run in a thread",
)
CALLS, CALLERS, ROUNDS = 2000, 50, 7

Coroutine = Callable[[], Awaitable[object]]


async def step() -> None:
    """The coroutine of all rows: it goes through the loop once."""
    await asyncio.sleep(0)


def nothing() -> None:
    """The blocking function of all rows."""


def in_asyncio(function: Coroutine) -> float:
    """Return the CPU seconds of a call in asyncio itself."""

    async def main() -> float:
        await function()
        began = time.process_time()
        for _ in range(CALLS):
            await function()
        return (time.process_time() - began) / CALLS

    return asyncio.run(main())


async def one_by_one(function: Coroutine, calls: int = CALLS) -> float:
    await function()
    began = time.process_time()
    for _ in range(calls):
        await function()
    return (time.process_time() - began) / calls


async def at_once(function: Coroutine) -> float:
    async def caller() -> None:
        for _ in range(CALLS // CALLERS):
            await function()

    await function()
    began = time.process_time()
    async with trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(caller)
    return (time.process_time() - began) / CALLS


async def in_trio() -> list[float]:
    """Return the figures of the rows after the first."""
    async with open_runtime(debug=False):
        await AsyncioLoop().start_link()
        await BlockingPool().start_link()
        return [
            await one_by_one(lambda: asyncio_call(step)),
            await at_once(lambda: asyncio_call(step)),
            await one_by_one(lambda: blocking_call(nothing)),
            await at_once(lambda: blocking_call(nothing)),
            await one_by_one(lambda: trio.to_thread.run_sync(nothing)),
            await one_by_one(lambda: trio.to_thread.run_sync(asyncio.run, step()), 200),
        ]


async def query_in_trio(query: Coroutine, connect: Coroutine, close: Coroutine) -> list[float]:
    async with open_runtime(debug=False):
        await AsyncioLoop().start_link()
        await asyncio_call(connect)
        figures = [
            await one_by_one(lambda: asyncio_call(query)),
            await at_once(lambda: asyncio_call(query)),
        ]
        await asyncio_call(close)
        return figures


def of_asyncpg(url: str) -> dict[str, list[float]]:
    """Return the figures of a query of asyncpg, in asyncio itself and by `asyncio_call`."""
    import asyncpg  # type: ignore[import-untyped] # it has no types

    pools: list[asyncpg.Pool] = []

    async def connect() -> None:
        pools[:] = [await asyncpg.create_pool(url, min_size=10, max_size=10)]

    async def close() -> None:
        await pools[0].close()

    async def query() -> None:
        await pools[0].fetchval("SELECT 1")

    async def bare() -> list[float]:
        await connect()
        began = time.process_time()
        for _ in range(CALLS):
            await query()
        middle = time.process_time()

        async def caller() -> None:
            for _ in range(CALLS // CALLERS):
                await query()

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        ended = time.process_time()
        await close()
        return [(middle - began) / CALLS, (ended - middle) / CALLS]

    names = [
        f"{how}, {callers}"
        for how in ("asyncpg in asyncio", "asyncpg by asyncio_call")
        for callers in ("one after another", "50 callers")
    ]
    figures: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        found = [*asyncio.run(bare()), *trio.run(query_in_trio, query, connect, close)]
        for name, seconds in zip(names, found, strict=True):
            figures[name].append(seconds)
    return figures


def main(urls: list[str]) -> None:
    """Measure in rounds, and print."""
    figures: dict[str, list[float]] = {name: [] for name in ROWS}
    for _ in range(ROUNDS):
        for name, seconds in zip(ROWS, [in_asyncio(step), *trio.run(in_trio)], strict=True):
            figures[name].append(seconds)
    for url in urls:
        figures |= of_asyncpg(url)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
