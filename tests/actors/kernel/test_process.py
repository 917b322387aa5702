"""The verbs of a process: spawn, send, receive, exit, on_exit."""

import functools
from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    NORMAL,
    AlreadyStarted,
    Crash,
    DeadProcess,
    InvalidArgument,
    InvalidOperation,
    NotAProcess,
    Pid,
    ProcessKilled,
    Runtime,
    RuntimeClosed,
    ancestors,
    current_pid,
    current_runtime,
    exit,
    is_alive,
    kill,
    link,
    monitor,
    on_exit,
    receive,
    register,
    send,
    set_label,
    spawn,
    spawn_link,
    spawn_monitor,
    trap_exits,
    wait_exit,
    whereis,
)
from tests.actors.helpers import (
    dead_process,
    down,
    idle,
    in_process,
    listen,
    nothing_arrives,
    reason_of,
    settle,
)

# Spawning


@in_process()
async def test_a_spawned_process_takes_its_first_step_later_and_gets_its_arguments() -> None:
    got: list[Any] = []

    async def takes(*args: Any, **kwargs: Any) -> None:
        got.append((args, kwargs))

    pid, ref = spawn_monitor(functools.partial(takes, b=2), 1)
    assert got == []
    assert is_alive(pid)
    await down(ref)
    assert got == [((1,), {"b": 2})]


@in_process()
async def test_the_end_of_the_function_is_the_reason() -> None:
    async def returns() -> int:
        return 1

    async def raises() -> None:
        raise ValueError(1)

    async def exits() -> None:
        exit("done")

    assert await reason_of(spawn(returns)) is NORMAL
    assert await reason_of(spawn(raises)) == Crash(ValueError(1))
    assert await reason_of(spawn(exits)) == "done"
    reason = await reason_of(spawn(returns, 1))
    assert isinstance(reason, Crash)
    assert isinstance(reason.exception, TypeError)


@in_process()
async def test_a_taken_name_starts_nothing() -> None:
    pid = spawn(idle, name="name")
    before = current_runtime().statistics()["spawned"]
    with pytest.raises(AlreadyStarted) as caught:
        spawn(idle, name="name")
    assert caught.value.pid is pid
    assert current_runtime().statistics()["spawned"] == before


@in_process()
async def test_a_process_outlives_its_creator_and_knows_its_ancestors() -> None:
    lineage: list[tuple[Pid, ...]] = []

    async def grandchild() -> None:
        lineage.append(ancestors())
        await trio.sleep_forever()

    async def child() -> None:
        spawn(grandchild, label="survivor")

    pid, ref = spawn_monitor(child)
    await down(ref)
    await settle()
    assert lineage == [(pid, current_pid())]
    assert len(current_runtime().processes()) == 2


@in_process()
async def test_the_immediate_end_of_a_linked_process_is_not_missed() -> None:
    async def dies() -> None:
        exit("at once")

    trap_exits()
    for _ in range(100):
        pid = spawn_link(dies)
        message = await receive()
        assert (message.pid, message.reason) == (pid, "at once")


@in_process()
async def test_a_process_that_is_killed_before_its_first_step_never_takes_one() -> None:
    steps: list[int] = []

    async def steps_once() -> None:
        steps.append(1)

    pid, ref = spawn_monitor(steps_once)
    kill(pid)
    assert (await down(ref)).reason is KILLED
    assert steps == []


async def test_spawn_and_current_pid_outside_a_runtime_raise() -> None:
    with pytest.raises(RuntimeClosed):
        spawn(idle)
    with pytest.raises(NotAProcess):
        current_pid()


async def test_a_plain_task_can_spawn_and_send_but_has_no_mailbox(
    runtime: Runtime,
) -> None:
    heard: list[Any] = []
    pid = spawn(listen, heard, name="listener")
    send(pid, 1)
    send("listener", 2)
    await settle()
    assert heard == [1, 2]
    for verb in (current_pid, trap_exits):
        with pytest.raises(NotAProcess) as refused:
            verb()
        assert refused.value.verb == verb.__name__
    with pytest.raises(NotAProcess):
        await receive()
    with pytest.raises(NotAProcess):
        link(pid)
    assert ancestors() == ()
    kill(pid)
    assert await wait_exit(pid) is KILLED


@in_process()
async def test_a_process_is_described_by_its_name_else_its_label() -> None:
    def described() -> Any:
        info = current_runtime().process_info(current_pid())
        assert info is not None
        return info["label"]

    set_label("a test")
    assert described() == "a test"
    register("name")
    assert described() == "'name'"


# Receiving


@in_process()
async def test_a_receive_without_a_message_times_out_after_its_timeout() -> None:
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError, match=r"within 1\.5 s"):
        await receive(timeout=1.5)
    assert trio.current_time() == pytest.approx(began + 1.5)


@in_process()
async def test_other_messages_do_not_extend_the_timeout_of_a_receive() -> None:
    me = current_pid()

    async def chatter() -> None:
        while True:
            send(me, "noise")
            await trio.sleep(0.4)

    spawn_link(chatter)
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await receive(lambda message: message == "signal", timeout=1)
    assert trio.current_time() == pytest.approx(began + 1)


@pytest.mark.parametrize("first", ["message", "time"])
@in_process()
async def test_a_message_at_the_moment_of_the_timeout_is_in_time(first: str) -> None:
    me, runtime = current_pid(), current_runtime()

    async def waits() -> Any:
        send(me, await receive(timeout=1))

    # Timers with the same deadline run in the order of their creation.
    if first == "time":
        pid = spawn(waits)
        await settle()
        runtime.timers.at(trio.current_time() + 1, lambda: send(pid, "message"))
    else:
        pid = spawn(idle_then, waits)
        runtime.timers.at(trio.current_time() + 1, lambda: send(pid, "message"))
        send(pid, "go")
    assert await receive() == "message"


async def idle_then(function: Any) -> None:
    await receive()
    await function()


@in_process()
async def test_a_receive_that_is_cancelled_loses_no_message() -> None:
    for moment in range(4):
        with trio.CancelScope() as scope:
            send(current_pid(), "message")
            for _ in range(moment):
                await trio.lowlevel.checkpoint()
            scope.cancel()
            await receive()
        assert scope.cancelled_caught
        assert await receive(timeout=0) == "message"


@in_process()
async def test_a_message_at_the_moment_of_a_cancellation_is_not_lost() -> None:
    me = current_pid()

    async def meddle(scope: trio.CancelScope, message_first: bool) -> None:
        if message_first:
            send(me, "message")
        scope.cancel()
        if not message_first:
            send(me, "message")

    for message_first in (False, True):
        with trio.CancelScope() as scope:
            spawn(meddle, scope, message_first)
            got = await receive()
        if scope.cancelled_caught:
            got = await receive(timeout=0)
        assert got == "message"
        await nothing_arrives()


@in_process()
async def test_a_helper_task_acts_for_the_process_but_does_not_read_its_mailbox() -> None:
    me = current_pid()

    async def helper() -> None:
        assert current_pid() is me
        send(me, "from the helper")
        with pytest.raises(InvalidOperation) as refused:
            await receive()
        assert f"only the task of {me!r} itself" in str(refused.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(helper)
    assert await receive(timeout=0) == "from the helper"


@in_process()
async def test_a_process_that_always_finds_a_message_lets_others_run() -> None:
    steps = 0

    async def other() -> None:
        nonlocal steps
        while True:
            steps += 1
            await trio.lowlevel.checkpoint()

    spawn_link(other)
    for _ in range(1000):
        send(current_pid(), "message")
    for _ in range(1000):
        await receive()
    assert steps > 100


@in_process()
async def test_nothing_is_received_after_a_kill_was_accepted() -> None:
    got: list[Any] = []

    async def shields() -> None:
        with trio.CancelScope(shield=True):
            try:
                got.append(await receive())
            except ProcessKilled:
                got.append("killed")
                raise

    pid, ref = spawn_monitor(shields)
    await settle()
    kill(pid)
    send(pid, "message")
    assert (await down(ref)).reason is KILLED
    assert got == ["killed"]


# Ending


@in_process()
async def test_exit_cannot_be_caught_as_an_exception() -> None:
    async def careless() -> None:
        try:
            exit("done")
        except Exception:
            exit("caught")

    assert await reason_of(spawn(careless)) == "done"


@in_process()
async def test_a_caught_process_exit_does_not_end_the_process() -> None:
    with pytest.raises(BaseException, match="done") as caught:
        exit("done")
    assert type(caught.value).__name__ == "ProcessExit"
    assert is_alive(current_pid())


@pytest.mark.parametrize("end", ["return", "raise", "exit", "kill"])
@in_process()
async def test_on_exit_functions_run_before_the_signals_in_reverse_order(end: str) -> None:
    order: list[str] = []

    async def worker() -> None:
        register("worker")
        on_exit(lambda: order.append(f"first, name is {whereis('worker')}"))
        forget = on_exit(lambda: order.append("forgotten"))
        on_exit(lambda: order.append("second"))
        forget()
        match end:
            case "raise":
                raise ValueError
            case "exit":
                exit("done")
            case "kill":
                await trio.sleep_forever()

    pid, ref = spawn_monitor(worker)
    if end == "kill":
        await settle()
        kill(pid)
    await down(ref)
    assert order == ["second", "first, name is None"]


@in_process()
async def test_on_exit_of_another_process_runs_at_its_end_and_before_its_down() -> None:
    order: list[str] = []
    pid = spawn(trio.sleep_forever)
    ref = monitor(pid)
    on_exit(lambda: order.append(f"alive: {is_alive(pid)}"), pid=pid)
    forget = on_exit(lambda: order.append("forgotten"), pid=pid)
    forget()
    await settle()
    assert order == []
    kill(pid)
    await down(ref)
    assert order == ["alive: False"]


@in_process()
async def test_on_exit_of_a_process_that_has_ended_raises() -> None:
    pid = spawn(trio.sleep_forever)
    kill(pid)
    await settle()
    with pytest.raises(DeadProcess):
        on_exit(pytest.fail, pid=pid)
    with pytest.raises(InvalidArgument) as refused:
        on_exit(pytest.fail, pid="name")  # type: ignore[arg-type]
    assert refused.value.verb == "on_exit"


@pytest.mark.parametrize("what", ["error", "verb", "exit", "dead verb"])
@in_process()
async def test_a_clean_up_that_fails_is_reported_and_changes_nothing(what: str) -> None:
    reports: list[Any] = []
    current_runtime().telemetry.attach(
        ("actors", "process", "cleanup_failed"), lambda *event: reports.append(event[2])
    )
    me = current_pid()

    def fails() -> None:
        match what:
            case "error":
                raise ValueError(1)
            case "verb":
                current_pid()
            case "exit":
                exit("again")
            case "dead verb":
                on_exit(fails)

    async def worker() -> None:
        on_exit(lambda: send(me, "the other one"))
        on_exit(fails)

    pid, ref = spawn_monitor(worker)
    assert (await down(ref)).reason is NORMAL
    assert await receive(timeout=0) == "the other one"
    assert [(report["pid"], report["reason"]) for report in reports] == [(pid, NORMAL)]


@in_process()
async def test_a_clean_up_may_send_by_name() -> None:
    register("test")

    async def worker() -> None:
        on_exit(lambda: send("test", "bye"))

    await reason_of(spawn(worker))
    assert await receive(timeout=0) == "bye"


@in_process()
async def test_wait_exit_returns_the_reason_of_a_living_process() -> None:
    async def done() -> None:
        exit("done")

    for _ in range(20):
        assert await wait_exit(spawn(done)) == "done"
    dead = await dead_process()
    assert str(await wait_exit(dead)) == "NOPROC"


@in_process()
async def test_a_cancelled_wait_exit_leaves_nothing() -> None:
    pid = spawn(idle)
    with trio.move_on_after(1) as scope:
        await wait_exit(pid)
    assert scope.cancelled_caught
    assert current_runtime().graph.watchers_of(pid) == ()


@in_process()
async def test_a_kill_in_the_same_turn_as_the_awaited_exit_wins() -> None:
    got: list[Any] = []
    target = spawn(idle)

    async def waits() -> None:
        got.append(await wait_exit(target))

    class KillsTheWaiter:
        def down(self, pid: Pid, reason: object) -> None:
            kill(waiter)

    waiter, ref = spawn_monitor(waits)
    await settle()
    # The signal comes after the waiter was woken, and before it runs.
    current_runtime().graph.watch(target, KillsTheWaiter())
    kill(target)
    assert (await down(ref)).reason is KILLED
    assert got == []
