"""The queue of one process, and the one place where its task parks.

`put` never blocks and never refuses: a signal must not depend on its receiver's mood. A parked task is woken once,
however many messages arrive before it runs. Messages leave the queue only at a point that cannot be cancelled any
more, so a cancelled receive loses nothing.

Not a Trio memory channel: that one is bounded, cannot be searched, and hands a value over to a task that may be
cancelled before it sees it.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

import trio
from trio.lowlevel import (
    Abort,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from actors._kernel.timer_queue import TimerQueue

__all__ = ["BURST", "Mailbox", "WakeBatches"]


class Mailbox:
    """Messages waiting for one process, oldest first."""

    __slots__ = ("_seen", "_task", "alarm_at", "on_alarm", "queue", "wake_batches")

    def __init__(self, wake_batches: WakeBatches | None = None) -> None:
        # A deque from a message on until the process waits for the next one: an empty deque takes more memory than
        # all the rest of the record of an idle process.
        self.queue: deque[Any] | tuple[()] = ()
        self.wake_batches = wake_batches if wake_batches is not None else WakeBatches()
        # Above this length `on_alarm` is called, and then not again before the length has doubled.
        self.alarm_at = sys.maxsize
        self.on_alarm: Callable[[], None] | None = None
        # How many of the oldest messages the present receive has refused already.
        self._seen = 0
        self._task: trio.lowlevel.Task | None = None

    def __len__(self) -> int:
        return len(self.queue)

    # Ctrl-C between the two halves of a `put` would leave a process asleep on a message for ever.
    @enable_ki_protection
    def put(self, message: Any) -> None:
        """Append a message and wake the process if it is parked."""
        queue = self.queue
        if isinstance(queue, tuple):
            queue = self.queue = deque()
        task = self._task
        if task is None:
            queue.append(message)
            if len(queue) > self.alarm_at:
                self.alarm_at = 2 * len(queue)
                if self.on_alarm is not None:
                    self.on_alarm()
            return
        batches = self.wake_batches
        if batches.left:
            # First, because it raises in a wrong thread.
            reschedule(task)
            batches.left -= 1
            if not batches.left:
                batches.used_up()
        else:
            batches.late[self] = task
        self._task = None
        queue.append(message)

    @property
    def parked(self) -> bool:
        """Whether the process waits for a message, or for a message that matches."""
        return self._task is not None

    def wake(self) -> None:
        """Wake the process without a message, to look again at its own state."""
        task = self._task
        if task is not None:
            reschedule(task)
            self._task = None

    def rewind(self) -> None:
        """Begin a receive: the next `take` looks at every message again."""
        self._seen = 0

    def take(self, match: Callable[[Any], bool] | None) -> tuple[bool, Any]:
        """Remove the first message that `match` accepts and that was not refused since `rewind`; or (False, None)."""
        queue = self.queue
        if match is None:
            return (True, queue.popleft()) if queue else (False, None)
        for index in range(self._seen, len(queue)):
            message = queue[index]
            if match(message):
                self._remove(index)
                return True, message
        self._seen = len(queue)
        return False, None

    def flush(self, match: Callable[[Any], bool]) -> None:
        """Remove the first message for which `match` is true, if there is one; a receive may be going on."""
        for index, message in enumerate(self.queue):
            if match(message):
                self._remove(index)
                if index < self._seen:
                    self._seen -= 1
                return

    def _remove(self, index: int) -> None:
        queue = self.queue
        assert type(queue) is deque  # there is something in it
        del queue[index]

    def clear(self) -> None:
        """Throw everything away."""
        self.queue = ()

    async def park(self) -> None:
        """Wait until something arrives or `wake` is called. Returns without a message; look at the queue."""
        await wait_task_rescheduled(self.parking())

    def parking(self) -> Callable[[object], Abort]:
        """Begin to park: the caller awaits `wait_task_rescheduled` with what this returns, and nothing in between.

        For the loop of servers, where most tasks are most of the time, and a coroutine for `park` would weigh.
        """
        self._task = current_task()
        if not self.queue:
            self.queue = ()
        return self._abort

    async def park_until(self, deadline: float, timers: TimerQueue) -> bool:
        """Like `park`, but no longer than until `deadline`. Returns False if that is why it returned."""
        if deadline == math.inf:
            await self.park()
            return True
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            self.wake()

        timer = timers.at(deadline, expire)
        try:
            await self.park()
        finally:
            timers.forget(timer)
        return not expired

    def _abort(self, _raise_cancel: object) -> Abort:
        self._task = None
        self.wake_batches.late.pop(self, None)
        return Abort.SUCCEEDED


# A turn of so many processes that crash takes a few milliseconds, and there and back is two turns. A turn by itself
# costs a few microseconds, which is nothing next to so many steps.
BURST = 128


class WakeBatches:
    """The wakes of one runtime. Without limit as long as `run` does not run.

    - `left`: wakes that are still allowed in this turn; who wakes takes one, and calls `used_up` with the last;
    - `late`: who has a message and waits for a later turn, with the task to wake.
    """

    __slots__ = ("_stopped", "_task", "late", "left")

    def __init__(self) -> None:
        self.left = sys.maxsize
        self.late: dict[Mailbox, trio.lowlevel.Task] = {}
        self._task: trio.lowlevel.Task | None = None
        self._stopped = False

    def used_up(self) -> None:
        """The last wake of this turn was taken."""
        task = self._task
        if task is not None:
            reschedule(task)
            self._task = None

    async def run(self) -> None:
        """Begin the count anew in each turn that needs it, until `stop`."""
        while not self._stopped:
            self.left = BURST
            if self.late:
                self._wake_some()
                # The crowd is not gone before another turn has passed.
                await trio.lowlevel.checkpoint()
            else:
                self._task = current_task()
                await wait_task_rescheduled(self._abort)
        self.left = sys.maxsize

    def stop(self) -> None:
        """End `run`. By then nobody is left to be woken."""
        self.used_up()
        self._stopped = True

    def _wake_some(self) -> None:
        late = self.late
        for mailbox in list(islice(late, BURST // 2)):
            reschedule(late.pop(mailbox))  # `run` alone calls this, so it cannot be a wrong thread
        for _ in range(min(len(late), BURST // 2)):
            reschedule(late.popitem()[1])

    def _abort(self, _raise_cancel: object) -> Abort:
        self._task = None
        return Abort.SUCCEEDED
