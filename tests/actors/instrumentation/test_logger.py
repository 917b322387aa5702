"""The log lines of a runtime's events, and the events without one."""

import logging
from typing import Any

import pytest
import trio

from actors import (
    NORMAL,
    GenServer,
    Runtime,
    Shutdown,
    Stop,
    Telemetry,
    cast,
    exit,
    kill,
    on_exit,
    open_runtime,
    spawn,
    spawn_link,
    text,
    wait_exit,
)
from actors.instrumentation import logger
from tests.actors.helpers import idle, settle


async def test_a_crash_is_one_line_with_its_traceback(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    async def crashes() -> None:
        spawn_link(idle)
        raise ValueError("of the process")

    await wait_exit(spawn(crashes, label="worker"))
    await settle()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.messages == ["Process worker <pid 1> crashed: ValueError: of the process"]
    assert "in crashes" in caplog.text
    record: Any = caplog.records[0]
    assert record.actor["process"] == "worker"
    assert record.measurements["queue_length"] == 0


async def test_the_crash_of_a_server_is_logged_with_its_state_and_last_message(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    class Server(GenServer[str]):
        async def init(self) -> None:
            self.state = "its state"

        async def handle_cast(self, message: Any) -> Stop:
            if message == "stop":
                return Stop("bad")
            raise ValueError(1)

    pid = await Server.start()
    cast(pid, "raise")
    await wait_exit(pid)
    assert "last message: cast 'raise'" in caplog.messages[0]
    assert "state: 'its state'" in caplog.messages[0]
    # An abnormal stop is reported like a crash, although no callback raised.
    pid = await Server.start()
    cast(pid, "stop")
    await wait_exit(pid)
    assert "crashed: bad" in caplog.messages[1] or "crashed: 'bad'" in caplog.messages[1]


@pytest.mark.parametrize("reason", [NORMAL, Shutdown("x"), "any"], ids=repr)
async def test_exits_and_kills_of_plain_processes_are_not_logged(
    reason: Any, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    async def leaves() -> None:
        exit(reason)

    await wait_exit(spawn(leaves))
    pid = spawn(trio.sleep_forever)
    await settle()
    kill(pid)
    await wait_exit(pid)
    assert caplog.records == []


async def test_a_clean_up_that_fails_is_logged(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise ValueError("of the clean-up")

    async def process() -> None:
        on_exit(fails)

    await wait_exit(spawn(process, label="worker"))
    assert caplog.messages == ["Process worker <pid 1> raised while it was ending with NORMAL"]
    assert "of the clean-up" in caplog.text


def test_detach_ends_the_logging(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry()
    detach = logger.attach(telemetry)
    events = (logger.CRASH, logger.CLEANUP_FAILED, logger.ZOMBIE)
    assert all(telemetry.handlers(event) for event in events)
    detach()
    assert not any(telemetry.handlers(event) for event in events)


async def test_a_huge_message_does_not_fill_the_log(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    class Server(GenServer[Any]):
        async def init(self) -> None:
            self.state = {"list": list(range(100_000)), "text": "x" * 1_000_000}

        async def handle_cast(self, message: Any) -> None:
            raise ValueError(1)

    pid = await Server.start()
    cast(pid, {"a": ["y" * 10_000_000]})
    await wait_exit(pid)
    assert "last message: cast {'a': ['yyyy" in caplog.messages[0]
    assert len(caplog.messages[0]) < 5000


async def test_a_huge_exception_text_does_not_fill_the_log(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    async def crashes() -> None:
        try:
            raise KeyError("x" * 5_000_000)
        except KeyError as error:
            raise ExceptionGroup("several", [ValueError("y" * 5_000_000), TypeError()]) from error

    await wait_exit(spawn(crashes))
    await settle()
    assert len(caplog.text) < 15_000
    assert "in crashes" in caplog.text
    assert "KeyError: 'xxx" in caplog.text
    assert "ValueError: yyy" in caplog.text


def test_a_huge_text_of_control_characters_is_cut_before_it_is_cleaned(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[int] = []
    printable = text.printable

    def noting(text: str, *, lines: bool = False) -> str:
        cleaned.append(len(text))
        return printable(text, lines=lines)

    monkeypatch.setattr(text, "printable", noting)
    for unit in ("\x1b", "\x1b\n", "\U000e0001"):
        error = ValueError(unit * 1_000_000)
        text.log_exception(logging.getLogger("actors"), "It failed", exception=error)
    assert len(caplog.records) == 3
    assert not any(char in caplog.text for char in "\x1b\U000e0001")
    assert all(len(record.getMessage()) < 70_000 for record in caplog.records)
    assert sum(cleaned) < 1_000_000


async def test_a_traceback_of_very_many_lines_does_not_fill_the_log(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    async def crashes() -> None:
        raise ValueError("z\n" * 1_000_000)

    await wait_exit(spawn(crashes))
    await settle()
    assert len(caplog.text) < 100_000
    assert "in crashes" in caplog.text


async def test_an_exception_with_a_failing_str_is_logged(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    try:
        raise Odd
    except Odd as error:
        text.log_exception(logging.getLogger("actors"), "It failed", exception=error)
    assert caplog.messages == ["It failed"]
    assert "exception str() failed" in caplog.text


async def test_the_log_shows_a_bounded_number_of_crash_reports_in_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[Any] = []
    left_out: list[Any] = []
    async with open_runtime(max_crash_reports=3) as runtime:
        runtime.telemetry.attach(logger.CRASH, lambda *args: heard.append(args))
        runtime.telemetry.attach(logger.CRASHES_LEFT_OUT, lambda *args: left_out.append(args[1]))
        for _ in range(10):
            await wait_exit(spawn(crash))
        assert len(caplog.messages) == 3
        await trio.sleep(1.5)
        assert caplog.messages[3].startswith("7 more processes crashed")
        assert left_out == [{"crashes": 7, "limit": 3}]
        await wait_exit(spawn(crash))
        assert len(caplog.messages) == 5
        assert len(heard) == 11


async def test_the_end_of_a_runtime_logs_the_number_of_crashes_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_runtime(max_crash_reports=1):
        for _ in range(5):
            await wait_exit(spawn(crash))
    assert len(caplog.messages) == 2
    assert caplog.messages[1].startswith("4 more processes crashed")


async def test_servers_that_stop_abnormally_count_among_the_crashes_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_runtime(max_crash_reports=1):
        for _ in range(5):
            server = await Stopping.start()
            cast(server, "stop")
            await wait_exit(server)
    assert len(caplog.messages) == 2
    assert caplog.messages[1].startswith("4 more processes crashed")


async def test_a_limit_of_no_crash_reports_is_refused() -> None:
    with pytest.raises(ValueError, match="write a number, 1 or more"):
        async with open_runtime(max_crash_reports=0):
            pass


async def crash() -> None:
    raise ValueError("crash")


class Stopping(GenServer[None]):
    async def handle_cast(self, message: Any) -> Stop:
        return Stop("an abnormal reason")
