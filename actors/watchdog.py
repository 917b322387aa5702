"""Notices that the loop stands still, and says who is to blame.

Everything in a runtime shares one thread, so a callback that computes for a second, or calls something that blocks,
stops every process, timer and deadline for that second. Nothing can interrupt it; but a watchdog in a thread of its
own sees that the loop has not moved, finds out in which process, and reports that with the stack, while it still
stands there.

    async with open_runtime(watchdog=0.1): ...
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import frozen

from actors._process import current_process
from actors._runtime import Runtime
from actors.telemetry import Event

__all__ = ["BLOCKED", "Blocked", "watch_loop"]

BLOCKED: Event = ("actors", "runtime", "blocked")
"""One step of a task took too long. Measures `seconds`, so far; about `process`, `pid` (None for a task that is no
process) and `stack`, a list of lines. Executed when the step has ended, since no other code can run before."""

_log = logging.getLogger("actors.watchdog")


@frozen(kw_only=True)
class Blocked:
    """One step that took too long, as seen from outside.

    - `seconds`: for how long it had been running when it was looked at;
    - `process`: what the process calls itself, or the name of the task; `pid`: None for a task that is no process;
    - `stack`: where it was, as lines.
    """

    seconds: float
    process: str
    pid: object
    stack: list[str]


class _Steps(trio.abc.Instrument):
    """Knows which task runs, and since when.

    The times are the machine's and not Trio's: a test's virtual clock stands still while code runs, and running code
    is what is measured here.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self.task: trio.lowlevel.Task | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.task = task
        self.since = time.monotonic()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        since, self.since, self.task = self.since, None, None
        process = task.context.get(current_process)
        if process is not None and since is not None:
            process.run_time += time.monotonic() - since


@asynccontextmanager
async def watch_loop(runtime: Runtime, limit: float) -> AsyncIterator[None]:
    """Report every step of a task that takes longer than `limit` seconds, for as long as the body runs.

    A report is a log line at once, from the watching thread, and the event `BLOCKED` when the step is over. Besides,
    the steps of each process are added up: `process_info` has them as `run_time`, in seconds. Costs about a
    microsecond for each step of every task.
    """
    if not limit > 0:
        raise ValueError(f"a watchdog needs a limit above 0 seconds, but got {limit!r}")
    steps = _Steps()
    stop = threading.Event()
    thread = threading.Thread(
        target=_watch,
        args=(runtime, steps, limit, threading.get_ident(), stop),
        name="actors watchdog",
        daemon=True,  # a program that ends must not wait for it
    )
    trio.lowlevel.add_instrument(steps)
    runtime.counts_run_time = True
    thread.start()
    try:
        yield
    finally:
        stop.set()
        trio.lowlevel.remove_instrument(steps)
        # At most a quarter of the limit: that is how long it sleeps between two looks.
        thread.join()


def _watch(
    runtime: Runtime, steps: _Steps, limit: float, loop_thread: int, stop: threading.Event
) -> None:
    reported: float | None = None
    while not stop.wait(limit / 4):
        # Read once each: the loop goes on while this looks.
        since, task = steps.since, steps.task
        if since is None or task is None or since == reported:
            continue
        seconds = time.monotonic() - since
        if seconds < limit:
            continue
        reported = since
        blocked = _describe(task, seconds, loop_thread)
        _log.warning(
            "Process %s %r has been running for %.0f ms without letting anybody else run; it is at:\n%s",
            blocked.process,
            blocked.pid,
            seconds * 1000,
            "".join(blocked.stack),
        )
        try:
            runtime.run_sync_soon(_tell, runtime, blocked)
        except trio.RunFinishedError:
            return


def _describe(task: trio.lowlevel.Task, seconds: float, loop_thread: int) -> Blocked:
    process = task.context.get(current_process)
    frame = sys._current_frames().get(loop_thread)
    return Blocked(
        seconds=seconds,
        process=task.name if process is None else process.describe(),
        pid=None if process is None else process.pid,
        stack=[] if frame is None else traceback.format_stack(frame),
    )


def _tell(runtime: Runtime, blocked: Blocked) -> None:
    runtime.telemetry.execute(
        BLOCKED,
        {"seconds": blocked.seconds},
        {"process": blocked.process, "pid": blocked.pid, "stack": blocked.stack},
    )
