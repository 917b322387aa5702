"""Cases of OTP's supervisor_SUITE that no other test covers."""

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from actors import (
    Crash,
    Fail,
    Ignore,
    Pid,
    Runtime,
    StartIgnored,
    cast,
    is_alive,
    kill,
    open_runtime,
    stop,
    trap_exits,
    wait_exit,
)
from supervision import (
    Applications,
    ApplicationSpec,
    ChildCounts,
    ChildSpec,
    DynamicSupervisor,
    Supervisor,
    process_spec,
)
from tests.supervision.workers import Log, Outcomes, child, crash, end, running, settle, worker

BOOM = Crash(RuntimeError("boom"))


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with open_runtime(log=False) as opened:
        yield opened


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_a_dynamic_supervisor_keeps_nothing_of_a_child_that_ignores_its_start(
    runtime: Runtime, log: Log, restart: Any
) -> None:
    pool = await DynamicSupervisor.start()
    with pytest.raises(StartIgnored):
        await DynamicSupervisor.start_child(
            pool, worker("a", log, outcomes=Outcomes(Ignore()), restart=restart)
        )
    assert await DynamicSupervisor.which_children(pool) == []
    assert await DynamicSupervisor.count_children(pool) == ChildCounts(0, 0, 0, 0)


@pytest.mark.parametrize("ending", [BOOM, "killed"])
async def test_a_temporary_bystander_of_a_group_restart_is_stopped_and_forgotten(
    runtime: Runtime, log: Log, ending: Any
) -> None:
    for strategy in ("one_for_all", "rest_for_one"):
        specs = [worker("a", log), worker("b", log, restart="temporary"), worker("c", log)]
        supervisor = await Supervisor.start(specs, strategy=strategy)
        bystander = await running(supervisor, "b")
        await end(await running(supervisor, "a"), ending)
        assert not is_alive(bystander)
        assert [info.id for info in await Supervisor.which_children(supervisor)] == ["c", "a"]
        await stop(supervisor)


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_an_endless_restart_loop_can_be_ended(
    runtime: Runtime, log: Log, strategy: Any
) -> None:
    never = Outcomes(None, *[Fail("not now")] * 100_000)
    specs = [worker("a", log), worker("b", log, outcomes=never), worker("c", log)]
    supervisor = await Supervisor.start(specs, strategy=strategy, max_restarts=math.inf)
    pid = await running(supervisor, "b")
    kill(pid)
    await wait_exit(pid)
    # The supervisor answers between two attempts. It can list the child, terminate it, and stop.
    assert await child(supervisor, "b") == "restarting"
    assert (await Supervisor.count_children(supervisor)).specs == 3
    await Supervisor.terminate_child(supervisor, "b")
    assert await child(supervisor, "b") is None
    again = never.attempts
    await settle()
    assert never.attempts == again
    await stop(supervisor)
    assert runtime.processes() == []


async def test_an_endless_restart_loop_of_a_dynamic_supervisor_can_be_ended(
    runtime: Runtime, log: Log
) -> None:
    never = Outcomes(None, *[Fail("not now")] * 100_000)
    pool = await DynamicSupervisor.start(max_restarts=math.inf)
    pid = await DynamicSupervisor.start_child(pool, worker("a", log, outcomes=never))
    kill(pid)
    await wait_exit(pid)
    [info] = await DynamicSupervisor.which_children(pool)
    assert info.pid == "restarting"
    await stop(pool)
    attempts = never.attempts
    await settle()
    assert never.attempts == attempts
    assert runtime.processes() == []


async def test_a_tree_counts_by_level_restarts_by_branch_and_stops_as_a_whole(
    runtime: Runtime, log: Log
) -> None:
    def branch(id: str, *names: str) -> ChildSpec:
        return Supervisor.child_spec([worker(name, log) for name in names], id=id)

    top = await Supervisor.start(
        [worker("a", log), branch("left", "b", "c"), branch("right", "d"), worker("e", log)]
    )
    assert log.names("start") == "abcde"
    assert await Supervisor.count_children(top) == ChildCounts(4, 4, 2, 2)
    left, right = await running(top, "left"), await running(top, "right")
    assert await Supervisor.count_children(left) == ChildCounts(2, 2, 0, 2)
    log.clear()
    await crash(left, "c")
    assert log.take() == ["stop c", "start c"]
    for _ in range(3):
        await crash(left, "b")
    # The fourth restart is one too many for the branch. The top restarts the branch and no other child.
    assert await running(top, "left") is not left
    assert await running(top, "right") is right
    assert log.names("start") == "bbbc"
    log.clear()
    await stop(top)
    assert log.names("stop") == "edcba"
    assert runtime.processes() == []


async def test_many_children_of_a_static_supervisor_start_and_stop(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([])
    for number in range(1000):
        await Supervisor.start_child(supervisor, process_spec(trio.sleep_forever, id=number))
    assert await Supervisor.count_children(supervisor) == ChildCounts(1000, 1000, 0, 1000)
    for number in range(0, 1000, 2):
        await Supervisor.terminate_child(supervisor, number)
        await Supervisor.delete_child(supervisor, number)
    assert await Supervisor.count_children(supervisor) == ChildCounts(500, 500, 0, 500)
    await stop(supervisor)
    assert runtime.processes() == []


async def test_many_temporary_children_of_a_dynamic_supervisor_come_and_go(
    runtime: Runtime,
) -> None:
    pool = await DynamicSupervisor.start(max_restarts=0)
    spec = process_spec(trio.sleep_forever, restart="temporary")
    pids = [await DynamicSupervisor.start_child(pool, spec) for _ in range(2000)]
    for pid in pids[:1000]:
        kill(pid)
    await settle()
    assert (await DynamicSupervisor.count_children(pool)).active == 1000
    await stop(pool)
    assert runtime.processes() == []


async def test_a_static_supervisor_keeps_no_spec_of_a_temporary_child_that_has_ended(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log, restart="temporary")])
    await end(await running(supervisor, "a"), BOOM)
    assert await Supervisor.which_children(supervisor) == []
    pid = await Supervisor.start_child(supervisor, worker("a", log, restart="temporary"))
    assert isinstance(pid, Pid)
    await Supervisor.terminate_child(supervisor, "a")
    assert await Supervisor.which_children(supervisor) == []


async def test_a_supervisor_whose_child_fails_to_stop_stops_with_its_application(
    runtime: Runtime, log: Log
) -> None:
    async def deaf() -> None:
        trap_exits()
        await trio.sleep_forever()

    tree = [worker("a", log), process_spec(deaf, shutdown=1.0)]
    applications = await Applications.start([ApplicationSpec(name="faulty", top=tree)])
    await settle()
    began = trio.current_time()
    await Applications.stop_application(applications, "faulty")
    assert trio.current_time() - began == 1
    assert log.names("stop") == "a"
    assert runtime.processes() == [applications]


async def test_one_crash_too_many_of_a_dynamic_child_ends_its_supervisor_and_its_siblings(
    runtime: Runtime, log: Log
) -> None:
    pool = await DynamicSupervisor.start(max_restarts=1)
    for name in "ab":
        await DynamicSupervisor.start_child(pool, worker(name, log))
    for _ in range(2):
        infos = await DynamicSupervisor.which_children(pool)
        pid = infos[-1].pid
        assert isinstance(pid, Pid)
        cast(pid, RuntimeError("x"))
        await settle()
    assert not is_alive(pool)
    assert runtime.processes() == []
