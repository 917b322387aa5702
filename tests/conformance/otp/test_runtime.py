"""The end of a runtime: case 64."""

import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from actors import Runtime, open_runtime, spawn, trap_exits
from supervision import Supervisor
from tests.supervision.workers import Log, worker

IN_ORDER = ["stop d", "stop c", "stop b", "stop a"]


async def deaf() -> None:
    """A process outside all trees that traps exits and ignores them."""
    trap_exits()
    await trio.sleep_forever()


async def three_levels(log: Log) -> None:
    """Start two trees whose leaves take a second each to stop, and a straggler outside them."""
    inner = Supervisor.child_spec([worker("b", log, stop_takes=1)], id="inner")
    await Supervisor.start([worker("a", log, stop_takes=1), inner])
    await Supervisor.start([worker("c", log, stop_takes=1), worker("d", log, stop_takes=1)])

    async def leaves_a_straggler() -> None:
        spawn(deaf, label="straggler")

    spawn(leaves_a_straggler)
    await trio.testing.wait_all_tasks_blocked()
    log.clear()


def run(main: Callable[[], Awaitable[None]]) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)

    async def guarded() -> None:
        with trio.fail_after(3600):
            await main()

    trio.run(guarded, clock=clock)


def nothing_is_left(runtime: Runtime) -> bool:
    left = runtime.statistics()
    return {left[key] for key in ("processes", "names", "timers", "zombies")} == {0}


async def test_64_an_outer_cancellation_starts_an_ordered_shutdown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log()
    with trio.move_on_after(10) as scope:
        async with open_runtime() as runtime:
            await three_levels(log)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert log.take() == IN_ORDER
    # Each leaf took a second. The straggler was killed at once.
    assert trio.current_time() == pytest.approx(14)
    assert "Killing the processes that are left at the end of the runtime: straggler" in caplog.text
    assert nothing_is_left(runtime)


def test_64_ctrl_c_starts_an_ordered_shutdown_and_is_raised_again() -> None:
    log = Log()
    runtimes: list[Runtime] = []

    async def main() -> None:
        async with open_runtime() as runtime:
            runtimes.append(runtime)
            await three_levels(log)
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert log.take() == IN_ORDER
    assert nothing_is_left(runtimes[0])


def test_64_ctrl_c_while_a_process_runs_does_not_interrupt_the_process() -> None:
    log, after = Log(), []

    async def main() -> None:
        async def busy() -> None:
            signal.raise_signal(signal.SIGINT)
            after.append("the next line")
            await trio.sleep_forever()

        async with open_runtime():
            await three_levels(log)
            spawn(busy)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert after == ["the next line"]
    assert log.take() == IN_ORDER


def test_64_a_second_ctrl_c_kills_everything_at_once() -> None:
    log, times = Log(), []

    async def main() -> None:
        # As Ctrl-C while no task runs: Trio raises it in the main task.
        @trio.lowlevel.enable_ki_protection
        async def press_again() -> None:
            await trio.sleep(1.5)
            signal.raise_signal(signal.SIGINT)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(press_again)
            try:
                async with open_runtime():
                    await three_levels(log)
                    signal.raise_signal(signal.SIGINT)
                    await trio.sleep_forever()
            finally:
                times.append(trio.current_time())

    with pytest.raises(BaseExceptionGroup) as caught:
        run(main)
    assert [type(error) for error in caught.value.exceptions] == [KeyboardInterrupt]
    assert times == [pytest.approx(1.5)]
    assert log.take() == ["stop d"]


async def test_64_processes_that_do_not_stop_within_the_deadline_are_killed_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log()
    with caplog.at_level(logging.WARNING):
        async with open_runtime(shutdown_deadline=2.5):
            await three_levels(log)
            spawn(deaf, label="deaf root")
            await trio.testing.wait_all_tasks_blocked()
    assert log.take() == []  # the newest root stops first, and never ends
    assert trio.current_time() == pytest.approx(2.5)
    assert "did not end within 2.5 s" in caplog.text
    assert "deaf root" in caplog.text


async def test_64_an_error_of_the_body_is_raised_unchanged_after_the_shutdown() -> None:
    log = Log()
    error = ValueError("of the body")
    runtime: Any = None
    with pytest.raises(ValueError, match="of the body") as caught:
        async with open_runtime() as runtime:
            await three_levels(log)
            raise error
    assert caught.value is error
    assert log.take() == IN_ORDER
    assert nothing_is_left(runtime)
