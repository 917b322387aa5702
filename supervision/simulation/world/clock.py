"""The virtual clock. Its time advances only when no task can run.

The clock then jumps to the next deadline, rounded up to the time quantum. With a quantum, deadlines close to each other
fall on one moment, and the scheduler can choose the order of their tasks. Without a quantum, two tasks are hardly ever
ready together, and races stay hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

__all__ = ["VirtualClock"]


class VirtualClock(trio.abc.Clock):
    """A clock for `trio.run(..., clock=...)`.

        trio.run(main, clock=VirtualClock(quantum=0.005))

    Args:
        quantum: every moment is a multiple of this, in seconds. With 0, the clock jumps exactly to deadlines.
        settled: called when no task can run. It returns True if it has woken a task; the time then stays the same.
        stuck: called when no task can run and none waits for a time. It should wake a task, because nothing else can.

    Attributes:
        now: the seconds since the beginning.
        jumps: the number of jumps.
    """

    def __init__(
        self,
        quantum: float = 0.0,
        *,
        settled: Callable[[], bool] | None = None,
        stuck: Callable[[], None] | None = None,
    ) -> None:
        if not 0 <= quantum < math.inf:
            raise ValueError(f"quantum is {quantum!r}; write a finite number of seconds, 0 or more")
        self.quantum = quantum
        self.now = 0.0
        self.jumps = 0
        self._settled = settled
        self._stuck = stuck
        self._looked_again = False

    def start_clock(self) -> None:
        """Do nothing. Trio's interface requires this method."""

    def current_time(self) -> float:
        """Return the seconds since the beginning of the run."""
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Advance to `deadline`. Trio calls this only when no task can run."""
        if deadline <= self.now:
            # A task becomes ready without the passing of time, so the world is not at rest yet.
            return 0.0
        if self._settled is not None and self._settled():
            return 0.0
        if deadline < math.inf:
            self._looked_again = False
            self._advance(deadline)
        elif not self._looked_again:
            # Trio first checks once for input from outside, such as Ctrl-C or a call from another thread.
            self._looked_again = True
        else:
            self._looked_again = False
            if self._stuck is not None:
                self._stuck()
        return 0.0

    def stall(self, seconds: float) -> None:
        """Advance the time while no task runs, as if something blocked the event loop."""
        self.now += seconds

    def _advance(self, deadline: float) -> None:
        if deadline <= self.now:
            return
        quantum = self.quantum
        if quantum:
            # `max`, because the division is not exact and the result must not be before the deadline.
            deadline = max(deadline, math.ceil(deadline / quantum - 1e-6) * quantum)
        self.now = deadline
        self.jumps += 1
