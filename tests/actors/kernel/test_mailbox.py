"""The queue of one process."""

from typing import Any

import pytest
import trio

from actors._kernel.mailbox import Mailbox
from actors._kernel.timer_queue import TimerQueue
from tests.actors.helpers import settle


def filled(*messages: Any) -> Mailbox:
    mailbox = Mailbox()
    for message in messages:
        mailbox.put(message)
    return mailbox


def test_messages_leave_in_the_order_of_their_arrival() -> None:
    mailbox = filled(1, 2, 3)
    assert [mailbox.take(None) for _ in range(4)] == [
        *[(True, 1), (True, 2), (True, 3)],
        (False, None),
    ]


def test_taking_by_a_predicate_leaves_the_rest_in_order() -> None:
    mailbox = filled(1, 2, 3, 4)
    assert mailbox.take(lambda message: message % 2 == 0) == (True, 2)
    assert list(mailbox.queue) == [1, 3, 4]


def test_a_refused_message_is_not_tested_again_until_the_next_receive() -> None:
    looked_at: list[int] = []

    def refuse(message: int) -> bool:
        looked_at.append(message)
        return False

    mailbox = filled(1, 2)
    mailbox.rewind()
    assert mailbox.take(refuse) == (False, None)
    mailbox.put(3)
    assert mailbox.take(refuse) == (False, None)
    assert looked_at == [1, 2, 3]
    mailbox.rewind()
    mailbox.take(refuse)
    assert looked_at == [1, 2, 3, 1, 2, 3]


def test_messages_move_behind_the_others_and_both_keep_their_order() -> None:
    mailbox = filled(1, 2, 3, 4)
    mailbox.move_to_back(lambda message: message % 2 == 1)
    mailbox.put(5)
    assert list(mailbox.queue) == [2, 4, 1, 3, 5]


@pytest.mark.parametrize("messages", [(), (1,), (1, 3), (2, 4)])
def test_a_move_of_all_messages_or_of_none_changes_nothing(messages: Any) -> None:
    mailbox = filled(*messages)
    mailbox.move_to_back(lambda message: message % 2 == 1)
    assert list(mailbox.queue) == list(messages)


def test_a_flush_during_a_receive_hides_no_message_from_it() -> None:
    mailbox = filled(1, 2, 3)
    mailbox.rewind()
    assert mailbox.take(lambda message: message == 4) == (False, None)
    mailbox.flush(lambda message: message == 2)
    mailbox.put(4)
    assert mailbox.take(lambda message: message == 4) == (True, 4)
    assert list(mailbox.queue) == [1, 3]


def test_a_flush_takes_one_message_or_none() -> None:
    mailbox = filled(1, 2, 1)
    mailbox.flush(lambda message: message == 1)
    mailbox.flush(lambda message: message == 7)
    assert list(mailbox.queue) == [2, 1]


def test_a_predicate_that_raises_loses_nothing() -> None:
    mailbox = filled(1, 0)
    with pytest.raises(ZeroDivisionError):
        mailbox.take(lambda message: 1 // message > 1)
    assert list(mailbox.queue) == [1, 0]


async def test_a_parked_task_is_woken_once_by_many_messages() -> None:
    mailbox, seen = Mailbox(), []

    async def reader() -> None:
        await mailbox.park()
        seen.append(len(mailbox))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await settle()
        for number in range(3):
            mailbox.put(number)
    assert seen == [3]


async def test_a_cancelled_park_leaves_the_mailbox_usable() -> None:
    mailbox = Mailbox()
    with trio.move_on_after(1):
        await mailbox.park()
    mailbox.put(1)
    assert mailbox.take(None) == (True, 1)


async def test_park_until_returns_false_after_the_deadline() -> None:
    mailbox, timers = Mailbox(), TimerQueue()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        began = trio.current_time()
        assert not await mailbox.park_until(began + 1, timers)
        assert trio.current_time() == pytest.approx(began + 1)
        timers.at(began + 2, lambda: mailbox.put("in time"))
        assert await mailbox.park_until(began + 3, timers)
        assert trio.current_time() == pytest.approx(began + 2)
        assert len(timers) == 0
        timers.stop()


async def test_a_task_sleeps_in_its_mailbox_until_it_runs_again(autojump_clock: object) -> None:
    mailbox = Mailbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.park)
        await settle()
        assert mailbox.sleeping
        mailbox.put("a message")
        # The mailbox has woken the task, but the task has not run yet.
        assert (mailbox.parked, mailbox.sleeping) == (False, True)
        await settle()
        assert not mailbox.sleeping


async def test_a_cancelled_task_does_not_sleep_in_its_mailbox(autojump_clock: object) -> None:
    mailbox = Mailbox()
    with trio.move_on_after(1):
        await mailbox.park()
    assert not mailbox.sleeping


async def test_a_woken_task_that_never_runs_still_sleeps(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox = Mailbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.park)
        await settle()
        monkeypatch.setattr("actors._kernel.mailbox.reschedule", lambda task: None)
        mailbox.put("a message")
        await settle()
        assert (mailbox.parked, mailbox.sleeping) == (False, True)
        nursery.cancel_scope.cancel()
    assert not mailbox.sleeping
