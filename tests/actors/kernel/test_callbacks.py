"""Instruments get an event before each callback, and can make it fail or delay it."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import (
    KILLED,
    CallExit,
    Continue,
    Crash,
    GenServer,
    Instrument,
    Pid,
    Reply,
    Runtime,
    Sender,
    ServerExit,
    StartError,
    Stop,
    as_process,
    call,
    cast,
    kill,
    receive,
    send,
    spawn,
    stop,
    trap_exits,
    wait_exit,
)
from actors.instrumentation.instrument import payload_of
from supervision import Supervisor, child_spec
from tests.actors.helpers import listen, settle


class Told(Instrument):
    """An instrument that records every callback, and calls `act`."""

    def __init__(self, act: Callable[[str, Any], Awaitable[None] | None] | None = None) -> None:
        self.callbacks: list[tuple[str, Any]] = []
        self.act = act

    def callback_started(self, pid: Pid, callback: str, message: Any) -> Awaitable[None] | None:
        self.callbacks.append((callback, message))
        return None if self.act is None else self.act(callback, message)


async def later(seconds: float) -> None:
    await trio.sleep(seconds)


class Every(GenServer[list[str]]):
    """A server that records which of its callbacks ran."""

    async def init(self, log: list[str]) -> Continue:
        trap_exits()
        self.state = log
        log.append("init")
        return Continue("first")

    async def handle_continue(self, argument: Any) -> None:
        self.state.append("handle_continue")

    async def handle_call(self, request: Any, sender: Sender) -> Reply | Stop:
        self.state.append("handle_call")
        return Stop("enough") if request == "stop" else Reply(request)

    async def handle_cast(self, message: Any) -> None:
        self.state.append("handle_cast")

    async def handle_info(self, message: Any) -> None:
        self.state.append("handle_info")

    async def terminate(self, reason: object) -> None:
        self.state.append("terminate")


CALLBACKS = ["init", "handle_continue", "handle_call", "handle_cast", "handle_info", "terminate"]


async def exercise(log: list[str]) -> Pid:
    pid = await Every.start(log)
    await call(pid, "question")
    cast(pid, "order")
    send(pid, "news")
    await settle()
    return pid


async def test_every_callback_of_a_server_is_announced_with_its_argument(
    runtime: Runtime,
) -> None:
    told, log = Told(), list[str]()
    runtime.add_instrument(told)
    pid = await exercise(log)
    await stop(pid, "done")
    assert told.callbacks == [
        ("init", (log,)),
        ("handle_continue", "first"),
        ("handle_call", "question"),
        ("handle_cast", "order"),
        ("handle_info", "news"),
        ("terminate", "done"),
    ]
    assert log == CALLBACKS


async def test_the_start_and_each_receive_of_a_plain_process_are_announced(
    runtime: Runtime,
) -> None:
    told = Told()
    runtime.add_instrument(told)
    heard: list[Any] = []
    pid = spawn(listen, heard)
    send(pid, "hello")
    await settle()
    assert told.callbacks == [("run", (heard,)), ("receive", "hello")]


async def test_an_error_of_an_instrument_counts_as_an_error_of_the_callback(
    runtime: Runtime,
) -> None:
    def fail(callback: str, message: Any) -> None:
        if callback == "handle_cast":
            raise LookupError(callback)

    told, log = Told(fail), list[str]()
    runtime.add_instrument(told)
    pid = await exercise(log)
    await wait_exit(pid)
    assert "handle_cast" not in log
    assert log[-1] == "terminate"
    assert told.callbacks[-1] == ("terminate", Crash(LookupError("handle_cast")))


@pytest.mark.parametrize("callback", CALLBACKS)
async def test_an_instrument_can_fail_every_callback_of_a_server(
    runtime: Runtime, callback: str
) -> None:
    error = LookupError(callback)

    def fail(started: str, message: Any) -> None:
        if started == callback:
            raise error

    runtime.add_instrument(Told(fail))
    log: list[str] = []
    ends: list[object] = []

    class Ends(Instrument):
        def process_exited(self, pid: Pid, reason: object) -> None:
            ends.append(reason)

    runtime.add_instrument(Ends())
    try:
        pid = await exercise(log)
        if callback == "terminate":
            with pytest.raises(ServerExit):
                await stop(pid, "done")
    except (StartError, ServerExit) as failure:
        ends.append(failure.reason)
    await settle()
    assert set(ends) == {Crash(error)}
    assert callback not in log
    assert ("terminate" in log) == (callback not in ("init", "terminate"))


async def test_an_instrument_can_fail_the_start_or_a_receive_of_a_plain_process(
    runtime: Runtime,
) -> None:
    def fail(callback: str, message: Any) -> None:
        if callback == failing:
            raise LookupError(callback)

    runtime.add_instrument(Told(fail))
    for failing in ("run", "receive"):
        heard: list[Any] = []
        pid = spawn(listen, heard)
        send(pid, "hello")
        assert await wait_exit(pid) == Crash(LookupError(failing))
        assert heard == []


async def test_an_awaitable_of_an_instrument_is_awaited_before_the_callback(
    runtime: Runtime, autojump_clock: MockClock
) -> None:
    runtime.add_instrument(Told(lambda callback, message: later(1)))
    log: list[str] = []
    began = trio.current_time()
    pid = await Every.start(log)
    assert trio.current_time() == began + 1
    assert await call(pid, "question") == "question"
    # The continue and the call were delayed too.
    assert trio.current_time() == began + 3
    await stop(pid)
    assert trio.current_time() == began + 4
    heard: list[Any] = []
    send(spawn(listen, heard), "hello")
    await trio.sleep(1.5)
    assert heard == []
    await trio.sleep(1)
    assert heard == ["hello"]


async def test_every_instrument_sees_a_callback_that_another_one_delays(
    runtime: Runtime, autojump_clock: MockClock
) -> None:
    first, second = Told(lambda *_: later(1)), Told(lambda *_: later(2))
    third = Told()
    for each in (first, second, third):
        runtime.add_instrument(each)
    began = trio.current_time()
    await Every.start([])
    assert trio.current_time() == began + 3
    assert first.callbacks[0] == second.callbacks[0] == third.callbacks[0]
    assert [callback for callback, _ in third.callbacks] == ["init"]


async def test_a_process_that_is_killed_during_a_delay_does_not_run_the_callback(
    runtime: Runtime, autojump_clock: MockClock
) -> None:
    runtime.add_instrument(
        Told(lambda callback, _: later(9) if callback == "handle_cast" else None)
    )
    log: list[str] = []
    pid = await exercise(log)
    kill(pid)
    assert await wait_exit(pid) is KILLED
    assert "handle_cast" not in log
    assert "terminate" not in log


@pytest.mark.parametrize("callback", CALLBACKS)
async def test_an_instrument_that_kills_keeps_the_callback_from_running(
    runtime: Runtime, callback: str
) -> None:
    class Assassin(Instrument):
        def callback_started(self, pid: Pid, started: str, message: Any) -> None:
            if started == callback:
                kill(pid)

    runtime.add_instrument(Assassin())
    log: list[str] = []
    ends: list[object] = []

    class Ends(Instrument):
        def process_exited(self, pid: Pid, reason: object) -> None:
            ends.append(reason)

    runtime.add_instrument(Ends())
    with suppress(StartError, CallExit):
        pid = await exercise(log)
        await stop(pid, "done")
    await settle()
    assert ends == [KILLED]
    assert callback not in log


async def test_the_callbacks_of_supervisors_are_announced(runtime: Runtime) -> None:
    told = Told()
    runtime.add_instrument(told)
    top = await Supervisor.start_link([child_spec(Every, args=([],))])
    await Supervisor.which_children(top)
    callbacks = [callback for callback, _ in told.callbacks]
    assert callbacks == ["init", "init", "handle_continue", "handle_call"]
    assert "receive" not in callbacks


async def test_an_adopted_task_is_announced_when_it_takes_a_message(runtime: Runtime) -> None:
    told = Told()
    runtime.add_instrument(told)
    async with as_process() as me:
        send(me, "hello")
        assert await receive() == "hello"
    assert told.callbacks == [("receive", "hello")]


async def test_payload_of_takes_calls_and_casts_out_of_their_envelopes(runtime: Runtime) -> None:
    class Sent(Instrument):
        def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
            payloads.append(payload_of(message))

    payloads: list[Any] = []
    runtime.add_instrument(Sent())
    await exercise([])
    assert payloads == ["question", "order", "news"]
