"""An asyncio loop and a pool of threads in a simulation: refused as threads, or replaced by a function of the test."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import trio

from actors import GenServer, Pid, Reply, Sender, ServerExit, call, current_runtime, kill, whereis
from actors.asyncio_loop import AsyncioLoop, asyncio_call
from actors.blocking_pool import BlockingPool, blocking_call
from actors.testing import replace_calls
from supervision import Supervisor, child_spec
from supervision.laboratory.simulation.errors import Escape, SimulationFailed
from supervision.laboratory.simulation.replaying.self_check import check_determinism
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate


async def price_of(item: str) -> int:
    """Ask a real database."""
    await asyncio.sleep(1)
    raise AssertionError


def stock_of(item: str) -> int:
    """Ask a real database that blocks."""
    time.sleep(1)
    raise AssertionError


class Shop(GenServer[None]):
    """A program that uses both."""

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        price = await asyncio_call(price_of, request)
        return Reply((price, await blocking_call(stock_of, request)))


async def database(function: object, item: str) -> int:
    """The stand-in of the test."""
    await trio.sleep(current_runtime().random.uniform(0.01, 0.5))
    return {price_of: 7, stock_of: 3}[function]  # type: ignore[index]


async def shopping(world: World) -> None:
    with replace_calls(database):
        shop = child_spec(Shop, kwargs={"name": "shop"})
        await Supervisor.start_link([AsyncioLoop(), BlockingPool(), shop])
        for _ in range(5):
            world.check(
                await call("shop", "tea") == (7, 3), "the answers are not those of the test"
            )


async def loop_without_a_stand_in(world: World) -> None:
    await Supervisor.start_link([AsyncioLoop("database")])


async def pool_without_a_stand_in(world: World) -> None:
    await Supervisor.start_link([BlockingPool("database")])


@pytest.mark.parametrize(
    ("scenario", "thread"),
    [
        (loop_without_a_stand_in, r"AsyncioLoop\('database'\)"),
        (pool_without_a_stand_in, r"BlockingPool\('database'\) 1"),
    ],
    ids=["loop", "pool"],
)
def test_a_simulation_refuses_the_thread_by_its_name_and_says_how_to_replace_it(
    scenario: Any, thread: str
) -> None:
    with pytest.raises(SimulationFailed) as info:
        simulate(scenario, 1).check()
    assert isinstance(info.value.__cause__, Escape)
    info.match(f"uses the thread of {thread}, which no seed decides")
    info.match(r"give the test a stand-in for the calls: `with replace_calls\(function\):`")


def test_with_a_stand_in_the_program_runs_and_a_seed_decides_the_run() -> None:
    outcome = simulate(shopping, 3).check()
    assert simulate(shopping, 3).digest == outcome.digest
    assert simulate(shopping, 4).digest != outcome.digest
    check_determinism(outcome)


async def killed(world: World) -> None:
    reasons = []

    async def calls() -> None:
        try:
            await asyncio_call(price_of, "tea")
        except ServerExit as error:
            reasons.append(repr(error.reason))

    async def kills() -> None:
        await trio.sleep(1)
        pid = whereis("asyncio")
        assert isinstance(pid, Pid)
        kill(pid)

    async def forever(function: object, item: str) -> None:
        await trio.sleep_forever()

    with replace_calls(forever):
        await Supervisor.start_link([AsyncioLoop()])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(calls)
            nursery.start_soon(kills)
    world.check(reasons == ["KILLED"], f"the call ended with {reasons}")


def test_the_end_of_the_process_ends_the_calls_of_a_stand_in() -> None:
    simulate(killed, 1).check()
