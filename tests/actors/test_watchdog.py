"""The watchdog names the process that blocks the event loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from actors import GenServer, Pid, open_runtime, receive, send, spawn, wait_exit, watchdog
from actors.watchdog import BLOCKED, LOOP_BLOCKED, Blocked, _OtherLoop, _Pauses, _Turns, _watch
from tests.patience import PATIENCE


@contextmanager
def a_report() -> Iterator[threading.Event]:
    """An event that the next report of the watchdog sets. So a block can last until then, and no longer."""
    reported = threading.Event()

    def note(_: object) -> bool:
        reported.set()
        return True

    log = logging.getLogger("actors.instrumentation.watchdog")
    log.addFilter(note)
    try:
        yield reported
    finally:
        log.removeFilter(note)


async def test_a_blocking_process_is_named_with_its_stack_while_it_blocks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Mapping[str, Any]] = []

    async def blocks_for_a_while() -> None:
        assert seen.wait(PATIENCE)

    with a_report() as seen:
        async with open_runtime(watchdog=0.01) as runtime:
            runtime.telemetry.attach(BLOCKED, lambda event, how, about: told.append(about))
            await wait_exit(spawn(blocks_for_a_while))
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
    assert "blocks_for_a_while" in caplog.text
    assert "seen.wait(PATIENCE)" in caplog.text
    (about,) = [each for each in told if "blocks_for_a_while" in each["process"]]
    assert any("seen.wait(PATIENCE)" in line for line in about["stack"])
    line = blocks_for_a_while.__code__.co_firstlineno + 1
    assert (about["handler"], about["file"], about["line"]) == (
        "blocks_for_a_while",
        __file__,
        line,
    )
    assert (
        f"blocks_for_a_while is at {__file__}:{line}: assert seen.wait(PATIENCE)\n" in caplog.text
    )
    assert "Write `await trio.sleep(seconds)` in place of time.sleep(), and" in caplog.text
    assert "`await trio.to_thread.run_sync(function, ...)` for code that blocks" in caplog.text
    # The report leaves out the machinery that runs every process.
    assert "trio/_core" not in caplog.text


async def test_an_idle_server_is_named_when_another_task_handles_its_message() -> None:
    told: list[Mapping[str, Any]] = []

    class Blocks(GenServer[None]):
        def handle_info_nowait(self, message: object) -> None:
            seen.wait(PATIENCE)

    async def reads(server: Pid) -> None:
        send(server, "message")

    with a_report() as seen:
        async with open_runtime(watchdog=0.01) as runtime:
            runtime.telemetry.attach(BLOCKED, lambda event, how, about: told.append(about))
            server = await Blocks.start()
            await trio.testing.wait_all_tasks_blocked()
            await wait_exit(spawn(reads, server))
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
    assert ("reads", server) in [(each["handler"], each["pid"]) for each in told]


def test_the_line_inside_a_function_that_the_handler_calls_is_named_with_both() -> None:
    blocked = Blocked(
        seconds=0.75,
        process="'vault'",
        pid="<pid 7>",
        handler="Vault.handle_call",
        function="total",
        file="/app/vault.py",
        line=12,
        source="for each in everything:",
        stack=['  File "/app/vault.py", line 12, in total\n'],
    )
    assert str(blocked).startswith(
        "Process 'vault' '<pid 7>' has let nothing else run for 750 ms. "
        "Vault.handle_call is at /app/vault.py:12 (in total): for each in everything:\n"
    )


@pytest.mark.parametrize(
    ("looks", "paused"),
    [
        # Each look has the time, and the processor time of the loop's thread so far. The step began at 1.0.
        pytest.param([(1.1, 0.0), (1.2, 0.0), (1.3, 0.0)], 0.0, id="sleeps"),
        pytest.param([(1.1, 0.1), (1.2, 0.2), (1.3, 0.3)], 0.0, id="computes"),
        pytest.param([(1.1, 0.1), (3.1, 2.1)], 0.0, id="computes and keeps the interpreter lock"),
        pytest.param([(1.1, 0.0), (3.1, 0.0)], 1.9, id="nothing runs on this machine"),
        pytest.param([(3.0, 0.0)], 1.9, id="nothing ran from the step's beginning on"),
        pytest.param([(1.1, 0.0), (3.1, 0.0), (3.2, 0.0)], 1.9, id="it has gone on"),
    ],
)
def test_a_step_is_not_blamed_for_the_time_in_which_the_machine_ran_nothing(
    looks: list[tuple[float, float]], paused: float
) -> None:
    used = 0.0
    pauses = _Pauses(lambda: used, 1.0)
    for now, used in looks:  # noqa: B007 # what the clock says is the other half of a look
        seen = pauses.until(now, 0.1, 1.0)
    assert seen == pytest.approx(paused)
    # The next step starts from zero.
    assert pauses.until(looks[-1][0] + 0.1, 0.1, looks[-1][0]) == pytest.approx(0.0)


def test_without_a_processor_clock_every_delay_counts_for_the_step() -> None:
    assert _Pauses(None, 1.0).until(3.0, 0.1, 1.0) == 0.0


async def test_a_limit_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match=r"open_runtime got watchdog=0\.0; write seconds above 0"):
        async with open_runtime(watchdog=0.0):
            raise AssertionError("not reached")


async def test_no_thread_is_left_when_the_runtime_is_closed() -> None:
    async with open_runtime(watchdog=5.0):
        assert any(thread.name == "actors watchdog" for thread in threading.enumerate())
    assert not any(thread.name == "actors watchdog" for thread in threading.enumerate())


async def test_the_run_time_of_each_process_is_added_up() -> None:
    async def works() -> None:
        while True:
            await receive()
            # The machine's clock counts, and not the virtual one.
            until = time.monotonic() + 0.005
            while time.monotonic() < until:
                pass

    async def helps() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(works_once)
            await trio.sleep_forever()

    async def works_once() -> None:
        until = time.monotonic() + 0.005
        while time.monotonic() < until:
            pass

    async with open_runtime(counts_run_time=True) as runtime:
        worker, idle, helped = spawn(works), spawn(receive), spawn(helps)
        await trio.testing.wait_all_tasks_blocked()

        def run_time(pid: Pid) -> float:
            info = runtime.process_info(pid)
            assert info is not None
            return float(info["run_time"])

        before = run_time(worker)
        for _ in range(3):
            send(worker, "work")
            await trio.testing.wait_all_tasks_blocked()
        assert run_time(worker) - before >= 0.015
        # The steps of helper tasks count for their process.
        assert run_time(helped) >= 0.005
        assert 0 < run_time(idle) < run_time(worker)


async def test_run_time_is_not_counted_by_default() -> None:
    async with open_runtime(watchdog=5.0) as runtime:
        info = runtime.process_info(spawn(receive))
        assert info is not None
        assert "run_time" not in info


class Looks:
    """An event that becomes set after `left` calls of `wait`, which do not really wait."""

    left = 0

    def wait(self, timeout: float) -> bool:
        self.left -= 1
        return self.left < 0


def test_the_thread_searches_no_tasks_while_the_loop_waits_for_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searches: list[object] = []
    monkeypatch.setattr(watchdog, "_running", searches.append)
    turns, looks = _Turns(0.05, print), Looks()
    nothing: Any = SimpleNamespace(other_loops={})

    def searches_in_three_looks() -> int:
        looks.left = 3
        searches.clear()
        thread = threading.get_ident()
        _watch(
            nothing, turns, nothing, step_seconds=0.05, loop_thread=thread, stop=cast("Any", looks)
        )
        return len(searches)

    turns.after_io_wait(0.0)
    assert searches_in_three_looks() == 3
    turns.before_io_wait(60.0)
    assert searches_in_three_looks() == 0
    turns.after_io_wait(0.0)
    assert searches_in_three_looks() == 3


def test_a_long_turn_that_the_thread_could_not_see_is_reported_with_its_time() -> None:
    reported: list[float] = []
    turns = _Turns(0.05, reported.append)
    turns.after_io_wait(0.0)
    until = time.thread_time() + 0.06
    while time.thread_time() < until:
        pass
    turns.before_io_wait(0.0)
    assert len(reported) == 1
    turns.after_io_wait(0.0)
    turns.before_io_wait(0.0)
    assert len(reported) == 1


class Clocks:
    """The clocks of a machine, which a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.used = 0.0

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.used

    def compute(self, seconds: float) -> None:
        self.now += seconds
        self.used += seconds


def test_the_computing_of_earlier_turns_and_the_pauses_of_the_machine_do_not_count_for_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks = Clocks()
    monkeypatch.setattr(watchdog, "time", clocks)
    reported: list[float] = []
    turns = _Turns(0.5, reported.append)
    for seconds in (0.03, 0.02, 0.46):
        turns.after_io_wait(0.0)
        clocks.compute(seconds)
        turns.before_io_wait(0.0)
    turns.after_io_wait(0.0)
    clocks.now += 10
    turns.before_io_wait(0.0)
    assert reported == []
    for seconds in (0.05, 0.6):
        turns.after_io_wait(0.0)
        clocks.compute(seconds)
        turns.before_io_wait(0.0)
    assert reported == [pytest.approx(0.6)]


class OtherLoop:
    """An event loop of another thread, as the watchdog sees it."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.is_calling = True
        self.is_answering = True
        self.step: object = None
        self.pings = 0

    def is_busy(self) -> bool:
        return self.is_calling

    def ping(self, answer: Callable[[], object]) -> None:
        self.pings += 1
        if self.is_answering:
            answer()

    def running(self) -> tuple[object, None, str]:
        return self.step, None, "asyncio_call(fetch)"


async def looks_at(
    loop: OtherLoop, times: Iterable[float], change: Callable[[int], object] = lambda _: None
) -> list[Mapping[str, Any]]:
    """Look at a loop at these times with a limit of 1 s, and return the reports."""
    told: list[Mapping[str, Any]] = []
    async with open_runtime() as runtime:
        runtime.telemetry.attach(LOOP_BLOCKED, lambda _, how, about: told.append({**how, **about}))
        seen = _OtherLoop(loop, 1.0, 0.0)
        for number, now in enumerate(times):
            change(number)
            seen.look(now, 0.5, runtime)
        await trio.testing.wait_all_tasks_blocked()
    return told


SECONDS = [0.5 * number for number in range(1, 9)]


async def test_another_loop_that_answers_is_not_reported_and_an_idle_one_is_not_asked() -> None:
    loop = OtherLoop()
    assert await looks_at(loop, SECONDS) == []
    assert loop.pings == len(SECONDS)
    loop.is_calling = False
    assert await looks_at(loop, SECONDS) == []
    assert loop.pings == len(SECONDS)


async def test_a_step_that_blocks_another_loop_is_reported_once_with_its_call() -> None:
    loop = OtherLoop()
    loop.is_answering = False
    [about] = await looks_at(loop, SECONDS)
    assert about["seconds"] == 1.0
    assert about["call"] == "asyncio_call(fetch)"
    assert any("seen.look(now, 0.5, runtime)" in line for line in about["stack"])
    assert loop.pings == 1


async def test_many_short_steps_of_another_loop_are_not_one_long_step() -> None:
    loop = OtherLoop()
    loop.is_answering = False

    def goes_on(number: int) -> None:
        loop.step = number

    assert await looks_at(loop, SECONDS, goes_on) == []


async def test_a_pause_of_the_machine_does_not_count_for_another_loop() -> None:
    loop = OtherLoop()
    loop.is_answering = False
    assert await looks_at(loop, [0.5, 3.0]) == []
