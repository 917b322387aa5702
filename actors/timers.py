"""One heap of deadlines and one task that waits for the earliest of them.

Everything in a runtime that waits with a limit uses this queue instead of a cancel scope of its own: scheduling a
timer is a heap push, and cancelling one is forgetting its callback. Times are Trio's (`trio.current_time()`), so a
test's virtual clock moves them.

Why cancelled timers stay in the heap: most timers are the time limits of calls that are answered at once, and
removing each from the middle of a heap costs more than letting it surface. When more than half of the heap is
forgotten timers it is rebuilt without them, so the heap is never more than twice as large as what is pending.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import trio

from actors.refs import TimerRef

__all__ = ["TimerQueue"]

# Below this many forgotten timers a rebuild would cost more than it frees.
_REBUILD_FLOOR = 256


class TimerQueue:
    """Timers of one runtime, run by `run` in a task of the runtime's own."""

    __slots__ = ("_forgotten", "_heap", "_numbers", "_scope", "_stopped")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimerRef]] = []
        self._numbers = 0
        self._forgotten = 0
        self._scope: trio.CancelScope | None = None
        self._stopped = False

    def __len__(self) -> int:
        """How many timers are pending."""
        return len(self._heap) - self._forgotten

    def at(self, deadline: float, callback: Callable[[], None]) -> TimerRef:
        """Call `callback` once `trio.current_time()` has reached `deadline`, unless the timer is cancelled first.

        Timers of the same deadline run in the order in which they were made. The callback must not raise or block.
        """
        self._numbers = number = self._numbers + 1
        timer = TimerRef(number)
        timer._deadline = deadline
        timer._callback = callback
        heapq.heappush(self._heap, (deadline, number, timer))
        scope = self._scope
        if scope is not None and deadline < scope.deadline:
            scope.deadline = deadline
        return timer

    def cancel(self, timer: TimerRef) -> float | None:
        """Forget a timer. Returns the seconds that it had left, or None if it has run or was cancelled before."""
        if timer._callback is None:
            return None
        timer._callback = None
        self._forgotten += 1
        if self._forgotten > _REBUILD_FLOOR and self._forgotten * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2]._callback is not None]
            heapq.heapify(self._heap)
            self._forgotten = 0
        return max(0.0, timer._deadline - trio.current_time())

    def remaining(self, timer: TimerRef) -> float | None:
        """The seconds that a timer has left, or None if it has run or was cancelled."""
        if timer._callback is None:
            return None
        return max(0.0, timer._deadline - trio.current_time())

    async def run(self) -> None:
        """Run what is due, as it becomes due, until `stop`."""
        while not self._stopped:
            deadline = self._heap[0][0] if self._heap else math.inf
            with trio.CancelScope(deadline=deadline) as self._scope:
                await trio.sleep_forever()
            self._scope = None
            self._run_due(trio.current_time())

    def stop(self) -> None:
        """End `run`; what is still pending never runs."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    def _run_due(self, now: float) -> None:
        # A callback may make a timer that is due at once. Numbers grow, so this bound leaves it to the next round and
        # lets other tasks run in between.
        last = self._numbers
        heap = self._heap
        while heap and heap[0][0] <= now and heap[0][1] <= last:
            timer = heapq.heappop(heap)[2]
            callback = timer._callback
            if callback is None:
                self._forgotten -= 1
            else:
                timer._callback = None
                callback()
                heap = self._heap
