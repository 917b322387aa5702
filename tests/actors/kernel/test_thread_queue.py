"""The queue for calls of other threads: bounded, in order, and safe from failing calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import Runtime, RuntimeClosed, ThreadQueueFull, as_process, open_runtime, receive, send
from actors._kernel import thread_queue
from actors.instrumentation.logger import THREAD_CALL_FAILED, THREADS_FULL
from actors.threads import run_threadsafe


def in_a_thread(function: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """Run a function in a thread that neither Trio nor a process has started, and keep its exception."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, errors


def hold_up_trio_until(there: Callable[[], bool]) -> None:
    while not there():
        time.sleep(0)  # lets the other thread run


def listen(runtime: Runtime, event: tuple[str, ...]) -> list[dict[str, Any]]:
    heard: list[dict[str, Any]] = []
    runtime.telemetry.attach(event, lambda _, m, about: heard.append({**m, **about}))
    return heard


async def test_threads_wait_for_room_in_a_full_queue_and_lose_nothing() -> None:
    async with open_runtime(max_thread_calls=2) as runtime, as_process() as me:
        waiting: list[int] = []

        def work() -> None:
            for number in range(500):
                run_threadsafe(runtime, arrive, number)

        def arrive(number: int) -> None:
            waiting.append(runtime.statistics()["thread_calls_waiting"])
            send(me, number)

        await trio.to_thread.run_sync(work)
        assert [await receive() for _ in range(500)] == list(range(500))
        assert max(waiting) <= 2
        statistics = runtime.statistics()
        assert statistics["thread_calls"] == 500
        assert statistics["thread_calls_refused"] == 0


async def test_a_thread_is_refused_after_a_long_wait_for_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(thread_queue, "MAX_WAIT", 0.01)
    async with open_runtime(max_thread_calls=2, log=False) as runtime, as_process() as me:
        heard = listen(runtime, THREADS_FULL)
        sent: list[int] = []

        def work() -> None:
            for number in range(3):
                send(me, number)
                sent.append(number)

        thread, errors = in_a_thread(work)
        # The time limit is for this mistake: the runtime's thread waits for a thread that waits for the runtime.
        thread.join()
        (error,) = errors
        assert isinstance(error, ThreadQueueFull)
        assert (error.limit, error.seconds) == (2, 0.01)
        assert "watchdog" in str(error)
        assert sent == [0, 1]
        assert [await receive(), await receive()] == [0, 1]
        assert heard == [{"waited": 1, "refused": 1, "limit": 2}]
        statistics = runtime.statistics()
        assert (statistics["thread_calls_delayed"], statistics["thread_calls_refused"]) == (1, 1)


async def test_a_full_queue_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with open_runtime() as runtime:
        runtime.telemetry.execute(THREADS_FULL, {"waited": 3, "refused": 1, "limit": 2}, {})
    assert "3 messages had to wait (limit 2), 1 were refused" in caplog.text


async def test_the_end_of_the_runtime_releases_a_thread_that_waits_for_room() -> None:
    async with open_runtime(max_thread_calls=1) as runtime, as_process() as me:

        def work() -> None:
            send(me, "one")
            send(me, "two")

        thread, errors = in_a_thread(work)
        # This thread does not return to Trio meanwhile, so the runtime takes no call.
        hold_up_trio_until(lambda: runtime.statistics()["thread_calls_delayed"] == 1)
        runtime.from_threads.close()
        thread.join()
        assert [type(error) for error in errors] == [RuntimeClosed]
        # Only the waiting calls have arrived.
        assert await receive() == "one"
        assert runtime.statistics()["thread_calls_waiting"] == 0


async def test_calls_after_the_end_of_the_runtime_are_refused() -> None:
    async with open_runtime() as runtime, as_process() as me:
        pass
    for verb in (lambda: send(me, 1), lambda: run_threadsafe(runtime, print)):
        thread, errors = in_a_thread(verb)
        thread.join()
        assert [type(error) for error in errors] == [RuntimeClosed]
        assert "the runtime has ended" in str(errors[0])


async def test_a_failing_call_is_reported_and_logged_and_the_next_calls_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_runtime() as runtime, as_process() as me:
        heard = listen(runtime, THREAD_CALL_FAILED)

        def fail(text: str) -> None:
            raise ValueError(text)

        def work() -> None:
            run_threadsafe(runtime, fail, "boom")
            send(me, "afterwards")

        await trio.to_thread.run_sync(work)
        assert await receive() == "afterwards"
        ((failure),) = heard
        assert (failure["function"], failure["args"]) == (fail, ("boom",))
        assert str(failure["exception"]) == "boom"
    assert "failed in the runtime's thread" in caplog.text


async def test_an_interrupt_in_a_call_ends_the_runtime_in_order() -> None:
    def interrupt() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        async with open_runtime(log=False) as runtime:
            await trio.to_thread.run_sync(run_threadsafe, runtime, interrupt)
            await trio.sleep_forever()
    assert caught.value.code == 3


async def test_other_tasks_run_between_two_batches() -> None:
    async with open_runtime() as runtime:
        order: list[str] = []

        def work() -> None:
            for _ in range(200):
                run_threadsafe(runtime, order.append, "call")

        async def other() -> None:
            while order.count("call") < 200:
                order.append("task")
                await trio.lowlevel.checkpoint()

        thread, _ = in_a_thread(work)
        # All calls are in the queue when Trio runs again.
        thread.join()
        await other()
        batches = "".join(each[0] for each in order).split("t")
        # Trio runs the tasks of a turn in any order, so two batches may follow each other.
        assert max(map(len, batches)) <= 128
        await wait_all_tasks_blocked()


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_limit_below_1_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"max_thread_calls={limit}; write a whole number above 0"):
        async with open_runtime(max_thread_calls=limit):
            pass


async def test_a_higher_limit_lets_a_waiting_thread_continue() -> None:
    async with open_runtime(max_thread_calls=1) as runtime, as_process() as me:
        sent: list[int] = []

        def work() -> None:
            for number in range(3):
                send(me, number)
                sent.append(number)

        thread, errors = in_a_thread(work)
        hold_up_trio_until(lambda: runtime.statistics()["thread_calls_delayed"] > 0)
        # The runtime's thread does not return to Trio, so it takes no call.
        runtime.from_threads.limit = 10
        hold_up_trio_until(lambda: len(sent) == 3)
        thread.join()
        assert errors == []
        assert [await receive() for _ in range(3)] == [0, 1, 2]
