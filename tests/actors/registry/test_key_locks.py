"""Locks exist only while a process holds or wants them."""

import gc
import weakref

import pytest
import trio

from actors import kill, monitor, spawn
from actors.registry.registry import KeyLocks
from tests.actors.helpers import down, in_process, settle


async def test_plain_tasks_get_the_lock_in_the_order_of_their_requests() -> None:
    locks, order = KeyLocks(), list[int]()

    async def work(number: int) -> None:
        ticket = await locks.acquire("key")
        order.append(number)
        await trio.sleep(1)
        locks.release(ticket)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(work, number)
            await settle()
        assert len(locks) == 1
    assert order == [0, 1, 2, 3, 4]
    assert len(locks) == 0


async def test_a_cancelled_wait_leaves_the_queue() -> None:
    locks = KeyLocks()
    ticket = await locks.acquire("key")
    with trio.move_on_after(1) as scope:
        await locks.acquire("key")
    assert scope.cancelled_caught
    locks.release(ticket)
    assert len(locks) == 0


async def test_a_lock_that_reaches_a_cancelled_task_goes_to_the_next() -> None:
    locks = KeyLocks()
    first = await locks.acquire("key")
    scope = trio.CancelScope()

    async def is_cancelled() -> None:
        with scope:
            await locks.acquire("key")

    async def waits() -> None:
        locks.release(await locks.acquire("key"))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(is_cancelled)
            await settle()
            nursery.start_soon(waits)
            await settle()
            # When the lock becomes free, the cancelled task is still in the queue.
            scope.cancel()
            locks.release(first)
    assert len(locks) == 0


async def test_a_free_lock_is_a_checkpoint_too() -> None:
    locks = KeyLocks()
    with trio.CancelScope() as scope:
        scope.cancel()
        await locks.acquire("key")
        pytest.fail("it did not look for a cancellation")
    assert len(locks) == 0


async def test_a_second_release_does_not_affect_the_next_holder() -> None:
    locks = KeyLocks()
    first = await locks.acquire("key")
    locks.release(first)
    await locks.acquire("key")
    locks.release(first)
    assert locks.holds("key")


@in_process()
async def test_a_task_that_is_killed_in_the_turn_of_its_lock_does_not_get_it() -> None:
    locks = KeyLocks()
    ticket = await locks.acquire("key")
    entered = False

    async def wait() -> None:
        nonlocal entered
        await locks.acquire("key")
        entered = True

    waiter = spawn(wait)
    await settle()
    locks.release(ticket)
    ref = monitor(waiter)
    kill(waiter)
    await down(ref)
    assert not entered
    assert len(locks) == 0


@in_process()
async def test_a_released_lock_leaves_nothing_with_the_process() -> None:
    locks = KeyLocks()
    ticket = await locks.acquire("key")
    gone = weakref.ref(ticket.turn)
    locks.release(ticket)
    del ticket
    gc.collect()
    assert gone() is None
