"""The invariant finds orphans, and accepts slow clean-up."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from actors import GenServer, cast, kill, receive, send, trap_exits
from actors.messages import Exit
from supervision import (
    ChildSpec,
    Supervisor,
    child_spec,
    process_spec,
)
from supervision.laboratory.chaos.errors import InvariantViolated
from supervision.laboratory.chaos.faults.kinds import Hang, SwallowCancellation
from supervision.laboratory.chaos.faults.moments import On
from supervision.laboratory.chaos.invariants.built_in import NoOrphan
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate


class Worker(GenServer[None]):
    async def handle_cast(self, message: Any) -> None:
        raise ValueError(message)


def workers(*ids: str, **fields: Any) -> list[ChildSpec]:
    return [child_spec(Worker, id=id, kwargs={"name": id}, **fields) for id in ids]


def found(scenario: Any) -> str:
    error = simulate(scenario, seed=1).error
    assert isinstance(error, InvariantViolated), error
    return f"{error.invariant}: {error.problem}"


def test_a_child_that_cleans_up_is_no_orphan_until_it_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def slow() -> None:
        trap_exits()
        await receive()
        await trio.sleep(20)

    async def scenario(world: World) -> None:
        top = await Supervisor.start([process_spec(slow, id="slow")], name="top")
        await trio.sleep(1)
        kill(top)
        await trio.sleep(30)

    simulate(scenario, seed=1).check()
    monkeypatch.setattr(NoOrphan, "grace", 10.0)

    async def ticking(world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scenario, world)
            for _ in range(30):
                await trio.sleep(1)

    assert "no_orphan: /top/slow#1 <pid 2> lives 12 s after the end" in found(ticking)


def test_the_grace_of_an_orphan_starts_when_no_fault_delays_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(NoOrphan, "grace", 10.0)

    def scenario(cleaning: float) -> Any:
        async def stubborn() -> None:
            trap_exits()
            while not isinstance(await receive(), Exit):
                pass
            await trio.sleep(cleaning)

        async def held(world: World) -> None:
            top = await Supervisor.start([process_spec(stubborn, id="stubborn")], name="top")
            pid = world.find("/top/stubborn")
            assert pid is not None
            send(pid, "hang over this")
            await trio.sleep(1)
            kill(top)
            await trio.sleep(30)
            world.faults.heal()
            for _ in range(30):
                await trio.sleep(1)

        return held

    plan = [Hang(target="/top/stubborn", when=On("receive"))]
    simulate(scenario(9), seed=1, faults=plan).check()
    error = simulate(scenario(20), seed=1, faults=plan).error
    assert isinstance(error, InvariantViolated)
    assert error.invariant == "no_orphan"
    assert error.seconds == pytest.approx(42, abs=1.5)


def test_a_supervisor_that_waits_for_a_delayed_child_is_no_orphan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(NoOrphan, "grace", 10.0)

    async def scenario(world: World) -> None:
        sub = Supervisor.child_spec(workers("a", shutdown=math.inf), id="sub")
        top = await Supervisor.start([sub], name="top")
        cast("a", "hang over this")
        await trio.sleep(1)
        kill(top)
        await trio.sleep(30)

    plan = [SwallowCancellation(target="/top/sub/a", seconds=25, when=On("handle_cast"))]
    simulate(scenario, seed=1, faults=plan, knobs=Knobs(kill_grace=60)).check()
