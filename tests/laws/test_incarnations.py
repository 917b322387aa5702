"""The law finds children that run twice."""

from __future__ import annotations

from actors import GenServer, Runtime, receive, spawn
from supervision import Supervisor, child_spec
from supervision.events import CHILD_STARTED, CHILD_STARTING
from supervision.laboratory.chaos.invariants.base import Watch
from tests.laws.incarnations import OneIncarnation


async def test_a_child_that_has_two_living_processes_is_found(runtime: Runtime) -> None:
    watch = Watch(runtime, [OneIncarnation()])
    top = await Supervisor.start([child_spec(GenServer, id="a")], name="top")
    assert watch.check() is None
    about = {"supervisor": top, "id": "a", "type": "worker"}
    runtime.telemetry.execute(CHILD_STARTING, {}, {**about, "pid": None})
    runtime.telemetry.execute(CHILD_STARTED, {}, {**about, "pid": spawn(receive)})
    violation = watch.check()
    assert violation is not None
    assert "which is the same child, lives" in violation.problem
    watch.close()
