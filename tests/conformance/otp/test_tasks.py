"""Case 63 of the conformance cases: tasks."""

from typing import Any

import pytest
import trio

from actors import (
    NORMAL,
    TIMEOUT,
    Crash,
    Down,
    InvalidOperation,
    current_runtime,
    monitor,
    receive,
    spawn,
)
from supervision import Exited, Ok, Task, TaskReply, TaskSupervisor, TaskTimeout, async_stream
from tests.actors.helpers import down, in_process, nothing_arrives, settle

BOOM = Crash(ValueError("boom"))


async def boom() -> None:
    raise ValueError("boom")


async def later(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds


async def end_of(function: Any) -> Any:
    return (await down(monitor(spawn(function)))).reason


@in_process()
async def test_63_a_crash_kills_a_linked_owner_and_sends_a_down_to_any_other() -> None:
    await TaskSupervisor.start_link(name="tasks")
    heard: list[Any] = []

    async def linked() -> None:
        _ = Task.async_(boom)
        await trio.sleep_forever()

    async def not_linked() -> None:
        task = await TaskSupervisor.async_nolink("tasks", boom)
        heard.append(await receive() == Down(task.ref, task.pid, BOOM))
        task_of_a_value = await TaskSupervisor.async_nolink("tasks", later, 0.0)
        reply = await receive(lambda m: isinstance(m, TaskReply))
        heard.append((reply.ref is task_of_a_value.ref, reply.value))
        heard.append(await receive() == Down(reply.ref, task_of_a_value.pid, NORMAL))

    assert await end_of(linked) == BOOM
    assert await end_of(not_linked) is NORMAL
    assert heard == [True, (True, 0.0), True]


@in_process()
async def test_63_only_the_owner_may_await_a_task() -> None:
    task = Task.async_(later, 1.0)

    async def stranger() -> None:
        with pytest.raises(InvalidOperation):
            await task

    assert await end_of(stranger) is NORMAL
    assert await task == 1.0


@in_process()
async def test_63_an_await_after_its_timeout_leaves_no_message() -> None:
    task = Task.async_(later, 2.0)
    with pytest.raises(TaskTimeout):
        await task.result(timeout=1)
    await nothing_arrives(5)


@in_process()
async def test_63_shutdown_returns_a_result_that_was_ready() -> None:
    task = Task.async_(later, 0.0)
    await trio.sleep(1)
    assert await task.shutdown() == Ok(0.0)
    await nothing_arrives(1)


@in_process()
async def test_63_a_stream_is_ordered_kills_slow_tasks_and_leaves_nothing_when_halted() -> None:
    seconds = [0.3, 9.0, 0.1, 0.2, 50.0, 50.0]
    async with async_stream(
        later, seconds, max_concurrency=3, timeout=1, on_timeout="kill_task"
    ) as results:
        assert [await anext(results) for _ in range(4)] == [
            Ok(0.3),
            Exited(TIMEOUT),
            Ok(0.1),
            Ok(0.2),
        ]
        assert len(current_runtime().processes()) > 2
    await settle()
    assert len(current_runtime().processes()) == 1
    await nothing_arrives(60)
