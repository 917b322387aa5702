"""The heap of deadlines, and the functions that send messages later."""

import math
from typing import Any

import pytest
import trio

from actors import (
    Instrument,
    Pid,
    TimerRef,
    cancel_timer,
    current_pid,
    current_runtime,
    receive,
    send_after,
)
from actors._kernel.timer_queue import TimerQueue
from tests.actors.helpers import dead_process, in_process, nothing_arrives


async def test_timers_run_by_deadline_and_then_in_the_order_of_creation() -> None:
    timers, ran = TimerQueue(), []
    now = trio.current_time()
    for name, seconds in [("c", 2), ("a", 1), ("d", 2), ("b", 1)]:
        timers.at(now + seconds, lambda name=name: ran.append(name))  # type: ignore[misc]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        await trio.sleep(1.5)
        assert ran == ["a", "b"]
        # This timer is due before the one that the queue waits for.
        timers.at(trio.current_time() + 0.1, lambda: ran.append("new"))
        await trio.sleep(0.2)
        assert ran == ["a", "b", "new"]
        await trio.sleep(1)
        assert ran == ["a", "b", "new", "c", "d"]
        assert len(timers) == 0
        timers.stop()


async def test_a_cancellation_ends_the_task_of_a_timer_queue() -> None:
    timers = TimerQueue()
    timers.at(trio.current_time() + 5, lambda: None)
    with trio.move_on_after(1) as scope:
        await timers.run()
    assert scope.cancelled_caught


async def test_cancel_returns_the_time_left_once() -> None:
    timers = TimerQueue()
    timer = timers.at(trio.current_time() + 3, lambda: pytest.fail("cancelled"))
    await trio.sleep(1)
    assert timers.remaining(timer) == pytest.approx(2)
    assert len(timers) == 1
    assert timers.cancel(timer) == pytest.approx(2)
    assert timers.cancel(timer) is None
    assert timers.remaining(timer) is None
    assert len(timers) == 0


async def test_a_timer_that_has_run_has_no_time_left() -> None:
    timers = TimerQueue()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        timer = timers.at(trio.current_time() + 1, lambda: None)
        await trio.sleep(1.5)
        assert timers.remaining(timer) is None
        assert timers.cancel(timer) is None
        timers.stop()


async def test_cancelled_timers_do_not_pile_up() -> None:
    timers = TimerQueue()
    kept = [timers.at(math.inf, lambda: None) for _ in range(100)]
    for _ in range(10_000):
        timers.cancel(timers.at(trio.current_time() + 5, lambda: None))
    assert len(timers) == len(kept)
    assert len(timers._heap) < 1000


async def test_a_timer_that_makes_another_due_at_once_lets_other_tasks_run() -> None:
    timers, ran, stepped = TimerQueue(), 0, 0

    def again() -> None:
        nonlocal ran
        ran += 1
        timers.at(trio.current_time(), again)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        timers.at(trio.current_time(), again)
        while ran < 50:
            await trio.lowlevel.checkpoint()
            stepped += 1
        timers.stop()
    assert stepped >= 25


async def test_stop_drops_pending_timers() -> None:
    timers = TimerQueue()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        timer = timers.at(trio.current_time() + 1, lambda: pytest.fail("stopped"))
        await trio.lowlevel.checkpoint()
        timers.stop()
    assert len(timers) == 0
    assert timers.cancel(timer) is None


@pytest.mark.parametrize("seconds", [-1, -math.inf, math.nan])
@in_process()
async def test_an_invalid_delay_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="send_after got"):
        send_after(current_pid(), "tick", seconds)
    assert current_runtime().statistics()["timers"] == 0


@in_process()
async def test_send_after_delivers_the_message_after_the_delay() -> None:
    began = trio.current_time()
    send_after(current_pid(), "second", 2)
    send_after(current_pid(), "first", 1)
    send_after(current_pid(), "now", 0)
    times = {await receive(): trio.current_time() - began for _ in range(3)}
    assert times == {"now": 0, "first": pytest.approx(1), "second": pytest.approx(2)}


@in_process()
async def test_a_timer_for_an_ended_process_does_not_start() -> None:
    timer = send_after(await dead_process(), "tick", 1)
    assert current_runtime().statistics()["timers"] == 0
    assert cancel_timer(timer) is None


@in_process()
async def test_instruments_see_messages_of_timers_and_may_drop_them() -> None:
    seen: list[Any] = []

    class Drops(Instrument):
        def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> bool:
            seen.append((sender, receiver, message))
            return False

    remove = current_runtime().add_instrument(Drops())
    send_after(current_pid(), "tick", 1)
    await nothing_arrives(2)
    assert seen == [(None, current_pid(), "tick")]
    remove()
    send_after(current_pid(), "tick", 1)
    assert await receive() == "tick"


@in_process()
async def test_a_finished_timer_does_not_keep_its_process_in_memory() -> None:
    timer = send_after(current_pid(), "tick", 1)
    assert isinstance(timer, TimerRef)
    await receive()
    assert timer.owner is None
    timer = send_after(current_pid(), "tick", 1)
    cancel_timer(timer)
    assert timer.owner is None
