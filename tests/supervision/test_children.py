"""The stop of children: with a limit, by a kill, without a limit, one by one and together."""

import math
from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Crash,
    Pid,
    Shutdown,
    cast,
    is_alive,
    receive,
    spawn,
    spawn_link,
    stop,
    trap_exits,
    unlink,
)
from actors.runtime import Runtime
from supervision import ChildSpec, DynamicSupervisor, Supervisor, process_spec
from supervision._children import stopped_as_asked
from supervision.child_spec import RestartType
from tests.supervision.workers import Log, running, settle, worker


async def ignores_shutdown() -> None:
    trap_exits()
    while True:
        await receive()


async def time_to_stop(supervisor: Pid) -> float:
    began = trio.current_time()
    await stop(supervisor)
    return trio.current_time() - began


async def test_a_child_that_ignores_its_shutdown_is_killed_after_the_limit(
    runtime: Runtime,
) -> None:
    supervisor = await Supervisor.start([process_spec(ignores_shutdown, shutdown=0.05)])
    pid = await running(supervisor, "ignores_shutdown")
    await settle()
    assert await time_to_stop(supervisor) == pytest.approx(0.05)
    assert not is_alive(pid)


async def test_a_child_that_stops_in_time_takes_no_longer_than_it_needs(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log, stop_takes=3.0)])
    assert await time_to_stop(supervisor) == pytest.approx(3.0)
    assert log.names("stop") == "a"


async def test_a_child_with_brutal_kill_never_runs_terminate(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start([worker("a", log, shutdown="brutal_kill", stop_takes=3.0)])
    assert await time_to_stop(supervisor) == 0
    assert log.names("stop") == ""


async def test_a_shutdown_of_zero_seconds_kills_every_child_that_does_not_end_at_once(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log, shutdown=0, stop_takes=0.001)])
    assert await time_to_stop(supervisor) == 0
    assert log.names("stop") == ""


async def test_an_infinite_shutdown_waits_as_long_as_it_takes(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start([worker("a", log, shutdown=math.inf, stop_takes=1e6)])
    assert await time_to_stop(supervisor) == pytest.approx(1e6)
    assert log.names("stop") == "a"


async def test_a_static_supervisor_stops_one_after_another_and_a_dynamic_one_all_at_once(
    runtime: Runtime, log: Log
) -> None:
    specs = [worker(name, log, stop_takes=0.1) for name in "abc"]
    static = await Supervisor.start(specs)
    assert await time_to_stop(static) == pytest.approx(0.3)
    dynamic = await DynamicSupervisor.start()
    for spec in specs:
        await DynamicSupervisor.start_child(dynamic, spec)
    assert await time_to_stop(dynamic) == pytest.approx(0.1)
    assert log.names("stop")[:3] == "cba"
    assert sorted(log.names("stop")[3:]) == ["a", "b", "c"]


async def test_children_stopped_at_once_are_killed_each_at_its_own_time(
    runtime: Runtime, log: Log
) -> None:
    dynamic = await DynamicSupervisor.start()
    pids = [
        await DynamicSupervisor.start_child(
            dynamic, process_spec(ignores_shutdown, shutdown=seconds)
        )
        for seconds in (2.0, 1.0, 1.0, 0, "brutal_kill")
    ]
    await DynamicSupervisor.start_child(dynamic, worker("a", log, shutdown=10.0, stop_takes=3.0))
    await settle()
    began = trio.current_time()
    alive: dict[float, list[bool]] = {}

    async def look(seconds: float) -> None:
        await trio.sleep_until(began + seconds)
        alive[seconds] = [is_alive(pid) for pid in pids]

    async with trio.open_nursery() as nursery:
        for seconds in (0.5, 1.5, 2.5):
            nursery.start_soon(look, seconds)
        await stop(dynamic)
    assert trio.current_time() - began == pytest.approx(3.0)
    assert alive == {
        0.5: [True, True, True, False, False],
        1.5: [True, False, False, False, False],
        2.5: [False] * 5,
    }


@pytest.mark.parametrize("shutdown", [1.0, "brutal_kill", math.inf])
async def test_a_child_that_unlinked_itself_does_not_hang_its_supervisor(
    runtime: Runtime, log: Log, shutdown: Any
) -> None:
    supervisor = await Supervisor.start([worker("a", log, shutdown=shutdown)])
    pid = await running(supervisor, "a")
    cast(pid, lambda: unlink(supervisor))
    await settle()
    with trio.fail_after(1):
        await Supervisor.terminate_child(supervisor, "a")
    assert not is_alive(pid)


async def test_the_end_of_a_child_that_unlinked_itself_is_not_seen_and_stopping_it_still_works(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log)])
    pid = await running(supervisor, "a")
    cast(pid, lambda: unlink(supervisor))
    cast(pid, RuntimeError("unseen"))
    await settle()
    # As in OTP: still listed, not alive, not restarted.
    assert await running(supervisor, "a") is pid
    assert (await Supervisor.count_children(supervisor)).active == 0
    with trio.fail_after(1):
        await Supervisor.terminate_child(supervisor, "a")


async def test_a_child_that_swallows_its_cancellation_is_dead_after_the_kill_grace(
    runtime: Runtime,
) -> None:
    release = trio.Event()

    async def swallows() -> None:
        while not release.is_set():
            try:
                await trio.sleep(0.1)
            except trio.Cancelled:
                # Without the sleep the loop would block the whole program.
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.1)

    supervisor = await Supervisor.start([process_spec(swallows, shutdown=1.0)])
    await settle()
    assert await time_to_stop(supervisor) == pytest.approx(runtime.kill_grace)
    assert runtime.statistics()["zombies"] == 1
    release.set()


async def test_a_supervisor_is_waited_for_while_it_stops_its_own_children(
    runtime: Runtime, log: Log
) -> None:
    inner = Supervisor.child_spec([worker("a", log, stop_takes=4), worker("b", log, stop_takes=4)])
    supervisor = await Supervisor.start([worker("x", log), inner, worker("y", log)])
    log.clear()
    assert await time_to_stop(supervisor) == pytest.approx(8.0)
    assert log.take() == ["stop y", "stop b", "stop a", "stop x"]


async def test_a_process_that_was_started_without_a_link_can_still_be_stopped(
    runtime: Runtime,
) -> None:
    async def start() -> Pid:
        return spawn(trio.sleep_forever)

    supervisor = await Supervisor.start([ChildSpec("unlinked", start)])
    pid = await running(supervisor, "unlinked")
    await stop(supervisor)
    assert not is_alive(pid)


async def test_many_children_stop_together_without_searching_the_mailbox_again_and_again(
    runtime: Runtime,
) -> None:
    dynamic = await DynamicSupervisor.start()

    async def start() -> Pid:
        return spawn_link(trio.sleep_forever)

    spec = ChildSpec("child", start, restart="temporary")
    for _ in range(2000):
        await DynamicSupervisor.start_child(dynamic, spec)
    with trio.fail_after(1):
        await stop(dynamic)
    assert runtime.processes() == []


@pytest.mark.parametrize(
    ("restart", "shutdown", "reason", "expected"),
    [
        ("permanent", 5.0, SHUTDOWN, True),
        ("permanent", 5.0, NORMAL, False),
        ("permanent", 5.0, Shutdown("x"), False),
        ("permanent", 5.0, KILLED, False),
        ("transient", 5.0, NORMAL, True),
        ("transient", 5.0, Shutdown("x"), True),
        ("temporary", 5.0, KILLED, False),
        ("temporary", 5.0, Crash(ValueError()), False),
        ("permanent", "brutal_kill", KILLED, True),
        ("permanent", "brutal_kill", Crash(ValueError()), False),
    ],
)
def test_the_reasons_of_a_stop_as_asked(
    restart: RestartType, shutdown: Any, reason: object, expected: bool
) -> None:
    assert stopped_as_asked(restart, shutdown, reason) is expected
