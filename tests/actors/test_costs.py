"""Costs in steps of the scheduler and in memory, never in time. `make bench-actors` measures time.

The bounds are the costs of today, plus a little where chance or the version of Python has an influence. A change may
raise a bound on purpose. The garbage of ended processes is in `test_garbage.py`.
"""

import gc
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from actors import GenServer, Reply, call, cast, open_runtime, spawn
from tests.actors.helpers import settle
from tests.actors.steps import counted

MANY = 100
# Steps of the runtime's own tasks, for any number of calls: the timers and the wake-up batches.
SPARE = 20


class Echo(GenServer[None]):
    async def handle_call(self, request: Any, sender: object) -> Reply:
        return Reply(request)

    async def handle_cast(self, message: Any) -> None:
        pass


@asynccontextmanager
async def lean_runtime() -> AsyncIterator[None]:
    """A runtime as applications have it, because the debug build of the tests costs more."""
    async with open_runtime(debug=False, log=False):
        yield


async def test_a_call_takes_one_step_of_the_server_and_one_of_the_caller() -> None:
    async with lean_runtime():
        server = await Echo.start()
        await settle()
        with counted() as steps:
            for number in range(MANY):
                assert await call(server, number) == number
        assert steps.count <= 2 * MANY + SPARE


async def test_casts_that_wait_together_are_handled_in_few_steps() -> None:
    async with lean_runtime():
        server = await Echo.start()
        await settle()
        with counted() as steps:
            for number in range(MANY):
                cast(server, number)
            await call(server, None)
        assert steps.count <= SPARE


async def test_a_start_takes_one_step_of_the_server_and_one_of_the_starter() -> None:
    async with lean_runtime():
        with counted() as steps:
            for _ in range(MANY):
                await Echo.start()
        assert steps.count <= 2 * MANY + SPARE


async def test_a_process_takes_one_step_if_it_does_not_wait() -> None:
    async def nothing() -> None:
        pass

    async with lean_runtime():
        await settle()
        with counted() as steps:
            for _ in range(MANY):
                spawn(nothing)
            await settle()
        assert steps.count <= MANY + SPARE


async def test_an_idle_server_takes_less_than_five_kilobytes() -> None:
    async with lean_runtime():
        for _ in range(10):
            await call(await Echo.start(), None)
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(MANY):
                await call(await Echo.start(), None)
            await settle()
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (after - before) / MANY < 5 * 1024
