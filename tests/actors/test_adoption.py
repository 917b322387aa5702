"""Tasks that are processes for a while, and processes that end with a block."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    AlreadyStarted,
    Crash,
    Down,
    Instrument,
    NotAProcess,
    Pid,
    current_pid,
    exit,
    is_alive,
    kill,
    link,
    monitor,
    open_runtime,
    receive,
    send,
    send_exit,
    spawn,
    trap_exits,
    wait_exit,
    whereis,
)
from actors.adoption import ProcessFailed, adopt, as_process, scoped_spawn


async def test_an_adopted_task_has_a_pid_a_name_and_a_mailbox_until_the_block_ends() -> None:
    async with open_runtime() as runtime:
        async with as_process(name="me") as me:
            assert current_pid() is me
            assert whereis("me") is me
            send("me", "hello")
            assert await receive() == "hello"
        assert not is_alive(me)
        assert whereis("me") is None
        assert runtime.statistics()["processes"] == 0
        with pytest.raises(NotAProcess):
            current_pid()


async def test_links_and_monitors_of_an_adopted_task_learn_of_its_end() -> None:
    reasons: list[object] = []

    async def watcher(pid: Pid) -> None:
        trap_exits()
        link(pid)
        monitor(pid)
        reasons.append((await receive()).reason)
        reasons.append((await receive()).reason)

    async with open_runtime(log=False):
        with pytest.raises(ValueError, match="mine"):
            async with as_process() as me:
                watching = spawn(watcher, me)
                await trio.testing.wait_all_tasks_blocked()
                raise ValueError("mine")
        await wait_exit(watching)
    assert reasons == [Crash(ValueError("mine"))] * 2


async def test_a_fatal_signal_cancels_the_body_and_is_raised_after_it() -> None:
    async with open_runtime():
        with pytest.raises(ProcessFailed) as caught:
            async with as_process() as me:
                send_exit(me, "enough")
                await trio.sleep_forever()
        assert caught.value.reason == "enough"
        await trio.lowlevel.checkpoint()  # the task itself is not cancelled


async def test_exit_with_a_clean_reason_leaves_the_block_without_an_error() -> None:
    async with open_runtime():
        async with as_process() as me:
            exit(SHUTDOWN)
        assert not is_alive(me)
        with pytest.raises(ProcessFailed):
            async with as_process():
                exit("trouble")


async def test_a_process_cannot_be_adopted_again_or_under_a_taken_name() -> None:
    async with open_runtime():
        async with as_process(name="me"):
            with pytest.raises(RuntimeError, match="already"):
                async with as_process():
                    raise AssertionError("not reached")
        async with scoped_spawn(trio.sleep_forever, name="taken"):
            with pytest.raises(AlreadyStarted):
                async with as_process(name="taken"):
                    raise AssertionError("not reached")


async def test_outer_cancellation_passes_through_an_adopted_block() -> None:
    async with open_runtime():
        with trio.move_on_after(0) as scope:
            async with as_process():
                await trio.sleep_forever()
        assert scope.cancelled_caught


async def test_adopt_runs_a_function_as_a_process_in_a_foreign_nursery() -> None:
    async def answer(number: int) -> int:
        current_pid()
        return number + 1

    async def leave() -> int:
        exit(NORMAL)

    async with open_runtime():
        assert await adopt(answer, 1) == 2
        assert await adopt(leave) is None


async def test_the_end_of_the_block_sends_a_shutdown_to_a_scoped_process() -> None:
    seen: list[object] = []

    async def polite() -> None:
        trap_exits()
        seen.append((await receive()).reason)

    async with open_runtime():
        async with scoped_spawn(polite) as pid:
            await trio.testing.wait_all_tasks_blocked()
        assert not is_alive(pid)
    assert seen == [SHUTDOWN]


async def test_a_scoped_process_that_does_not_stop_is_killed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def deaf() -> None:
        trap_exits()
        await trio.sleep_forever()

    async with open_runtime(), as_process():
        async with scoped_spawn(deaf, shutdown=2) as pid:
            ref = monitor(pid)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
        assert trio.current_time() - began == 2
        assert await receive() == Down(ref, pid, KILLED)


async def test_the_end_of_a_scoped_process_cancels_the_body() -> None:
    async with open_runtime(log=False):
        with pytest.raises(ProcessFailed) as caught:
            async with scoped_spawn(trio.sleep_forever) as pid:
                kill(pid)
                await trio.sleep_forever()
        assert caught.value.reason is KILLED


async def test_an_error_of_the_body_ends_the_scoped_process_first() -> None:
    async with open_runtime():
        with pytest.raises(ValueError, match="mine"):
            async with scoped_spawn(trio.sleep_forever) as pid:
                raise ValueError("mine")
        assert not is_alive(pid)


@pytest.mark.parametrize("how", ["kill", "exit"])
async def test_an_exit_in_a_helper_task_ends_the_adopted_task(how: str) -> None:
    async def helper() -> None:
        if how == "kill":
            kill(current_pid())
        exit("by the helper")

    async with open_runtime():
        with pytest.raises(ProcessFailed) as caught:
            async with as_process(), trio.open_nursery() as nursery:
                nursery.start_soon(helper)
                await trio.sleep_forever()
    assert caught.value.reason == (KILLED if how == "kill" else "by the helper")


class Ends(Instrument):
    """An instrument that keeps the exit reasons of all processes."""

    def __init__(self) -> None:
        self.reasons: list[object] = []

    def process_exited(self, pid: Pid, reason: object) -> None:
        self.reasons.append(reason)


async def test_a_cancelled_task_with_a_nursery_of_its_own_ends_as_shutdown() -> None:
    ends = Ends()
    async with open_runtime() as runtime:
        runtime.add_instrument(ends)
        with trio.CancelScope() as scope:
            async with as_process(), trio.open_nursery() as helpers:
                helpers.start_soon(trio.sleep_forever)
                helpers.start_soon(trio.sleep_forever)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
    assert ends.reasons == [SHUTDOWN]
