"""A budget for the work of clients, which the connections of one endpoint share.

Trio runs every ready task before it looks for new input. If a hundred connections each work for a millisecond, all
other clients wait for a hundred milliseconds. So all connections share one budget of work for each turn of the
scheduler. When they have used up the budget of a turn, further work waits in line for the next turns.

    await services.budget.take(size >> COST_SHIFT)      # may wait for a later turn
    ...                                                 # the work, without a checkpoint

A client that sends little never waits behind clients that send much, because small pieces of work are free. See
`FREE_BYTES` and `FREE_FRAMES` in `channels.connection`.

The budget has no task of its own. The connection at the head of the line refills the budget in its next step, which is
in a later turn. Then this connection wakes the next ones. While no connection waits, the poller begins a new budget in
each of its turns, so work waits only if one turn has too much of it.
"""

from __future__ import annotations

from collections import deque

import msgspec
import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

__all__ = ["COST_SHIFT", "TURN_BUDGET", "WorkBudget", "WorkStatistics"]

TURN_BUDGET = 1024
"""Units of work in one turn of the scheduler. A unit is one small frame, or 64 bytes, and takes a few microseconds."""

COST_SHIFT = 6
"""The bytes of one unit of work, as a shift: 64 bytes. This is the cost of JSON that is slow to decode."""


class _Waiter:
    __slots__ = ("cost", "leads", "task")

    def __init__(self, cost: int, task: Task) -> None:
        self.cost = cost
        self.task = task
        # True if this waiter has to refill the budget when it wakes.
        self.leads = False


class WorkStatistics(msgspec.Struct, frozen=True, kw_only=True):
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
        """Return how many pieces of work wait now, and how many have waited so far."""
        return WorkStatistics(waiting=len(self._line), waits=self._waits)

    def begin_turn(self) -> None:
        """Begin the budget of a new turn, unless work waits in line. A task that runs once in each turn may call this.

        Without these calls, the budget begins anew only when some work has waited.
        """
        if not self._line:
            self._left = TURN_BUDGET

    def has_room(self, cost: int) -> bool:
        """Return True if `take` would take `cost` units without waiting."""
        return cost <= self._left and not self._line

    def spend(self, cost: int) -> None:
        """Take `cost` units of this turn without waiting. Call this only in the same step as `has_room`."""
        self._left -= cost

    async def take(self, cost: int) -> bool:
        """Take `cost` units. If this turn has enough left, return without a checkpoint.

        The limit is not exact. Work that waited uses the budget of one turn, and runs in the following turn. That turn
        also spends its own budget, so one turn may do twice the work of a budget. A piece of work also runs in one turn
        if it costs more than a whole budget.

        Returns:
            True if the caller had to wait for a later turn.
        """
        if self.has_room(cost):
            self.spend(cost)
            return False
        self._waits += 1
        me = _Waiter(cost, current_task())
        self._line.append(me)
        if self._line[0] is me:
            await self._lead()
            return True

        def leave(_: object) -> Abort:
            # Remove the waiter now. Before the next step of this task, another task could reschedule it.
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
            # Broad, because after any exception, such as an exit signal, the line must still move on.
            self._line.popleft()
            self._call_next()
            raise
        self._refill()

    def _refill(self) -> None:
        """Begin the budget of a new turn. Pay for the head of the line, and for the work after it while units last."""
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
