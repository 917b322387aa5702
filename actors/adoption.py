"""Blocks that make the current task a process, and blocks that spawn a process and end it.

Tests, web handlers and other plain tasks may `call`, `send` and `wait_exit`. To have a mailbox, links and monitors, a
task must become a process for a while:

    async with as_process():
        ref = monitor(pid)
        down = await receive()

`scoped_spawn` starts a process that ends with a block, as a task ends with its nursery.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from actors._kernel.current import require_runtime
from actors._kernel.process import escaping, only_cancellations, only_exits, reason_of
from actors._kernel.runtime import Process, acting_process, current_process
from actors.arguments import check_async, check_number
from actors.declared import declared
from actors.errors import ActorsError
from actors.exits import KILL, NORMAL, SHUTDOWN, ExitReason, is_normal_exit
from actors.refs import Pid

__all__ = ["ProcessFailed", "adopt", "as_process", "scoped_spawn"]

T = TypeVar("T")


@declared("{pid!r} ended with {reason!r}")
class ProcessFailed(ActorsError):
    """The process of a block ended with `reason`, and that ended the block.

    `as_process` raises it if the task got a fatal exit signal or used `exit`. `scoped_spawn` raises it if its process
    ended early and not cleanly.

    Attributes:
        pid: The process.
        reason: Its exit reason.
    """

    pid: Pid
    reason: ExitReason


@asynccontextmanager
async def as_process(*, name: object = None, label: str | None = None) -> AsyncIterator[Pid]:
    """Make the current task a process while the body runs.

        async with as_process(name="tester") as me:
            link(await Counter.start())
            message = await receive(timeout=1)

    At the end of the block the process ends with `NORMAL`. If the body raises, the process ends with a `Crash`. Linked
    and monitoring processes get the usual signals and messages. The task continues after the block.

    Args:
        name: The process's name during the block.
        label: The process's description in messages.

    Yields:
        The pid of the process.

    Raises:
        ProcessFailed: The process accepted a fatal exit signal, which cancelled the body, or used `exit` with a reason
            that is not a clean end.
        RuntimeError: The task is a process already.
        AlreadyStarted: The name is taken.
    """
    if (already := acting_process()) is not None:
        raise RuntimeError(
            f"this task is already the process {already.pid!r}; use its mailbox, or spawn() another process"
        )
    runtime = require_runtime("as_process")
    process = runtime.enroll(as_process, name=name, label=label or "adopted task")
    process.task = trio.lowlevel.current_task()
    token = current_process.set(process)
    reason: ExitReason = NORMAL
    exited = False
    try:
        if runtime.instruments:
            runtime.announce(process)
        with process.scope:
            yield process.pid
    except (
        BaseException
    ) as error:  # becomes the exit reason of the process, and continues as an exception
        exited = only_exits(error)
        stopped = only_cancellations(error) or escaping(error) is not None
        reason = SHUTDOWN if stopped else reason_of(error)
        if not exited:
            raise
    finally:
        current_process.reset(token)
        if process.dying:
            exited, reason = True, process.reason
        runtime.end(process, reason)
        process.task = None
    if exited and not is_normal_exit(reason):
        raise ProcessFailed(process.pid, reason)


async def adopt(
    function: Callable[..., Awaitable[T]], *args: Any, name: object = None, label: str | None = None
) -> T | None:
    """Run `function(*args)` as a process, in this task.

        nursery.start_soon(adopt, worker, 3)

    Args:
        function: An async callable.
        *args: Its arguments.
        name: The process's name, registered before its first step.
        label: The process's description in messages.

    Returns:
        The function's result; None if the function used `exit` with a clean reason.

    Raises:
        ProcessFailed: As for `as_process`. All other errors of `as_process` may occur too.
    """
    async with as_process(name=name, label=label or getattr(function, "__qualname__", None)):
        return await function(*args)
    return None


class _Watch:
    """A watcher that notifies a block of the end of its process."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self.ended = trio.Event()
        self.reason: ExitReason = None
        self._scope = scope

    def down(self, pid: Pid, reason: ExitReason) -> None:
        self.reason = reason
        self.ended.set()
        if not is_normal_exit(reason):
            self._scope.cancel()


@asynccontextmanager
async def scoped_spawn(
    function: Callable[..., Awaitable[Any]],
    *args: Any,
    name: object = None,
    label: str | None = None,
    shutdown: float = 5.0,
) -> AsyncIterator[Pid]:
    """Spawn a process that ends with the block, as a task ends with its nursery.

        async with scoped_spawn(ticker, 0.5) as pid:
            await work()

    After the body, the block sends `SHUTDOWN` to the process and waits for its end. If the process ends before the
    body, and not cleanly, the block cancels the body.

    Args:
        function: An async callable, as for `spawn`.
        *args: Its arguments.
        name: The process's name, registered before its first step.
        label: The process's description in messages.
        shutdown: The seconds that the process has to stop. After that the block kills it.

    Yields:
        The pid of the process.

    Raises:
        InvalidArgument: `function` is not an async function.
        ProcessFailed: The process ended before the body did, and its end was not clean.
        InvalidOption: `shutdown` is negative or not a number.
    """
    check_number("scoped_spawn()", "shutdown", shutdown, "a number of seconds from 0", least=0)
    check_async("scoped_spawn", function)
    runtime = require_runtime("scoped_spawn")
    process = runtime.spawn(function, args, name=name, label=label)
    with trio.CancelScope() as scope:
        watch = _Watch(scope)
        runtime.graph.watch(process.pid, watch)
        try:
            yield process.pid
        finally:
            failed = watch.ended.is_set() and not is_normal_exit(watch.reason)
            await _stop(process, watch, shutdown)
    if failed:
        raise ProcessFailed(process.pid, watch.reason)


async def _stop(process: Process, watch: _Watch, shutdown: float) -> None:
    # Shielded, because the process must be gone when the block ends. `shutdown` and the kill grace bound the wait.
    with trio.CancelScope(shield=True):
        runtime = process.runtime
        runtime.signal(runtime.pid, process.pid, SHUTDOWN, linked=False)
        with trio.move_on_after(shutdown):
            await watch.ended.wait()
            return
        runtime.signal(runtime.pid, process.pid, KILL, linked=False)
        await watch.ended.wait()
