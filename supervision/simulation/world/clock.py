"""The virtual clock. Time passes only when no task can run.

Then it jumps to the next deadline, rounded up to the time quantum. With a quantum, deadlines close to each other fall
on one moment, and the scheduler can choose the order of their tasks. Without one, hardly any two tasks are ever ready
together, and races stay hidden.
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
        quantum: seconds. Every moment is a multiple of it. 0 jumps to deadlines exactly.
        settled: called when no task can run. Return whether it has woken a task. Then the time stays.
        stuck: called when no task can run and none waits for a time. It should wake a task, because nothing else can.

    Attributes:
        now: seconds since the beginning.
        jumps: how often time has advanced.
    """

    def __init__(
        self,
        quantum: float = 0.0,
        *,
        settled: Callable[[], bool] | None = None,
        stuck: Callable[[], None] | None = None,
    ) -> None:
        if not 0 <= quantum < math.inf:
            raise ValueError(f"quantum is {quantum!r}; write seconds, from 0")
        self.quantum = quantum
        self.now = 0.0
        self.jumps = 0
        self._settled = settled
        self._stuck = stuck
        self._looked_again = False

    def start_clock(self) -> None:
        """Do nothing. Part of Trio's interface."""

    def current_time(self) -> float:
        """Return the seconds since the beginning of the run."""
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Advance to `deadline`. Trio calls this only when no task can run."""
        if self._settled is not None and self._settled():
            return 0.0
        if deadline < math.inf:
            self._looked_again = False
            self._advance(deadline)
        elif not self._looked_again:
            # Trio looks next whether something came in from outside, such as Ctrl-C or a call of another thread.
            self._looked_again = True
        else:
            self._looked_again = False
            if self._stuck is not None:
                self._stuck()
        return 0.0

    def stall(self, seconds: float) -> None:
        """Let time pass while no task runs, as if something blocked the whole loop."""
        self.now += seconds

    def _advance(self, deadline: float) -> None:
        if deadline <= self.now:
            return
        quantum = self.quantum
        if quantum:
            # The division is not exact, and the result must not be before the deadline.
            deadline = max(deadline, math.ceil(deadline / quantum - 1e-6) * quantum)
        self.now = deadline
        self.jumps += 1
