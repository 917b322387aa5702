"""A budget for the work that clients cause, shared by the connections of one endpoint.

Trio runs every ready task before it looks for new input. If a hundred connections each work for a millisecond,
everybody else waits for a hundred milliseconds. So connections take their work from one budget. When it is used up,
further work waits in line, and the next turns of the scheduler serve the line in order.

    await services.budget.take(size >> COST_SHIFT)      # may wait for a later turn
    ...                                                 # the work, without a checkpoint

Small pieces of work are free: see `FREE_BYTES` and `FREE_FRAMES` in `channels.connection`. So a client that sends
little never waits behind clients that send much.

There is no task for this. The connection at the head of the line refills the budget in its own next step, which is in
a later turn, and wakes those behind it. While no connection waits, a turn costs nothing.
"""

from __future__ import annotations

from collections import deque

import trio
from attrs import frozen
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

__all__ = ["COST_SHIFT", "TURN_BUDGET", "WorkBudget", "WorkStatistics"]

TURN_BUDGET = 1024
"""Units of work for one turn of the scheduler. A unit is one small frame, or 64 bytes: some microseconds."""

COST_SHIFT = 6
"""Bytes for one unit of work, as a shift: 64. That is the cost of the slowest JSON."""


class _Waiter:
    __slots__ = ("cost", "leads", "task")

    def __init__(self, cost: int, task: Task) -> None:
        self.cost = cost
        self.task = task
        # Woken to refill the budget, not because its work is paid for.
        self.leads = False


@frozen(kw_only=True)
class WorkStatistics:
    """The state of a work budget at one moment.

    Attributes:
        waiting: pieces of work that wait for a later turn of the scheduler.
        waits: how often a piece of work has waited since the endpoint started.
    """

    waiting: int
    waits: int


class WorkBudget:
    """The work that all connections of an endpoint may do in one turn of the scheduler.

    >>> async def example(budget: WorkBudget) -> None:
    ...     await budget.take(100)
    """

    __slots__ = ("_left", "_line", "_waits")

    def __init__(self) -> None:
        self._left = TURN_BUDGET
        self._line: deque[_Waiter] = deque()
        self._waits = 0

    def statistics(self) -> WorkStatistics:
        """Return how much work waits now, and how often work has waited."""
        return WorkStatistics(waiting=len(self._line), waits=self._waits)

    async def take(self, cost: int) -> bool:
        """Take `cost` units. Return at once, without a checkpoint, if this turn has enough left.

        Not guaranteed: work that was paid for in one turn runs in the next, beside the budget of that turn. So a turn
        may handle up to twice the budget, and one piece that costs more than a whole turn.

        Returns:
            True if the caller had to wait for a later turn.
        """
        if cost <= self._left and not self._line:
            self._left -= cost
            return False
        self._waits += 1
        me = _Waiter(cost, current_task())
        self._line.append(me)
        if self._line[0] is me:
            await self._lead()
            return True

        def leave(_: object) -> Abort:
            # At once, not in the next step of this task, because until then another task could wake it a second time.
            self._line.remove(me)
            return Abort.SUCCEEDED

        await wait_task_rescheduled(leave)
        if me.leads:
            self._refill()
        return True

    async def _lead(self) -> None:
        """Refill the budget in the next turn. Only the head of the line calls this, because no other task wakes it."""
        try:
            await trio.lowlevel.checkpoint()
        except BaseException:
            # A signal ends the process of this connection.
            self._line.popleft()
            self._call_next()
            raise
        self._refill()

    def _refill(self) -> None:
        """Begin the budget of a new turn: pay for the head of the line, and for as much behind it as it allows."""
        line = self._line
        self._left = TURN_BUDGET - line.popleft().cost
        while line and line[0].cost <= self._left:
            paid = line.popleft()
            self._left -= paid.cost
            reschedule(paid.task)
        self._call_next()

    def _call_next(self) -> None:
        if self._line:
            # It runs in the next turn, and refills the budget then.
            head = self._line[0]
            head.leads = True
            reschedule(head.task)
