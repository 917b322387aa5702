"""Inspection of servers: cases 34, 43 (its suspended half) and 46 to 49."""

import logging
from typing import Any

import pytest
import trio

from actors import (
    CallTimeout,
    Crash,
    GenServer,
    NoReply,
    Pid,
    Reply,
    Sender,
    Timeout,
    Within,
    call,
    cast,
    is_alive,
    monitor,
    send,
    stop,
    sys,
)
from actors.sys import ServerStatus
from tests.actors.helpers import down, in_process, settle


class Counter(GenServer[int]):
    async def init(self, diary: list[Any]) -> Any:
        self.diary = diary
        self.state = 0

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        self.state += 1
        return Reply(self.state)

    async def handle_cast(self, message: Any) -> None:
        if isinstance(message, Exception):
            raise message
        self.state += 10

    async def handle_info(self, message: Any) -> NoReply | None:
        self.diary.append(message)
        return None

    async def terminate(self, reason: Any) -> None:
        self.diary.append(("terminate", reason))


@in_process()
async def test_34_a_sys_request_restarts_the_timeout_of_a_server() -> None:
    fired: list[float] = []

    class Lull(GenServer[None]):
        async def init(self) -> Within:
            return Within(0.08)

        async def handle_info(self, message: Any) -> None:
            assert message == Timeout()
            fired.append(trio.current_time())

    pid = await Lull.start_link()
    began = trio.current_time()
    await trio.sleep(0.05)
    await sys.get_state(pid)
    await trio.sleep(1)
    assert fired == [pytest.approx(began + 0.13)]


@in_process()
async def test_43_stop_ends_a_suspended_server_through_terminate() -> None:
    diary: list[Any] = []
    pid = await Counter.start(diary)
    await sys.suspend(pid)
    await stop(pid, "reason")
    assert diary == [("terminate", "reason")]
    assert not is_alive(pid)


@in_process()
async def test_46_a_suspended_server_answers_only_sys_and_catches_up() -> None:
    pid = await Counter.start_link([])
    await sys.suspend(pid)
    with pytest.raises(CallTimeout):
        await call(pid, "count", timeout=1)
    cast(pid, "count ten")
    await settle()
    assert await sys.get_state(pid) == 0
    await sys.resume(pid)
    assert await call(pid, "count") == 12


@in_process()
async def test_47_a_replacement_that_raises_fails_in_the_caller_and_changes_nothing() -> None:
    def fails(state: int) -> int:
        raise ValueError("no")

    pid = await Counter.start_link([])
    with pytest.raises(ValueError, match="no"):
        await sys.replace_state(pid, fails)
    assert await sys.get_state(pid) == 0
    assert await sys.replace_state(pid, lambda state: state + 5) == 5
    assert await call(pid, "count") == 6


@in_process()
async def test_48_statistics_count_messages_and_answers_and_the_log_keeps_ten_events() -> None:
    pid = await Counter.start_link([])
    await sys.statistics(pid, True)
    for _ in range(3):
        await call(pid, "count")
    cast(pid, "count")
    send(pid, "info")
    seen = await sys.get_statistics(pid)
    assert seen is not None
    assert (seen.messages_in, seen.messages_out) == (5, 3)
    await sys.log(pid)
    for _ in range(20):
        await call(pid, "count")
    assert len(await sys.get_log(pid)) == 10


@in_process()
async def test_49_data_that_format_status_redacts_appears_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Secretive(GenServer[str]):
        async def init(self) -> None:
            self.state = "swordfish"

        async def handle_cast(self, message: Any) -> None:
            raise ValueError("no")

        def format_status(self, status: ServerStatus) -> ServerStatus:
            status.state = status.message = "redacted"
            return status

    pid: Pid = await Secretive.start()
    assert (await sys.get_status(pid)).state == "redacted"
    ref = monitor(pid)
    with caplog.at_level(logging.DEBUG):
        cast(pid, "swordfish too")
        assert (await down(ref)).reason == Crash(ValueError("no"))
    assert "redacted" in caplog.text
    assert "swordfish" not in caplog.text
