"""Inspection of running servers with actors.sys."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing

from actors import (
    SHUTDOWN,
    CallTimeout,
    GenServer,
    Pid,
    Reply,
    Sender,
    ServerExit,
    Within,
    call,
    cast,
    is_alive,
    kill,
    open_runtime,
    send,
    spawn,
    sys,
    trap_exits,
    wait_exit,
)
from actors.sys import DebugEvent, ServerStatus


class Counter(GenServer[int]):
    async def init(self, first: int = 0, lull: float | None = None) -> Within | None:
        self.state = first
        self.lull = lull
        self.lulls: list[float] = []
        return None if lull is None else Within(lull)

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        self.state += 1
        return Reply(self.lulls if request == "lulls" else self.state)

    async def handle_cast(self, message: Any) -> None:
        if message == "crash":
            raise ValueError("asked to")
        self.state += 1

    async def handle_info(self, message: Any) -> None:
        self.lulls.append(trio.current_time())


class Vault(GenServer[str]):
    async def init(self, secret: str) -> None:
        self.state = secret

    async def handle_cast(self, message: Any) -> None:
        raise ValueError("asked to")

    def format_status(self, status: ServerStatus) -> ServerStatus:
        status.state = "***"
        status.message = "***"
        status.log = [DebugEvent(event.kind, "***") for event in status.log]
        return status


class BrokenVault(Vault):
    def format_status(self, status: ServerStatus) -> ServerStatus:
        raise KeyError(status.state)


async def test_get_state_returns_the_state_itself() -> None:
    async with open_runtime():
        counter = await Counter.start(3)
        assert await sys.get_state(counter) == 3


async def test_replace_state_returns_the_new_state() -> None:
    async with open_runtime():
        counter = await Counter.start(3)
        assert await sys.replace_state(counter, lambda count: count * 10) == 30
        assert await call(counter, "next") == 31


async def test_a_replacement_that_raises_reaches_the_caller_and_leaves_the_state() -> None:
    async with open_runtime():
        counter = await Counter.start(3)
        with pytest.raises(ZeroDivisionError):
            await sys.replace_state(counter, lambda count: count // 0)
        assert await sys.get_state(counter) == 3
        assert is_alive(counter)


async def test_a_suspended_server_answers_only_sys_and_catches_up_after_resume(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_runtime():
        counter = await Counter.start()
        await sys.suspend(counter)
        await sys.suspend(counter)
        cast(counter, "one")
        with pytest.raises(CallTimeout):
            await call(counter, "next", timeout=1)
        assert await sys.get_state(counter) == 0
        assert (await sys.get_status(counter)).suspended
        await sys.resume(counter)
        # The server handled both the cast and the call that had timed out.
        assert await call(counter, "next") == 3


async def test_stop_ends_a_suspended_server_and_its_terminate_runs() -> None:
    ended = []

    class Server(GenServer[None]):
        async def terminate(self, reason: object) -> None:
            ended.append(reason)

    async with open_runtime():
        server = await Server.start()
        await sys.suspend(server)
        await sys.terminate(server, "enough")
        assert ended == ["enough"]


async def test_the_end_of_its_parent_ends_a_suspended_server() -> None:
    reasons = []

    class Child(GenServer[None]):
        async def init(self) -> None:
            trap_exits()

        async def terminate(self, reason: object) -> None:
            reasons.append(reason)

    pids: list[Pid] = []

    async def parent() -> None:
        pids.append(await Child.start_link())
        await sys.suspend(pids[0])
        await trio.sleep_forever()

    async with open_runtime():
        pid = spawn(parent)
        await trio.testing.wait_all_tasks_blocked()
        kill(pid)
        await wait_exit(pids[0])
    assert [str(reason) for reason in reasons] == ["KILLED"]


async def test_statistics_count_messages_in_and_answers_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_runtime():
        counter = await Counter.start()
        assert await sys.get_statistics(counter) is None
        await sys.statistics(counter, on=True)
        for _ in range(3):
            await call(counter, "next")
        cast(counter, "one")
        send(counter, "info")
        await trio.sleep(2)
        found = await sys.get_statistics(counter)
        assert found is not None
        assert (found.messages_in, found.messages_out) == (5, 3)
        assert found.now - found.since == 2
        await sys.statistics(counter, on=False)
        assert await sys.get_statistics(counter) is None


async def test_a_log_keeps_the_last_ten_events_by_default() -> None:
    async with open_runtime():
        counter = await Counter.start()
        await sys.log(counter)
        for _ in range(7):
            await call(counter, "next")
        events = await sys.get_log(counter)
        assert len(events) == 10
        assert events[-1] == DebugEvent("out", 7)
        await sys.log(counter, 2)
        assert await sys.get_log(counter) == events[-2:]
        await sys.log(counter, None)
        await call(counter, "next")
        assert await sys.get_log(counter) == []


async def test_a_log_of_no_events_is_refused() -> None:
    async with open_runtime():
        counter = await Counter.start()
        with pytest.raises(ValueError, match="log got size=0; write a number of events, 1 or more"):
            await sys.log(counter, 0)


async def test_a_trace_shows_each_event_as_a_line() -> None:
    lines: list[str] = []
    async with open_runtime():
        counter = await Counter.start(name="counter")
        await sys.trace(counter, lines.append)
        await call(counter, "next")
        cast(counter, "one")
        await sys.trace(counter, None)
        await call(counter, "next")
    assert lines == [
        "'counter' <- call 'next' from None",
        "'counter' -> 1",
        "'counter' <- cast 'one'",
        "'counter' == 2",
    ]


async def test_a_hook_gets_its_last_state_until_it_is_done_or_raises() -> None:
    seen: list[int] = []

    def hook(count: int, event: DebugEvent) -> Any:
        seen.append(count)
        return sys.DONE if count == 1 else count + 1

    def bad(state: Any, event: DebugEvent) -> Any:
        raise RuntimeError("a broken hook")

    async with open_runtime():
        counter = await Counter.start()
        await sys.install(counter, "count", hook, 0)
        await sys.install(counter, "bad", bad)
        await call(counter, "next")
        await call(counter, "next")
        assert seen == [0, 1]
        assert is_alive(counter)
        await sys.remove(counter, "nobody")


async def test_a_sys_request_restarts_the_timeout_of_a_server(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_runtime():
        began = trio.current_time()
        counter = await Counter.start(0, 0.08)
        await trio.sleep(0.05)
        await sys.get_state(counter)
        await trio.sleep(1)
        (lull,) = await call(counter, "lulls")
        assert lull - began == pytest.approx(0.13)


async def test_a_sys_request_to_a_busy_server_times_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Slow(GenServer[None]):
        async def handle_info(self, message: Any) -> None:
            await trio.sleep(10)

    async with open_runtime():
        slow = await Slow.start()
        send(slow, "work")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(CallTimeout):
            await sys.get_state(slow)
        kill(slow)


async def test_format_status_redacts_status_log_and_crash_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_runtime():
        vault = await Vault.start("hunter2")
        await sys.log(vault)
        send(vault, "hunter2 info")
        status = await sys.get_status(vault)
        assert "hunter2" not in repr(status)
        assert "***" in repr(status.log)
        with caplog.at_level(logging.ERROR, "actors"):
            cast(vault, "hunter2 cast")
            await wait_exit(vault)
    assert "crashed" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_failing_format_status_hides_everything_and_keeps_the_crash_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_runtime():
        vault = await BrokenVault.start("hunter2")
        assert (await sys.get_status(vault)).state == "<hidden: format_status raised KeyError>"
        with caplog.at_level(logging.ERROR, "actors"):
            cast(vault, "x")
            await wait_exit(vault)
    assert "format_status raised KeyError" in caplog.text
    assert "hunter2" not in caplog.text


async def test_sys_terminate_raises_server_exit_for_another_reason() -> None:
    class Stubborn(GenServer[None]):
        async def terminate(self, reason: object) -> None:
            raise RuntimeError("not like this")

    async with open_runtime(log=False):
        server = await Stubborn.start()
        with pytest.raises(ServerExit):
            await sys.terminate(server, SHUTDOWN)
