"""Waits for several tasks: for all results, or for a limited time."""

import math
from typing import Any

import pytest
import trio

from actors import (
    NOPROC,
    NORMAL,
    Crash,
    Exit,
    InvalidOperation,
    current_pid,
    current_runtime,
    is_alive,
    receive,
    send,
    trap_exits,
)
from actors.errors import InvalidOption
from supervision.errors import TaskExit, TaskTimeout
from supervision.tasks.task import Exited, Ok, Task, await_many, yield_many
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


def sleepers(*seconds: float) -> list[Task[float]]:
    return [Task.async_(sleep_for, each) for each in seconds]


# await_many


@in_process()
async def test_results_come_in_the_order_of_the_tasks_when_the_slowest_has_ended() -> None:
    began = trio.current_time()
    assert await await_many(sleepers(3, 1, 2)) == [3, 1, 2]
    assert trio.current_time() - began == 3
    await nothing_left()


@in_process()
async def test_no_tasks_give_no_results_at_once() -> None:
    assert await await_many([]) == []
    assert await yield_many([]) == []


@in_process()
async def test_completed_tasks_may_be_among_them() -> None:
    assert await await_many([Task.async_(double, 1), Task.completed(7)]) == [2, 7]


@in_process()
async def test_messages_of_others_and_those_that_come_later_stay() -> None:
    send(current_pid(), "before")
    tasks = sleepers(1, 2)
    send(current_pid(), "after")
    assert await await_many(tasks) == [1, 2]
    assert [await receive(), await receive()] == ["before", "after"]
    await nothing_left()


@in_process()
async def test_one_deadline_is_for_all_and_nothing_is_left_of_any() -> None:
    tasks = sleepers(1, 8, 9)
    began = trio.current_time()
    with pytest.raises(TaskTimeout) as caught:
        await await_many(tasks, timeout=4)
    assert trio.current_time() - began == 4
    assert caught.value.task is tasks[1]
    await nothing_left()


@in_process()
async def test_a_wait_for_many_that_is_cancelled_leaves_nothing_behind_at_any_moment() -> None:
    for limit in (0, 0.5, 1, 2, 3):
        tasks = sleepers(1, 2)
        with trio.move_on_after(limit):
            await await_many(tasks)
        await nothing_left()


@pytest.mark.parametrize(
    ("function", "argument", "reason"),
    [
        (end_with, NORMAL, NORMAL),
        (end_with, "unknown", "unknown"),
        (crash, ValueError("x"), Crash(ValueError("x"))),
    ],
)
@in_process()
async def test_the_first_that_ends_without_a_result_fails_the_wait_at_once(
    function: Any, argument: Any, reason: Any
) -> None:
    trap_exits()
    failing: Task[Any] = Task.async_(function, argument)
    tasks = [Task.async_(forever), failing, Task.async_(sleep_for, 1.0)]
    began = trio.current_time()
    with pytest.raises(TaskExit) as caught:
        await await_many(tasks)
    assert caught.value.task is failing
    assert caught.value.reason == reason
    assert trio.current_time() == began
    for task in tasks:
        assert task.pid is not None
    await receive()  # the Exit of the failing task
    await receive(timeout=2)  # the Exit of the task that has finished
    await nothing_left()


@in_process()
async def test_only_the_owner_may_wait_for_many() -> None:
    tasks = sleepers(1, 2)

    async def other() -> None:
        with pytest.raises(InvalidOperation):
            await await_many(tasks)
        with pytest.raises(InvalidOperation):
            await yield_many(tasks)

    assert await outcome_of(other) is NORMAL
    assert await await_many(tasks) == [1, 2]
    with pytest.raises(TaskExit) as caught:
        await await_many(tasks)
    assert caught.value.reason is NOPROC


@in_process()
async def test_a_result_that_was_taken_before_fails_the_wait_and_leaves_nothing_of_the_others() -> (
    None
):
    trap_exits()
    taken, done, running = sleepers(1, 1, 3)
    assert await taken == 1
    await trio.sleep(1)
    began = trio.current_time()
    with pytest.raises(TaskExit) as caught:
        await await_many([running, taken, done])
    assert (caught.value.task, caught.value.reason) == (taken, NOPROC)
    assert trio.current_time() == began
    await trio.sleep(3)
    for _ in range(3):
        assert type(await receive(timeout=0)) is Exit
    await nothing_left()


@in_process()
async def test_the_failure_of_another_task_comes_before_a_result_that_was_taken_before() -> None:
    # As in Elixir, where the taken task has no message in the mailbox.
    trap_exits()
    taken, failed = Task.async_(double, 1), Task.async_(end_with, "oops")
    assert await taken == 2
    await trio.sleep(1)
    with pytest.raises(TaskExit) as caught:
        await await_many([taken, failed])
    assert (caught.value.task, caught.value.reason) == (failed, "oops")


@in_process()
async def test_a_result_that_was_given_up_before_is_not_a_result_of_the_wait() -> None:
    given_up = Task.async_(double, 1)
    await trio.sleep(1)
    given_up.forget()
    with pytest.raises(TaskExit) as caught:
        await await_many([given_up])
    assert caught.value.reason is NOPROC
    await nothing_left()


# yield_many


@in_process()
async def test_a_running_task_has_no_outcome_and_can_be_awaited_again() -> None:
    quick, slow = sleepers(1, 6)
    assert await yield_many([quick, slow], timeout=2) == [(quick, Ok(1)), (slow, None)]
    assert await yield_many([quick, slow], timeout=5) == [(quick, Exited(NOPROC)), (slow, Ok(6))]
    await nothing_left()


@in_process()
async def test_the_ends_of_tasks_are_values() -> None:
    trap_exits()
    good, bad = Task.async_(double, 1), Task.async_(end_with, "boom")
    await settle()
    assert await yield_many([good, bad]) == [(good, Ok(2)), (bad, Exited("boom"))]


@in_process()
async def test_all_ends_before_the_time_is_up_end_the_wait() -> None:
    began = trio.current_time()
    tasks = sleepers(2, 1)
    assert await yield_many(tasks, timeout=100) == [(tasks[0], Ok(2)), (tasks[1], Ok(1))]
    assert trio.current_time() - began == 2


@in_process()
async def test_an_infinite_timeout_waits_for_all_tasks() -> None:
    tasks = sleepers(1000)
    assert await yield_many(tasks, timeout=float("inf")) == [(tasks[0], Ok(1000))]


@in_process()
async def test_tasks_that_take_too_long_may_be_killed() -> None:
    quick, slow, stubborn = Task.async_(sleep_for, 1.0), Task.async_(forever), Task.async_(deaf)
    outcomes = await yield_many([quick, slow, stubborn], timeout=2, on_timeout="kill_task")
    assert outcomes == [(quick, Ok(1.0)), (slow, None), (stubborn, None)]
    for task in (slow, stubborn):
        assert task.pid is not None
        assert not is_alive(task.pid)
    await nothing_left()


@in_process()
async def test_tasks_that_take_too_long_may_be_ignored() -> None:
    quick, slow = sleepers(1, 3)
    assert await yield_many([quick, slow], timeout=2, on_timeout="ignore") == [
        (quick, Ok(1)),
        (slow, None),
    ]
    assert slow.pid is not None
    assert is_alive(slow.pid)
    await nothing_left()


@in_process()
async def test_the_wait_ends_after_as_many_ends_as_the_limit() -> None:
    tasks = sleepers(3, 1, 2)
    began = trio.current_time()
    outcomes = await yield_many(tasks, limit=2, timeout=10)
    assert trio.current_time() - began == 2
    assert [outcome for _, outcome in outcomes] == [None, Ok(1), Ok(2)]


@in_process()
async def test_fewer_tasks_than_the_limit_are_all_waited_for() -> None:
    tasks = sleepers(1, 2)
    outcomes = await yield_many(tasks, limit=5)
    assert [outcome for _, outcome in outcomes] == [Ok(1), Ok(2)]


@in_process()
async def test_the_time_may_be_up_before_the_limit_is_reached() -> None:
    tasks = sleepers(1, 20, 30)
    outcomes = await yield_many(tasks, limit=2, timeout=3, on_timeout="kill_task")
    assert [outcome for _, outcome in outcomes] == [Ok(1), None, None]
    assert [task.pid is not None and is_alive(task.pid) for task in tasks] == [False] * 3


@pytest.mark.parametrize(("option", "value"), [("on_timeout", "kill"), ("limit", 0)])
@in_process()
async def test_an_invalid_option_is_refused(option: str, value: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        await yield_many([], **{option: value})
    assert caught.value.option == option
    assert caught.value.value == value


# Tasks that send no further message


@in_process()
async def test_a_wait_for_many_fails_at_once_if_the_owner_has_received_the_end_of_one() -> None:
    trap_exits()
    gone, running, done = (
        Task.async_(end_with, "boom"),
        Task.async_(forever),
        Task.async_(double, 1),
    )
    await down(gone.ref)
    began = trio.current_time()
    with pytest.raises(TaskExit) as caught:
        await await_many([running, gone, done], timeout=math.inf)
    assert caught.value.task is gone
    assert caught.value.reason is NOPROC
    assert trio.current_time() == began
    assert await running.shutdown() is None
    assert type(await receive()) is Exit
    assert type(await receive()) is Exit
    await nothing_left()


@in_process()
async def test_yield_many_sees_that_the_owner_has_received_the_end_of_one() -> None:
    trap_exits()
    gone, slow = Task.async_(end_with, "boom"), Task.async_(sleep_for, 2.0)
    done = Task.async_(double, 1)
    await down(gone.ref)
    assert await yield_many([slow, gone, done], timeout=math.inf) == [
        (slow, Ok(2.0)),
        (gone, Exited(NOPROC)),
        (done, Ok(2)),
    ]


@pytest.mark.parametrize(("on_timeout", "alive"), [("kill_task", False), ("ignore", True)])
@in_process()
async def test_on_timeout_also_applies_to_tasks_whose_results_were_discarded(
    on_timeout: Any, alive: bool
) -> None:
    given_up, running = Task.async_(deaf), Task.async_(deaf)
    with pytest.raises(TaskTimeout):
        await given_up.result(timeout=1)
    assert await yield_many([given_up, running], timeout=1, on_timeout=on_timeout) == [
        (given_up, Exited(NOPROC)),
        (running, None),
    ]
    info = current_runtime().process_info(current_pid())
    assert info is not None
    assert info["links"] == ()
    for task in (given_up, running):
        assert task.pid is not None
        assert is_alive(task.pid) is alive
        await task.shutdown("brutal_kill")
    await nothing_left()
