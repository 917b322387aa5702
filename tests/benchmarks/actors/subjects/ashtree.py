"""Ashtree itself. The caller is a process, as it mostly is."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from actors import (
    CallExit,
    Crash,
    GenServer,
    Reply,
    call,
    cast,
    open_runtime,
    spawn,
    stop,
    wait_exit,
)
from supervision import DynamicSupervisor, Supervisor, child_spec
from tests.benchmarks.actors.clock import batches, seconds_each_async
from tests.benchmarks.actors.subject import Subject


class Echo(GenServer[None]):
    async def handle_call(self, request: Any, sender: object) -> Reply:
        return Reply(request)

    async def handle_cast(self, message: Any) -> None:
        pass


class Victim(Echo):
    crashed_at = 0.0

    async def handle_cast(self, message: Any) -> None:
        Victim.crashed_at = time.perf_counter()
        raise RuntimeError("crash")


def in_runtime(
    scenario: Callable[[int], Awaitable[list[float]]], *, log: bool = False
) -> Callable[[int], list[float]]:
    """Run a scenario in a process of a runtime. Crashes are not logged: no peer logs any either."""

    async def main(count: int) -> list[float]:
        result: list[float] = []

        async def process() -> None:
            result.extend(await scenario(count))

        async with open_runtime(log=log, debug=False):
            reason = await wait_exit(spawn(process))
        if isinstance(reason, Crash):
            raise reason.exception
        return result

    return lambda count: trio.run(main, count)


async def calls(count: int) -> list[float]:
    server = await Echo.start()

    async def run() -> None:
        for number in range(count):
            await call(server, number)

    return await seconds_each_async(count, run)


async def casts(count: int) -> list[float]:
    server = await Echo.start()

    async def run() -> None:
        for batch in batches(count):
            for number in range(batch):
                cast(server, number)
            await call(server, None)

    return await seconds_each_async(count, run)


async def _nothing() -> None:
    pass


async def processes(count: int) -> list[float]:
    """Processes that do nothing, spawned a thousand at a time and waited for."""

    async def run() -> None:
        for batch in batches(count):
            last = [spawn(_nothing) for _ in range(batch)][-1]
            await wait_exit(last)

    return await seconds_each_async(count, run)


async def servers(count: int) -> list[float]:
    """Servers without a supervisor; a start returns when init is done."""

    async def run() -> None:
        for _ in range(count):
            await Echo.start()

    return await seconds_each_async(count, run)


async def supervised(count: int) -> list[float]:
    """Servers under a dynamic supervisor."""
    pool = await DynamicSupervisor.start_link()
    spec = child_spec(Echo)

    async def run() -> None:
        for _ in range(count):
            await DynamicSupervisor.start_child(pool, spec)

    took = await seconds_each_async(count, run)
    await stop(pool)
    return took


async def crash(count: int) -> list[float]:
    """From the raise in a permanent child until its name answers a call. Who calls too early, calls again."""
    victim = child_spec(Victim, kwargs={"name": "victim"})
    supervisor = await Supervisor.start_link([victim], max_restarts=count)
    took = []
    for _ in range(count):
        cast("victim", "crash")
        while True:
            try:
                await call("victim", None)
            except CallExit:
                continue
            break
        took.append(time.perf_counter() - Victim.crashed_at)
    await stop(supervisor)
    return took


def fill(count: int, weigh: Callable[[], None]) -> None:
    """Idle servers under a dynamic supervisor, each of which has answered a call."""

    async def scenario(count: int) -> list[float]:
        pool = await DynamicSupervisor.start_link()
        spec = child_spec(Echo)
        for _ in range(count):
            await call(await DynamicSupervisor.start_child(pool, spec), None)
        weigh()
        await stop(pool)
        return []

    in_runtime(scenario)(count)


SUBJECT = Subject(
    name="Ashtree",
    callee="own task",
    cases={
        "call": in_runtime(calls),
        "cast": in_runtime(casts),
        "spawn": in_runtime(processes),
        "start": in_runtime(servers),
        "supervised": in_runtime(supervised),
        "crash": in_runtime(crash),
        "crash_logged": in_runtime(crash, log=True),
    },
    fill=fill,
)
