"""Verbs in other threads: sends work, in order. All other verbs raise before they change anything."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

import actors
from actors import (
    GenServer,
    Instrument,
    NoReply,
    Pid,
    Registry,
    RuntimeClosed,
    Sender,
    WrongThread,
    call,
    cast,
    current_pid,
    kill,
    open_runtime,
    receive,
    reply,
    send,
    send_exit,
    spawn,
    wait_exit,
    whereis,
)
from actors._kernel.mailbox import Mailbox
from actors.adoption import as_process
from actors.exits import KILLED
from actors.threads import run_in_thread, run_threadsafe, send_threadsafe


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


async def test_a_message_without_a_receiver_is_a_dead_letter() -> None:
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


# Any thread

Work = Callable[[], object]


async def in_a_plain_thread(work: Work) -> None:
    """Neither Trio nor a process has started this thread, so its context has no runtime."""
    thread = threading.Thread(target=work)
    thread.start()
    await trio.to_thread.run_sync(thread.join)


async def in_an_asyncio_program(work: Work) -> None:
    async def main() -> None:
        work()

    await in_a_plain_thread(lambda: asyncio.run(main()))


async def in_another_trio_program(work: Work) -> None:
    async def main() -> None:
        work()

    await in_a_plain_thread(lambda: trio.run(main))


ANY_THREAD = pytest.mark.parametrize(
    "run",
    [
        trio.to_thread.run_sync,
        run_in_thread,
        in_a_plain_thread,
        in_an_asyncio_program,
        in_another_trio_program,
    ],
)
Run = Callable[[Work], Awaitable[Any]]


class Recorder(GenServer[list[Any]]):
    """A server that keeps its casts and messages, and answers calls on request."""

    async def init(self) -> None:
        self.state = []
        self.asked: list[Sender] = []

    async def handle_cast(self, message: Any) -> None:
        self.state.append(("cast", message))

    async def handle_info(self, message: Any) -> None:
        self.state.append(("sent", message))

    async def handle_call(self, request: Any, sender: Sender) -> actors.Reply | NoReply:
        if request == "what have you got?":
            return actors.Reply(list(self.state))
        self.asked.append(sender)
        request(sender)
        return NoReply()


@ANY_THREAD
async def test_sends_and_casts_of_any_thread_arrive_in_their_order(run: Run) -> None:
    async with open_runtime() as runtime:
        recorder = await Recorder.start(name="recorder")

        def work() -> None:
            for number in range(0, 90, 3):
                send(recorder, number)
                cast(recorder, number + 1)
                send_threadsafe(runtime, "recorder", number + 2)

        await run(work)
        await trio.testing.wait_all_tasks_blocked()
        got = await call(recorder, "what have you got?")
        assert got == [("cast" if n % 3 == 1 else "sent", n) for n in range(90)]


@ANY_THREAD
async def test_a_call_is_answered_from_any_thread_once(run: Run) -> None:
    async with open_runtime():
        recorder = await Recorder.start()
        answered: list[bool] = []

        def ask(sender: Sender) -> None:
            spawn(answer, sender)

        async def answer(sender: Sender) -> None:
            await run(lambda: answered.append(reply(sender, "from a thread")))
            await run(lambda: answered.append(reply(sender, "too late")))

        # Without a limit, because the virtual clock does not wait for threads.
        assert await call(recorder, ask, timeout=math.inf) == "from a thread"
        while len(answered) < 2:
            await trio.lowlevel.checkpoint()
        assert answered == [True, False]


@ANY_THREAD
async def test_exit_signals_are_sent_from_any_thread(run: Run) -> None:
    async with open_runtime(), as_process():
        one, other = spawn(trio.sleep_forever), spawn(trio.sleep_forever)
        actors.monitor(one)
        actors.monitor(other)

        def work() -> None:
            kill(one)
            send_exit(other, "enough")

        await run(work)
        ends = {down.pid: down.reason for down in [await receive(), await receive()]}
        assert ends == {one: KILLED, other: "enough"}


async def test_a_name_works_in_the_threads_of_a_runtime() -> None:
    async with open_runtime() as runtime:
        recorder = await Recorder.start(name="recorder")

        def work() -> None:
            send("recorder", 1)
            cast("recorder", 2)
            send("nobody", 3)
            cast("nobody", 4)
            assert whereis("recorder") is recorder

        await run_in_thread(work)
        assert await call(recorder, "what have you got?") == [("sent", 1), ("cast", 2)]
        assert runtime.statistics()["dead_letters"] == 2


async def test_a_message_from_a_thread_to_an_ended_process_is_a_dead_letter() -> None:
    async with open_runtime() as runtime:
        gone = spawn(trio.lowlevel.checkpoint)
        await wait_exit(gone)
        threads: list[str] = []
        runtime.telemetry.attach(
            ("actors", "message", "dead_letter"),
            lambda *_: threads.append(threading.current_thread().name),
        )

        def work() -> None:
            send(gone, 1)
            cast(gone, 2)

        await in_a_plain_thread(work)
        await trio.testing.wait_all_tasks_blocked()
        # Event listeners run in the runtime's thread too.
        assert threads == [threading.current_thread().name] * 2


async def test_a_thread_without_a_runtime_gets_an_error_before_it_sends_to_a_name() -> None:
    errors: list[Exception] = []

    def work() -> None:
        for verb in (send, cast):
            try:
                verb("recorder", 1)
            except RuntimeClosed as error:
                errors.append(error)

    async with open_runtime():
        await in_a_plain_thread(work)
    assert ["there is no runtime here" in str(error) for error in errors] == [True, True]


async def test_eight_threads_lose_nothing_and_keep_their_orders() -> None:
    async with open_runtime() as runtime, as_process() as me:

        def work(thread: int) -> None:
            for number in range(1250):
                send(me, (thread, number))

        async with trio.open_nursery() as nursery:
            for thread in range(8):
                nursery.start_soon(trio.to_thread.run_sync, work, thread)
            got = [await receive() for _ in range(10_000)]
        for thread in range(8):
            assert [number for each, number in got if each == thread] == list(range(1250))
        assert runtime.statistics()["thread_calls"] == 10_000


@pytest.mark.parametrize("fails", [False, True])
async def test_messages_of_a_process_do_not_overtake_those_of_its_thread(fails: bool) -> None:
    def work() -> None:
        for number in range(1000):
            send(me, number)
        if fails:
            raise ValueError("boom")

    async def process() -> None:
        try:
            await run_in_thread(work)
        except ValueError:
            pass
        send(me, 1000)

    async with open_runtime(), as_process() as me:
        spawn(process)
        assert [await receive() for _ in range(1001)] == list(range(1001))


async def test_a_thread_acts_in_the_name_of_the_process_that_started_it() -> None:
    class Sends(Instrument):
        def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
            seen.append((sender, message))

    seen: list[tuple[Pid | None, Any]] = []

    async def process() -> None:
        def work() -> None:
            assert current_pid() is pid
            send(me, "hello")

        await run_in_thread(work)

    async with open_runtime() as runtime, as_process() as me:
        runtime.add_instrument(Sends())
        pid = spawn(process)
        assert await receive() == "hello"
        assert seen == [(pid, "hello")]


async def test_send_threadsafe_in_the_runtime_thread_does_not_wait_for_room() -> None:
    async with open_runtime(max_thread_calls=1) as runtime, as_process() as me:
        for number in range(10):
            send_threadsafe(runtime, me, number)
        assert [await receive() for _ in range(10)] == list(range(10))
        assert runtime.statistics()["thread_calls"] == 0


async def test_run_threadsafe_in_the_runtime_thread_calls_at_once_and_raises() -> None:
    async with open_runtime() as runtime:
        called: list[int] = []
        run_threadsafe(runtime, called.append, 1)
        assert called == [1]
        with pytest.raises(ZeroDivisionError):
            run_threadsafe(runtime, divmod, 1, 0)


# Verbs that are refused

rooms = Registry[str, None]("unique")


async def _forever() -> None:
    await trio.sleep_forever()


REFUSED: dict[str, Callable[[Pid], object]] = {
    "spawn": lambda _: spawn(_forever),
    "spawn_link": lambda _: actors.spawn_link(_forever),
    "spawn_monitor": lambda _: actors.spawn_monitor(_forever),
    "link": actors.link,
    "unlink": actors.unlink,
    "monitor": actors.monitor,
    "demonitor": lambda _: actors.demonitor(actors.Ref(1)),
    "trap_exits": lambda _: actors.trap_exits(),
    "register": lambda pid: actors.register("name", pid),
    "unregister": lambda _: actors.unregister("taken"),
    "on_exit": lambda _: actors.on_exit(print),
    "alias": lambda _: actors.alias(),
    "send_after": lambda pid: actors.send_after(pid, "late", 1),
    "send_every": lambda pid: actors.send_every(pid, "tick", 1),
    "cancel_timer": lambda _: actors.cancel_timer(actors.TimerRef(1, 0.0, print)),
    "read_timer": lambda _: actors.read_timer(actors.TimerRef(1, 0.0, print)),
    "Registry.register": lambda _: rooms.register("lobby"),
    "Registry.unregister": lambda _: rooms.unregister("lobby"),
    "call": lambda pid: call(pid, "anything").send(None),
    "wait_exit": lambda pid: wait_exit(pid).send(None),
    "start": lambda _: Recorder.start().send(None),
    "receive": lambda _: receive().send(None),
}


@pytest.mark.parametrize("verb", REFUSED)
async def test_a_function_for_the_runtime_thread_raises_in_another_one_and_changes_nothing(
    verb: str,
) -> None:
    async with open_runtime() as runtime, as_process(name="taken") as me:
        other = spawn(_forever)
        before = runtime.statistics(), runtime.process_info(me), runtime.process_info(other)
        with pytest.raises(WrongThread) as caught:
            await trio.to_thread.run_sync(partial(REFUSED[verb], other), thread_name="worker")
        assert (caught.value.verb, caught.value.thread) == (verb, "worker")
        assert f"trio.from_thread.run_sync({verb}, ...)" in str(caught.value)
        after = runtime.statistics(), runtime.process_info(me), runtime.process_info(other)
        assert after == before
        assert not rooms.lookup("lobby")


async def test_a_refused_function_works_through_trio_from_thread() -> None:
    async with open_runtime(), as_process(name="me") as me:

        def work() -> None:
            trio.from_thread.run_sync(actors.send_after, me, "late", 0)
            trio.from_thread.run(call, recorder, "what have you got?")

        recorder = await Recorder.start()
        await trio.to_thread.run_sync(work)
        assert await receive() == "late"


async def test_a_call_from_another_trio_program_is_refused() -> None:
    async with open_runtime():
        recorder = await Recorder.start()
        with pytest.raises(WrongThread):
            await trio.to_thread.run_sync(lambda: trio.run(call, recorder, "anything"))
        assert await call(recorder, "what have you got?") == []


async def test_a_put_in_the_wrong_thread_leaves_the_mailbox_unchanged() -> None:
    async with trio.open_nursery() as nursery:
        mailbox = Mailbox()
        nursery.start_soon(mailbox.park)
        await trio.testing.wait_all_tasks_blocked()
        for verb in (partial(mailbox.put, "lost"), mailbox.wake):
            with pytest.raises(RuntimeError, match="async context"):
                await trio.to_thread.run_sync(verb)
            assert mailbox.parked
            assert len(mailbox) == 0
        mailbox.put("found")
    assert mailbox.take(None) == (True, "found")
