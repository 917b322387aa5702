"""The start protocol: a start returns when the new process has said that it is ready, or is really gone.

After OTP's proc_lib. The starter waits for exactly one of: the child's *ack*; its *nack*, after which the child's end
is awaited as well, so that its name is free when the starter learns of the failure; its death; or the timeout.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, final

import trio
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

from actors._process import Process, current_process, require_process, require_runtime
from actors.errors import StartError, StartIgnored
from actors.exits import KILL, TIMEOUT, ExitReason
from actors.messages import Exit
from actors.refs import Pid

__all__ = ["StartSlot", "start"]


@final
class StartSlot:
    """Where a child says how its start went, and a starter waits for it."""

    __slots__ = ("done", "failure", "started", "task", "timed_out")

    def __init__(self) -> None:
        self.started = False
        self.done = False
        self.timed_out = False
        self.failure: StartError | StartIgnored | None = None
        self.task: trio.lowlevel.Task | None = None

    def ack(self) -> None:
        """The child is ready."""
        self.started = True
        self._finish()

    def nack(self, failure: StartError | StartIgnored) -> None:
        """The child will not run. The starter hears of it when the child has ended."""
        self.failure = failure

    def down(self, pid: Pid, reason: ExitReason) -> None:
        """The child has ended before it was ready."""
        if self.failure is None:
            self.failure = StartError(reason)
        self._finish()

    def expire(self) -> None:
        """The child took too long."""
        self.timed_out = True
        self._wake()

    def _finish(self) -> None:
        self.done = True
        self._wake()

    def _wake(self) -> None:
        task, self.task = self.task, None
        if task is not None:
            reschedule(task)

    async def wait(self) -> None:
        """Park until something was said."""
        self.task = current_task()
        await wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: object) -> Abort:
        self.task = None
        return Abort.SUCCEEDED


async def start(
    function: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
    *,
    link: bool,
    name: object,
    label: str | None,
    timeout: float,
) -> Pid:
    """Spawn a process that speaks the start protocol, and wait for its answer."""
    starter = require_process("start_link") if link and current_process.get() is not None else None
    runtime = require_runtime()
    if starter is not None:
        starter.check()
    child = runtime.spawn(function, args, link=link, name=name, label=label)
    slot = child.start_slot = StartSlot()
    runtime.graph.watch(child.pid, slot)
    timer = (
        runtime.timers.at(trio.current_time() + timeout, slot.expire)
        if timeout < math.inf
        else None
    )
    try:
        while not slot.done and not slot.timed_out:
            await slot.wait()
    except BaseException:  # a starter that was cancelled must not leave a child half started behind
        _disown(starter, child)
        raise
    finally:
        if timer is not None:
            runtime.timers.cancel(timer)
        runtime.graph.unwatch(child.pid, slot)
    if starter is not None:
        starter.check()
    if slot.started:
        return child.pid
    if slot.timed_out and not slot.done:
        await _kill_and_wait(starter, child)
        raise StartError(TIMEOUT)
    if starter is not None:
        _disown(starter, child)
    assert slot.failure is not None
    raise slot.failure


def _disown(starter: Process | None, child: Process) -> None:
    """Cut the link first, so that the child's end does not reach the starter; then make sure that it ends."""
    runtime = child.runtime
    if starter is not None:
        runtime.graph.unlink(starter.pid, child.pid)
        starter.mailbox.take(lambda message: type(message) is Exit and message.pid is child.pid)
    runtime.signal(runtime.pid, child.pid, KILL, linked=False)


async def _kill_and_wait(starter: Process | None, child: Process) -> None:
    _disown(starter, child)
    slot = StartSlot()
    if not child.dead:
        child.runtime.graph.watch(child.pid, slot)
        # Shielded: the starter was promised that the child is gone. Bounded by the runtime's kill_grace.
        with trio.CancelScope(shield=True):
            await slot.wait()
