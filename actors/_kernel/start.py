"""The start protocol: a start ends when the new process is ready, or has failed and is gone.

Source: OTP's proc_lib. The starter waits for exactly one of four events:

* The child's *ack*.
* The child's *nack*. After a nack the starter also waits for the end of the child, so that the child's name is free
  when the start fails.
* The child's death.
* The timeout.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, final

import trio
from trio.lowlevel import (
    Abort,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from actors._kernel.current import require_runtime, wait_for_end
from actors._kernel.runtime import Process, acting_process
from actors.errors import StartError, StartIgnored
from actors.exits import KILL, TIMEOUT, ExitReason
from actors.messages import Exit
from actors.refs import Pid

__all__ = ["StartSlot", "start"]


@final
class StartSlot:
    """The place for the result of a start. The child sets the result, and the starter waits for it."""

    __slots__ = ("done", "failure", "started", "task", "timed_out")

    def __init__(self) -> None:
        self.started = False
        self.done = False
        self.timed_out = False
        self.failure: StartError | StartIgnored | None = None
        self.task: trio.lowlevel.Task | None = None

    def ack(self) -> None:
        """Report that the child is ready."""
        self.started = True
        self._finish()

    def nack(self, failure: StartError | StartIgnored) -> None:
        """Report that the child will not run. The starter learns this when the child has ended."""
        self.failure = failure

    def down(self, pid: Pid, reason: ExitReason) -> None:
        """Handle the end of a child that was not ready."""
        if self.failure is None:
            self.failure = StartError(reason)
        self._finish()

    def expire(self) -> None:
        """Handle the timeout."""
        self.timed_out = True
        self._wake()

    def _finish(self) -> None:
        self.done = True
        self._wake()

    def _wake(self) -> None:
        task = self.task
        if task is not None:
            reschedule(task)
            self.task = None

    async def wait(self) -> None:
        """Wait until the child has reported or ended, or the timeout is over."""
        self.task = current_task()
        await wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: object) -> Abort:
        self.task = None
        return Abort.SUCCEEDED


# Without this, Ctrl-C in the middle could leave a child whose pid no caller has.
@enable_ki_protection
async def start(
    function: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
    *,
    link: bool,
    name: object,
    label: str | None,
    timeout: float,
) -> Pid:
    """Spawn a process that follows the start protocol, and wait for its report."""
    # A timeout that is not a number must raise before there is a child.
    limited = timeout < math.inf
    runtime = require_runtime("start")
    starter = acting_process()
    if starter is not None:
        starter.check()
    # A starter that is already cancelled starts nothing. Without this check the scheduler would decide whether the
    # child takes its first step before the starter sees the cancellation.
    await trio.lowlevel.checkpoint_if_cancelled()
    child = runtime.spawn(function, args, link=link, name=name, label=label, server=True)
    slot = child.start_slot = StartSlot()
    runtime.graph.watch(child.pid, slot)
    timer = runtime.timers.at(trio.current_time() + timeout, slot.expire) if limited else None
    try:
        while not slot.done and not slot.timed_out:
            await slot.wait()
        if starter is not None:
            starter.check()
    except BaseException:  # no interrupted wait may leave a half-started child behind
        if starter is None or not starter.dying:
            await _kill_and_wait(starter, child)
        # A dying starter does not wait. If the child is linked, the link carries the starter's exit reason to it. A
        # child without a link is independent of the starter.
        raise
    finally:
        if timer is not None:
            runtime.timers.forget(timer)
        runtime.graph.unwatch(child.pid, slot)
    if slot.started:
        return child.pid
    await _kill_and_wait(starter, child)
    failure = slot.failure if slot.failure is not None else StartError(TIMEOUT)
    try:
        raise failure
    finally:
        # The failure's traceback refers to this frame. Drop the failure, or each would keep the other in memory.
        del failure, slot


async def _kill_and_wait(starter: Process | None, child: Process) -> None:
    """Make sure that a child is gone and that its end does not reach the starter."""
    runtime = child.runtime
    # Remove the link first, so that the kill does not reach the starter.
    if starter is not None:
        runtime.graph.unlink(starter.pid, child.pid)
        starter.mailbox.flush(lambda message: type(message) is Exit and message.pid is child.pid)
        for instrument in runtime.instruments:
            instrument.unlinked(starter.pid, child.pid, True)
    runtime.signal(runtime.pid, child.pid, KILL, linked=False)
    if child.dead:
        return
    # Shielded, because `start` promises that the child is gone. Bounded by the runtime's kill_grace.
    with trio.CancelScope(shield=True):
        await wait_for_end(child.pid)
    if starter is not None:
        starter.check()
