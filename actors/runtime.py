"""Opening and closing a runtime.

The processes live in a nursery of a *host task* of their own, inside a shielded scope; the body of
`async with open_runtime()` stays in the caller's task and is not shielded. So when the body ends, for whatever reason
(it returns, raises, is cancelled from outside, or Ctrl-C arrives), nothing happens to the processes but what the
ordered shutdown does to them.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice

import trio

from actors import logger
from actors._process import Process, ambient_runtime, require_runtime
from actors._runtime import Runtime
from actors.exits import SHUTDOWN
from actors.refs import Pid

__all__ = ["Runtime", "current_runtime", "open_runtime"]

_log = logging.getLogger("actors.runtime")


def current_runtime() -> Runtime:
    """The runtime that the calling task belongs to; RuntimeClosed if there is none."""
    return require_runtime()


@asynccontextmanager
async def open_runtime(
    *,
    kill_grace: float = 5.0,
    shutdown_deadline: float = 30.0,
    seed: int | None = None,
    log: bool = True,
) -> AsyncIterator[Runtime]:
    """Run processes for as long as the body runs, then stop them in order.

        async with open_runtime() as runtime:
            pid = await Counter.start_link(0)
            ...

    On leaving, the processes that were started from outside any process are asked to stop with `SHUTDOWN`, the newest
    first, each being waited for before the next; supervisors among them stop their trees. What is left after
    `shutdown_deadline` seconds, and what belongs to no tree, is killed and named in a warning. Then whatever made the
    body end is raised.

    Args:
        kill_grace: seconds that a process has to unwind after a fatal exit signal before it is declared a zombie.
        shutdown_deadline: seconds that the ordered part of the shutdown may take.
        seed: for `runtime.random`; None takes one from the operating system.
        log: attach `actors.logger`, which turns crashes and zombies into log lines.

    Not guaranteed: a task that swallows its cancellation for ever cannot be ended by anything but the end of the
    program. It is named in an error log, and leaving waits for it.
    """
    runtime = Runtime(kill_grace=kill_grace, seed=seed)
    detach = logger.attach(runtime.telemetry) if log else None
    host = _Host(runtime, shutdown_deadline)
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run)
            token = ambient_runtime.set(runtime)
            try:
                with host.body_scope:
                    yield runtime
            except BaseException as error:  # raised again below, when everything has been stopped
                failure = error
            finally:
                ambient_runtime.reset(token)
                host.close()
    finally:
        if detach is not None:
            detach()
    if host.interrupt is not None:
        raise host.interrupt
    if failure is not None:
        try:
            raise failure
        finally:
            # The traceback of `failure` contains this frame: without this they would keep each other alive.
            failure = None


class _Host:
    """The task in which a runtime's processes live."""

    def __init__(self, runtime: Runtime, shutdown_deadline: float) -> None:
        self.runtime = runtime
        self.shutdown_deadline = shutdown_deadline
        self.body_scope = trio.CancelScope()
        self.interrupt: BaseException | None = None
        self._closing = trio.Event()

    def close(self) -> None:
        self._closing.set()

    def interrupted(self, error: BaseException) -> None:
        """A process was hit by KeyboardInterrupt or SystemExit, which are meant for the program: end the body."""
        if self.interrupt is None:
            self.interrupt = error
        self.body_scope.cancel()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        # Shielded, so that neither an outer cancellation nor an error of the body reaches the processes: only the
        # ordered shutdown below ends them. It is bounded by shutdown_deadline and kill_grace.
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                self.runtime.nursery = nursery
                self.runtime.interrupted = self.interrupted
                nursery.start_soon(self.runtime.timers.run)
                task_status.started()
                await self._closing.wait()
                await self._stop_everything()
                self.runtime.closed = True
                self.runtime.timers.stop()

    async def _stop_everything(self) -> None:
        runtime = self.runtime
        with trio.move_on_after(self.shutdown_deadline) as deadline:
            while (root := self._newest_root()) is not None:
                runtime.signal(runtime.pid, root.pid, SHUTDOWN, linked=False)
                await self._ended(root)
        if deadline.cancelled_caught:
            _log.warning("The ordered shutdown did not end within %g s", self.shutdown_deadline)
        runtime.closed = True
        if runtime.table:
            _log.warning(
                "Killing what is left at the end of the runtime: %s", _names(runtime.table)
            )
            runtime.kill_everything()
        # Bounded: kill_grace turns what does not unwind into a zombie, which empties the table.
        while runtime.table:
            await runtime.empty.park()
        if runtime.zombies:
            _log.error(
                "Waiting for processes that do not let themselves be ended: %s",
                _names(runtime.zombies),
            )

    def _newest_root(self) -> Process | None:
        runtime = self.runtime
        for process in reversed(list(runtime.table.values())):
            if process.parent is runtime.pid and not process.dying:
                return process
        return None

    async def _ended(self, process: Process) -> None:
        if process.dead:
            return
        waiter = _EndOf()
        self.runtime.graph.watch(process.pid, waiter)
        try:
            await waiter.event.wait()
        finally:
            self.runtime.graph.unwatch(process.pid, waiter)


def _names(processes: dict[Pid, Process]) -> str:
    shown = [f"{process.describe()} {pid!r}" for pid, process in islice(processes.items(), 10)]
    more = len(processes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


class _EndOf:
    def __init__(self) -> None:
        self.event = trio.Event()

    def down(self, pid: object, reason: object) -> None:
        self.event.set()
