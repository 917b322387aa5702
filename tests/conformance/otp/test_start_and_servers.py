"""The start protocol and GenServer: cases 27 to 45, but for 34 and the suspended half of 43."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from actors import (
    CALLING_SELF,
    KILLED,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    TIMEOUT,
    AlreadyStarted,
    CallExit,
    CallingSelf,
    CallTimeout,
    Continue,
    Crash,
    Exit,
    Fail,
    GenServer,
    Ignore,
    InvalidReturn,
    NoProcess,
    NoReply,
    Pid,
    Reply,
    Sender,
    ServerExit,
    StartError,
    StartIgnored,
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
    receive,
    register,
    reply,
    send,
    send_exit,
    spawn,
    spawn_monitor,
    stop,
    trap_exits,
    whereis,
)
from tests.actors.helpers import dead_process, down, in_process, nothing_arrives, settle

Do = Callable[[GenServer[Any], Any, Sender | None], Any]


class Scripted(GenServer[Any]):
    """A server under the control of the tests, with a log outside itself."""

    async def init(self, diary: list[Any], trap: bool = False, first: Any = None) -> Any:
        self.diary = diary
        self.state = "first state"
        trap_exits(trap)
        return first

    async def handle_call(self, request: Any, sender: Sender) -> Any:
        self.diary.append(("call", request))
        return request(self, sender) if callable(request) else Reply(request)

    async def handle_cast(self, message: Any) -> Any:
        self.diary.append(("cast", message))
        return message(self) if callable(message) else None

    async def handle_info(self, message: Any) -> None:
        self.diary.append(("info", message))
        if message == "slow":
            await trio.sleep(1)

    async def terminate(self, reason: Any) -> None:
        self.diary.append(("terminate", reason, self.state))


def raise_error(*_: Any) -> Any:
    raise ValueError("what the callback did")


async def crashes(runtime_events: list[Any]) -> None:
    current_runtime().telemetry.attach(
        ("actors", "process", "crash"), lambda *event: runtime_events.append(event[2])
    )


# The start protocol


@in_process()
async def test_27_start_returns_after_init_and_after_the_messages_of_init() -> None:
    class Slow(GenServer[None]):
        async def init(self, parent: Pid) -> None:
            send(parent, "before")
            await trio.sleep(2)
            send(parent, "after")

    began = trio.current_time()
    await Slow.start_link(current_pid())
    assert trio.current_time() - began == pytest.approx(2)
    assert [await receive(timeout=0), await receive(timeout=0)] == ["before", "after"]


@in_process()
async def test_28_stop_in_init_kills_a_starter_over_the_link_unless_it_traps() -> None:
    async def starter(trap: bool) -> None:
        trap_exits(trap)
        with pytest.raises(StartError) as caught:
            await Scripted.start_link([], first=Stop("bad"))
        assert caught.value.reason == "bad"
        await nothing_arrives(1)
        exit("got the error")

    _, not_trapping = spawn_monitor(starter, False)
    assert (await down(not_trapping)).reason == "bad"
    _, trapping = spawn_monitor(starter, True)
    assert (await down(trapping)).reason == "got the error"


@in_process()
async def test_29_fail_in_init_raises_in_the_starter_and_reports_no_crash() -> None:
    reports: list[Any] = []
    await crashes(reports)
    with pytest.raises(StartError) as caught:
        await Scripted.start_link([], first=Fail("bad"))
    assert caught.value.reason == "bad"
    assert reports == []
    trap_exits()
    with pytest.raises(StartError):
        await Scripted.start_link([], first=Fail("bad"))
    await nothing_arrives(1)


@pytest.mark.parametrize("first", [Ignore(), Stop(NORMAL), Stop("bad"), Fail("bad")], ids=repr)
@in_process()
async def test_30_a_name_is_free_when_a_failed_start_returns(first: Any) -> None:
    trap_exits()
    diary: list[Any] = []
    with pytest.raises((StartError, StartIgnored)):
        await Scripted.start_link(diary, name="server", first=first)
    assert whereis("server") is None
    pid = await Scripted.start_link(diary, name="server")
    assert whereis("server") is pid
    # A taken name raises before init runs.
    with pytest.raises(AlreadyStarted) as caught:
        await Scripted.start_link(diary, name="server", first=Stop("bad"))
    assert caught.value.pid is pid
    assert diary == []  # a failed init has no terminate


@in_process()
async def test_31_a_start_that_takes_too_long_leaves_nothing_behind() -> None:
    class Slow(GenServer[None]):
        async def init(self) -> None:
            try:
                await trio.sleep(10)
            finally:
                ended.append(current_pid())

    ended: list[Pid] = []
    with pytest.raises(StartError) as caught:
        await Slow.start_link(name="slow", timeout=1)
    assert caught.value.reason is TIMEOUT
    assert [is_alive(pid) for pid in ended] == [False]
    assert whereis("slow") is None
    trap_exits()
    with pytest.raises(StartError):
        await Slow.start_link(timeout=1)
    await nothing_arrives(1)


@in_process()
async def test_32_a_continue_runs_after_the_start_and_before_messages() -> None:
    diary: list[Any] = []
    started = trio.Event()

    class Continues(Scripted):
        async def init(self, diary: list[Any]) -> Continue:  # type: ignore[override]
            await super().init(diary)
            send(current_pid(), "posted by init")
            return Continue("argument")

        async def handle_continue(self, argument: Any) -> None:
            self.diary.append(("continue", argument, started.is_set()))
            await trio.sleep(1)
            self.diary.append("continued")

    pid = await Continues.start_link(diary)
    started.set()
    assert await call(pid, "meanwhile") == "meanwhile"
    assert diary == [
        ("continue", "argument", True),
        "continued",
        ("info", "posted by init"),
        ("call", "meanwhile"),
    ]


# The loop


@in_process()
async def test_33_a_waiting_message_comes_before_a_timeout_of_0() -> None:
    class Impatient(Scripted):
        async def init(self, diary: list[Any], message: Any) -> Within:  # type: ignore[override]
            await super().init(diary)
            if message is not None:
                send(current_pid(), message)
            return Within(0)

    diary: list[Any] = []
    await Impatient.start_link(diary, "message")
    await trio.sleep(5)
    assert diary == [("info", "message")]
    await Impatient.start_link(diary, None)
    await trio.sleep(5)
    assert diary == [("info", "message"), ("info", Timeout())]


@in_process()
async def test_35_a_failed_call_raises_the_reason() -> None:
    async def failure(server: object, request: Any) -> CallExit:
        with pytest.raises(CallExit) as caught:
            await call(server, request)
        return caught.value

    dead = await dead_process()
    for server in (dead, "nobody"):
        error = await failure(server, "?")
        assert type(error) is NoProcess
        assert (error.reason, error.server, error.request) == (NOPROC, server, "?")
    error = await failure(current_pid(), "?")
    assert type(error) is CallingSelf
    assert error.reason is CALLING_SELF
    register("me")
    assert type(await failure("me", "?")) is CallingSelf
    error = await failure(await Scripted.start([]), raise_error)
    assert type(error) is ServerExit
    assert error.reason == Crash(ValueError("what the callback did"))
    error = await failure(await Scripted.start([]), lambda *_: Stop())
    assert type(error) is ServerExit
    assert error.reason is NORMAL


@in_process()
async def test_36_a_late_answer_is_dropped_although_the_request_was_carried_out() -> None:
    class Late(GenServer[int]):
        async def init(self) -> None:
            self.state = 0

        async def handle_call(self, request: Any, sender: Sender) -> Reply:
            if request == "slow":
                await trio.sleep(2)
                self.state += 1
            return Reply(self.state)

    pid = await Late.start_link()
    with pytest.raises(CallTimeout) as caught:
        await call(pid, "slow", timeout=1)
    assert caught.value.timeout == 1
    await nothing_arrives(5)
    assert await call(pid, "read") == 1


@in_process()
async def test_37_the_second_answer_to_a_call_is_dropped() -> None:
    took: list[bool] = []

    class Twice(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> Reply:
            took.append(reply(sender, "first"))
            took.append(reply(sender, "second"))
            return Reply("third")

    assert await call(await Twice.start_link(), "?") == "first"
    assert took == [True, False]
    await nothing_arrives(1)


@in_process()
async def test_38_a_cancelled_call_leaves_nothing_behind() -> None:
    class Echo(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> Reply:
            await trio.sleep(2)
            return Reply(request)

    pid = await Echo.start_link()
    with trio.move_on_after(1) as scope:
        await call(pid, "first")
    assert scope.cancelled_caught
    await nothing_arrives(5)
    assert current_runtime().statistics()["timers"] == 0
    assert await call(pid, "second") == "second"


@in_process()
async def test_39_the_answer_of_a_stop_comes_after_terminate() -> None:
    class Slow(Scripted):
        async def terminate(self, reason: Any) -> None:
            await trio.sleep(3)
            await super().terminate(reason)

    diary: list[Any] = []
    pid = await Slow.start(diary)
    ref = monitor(pid)
    answer = await call(pid, lambda *_: Stop("done", reply="bye"))
    assert answer == "bye"
    assert diary[1:] == [("terminate", "done", "first state")]
    assert (await down(ref)).reason == "done"


@pytest.mark.parametrize("reason", [SHUTDOWN, KILLED], ids=repr)
@in_process()
async def test_40_the_end_of_the_parent_ends_a_server_that_does_not_trap_without_terminate(
    reason: Any,
) -> None:
    diary: list[Any] = []
    server: list[Pid] = []

    async def parent() -> None:
        server.append(await Scripted.start_link(diary))
        await receive()

    pid = spawn(parent)
    await settle()
    ref = monitor(server[0])
    if reason is KILLED:
        kill(pid)
    else:
        send_exit(pid, reason)
    assert (await down(ref)).reason is reason
    assert diary == []


@in_process()
async def test_41_an_exit_of_the_parent_waits_behind_older_messages_and_ends_a_trapping_server() -> (
    None
):
    diary: list[Any] = []
    pid = await Scripted.start_link(diary, True)
    ref = monitor(pid)
    send(pid, "slow")
    send(pid, "second")
    send_exit(pid, SHUTDOWN)
    send(pid, "late")
    trap_exits()
    assert (await down(ref)).reason is SHUTDOWN
    assert diary == [
        ("info", "slow"),
        ("info", "second"),
        ("terminate", SHUTDOWN, "first state"),
    ]


@pytest.mark.parametrize("reason", [NORMAL, "any"], ids=repr)
@in_process()
async def test_41_an_exit_signal_of_the_living_parent_ends_the_server_with_any_reason(
    reason: Any,
) -> None:
    trap_exits()
    diary: list[Any] = []
    pid = await Scripted.start_link(diary, True)
    ref = monitor(pid)
    send_exit(pid, reason)
    assert (await down(ref)).reason == reason
    assert diary == [("terminate", reason, "first state")]


@in_process()
async def test_42_an_exit_of_another_process_goes_to_handle_info() -> None:
    diary: list[Any] = []
    pid = await Scripted.start_link(diary, True)
    stranger, ref = spawn_monitor(linking, pid)
    await down(ref)
    assert await call(pid, "alive?") == "alive?"
    assert diary[0] == ("info", Exit(stranger, "end"))


@in_process()
async def test_42_an_exit_of_a_starter_without_a_link_goes_to_handle_info() -> None:
    diary: list[Any] = []
    pid = await Scripted.start(diary, True)
    send_exit(pid, "exit")
    assert await call(pid, "alive?") == "alive?"
    assert diary[0] == ("info", Exit(current_pid(), "exit"))


async def linking(pid: Pid) -> None:
    link(pid)
    exit("end")


# Stopping and failing


@in_process()
async def test_43_stop_runs_terminate_even_in_a_server_that_does_not_trap() -> None:
    diary: list[Any] = []
    pid = await Scripted.start(diary)
    await stop(pid, "reason")
    assert diary == [("terminate", "reason", "first state")]
    assert not is_alive(pid)
    with pytest.raises(NoProcess):
        await stop(pid)

    class Slow(Scripted):
        async def terminate(self, reason: Any) -> None:
            await trio.sleep(3)
            await super().terminate(reason)

    pid = await Slow.start(diary)
    with pytest.raises(CallTimeout):
        await stop(pid, timeout=1)
    assert is_alive(pid)
    await trio.sleep(3)
    assert not is_alive(pid)


@in_process()
async def test_44_an_error_in_terminate_becomes_the_reason_and_both_are_reported() -> None:
    class Fails(Scripted):
        async def terminate(self, reason: Any) -> None:
            raise OSError("what terminate did")

    reports: list[Any] = []
    await crashes(reports)
    end = Crash(OSError("what terminate did"))
    pid = await Fails.start([])
    with pytest.raises(ServerExit) as caught:
        await stop(pid, "reason")
    assert caught.value.reason == end
    assert [(report["reason"], report["stopping"]) for report in reports] == [(end, "reason")]
    # The caller still gets the answer of the stop.
    pid = await Fails.start([])
    assert await call(pid, lambda *_: Stop(reply="bye")) == "bye"
    # The exception of the callback is the context of the one in terminate.
    pid = await Fails.start([])
    ref = monitor(pid)
    cast(pid, raise_error)
    reason = (await down(ref)).reason
    assert reason == end
    assert isinstance(reason, Crash)
    assert repr(reason.exception.__context__) == "ValueError('what the callback did')"


@pytest.mark.parametrize("kind", ["exception", "exit", "bad return"])
@in_process()
async def test_45_a_failing_callback_ends_the_server_with_the_state_before_it(kind: str) -> None:
    def fail(server: GenServer[Any]) -> Any:
        server.state = "changed"
        if kind == "exception":
            raise_error()
        if kind == "exit":
            exit("exit")
        return "junk"

    diary: list[Any] = []
    pid = await Scripted.start(diary)
    ref = monitor(pid)
    cast(pid, fail)
    reason = (await down(ref)).reason
    assert diary[1:] == [("terminate", reason, "first state")]
    if kind == "exit":
        assert reason == "exit"
    else:
        assert isinstance(reason, Crash)
        assert isinstance(reason.exception, ValueError if kind == "exception" else InvalidReturn)


@in_process()
async def test_45_a_callback_that_succeeds_and_stops_keeps_its_state() -> None:
    def end(server: GenServer[Any]) -> Stop:
        server.state = "changed"
        return Stop("end")

    diary: list[Any] = []
    pid = await Scripted.start(diary)
    ref = monitor(pid)
    cast(pid, end)
    await down(ref)
    assert diary[1:] == [("terminate", "end", "changed")]


@in_process()
async def test_45_a_call_that_is_answered_later_is_answered() -> None:
    waiting: list[Sender] = []

    def later(_: GenServer[Any], sender: Sender) -> NoReply:
        waiting.append(sender)
        return NoReply()

    async def answers() -> None:
        await trio.sleep(1)
        reply(waiting[0], "from another process")

    pid = await Scripted.start_link([])
    spawn(answers)
    assert await call(pid, later) == "from another process"
