"""Functions that find the current process and runtime, and that monitor or await the end of a process."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from threading import get_ident
from typing import Any, final

import trio
from trio.lowlevel import (
    Abort,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from actors._kernel.runtime import Process, Runtime, acting_process, current_process
from actors.errors import NotAProcess, RuntimeClosed
from actors.exits import ExitReason
from actors.messages import Down
from actors.refs import Address, Pid, Ref
from actors.small_set import has_item, with_item, without_item

__all__ = [
    "Monitor",
    "RemoteMonitor",
    "ambient_runtime",
    "require_process",
    "require_runtime",
    "start_monitor",
    "wait_for_end",
]

ambient_runtime: ContextVar[Runtime | None] = ContextVar("actors_runtime", default=None)
"""The runtime of a task that is not a process."""


def require_process(verb: str, *, any_thread: bool = False) -> Process:
    """Return the process in which the caller runs.

    Args:
        verb: The function that the caller uses, for errors.
        any_thread: True if the function also works in threads that a process has started.

    Raises:
        NotAProcess: The caller is not a process.
        ProcessKilled: The process has been declared dead.
        WrongThread: The caller does not run in the runtime's thread.
    """
    process = current_process.get()
    # This function runs seven times in each crash and rejoin of a channel. So it calls other functions only rarely.
    if process is None or process.dead:
        process = acting_process()
        if process is None:
            raise NotAProcess(verb)
    if not any_thread and get_ident() != process.runtime.thread:
        process.runtime.require_thread(verb)
    return process


def require_runtime(verb: str | None = None) -> Runtime:
    """Return the runtime in which the caller runs.

    Args:
        verb: The function that the caller uses, if it works only in the runtime's thread.

    Raises:
        RuntimeClosed: The caller belongs to no runtime.
        ProcessKilled: The caller acts for a process that has been declared dead.
        WrongThread: `verb` is given, and the caller does not run in the runtime's thread.
    """
    process = current_process.get()
    if process is not None and process.dead:
        process = acting_process()
    runtime = process.runtime if process is not None else ambient_runtime.get()
    if runtime is None:
        raise RuntimeClosed(
            "there is no runtime here; wrap this code in `async with open_runtime():`"
        )
    if verb is not None and get_ident() != runtime.thread:
        runtime.require_thread(verb)
    return runtime


@final
class Monitor(Ref):
    """A monitor of one process by another: the watcher in the link graph, and also the user's reference."""

    __slots__ = ("name", "target", "watcher")

    def __init__(self, number: int, watcher: Process, target: Pid, name: object) -> None:
        # Skip Ref.__init__ for speed, because each channel makes two monitors.
        self.number = number
        self.watcher = watcher
        self.target = target
        self.name = name

    def __repr__(self) -> str:
        return f"<ref {self.number}>"

    def down(self, pid: Pid, reason: ExitReason) -> None:
        watcher = self.watcher
        if not has_item(watcher.watching, self):
            # The end of `pid` has reached other processes first. One of them handled it at once, and this monitor was
            # removed meanwhile.
            return
        watcher.watching = without_item(watcher.watching, self)
        if watcher.runtime.instruments:
            for instrument in watcher.runtime.instruments:
                instrument.down_sent(watcher.pid, self)
        watcher.mailbox.put(Down(self, pid, reason, self.name))


@final
class RemoteMonitor(Ref):
    """A monitor of an address whose process may run on another node. `RemoteAddress.monitor` returns one.

    The constructor makes the current process monitor the address. The end of the process cancels the monitor.

    Args:
        target: The address.
        on_cancel: A function that gets this monitor if it is removed before it has fired. It must not wait.

    Attributes:
        watcher: The record of the monitoring process. Only the runtime uses it.
    """

    __slots__ = ("_on_cancel", "target", "watcher")

    def __init__(self, target: Address[Any], on_cancel: Callable[[RemoteMonitor], object]) -> None:
        process = require_process("monitor")
        super().__init__(process.runtime.next_ref())
        self.watcher = process
        self.target = target
        self._on_cancel: Callable[[RemoteMonitor], object] | None = on_cancel
        process.watching = with_item(process.watching, self)
        process.add_cleanup(self, self.cancel)
        for instrument in process.runtime.instruments:
            instrument.monitored(process.pid, self, target)

    def __repr__(self) -> str:
        return f"<ref {self.number}>"

    @property
    def is_active(self) -> bool:
        """True until the monitor has fired or was removed."""
        return self._on_cancel is not None

    def down(self, pid: Pid | None, reason: ExitReason) -> None:
        """Put the `Down` into the mailbox of the monitoring process. Does nothing if the monitor is not active.

        This makes the monitor a `Watcher`, so it can also watch a process of this runtime.

        Args:
            pid: The process that has ended, if it ran in this runtime. The `Down` has the address in its place.
            reason: The exit reason. `NOCONNECTION` if the node of the process is lost.
        """
        if self._on_cancel is None:
            return
        self._end()
        watcher = self.watcher
        if not watcher.dead:
            for instrument in watcher.runtime.instruments:
                instrument.down_sent(watcher.pid, self)
            watcher.mailbox.put(Down(self, None, reason, self.target))

    def cancel(self) -> bool:
        """Remove the monitor, as `demonitor` does. Return True if it was active."""
        on_cancel = self._on_cancel
        if on_cancel is None:
            return False
        self._end()
        on_cancel(self)
        return True

    def _end(self) -> None:
        self._on_cancel = None
        self.watcher.watching = without_item(self.watcher.watching, self)
        self.watcher.remove_cleanup(self)


def start_monitor(process: Process, pid: Pid, name: object) -> Ref:
    """Make `process` monitor the living process `pid`. The `Down` will carry `name`."""
    runtime = process.runtime
    ref = Monitor(runtime.next_ref(), process, pid, name)
    if pid is process.pid:
        # As in OTP, a process does not monitor itself, because it could never take the `Down`.
        return ref
    runtime.graph.watch(pid, ref)
    process.watching = with_item(process.watching, ref)
    for instrument in runtime.instruments:
        instrument.monitored(process.pid, ref, pid)
    return ref


class _EndWaiter:
    __slots__ = ("reason", "task")

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self.task: trio.lowlevel.Task | None = task
        self.reason: ExitReason = None

    def down(self, pid: Pid, reason: ExitReason) -> None:
        if self.task is not None:
            reschedule(self.task)
            self.task = None
        self.reason = reason


@enable_ki_protection
async def wait_for_end(pid: Pid) -> ExitReason:
    """Wait until a living process has ended, and return its exit reason."""
    waiter, graph = _EndWaiter(current_task()), pid.runtime.graph
    graph.watch(pid, waiter)

    def abort(_raise_cancel: object) -> Abort:
        graph.unwatch(pid, waiter)
        waiter.task = None
        return Abort.SUCCEEDED

    await wait_task_rescheduled(abort)
    return waiter.reason
