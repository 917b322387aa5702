"""Return values of a server's callbacks, and their effects for callers."""

import functools
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    CallExit,
    CallTimeout,
    Continue,
    Crash,
    Exit,
    GenServer,
    InvalidReturn,
    NoProcess,
    NoReply,
    Pid,
    ProcessKilled,
    Reply,
    Runtime,
    RuntimeClosed,
    Sender,
    ServerExit,
    Stop,
    Timeout,
    Within,
    call,
    cast,
    current_pid,
    current_runtime,
    exit,
    is_alive,
    kill,
    link,
    monitor,
    open_runtime,
    receive,
    reply,
    send,
    send_exit,
    spawn,
    spawn_link,
    spawn_monitor,
    stop,
    trap_exits,
    wait_exit,
)
from actors._kernel import thread_queue
from actors.servers.gen_server import PendingCall, move_to_back, pending_call
from actors.threads import run_threadsafe
from tests.actors.helpers import (
    dead_process,
    down,
    idle,
    in_process,
    nothing_arrives,
    reason_of,
    settle,
)


class Doing(GenServer[Any]):
    """A server whose messages are functions of the server. Their results are the results of the callbacks."""

    async def init(self, first: Any = None, *, trap: bool = False) -> Any:
        trap_exits(trap)
        self.diary: list[Any] = []
        self.state = 0
        return first

    async def handle_call(self, request: Any, sender: Sender) -> Any:
        return await self.do(request, sender)

    async def handle_cast(self, message: Any) -> Any:
        return await self.do(message)

    async def handle_info(self, message: Any) -> Any:
        return await self.do(message)

    async def handle_continue(self, argument: Any) -> Any:
        return await self.do(argument)

    async def do(self, what: Any, *args: Any) -> Any:
        if not callable(what):
            self.diary.append(what)
            return None
        result = what(self, *args)
        return await result if hasattr(result, "__await__") else result


async def diary(server: Pid) -> Any:
    return await call(server, lambda self, _: Reply(list(self.diary)))


# Results


@in_process()
async def test_every_start_makes_a_new_instance() -> None:
    first, second = await Doing.start(), await Doing.start()
    send(first, "of the first")
    assert await diary(first) == ["of the first"]
    assert await diary(second) == []


@in_process()
async def test_a_server_without_state_or_init_works() -> None:
    class Bare(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> Reply:
            return Reply((request, self.state))

    assert await call(await Bare.start(), 1) == (1, None)


def then_note(self: Doing, *_: Any) -> None:
    self.diary.append("continued")


@pytest.mark.parametrize("how", [call, cast, send])
@in_process()
async def test_a_continue_runs_before_waiting_messages(how: Callable[..., Any]) -> None:
    pid = await Doing.start()

    def act(self: Doing, sender: Sender | None = None) -> Any:
        send(current_pid(), "waiting")
        then = Continue(then_note)
        return Reply("answer", then=then) if sender is not None else NoReply(then=then)

    if how is call:
        assert await call(pid, act) == "answer"
    else:
        how(pid, act)
    await settle()
    assert await diary(pid) == ["continued", "waiting"]


@in_process()
async def test_a_continue_may_return_another_continue_or_any_other_result() -> None:
    pid = await Doing.start()
    ref = monitor(pid)

    def first(self: Doing) -> Continue:
        return Continue(second)

    def second(self: Doing) -> Continue:
        return Continue(lambda self: Stop("in the end"))

    cast(pid, first)
    assert (await down(ref)).reason == "in the end"


@pytest.mark.parametrize("how", [call, cast, send])
@in_process()
async def test_within_gives_one_timeout_and_any_message_cancels_it(how: Callable[..., Any]) -> None:
    pid = await Doing.start()

    def wait(self: Doing, sender: Sender | None = None) -> Any:
        then = Within(2)
        return Reply(None, then=then) if sender is not None else then

    result = how(pid, wait)
    if how is call:
        await result
    await trio.sleep(1.9)
    assert await diary(pid) == []  # this message cancelled the timeout
    await trio.sleep(10)
    assert await diary(pid) == []
    cast(pid, wait)
    await trio.sleep(2.1)
    assert await diary(pid) == [Timeout()]
    await trio.sleep(10)
    assert await diary(pid) == [Timeout()]
    assert current_runtime().statistics()["timers"] == 0


@pytest.mark.parametrize("how", [call, cast, send])
@in_process()
async def test_a_stop_ends_the_server_with_its_reason(how: Callable[..., Any]) -> None:
    pid = await Doing.start()
    ref = monitor(pid)

    def end(*_: Any) -> Stop:
        return Stop("the end")

    if how is call:
        with pytest.raises(ServerExit) as caught:
            await call(pid, end)
        assert caught.value.reason == "the end"
    else:
        how(pid, end)
    assert (await down(ref)).reason == "the end"


@pytest.mark.parametrize(
    ("how", "wrong", "callback"),
    [
        (call, "junk", "handle_call"),
        (call, None, "handle_call"),
        (call, Within(1), "handle_call"),
        (cast, "junk", "handle_cast"),
        (cast, Reply(1), "handle_cast"),
        (send, "junk", "handle_info"),
        (cast, NoReply(then="junk"), "handle_cast"),  # type: ignore[arg-type]
        (cast, Continue(lambda self: "junk"), "handle_continue"),
    ],
    ids=str,
)
@in_process()
async def test_an_invalid_result_is_a_crash_that_lists_the_valid_ones(
    how: Callable[..., Any], wrong: Any, callback: str
) -> None:
    pid = await Doing.start()
    ref = monitor(pid)
    if how is call:
        with pytest.raises(ServerExit):
            await call(pid, lambda *_: wrong)
    else:
        how(pid, lambda *_: wrong)
    reason = (await down(ref)).reason
    assert isinstance(reason, Crash)
    assert isinstance(reason.exception, InvalidReturn)
    assert reason.exception.callback == f"Doing.{callback}"
    assert "it may return" in str(reason.exception)


@pytest.mark.parametrize("how", [call, cast])
@in_process()
async def test_a_missing_callback_is_a_crash_with_advice(how: Callable[..., Any]) -> None:
    class Bare(GenServer[None]):
        pass

    pid = await Bare.start()
    ref = monitor(pid)
    if how is call:
        with pytest.raises(
            ServerExit, match="Bare received the call 'hello' but has no handle_call"
        ):
            await call(pid, "hello")
    else:
        cast(pid, "hello")
    reason = (await down(ref)).reason
    assert isinstance(reason, Crash)
    assert isinstance(reason.exception, NotImplementedError)


@in_process()
async def test_an_unhandled_message_is_an_event_and_not_a_crash() -> None:
    class Bare(GenServer[None]):
        pass

    seen: list[Any] = []
    current_runtime().telemetry.attach(
        ("actors", "server", "unhandled_info"), lambda *event: seen.append(event[2])
    )
    pid = await Bare.start()
    send(pid, "hello")
    await settle()
    assert is_alive(pid)
    assert seen == [{"server": "Bare", "message": "hello"}]


@in_process()
async def test_a_message_of_an_unhashable_class_goes_to_handle_info() -> None:
    class Unhashable(type):
        def __eq__(cls, other: object) -> bool:
            return cls is other

        __hash__ = None  # type: ignore[assignment]  # Python sets it too, because of __eq__

    class Message(metaclass=Unhashable):
        pass

    message = Message()
    pid = await Doing.start()
    send(pid, message)
    assert await diary(pid) == [message]


# Terminate


class Tidy(Doing):
    """A server that reports its reason in `terminate`, slowly."""

    async def init(self, told: list[Any], trap: bool = False) -> None:  # type: ignore[override]
        await super().init(trap=trap)
        self.told = told

    async def terminate(self, reason: Any) -> None:
        self.told.append(reason)
        await trio.sleep(1)
        self.told.append("tidied")


@pytest.mark.parametrize("trap", [False, True])
@in_process()
async def test_a_killed_server_does_not_terminate(trap: bool) -> None:
    told: list[Any] = []
    pid = await Tidy.start(told, trap)
    ref = monitor(pid)
    kill(pid)
    assert (await down(ref)).reason is KILLED
    assert told == []


@in_process()
async def test_a_kill_interrupts_terminate_and_no_answer_is_sent() -> None:
    told: list[Any] = []
    pid = await Tidy.start(told)
    got: list[Any] = []

    async def caller() -> None:
        try:
            got.append(await call(pid, lambda *_: Stop("end", reply="answer")))
        except ServerExit as error:
            got.append(error.reason)

    spawn_link(caller)
    await trio.sleep(0.5)
    kill(pid)
    await settle()
    assert got == [KILLED]
    assert told == ["end"]


@pytest.mark.parametrize("moment", ["before", "after"])
@in_process()
async def test_a_kill_wins_over_a_callback_that_returns_stop(moment: str) -> None:
    told: list[Any] = []
    pid = await Tidy.start(told)
    ref = monitor(pid)
    event = trio.Event()

    async def decide(self: Tidy) -> Stop:
        await event.wait()
        if moment == "after":
            raise ValueError("in the same moment")
        return Stop("decided")

    cast(pid, decide)
    await settle()
    event.set()
    kill(pid)
    assert (await down(ref)).reason is KILLED
    assert told == []


@in_process()
async def test_an_error_during_a_kill_starts_no_terminate() -> None:
    told: list[Any] = []
    pid = await Tidy.start(told)
    ref = monitor(pid)

    async def clumsy(self: Tidy) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("while unwinding")

    cast(pid, clumsy)
    await settle()
    send_exit(pid, "signal")
    assert (await down(ref)).reason == "signal"
    assert told == []


@in_process()
async def test_a_server_that_does_not_trap_ends_without_terminate_after_its_own_signal() -> None:
    told: list[Any] = []
    pid = await Tidy.start(told)
    ref = monitor(pid)
    cast(pid, lambda self: send_exit(current_pid(), "itself"))
    assert (await down(ref)).reason == "itself"
    assert told == []


@pytest.mark.parametrize("error", [ValueError(1), ExceptionGroup("g", [ValueError(1)])], ids=repr)
@in_process()
async def test_terminate_gets_the_exit_reason(error: Exception) -> None:
    told: list[Any] = []
    pid = await Tidy.start(told)
    ref = monitor(pid)

    async def fail(self: Tidy) -> None:
        raise error

    cast(pid, fail)
    reason = (await down(ref)).reason
    assert reason == Crash(ValueError(1))
    assert told == [reason, "tidied"]


@in_process()
async def test_an_exit_in_terminate_replaces_the_reason() -> None:
    class Stubborn(Doing):
        async def terminate(self, reason: Any) -> None:
            exit("terminate's")

    pid = await Stubborn.start()
    ref = monitor(pid)
    cast(pid, lambda self: Stop("stop's"))
    assert (await down(ref)).reason == "terminate's"


@in_process()
async def test_the_end_of_a_parent_that_has_ended_normally_stops_a_trapping_server() -> None:
    told: list[Any] = []
    server: list[Pid] = []

    async def parent() -> None:
        server.append(await Tidy.start_link(told, True))
        server.append(await Tidy.start_link(told, False))

    await reason_of(spawn(parent))
    await trio.sleep(2)
    assert [is_alive(pid) for pid in server] == [False, True]
    assert told == [NORMAL, "tidied"]


@in_process()
async def test_the_crash_of_a_linked_process_is_a_message_for_a_trapping_server() -> None:
    pid = await Doing.start(trap=True)

    async def stranger() -> None:
        link(pid)
        raise ValueError(1)

    other, ref = spawn_monitor(stranger)
    await down(ref)
    assert await diary(pid) == [Exit(other, Crash(ValueError(1)))]


# Calls


@pytest.mark.parametrize("in_a_process", [False, True])
async def test_calls_work_in_any_task(runtime: Runtime, in_a_process: bool) -> None:
    pid = await Doing.start()

    async def calls() -> None:
        assert await call(pid, lambda *_: Reply("answer")) == "answer"
        with pytest.raises(CallTimeout):
            await call(pid, lambda *_: NoReply(), timeout=1)
        with pytest.raises(ServerExit):
            await call(pid, lambda *_: Stop())
        with pytest.raises(NoProcess):
            await call(pid, "?")

    if in_a_process:
        assert await wait_exit(spawn(calls)) is NORMAL
    else:
        await calls()
    assert runtime.statistics()["timers"] == 0


@in_process()
async def test_each_of_many_callers_gets_its_own_answer_in_any_order() -> None:
    waiting: list[tuple[int, Sender]] = []
    got: dict[int, Any] = {}

    class Later(GenServer[None]):
        async def handle_call(self, request: int, sender: Sender) -> NoReply:
            waiting.append((request, sender))
            return NoReply()

    pid = await Later.start()

    async def caller(number: int) -> None:
        got[number] = await call(pid, number, timeout=math.inf)

    for number in range(50):
        spawn_link(caller, number)
    await settle()
    for number, sender in sorted(waiting, key=lambda each: each[0] * 7 % 50):
        assert sender.pid is not None
        assert reply(sender, number * 2)
    await settle()
    assert got == {number: number * 2 for number in range(50)}


@in_process()
async def test_helper_tasks_call_at_the_same_time() -> None:
    pid = await Doing.start()
    got: list[Any] = []

    async def helper(number: int) -> None:
        got.append(await call(pid, lambda *_: Reply(number)))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(helper, number)
    assert sorted(got) == list(range(10))


@in_process()
async def test_a_default_call_waits_five_seconds() -> None:
    pid = await Doing.start()
    began = trio.current_time()
    with pytest.raises(CallTimeout) as refused:
        await call(pid, lambda *_: NoReply())
    assert refused.value.timeout == 5
    assert trio.current_time() == pytest.approx(began + 5)


@in_process()
async def test_an_uncaught_call_error_crashes_the_caller_with_a_readable_reason() -> None:
    dead = await dead_process()
    reason = await reason_of(spawn(functools.partial(call, dead, "?")))
    assert isinstance(reason, Crash)
    assert isinstance(reason.exception, CallExit)
    assert str(reason) == f"NoProcess: call({dead!r}, '?'): this process has ended"


@in_process()
async def test_a_call_to_a_killed_server_raises_server_exit() -> None:
    pid = await Doing.start()
    kill(pid)
    with pytest.raises(ServerExit) as caught:
        await call(pid, "?")
    assert caught.value.reason is KILLED


@in_process()
async def test_a_killed_process_cannot_call() -> None:
    asked: list[Any] = []
    pid = await Doing.start()

    async def caller() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                try:
                    asked.append(await call(pid, lambda *_: Reply("answer")))
                except ProcessKilled:
                    asked.append("killed")
                    raise

    victim, ref = spawn_monitor(caller)
    await settle()
    kill(victim)
    await down(ref)
    assert asked == ["killed"]


@in_process()
async def test_an_answer_from_another_process_after_the_server_ended_is_dropped() -> None:
    waiting: list[Sender] = []

    def keep(_: Doing, sender: Sender) -> Stop:
        waiting.append(sender)
        return Stop()

    pid = await Doing.start()
    with pytest.raises(ServerExit):
        await call(pid, keep)
    assert reply(waiting[0], "late") is False
    await nothing_arrives(1)


@pytest.mark.parametrize("gives_up", ["timeout", "cancelled"])
async def test_an_answer_after_its_caller_has_given_up_is_counted_once_and_emits_an_event(
    runtime: Runtime, gives_up: str
) -> None:
    events: list[tuple[Any, Any]] = []
    runtime.telemetry.attach(
        ("actors", "call", "late_answer"),
        lambda _, measured, about: events.append((measured, about)),
    )
    waiting: list[Sender] = []

    async def hold(server: Any, sender: Sender) -> NoReply:
        waiting.append(sender)
        return NoReply()

    server = await Doing.start()
    with trio.move_on_after(1.0 if gives_up == "cancelled" else 60.0):
        try:
            await call(server, hold, timeout=1.0 if gives_up == "timeout" else 60.0)
        except CallTimeout:
            pass
    assert runtime.statistics()["late_answers"] == 0
    await trio.sleep(2)
    assert reply(waiting[0], "late") is False
    assert reply(waiting[0], "again") is False
    assert runtime.statistics()["late_answers"] == 1
    ((measured, about),) = events
    assert measured == {"seconds": pytest.approx(2.0)}
    assert (about["server"], about["caller"], about["how"]) == (server, None, gives_up)


async def test_a_second_answer_in_time_is_not_a_late_answer(runtime: Runtime) -> None:
    async def twice(server: Any, sender: Sender) -> NoReply:
        assert reply(sender, 1) is True
        assert reply(sender, 2) is False
        return NoReply()

    assert await call(await Doing.start(), twice) == 1
    assert runtime.statistics()["late_answers"] == 0


async def test_a_late_answer_from_a_thread_counts_too(runtime: Runtime) -> None:
    waiting: list[Sender] = []

    async def hold(server: Any, sender: Sender) -> NoReply:
        waiting.append(sender)
        return NoReply()

    with pytest.raises(CallTimeout):
        await call(await Doing.start(), hold, timeout=0.01)
    answered: list[bool] = []
    thread = threading.Thread(target=lambda: answered.append(reply(waiting[0], "late")))
    thread.start()
    thread.join()
    await settle()
    assert answered == [False]
    assert runtime.statistics()["late_answers"] == 1


async def hold_back(waiting: list[Sender], server: Any, sender: Sender) -> NoReply:
    waiting.append(sender)
    return NoReply()


async def a_call_that_timed_out() -> Sender:
    waiting: list[Sender] = []
    with pytest.raises(CallTimeout):
        await call(await Doing.start(), functools.partial(hold_back, waiting), timeout=0.01)
    return waiting[0]


def reply_in_a_thread(sender: Sender) -> tuple[threading.Thread, list[object]]:
    """Answer in another thread. The list gets the result or the error of `reply`."""
    results: list[object] = []

    def work() -> None:
        try:
            results.append(reply(sender, "late"))
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, results


def fill_thread_queue(runtime: Runtime) -> None:
    """Fill a queue with room for one call. It stays full until the caller lets Trio run."""
    thread = threading.Thread(target=run_threadsafe, args=(runtime, str))
    thread.start()
    thread.join()


async def test_a_late_answer_from_a_thread_does_not_raise_after_the_runtime_has_ended() -> None:
    async with open_runtime():
        sender = await a_call_that_timed_out()
    thread, results = reply_in_a_thread(sender)
    thread.join()
    assert results == [False]


async def test_a_late_answer_from_a_thread_does_not_wait_for_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # If `reply` does wait, the test fails sooner.
    monkeypatch.setattr(thread_queue, "MAX_WAIT", 0.01)
    async with open_runtime(max_thread_calls=1) as runtime:
        sender = await a_call_that_timed_out()
        fill_thread_queue(runtime)
        thread, results = reply_in_a_thread(sender)
        thread.join()
        assert results == [False]
        statistics = runtime.statistics()
        assert (statistics["thread_calls_delayed"], statistics["late_answers"]) == (0, 0)


def hold_up_trio_until_a_thread_waits(runtime: Runtime) -> None:
    while runtime.statistics()["thread_calls_delayed"] == 0:
        time.sleep(0)  # lets the other thread run


@pytest.mark.parametrize("given_up", [True, False])
async def test_an_answer_that_waits_in_vain_raises_only_if_its_call_has_not_ended(
    given_up: bool,
) -> None:
    waiting: list[Sender] = []

    async def ask(server: Pid) -> None:
        with suppress(CallTimeout):
            await call(server, functools.partial(hold_back, waiting), timeout=math.inf)

    async with open_runtime(max_thread_calls=1) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(ask, await Doing.start())
        await settle()
        fill_thread_queue(runtime)
        thread, results = reply_in_a_thread(waiting[0])
        hold_up_trio_until_a_thread_waits(runtime)
        if given_up:
            waiting[0].expire()
        runtime.from_threads.close()
        thread.join()
        (result,) = results
        assert result is False if given_up else isinstance(result, RuntimeClosed)
        nursery.cancel_scope.cancel()


@in_process()
async def test_a_cast_to_a_dead_or_unknown_server_is_not_an_error() -> None:
    cast(await dead_process(), "hello")
    cast("nobody", "hello")
    assert current_runtime().statistics()["dead_letters"] == 2


@in_process()
async def test_the_envelopes_of_calls_and_casts_have_a_readable_repr() -> None:
    me = current_pid()

    async def caller() -> None:
        await call(me, "question", timeout=1)

    spawn(caller)
    assert "call 'question' from <pid" in repr(await receive(timeout=0.5))
    spawn(functools.partial(_cast_to, me))
    assert repr(await receive(timeout=0.5)) == "cast 'order'"


async def _cast_to(pid: Pid) -> None:
    cast(pid, "order")


# Stop


@in_process()
async def test_stop_raises_if_the_server_ends_with_another_reason() -> None:
    pid = await Doing.start()
    await stop(pid, SHUTDOWN)
    assert not is_alive(pid)

    class Other(Doing):
        async def terminate(self, reason: Any) -> None:
            exit("another reason")

    pid = await Other.start()
    with pytest.raises(ServerExit) as caught:
        await stop(pid, SHUTDOWN)
    assert (caught.value.reason, caught.value.request) == ("another reason", "stop")


@in_process()
async def test_stop_waits_behind_earlier_messages() -> None:
    pid = await Doing.start()
    ref = monitor(pid)
    done: list[int] = []

    async def work(self: Doing) -> None:
        await trio.sleep(1)
        done.append(1)

    for _ in range(3):
        cast(pid, work)
    began = trio.current_time()
    await stop(pid)
    assert done == [1, 1, 1]
    assert trio.current_time() == pytest.approx(began + 3)
    assert (await down(ref)).reason is NORMAL


@in_process()
async def test_two_stops_at_once_both_return_after_the_end() -> None:
    pid = await Doing.start()
    ended: list[Any] = []

    async def stopper(reason: str) -> None:
        try:
            await stop(pid, reason)
            ended.append("as asked")
        except ServerExit as error:
            ended.append(error.reason)

    spawn_link(stopper, "a")
    spawn_link(stopper, "a")
    spawn_link(idle)
    await settle()
    assert ended == ["as asked", "as asked"]


# Messages that move to the back


@in_process()
async def test_messages_that_moved_to_the_back_are_handled_before_later_ones() -> None:
    server = await Doing.start()

    async def busy(self: Doing) -> None:
        await trio.sleep(1)
        move_to_back(lambda message: message in ("first", "second"))

    send(server, busy)
    for message in ("first", "mine", "second", "mine too"):
        send(server, message)
    await trio.sleep(2)
    send(server, "later")
    assert await diary(server) == ["mine", "mine too", "first", "second", "later"]


async def test_a_task_shows_the_call_whose_answer_it_waits_for(runtime: Runtime) -> None:
    """Reports of stuck programs name the call, without a look into the frames of `call`."""
    tasks: list[trio.lowlevel.Task] = []

    class Mute(GenServer[None]):
        async def handle_call(self, request: str, sender: Sender) -> NoReply:
            await trio.lowlevel.checkpoint()
            seen.append(pending_call(tasks[0]))
            reply(sender, "answer")
            return NoReply()

    async def asks() -> None:
        tasks.append(trio.lowlevel.current_task())
        await call("mute", "anybody?")

    seen: list[PendingCall | None] = []
    await Mute.start_link(name="mute")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asks)
    assert seen == [PendingCall("mute", "anybody?")]
    assert pending_call(tasks[0]) is None
