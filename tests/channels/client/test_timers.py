"""Timers without a clock."""

from __future__ import annotations

import math

from channels.client.timers import Timers


def run(timers: Timers, now: float) -> None:
    for timer in timers.due(now):
        assert timer.callback is not None
        timer.callback(timer.argument)


def test_timers_run_in_the_order_of_their_times_and_then_of_their_start() -> None:
    timers, ran = Timers(), list[str]()
    for when, name in [(2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "z")]:
        timers.start(when, ran.append, name)
    run(timers, 2.0)
    assert ran == ["a", "b", "c"]
    assert timers.deadline == 9.0


def test_a_timer_that_a_timer_starts_runs_in_the_same_go_if_it_is_due() -> None:
    timers, ran = Timers(), list[str]()
    timers.start(1.0, lambda name: timers.start(1.0, ran.append, name), "inner")
    run(timers, 1.0)
    assert ran == ["inner"]


def test_a_timer_can_be_cancelled_by_one_that_runs_before_it() -> None:
    timers, ran = Timers(), list[str]()
    second = timers.start(1.0, ran.append, "second")
    timers.start(0.5, timers.cancel, second)
    run(timers, 2.0)
    assert ran == []
    assert timers.deadline == math.inf


def test_cancelling_nothing_or_twice_or_too_late_is_fine() -> None:
    timers, ran = Timers(), list[str]()
    timer = timers.start(1.0, ran.append, "once")
    run(timers, 1.0)
    timers.cancel(timer)
    timers.cancel(timer)
    timers.cancel(None)
    assert ran == ["once"]


def test_cancelled_timers_do_not_pile_up() -> None:
    timers = Timers()
    timers.start(100.0, print)
    for _ in range(10_000):
        timers.cancel(timers.start(200.0, print))
    assert len(timers._heap) < 100
    assert timers.deadline == 100.0
