"""An asyncio loop as a process: the calls, their limits and ends, and the end of the loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import signal
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NoReturn

import anyio.lowlevel
import pytest
import sniffio
import trio
import trio.testing

from actors import (
    NORMAL,
    CallCancelled,
    CallTimeout,
    Crash,
    GenServer,
    InvalidArgument,
    InvalidOption,
    NoProcess,
    Pid,
    ServerExit,
    StartError,
    TooManyCalls,
    WrongThread,
    call,
    current_pid,
    exit,
    kill,
    open_runtime,
    receive,
    send,
    spawn,
    spawn_link,
    stop,
    wait_exit,
    whereis,
)
from actors.asyncio_loop import AsyncioLoop, asyncio_call
from actors.errors import ASYNCIO_ADVICE
from actors.instrumentation.logger import THREADS_LEFT, TOO_MANY_CALLS
from actors.watchdog import LOOP_BLOCKED
from supervision import Supervisor, child_spec
from tests.patience import PATIENCE

variable = contextvars.ContextVar("variable", default="unset")


async def start(*children: AsyncioLoop) -> Pid:
    """Start them under a supervisor, as programs have them. The virtual clock jumps while they wait for a thread."""
    return await Supervisor.start_link([child_spec(each, shutdown=math.inf) for each in children])


@asynccontextmanager
async def a_loop(**options: Any) -> AsyncIterator[Pid]:
    """A runtime with a loop."""
    async with open_runtime():
        supervisor = await start(AsyncioLoop(**options))
        yield supervisor


class Door:
    """A function that waits in the loop until the test opens the door, and events for the test."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.left: list[str] = []
        self._token = trio.lowlevel.current_trio_token()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: asyncio.Event | None = None

    async def wait(self) -> str:
        self._loop, self._open = asyncio.get_running_loop(), asyncio.Event()
        self._token.run_sync_soon(self.entered.set)
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.left.append("cancelled")
            raise
        self.left.append("open")
        return "done"

    def open(self) -> None:
        assert self._loop is not None
        assert self._open is not None
        self._loop.call_soon_threadsafe(self._open.set)


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def test_a_call_runs_a_coroutine_function_in_the_loop_and_returns_its_result() -> None:
    async with a_loop():
        assert await asyncio_call(double, 4) == 8
        assert await asyncio_call(partial(double, 5)) == 10
        # A connection may belong to the loop, because all calls run in the same one.
        loops = [await asyncio_call(running_loop) for _ in range(2)]
        assert loops[0] is loops[1]


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def test_a_plain_function_that_returns_an_awaitable_works_and_another_one_is_refused() -> (
    None
):
    def prepares(number: int):  # type: ignore[no-untyped-def] # as the functions of many libraries are
        return double(number)

    async with a_loop():
        assert await asyncio_call(prepares, 3) == 6
        with pytest.raises(InvalidArgument, match=r"returned int, a value that cannot be awaited"):
            await asyncio_call(len, "four")  # type: ignore[arg-type]
        coroutine = double(1)
        with pytest.raises(
            InvalidArgument, match=r"pass the function itself, .*: asyncio_call\(double, \.\.\.\)"
        ):
            await asyncio_call(coroutine)  # type: ignore[arg-type]


async def test_an_exception_of_the_function_reaches_the_caller_and_not_the_loop() -> None:
    error = ValueError("no such user")

    async def fails() -> NoReturn:
        raise error

    async with a_loop():
        before = whereis("asyncio")
        with pytest.raises(ValueError, match="no such user") as info:
            await asyncio_call(fails)
        assert info.value is error
        assert whereis("asyncio") is before


async def test_a_cancelled_caller_cancels_the_function_and_waits_for_its_end() -> None:
    door = Door()
    async with a_loop(), trio.open_nursery() as nursery:
        nursery.start_soon(asyncio_call, door.wait)
        await door.entered.wait()
        nursery.cancel_scope.cancel()
    assert door.left == ["cancelled"]


async def test_a_caller_that_is_cancelled_already_does_not_begin() -> None:
    begun = []

    async def begins() -> None:
        begun.append(True)

    async with a_loop():
        with trio.CancelScope() as scope:
            scope.cancel()
            await asyncio_call(begins)
        await asyncio_call(double, 1)
    assert begun == []


async def test_a_call_that_is_cancelled_before_the_loop_has_begun_it_ends_too() -> None:
    gate, entered = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()
    begun = []

    async def blocks() -> None:
        token.run_sync_soon(entered.set)
        gate.wait(PATIENCE)

    async def begins() -> None:
        begun.append(True)

    async with a_loop(), trio.open_nursery() as nursery:
        nursery.start_soon(asyncio_call, blocks)
        await entered.wait()
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_and_open, scope, gate)
            await asyncio_call(begins)
        assert scope.cancelled_caught
        assert AsyncioLoop().statistics()["calls"] <= 1
    assert begun == []


async def cancel_and_open(scope: trio.CancelScope, gate: threading.Event) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    gate.set()


async def test_a_function_that_returns_despite_its_cancellation_gives_its_result() -> None:
    token = trio.lowlevel.current_trio_token()
    entered = trio.Event()

    async def finishes() -> str:
        token.run_sync_soon(entered.set)
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            # As `asyncio.timeout` does: what it was asked to do is done.
            pass
        return "rolled back"

    results: list[str] = []

    async def calls() -> None:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancels, scope)
            results.append(await asyncio_call(finishes))

    async def cancels(scope: trio.CancelScope) -> None:
        await entered.wait()
        scope.cancel()

    async with a_loop(), trio.open_nursery() as nursery:
        nursery.start_soon(calls)
    assert results == ["rolled back"]


async def test_a_time_limit_cancels_the_function_and_names_the_call() -> None:
    async with a_loop():
        with pytest.raises(
            CallTimeout,
            match=r"asyncio_call\(sleep, \.\.\., loop='asyncio'\) got no answer within 0\.001 s",
        ):
            await asyncio_call(asyncio.sleep, PATIENCE, timeout=0.001)
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(0.001):
                await asyncio_call(asyncio.sleep, PATIENCE)
        assert AsyncioLoop().statistics() == {
            "calls": 0,
            "calls_accepted": 2,
            "calls_cancelled": 2,
            "calls_refused": 0,
        }


async def test_a_time_limit_of_asyncio_raises_its_own_error() -> None:
    async def limited() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(PATIENCE)

    async with a_loop():
        with pytest.raises(TimeoutError):
            await asyncio_call(limited)


async def test_a_cancellation_by_code_in_the_loop_is_an_error_of_the_call() -> None:
    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with a_loop():
        with pytest.raises(CallCancelled, match="cancelled by code in the loop, and not by"):
            await asyncio_call(cancels_itself)


async def test_context_variables_carry_over_in_both_directions() -> None:
    async def reads_and_sets() -> str:
        before = variable.get()
        variable.set("of the function")
        return before

    async with a_loop():
        variable.set("of the caller")
        assert await asyncio_call(reads_and_sets) == "of the caller"
        assert variable.get() == "of the function"


async def test_messages_of_the_function_are_those_of_the_caller_and_have_arrived_afterwards() -> (
    None
):
    async def sends(receiver: Pid) -> Pid:
        # More than the runtime takes in one turn.
        for _ in range(1000):
            send(receiver, "first")
        return current_pid()

    async def caller(receiver: Pid) -> None:
        assert await asyncio_call(sends, receiver) is current_pid()
        send(receiver, "second")

    async def main() -> None:
        spawn_link(caller, current_pid())
        assert [await receive() for _ in range(1001)] == ["first"] * 1000 + ["second"]

    async with a_loop():
        assert await wait_exit(spawn(main)) is NORMAL
        with pytest.raises(WrongThread):
            await asyncio_call(partial(call, "asyncio", "request"))


async def test_the_library_is_detected_as_asyncio_in_the_loop() -> None:
    async def detects() -> str:
        await anyio.lowlevel.checkpoint()
        return sniffio.current_async_library()

    async with a_loop():
        assert await asyncio_call(detects) == "asyncio"
        # And still as Trio outside.
        assert sniffio.current_async_library() == "trio"
        await anyio.lowlevel.checkpoint()


async def test_a_loop_has_a_name_and_options() -> None:
    async def is_debug() -> bool:
        return asyncio.get_running_loop().get_debug()

    class OwnLoop(asyncio.SelectorEventLoop):
        pass

    async with open_runtime():
        own = AsyncioLoop("own", debug=True, loop_factory=OwnLoop)
        await start(AsyncioLoop(), own)
        assert await asyncio_call(is_debug, loop="own")
        assert not await asyncio_call(is_debug)
        assert type(await asyncio_call(running_loop, loop="own")) is OwnLoop
    for options in ({"max_calls": 0}, {"max_calls": 1.5}):
        with pytest.raises(InvalidOption, match="AsyncioLoop got max_calls="):
            AsyncioLoop(**options)


async def test_a_call_without_its_loop_says_what_to_start() -> None:
    class Other(GenServer[None]):
        pass

    async with open_runtime():
        with pytest.raises(
            NoProcess,
            match=r"asyncio_call\(double, \.\.\., loop='asyncio'\): no process has this name; "
            r"add AsyncioLoop\('asyncio'\) to the children of a supervisor or an endpoint",
        ):
            await asyncio_call(double, 1)
        with pytest.raises(NoProcess):
            AsyncioLoop().statistics()
        await Other.start(name="other")
        with pytest.raises(
            InvalidArgument, match=r"'other', which is .*; write .* running AsyncioLoop"
        ):
            await asyncio_call(double, 1, loop="other")


async def test_calls_beyond_the_limit_are_refused_counted_and_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    doors = [Door(), Door()]
    events: list[Mapping[str, Any]] = []
    loop = AsyncioLoop(max_calls=2)
    async with open_runtime() as runtime:
        runtime.telemetry.attach(TOO_MANY_CALLS, lambda _, how, about: events.append(about))
        await start(loop)
        async with trio.open_nursery() as nursery:
            for door in doors:
                nursery.start_soon(asyncio_call, door.wait)
                await door.entered.wait()
            for _ in range(3):
                with pytest.raises(
                    TooManyCalls, match="because 2 calls have no result yet"
                ) as info:
                    await asyncio_call(double, 1)
            assert (info.value.limit, info.value.may_have_run) == (2, False)
            assert loop.statistics() == {
                "calls": 2,
                "calls_accepted": 2,
                "calls_cancelled": 0,
                "calls_refused": 3,
            }
            for door in doors:
                door.open()
        assert await asyncio_call(double, 1) == 2
    assert len(events) == 3
    assert events[0]["service"] == "AsyncioLoop('asyncio')"
    assert "AsyncioLoop('asyncio') refused asyncio_call(double, ..., loop='asyncio')" in caplog.text


async def test_a_thousand_calls_at_once_are_answered_each_with_its_own_result() -> None:
    results: dict[int, int] = {}

    async def calls(number: int) -> None:
        results[number] = await asyncio_call(double, number)

    async with a_loop(), trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(calls, number)
    assert results == {number: 2 * number for number in range(1000)}


async def test_a_stop_cancels_the_calls_ends_generators_and_leaves_no_thread() -> None:
    door = Door()
    ended = []

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append("generator")

    async def keeps(generator: AsyncIterator[int]) -> None:
        await anext(generator)

    async def background() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            ended.append("background")

    async def starts() -> None:
        tasks.append(asyncio.create_task(background()))
        await asyncio.sleep(0)

    tasks: list[object] = []
    kept = generator()
    errors: list[BaseException] = []

    async def waits() -> None:
        try:
            await asyncio_call(door.wait)
        except ServerExit as error:
            errors.append(error)

    before = set(threading.enumerate())
    async with a_loop() as supervisor, trio.open_nursery() as nursery:
        [thread] = [each for each in threading.enumerate() if each not in before]
        await asyncio_call(keeps, kept)
        await asyncio_call(starts)
        nursery.start_soon(waits)
        await door.entered.wait()
        await stop(supervisor)
        assert not thread.is_alive()
    assert door.left == ["cancelled"]
    assert sorted(ended) == ["background", "generator"]
    [error] = errors
    assert str(error) == "asyncio_call(Door.wait, loop='asyncio'): the server ended with SHUTDOWN"


def stops_the_loop() -> None:
    asyncio.get_running_loop().stop()


async def raises_in_a_task(error: BaseException) -> None:
    async def fails() -> None:
        raise error

    background = asyncio.create_task(fails())
    background.add_done_callback(asyncio.Task.exception)
    await asyncio.wait([background])


async def test_the_end_of_the_thread_is_a_crash_and_the_supervisor_restarts_the_loop() -> None:
    async def stops() -> None:
        stops_the_loop()
        await asyncio.sleep(PATIENCE)

    async with a_loop():
        before = whereis("asyncio")
        assert before is not None
        first = await asyncio_call(running_loop)
        with pytest.raises(ServerExit) as info:
            await asyncio_call(stops)
        assert isinstance(info.value.reason, Crash)
        assert "Event loop stopped" in str(info.value.reason.exception)
        while whereis("asyncio") in (None, before):
            await trio.lowlevel.checkpoint()
        while True:
            try:
                assert await asyncio_call(running_loop) is not first
            except NoProcess:
                # The new process starts its thread.
                await trio.lowlevel.checkpoint()
                continue
            break


async def test_an_error_of_asyncio_in_the_loop_gets_no_advice_to_use_trio(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def misuses_a_queue() -> None:
        await asyncio.Queue.put(None, 1)  # type: ignore[arg-type]

    async def caller() -> None:
        await asyncio_call(misuses_a_queue)

    async def raises() -> None:
        asyncio.get_running_loop()

    async with a_loop():
        await wait_exit(spawn(caller))
        assert "AttributeError" in caplog.text
        assert ASYNCIO_ADVICE not in caplog.text
        await wait_exit(spawn(raises))
        assert ASYNCIO_ADVICE in caplog.text


async def test_a_killed_loop_answers_its_calls_at_once_and_its_thread_ends() -> None:
    door = Door()
    async with a_loop(), trio.open_nursery() as nursery:

        async def waits() -> None:
            with pytest.raises(ServerExit, match="ended with KILLED"):
                await asyncio_call(door.wait)

        nursery.start_soon(waits)
        await door.entered.wait()
        [thread] = await asyncio_call(current_threads)
        pid = whereis("asyncio")
        assert pid is not None
        kill(pid)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert door.left == ["cancelled"]


async def current_threads() -> list[threading.Thread]:
    return [threading.current_thread()]


async def test_a_loop_that_does_not_start_fails_the_start() -> None:
    def fails() -> NoReturn:
        raise OSError("no epoll")

    async with open_runtime():
        with pytest.raises(StartError, match="no epoll"):
            await AsyncioLoop(loop_factory=fails).start_link()


async def test_a_function_that_refuses_to_end_is_reported_when_the_supervisor_kills_the_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = threading.Event()
    entered = trio.Event()
    token = trio.lowlevel.current_trio_token()
    events: list[Mapping[str, Any]] = []

    async def blocks() -> None:
        token.run_sync_soon(entered.set)
        gate.wait(PATIENCE)

    async def waits() -> None:
        with pytest.raises(ServerExit):
            await asyncio_call(blocks)

    async with open_runtime() as runtime:
        runtime.telemetry.attach(THREADS_LEFT, lambda _, how, about: events.append(about))
        await AsyncioLoop().start_link()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits)
            await entered.wait()
            pid = whereis("asyncio")
            assert pid is not None
            nursery.start_soon(stop_quietly, pid)
            await trio.testing.wait_all_tasks_blocked()
            kill(pid)
        gate.set()
    [event] = events
    assert event["requests"] == ["asyncio_call(blocks, loop='asyncio')"]
    assert "still keep the thread busy: asyncio_call(blocks, loop='asyncio')" in caplog.text


async def stop_quietly(pid: Pid) -> None:
    try:
        await stop(pid, timeout=PATIENCE)
    except ServerExit:
        # It is killed meanwhile.
        pass


async def test_an_exit_in_the_function_is_an_exit_of_the_caller() -> None:
    async def leaves() -> NoReturn:
        exit("bye")

    async def caller() -> None:
        await asyncio_call(leaves)

    async with a_loop():
        assert await wait_exit(spawn(caller)) == "bye"
        # The thread goes on.
        assert await asyncio_call(double, 1) == 2


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_function_ends_the_program(kind: type[BaseException]) -> None:
    async def raises() -> NoReturn:
        raise kind

    async def caller() -> None:
        await asyncio_call(raises)

    async def main() -> None:
        async with a_loop():
            spawn(caller)
            await trio.sleep_forever()

    with pytest.raises(kind):
        trio.run(main)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_background_task_of_the_loop_ends_the_program(
    kind: type[BaseException],
) -> None:
    async def main() -> None:
        async with a_loop():
            with pytest.raises(ServerExit):
                await asyncio_call(raises_in_a_task, kind())
            await trio.sleep_forever()

    with pytest.raises(kind):
        trio.run(main)


def test_ctrl_c_ends_a_program_whose_main_task_waits_for_a_call() -> None:
    door = []

    async def main() -> None:
        one = Door()
        door.append(one)
        async with a_loop(), trio.open_nursery() as nursery:

            async def interrupts() -> None:
                await one.entered.wait()
                signal.raise_signal(signal.SIGINT)

            nursery.start_soon(interrupts)
            await asyncio_call(one.wait)

    with pytest.raises(BaseException) as info:
        trio.run(main)
    assert isinstance(info.value, KeyboardInterrupt) or (
        isinstance(info.value, BaseExceptionGroup)
        and info.value.subgroup(KeyboardInterrupt) is not None
    )
    assert door[0].left == ["cancelled"]


async def test_the_watchdog_names_the_call_that_blocks_the_loop_while_it_blocks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = threading.Event()
    told: list[Mapping[str, Any]] = []

    async def blocks_the_loop() -> None:
        assert seen.wait(PATIENCE)

    def note(record: logging.LogRecord) -> bool:
        if "blocks_the_loop" in record.getMessage():
            seen.set()
        return True

    async def caller() -> None:
        await asyncio_call(blocks_the_loop)

    log = logging.getLogger("actors.instrumentation.watchdog")
    log.addFilter(note)
    try:
        async with open_runtime(watchdog=0.02) as runtime:
            runtime.telemetry.attach(LOOP_BLOCKED, lambda event, how, about: told.append(about))
            await AsyncioLoop().start_link()
            pid = spawn(caller)
            await wait_exit(pid)
            await trio.testing.wait_all_tasks_blocked()
    finally:
        log.removeFilter(note)
    [about] = told
    assert about["call"] == "asyncio_call(blocks_the_loop, loop='asyncio')"
    assert about["pid"] is pid
    line = blocks_the_loop.__code__.co_firstlineno + 1
    assert (about["file"], about["line"]) == (__file__, line)
    assert (
        f"asyncio_call(blocks_the_loop, loop='asyncio') of process {about['process']} {pid!r} has let nothing else run"
        in caplog.text
    )
    assert "Write `await asyncio.sleep(seconds)` in place of time.sleep()" in caplog.text
