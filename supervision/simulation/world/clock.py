"""The virtual clock: time passes when, and only when, nobody can run.

Then it jumps to the next deadline, rounded up to the time quantum. With a quantum, deadlines that
are close together fall on one moment, and the scheduler has a choice of whom to let run first;
without one, hardly any two tasks are ever ready together, and races stay unfound.
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
        quantum: seconds; every moment is a multiple of it. 0 jumps to deadlines exactly.
        settled: called when nobody can run; answers whether it has made somebody runnable, in
            which case the time stays.
        stuck: called when nobody can run and nobody waits for a time. It should make somebody
            runnable, for nothing else can any more.

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
        """Part of Trio's interface; there is nothing to start."""

    def current_time(self) -> float:
        """Seconds since the beginning of the run."""
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Advance to `deadline`. Trio asks this when no task can run, and only then."""
        if self._settled is not None and self._settled():
            return 0.0
        if deadline < math.inf:
            self._looked_again = False
            self._advance(deadline)
        elif not self._looked_again:
            # Something may have come in from outside (Ctrl-C, another thread): Trio looks next.
            self._looked_again = True
        else:
            self._looked_again = False
            if self._stuck is not None:
                self._stuck()
        return 0.0

    def stall(self, seconds: float) -> None:
        """Let time pass while nobody runs, as when something holds up the whole loop."""
        self.now += seconds

    def _advance(self, deadline: float) -> None:
        if deadline <= self.now:
            return
        quantum = self.quantum
        if quantum:
            # A division may miss a whole number by a hair; and never before the deadline.
            deadline = max(deadline, math.ceil(deadline / quantum - 1e-6) * quantum)
        self.now = deadline
        self.jumps += 1
