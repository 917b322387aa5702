"""Processes and tasks that are not: making a process of a running task, and keeping a process inside a block.

Tests, web handlers and whatever else runs in a nursery of its own may `call`, `send` and `wait_exit` as they are. For
a mailbox, links and monitors a task has to be a process for a while:

    async with as_process():
        ref = monitor(pid)
        down = await receive()

`scoped_spawn` is the other way round: a process that ends with a block, as tasks end with their nursery.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from actors._kernel.current import require_runtime
from actors._kernel.reasons import escaping, only_exits, reason_of
from actors._kernel.runtime import Process, acting_process, current_process
from actors.arguments import check_async
from actors.errors import ActorsError
from actors.exits import KILL, NORMAL, SHUTDOWN, ExitReason, is_normal_exit
from actors.refs import Pid

__all__ = ["ProcessFailed", "adopt", "as_process", "scoped_spawn"]

T = TypeVar("T")


class ProcessFailed(ActorsError):
    """A block that belonged to a process is over, because the process ended with `reason`.

    From `as_process`: the task was sent a fatal exit signal, or used `exit`. From `scoped_spawn`: the process of the
    block ended, and not cleanly.
    """

    def __init__(self, pid: Pid, reason: ExitReason) -> None:
        super().__init__(pid, reason)
        self.pid = pid
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.pid!r} ended with {self.reason!r}"


@asynccontextmanager
async def as_process(*, name: object = None, label: str | None = None) -> AsyncIterator[Pid]:
    """Be a process for as long as the body runs.

        async with as_process(name="tester") as me:
            link(await Counter.start())
            message = await receive(timeout=1)

    Leaving the block ends the process with `NORMAL`, and an exception with a `Crash`; links and monitors are told as
    always. The task goes on after the block.

    Args:
        name: registered for the block.
        label: how messages about the process call it.

    Raises:
        ProcessFailed: the process accepted a fatal exit signal, or used `exit` with a reason that is no clean end. The
            body was cancelled.
        RuntimeError: the task is a process already.
        AlreadyStarted: the name is taken.
    """
    if (already := acting_process()) is not None:
        raise RuntimeError(
            f"this task is the process {already.pid!r} already; a task is one process at most"
        )
    runtime = require_runtime("as_process")
    process = runtime.enroll(as_process, name=name, label=label or "adopted task")
    process.task = trio.lowlevel.current_task()
    token = current_process.set(process)
    reason: ExitReason = NORMAL
    told = False
    try:
        if runtime.instruments:
            runtime.announce(process)
        with process.scope:
            yield process.pid
    except BaseException as error:  # whatever ends the block is why the process ends, and goes on
        told = only_exits(error)
        stopped = isinstance(error, (trio.Cancelled, GeneratorExit)) or escaping(error) is not None
        reason = SHUTDOWN if stopped else reason_of(error)
        if not told:
            raise
    finally:
        current_process.reset(token)
        if process.dying:
            told, reason = True, process.reason
        runtime.end(process, reason)
        process.task = None
    if told and not is_normal_exit(reason):
        raise ProcessFailed(process.pid, reason)


async def adopt(
    function: Callable[..., Awaitable[T]], *args: Any, name: object = None, label: str | None = None
) -> T | None:
    """Run `function(*args)` as a process, in this task.

        nursery.start_soon(adopt, worker, 3)

    Returns what the function returns, or None if it left by `exit` with a clean reason; raises what `as_process`
    raises.
    """
    async with as_process(name=name, label=label or getattr(function, "__qualname__", None)):
        return await function(*args)
    return None


class _Watch:
    """Tells a block that its process has ended."""

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
    """Spawn a process that does not outlive the block, as in a nursery.

        async with scoped_spawn(ticker, 0.5) as pid:
            await work()

    At the end of the body the process is asked to stop, with `SHUTDOWN`, and waited for. If it ends before with
    anything but a clean end, the body is cancelled.

    Args:
        function: an async callable, as for `spawn`.
        *args: passed to it.
        name: registered before the first step.
        label: how messages about the process call it.
        shutdown: seconds that it has to stop; then it is killed.

    Raises:
        NotAsync: `function` is no async function.
        ProcessFailed: the process did not end cleanly before the body did.
        ValueError: `shutdown` is less than 0, or not a number.
    """
    if not shutdown >= 0:
        raise ValueError(f"scoped_spawn got shutdown={shutdown!r}; write seconds, 0 at least")
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
    # Shielded: the promise of the block is that nothing of it is left. Bounded by `shutdown` and the kill grace.
    with trio.CancelScope(shield=True):
        runtime = process.runtime
        runtime.signal(runtime.pid, process.pid, SHUTDOWN, linked=False)
        with trio.move_on_after(shutdown):
            await watch.ended.wait()
            return
        runtime.signal(runtime.pid, process.pid, KILL, linked=False)
        await watch.ended.wait()
