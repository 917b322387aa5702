"""A heap of deadlines, and a task that waits for the earliest deadline.

Calls, receives and starts with a time limit use this queue instead of a cancel scope each. Making a timer is a heap
push, and cancelling a timer clears its callback. Times are Trio's (`trio.current_time()`), so a test's virtual clock
moves them.

Cancelled timers stay in the heap until they reach its top. Most timers are time limits of calls that are answered
immediately. Removing them from the middle of the heap would cost more than leaving them. When cancelled timers fill
more than a third of the heap, the queue rebuilds it without them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import trio
from trio.lowlevel import enable_ki_protection, wait_task_rescheduled

from actors.refs import TimerRef

__all__ = ["TimerQueue"]

# With fewer cancelled timers than this, a rebuild of the heap is not worth its cost.
_REBUILD_FLOOR = 256


class TimerQueue:
    """The timers of one runtime. A task of the runtime's own calls `run`."""

    __slots__ = ("_forgotten", "_heap", "_numbers", "_scope", "_stopped", "_wakes_at")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimerRef]] = []
        self._numbers = 0
        self._forgotten = 0
        self._scope: trio.CancelScope | None = None
        # A copy of the scope's deadline, which is slow to read. -inf while there is no scope, so that `at` sets none.
        self._wakes_at = -math.inf
        self._stopped = False

    def __len__(self) -> int:
        """Return the number of pending timers."""
        return len(self._heap) - self._forgotten

    @enable_ki_protection
    def at(
        self, deadline: float, callback: Callable[[], None], timer: TimerRef | None = None
    ) -> TimerRef:
        """Call `callback` once `trio.current_time()` has reached `deadline`, unless the timer is cancelled first.

        Timers with the same deadline run in the order of their creation. The callback must not raise or block. To
        repeat a timer under the same reference, its callback passes that timer as `timer`.
        """
        self._numbers = number = self._numbers + 1
        if timer is None:
            timer = TimerRef(number, deadline, callback)
        else:
            timer.deadline = deadline
            timer.callback = callback
        heapq.heappush(self._heap, (deadline, number, timer))
        if deadline < self._wakes_at and self._scope is not None:
            self._scope.deadline = self._wakes_at = deadline
        return timer

    @enable_ki_protection
    def cancel(self, timer: TimerRef) -> float | None:
        """Cancel a timer. Return the seconds that it had left, or None if it has run or was cancelled before."""
        left = self.remaining(timer)
        self.forget(timer)
        return left

    @enable_ki_protection
    def forget(self, timer: TimerRef) -> None:
        """Cancel a timer if it has not run. Cheaper than `cancel`, which also computes the time left."""
        if timer.callback is None:
            return
        timer.callback = timer.owner = None
        self._forgotten += 1
        if self._forgotten > _REBUILD_FLOOR and self._forgotten * 3 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._forgotten = 0

    def remaining(self, timer: TimerRef) -> float | None:
        """Return the seconds that a timer has left, or None if it has run or was cancelled."""
        if timer.callback is None:
            return None
        return max(0.0, timer.deadline - trio.current_time())

    @enable_ki_protection
    async def run(self) -> None:
        """Run each timer when it is due, until `stop`."""
        wake = _woken_by_cancelling(trio.lowlevel.current_task())
        while not self._stopped:
            deadline = self._heap[0][0] if self._heap else math.inf
            self._wakes_at = deadline
            with trio.CancelScope(deadline=deadline) as scope:
                self._scope = scope
                await wait_task_rescheduled(wake)
                if not scope.cancel_called:
                    # A scope around this one was cancelled.
                    await trio.lowlevel.checkpoint()
            self._scope, self._wakes_at = None, -math.inf
            self._run_due(trio.current_time())

    def stop(self) -> None:
        """End `run` and drop the pending timers."""
        self._stopped = True
        for _, _, timer in self._heap:
            timer.callback = timer.owner = None
        self._heap = []
        self._forgotten = 0
        if self._scope is not None:
            self._scope.cancel()

    def _run_due(self, now: float) -> None:
        # A callback may create a timer that is due immediately. The number of the new timer is above `last`, so the
        # timer runs in the next round, and other tasks run in between.
        last = self._numbers
        heap = self._heap
        while heap and heap[0][0] <= now and heap[0][1] <= last:
            timer = heapq.heappop(heap)[2]
            callback = timer.callback
            if callback is None:
                self._forgotten -= 1
            else:
                timer.callback = timer.owner = None
                callback()
                heap = self._heap


def _woken_by_cancelling(task: trio.lowlevel.Task) -> Callable[[object], trio.lowlevel.Abort]:
    """Return an abort function that wakes the task without an exception. Raising one for each timer would be slow."""

    def wake(_: object) -> trio.lowlevel.Abort:
        trio.lowlevel.reschedule(task)
        return trio.lowlevel.Abort.FAILED

    return wake
