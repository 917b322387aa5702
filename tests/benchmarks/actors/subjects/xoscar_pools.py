"""xoscar in its three ways: a method called in the caller's task, a message within the pool, and another process.

A reference from `actor_ref` to an actor in the same pool calls the actor's method directly. One from `create_actor`
sends a message, which a task of the pool handles. An actor in a sub-pool is in another process. A crash of an actor's
method ends nothing, so there is nothing to compare a restart with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import xoscar  # type: ignore[import-not-found]  # it lives in the environment of the benchmark

from tests.benchmarks.actors.clock import batches, seconds_each_async
from tests.benchmarks.actors.subject import Case, Subject


class Echo(xoscar.Actor):  # type: ignore[misc]
    async def echo(self, message: Any) -> Any:
        return message


Start = Callable[[], Awaitable[Any]]
Scenario = Callable[[Start, int], Awaitable[list[float]]]


async def calls(start: Start, count: int) -> list[float]:
    actor = await start()

    async def run() -> None:
        for number in range(count):
            await actor.echo(number)

    return await seconds_each_async(count, run)


async def casts(start: Start, count: int) -> list[float]:
    actor = await start()

    async def run() -> None:
        for batch in batches(count):
            for number in range(batch):
                await actor.echo.tell(number)
            await actor.echo(None)

    return await seconds_each_async(count, run)


async def starts(start: Start, count: int) -> list[float]:
    async def run() -> None:
        for _ in range(count):
            actor = await start()
        await actor.echo(None)

    return await seconds_each_async(count, run)


def subject(name: str, callee: str, *, apart: bool, direct: bool, processes: int) -> Subject:
    async def in_pool(scenario: Scenario, count: int) -> list[float]:
        pool = await xoscar.create_actor_pool("127.0.0.1", n_process=processes)
        address = next(iter(pool.sub_processes)) if processes else pool.external_address

        async def start() -> Any:
            actor = await xoscar.create_actor(Echo, address=address)
            return await xoscar.actor_ref(actor) if direct else actor

        try:
            return await scenario(start, count)
        finally:
            await pool.stop()

    def case(scenario: Scenario) -> Case:
        return lambda count: asyncio.run(in_pool(scenario, count))

    def fill(count: int, weigh: Callable[[], None]) -> None:
        async def scenario(start: Start, count: int) -> list[float]:
            actors = [await start() for _ in range(count)]
            await actors[-1].echo(None)
            weigh()
            return []

        case(scenario)(count)

    return Subject(
        name=name,
        callee=callee,
        apart=apart,
        cases={"call": case(calls), "cast": case(casts), "start": case(starts)},
        fill=fill,
    )
