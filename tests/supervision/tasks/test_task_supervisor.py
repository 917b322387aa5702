"""Tasks under a supervisor: parents, callers and links."""

from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    TIMEOUT,
    Crash,
    Down,
    Exit,
    GenServer,
    NoProcess,
    Pid,
    Runtime,
    Shutdown,
    ancestors,
    cast,
    current_pid,
    current_runtime,
    is_alive,
    kill,
    monitor,
    open_runtime,
    receive,
    send,
    spawn,
    stop,
    trap_exits,
    wait_exit,
)
from supervision import (
    ChildNotFound,
    ChildSpec,
    DynamicSupervisor,
    InvalidChildSpec,
    MaxChildren,
    Supervisor,
    child_spec,
)
from supervision.errors import TaskExit, TaskTimeout
from supervision.tasks._process import spawn_waiting
from supervision.tasks.task import Exited, Task, TaskReply, callers
from supervision.tasks.task_supervisor import TaskSupervisor
from tests.actors.helpers import down, in_process, settle
from tests.supervision.tasks.task_bodies import (
    crash,
    deaf,
    double,
    end_with,
    forever,
    nothing_left,
    outcome_of,
    sleep_for,
)

both = pytest.mark.parametrize(
    "start", [TaskSupervisor.async_, TaskSupervisor.async_nolink], ids=["link", "nolink"]
)


def linked(pid: Pid) -> bool:
    info = current_runtime().process_info(current_pid())
    assert info is not None
    return pid in info["links"]


# The supervisor


@in_process()
async def test_a_task_supervisor_can_be_supervised_by_its_name() -> None:
    top = await Supervisor.start_link(
        [TaskSupervisor, child_spec(TaskSupervisor, kwargs={"name": "tasks"})]
    )
    assert [info.id for info in await Supervisor.which_children(top)] == ["tasks", "TaskSupervisor"]
    assert [info.type for info in await Supervisor.which_children(top)] == ["supervisor"] * 2
    assert await (await TaskSupervisor.async_("tasks", double, 4)) == 8


@in_process()
async def test_children_are_counted_and_listed_last_first_and_gone_when_they_have_ended() -> None:
    supervisor = await TaskSupervisor.start_link()
    assert await TaskSupervisor.children(supervisor) == []
    pids = [await TaskSupervisor.start_child(supervisor, sleep_for, 1.0) for _ in range(3)]
    assert await TaskSupervisor.children(supervisor) == pids[::-1]
    assert (await TaskSupervisor.count_children(supervisor)).active == 3
    await trio.sleep(2)
    assert await TaskSupervisor.children(supervisor) == []


@in_process()
async def test_stopping_the_supervisor_stops_its_tasks() -> None:
    supervisor = await TaskSupervisor.start()
    tasks = [await TaskSupervisor.async_nolink(supervisor, forever) for _ in range(3)]
    await stop(supervisor)
    assert [await task.yield_(timeout=0) for task in tasks] == [Exited(SHUTDOWN)] * 3


# With an owner


@both
@in_process()
async def test_a_task_is_a_child_of_the_supervisor_and_sends_its_result_to_its_owner(
    start: Any,
) -> None:
    supervisor = await TaskSupervisor.start_link()
    task = await start(supervisor, sleep_for, 1.0)
    assert task.owner is current_pid()
    assert await TaskSupervisor.children(supervisor) == [task.pid]
    assert linked(task.pid) == (start is TaskSupervisor.async_)
    assert await task == 1.0
    await nothing_left()


@both
@in_process()
async def test_the_callers_of_a_task_are_owners_and_its_ancestors_are_supervisors(
    start: Any,
) -> None:
    me, supervisor = current_pid(), await TaskSupervisor.start_link()

    async def who() -> Any:
        return callers(), ancestors()

    async def outer() -> Any:
        return current_pid(), await (await start(supervisor, who))

    assert await (await start(supervisor, who)) == ((me,), (supervisor, me))
    pid, (inner, _) = await (await start(supervisor, outer))
    assert inner == (pid, me)


@both
@in_process()
async def test_the_shutdown_of_a_task_is_five_seconds_by_default(start: Any) -> None:
    supervisor = await TaskSupervisor.start_link()
    for options, seconds in (({}, 5.0), ({"shutdown": 2.0}, 2.0), ({"shutdown": "brutal_kill"}, 0)):
        task = await start(supervisor, deaf, **options)
        await settle()
        trap_exits()
        began = trio.current_time()
        await TaskSupervisor.terminate_child(supervisor, task.pid)
        assert trio.current_time() - began == seconds
        assert await task.yield_() == Exited(KILLED)


@both
@in_process()
async def test_one_more_than_max_children_is_refused_and_leaves_nothing(start: Any) -> None:
    supervisor = await TaskSupervisor.start_link(max_children=1)
    task = await start(supervisor, sleep_for, 1.0)
    with pytest.raises(MaxChildren):
        await start(supervisor, double, 1)
    with pytest.raises(MaxChildren):
        await TaskSupervisor.start_child(supervisor, forever)
    assert await task == 1.0
    await settle()
    assert await (await start(supervisor, double, 1)) == 2
    await nothing_left()


@in_process()
async def test_a_crash_ends_a_linked_owner_and_never_the_supervisor() -> None:
    supervisor = await TaskSupervisor.start_link()

    async def owner(start: Any) -> None:
        task = await start(supervisor, crash, ValueError("x"))
        assert await task.yield_() == Exited(Crash(ValueError("x")))

    assert await outcome_of(owner, TaskSupervisor.async_) == Crash(ValueError("x"))
    assert await outcome_of(owner, TaskSupervisor.async_nolink) is NORMAL
    assert is_alive(supervisor)


@in_process()
async def test_the_end_of_its_owner_ends_a_linked_task_and_no_other() -> None:
    supervisor = await TaskSupervisor.start_link()

    async def owner() -> None:
        started.append(await TaskSupervisor.async_(supervisor, sleep_for, 100.0))
        started.append(await TaskSupervisor.async_nolink(supervisor, sleep_for, 100.0))
        await settle()
        await end_with("boom")

    started: list[Task[float]] = []
    assert await outcome_of(owner) == "boom"
    await settle()
    assert await TaskSupervisor.children(supervisor) == [started[1].pid]


@pytest.mark.parametrize(
    ("function", "argument", "reason"),
    [
        (end_with, "unknown", "unknown"),
        (crash, ValueError("x"), Crash(ValueError("x"))),
        (end_with, NORMAL, NORMAL),
    ],
)
@both
@in_process()
async def test_awaiting_a_task_that_ends_without_a_result_fails(
    start: Any, function: Any, argument: Any, reason: Any
) -> None:
    trap_exits()
    supervisor = await TaskSupervisor.start_link()
    task = await start(supervisor, function, argument)
    with pytest.raises(TaskExit) as caught:
        await task
    assert caught.value.reason == reason
    if start is TaskSupervisor.async_:
        assert await receive() == Exit(task.pid, reason)
    await nothing_left()


@both
@in_process()
async def test_a_wait_that_takes_too_long_leaves_nothing_behind(start: Any) -> None:
    supervisor = await TaskSupervisor.start_link()
    task = await start(supervisor, sleep_for, 6.0)
    with pytest.raises(TaskTimeout):
        await task.result(timeout=0)
    await nothing_left()


@in_process()
async def test_a_server_gets_a_result_and_a_clean_end_or_a_crash_alone() -> None:
    heard: list[Any] = []

    class Owner(GenServer[Any]):
        async def handle_cast(self, message: Any) -> None:
            await TaskSupervisor.start_child("tasks", forever)
            self.state = await TaskSupervisor.async_nolink("tasks", *message)

        async def handle_info(self, message: Any) -> None:
            match message:
                case TaskReply(ref, value) if ref is self.state.ref:
                    heard.append(value)
                case Down(ref, pid, reason) if ref is self.state.ref:
                    assert pid is self.state.pid
                    heard.append(reason)

    await TaskSupervisor.start_link(name="tasks")
    owner = await Owner.start_link()
    cast(owner, (double, 2))
    await settle()
    cast(owner, (end_with, "boom"))
    await settle()
    assert heard == [4, NORMAL, "boom"]


# The handshake


@in_process()
async def test_a_task_whose_owner_ends_before_the_begin_message_ends_too() -> None:
    supervisor = await TaskSupervisor.start_link()
    owner = spawn(asks_for_a_task, supervisor)
    await settle()
    [pid] = await TaskSupervisor.children(supervisor)
    ref = monitor(pid)
    kill(owner)
    assert (await down(ref)).reason == Shutdown(KILLED)


async def asks_for_a_task(supervisor: Pid) -> None:
    """Start a task as `async_` does, without its `Begin` message."""
    waiting = ChildSpec("task", spawn_waiting, restart="temporary")
    await DynamicSupervisor.start_child(supervisor, waiting, current_pid(), "task")
    await trio.sleep_forever()


@in_process()
async def test_a_task_without_a_begin_message_ends_after_five_seconds() -> None:
    supervisor = await TaskSupervisor.start_link()
    spawn(asks_for_a_task, supervisor)
    await settle()
    [pid] = await TaskSupervisor.children(supervisor)
    began = trio.current_time()
    assert (await down(monitor(pid))).reason is TIMEOUT
    assert trio.current_time() - began == 5


@in_process()
async def test_a_start_that_is_cancelled_leaves_no_task_behind_for_long() -> None:
    supervisor = await TaskSupervisor.start_link()
    ran: list[str] = []

    async def work() -> None:
        ran.append("work")

    with trio.CancelScope() as scope:
        scope.cancel()
        _ = await TaskSupervisor.async_(supervisor, work)
    await trio.sleep(6)
    assert await TaskSupervisor.children(supervisor) == []
    assert ran == []
    await nothing_left()


# Without an owner


@in_process()
async def test_start_child_runs_a_task_and_discards_its_result() -> None:
    me, supervisor = current_pid(), await TaskSupervisor.start_link()

    async def work(greeting: str) -> None:
        send(me, (greeting, callers()))

    pid = await TaskSupervisor.start_child(supervisor, work, "hello")
    assert await receive() == ("hello", (me,))
    assert not linked(pid)
    await nothing_left()


@in_process()
async def test_a_detached_task_may_be_restarted_and_does_its_work_again() -> None:
    supervisor = await TaskSupervisor.start_link()
    runs: list[str] = []

    async def work(restart: str) -> None:
        runs.append(restart)
        if len(runs) < 3:
            raise ValueError

    await TaskSupervisor.start_child(supervisor, work, "transient", restart="transient")
    await settle()
    assert runs == ["transient"] * 3
    runs.clear()
    await TaskSupervisor.start_child(supervisor, work, "temporary")
    await settle()
    assert runs == ["temporary"]


@in_process()
async def test_the_shutdown_of_a_detached_task_is_five_seconds_by_default() -> None:
    supervisor = await TaskSupervisor.start_link()
    for options, seconds in (({}, 5.0), ({"shutdown": 1.0}, 1.0), ({"shutdown": "brutal_kill"}, 0)):
        pid = await TaskSupervisor.start_child(supervisor, deaf, **options)
        await settle()
        began = trio.current_time()
        await TaskSupervisor.terminate_child(supervisor, pid)
        assert trio.current_time() - began == seconds


@pytest.mark.parametrize("options", [{"restart": "sometimes"}, {"shutdown": -1}])
@in_process()
async def test_an_invalid_detached_task_is_refused(options: Any) -> None:
    supervisor = await TaskSupervisor.start_link()
    with pytest.raises(InvalidChildSpec):
        await TaskSupervisor.start_child(supervisor, forever, **options)


@in_process()
async def test_terminate_child_stops_one_task_and_no_other() -> None:
    supervisor = await TaskSupervisor.start_link()
    one, other = [await TaskSupervisor.start_child(supervisor, forever) for _ in range(2)]
    await TaskSupervisor.terminate_child(supervisor, one)
    assert await TaskSupervisor.children(supervisor) == [other]
    with pytest.raises(ChildNotFound):
        await TaskSupervisor.terminate_child(supervisor, one)
    with pytest.raises(ChildNotFound):
        await TaskSupervisor.terminate_child(supervisor, current_pid())


async def test_start_child_needs_no_process(runtime: Runtime) -> None:
    supervisor = await TaskSupervisor.start()
    heard: list[Any] = []

    async def work() -> None:
        heard.append(callers())

    await wait_exit(await TaskSupervisor.start_child(supervisor, work))
    assert heard == [()]


# Streams


@pytest.mark.parametrize(
    "stream", [TaskSupervisor.async_stream, TaskSupervisor.async_stream_nolink]
)
@in_process()
async def test_a_stream_ends_cleanly_when_the_supervisor_is_full(stream: Any) -> None:
    supervisor = await TaskSupervisor.start_link(max_children=1)
    with pytest.raises(MaxChildren):
        async with stream(supervisor, sleep_for, [1.0] * 4, max_concurrency=4) as results:
            async for _ in results:
                pass
    assert await TaskSupervisor.children(supervisor) == []
    assert is_alive(supervisor)
    await nothing_left()


@pytest.mark.parametrize(
    "stream", [TaskSupervisor.async_stream, TaskSupervisor.async_stream_nolink]
)
@in_process()
async def test_a_stream_under_a_supervisor_that_does_not_exist_raises(stream: Any) -> None:
    with pytest.raises(NoProcess):
        async with stream("nobody", sleep_for, [1.0], max_concurrency=4) as results:
            async for _ in results:
                pass
    await nothing_left()


@pytest.mark.parametrize(
    "stream", [TaskSupervisor.async_stream, TaskSupervisor.async_stream_nolink]
)
@in_process()
async def test_the_shutdown_of_the_tasks_of_a_stream_is_checked_where_it_is_made(
    stream: Any,
) -> None:
    with pytest.raises(InvalidChildSpec):
        stream("tasks", sleep_for, [1.0], max_concurrency=4, shutdown="unknown")


@in_process()
async def test_a_stream_without_links_outlives_its_tasks_and_ends_with_its_supervisor() -> None:
    supervisor = await TaskSupervisor.start()

    async def consumer() -> None:
        async with TaskSupervisor.async_stream_nolink(
            supervisor, forever_for, range(3), max_concurrency=2
        ) as results:
            heard.append(await anext(results))
            heard.append(await anext(results))

    heard: list[Any] = []
    pid = spawn(consumer)
    await settle()
    kill(supervisor)
    await down(monitor(pid))
    assert heard == [Exited(KILLED), Exited(KILLED)]


async def forever_for(item: Any) -> int:
    return await forever()


async def test_nothing_of_a_task_supervisor_outlives_the_runtime() -> None:
    async with open_runtime(log=False) as runtime:
        supervisor = await TaskSupervisor.start()

        async def owner() -> None:
            _ = await TaskSupervisor.async_(supervisor, forever)
            _ = await TaskSupervisor.async_nolink(supervisor, forever)
            await trio.sleep_forever()

        spawn(owner)
        await settle()
        assert runtime.statistics()["processes"] == 4
    assert runtime.statistics()["processes"] == 0
