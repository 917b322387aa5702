"""Starts that take longer than their spec allows, and children that are objects."""

from typing import Any

import pytest
import trio

from actors import (
    TIMEOUT,
    GenServer,
    Pid,
    Registry,
    Runtime,
    Shutdown,
    StartError,
    receive,
    spawn_link,
)
from supervision import (
    ChildSpec,
    ChildStartFailed,
    ChildStartTimeout,
    DynamicSupervisor,
    FailedToStartChild,
    InvalidChildSpec,
    Supervisor,
    child_spec,
)
from tests.supervision.workers import Log, Worker, child, crash, running, worker


class Slow(GenServer[None]):
    async def init(self, seconds: float) -> None:
        await trio.sleep(seconds)


def slow(seconds: float) -> ChildSpec:
    return child_spec(Slow, seconds, start_timeout=2.0)


async def test_a_start_that_takes_too_long_is_killed_and_has_failed(runtime: Runtime) -> None:
    supervisor = await Supervisor.start([])
    began = trio.current_time()
    with pytest.raises(ChildStartTimeout, match=r"'Slow' did not start within the 2 s") as caught:
        await Supervisor.start_child(supervisor, slow(3.0))
    assert trio.current_time() - began == 2.0
    assert (caught.value.id, caught.value.reason, caught.value.seconds) == ("Slow", TIMEOUT, 2.0)
    assert isinstance(caught.value, ChildStartFailed)
    assert isinstance(caught.value, StartError)
    assert runtime.processes() == [supervisor]
    assert await Supervisor.which_children(supervisor) == []


async def test_a_start_within_its_limit_succeeds(runtime: Runtime) -> None:
    supervisor = await Supervisor.start([slow(1.0)])
    pid = await running(supervisor, "Slow")
    await trio.sleep(10)
    assert await running(supervisor, "Slow") is pid


async def test_a_dynamic_supervisor_keeps_its_other_children_after_a_start_timeout(
    runtime: Runtime,
) -> None:
    pool = await DynamicSupervisor.start()
    kept = await DynamicSupervisor.start_child(pool, Worker, "a")
    with pytest.raises(ChildStartTimeout):
        await DynamicSupervisor.start_child(pool, slow(3.0))
    assert [info.pid for info in await DynamicSupervisor.which_children(pool)] == [kept]


async def test_a_supervisor_does_not_boot_without_the_child(runtime: Runtime) -> None:
    with pytest.raises(StartError) as caught:
        await Supervisor.start([slow(3.0)])
    assert caught.value.reason == Shutdown(FailedToStartChild("Slow", TIMEOUT))
    assert runtime.processes() == []


async def test_a_restart_that_takes_too_long_is_tried_again(runtime: Runtime, log: Log) -> None:
    delays = [0.0, 3.0, 0.0]

    async def start() -> Pid:
        pid = await Worker.start_link("a", log)
        await trio.sleep(delays.pop(0))
        return pid

    supervisor = await Supervisor.start([ChildSpec("a", start, start_timeout=2.0)])
    await crash(supervisor, "a")
    await trio.sleep(2.1)
    assert delays == []
    pid = await child(supervisor, "a")
    # The supervisor has killed the process that the cancelled start had linked.
    assert runtime.processes() == [supervisor, pid]


async def test_a_start_that_swallows_its_cancellation_has_still_failed(runtime: Runtime) -> None:
    async def forever() -> None:
        await receive()

    async def start() -> Pid:
        pid = spawn_link(forever)
        try:
            await trio.sleep(10)
        except trio.Cancelled:
            return pid
        return pid

    supervisor = await Supervisor.start([])
    with pytest.raises(ChildStartTimeout):
        await Supervisor.start_child(supervisor, ChildSpec("a", start, start_timeout=2.0))
    assert runtime.processes() == [supervisor]


@pytest.mark.parametrize("limit", [0, -1.0, True, "2", float("nan")])
def test_an_invalid_start_timeout_is_refused(limit: Any) -> None:
    with pytest.raises(InvalidChildSpec) as caught:
        child_spec(Slow, 1.0, start_timeout=limit)
    assert caught.value.field == "start_timeout"


async def test_an_object_with_a_start_link_is_a_child(runtime: Runtime, log: Log) -> None:
    rooms = Registry[str, None]("unique", name="rooms")
    supervisor = await Supervisor.start([rooms, worker("a", log)])
    assert isinstance(await child(supervisor, "rooms"), Pid)
    assert child_spec(Registry[str, None]("unique")).id == "Registry"
    assert child_spec(rooms, id="other").id == "other"
    await Supervisor.terminate_child(supervisor, "rooms")
    assert await child(supervisor, "rooms") is None
