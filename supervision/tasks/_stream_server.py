"""The process behind a stream of tasks: it starts them, watches the time, and keeps what they returned.

It is linked to whoever consumes the stream, so neither leaves the other behind, and it stands between the consumer and
the tasks, so that the consumer's mailbox sees nothing of all this. Results leave it as answers to calls, which are
taken back if the consumer has been cancelled meanwhile: none is lost.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, final

from attrs import define, frozen

from actors.errors import ActorsError
from actors.exits import KILL, NORMAL, TIMEOUT, ExitReason
from actors.links import send_exit, trap_exits, unlink
from actors.messages import Down
from actors.process import current_pid, receive
from actors.refs import Pid, Ref, TimerRef
from actors.servers.gen_server import GenServer, Sender, reply
from actors.servers.results import NoReply
from actors.timers import cancel_timer, send_after
from supervision.errors import SupervisionError
from supervision.tasks._process import inherit
from supervision.tasks.errors import TaskTimeout
from supervision.tasks.task import Exited, Ok, Outcome, Task, TaskReply

__all__ = ["ROOM", "Next", "Run", "StreamServer", "StreamSettings", "Workload"]

StartTask = Callable[[Callable[..., Awaitable[Any]], Any], Awaitable[Task[Any]]]
"""Starts `function(item)` as a task of the current process."""

ROOM: Any = object()
"""The answer to `Next` when there is nothing to hand out, but room for another task."""


@frozen(kw_only=True)
class StreamSettings:
    """What a stream was asked to do, checked."""

    function: Callable[[Any], Awaitable[Any]]
    start_task: StartTask
    max_concurrency: float
    ordered: bool
    timeout: float
    kill_on_timeout: bool
    zip_input_on_exit: bool
    callers: tuple[Pid, ...]
    linked: bool
    """Whether a task that crashes takes the consumer along, if that dies of links."""


@final
class Workload:
    """How many tasks a stream runs now. Written by its server and its consumer, who share it."""

    __slots__ = ("running",)

    def __init__(self) -> None:
        self.running = 0


@define(eq=False)
class Run:
    """Asks a stream to run the function on an item."""

    position: int
    item: Any


@frozen
class Next:
    """Asks a stream for an outcome, waiting until there is one; or until another task may be started, if `more`."""

    more: bool


@define(eq=False)
class _TimeIsUp:
    ref: Ref


@final
class _Running:
    """One task of a stream."""

    __slots__ = ("item", "outcome", "position", "task", "timer")

    def __init__(self, position: int, item: Any, task: Task[Any]) -> None:
        self.position = position
        self.item = item
        self.task = task
        self.timer: TimerRef | None = None
        # Known before the task has ended, if it has answered, or was killed because its time was up.
        self.outcome: Outcome[Any] | None = None


class StreamServer(GenServer[None]):
    """Runs the tasks of one stream. Traps exits; ends with its consumer, and then kills what is still running."""

    async def init(
        self, settings: StreamSettings, workload: Workload, *, crash_together: bool
    ) -> None:
        trap_exits()
        inherit(settings.callers)
        self.crash_together = crash_together
        self.settings = settings
        self.workload = workload
        self.tasks: dict[Ref, _Running] = {}
        # Outcomes that wait for those before them, by position; and those that are to be handed out next.
        self.early: dict[int, Outcome[Any]] = {}
        self.ready: deque[Outcome[Any]] = deque()
        self.position = 0
        self.failure: Exception | None = None
        self.waiting: Sender | None = None
        self.more = False

    async def handle_call(self, request: Next, sender: Sender) -> NoReply:
        self.waiting, self.more = sender, request.more
        self._answer()
        return NoReply()

    async def handle_cast(self, message: Run) -> None:
        try:
            task = await self.settings.start_task(self.settings.function, message.item)
        except (SupervisionError, ActorsError) as error:
            self.workload.running -= 1
            self.failure = error
            self._answer()
            return
        running = self.tasks[task.ref] = _Running(message.position, message.item, task)
        if self.settings.timeout < math.inf:
            running.timer = send_after(current_pid(), _TimeIsUp(task.ref), self.settings.timeout)

    async def handle_info(self, message: Any) -> None:
        kind = type(message)
        if kind is TaskReply:
            self.tasks[message.ref].outcome = Ok(message.value)
        elif kind is Down:
            await self._ended(self.tasks.pop(message.ref), message.reason)
        elif kind is _TimeIsUp:
            self._too_slow(self.tasks.get(message.ref))
        # Anything else is the Exit of a task, of which its Down has told already.

    async def terminate(self, reason: ExitReason) -> None:
        await self._kill_all()

    # Parts

    async def _ended(self, running: _Running, reason: ExitReason) -> None:
        if running.timer is not None:
            cancel_timer(running.timer)
        outcome = running.outcome
        if outcome is None:
            if self.crash_together and reason is not NORMAL:
                await self._crash(reason)
            item = running.item if self.settings.zip_input_on_exit else None
            outcome = Exited(reason, item)
        self.workload.running -= 1
        if self.settings.ordered:
            self.early[running.position] = outcome
            while self.position in self.early:
                self.ready.append(self.early.pop(self.position))
                self.position += 1
        else:
            self.ready.append(outcome)
        self._answer()

    def _too_slow(self, running: _Running | None) -> None:
        if running is None:
            return
        if not self.settings.kill_on_timeout:
            self.failure = TaskTimeout(running.task, self.settings.timeout)
            self._answer()
            return
        item = running.item if self.settings.zip_input_on_exit else None
        running.outcome = Exited(TIMEOUT, item)
        _kill(running.task)

    def _answer(self) -> None:
        sender = self.waiting
        if sender is None:
            return
        if self.ready:
            # Taken out only if it has arrived: the consumer may have been cancelled.
            if reply(sender, self.ready[0]):
                self.ready.popleft()
        elif self.failure is not None:
            reply(sender, self.failure)
        elif self.more and self.workload.running < self.settings.max_concurrency:
            reply(sender, ROOM)
        else:
            return
        self.waiting = None

    async def _crash(self, reason: ExitReason) -> None:
        """End as a task has ended, and let the link tell the consumer."""
        await self._kill_all()
        # By a signal, so that one crash is reported once: for the task.
        trap_exits(False)
        send_exit(current_pid(), reason)

    async def _kill_all(self) -> None:
        for running in self.tasks.values():
            _kill(running.task)
        while self.tasks:
            down = await receive(lambda m: type(m) is Down and m.ref in self.tasks)
            del self.tasks[down.ref]


def _kill(task: Task[Any]) -> None:
    assert task.pid is not None
    pid: Pid = task.pid
    unlink(pid, flush=True)
    send_exit(pid, KILL)
