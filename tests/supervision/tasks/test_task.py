"""One task: its result, its end, its owner, and discarded results."""

import functools
import math
from typing import Any

import pytest
import trio

from actors import (
    KILL,
    KILLED,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    TIMEOUT,
    Crash,
    Down,
    Exit,
    GenServer,
    InvalidOperation,
    NotAProcess,
    Pid,
    Reply,
    Runtime,
    Shutdown,
    ancestors,
    call,
    cast,
    current_pid,
    current_runtime,
    demonitor,
    is_alive,
    monitor,
    open_runtime,
    receive,
    send,
    send_exit,
    set_label,
    spawn,
    spawn_link,
    trap_exits,
    wait_exit,
)
from actors.errors import InvalidOption
from supervision import Supervisor, child_spec
from supervision.errors import TaskExit, TaskTimeout
from supervision.tasks.task import Exited, Ok, Task, TaskReply, callers
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
    wait_and_return,
)

# Starting


@in_process()
async def test_a_task_runs_in_a_linked_process_of_its_own_and_gives_its_result_once() -> None:
    seen: list[Pid] = []

    async def work(a: int, b: int) -> int:
        seen.append(current_pid())
        await trio.sleep(1)
        return a + b

    task = Task.async_(work, 1, 2)
    assert task.owner is current_pid()
    assert task.pid in links_of_this_process()
    assert await task == 3
    assert seen == [task.pid]
    await nothing_left()


def links_of_this_process() -> tuple[Pid, ...]:
    info = current_runtime().process_info(current_pid())
    assert info is not None
    links: tuple[Pid, ...] = info["links"]
    return links


@in_process()
async def test_keyword_arguments_go_through_a_partial_and_the_label_is_the_function() -> None:
    task = Task.async_(functools.partial(wait_and_return, value="x"), 0.5)
    assert "wait_and_return" in repr(task)
    assert await task == "x"


async def test_outside_a_process_there_is_no_mailbox_for_a_result(runtime: Runtime) -> None:
    with pytest.raises(NotAProcess):
        _ = Task.async_(double, 1)
    with pytest.raises(NotAProcess):
        _ = Task.completed(1)


@in_process()
async def test_start_runs_a_task_without_a_link() -> None:
    assert await outcome_of(starts_and_lives, Task.start) is NORMAL


async def starts_and_lives(start: Any) -> None:
    pid = start(crash, ValueError("x"))
    await down(monitor(pid))


@in_process()
async def test_a_crash_of_a_start_link_task_ends_its_starter() -> None:
    assert await outcome_of(starts_and_lives, Task.start_link) == Crash(ValueError("x"))


@in_process()
async def test_a_task_can_be_supervised_and_is_by_default_temporary() -> None:
    runs: list[str] = []

    async def work(name: str) -> None:
        runs.append(name)
        raise ValueError

    specs = [
        child_spec(Task, work, "a"),
        Task.child_spec(work, "b", id="b", restart="permanent"),
    ]
    assert specs[0].restart == "temporary"
    top = await Supervisor.start(specs, max_restarts=2)
    await down(monitor(top))
    assert sorted(runs) == ["a", "b", "b", "b"]


@in_process()
async def test_a_completed_task_has_its_result_without_a_process() -> None:
    task = Task.completed([1])
    assert task.pid is None
    assert await task == [1]
    await nothing_left()


# Callers


@in_process()
async def test_callers_are_the_owner_of_the_task_and_the_owners_above() -> None:
    me = current_pid()
    assert callers() == ()

    async def inner() -> tuple[Pid, ...]:
        return callers()

    async def outer() -> tuple[Pid, tuple[Pid, ...], tuple[Pid, ...]]:
        return current_pid(), callers(), await Task.async_(inner)

    task = Task.async_(outer)
    assert await task == (task.pid, (me,), (task.pid, me))


@pytest.mark.parametrize("start", [Task.start, Task.start_link])
@in_process()
async def test_tasks_without_an_owner_know_their_callers_too(start: Any) -> None:
    heard: list[tuple[Pid, ...]] = []

    async def work() -> None:
        heard.append(callers())

    await down(monitor(start(work)))
    assert heard == [(current_pid(),)]


@in_process()
async def test_a_process_that_a_task_spawns_has_no_callers() -> None:
    heard: list[Any] = []

    async def plain() -> None:
        heard.append((callers(), len(ancestors())))

    async def work() -> None:
        await down(monitor(spawn(plain)))

    await Task.async_(work)
    assert heard == [((), 2)]


async def test_a_plain_task_is_not_a_caller(runtime: Runtime) -> None:
    heard: list[tuple[Pid, ...]] = []

    async def work() -> None:
        heard.append(callers())

    await wait_exit(Task.start(work))
    assert heard == [()]
    assert callers() == ()


# Links


@in_process()
async def test_a_crash_ends_a_linked_owner() -> None:
    async def owner() -> None:
        _ = Task.async_(crash, ValueError("x"))
        await trio.sleep_forever()

    assert await outcome_of(owner) == Crash(ValueError("x"))


@in_process()
async def test_an_owner_that_traps_exits_survives_and_its_wait_still_fails() -> None:
    trap_exits()
    task = Task.async_(crash, ValueError("x"))
    with pytest.raises(TaskExit) as caught:
        await task
    assert caught.value.reason == Crash(ValueError("x"))
    assert isinstance(caught.value.__cause__, ValueError)
    assert task.pid is not None
    assert await receive() == Exit(task.pid, Crash(ValueError("x")))
    await nothing_left()


@in_process()
async def test_a_clean_end_of_the_owner_does_not_stop_a_task_and_any_other_does() -> None:
    started: list[Task[Any]] = []

    async def owner(reason: Any) -> None:
        started.append(Task.async_(sleep_for, 100.0))
        await end_with(reason)

    for reason in (NORMAL, SHUTDOWN, Shutdown("x"), "boom"):
        assert await outcome_of(owner, reason) == reason
        await settle()
    alive = [task.pid is not None and is_alive(task.pid) for task in started]
    assert alive == [True, False, False, False]


# Waiting


@in_process()
async def test_a_wait_that_takes_too_long_leaves_nothing_behind_and_ends_no_process() -> None:
    task = Task.async_(sleep_for, 10.0)
    began = trio.current_time()
    with pytest.raises(TaskTimeout) as caught:
        await task.result(timeout=3)
    assert caught.value.reason is TIMEOUT
    assert trio.current_time() - began == 3
    assert task.pid is not None
    assert is_alive(task.pid)
    await nothing_left()
    assert not is_alive(task.pid)


@in_process()
async def test_await_waits_at_most_five_seconds() -> None:
    assert await Task.async_(sleep_for, 4.9) == 4.9
    with pytest.raises(TaskTimeout) as refused:
        await Task.async_(sleep_for, 5.1)
    assert refused.value.timeout == 5


@in_process()
async def test_a_timeout_that_nobody_catches_ends_the_task_over_the_link() -> None:
    tasks: list[Task[Any]] = []

    async def owner() -> None:
        tasks.append(Task.async_(forever))
        await tasks[0]

    reason = await outcome_of(owner)
    assert isinstance(reason, Crash)
    assert isinstance(reason.exception, TaskTimeout)
    await settle()
    assert tasks[0].pid is not None
    assert not is_alive(tasks[0].pid)


@in_process()
async def test_a_wait_that_is_cancelled_leaves_nothing_behind_at_any_moment() -> None:
    for limit in (0, 0.5, 1, 1.5):
        task = Task.async_(sleep_for, 1.0)
        with trio.move_on_after(limit) as scope:
            assert await task == 1.0
        if scope.cancelled_caught:
            with pytest.raises(TaskExit) as refused:
                await task
            assert refused.value.task is task
        await nothing_left()


@in_process()
async def test_a_result_that_comes_in_the_moment_of_the_timeout_counts() -> None:
    assert await Task.async_(sleep_for, 2.0).result(timeout=2) == 2.0


@pytest.mark.parametrize(
    ("function", "argument", "reason"),
    [
        (end_with, NORMAL, NORMAL),
        (end_with, SHUTDOWN, SHUTDOWN),
        (end_with, "unknown", "unknown"),
        (crash, ZeroDivisionError("x"), Crash(ZeroDivisionError("x"))),
    ],
)
@in_process()
async def test_a_task_that_ends_without_a_result_fails_the_wait_with_its_reason(
    function: Any, argument: Any, reason: Any
) -> None:
    trap_exits()
    task = Task.async_(function, argument)
    with pytest.raises(TaskExit) as caught:
        await task
    assert caught.value.task is task
    assert caught.value.reason == reason
    assert task.pid is not None
    assert await receive() == Exit(task.pid, reason)
    await nothing_left()


@in_process()
async def test_a_second_wait_says_that_the_result_was_taken() -> None:
    task = Task.async_(double, 1)
    assert await task == 2
    with pytest.raises(TaskExit, match="await a task once") as caught:
        await task
    assert caught.value.reason is NOPROC
    assert await task.yield_() == Exited(NOPROC)
    assert await task.shutdown() == Exited(NOPROC)
    assert await task.shutdown("brutal_kill") == Exited(NOPROC)
    assert await task.ignore() == Exited(NOPROC)


@pytest.mark.parametrize("verb", ["result", "yield_", "shutdown", "ignore"])
@in_process()
async def test_only_the_owner_may_wait(verb: str) -> None:
    task = Task.async_(double, 1)

    async def other() -> None:
        with pytest.raises(InvalidOperation) as caught:
            await getattr(task, verb)()
        assert caught.value.verb == f"Task.{verb}"
        assert f"{current_pid()!r} cannot wait for {task!r}: the result goes to its owner" in str(
            caught.value
        )

    assert await outcome_of(other) is NORMAL
    assert await task == 2


@in_process()
async def test_other_messages_stay_where_they_are() -> None:
    me = current_pid()
    send(me, "before")
    task = Task.async_(sleep_for, 1.0)
    send(me, "after")
    assert await task == 1.0
    assert [await receive(), await receive()] == ["before", "after"]


# yield_


@in_process()
async def test_yield_may_be_called_again_and_again() -> None:
    task = Task.async_(sleep_for, 2.5)
    looks = [await task.yield_(timeout=1) for _ in range(3)]
    assert looks == [None, None, Ok(2.5)]
    await nothing_left()


@in_process()
async def test_yield_returns_an_earlier_result_and_removes_the_down() -> None:
    task = Task.async_(double, 2)
    await settle()
    assert await task.yield_(timeout=0) == Ok(4)
    await nothing_left()


@pytest.mark.parametrize("reason", [NORMAL, "boom", SHUTDOWN])
@in_process()
async def test_yield_returns_the_end_of_a_task_as_a_value(reason: Any) -> None:
    trap_exits()
    assert await Task.async_(end_with, reason).yield_() == Exited(reason)


@in_process()
async def test_a_cancelled_yield_discards_nothing() -> None:
    task = Task.async_(sleep_for, 2.0)
    with trio.move_on_after(1):
        await task.yield_(timeout=10)
    assert await task == 2.0


# Ignoring


@in_process()
async def test_ignoring_a_running_task_discards_its_result_or_its_crash() -> None:
    for function, argument in ((sleep_for, 1.0), (fail_after, 1.0)):
        task: Task[Any] = Task.async_(function, argument)
        assert await task.ignore() is None
        assert task.pid is not None
        assert is_alive(task.pid)
        await nothing_left()


async def fail_after(seconds: float) -> None:
    await trio.sleep(seconds)
    raise ValueError


@in_process()
async def test_ignoring_an_ended_task_returns_its_outcome() -> None:
    trap_exits()
    done, failed = Task.async_(double, 2), Task.async_(end_with, "boom")
    await settle()
    assert await done.ignore() == Ok(4)
    assert await failed.ignore() == Exited("boom")
    assert await Task.completed(1).ignore() == Ok(1)
    assert {type(await receive()), type(await receive())} == {Exit}
    await nothing_left()


# Stopping


@pytest.mark.parametrize("limit", [5.0, 0, float("inf"), "brutal_kill"])
@in_process()
async def test_shutdown_stops_a_task_at_once_without_harm_to_its_owner(limit: Any) -> None:
    task = Task.async_(forever)
    began = trio.current_time()
    assert await task.shutdown(limit) is None
    assert trio.current_time() == began
    assert task.pid is not None
    assert not is_alive(task.pid)
    await nothing_left()


@pytest.mark.parametrize("limit", [5.0, "brutal_kill"])
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, "boom"])
@in_process()
async def test_shutdown_returns_an_earlier_result_however_the_task_ended(
    limit: Any, reason: Any
) -> None:
    trap_exits()
    task = Task.async_(end_with, reason)
    send(current_pid(), TaskReply(task.ref, 4))
    await settle()
    assert await task.shutdown(limit) == Ok(4)
    await nothing_left()


@pytest.mark.parametrize(
    ("limit", "reason", "outcome"),
    [
        (5.0, SHUTDOWN, None),
        (5.0, NORMAL, Exited(NORMAL)),
        (5.0, "boom", Exited("boom")),
        (5.0, "killed", Exited(KILLED)),
        ("brutal_kill", "killed", None),
        ("brutal_kill", NORMAL, Exited(NORMAL)),
        ("brutal_kill", SHUTDOWN, Exited(SHUTDOWN)),
        ("brutal_kill", "boom", Exited("boom")),
    ],
)
@in_process()
async def test_shutdown_of_an_ended_task_returns_its_reason_unless_it_is_shutdown(
    limit: Any, reason: Any, outcome: Any
) -> None:
    trap_exits()
    task = Task.async_(forever)
    assert task.pid is not None
    send_exit(task.pid, KILL if reason == "killed" else reason)
    if reason is NORMAL:
        task = Task.async_(end_with, NORMAL)
    await settle()
    assert await task.shutdown(limit) == outcome


@in_process()
async def test_a_task_that_does_not_stop_in_time_is_killed_and_the_outcome_is_killed() -> None:
    task = Task.async_(deaf)
    await settle()
    began = trio.current_time()
    assert await task.shutdown(2) == Exited(KILLED)
    assert trio.current_time() - began == 2
    await nothing_left()


@in_process()
async def test_a_brutal_kill_runs_no_clean_up_of_the_task() -> None:
    task = Task.async_(deaf)
    await settle()
    began = trio.current_time()
    assert await task.shutdown("brutal_kill") is None
    assert trio.current_time() == began


@in_process()
async def test_shutdown_of_a_completed_task_returns_its_result() -> None:
    assert await Task.completed(1).shutdown() == Ok(1)
    assert await Task.completed(1).shutdown("brutal_kill") == Ok(1)


@pytest.mark.parametrize("limit", [-1, "kill", None, float("nan")])
@in_process()
async def test_an_invalid_limit_is_refused_and_the_task_untouched(limit: Any) -> None:
    task = Task.async_(sleep_for, 1.0)
    with pytest.raises(InvalidOption) as refused:
        await task.shutdown(limit)
    assert refused.value.option == "timeout"
    assert await task == 1.0


@in_process()
async def test_a_shutdown_that_is_cancelled_kills_and_leaves_nothing_behind() -> None:
    task = Task.async_(deaf)
    await settle()
    with trio.move_on_after(1):
        await task.shutdown(100)
    await nothing_left()
    assert task.pid is not None
    assert not is_alive(task.pid)


# Stopping after the result was discarded or the owner has received the messages


async def give_up_by_a_timeout(task: Task[Any]) -> None:
    with pytest.raises(TaskTimeout):
        await task.result(timeout=1)


async def give_up_by_a_cancellation(task: Task[Any]) -> None:
    with trio.move_on_after(1):
        await task.result(timeout=10)


async def give_up_by_ignoring(task: Task[Any]) -> None:
    assert await task.ignore() is None


async def give_up_by_forgetting(task: Task[Any]) -> None:
    assert task.forget()


GIVING_UP = [
    give_up_by_a_timeout,
    give_up_by_a_cancellation,
    give_up_by_ignoring,
    give_up_by_forgetting,
]


@pytest.mark.parametrize("limit", [5.0, 0, "brutal_kill"])
@pytest.mark.parametrize("give_up", GIVING_UP)
@in_process()
async def test_shutdown_stops_a_task_whose_result_was_discarded(give_up: Any, limit: Any) -> None:
    task = Task.async_(forever)
    await give_up(task)
    assert task.pid is not None
    assert is_alive(task.pid)
    assert await task.shutdown(limit) is None
    assert not is_alive(task.pid)
    assert await task.shutdown(limit) == Exited(NOPROC)
    await nothing_left()


@pytest.mark.parametrize("give_up", GIVING_UP)
@in_process()
async def test_shutdown_kills_a_discarded_task_that_does_not_stop_in_time(give_up: Any) -> None:
    task = Task.async_(deaf)
    await settle()
    await give_up(task)
    began = trio.current_time()
    assert await task.shutdown(2) == Exited(KILLED)
    assert trio.current_time() - began == 2
    await nothing_left()


@pytest.mark.parametrize("limit", [5.0, float("inf"), "brutal_kill"])
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, "boom"])
@in_process()
async def test_shutdown_returns_at_once_if_the_owner_has_received_the_end_of_the_task(
    limit: Any, reason: Any
) -> None:
    trap_exits()
    task = Task.async_(end_with, reason)
    assert (await down(task.ref)).reason == reason
    began = trio.current_time()
    assert await task.shutdown(limit) == Exited(NOPROC)
    assert trio.current_time() == began
    await nothing_left()


@pytest.mark.parametrize("limit", [5.0, "brutal_kill"])
@in_process()
async def test_shutdown_returns_the_end_of_a_task_whose_result_the_owner_has_received(
    limit: Any,
) -> None:
    task = Task.async_(double, 2)
    assert type(await receive()) is TaskReply
    assert await task.shutdown(limit) == Exited(NORMAL)
    await nothing_left()


@in_process()
async def test_a_wait_for_a_task_whose_end_the_owner_has_received_ends_at_once() -> None:
    trap_exits()
    began = trio.current_time()
    for wait in ("result", "yield_", "ignore"):
        task = Task.async_(end_with, "boom")
        assert (await down(task.ref)).reason == "boom"
        if wait == "result":
            with pytest.raises(TaskExit) as caught:
                await task.result(timeout=math.inf)
            assert caught.value.reason is NOPROC
        elif wait == "yield_":
            assert await task.yield_(timeout=math.inf) == Exited(NOPROC)
        else:
            assert await task.ignore() == Exited(NOPROC)
        assert type(await receive()) is Exit
    assert trio.current_time() == began
    await nothing_left()


@in_process()
async def test_a_wait_for_a_task_that_the_owner_has_demonitored_ends_at_once() -> None:
    task = Task.async_(forever)
    demonitor(task.ref)
    with pytest.raises(TaskExit):
        await task.result(timeout=math.inf)
    assert await task.shutdown() is None
    await nothing_left()


@in_process()
async def test_a_completed_task_whose_result_the_owner_has_received_has_none() -> None:
    for wait in ("yield_", "shutdown", "ignore"):
        task = Task.completed(1)
        assert type(await receive()) is TaskReply
        assert await getattr(task, wait)() == Exited(NOPROC)


@in_process()
async def test_ignoring_a_task_after_a_timeout_cuts_the_link() -> None:
    task = Task.async_(forever)
    await give_up_by_a_timeout(task)
    assert task.pid in links_of_this_process()
    assert await task.ignore() is None
    assert task.pid not in links_of_this_process()
    assert task.pid is not None
    assert is_alive(task.pid)
    assert await task.ignore() is None
    assert await task.shutdown() is None


# Servers


@in_process()
async def test_a_server_that_does_not_wait_gets_the_result_as_a_message() -> None:
    heard: list[Any] = []

    class Owner(GenServer[Any]):
        async def handle_cast(self, message: Any) -> None:
            self.state = Task.async_(double, message)

        async def handle_info(self, message: Any) -> None:
            heard.append(message)
            if message.ref is self.state.ref and type(message) is TaskReply and message.value == 4:
                self.state.forget()

        async def handle_call(self, request: Any, sender: Any) -> Any:
            raise NotImplementedError

    owner = await Owner.start_link()
    cast(owner, 2)
    await settle()
    assert [type(message) for message in heard] == [TaskReply]
    cast(owner, 3)
    await settle()
    assert [type(message) for message in heard] == [TaskReply, TaskReply, Down]
    assert heard[1].value == 6
    assert heard[2].reason is NORMAL


@in_process()
async def test_a_server_may_wait_in_a_callback() -> None:
    class Owner(GenServer[None]):
        async def handle_call(self, request: Any, sender: Any) -> Any:
            return Reply(await Task.async_(double, request))

    owner = await Owner.start_link()
    assert await call(owner, 4) == 8


@in_process()
async def test_a_result_that_is_forgotten_before_it_comes_never_comes() -> None:
    task = Task.async_(sleep_for, 1.0)
    assert task.forget()
    assert not task.forget()
    await nothing_left()


async def test_a_crash_is_logged_with_the_function_of_the_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def starter() -> None:
        spawn_link(trio.sleep, 0.0)
        Task.start_link(crash, ValueError("no such page"))
        await trio.sleep_forever()

    async with open_runtime() as runtime:
        told: list[Any] = []
        runtime.telemetry.attach(
            ("actors", "process", "crash"), lambda event, measured, about: told.append(about)
        )
        pid = spawn(starter)
        await wait_exit(pid)
    assert "Process task crash" in caplog.text
    assert "ValueError: no such page" in caplog.text
    assert [about["parent"] for about in told] == [pid]


async def test_a_crash_is_logged_with_the_label_that_the_task_gave_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work() -> None:
        set_label("page 7")
        raise ValueError

    async with open_runtime():
        await wait_exit(Task.start(work))
    assert "Process page 7 <pid 1> crashed" in caplog.text


@in_process()
async def test_a_shutdown_after_forget_gives_no_result_that_came_before() -> None:
    task = Task.async_(double, 4)
    await settle()
    assert not task.forget()
    assert await task.shutdown() == Exited(NOPROC)
