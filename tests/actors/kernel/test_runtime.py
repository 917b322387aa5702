"""Opening and leaving a runtime."""

import asyncio
import gc
import logging
import signal
import weakref
from typing import Any

import pytest
import trio
import trio.testing

from actors import (
    KILLED,
    SHUTDOWN,
    GenServer,
    Instrument,
    NotAProcess,
    Pid,
    Runtime,
    RuntimeClosed,
    cancel_timer,
    current_pid,
    current_runtime,
    is_alive,
    kill,
    monitor,
    open_runtime,
    receive,
    send,
    send_after,
    send_every,
    spawn,
    spawn_link,
    trap_exits,
    wait_exit,
)
from tests.actors.helpers import idle, in_process, settle
from tests.virtual_clock import run_on_virtual_clock


class Tidy(GenServer[str]):
    """A server that traps exits and takes a while to stop."""

    async def init(self, name: str, order: list[str], takes: float = 1) -> None:
        trap_exits()
        self.state, self.order, self.takes = name, order, takes

    async def terminate(self, reason: Any) -> None:
        assert reason is SHUTDOWN
        await trio.sleep(self.takes)
        self.order.append(self.state)


async def test_the_roots_are_stopped_newest_first_each_before_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    order: list[str] = []
    async with open_runtime() as runtime:
        for name in "abc":
            await Tidy.start_link(name, order)
        spawn(idle)
    assert order == ["c", "b", "a"]
    assert trio.current_time() == pytest.approx(3)
    assert caplog.text == ""
    assert runtime.closed
    with pytest.raises(RuntimeClosed):
        runtime.spawn(idle, ())


async def test_a_process_that_is_ending_when_the_body_ends_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def parent() -> None:
        spawn_link(idle)
        spawn_link(idle)
        await trio.sleep_forever()

    async with open_runtime():
        pid = spawn(parent)
        await settle()
        kill(spawn(idle))
        send(pid, "hello")
    assert caplog.text == ""


async def test_processes_outside_all_trees_are_killed_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reasons: list[Any] = []

    async def orphan() -> None:
        await trio.sleep_forever()

    async def parent() -> None:
        for _ in range(15):
            spawn(orphan, label="orphan")

    async def watches(pid: Pid) -> None:
        reasons.append(await wait_exit(pid))

    async with trio.open_nursery() as nursery, open_runtime() as runtime:
        spawn(parent)
        await settle()
        nursery.start_soon(watches, runtime.processes()[0])
        await settle()
    assert reasons == [KILLED]
    assert caplog.text.count("orphan") == 10
    assert "and 5 more" in caplog.text


async def test_processes_may_be_spawned_until_the_trees_have_stopped() -> None:
    born: list[bool] = []

    class Spawns(Tidy):
        async def terminate(self, reason: Any) -> None:
            born.append(is_alive(spawn(idle)))

    async with open_runtime() as runtime:
        await Spawns.start("s", [])
    assert born == [True]
    assert runtime.processes() == []


async def test_a_timer_for_a_name_does_not_outlive_the_runtime() -> None:
    async with open_runtime() as runtime:
        send_after("nobody", "tick", 1000)
        assert runtime.statistics()["timers"] == 1
    assert runtime.statistics()["timers"] == 0
    assert trio.current_time() == 0


async def test_a_runtime_opens_and_stops_in_a_cancelled_scope() -> None:
    reached = False
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_runtime():
            reached = True
            await trio.lowlevel.checkpoint()
    assert reached
    assert scope.cancelled_caught


async def test_a_cancellation_during_the_shutdown_changes_nothing() -> None:
    order: list[str] = []
    with trio.move_on_after(0.5) as scope:
        async with open_runtime():
            await Tidy.start("a", order)
            await Tidy.start("b", order)
    assert order == ["b", "a"]
    assert trio.current_time() == pytest.approx(2)
    # The body has no checkpoint, so it does not see the cancellation.
    assert scope.cancel_called


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration(1), SystemExit(3)], ids=repr)
async def test_an_exception_of_the_body_is_raised_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        async with open_runtime():
            raise error
    assert caught.value is error


async def test_an_error_of_the_body_is_not_kept_alive_by_its_own_traceback() -> None:
    class Thing:
        """An object that only the traceback refers to."""

    gone: list[weakref.ref[Thing]] = []

    async def fails() -> None:
        thing = Thing()
        gone.append(weakref.ref(thing))
        async with open_runtime():
            raise ValueError

    gc.disable()
    try:
        try:
            await fails()
        except ValueError:
            pass
        assert gone[0]() is None
    finally:
        gc.enable()


async def test_without_a_log_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def crashes() -> None:
        raise ValueError

    async with open_runtime(log=False):
        await wait_exit(spawn(crashes))
    assert caplog.records == []
    async with open_runtime():
        await wait_exit(spawn(crashes))
    assert len(caplog.records) == 1


async def test_a_seed_decides_what_is_random() -> None:
    drawn: list[float] = []
    for seed in (1, 1, 2):
        async with open_runtime(seed=seed) as runtime:
            drawn.append(runtime.random.random())
    assert drawn[0] == drawn[1] != drawn[2]


async def test_current_runtime_outside_a_runtime_raises_runtime_closed() -> None:
    with pytest.raises(RuntimeClosed):
        current_runtime()
    async with open_runtime() as runtime:
        assert current_runtime() is runtime
    with pytest.raises(RuntimeClosed):
        current_runtime()


async def test_a_pid_of_a_closed_runtime_is_dead_and_harmless() -> None:
    async with open_runtime() as runtime:
        pid = spawn(idle)
    assert not is_alive(pid)
    send(pid, "hello")
    kill(pid)
    assert runtime.statistics()["dead_letters"] == 1
    assert runtime.process_info(pid) is None


@in_process()
async def test_a_runtime_lists_and_describes_its_processes() -> None:
    runtime = current_runtime()
    me = runtime.processes()[0]
    pid = spawn_link(idle, name="name", label="label")
    monitor(pid)
    for _ in range(3):
        send(pid, "hello")
    assert runtime.processes() == [me, pid]
    info = runtime.process_info(pid)
    assert info is not None
    assert info.pop("age") >= 0
    assert info == {
        "pid": pid,
        "name": "name",
        "label": "'name'",
        "parent": me,
        "ancestors": (me,),
        "links": (me,),
        "monitors": (),
        "timers": 0,
        "trap_exits": False,
        "queue_length": 3,
        "status": "running",
        "dictionary": {},
    }
    mine = runtime.process_info(me)
    assert mine is not None
    assert mine["monitors"] == (pid,)
    trap_exits()
    kill(pid)
    ending = runtime.process_info(pid)
    assert ending is not None
    assert ending["status"] == "exiting"
    await receive()
    await receive()
    assert runtime.process_info(pid) is None
    assert runtime.statistics() == {
        "processes": 1,
        "names": 0,
        "timers": 0,
        "spawned": 2,
        "crashed": 0,
        "dead_letters": 0,
        "late_answers": 0,
        "zombies": 0,
        "zombies_ever": 0,
        "thread_calls_waiting": 0,
        "thread_calls": 0,
        "thread_calls_delayed": 0,
        "thread_calls_refused": 0,
    }


def test_ctrl_c_before_the_body_begins_and_after_it_has_ended_is_raised() -> None:
    order: list[str] = []

    @trio.lowlevel.enable_ki_protection
    async def press(seconds: float) -> None:
        await trio.sleep(seconds)
        signal.raise_signal(signal.SIGINT)

    async def main(seconds: float) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(press, seconds)
            async with open_runtime():
                await Tidy.start("a", order, 1)

    for seconds in (0, 0.5):
        with pytest.raises(BaseExceptionGroup) as caught:
            run_on_virtual_clock(main, seconds)
        assert [type(each) for each in caught.value.exceptions] == [KeyboardInterrupt]
    # Ctrl-C during the shutdown kills all processes at once.
    assert order == []


async def test_a_broken_instrument_does_not_pass_unnoticed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Instrument):
        def process_exited(self, pid: Pid, reason: object) -> None:
            raise ValueError("of the checker")

    with (
        caplog.at_level(logging.CRITICAL),
        pytest.raises(BaseExceptionGroup) as caught,
    ):
        async with open_runtime(debug=False) as runtime:
            runtime.add_instrument(Broken())
            spawn(trio.lowlevel.checkpoint)
            await trio.sleep(10)
    assert caught.group_contains(ValueError, match="of the checker")


@in_process()
async def test_a_runtime_inside_a_process_is_independent() -> None:
    outer = current_runtime()
    me = current_pid()
    async with open_runtime() as inner:
        assert current_runtime() is inner
        pid = spawn(idle)
        assert inner.processes() == [pid]
        assert outer.processes() == [me]
        with pytest.raises(NotAProcess):
            current_pid()
        info = inner.process_info(pid)
        assert info is not None
        assert info["parent"] is inner.pid
    assert current_runtime() is outer
    assert current_pid() is me


@in_process()
async def test_a_killed_process_stops_its_inner_runtime_in_order() -> None:
    order: list[str] = []

    async def host() -> None:
        async with open_runtime():
            await Tidy.start("a", order)
            await Tidy.start("b", order)
            await trio.sleep_forever()

    pid = spawn(host)
    await settle()
    kill(pid)
    assert await wait_exit(pid) is KILLED
    assert order == ["b", "a"]


async def test_a_runtime_can_be_opened_in_a_fixture(runtime: Runtime) -> None:
    assert current_runtime() is runtime
    pid = spawn(idle)
    kill(pid)
    assert await wait_exit(pid) is KILLED


@in_process()
async def test_a_process_that_waits_for_a_message_is_shown_as_waiting() -> None:
    waiting = spawn_link(receive)
    before = current_runtime().process_info(waiting)
    await trio.testing.wait_all_tasks_blocked()
    after = current_runtime().process_info(waiting)
    assert before is not None
    assert after is not None
    assert (before["status"], after["status"]) == ("running", "waiting")


def test_a_runtime_under_asyncio_says_that_it_needs_trio() -> None:
    async def main() -> None:
        async with open_runtime():
            raise AssertionError("never reached")

    with pytest.raises(RuntimeError, match=r"processes run on Trio.*--worker-class trio"):
        asyncio.run(main())


async def test_the_process_of_a_task_is_known_before_its_first_step() -> None:
    async def with_helper() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    async with open_runtime() as runtime:
        assert runtime.nursery is not None
        before = runtime.nursery.child_tasks
        pid = spawn(with_helper)
        (task,) = runtime.nursery.child_tasks - before
        assert runtime.process_of(task) is pid
        await settle()
        assert runtime.process_of(task) is pid
        ((helper,),) = (nursery.child_tasks for nursery in task.child_nurseries)
        assert runtime.process_of(helper) is None
        assert runtime.process_of(trio.lowlevel.current_task()) is None
        kill(pid)
        await settle()
        assert runtime.process_of(task) is None


async def test_a_description_counts_the_timers_that_send_to_the_process(runtime: Runtime) -> None:
    pid = spawn(trio.sleep_forever)
    first, _ = send_after(pid, "tick", 10), send_every(pid, "tock", 10)
    assert (runtime.process_info(pid) or {})["timers"] == 2
    cancel_timer(first)
    assert (runtime.process_info(pid) or {})["timers"] == 1
