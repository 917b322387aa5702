"""The counts of a turn, in the turn in which they begin anew."""

import pytest
import trio

from actors._kernel.mailbox import BURST, CALLS, Mailbox, WakeBatches
from tests.actors.helpers import settle


@pytest.mark.xfail(strict=True, reason="128 calls before the new count, and 256 after it")
async def test_a_turn_allows_no_more_calls_than_calls() -> None:
    batches = WakeBatches()
    totals: list[int] = []

    async def call(first: int) -> None:
        for _ in range(first):
            assert batches.allow_call()
        await trio.lowlevel.checkpoint()
        # In this turn, `run` begins a new count. In half of the rounds it has its step between two of these tasks.
        while batches.allow_call():
            totals[-1] += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(batches.run)
        await settle()
        for _ in range(40):
            totals.append(0)
            async with trio.open_nursery() as callers:
                for first in (0, BURST, 0):
                    callers.start_soon(call, first)
            await settle()
        batches.stop()
    assert max(totals) <= CALLS


async def test_calls_never_stay_used_up() -> None:
    batches = WakeBatches()
    assert all(batches.allow_call() for _ in range(2 * CALLS)), "before `run`"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batches.run)
        await settle()
        for _ in range(5):
            assert sum(batches.allow_call() for _ in range(2 * CALLS)) == CALLS
            await settle()
        batches.used_up()
        assert sum(batches.allow_call() for _ in range(2 * CALLS)) == CALLS
        await settle()
        assert batches.allow_call()
        batches.stop()
        await settle()
        assert all(batches.allow_call() for _ in range(2 * CALLS)), "after `run`"


async def test_a_poller_may_make_a_burst_of_calls_in_every_turn() -> None:
    batches = WakeBatches()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batches.run)
        await settle()
        # In about half of these turns, `run` has its step after this task.
        for _ in range(50):
            assert all(batches.allow_call() for _ in range(BURST))
            await trio.lowlevel.checkpoint()
        batches.stop()


async def test_each_turn_of_a_backlog_allows_calls() -> None:
    batches = WakeBatches()
    mailboxes = [Mailbox(batches) for _ in range(10 * BURST)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batches.run)
        for mailbox in mailboxes:
            nursery.start_soon(mailbox.park)
        await settle()
        for mailbox in mailboxes:
            mailbox.put("now")
        for _ in range(3):
            while batches.allow_call():
                pass
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            assert batches.waiting() > 0
            assert batches.allow_call()
        await settle()
        batches.stop()
