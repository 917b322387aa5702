"""The virtual clock. Its time advances only when no task can run.

The clock then jumps to the next deadline, rounded up to the time quantum. With a quantum, deadlines close to each other
fall on one moment, and the scheduler can choose the order of their tasks. Without a quantum, two tasks are hardly ever
ready together, and races stay hidden.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Container

import trio

from actors.arguments import check_number

__all__ = ["Alarm", "VirtualClock"]


class Alarm:
    """A timer that wakes a task at a given time. It is faster than a cancel scope with a deadline.

        alarm = clock.alarm(time)
        await alarm.wait()

    If the deadline of a cancel scope around the task comes at the same moment, Trio cancels the task instead.
    """

    __slots__ = ("_clock", "_deadline", "_is_late", "is_over", "task")

    def __init__(self, clock: VirtualClock, task: trio.lowlevel.Task, deadline: float) -> None:
        self.task = task
        self.is_over = False
        self._clock = clock
        self._deadline = deadline
        self._is_late = False

    async def wait(self) -> None:
        """Wait until the alarm rings, or until a call of `wake`."""

        def abort(_: object) -> trio.lowlevel.Abort:
            self.is_over = True
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def set(self, time: float) -> None:
        """Wake the task at `time` too, if the task still waits."""
        self._clock.set(self, time)

    def wake(self) -> None:
        """Wake the task now, if the task still waits."""
        if not self.is_over:
            self.is_over = True
            trio.lowlevel.reschedule(self.task)

    def ring(self) -> bool:
        """Wake the task at the time of the alarm. Return False if Trio is about to cancel the task instead."""
        if self._deadline <= self._clock.now and not self._is_late:
            # The deadline of a scope has come, so Trio cancels the task next. If the program has moved this deadline,
            # the task still waits, and the alarm rings again.
            self._is_late = True
            return False
        self.wake()
        return True


class VirtualClock(trio.abc.Clock):
    """A clock for `trio.run(..., clock=...)`.

        trio.run(main, clock=VirtualClock(quantum=0.005))

    Args:
        quantum: every moment is a multiple of this, in seconds. With 0, the clock jumps exactly to deadlines.
        settled: called when no task can run. If the function wakes a task, it returns True, and the time stays the
            same.
        stuck: called when no task can run and no task waits for a time. The function should wake a task, because
            nothing else can.

    Attributes:
        now: the seconds since the beginning.
        jumps: the number of jumps.
        dead: tasks that never run again. Their alarms do not ring.
    """

    def __init__(
        self,
        quantum: float = 0.0,
        *,
        settled: Callable[[], bool] | None = None,
        stuck: Callable[[], None] | None = None,
    ) -> None:
        expected = "a finite number of seconds, 0 or more"
        check_number("a virtual clock", "quantum", quantum, expected, least=0, finite=True)
        self.quantum = quantum
        self.now = 0.0
        self.jumps = 0
        self._settled = settled
        self._stuck = stuck
        self._looked_again = False
        self.dead: Container[trio.lowlevel.Task] = ()
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._numbers = itertools.count()

    def start_clock(self) -> None:
        """Do nothing. Trio's interface requires this method."""

    def current_time(self) -> float:
        """Return the seconds since the beginning of the run."""
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Advance to `deadline`. Trio calls this only when no task can run."""
        if deadline <= self.now:
            # The deadline has come, so a task becomes ready now, and the world is not at rest yet.
            return 0.0
        if self._settled is not None and self._settled():
            return 0.0
        deadline = min(deadline, self._next_alarm())
        if deadline < math.inf:
            self._looked_again = False
            self._advance(deadline)
            self._ring()
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
        self._ring()

    def alarm(self, time: float) -> Alarm:
        """Return an `Alarm` that wakes the current task at `time`. With `math.inf`, call `set` to give it a time."""
        alarm = Alarm(self, trio.lowlevel.current_task(), trio.current_effective_deadline())
        self.set(alarm, time)
        return alarm

    def set(self, alarm: Alarm, time: float) -> None:
        """Schedule an alarm for `time`."""
        if time < math.inf:
            heapq.heappush(self._alarms, (time, next(self._numbers), alarm))

    def _next_alarm(self) -> float:
        alarms = self._alarms
        while alarms and (alarms[0][2].is_over or alarms[0][2].task in self.dead):
            heapq.heappop(alarms)
        return alarms[0][0] if alarms else math.inf

    def _ring(self) -> None:
        late = []
        while self._next_alarm() <= self.now:
            _, _, alarm = heapq.heappop(self._alarms)
            if not alarm.ring():
                late.append(alarm)
        for alarm in late:
            self.set(alarm, self.now)

    def _advance(self, deadline: float) -> None:
        if deadline <= self.now:
            return
        quantum = self.quantum
        if quantum:
            # `max`, because the division is not exact and the result must not be before the deadline.
            deadline = max(deadline, math.ceil(deadline / quantum - 1e-6) * quantum)
        self.now = deadline
        self.jumps += 1
