"""No fault hits the calls that a scenario makes after its work, to check the result."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import CallExit, GenServer, Reply, Sender, call, cast
from supervision import Supervisor, child_spec
from supervision.laboratory.chaos.faults.kinds import (
    DiskError,
    DropMessage,
    Fault,
    Hang,
    Kill,
    Raise,
    StallLoop,
)
from supervision.laboratory.chaos.faults.moments import At, On
from supervision.laboratory.simulation.world.disk import Disk
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate


class Gate(GenServer[int]):
    """A server that counts, and answers a second later."""

    async def init(self) -> None:
        self.state = 0

    async def handle_cast(self, message: Any) -> None:
        self.state += message

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        await trio.sleep(1)
        return Reply(self.state)


async def visit(pause: float) -> None:
    """Go in and out."""
    cast("gate", 1)
    await trio.sleep(pause)
    cast("gate", -1)


async def a_day(world: World) -> None:
    """Some visitors come and go. Then the scenario asks for their number."""
    gate = child_spec(Gate, id="gate", kwargs={"name": "gate"})
    await Supervisor.start_link([gate], max_restarts=10, label="mine")
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(visit, 0.5 + number)
    await trio.sleep(1)
    world.check(await call("gate", "how many?", timeout=5) == 0, "somebody is inside")


@pytest.mark.parametrize(
    "fault",
    [
        Raise(target="/mine/gate", when=On("handle_call")),
        Raise(target="/mine/gate", when=On("message", nth=7)),
        Hang(target="/mine/gate", when=On("handle_call")),
        DropMessage(target="/mine/gate", when=On("handle_call")),
        DropMessage(target="/mine/*", when=At(3.4)),
        Kill(target="/mine/gate", when=At(4.0)),
    ],
)
def test_no_fault_hits_the_calls_of_the_final_check(fault: Fault) -> None:
    harmless = Kill(target="/mine/gate", when=At(0.0))
    outcome = simulate(a_day, 1, faults=(harmless, fault))
    assert outcome.error is None
    assert [each.status for each in outcome.fault_reports][1] == "not_applicable"


def test_a_fault_that_comes_during_the_final_check_says_so() -> None:
    outcome = simulate(a_day, 1, faults=[Kill(target="/mine/gate", when=At(4.0))])
    (report,) = outcome.fault_reports
    assert report.why == "the final check of the scenario waited for an answer at that time"


class Scribe(GenServer[None]):
    """A server that keeps each request on a disk."""

    async def init(self, disk: Disk) -> None:
        self.file = disk.open("log", "a")

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        self.file.write(request)
        return Reply(None)


def test_no_fault_of_a_disk_hits_the_calls_of_the_final_check() -> None:
    async def writing(world: World) -> None:
        await Scribe.start_link(world.disk, name="scribe")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
        await call("scribe", b"the last line")

    harmless = StallLoop(seconds=0.1, when=At(0.1))
    outcome = simulate(writing, 1, faults=[harmless, DiskError(when=On("write"))])
    assert outcome.error is None
    assert outcome.fault_reports[1].status == "not_applicable"


def test_faults_hit_the_calls_of_the_work() -> None:
    async def working(world: World) -> None:
        await Supervisor.start_link(
            [child_spec(Gate, id="gate", kwargs={"name": "gate"})], max_restarts=10, label="mine"
        )
        with pytest.raises(CallExit):
            await call("gate", "before the nursery")
        failed = []

        async def ask() -> None:
            try:
                await call("gate", "in the nursery")
            except CallExit:
                failed.append(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            with pytest.raises(CallExit):
                await call("gate", "beside the nursery")
        world.check(failed, "nothing failed")

    faults = [Raise(target="/mine/gate", when=On("handle_call", nth=n)) for n in (1, 2, 3)]
    simulate(working, 1, faults=faults).check()
