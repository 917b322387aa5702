"""The record of one key: its waiting requests, its fences and its restart limits."""

from __future__ import annotations

from channels.entities.ownership import Limits, Record, State
from supervision import Backoff

LIMITS = Limits(2, 10.0, Backoff(1.0, 8.0))


def test_requests_wait_in_order_and_take_no_memory_when_there_are_none() -> None:
    record: Record[int] = Record("k")
    assert record.waiting == ()
    record.wait(3)
    record.wait(4)
    record.wait_first([1, 2])
    record.wait_first([])
    assert record.take_waiting() == [1, 2, 3, 4]
    assert record.waiting == ()


def test_each_start_after_the_first_demands_a_greater_fence() -> None:
    record: Record[int] = Record("k")
    assert record.next_fence() == 0
    record.fence = 7
    assert record.next_fence() == 8


def test_a_start_forgets_the_latest_process() -> None:
    record: Record[int] = Record("k")
    record.state, record.reason, record.transferred = State.MOVING, "gone", 9
    record.is_loading = record.is_released = True
    record.begin_start()
    assert record.state is State.STARTING
    forgotten = record.reason, record.transferred, record.is_loading, record.is_released
    assert not any(forgotten)


def test_crashes_beyond_the_limit_wait_longer_each_time() -> None:
    record: Record[int] = Record("k")
    assert [record.count_crash(LIMITS, now) for now in (0.0, 1.0, 2.0)] == [0.0, 0.0, 1.0]
    assert record.held_until == 3.0
    # The first start after the wait begins a new window, and the next wait is longer.
    assert [record.count_crash(LIMITS, now) for now in (3.0, 4.0, 5.0)] == [0.0, 0.0, 2.0]
    assert [record.count_crash(LIMITS, now) for now in (7.0, 8.0, 9.0)] == [0.0, 0.0, 4.0]
    # After a long run, the waits begin again.
    assert [record.count_crash(LIMITS, now) for now in (50.0, 51.0, 52.0)] == [0.0, 0.0, 1.0]


def test_crashes_outside_the_window_do_not_count() -> None:
    record: Record[int] = Record("k")
    assert {record.count_crash(LIMITS, now * 6.0) for now in range(20)} == {0.0}


def test_a_record_is_forgettable_once_its_waits_would_begin_again() -> None:
    record: Record[int] = Record("k")
    assert record.is_forgettable(LIMITS, 0.0)
    for _ in range(3):
        record.count_crash(LIMITS, 0.0)
    assert not record.is_forgettable(LIMITS, 8.9)
    assert record.is_forgettable(LIMITS, 9.0)
