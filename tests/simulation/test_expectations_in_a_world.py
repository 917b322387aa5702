"""Checks that run between two rounds can use the runtime."""

import pytest
import trio

from actors import GenServer, whereis
from supervision.laboratory.simulation.errors import InvariantViolated
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate


class Slow(GenServer[None]):
    """A server that registers its name after a while."""


async def late(world: World) -> None:
    """Wait for a name that is not registered yet."""

    async def start() -> None:
        await trio.sleep(3)
        await Slow.start_link(name="late")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        pid = await world.eventually("it is there", lambda: whereis("late"), within=10)
        assert pid == whereis("late")
    assert world.seconds == pytest.approx(3, abs=0.1)


def test_an_awaited_condition_may_look_up_a_name() -> None:
    simulate(late, 1).check()


def test_an_invariant_may_look_up_a_name() -> None:
    async def scenario(world: World) -> None:
        world.invariant("nobody is late", lambda: whereis("late") and "somebody is")
        await late(world)

    error = simulate(scenario, 1).error
    assert isinstance(error, InvariantViolated)
    assert (error.invariant, error.problem) == ("nobody is late", "somebody is")


def test_a_condition_that_the_last_step_before_a_pause_makes_true_wakes_its_task_at_once() -> None:
    async def scenario(world: World) -> None:
        done: list[bool] = []

        async def finish() -> None:
            await trio.sleep(3)
            done.append(True)
            await trio.sleep(100)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(finish)
            await world.eventually("it is done", lambda: done, within=50)
            assert world.seconds == pytest.approx(3, abs=0.1)
            nursery.cancel_scope.cancel()

    simulate(scenario, 1).check()
