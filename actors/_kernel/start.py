"""The start protocol: a start returns when the new process has said that it is ready, or is really gone.

After OTP's proc_lib. The starter waits for exactly one of: the child's *ack*; its *nack*, after which the child's end
is awaited as well, so that its name is free when the starter learns of the failure; its death; or the timeout.
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

from actors._kernel.current import require_runtime
from actors._kernel.runtime import Process, acting_process
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
        task = self.task
        if task is not None:
            reschedule(task)
            self.task = None

    async def wait(self) -> None:
        """Park until something was said."""
        self.task = current_task()
        await wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: object) -> Abort:
        self.task = None
        return Abort.SUCCEEDED


# Ctrl-C in the middle would leave a child behind that nobody knows.
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
    """Spawn a process that speaks the start protocol, and wait for its answer."""
    # A limit that is no number must raise before there is a child.
    limited = timeout < math.inf
    runtime = require_runtime("start")
    starter = acting_process()
    if starter is not None:
        starter.check()
    # A starter that is cancelled already starts nothing. Without this the child might take its first step before its
    # starter hears of the cancellation, or not, as the scheduler pleases.
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
    except BaseException:  # whatever ends the wait, no child may be left behind half started
        if starter is None or not starter.dying:
            await _kill_and_wait(starter, child)
        # A starter that is dying itself does not wait: its end reaches the child over the link, with the true
        # reason, and a child that was started without a link does not depend on it.
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
        # The failure's traceback contains this frame: without this they would keep each other alive.
        del failure, slot


async def _kill_and_wait(starter: Process | None, child: Process) -> None:
    """Make sure that a child is gone, and that its end does not reach the starter."""
    runtime = child.runtime
    # The link is cut first.
    if starter is not None:
        runtime.graph.unlink(starter.pid, child.pid)
        starter.mailbox.flush(lambda message: type(message) is Exit and message.pid is child.pid)
    runtime.signal(runtime.pid, child.pid, KILL, linked=False)
    if child.dead:
        return
    slot = StartSlot()
    runtime.graph.watch(child.pid, slot)
    # Shielded: the starter was promised that the child is gone. Bounded by the runtime's kill_grace.
    with trio.CancelScope(shield=True):
        await slot.wait()
    if starter is not None:
        starter.check()
