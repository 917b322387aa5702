"""The bound on the work of all connections in one turn of the scheduler."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from channels.protocol.work_budget import TURN_BUDGET, WorkBudget


class Turns(trio.abc.Instrument):
    """Counts the turns of the scheduler."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def worked(budget: WorkBudget, takers: int, cost: int) -> list[tuple[int, int]]:
    """Let tasks take an amount at the same time. Return the tasks by turn, in order."""
    turns = Turns()
    got: list[tuple[int, int]] = []

    async def take(number: int) -> None:
        await budget.take(cost)
        got.append((turns.count, number))

    trio.lowlevel.add_instrument(turns)
    async with trio.open_nursery() as nursery:
        for number in range(takers):
            nursery.start_soon(take, number)
    trio.lowlevel.remove_instrument(turns)
    return got


async def test_work_that_fits_into_a_turn_has_no_checkpoint() -> None:
    budget = WorkBudget()
    with trio.testing.assert_no_checkpoints():
        assert not await budget.take(TURN_BUDGET)
    assert budget.statistics().waits == 0


async def test_a_turn_does_not_exceed_its_budget() -> None:
    got = await worked(WorkBudget(), 100, TURN_BUDGET // 4)
    turns = [turn for turn, _ in got]
    assert max(map(turns.count, turns)) == 4
    assert len(set(turns)) >= 25


async def test_work_that_costs_more_than_a_turn_gets_its_own_turn() -> None:
    turns = [turn for turn, _ in await worked(WorkBudget(), 10, 3 * TURN_BUDGET)]
    assert len(set(turns)) == 10


async def test_waiting_work_is_served_in_order() -> None:
    budget = WorkBudget()
    order: list[int] = []

    async def take(number: int) -> None:
        await budget.take(TURN_BUDGET)
        order.append(number)

    await budget.take(1)
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(take, number)
            await trio.lowlevel.checkpoint()
    assert order == sorted(order)


@pytest.mark.parametrize("first", range(6))
async def test_cancelled_work_does_not_block_the_line(first: int) -> None:
    """Cancel waiters near the head of the line, all in the same turn. `first` chooses them."""
    budget = WorkBudget()
    got: list[int] = []

    async def take(number: int, scope: trio.CancelScope) -> None:
        with scope:
            await budget.take(TURN_BUDGET)
            got.append(number)

    scopes = [trio.CancelScope() for _ in range(30)]
    await budget.take(TURN_BUDGET)
    async with trio.open_nursery() as nursery:
        for number, scope in enumerate(scopes):
            nursery.start_soon(take, number, scope)
            await trio.lowlevel.cancel_shielded_checkpoint() if number == 0 else None
        await trio.lowlevel.checkpoint()
        cancelled = range(first, first + 8) if first < 3 else range(0, 30, first)
        for number in cancelled:
            scopes[number].cancel()
        await wait_all_tasks_blocked()
    assert set(got) >= set(range(30)) - set(cancelled)
    assert budget.statistics().waiting == 0
    # The budget still works.
    assert len(await worked(budget, 10, TURN_BUDGET)) == 10


async def test_the_next_in_line_may_be_cancelled_in_the_same_turn_as_the_first() -> None:
    budget = WorkBudget()

    async def take(scope: trio.CancelScope) -> None:
        with scope:
            await budget.take(TURN_BUDGET)

    # Which of the two hears of it first is Trio's choice, each time anew.
    for _ in range(30):
        await budget.take(1)
        async with trio.open_nursery() as nursery:
            scopes = [trio.CancelScope(), trio.CancelScope()]
            for scope in scopes:
                nursery.start_soon(take, scope)
            await trio.lowlevel.checkpoint()
            for scope in scopes:
                scope.cancel()
        assert budget.statistics().waiting == 0


def test_a_budget_grants_its_last_units() -> None:
    budget = WorkBudget()
    assert budget.has_room(TURN_BUDGET)
    assert not budget.has_room(TURN_BUDGET + 1)


async def test_a_budget_with_a_line_has_no_room() -> None:
    budget = WorkBudget()
    async with trio.open_nursery() as nursery:
        # The line is served one by one, so it exists for many turns.
        for _ in range(20):
            nursery.start_soon(budget.take, TURN_BUDGET)
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        assert budget.statistics().waiting > 0
        assert not budget.has_room(0)
