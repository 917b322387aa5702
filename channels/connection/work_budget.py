"""A budget for the work of clients, which the connections of one endpoint share.

Trio runs every ready task before it looks for new input. If a hundred connections each work for a millisecond, all
other clients wait for a hundred milliseconds. So connections take their work from one budget for each turn of the
scheduler. When the budget of a turn is used up, more work waits in line. The next turns serve the line in order.

    await services.budget.take(size >> COST_SHIFT)      # may wait for a later turn
    ...                                                 # the work, without a checkpoint

A client that sends little never waits behind clients that send much, because small pieces of work are free. See
`FREE_BYTES` and `FREE_FRAMES` in `channels.connection`.

The budget has no task. The connection at the head of the line refills it in its next step, which is in a later turn.
Then it wakes the next connections. While no connection waits, a turn costs nothing.
"""

from __future__ import annotations

from collections import deque

import trio
from attrs import frozen
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

__all__ = ["COST_SHIFT", "TURN_BUDGET", "WorkBudget", "WorkStatistics"]

TURN_BUDGET = 1024
"""Units of work in one turn of the scheduler. A unit is one small frame, or 64 bytes. It takes some microseconds."""

COST_SHIFT = 6
"""The bytes of one unit of work, as a shift: 64 bytes. JSON that is slow to decode costs this much."""


class _Waiter:
    __slots__ = ("cost", "leads", "task")

    def __init__(self, cost: int, task: Task) -> None:
        self.cost = cost
        self.task = task
        # True if this waiter has to refill the budget when it wakes.
        self.leads = False


@frozen(kw_only=True)
class WorkStatistics:
    """The state of a work budget at one moment.

    Attributes:
        waiting: pieces of work in line for a later turn of the scheduler.
        waits: pieces of work that have waited since the endpoint started.
    """

    waiting: int
    waits: int


class WorkBudget:
    """A limit on the work of all connections of an endpoint in one turn of the scheduler.

    >>> async def example(budget: WorkBudget) -> None:
    ...     await budget.take(100)
    """

    __slots__ = ("_left", "_line", "_waits")

    def __init__(self) -> None:
        self._left = TURN_BUDGET
        self._line: deque[_Waiter] = deque()
        self._waits = 0

    def statistics(self) -> WorkStatistics:
        """Return the numbers of pieces of work that wait now, and that have waited."""
        return WorkStatistics(waiting=len(self._line), waits=self._waits)

    async def take(self, cost: int) -> bool:
        """Take `cost` units. If this turn has enough left, return without a checkpoint.

        The limit is not exact. Work that waited runs one turn later than the turn whose budget it used. That later turn
        has its own budget too. So a turn may handle twice the budget. A piece that costs more than the budget also runs
        in one turn.

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
            # Removed now and not in the next step of this task, because another task could wake it before that.
            self._line.remove(me)
            return Abort.SUCCEEDED

        await wait_task_rescheduled(leave)
        if me.leads:
            self._refill()
        return True

    async def _lead(self) -> None:
        """Refill the budget in the next turn. Only the first task in line calls this, because nothing else wakes it."""
        try:
            await trio.lowlevel.checkpoint()
        except BaseException:
            # Broad, because any exit signal ends the process here, and the line must still move on.
            self._line.popleft()
            self._call_next()
            raise
        self._refill()

    def _refill(self) -> None:
        """Begin the budget of a new turn, and pay for the head of the line and as much work after it as fits."""
        line = self._line
        self._left = TURN_BUDGET - line.popleft().cost
        while line and line[0].cost <= self._left:
            paid = line.popleft()
            self._left -= paid.cost
            reschedule(paid.task)
        self._call_next()

    def _call_next(self) -> None:
        if self._line:
            # This task runs in the next turn.
            head = self._line[0]
            head.leads = True
            reschedule(head.task)
