"""State machines: start, answers, end, and errors about mistakes."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio

from actors import (
    NORMAL,
    SHUTDOWN,
    CallEvent,
    CastEvent,
    Crash,
    EnterEvent,
    Fail,
    Ignore,
    InfoEvent,
    InvalidCallback,
    InvalidReturn,
    KeepState,
    NextState,
    Pid,
    Reply,
    Sender,
    ServerExit,
    StartError,
    StartIgnored,
    StateEvent,
    StateMachine,
    StateResult,
    Stop,
    call,
    cast,
    current_pid,
    current_runtime,
    exit,
    is_alive,
    monitor,
    receive,
    reply,
    send,
    send_exit,
    spawn,
    spawn_monitor,
    stop,
    trap_exits,
)
from tests.actors.helpers import down, in_process, settle
from tests.actors.machines import Answer, Script, entered, events, go


@in_process()
async def test_a_call_is_answered_by_the_result_or_later() -> None:
    senders: list[Sender] = []

    def answer(machine: Script, event: StateEvent) -> StateResult:
        match event:
            case CallEvent("now"):
                return machine.other(reply="answer")
            case CallEvent("later", sender):
                senders.append(sender)
            case CastEvent("answer"):
                reply(senders.pop(), "late answer")
        return KeepState()

    pid = await Script.start_link(answer)
    assert await call(pid, "now") == "answer"
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await call(pid, "later") == "late answer"

        nursery.start_soon(ask)
        await settle()
        cast(pid, "answer")


class Ending(StateMachine):
    async def begin(self, test: Pid) -> NextState:
        self.test = test
        trap_exits()
        return NextState(self.only)

    async def only(self, event: StateEvent) -> StateResult:
        match event:
            case CallEvent("stop"):
                return Stop("enough", reply="stopping")
            case CastEvent("stop"):
                return Stop()
            case CastEvent("crash"):
                raise KeyError("asked to")
        return None

    async def terminate(self, reason: object) -> None:
        await trio.sleep(1)
        send(self.test, (self.state, reason))


@in_process()
async def test_the_reply_of_a_stop_comes_before_terminate() -> None:
    pid = await Ending.start(current_pid())
    ref = monitor(pid)
    start = trio.current_time()
    assert await call(pid, "stop") == "stopping"
    assert trio.current_time() == start
    assert (await down(ref)).reason == "enough"
    assert trio.current_time() == start + 1


@in_process()
async def test_a_machine_ends_like_a_server() -> None:
    stopped, crashed = await Ending.start(current_pid()), await Ending.start(current_pid())
    ref = monitor(stopped)
    cast(stopped, "stop")
    assert await receive() == ("only", NORMAL)
    assert (await down(ref)).reason is NORMAL
    ref = monitor(crashed)
    cast(crashed, "crash")
    assert await receive() == ("only", Crash(KeyError("asked to")))
    assert (await down(ref)).reason == Crash(KeyError("asked to"))


@in_process()
async def test_an_exit_of_another_process_than_the_parent_is_an_event() -> None:
    pid = await Ending.start(current_pid())
    send_exit(pid, SHUTDOWN)
    await settle()
    assert is_alive(pid)
    await stop(pid, SHUTDOWN)
    assert await receive() == ("only", SHUTDOWN)


@in_process()
async def test_the_end_of_the_parent_is_not_an_event() -> None:
    test = current_pid()

    async def parent() -> None:
        await Ending.start_link(test)
        exit("leaving")

    spawn(parent)
    assert await receive() == ("only", "leaving")


@in_process()
async def test_a_failure_shows_the_state_in_which_it_happened() -> None:
    seen: list[str] = []

    class Failing(Script):
        async def terminate(self, reason: object) -> None:
            seen.append(self.state)

    def answer(machine: Script, event: StateEvent) -> StateResult:
        if machine.state == "two" and event == CastEvent("later"):
            raise KeyError("asked to")
        return go(machine, event)

    pid = await Failing.start(answer)
    ref = monitor(pid)
    cast(pid, "later")
    cast(pid, "go")
    assert (await down(ref)).reason == Crash(KeyError("asked to"))
    assert seen == ["two"]


# Beginning


class Beginner(StateMachine):
    async def begin(self, result: Any) -> Any:
        return result(self)

    async def first(self, event: StateEvent) -> StateResult:
        return None

    def plain(self, event: StateEvent) -> StateResult:
        return None


@in_process()
async def test_a_machine_may_decline_to_begin() -> None:
    with pytest.raises(StartIgnored):
        await Beginner.start_link(lambda machine: Ignore())
    with pytest.raises(StartError) as failed:
        await Beginner.start_link(lambda machine: Fail("no room"))
    assert failed.value.reason == "no room"
    with pytest.raises(StartError) as stopped:
        await Beginner.start(lambda machine: Stop("no room"))
    assert stopped.value.reason == "no room"


def going_to(state: Callable[[Any], Any], machine: Beginner) -> NextState:
    return NextState(state(machine))


async def crash_of_start(result: Callable[[Any], Any]) -> BaseException:
    with pytest.raises(StartError) as caught:
        await Beginner.start(result)
    reason = caught.value.reason
    assert isinstance(reason, Crash)
    return reason.exception


@pytest.mark.parametrize(
    "result",
    [
        lambda machine: None,
        lambda machine: KeepState(),
        lambda machine: NextState(machine.first, postpone=True),
        lambda machine: NextState(machine.first, reply=1),
        lambda machine: Reply(),
    ],
)
@in_process()
async def test_an_invalid_result_of_begin_raises_an_error_with_the_valid_ones(
    result: Callable[[Any], Any],
) -> None:
    error = await crash_of_start(result)
    assert isinstance(error, InvalidReturn)
    assert "Beginner.begin returned" in str(error)
    assert "it may return NextState(self.a_state), Ignore(), Fail(reason)" in str(error)


@in_process()
async def test_a_state_is_an_async_method_of_the_machine_itself() -> None:
    wrong: list[Callable[[Any], Any]] = [
        lambda machine: Beginner.first,
        lambda machine: "first",
        lambda machine: Beginner().first,
    ]
    for state in wrong:
        error = await crash_of_start(partial(going_to, state))
        assert isinstance(error, InvalidReturn)
        assert "NextState(self.a_state), a method of the machine" in str(error)
    error = await crash_of_start(lambda machine: NextState(machine.plain))
    assert isinstance(error, InvalidCallback)
    assert "Beginner.plain is not async" in str(error)


@in_process()
async def test_a_machine_without_begin_raises_an_error_with_advice() -> None:
    with pytest.raises(StartError, match=r"StateMachine has no begin; add one"):
        await StateMachine.start()


# Mistakes of states


def returning(event: StateEvent, result: Any) -> Answer:
    def answer(machine: Script, happened: StateEvent) -> StateResult:
        wrong: StateResult = result(machine) if callable(result) else result
        return wrong if happened == event else KeepState()

    return answer


async def crash_of(answer: Answer, message: Any) -> BaseException:
    pid = await Script.start(answer)
    ref = monitor(pid)
    cast(pid, message)
    reason = (await down(ref)).reason
    assert isinstance(reason, Crash)
    return reason.exception


@pytest.mark.parametrize("result", [42, Reply(1), "two", ("next_state", "two")])
@in_process()
async def test_an_invalid_result_of_a_state_raises_an_error_with_the_valid_ones(
    result: Any,
) -> None:
    error = await crash_of(returning(CastEvent("x"), result), "x")
    assert isinstance(error, InvalidReturn)
    assert error.got == result
    assert str(error).startswith("Script.one returned")
    assert "it may return KeepState(), NextState(self.a_state), Stop(reason), None" in str(error)


@pytest.mark.parametrize(
    "result", [lambda machine: machine.other(), KeepState(postpone=True)], ids=["next", "postpone"]
)
@in_process()
async def test_an_enter_event_cannot_change_the_state_or_be_postponed(result: Any) -> None:
    def answer(machine: Script, event: StateEvent) -> StateResult:
        if event == EnterEvent("one"):
            wrong: StateResult = result(machine) if callable(result) else result
            return wrong
        return go(machine, event)

    error = await crash_of(answer, "go")
    assert isinstance(error, InvalidReturn)
    assert "Script.two returned" in str(error)
    assert "it may return KeepState() without postpone" in str(error)


@in_process()
async def test_a_reply_to_an_event_that_is_not_a_call_is_refused() -> None:
    error = await crash_of(returning(CastEvent("x"), KeepState(reply=1)), "x")
    assert isinstance(error, InvalidReturn)
    assert "only a CallEvent can have a reply, so remove `reply=`" in str(error)


@in_process()
async def test_an_unhandled_call_cast_or_timeout_is_a_crash() -> None:
    pid = await Script.start(lambda machine, event: None)
    with pytest.raises(ServerExit, match=r"Script\.one returned None for CallEvent.*add a case"):
        await call(pid, "what?")
    error = await crash_of(lambda machine, event: None, "what?")
    assert "Script.one returned None for CastEvent(message='what?')" in str(error)

    def set_timeout(machine: Script, event: StateEvent) -> StateResult:
        return KeepState(state_timeout=1) if isinstance(event, CastEvent) else None

    error = await crash_of(set_timeout, "set")
    assert "Script.one returned None for StateTimeout()" in str(error)


@in_process()
async def test_an_unhandled_info_event_is_reported_and_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unhandled: list[Any] = []
    current_runtime().telemetry.attach(
        ("actors", "server", "unhandled_info"),
        lambda event, measurements, metadata: unhandled.append(metadata["message"]),
    )
    pid = await Script.start_link(
        lambda machine, event: None if isinstance(event, InfoEvent) else KeepState()
    )
    for message in ("what?", None):
        send(pid, message)
    assert await events(pid) == [("one", entered(None)), ("one", "what?"), ("one", None)]
    assert unhandled == ["what?", None]
    assert caplog.records == [] or caplog.records[0].levelno < logging.ERROR


@in_process()
async def test_a_machine_traps_exits_and_monitors_like_any_process() -> None:
    def answer(machine: Script, event: StateEvent) -> StateResult:
        if event == CastEvent("watch"):
            machine.events.append(("ref", spawn_monitor(trio.sleep, 1)[1]))
        return KeepState()

    pid = await Script.start_link(answer)
    cast(pid, "watch")
    await trio.sleep(2)
    noted = await events(pid)
    assert noted[-1][1].ref == noted[-2][1]
