"""Cases of OTP's gen_server_SUITE that no other test covers."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import pytest

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    AlreadyStarted,
    CallTimeout,
    Continue,
    Crash,
    Exit,
    GenServer,
    NoReply,
    Registry,
    Reply,
    Sender,
    ServerExit,
    Shutdown,
    Stop,
    Within,
    call,
    cast,
    current_pid,
    current_runtime,
    is_alive,
    kill,
    monitor,
    receive,
    reply,
    send,
    stop,
    trap_exits,
    whereis,
)
from tests.actors.helpers import down, in_process, nothing_arrives, settle


class Server(GenServer[list[Any]]):
    """A server that acts on the name of each request, and keeps its messages."""

    async def init(self) -> None:
        self.state = []

    async def handle_call(self, request: Any, sender: Sender) -> Reply | NoReply | Stop:
        match request:
            case "later":
                cast(current_pid(), ("answer", sender))
                return NoReply()
            case "never":
                return NoReply()
            case "stop":
                return Stop(SHUTDOWN, reply="stopped")
            case "heard":
                return Reply(self.state)
        return Reply(request)

    async def handle_cast(self, message: Any) -> Continue | Within | Stop | None:
        return self.told("cast", message)

    async def handle_info(self, message: Any) -> Continue | Within | Stop | None:
        return self.told("info", message)

    async def handle_continue(self, argument: Any) -> None:
        self.told("continue", argument)

    def told(self, how: str, message: Any) -> Continue | Within | Stop | None:
        self.state.append((how, message))
        match message:
            case ("answer", sender):
                reply(sender, "later")
            case "go on":
                return Continue("afterwards")
            case "wait":
                return Within(1)
            case "stop":
                return Stop("told to")
            case "fail":
                raise ValueError("told to")
        return None


class Bare(GenServer[None]):
    """A server without terminate."""

    async def handle_cast(self, message: Any) -> Stop:
        if message == "fail":
            raise ValueError("told to")
        return Stop(message)


def address(kind: str) -> Any:
    """Return the address of a server by kind; None stands for its pid."""
    registry = Registry[str, None]("unique")
    return {"pid": None, "name": "server", "via": registry.via("server")}[kind]


@contextmanager
def crashes_reported() -> Iterator[list[Any]]:
    reports: list[Any] = []
    detach = current_runtime().telemetry.attach(
        ("actors", "process", "crash"), lambda *event: reports.append(event[2])
    )
    yield reports
    detach()


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("kind", ["pid", "name", "via"])
@in_process()
async def test_a_server_starts_with_or_without_a_link_and_under_any_kind_of_name(
    linked: bool, kind: str
) -> None:
    name = address(kind)
    start = Server.start_link if linked else Server.start
    pid = await start(name=name)
    assert await call(pid if name is None else name, "hello") == "hello"
    if name is not None:
        assert whereis(name) is pid
        with pytest.raises(AlreadyStarted) as caught:
            await start(name=name)
        assert caught.value.pid is pid
    trap_exits()
    ref = monitor(pid)
    kill(pid)
    assert (await down(ref)).reason is KILLED
    if linked:
        assert await receive() == Exit(pid, KILLED)
    await nothing_arrives(1)
    assert name is None or whereis(name) is None


@in_process()
async def test_a_call_is_answered_at_once_later_at_the_end_or_times_out() -> None:
    pid = await Server.start()
    assert await call(pid, "now") == "now"
    assert await call(pid, "later") == "later"
    with pytest.raises(CallTimeout):
        await call(pid, "never", timeout=1)
    assert await call(pid, "now") == "now"
    ref = monitor(pid)
    assert await call(pid, "stop") == "stopped"
    assert (await down(ref)).reason is SHUTDOWN


@pytest.mark.parametrize("how", ["cast", "info"])
@in_process()
async def test_a_message_may_make_the_server_continue_wait_stop_or_fail(how: str) -> None:
    tell = cast if how == "cast" else send
    pid = await Server.start()
    tell(pid, "something")
    tell(pid, "go on")
    heard = [(how, "something"), (how, "go on"), ("continue", "afterwards")]
    assert await call(pid, "heard") == heard
    tell(pid, "wait")
    await nothing_arrives(2)
    kind, timeout = (await call(pid, "heard"))[-1]
    assert (kind, type(timeout).__name__) == ("info", "Timeout")
    ref = monitor(pid)
    tell(pid, "stop")
    assert (await down(ref)).reason == "told to"
    ref = monitor(failing := await Server.start())
    tell(failing, "fail")
    assert (await down(ref)).reason == Crash(ValueError("told to"))


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Shutdown("x"), "bad", "fail"], ids=repr)
@in_process()
async def test_the_end_of_a_server_is_reported_as_a_crash_unless_it_is_clean(reason: Any) -> None:
    with crashes_reported() as reports:
        pid = await Bare.start()
        ref = monitor(pid)
        cast(pid, reason)
        ended = (await down(ref)).reason
    if reason == "fail":
        assert ended == Crash(ValueError("told to"))
    else:
        assert ended == reason
    clean = reason not in ("bad", "fail")
    assert [report["reason"] for report in reports] == ([] if clean else [ended])


@pytest.mark.parametrize("kind", ["pid", "name", "via"])
@in_process()
async def test_stop_accepts_a_pid_and_every_kind_of_name(kind: str) -> None:
    name = address(kind)
    pid = await Server.start(name=name)
    await stop(pid if name is None else name)
    assert not is_alive(pid)
    assert name is None or whereis(name) is None


@in_process()
async def test_the_reason_of_a_stop_reaches_linked_processes() -> None:
    trap_exits()
    pid = await Server.start_link()
    await stop(pid, "because")
    assert await receive() == Exit(pid, "because")
    await nothing_arrives(1)


class CountedCalls:
    """Counts the Python functions that are called inside the block."""

    def __enter__(self) -> Self:
        self.count = 0
        self._before = sys.getprofile()
        sys.setprofile(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)

    def _event(self, frame: object, event: str, arg: object) -> None:
        self.count += event in ("call", "c_call")


@in_process()
async def test_a_call_costs_the_same_with_any_number_of_waiting_messages() -> None:
    pid = await Server.start()
    await call(pid, "warm")
    await settle()
    counts = []
    for waiting in (0, 10_000):
        for number in range(waiting):
            send(current_pid(), number)
        with CountedCalls() as calls:
            assert await call(pid, "hello") == "hello"
        counts.append(calls.count)
    assert abs(counts[1] - counts[0]) < 100
    assert [await receive() for _ in range(10_000)] == list(range(10_000))


@pytest.mark.parametrize("reason", [NORMAL, "bad"], ids=repr)
@in_process()
async def test_a_server_without_terminate_ends_with_its_reason(reason: Any) -> None:
    pid = await Bare.start()
    ref = monitor(pid)
    await stop(pid, reason)
    assert (await down(ref)).reason == reason
    pid = await Bare.start()
    ref = monitor(pid)
    cast(pid, "fail")
    assert (await down(ref)).reason == Crash(ValueError("told to"))


@pytest.mark.parametrize("callback", ["handle_info", "terminate"])
@in_process()
async def test_a_missing_function_inside_a_callback_is_not_reported_as_a_missing_callback(
    callback: str,
) -> None:
    class Calls(GenServer[None]):
        async def handle_info(self, message: Any) -> None:
            if callback == "handle_info":
                self.handle_inf0(message)  # type: ignore[attr-defined]

        async def terminate(self, reason: Any) -> None:
            if callback == "terminate":
                self.terminat3(reason)  # type: ignore[attr-defined]

    pid = await Calls.start()
    ref = monitor(pid)
    with crashes_reported() as reports:
        if callback == "handle_info":
            send(pid, "message")
        else:
            with pytest.raises(ServerExit):
                await stop(pid, "reason")
        reason = (await down(ref)).reason
    assert isinstance(reason, Crash)
    assert isinstance(reason.exception, AttributeError)
    assert len(reports) == 1
