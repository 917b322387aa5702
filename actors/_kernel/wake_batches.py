"""How many processes a turn of the scheduler may wake.

Trio runs everything that is ready before it looks at what became ready meanwhile. If ten thousand processes are woken
at once, by a broadcast or by whatever makes them all crash, everybody else waits until each of them has had its step.
So a turn wakes a bounded number; the others keep their message, and are woken in the turns that follow, in the order
in which it came. Those turns are shared: whoever is woken for the first time does not queue up behind the crowd.

Nothing tells when a turn begins, and asking each time would cost more than the rest of a wake. So wakes are only
counted, until there were enough of them for one turn; whether that took one turn or many, a task then waits for the
next one, and the count begins anew.
"""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

if TYPE_CHECKING:
    from actors._kernel.mailbox import Mailbox

__all__ = ["Pace"]

# A turn of so many processes that crash takes a few milliseconds, and there and back is two turns. A turn by itself
# costs a few microseconds, which is nothing next to so many steps.
BURST = 128


class Pace:
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
