"""Costs of restarts and supervised starts, in steps of the scheduler and in garbage, never in time.

As in `tests/actors/test_costs.py`, the bounds are the costs of today plus a little.
"""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from actors import GenServer, Pid, Reply, call, cast, open_runtime, whereis
from supervision import DynamicSupervisor, Supervisor, child_spec
from tests.actors.steps import counted

MANY = 100
# Steps of the runtime's own tasks, for any number of restarts.
SPARE = 20


class Fragile(GenServer[None]):
    async def handle_call(self, request: Any, sender: object) -> Reply:
        return Reply(request)

    async def handle_cast(self, message: Any) -> None:
        raise RuntimeError("crash")


@asynccontextmanager
async def supervised() -> AsyncIterator[Pid]:
    """A supervisor with one child, in a runtime as applications have it, without the checks of debug builds."""
    child = child_spec(Fragile, kwargs={"name": "child"})
    async with open_runtime(debug=False, log=False):
        yield await Supervisor.start_link([child], max_restarts=10 * MANY)


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_a_crash_and_its_restart_take_four_steps() -> None:
    async with supervised():
        await settle()
        first = whereis("child")
        with counted() as steps:
            for _ in range(MANY):
                cast("child", "crash")
                # `wait_all_tasks_blocked` takes no step itself.
                await settle()
        assert whereis("child") not in (None, first)
        # The child crashes. The supervisor starts another. That one is ready. The supervisor continues. And this test.
        assert steps.count <= (4 + 1) * MANY + SPARE


async def test_a_supervised_start_takes_four_steps() -> None:
    spec = child_spec(Fragile)
    async with open_runtime(debug=False, log=False):
        pool = await DynamicSupervisor.start_link()
        await settle()
        with counted() as steps:
            for _ in range(MANY):
                await DynamicSupervisor.start_child(pool, spec)
        # The supervisor spawns the child. The child is ready. The supervisor answers. The caller continues.
        assert steps.count <= 4 * MANY + SPARE


async def test_the_end_of_a_temporary_child_takes_one_step() -> None:
    spec = child_spec(Fragile, restart="temporary")
    async with open_runtime(debug=False, log=False):
        pool = await DynamicSupervisor.start_link()
        children = [await DynamicSupervisor.start_child(pool, spec) for _ in range(MANY)]
        await settle()
        with counted() as steps:
            for child in children:
                cast(child, "crash")
                await settle()
        assert await DynamicSupervisor.which_children(pool) == []
        # One step of the child, which crashes, and one step of this test. The idle supervisor needs no step.
        assert steps.count <= 2 * MANY + SPARE


async def test_crashes_and_restarts_leave_nothing_to_the_garbage_collector() -> None:
    async with supervised():
        cast("child", "crash")
        await settle()  # warm up: makes the objects that are made once
        gc.collect()
        gc.disable()
        try:
            for _ in range(MANY):
                cast("child", "crash")
                await settle()
            left = gc.collect()
        finally:
            gc.enable()
        assert await call("child", "alive") == "alive"
    assert left < MANY
