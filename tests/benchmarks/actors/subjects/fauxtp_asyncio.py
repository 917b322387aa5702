"""fauxtp on asyncio, on which it is faster than on Trio: servers in the manner of OTP, each in a task."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import fauxtp  # type: ignore[import-not-found]  # it lives in the environment of the benchmark
from fauxtp.supervisor import ChildSpec, Supervisor  # type: ignore[import-not-found]

from tests.benchmarks.actors.clock import batches, seconds_each_async
from tests.benchmarks.actors.subject import Subject


class Echo(fauxtp.GenServer):  # type: ignore[misc]
    async def handle_call(self, request: Any, from_ref: Any, state: Any) -> tuple[Any, Any]:
        return request, state

    async def handle_cast(self, request: Any, state: Any) -> Any:
        return state


class Victim(Echo):
    crashed_at = 0.0

    async def handle_cast(self, request: Any, state: Any) -> Any:
        Victim.crashed_at = time.perf_counter()
        raise RuntimeError("crash")


def in_group(
    scenario: Callable[[Any, int], Awaitable[list[float]]],
) -> Callable[[int], list[float]]:
    async def main(count: int) -> list[float]:
        async with anyio.create_task_group() as group:
            result = await scenario(group, count)
            group.cancel_scope.cancel()
        return result

    def case(count: int) -> list[float]:
        result: list[float] = anyio.run(main, count, backend="asyncio")
        return result

    return case


@in_group
async def calls(group: Any, count: int) -> list[float]:
    server = await Echo.start(task_group=group)

    async def run() -> None:
        for number in range(count):
            await fauxtp.call(server, number)

    return await seconds_each_async(count, run)


@in_group
async def casts(group: Any, count: int) -> list[float]:
    server = await Echo.start(task_group=group)

    async def run() -> None:
        for batch in batches(count):
            for number in range(batch):
                await fauxtp.cast(server, number)
            await fauxtp.call(server, None)

    return await seconds_each_async(count, run)


@in_group
async def starts(group: Any, count: int) -> list[float]:
    async def run() -> None:
        for _ in range(count):
            server = await Echo.start(task_group=group)
        await fauxtp.call(server, None)

    return await seconds_each_async(count, run)


class Names(fauxtp.Registry):  # type: ignore[misc]
    """The registry that a supervisor makes for itself, and that can be given to it, so that others may ask it too."""


@in_group
async def crash(group: Any, count: int) -> list[float]:
    """From the raise in a child until the supervisor's registry knows a new one that answers."""
    names = await Names.start(task_group=group)
    children = [ChildSpec(actor=Victim, name="victim")]
    await Supervisor.start(children, task_group=group, registry=names)
    took = []
    victim = None
    while victim is None:
        victim = await fauxtp.call(names, ("get", "victim"))
    for _ in range(count):
        dead = victim
        await fauxtp.cast(dead, "crash")
        while victim is dead or victim is None:
            victim = await fauxtp.call(names, ("get", "victim"))
        await fauxtp.call(victim, None)
        took.append(time.perf_counter() - Victim.crashed_at)
    return took


def fill(count: int, weigh: Callable[[], None]) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                server = await Echo.start(task_group=group)
            await fauxtp.call(server, None)
            weigh()
            group.cancel_scope.cancel()

    anyio.run(main, backend="asyncio")


SUBJECT = Subject(
    name="fauxtp",
    callee="own task",
    cases={"call": calls, "cast": casts, "start": starts, "crash": crash},
    fill=fill,
)
