"""Periodic messages, and the time that a timer has left."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from actors import (
    NORMAL,
    cancel_timer,
    current_pid,
    open_runtime,
    process_dictionary,
    read_timer,
    receive,
    send_after,
    send_every,
    spawn,
    wait_exit,
)
from actors.adoption import as_process


async def test_a_periodic_timer_fires_at_multiples_of_its_interval_until_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_runtime() as runtime, as_process() as me:
        began = trio.current_time()
        timer = send_every(me, "tick", 0.5)
        times = []
        for _ in range(3):
            assert await receive() == "tick"
            times.append(trio.current_time() - began)
        assert times == pytest.approx([0.5, 1.0, 1.5])
        assert cancel_timer(timer) == pytest.approx(0.5)
        assert runtime.statistics()["timers"] == 0
        with pytest.raises(trio.TooSlowError):
            await receive(timeout=5)


async def test_a_periodic_timer_skips_the_times_that_a_blocked_loop_missed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_runtime(), as_process() as me:
        began = trio.current_time()
        timer = send_every(me, "tick", 1.0)
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        clock.jump(3.5)
        assert await receive() == "tick"
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        with pytest.raises(trio.TooSlowError):
            await receive(timeout=0)
        assert read_timer(timer) == pytest.approx(began + 4 - trio.current_time())
        cancel_timer(timer)


async def test_the_end_of_the_process_cancels_a_periodic_timer() -> None:
    async def process() -> None:
        send_every(current_pid(), "tick", 1.0)

    async with open_runtime() as runtime:
        pid = spawn(process)
        await wait_exit(pid)
        assert runtime.statistics()["timers"] == 0
        # A timer for an ended process does not start.
        assert read_timer(send_every(pid, "tick", 1.0)) is None


async def test_read_timer_returns_the_time_left_and_none_after_the_last_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_runtime(), as_process() as me:
        timer = send_after(me, "once", 2)
        await trio.sleep(0.5)
        assert read_timer(timer) == pytest.approx(1.5)
        await receive()
        assert read_timer(timer) is None


async def test_the_end_of_a_process_cancels_a_periodic_timer_that_has_fired(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_runtime() as runtime:
        pid = spawn(trio.sleep, 2.5)
        timer = send_every(pid, "tick", 1.0)
        assert await wait_exit(pid) is NORMAL
        assert read_timer(timer) is None
        assert runtime.statistics()["timers"] == 0


async def test_a_periodic_timer_fires_once_when_many_timers_are_cancelled_at_that_moment(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_runtime() as runtime, as_process() as me:
        timers = runtime.timers
        later = [timers.at(60.0, lambda: None) for _ in range(1000)]

        def cancel_all() -> None:
            for timer in later:
                timers.forget(timer)

        timers.at(1.0, cancel_all)
        tick = send_every(me, "tick", 1.0)
        await trio.sleep(3.5)
        cancel_timer(tick)
        assert [await receive(timeout=0) for _ in range(3)] == ["tick"] * 3
        with pytest.raises(trio.TooSlowError):
            await receive(timeout=0)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
async def test_an_invalid_interval_is_refused(seconds: float) -> None:
    async with open_runtime(), as_process() as me:
        with pytest.raises(ValueError, match="write a finite interval above 0"):
            send_every(me, "tick", seconds)


async def test_a_process_dictionary_is_not_inherited() -> None:
    found: list[dict[object, object]] = []

    async def child() -> None:
        found.append(dict(process_dictionary()))

    async def parent() -> None:
        process_dictionary()["key"] = "value"
        await wait_exit(spawn(child))
        found.append(dict(process_dictionary()))

    async with open_runtime():
        assert await wait_exit(spawn(parent)) is NORMAL
    assert found == [{}, {"key": "value"}]
