"""Messages from other threads, and work in them."""

from __future__ import annotations

import threading

import pytest
import trio

from actors import kill, open_runtime, receive, spawn, wait_exit
from actors.adoption import as_process
from actors.exits import KILLED
from actors.threads import run_in_thread, send_threadsafe


async def test_messages_of_one_thread_arrive_in_their_order() -> None:
    async with open_runtime() as runtime, as_process() as me:

        def work() -> None:
            for number in range(100):
                send_threadsafe(runtime, me, number)

        thread = threading.Thread(target=work)
        thread.start()
        assert [await receive() for _ in range(100)] == list(range(100))
        thread.join()


async def test_a_name_is_looked_up_when_the_message_arrives() -> None:
    async with open_runtime() as runtime, as_process(name="me"):
        send_threadsafe(runtime, "me", "hello")
        assert await receive() == "hello"


async def test_a_message_for_nobody_is_a_dead_letter() -> None:
    async with open_runtime() as runtime:
        send_threadsafe(runtime, "nobody", "hello")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert runtime.statistics()["dead_letters"] == 1


async def test_work_in_a_thread_returns_its_result_and_raises_its_error() -> None:
    async with open_runtime():
        assert await run_in_thread(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await run_in_thread(divmod, 7, 0)


async def test_a_killed_process_does_not_wait_for_its_thread() -> None:
    started, release = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        release.wait(20)

    async def process() -> None:
        await run_in_thread(work)

    try:
        async with open_runtime():
            pid = spawn(process)
            await trio.to_thread.run_sync(started.wait)
            kill(pid)
            with trio.fail_after(10):
                assert await wait_exit(pid) is KILLED
    finally:
        release.set()
