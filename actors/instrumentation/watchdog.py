"""Notices that the loop stands still, and says who is to blame.

Everything in a runtime shares one thread, so a callback that computes for a second, or calls something that blocks,
stops every process, timer and deadline for that second. Nothing can interrupt it; but a watchdog in a thread of its
own sees that the loop has not moved, finds out in which process, and reports that with the stack, while it still
stands there.

    async with open_runtime(watchdog=0.1): ...
"""

from __future__ import annotations

import linecache
import logging
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType
from typing import Final

import trio
from attrs import frozen

from actors._kernel.runtime import Runtime, current_process
from actors.instrumentation.telemetry import Event

__all__ = ["BLOCKED", "DEFAULT_LIMIT", "Blocked", "watch_loop"]

DEFAULT_LIMIT = 0.5
"""Seconds that one step may take under `ashtree serve` before it is reported."""

BLOCKED: Event = ("actors", "runtime", "blocked")
"""One step of a task took too long. Measures `seconds`, so far. Says `process`, `pid` (None for a task that is no
process), `handler`, `file` and `line` (see `Blocked`), and `stack`, a list of lines. Executed when the step has ended,
since no other code can run before."""

_log = logging.getLogger("actors.instrumentation.watchdog")

# Packages whose frames are never the program's own code.
_MACHINERY: Final = frozenset({"actors", "supervision", "channels", "trio", "outcome", "hypercorn"})


@frozen(kw_only=True)
class Blocked:
    """One step that took too long, as seen from outside.

    - `seconds`: for how long it had been running when it was looked at;
    - `process`: what the process calls itself, or the name of the task; `pid`: None for a task that is no process;
    - `function`, `file`, `line`, `source`: the innermost line of the program's own code, which leaves out Ashtree,
      Trio, the standard library and installed packages; of the innermost frame if none is the program's own;
    - `handler`: the outermost function of the program's own code in this process;
    - `stack`: where it was, as lines.
    """

    seconds: float
    process: str
    pid: object
    handler: str
    function: str
    file: str
    line: int
    source: str
    stack: list[str]

    def __str__(self) -> str:
        inside = "" if self.function == self.handler else f" (in {self.function})"
        return (
            f"Process {self.process} {self.pid!r} has let nothing else run for {self.seconds * 1000:.0f} ms. "
            f"{self.handler} is at {self.file}:{self.line}{inside}: {self.source}\n"
            "Write `await trio.sleep(seconds)` in place of time.sleep(), and "
            "`await trio.to_thread.run_sync(function, ...)` for what blocks or computes for long. The stack:\n"
            + "".join(self.stack)
        )


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

    A report is a log line at once, from the watching thread, that names the process, its handler and the line, and the
    event `BLOCKED` when the step is over. Besides,
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
    pauses = _Pauses(_cpu_of(loop_thread), time.monotonic())
    reported: float | None = None
    while not stop.wait(limit / 4):
        # Read once each: the loop goes on while this looks.
        since, task = steps.since, steps.task
        now = time.monotonic()
        paused = pauses.until(now, limit / 4, since)
        if since is None or task is None or since == reported or now - since - paused < limit:
            continue
        blocked = _describe(task, now - since, loop_thread)
        if steps.since != since:
            # It has ended meanwhile, and what was seen may be another step's stack.
            continue
        reported = since
        _log.warning("%s", blocked)
        try:
            runtime.run_sync_soon(_tell, runtime, blocked)
        except trio.RunFinishedError:
            return


class _Pauses:
    """Adds up the time in which the machine ran neither thread of this program, so that no step is blamed for it.

    A watching thread that wakes up late was kept from running: by a machine that is busy with other programs or was
    suspended, or by the loop's thread, which computed without giving up the interpreter lock. Only the latter is the
    step's doing, and then the loop's thread has used the processor.
    """

    def __init__(self, cpu: Callable[[], float] | None, now: float) -> None:
        # Seconds that the loop's thread has used the processor. Not known on every system; without it every delay
        # counts as the step's doing.
        self._cpu = cpu
        self._used = 0.0 if cpu is None else cpu()
        self._looked = now
        self._since: float | None = None
        self._paused = 0.0

    def until(self, now: float, asked: float, since: float | None) -> float:
        """The seconds, of those since the step of `since` began, in which nothing ran.

        Args:
            now: the time of this look.
            asked: seconds between two looks.
            since: when the step that runs now began; None if there is none.
        """
        used = 0.0 if self._cpu is None else self._cpu()
        late = now - self._looked - asked - (used - self._used)
        self._looked, self._used = now, used
        if since is None:
            return 0.0
        if since != self._since:
            self._since, self._paused = since, 0.0
        if self._cpu is not None and late > 0:
            self._paused = min(self._paused + late, now - since)
        return self._paused


def _cpu_of(thread: int) -> Callable[[], float] | None:
    find = getattr(time, "pthread_getcpuclockid", None)
    return None if find is None else partial(time.clock_gettime, find(thread))


def _describe(task: trio.lowlevel.Task, seconds: float, loop_thread: int) -> Blocked:
    process = task.context.get(current_process)
    frames = list(_frames_of(task, sys._current_frames().get(loop_thread)))
    own = [each for each in frames if _is_program(each)]
    outer, inner = (own[0], own[-1]) if own else (frames[0], frames[-1])
    file, line = inner.f_code.co_filename, inner.f_lineno
    return Blocked(
        seconds=seconds,
        process=task.name if process is None else process.describe(),
        pid=None if process is None else process.pid,
        handler=_name(outer),
        function=_name(inner),
        file=file,
        line=line,
        source=linecache.getline(file, line).strip(),
        stack=traceback.StackSummary.extract((each, each.f_lineno) for each in frames).format(),
    )


def _frames_of(task: trio.lowlevel.Task, innermost: FrameType | None) -> list[FrameType]:
    """The frames of a task, the outermost first; those of Trio and of whoever runs it are left out."""
    outermost = getattr(task.coro, "cr_frame", None)
    frames: list[FrameType] = []
    frame = innermost
    while frame is not None:
        frames.insert(0, frame)
        if frame is outermost:
            break
        frame = frame.f_back
    return frames


def _is_program(frame: FrameType) -> bool:
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    if package in _MACHINERY or package in sys.stdlib_module_names - {"__main__"}:
        return False
    return "site-packages" not in frame.f_code.co_filename


def _name(frame: FrameType) -> str:
    return frame.f_code.co_qualname.rpartition("<locals>.")[2]


def _tell(runtime: Runtime, blocked: Blocked) -> None:
    runtime.telemetry.execute(
        BLOCKED,
        {"seconds": blocked.seconds},
        {
            "process": blocked.process,
            "pid": blocked.pid,
            "handler": blocked.handler,
            "file": blocked.file,
            "line": blocked.line,
            "stack": blocked.stack,
        },
    )
