"""The mailbox of a process, and the batches in which the scheduler wakes processes.

`put` never blocks and never refuses a message, because a signal must not depend on the state of its receiver. `put`
wakes a parked task once, even if many messages arrive before the task runs. A receive takes its message only when it
can no longer be cancelled, so a cancelled receive loses no message.

A Trio memory channel cannot be a mailbox. The channel is bounded and has no search. It may also hand a value to a task
that is cancelled before the task sees the value.

Wakes run in batches, one batch per scheduler turn. Trio runs every ready task before it looks at tasks that became
ready in the same turn. A broadcast, or a crash that spreads, may wake ten thousand processes. Without a limit, all
other tasks would wait until each of these processes has taken its step. So each turn wakes a bounded number of
processes, and later turns wake the others, which keep their messages.

Each batch wakes up to 112 processes that have waited longest. So a process behind n other processes waits at most
about n / 112 turns, even if the backlog never ends. Each batch also wakes up to 16 processes that started to wait most
recently. So two processes can exchange messages quickly, even while thousands of other processes wait.

Trio does not announce a turn, and checking for a new turn at each wake would cost more than the wake itself. So the
runtime counts wakes up to a limit, over any number of turns. At the limit, a task waits for the next turn and starts a
new count.

A server that waits may handle a message at once, without a wake (`Loop.take` in `actors.servers._loop`). The batches
also limit the number of these calls in a turn.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Protocol

import trio
from trio.lowlevel import (
    Abort,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from actors._kernel.timer_queue import TimerQueue

__all__ = ["BURST", "CALLS", "NESTED", "NEWEST", "Mailbox", "WakeBatches"]


class Owner(Protocol):
    """The process that owns a mailbox."""

    def mailbox_alarm(self) -> None:
        """Report that too many messages wait in the mailbox."""


class Mailbox:
    """The messages that wait for one process, oldest first."""

    __slots__ = (
        "_seen",
        "alarm_at",
        "at_once",
        "owner",
        "queue",
        "sleeping",
        "task",
        "wake_batches",
    )

    def __init__(
        self,
        wake_batches: WakeBatches | None = None,
        owner: Owner | None = None,
        alarm_at: float = math.inf,
    ) -> None:
        # An empty tuple while the process waits for a message, otherwise a deque. An empty deque would
        # take more memory than all other data of an idle process.
        self.queue: deque[Any] | tuple[()] = ()
        self.wake_batches = wake_batches if wake_batches is not None else WakeBatches()
        # `put` calls `owner.mailbox_alarm` when the queue is longer than this. It repeats the call each time that the
        # length has doubled.
        self.alarm_at = alarm_at
        self.owner = owner
        # The number of oldest messages that the current receive has refused.
        self._seen = 0
        # The task that waits for a message; None while none waits. Only this class may set it.
        self.task: trio.lowlevel.Task | None = None
        # True from `parking` until the task has run again. A lost wake-up leaves it True, while `parked` is False.
        self.sleeping = False
        # The function of a server that waits in its loop, which handles a message in the task of its sender. It returns
        # False if the message must wait here.
        self.at_once: Callable[[trio.lowlevel.Task, Any], bool] | None = None

    def __len__(self) -> int:
        return len(self.queue)

    # Ctrl-C in the middle of `put` could leave a process asleep with a message in its mailbox.
    @enable_ki_protection
    def put(self, message: Any) -> None:
        """Append a message, and wake the process if it is parked. A server that waits may handle it at once instead."""
        task = self.task
        if task is not None and self.at_once is not None and self.at_once(task, message):
            return
        queue = self.queue
        if isinstance(queue, tuple):
            queue = self.queue = deque()
        if task is None:
            queue.append(message)
            if len(queue) > self.alarm_at:
                self.alarm_at = 2 * len(queue)
                if self.owner is not None:
                    self.owner.mailbox_alarm()
            return
        batches = self.wake_batches
        if batches.left:
            # In the wrong thread this raises, so it must run before any change.
            reschedule(task)
            batches.left -= 1
            if not batches.left:
                batches.begin_new_count()
        else:
            batches.late[self] = task
        self.task = None
        queue.append(message)

    @property
    def parked(self) -> bool:
        """True while the process waits for a message."""
        return self.task is not None

    @property
    def unread(self) -> int:
        """The number of messages that the current `receive` has not looked at yet."""
        return len(self.queue) - self._seen

    def wake(self) -> None:
        """Wake the process without a message, so that it checks its own state."""
        task = self.task
        if task is not None:
            reschedule(task)
            self.task = None

    def rewind(self) -> None:
        """Begin a receive: the next `take` looks at every message again."""
        self._seen = 0

    def take(self, match: Callable[[Any], bool] | None) -> tuple[bool, Any]:
        """Remove and return the first message that `match` accepts.

        Skips the messages that `match` has refused since `rewind`.

        Returns:
            (True, message), or (False, None) if there is none.
        """
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
        """Remove the first message that `match` accepts, if there is one. A receive may be in progress."""
        for index, message in enumerate(self.queue):
            if match(message):
                self._remove(index)
                if index < self._seen:
                    self._seen -= 1
                return

    def move_to_back(self, match: Callable[[Any], bool]) -> None:
        """Move the messages that `match` accepts behind all other messages. No receive may be in progress."""
        queue = self.queue
        if len(queue) < 2:
            return
        later = [message for message in queue if match(message)]
        first = [message for message in queue if not match(message)]
        self.queue = deque((*first, *later))

    def _remove(self, index: int) -> None:
        queue = self.queue
        assert type(queue) is deque  # an empty queue has no index
        del queue[index]

    def clear(self) -> None:
        """Remove every message. The owner takes no more messages."""
        self.queue = ()
        self.at_once = None

    async def park(self) -> None:
        """Wait until a message arrives or until a call of `wake`. Take no message."""
        await wait_task_rescheduled(self.parking(current_task()))
        self.sleeping = False

    def parking(
        self,
        task: trio.lowlevel.Task | None,
        at_once: Callable[[trio.lowlevel.Task, Any], bool] | None = None,
    ) -> Callable[[object], Abort]:
        """Begin to park. The caller must pass the result to `wait_task_rescheduled` and await that immediately.

        After the wait, the caller must set `sleeping` to False.

        The server loop uses this in place of `park`, because a `park` coroutine for each waiting server takes memory.

        Args:
            task: The current task, which the record of a process knows.
            at_once: A function that may handle the next message in the task of its sender; see `put`.
        """
        self.task = task
        self.sleeping = True
        self.at_once = at_once
        if not self.queue:
            self.queue = ()
            self._seen = 0
        return self._abort

    async def park_until(self, deadline: float, timers: TimerQueue) -> bool:
        """Wait like `park`, until `deadline` at the latest. Return False if the deadline ended the wait."""
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
        self.task = None
        self.sleeping = False
        self.wake_batches.late.pop(self, None)
        return Abort.SUCCEEDED


# The largest number of wakes in one turn. 128 crashing processes take a few milliseconds; a turn costs a few
# microseconds.
BURST = 128
# The number of messages that waiting servers may handle at once in one count. A new count begins in the turn after the
# first BURST of them. In that turn, a poller may run first and cause BURST more. So this is twice BURST, and a turn
# allows at most three times BURST.
CALLS = 2 * BURST
# The number of waiting servers that may handle messages inside each other: each of them handles a message of the one
# before it. Such a chain uses the stack of the first sender, and Python limits its depth.
NESTED = 16
# The number of places in each batch for the processes that started to wait most recently.
NEWEST = 16


class WakeBatches:
    """The wakes of one runtime. Before `run` and after `stop` there is no limit.

    Attributes:
        left: The number of wakes that this turn still allows. `Mailbox.put` lowers it at each wake, and calls
            `begin_new_count` at 0.
        calls: The number of messages that waiting servers may still handle at once in this turn.
        nested: The number of servers that handle a message at once now, each of them a message of the one before it.
        late: The mailboxes that have a message but whose tasks wait for a later turn, each with its task.
    """

    __slots__ = ("_stopped", "_task", "calls", "late", "left", "nested")

    def __init__(self) -> None:
        self.left = self.calls = sys.maxsize
        self.nested = 0
        self.late: dict[Mailbox, trio.lowlevel.Task] = {}
        self._task: trio.lowlevel.Task | None = None
        self._stopped = False

    def waiting(self) -> int:
        """Return the number of processes that have a message and must wait for a later turn to run."""
        return len(self.late)

    def allow_call(self) -> bool:
        """Count a message that a server handles at once. Return False if the server must handle it in its own task."""
        if not self.calls or self.nested == NESTED:
            return False
        self.calls -= 1
        if self.calls == BURST:
            self.begin_new_count()
        return True

    def begin_new_count(self) -> None:
        """Make `run` start a new count in the next turn."""
        task = self._task
        if task is not None:
            reschedule(task)
            self._task = None

    async def run(self) -> None:
        """Begin a new count in each turn that needs one, until `stop`."""
        is_new = True
        while not self._stopped:
            if self.late:
                is_new = True
                self._wake_some()
                # The next batch must wait for another turn.
                await trio.lowlevel.checkpoint()
            else:
                if is_new or not self.left:
                    # Otherwise only the calls were used up.
                    self.left, is_new = BURST, False
                self.calls = CALLS
                self._task = current_task()
                await wait_task_rescheduled(self._abort)
        self.left = self.calls = sys.maxsize

    def stop(self) -> None:
        """End `run`. Call it only when no process waits for a wake."""
        self.begin_new_count()
        self._stopped = True

    def _wake_some(self) -> None:
        late = self.late
        # The backlog uses the turn first. New wakes get only the rest, so they do not overtake the backlog.
        self.left, self.calls = max(NEWEST, BURST - len(late)), CALLS
        for mailbox in list(islice(late, BURST - NEWEST)):
            reschedule(late.pop(mailbox))  # cannot raise, because `run` is in the right thread
        for _ in range(min(len(late), NEWEST)):
            reschedule(late.popitem()[1])

    def _abort(self, _raise_cancel: object) -> Abort:
        self._task = None
        return Abort.SUCCEEDED
