"""A watchdog that reports steps that block the event loop.

All processes of a runtime share one thread. A callback that computes for a second, or calls a blocking function, stops
every process, timer and deadline for that second. No code can interrupt it. The watchdog runs in a thread of its own.
It reports the blocking process and its stack while the process still blocks.

    async with open_runtime(watchdog=0.1): ...
"""

from __future__ import annotations

import linecache
import logging
import math
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import FrameType

import msgspec
import trio
from msgspec import structs

from actors._kernel.runtime import LoopLike, Process, Runtime, current_process
from actors.arguments import check_number
from actors.instrumentation.telemetry import Event
from actors.places import is_program
from actors.servers._loop import Loop
from actors.text import log_exception, printable

__all__ = ["BLOCKED", "DEFAULT_LIMIT", "LOOP_BLOCKED", "Blocked", "count_run_time", "watch_loop"]

DEFAULT_LIMIT = 0.5
"""The seconds that one step may take under `ashtree serve` before the watchdog reports it."""

BLOCKED: Event = ("actors", "runtime", "blocked")
"""One step of a task took too long.

Measurements: `seconds`, so far. Metadata: `process`, `pid`, `handler`, `file`, `line` and `stack`, as in `Blocked`. The
runtime emits the event when the step has ended, because no other code can run before that."""

LOOP_BLOCKED: Event = ("actors", "asyncio_loop", "blocked")
"""One step of a task of an `AsyncioLoop` took too long. Measurements and metadata as for `BLOCKED`, and `call`."""

# Programs configure this logger by this name, which is older than the place of the module.
_log = logging.getLogger("actors.instrumentation.watchdog")


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """One step that took too long, as the watchdog saw it.

    Attributes:
        seconds: The duration of the step until the watchdog looked.
        process: The name of the process, or of the task.
        pid: The process; None for a task that is not a process.
        function: The innermost function of the program's own code. Ashtree, Trio, the standard library and installed
            packages are not own code. Without own code on the stack, this is the innermost function.
        file: The file of the line that ran in that function.
        line: The number of that line.
        source: The text of that line.
        handler: The outermost function of the program's own code on the stack.
        stack: The whole stack, as lines.
        call: The `asyncio_call` that blocks an `AsyncioLoop`; None for a step that blocks Trio's loop.
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
    call: str | None = None

    def __str__(self) -> str:
        inside = "" if self.function == self.handler else f" (in {self.function})"
        who, library, thread = (
            f"Process {self.process} {self.pid!r}",
            "trio",
            "trio.to_thread.run_sync",
        )
        if self.call is not None:
            caller = "" if self.pid is None else f" of process {self.process} {self.pid!r}"
            who, library, thread = f"{self.call}{caller}", "asyncio", "asyncio.to_thread"
        return (
            f"{who} has let nothing else run for {self.seconds * 1000:.0f} ms. "
            f"{self.handler} is at {self.file}:{self.line}{inside}: {self.source}\n"
            f"Write `await {library}.sleep(seconds)` in place of time.sleep(), and "
            f"`await {thread}(function, ...)` for code that blocks or computes for long. The stack:\n"
            + "".join(self.stack)
        )


class _RunTimes(trio.abc.Instrument):
    """Adds up the durations of the steps of each process, in seconds of the machine's clock.

    It cannot use Trio's clock, because a test's virtual clock stands still while code runs.
    """

    def __init__(self) -> None:
        self._since = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._since = time.monotonic()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        process = task.context.get(current_process)
        if process is not None:
            process.run_time += time.monotonic() - self._since


@contextmanager
def count_run_time(runtime: Runtime) -> Iterator[None]:
    """Add up the durations of each process's steps, while the body runs, for `run_time` in `process_info`.

    Costs about a microsecond for each step of every task.
    """
    run_times = _RunTimes()
    trio.lowlevel.add_instrument(run_times)
    runtime.counts_run_time = True
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(run_times)


class _Turns(trio.abc.Instrument):
    """Numbers the turns of the scheduler.

    Trio runs each task at most once in a turn. So if the watchdog finds the same task running twice in one turn, it saw
    the same step both times.
    """

    def __init__(self, step_seconds: float, too_long: Callable[[float], object]) -> None:
        self._step_seconds = step_seconds
        self._too_long = too_long
        self._began = self._measured_at = -math.inf
        self._used = 0.0
        self.number = 0
        self.is_waiting = False
        """True while the loop waits for input or a deadline, so no task runs."""
        self.reported = 0
        """The number of the last turn in which the watchdog reported a step."""

    def after_io_wait(self, timeout: float) -> None:
        self.is_waiting = False
        self.number += 1
        self._began = now = time.monotonic()
        if now - self._measured_at >= self._step_seconds / 8:
            # Not in every turn, because it is a system call.
            self._measured_at, self._used = now, time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        if time.monotonic() - self._began >= self._step_seconds and self.reported != self.number:
            self._report_computation()
        self.is_waiting = True

    def _report_computation(self) -> None:
        # Count only processor time, because on a busy machine a turn may take long without a fault of the program.
        used = time.thread_time() - self._used
        # Earlier turns used at most the whole time from the measurement to the begin of this turn.
        used -= self._began - self._measured_at
        if used >= self._step_seconds:
            self._too_long(used)


@asynccontextmanager
async def watch_loop(runtime: Runtime, step_seconds: float) -> AsyncIterator[None]:
    """Report every step of a task that blocks the event loop for `step_seconds`, while the body runs.

    The watching thread logs a line while the step still blocks, with the process, its handler and the line of code.
    The event `BLOCKED` follows when the step is over.

    Not guaranteed: the thread looks eight times within the limit, so it may miss a step of up to one and a quarter
    times the limit. The thread cannot look while the step holds the interpreter lock, for example in a regular
    expression or in the parser of a huge JSON document. If this takes longer than the limit, a log line names the time,
    but not the process. Costs a microsecond for each turn of the scheduler, and nothing for each step.
    """
    check_number("open_runtime", "watchdog", step_seconds, "seconds above 0, or None", above=0)
    stop = threading.Event()
    root = trio.lowlevel.current_root_task()
    assert root is not None  # this runs in a task
    turns = _Turns(step_seconds, _report_turn)
    thread = threading.Thread(
        target=_watch,
        args=(runtime, turns, root),
        kwargs={"step_seconds": step_seconds, "loop_thread": threading.get_ident(), "stop": stop},
        name="actors watchdog",
        daemon=True,  # the end of the program must not wait for it
    )
    trio.lowlevel.add_instrument(turns)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        trio.lowlevel.remove_instrument(turns)
        # The thread ends immediately, or after the line that it is writing.
        thread.join()


def _report_turn(seconds: float) -> None:
    _log.warning(
        "The event loop has computed for %.0f ms without a turn, and the watchdog could not see which process. "
        "Either one call held the interpreter lock, such as a regular expression or a huge JSON document, "
        "or very many processes ran one after the other",
        seconds * 1000,
    )


def _watch(
    runtime: Runtime,
    turns: _Turns,
    root: trio.lowlevel.Task,
    *,
    step_seconds: float,
    loop_thread: int,
    stop: threading.Event,
) -> None:
    pause = step_seconds / 8
    pauses = _Pauses(_cpu_of(loop_thread), time.monotonic())
    turn, task, since = turns.number, None, None
    others: dict[LoopLike, _OtherLoop] = {}
    while not stop.wait(pause):
        now, number = time.monotonic(), turns.number
        # The runtime's thread may change its dict meanwhile, so look at a copy.
        loops = list(runtime.other_loops.values())
        others = {each: others.get(each) or _OtherLoop(each, step_seconds, now) for each in loops}
        for other in others.values():
            other.look(now, pause, runtime)
        # If a new turn has begun since the last look, or if the loop waits, no task blocks the loop. Then this thread
        # must not search, because a search in ten thousand tasks takes milliseconds.
        running = _running(root) if number == turn and not turns.is_waiting else None
        if number != turn or running is not task:
            turn, task, since = number, running, now
        paused = pauses.until(now, pause, since if task is not None else None)
        if (
            task is None
            or since is None
            or turns.reported == turn
            or now - since - paused < step_seconds
        ):
            continue
        try:
            blocked = _describe(task, now - since, loop_thread)
            if turns.number != turn or not _is_running(task):
                # The step ended while this thread read the stack, so the stack may belong to another step.
                continue
            turns.reported = turn
            _report(runtime, blocked)
        except trio.RunFinishedError:
            return
        except Exception as error:
            # A repr or a log handler of the program raised. The watchdog must continue.
            turns.reported = turn
            log_exception(
                _log,
                "The watchdog could not report a step that blocks the event loop",
                exception=error,
            )


def _report(runtime: Runtime, blocked: Blocked) -> None:
    _log.warning("%s", printable(str(blocked), lines=True))
    runtime.run_sync_soon(_tell, runtime, blocked)


class _OtherLoop:
    """The looks at another event loop, which answers a ping in each of its turns unless a step blocks it."""

    def __init__(self, loop: LoopLike, step_seconds: float, now: float) -> None:
        self._loop = loop
        self._step_seconds = step_seconds
        self._pauses = _Pauses(_cpu_of(loop.thread), now)
        self._since: float | None = None
        self._step: object = None
        self._has_answered = True
        self._is_reported = False

    def look(self, now: float, pause: float, runtime: Runtime) -> None:
        """Report the step that blocks the loop, once, if there is one."""
        step, process, call = self._loop.running()
        paused = self._pauses.until(now, pause, self._since)
        if self._has_answered or step is not self._step:
            # Ask for a new answer only after the last one, so that a blocked loop collects no pings.
            if self._has_answered:
                self._since, self._is_reported = None, False
                if not self._loop.is_busy():
                    return
                self._has_answered = False
                self._loop.ping(self._answer)
            self._since, self._step = now, step
            return
        if (
            self._is_reported
            or self._since is None
            or now - self._since - paused < self._step_seconds
        ):
            return
        self._is_reported = True
        try:
            frames = _frames_in_loop(self._loop.thread)
            if frames and not self._has_answered:
                name = "" if process is None else process.describe()
                pid = None if process is None else process.pid
                blocked = _blocked(frames, now - self._since, name, pid)
                _report(runtime, structs.replace(blocked, call=call))
        except trio.RunFinishedError:
            # The runtime has ended, and the log has the report.
            pass
        except Exception as error:
            # A repr or a log handler of the program raised. The watchdog must continue.
            log_exception(
                _log, "The watchdog could not report a step that blocks a loop", exception=error
            )

    def _answer(self) -> None:
        self._has_answered = True


def _running(root: trio.lowlevel.Task) -> trio.lowlevel.Task | None:
    """Return the task whose step runs now, or None. Other threads may call this."""
    todo = [root]
    try:
        while todo:
            task = todo.pop()
            if _is_running(task):
                return task
            for nursery in task.child_nurseries:
                todo.extend(nursery.child_tasks)
    except RuntimeError:
        # The running step started a task, so a set grew during the iteration. The next look will find the step.
        pass
    return None


def _is_running(task: trio.lowlevel.Task) -> bool:
    return bool(getattr(task.coro, "cr_running", False))


class _Pauses:
    """The pauses in which the machine ran neither thread. A pause does not count for a step.

    If the watching thread wakes up late, there are two possible causes. The machine was busy or suspended: this is a
    pause. Or the loop's thread computed without releasing the interpreter lock: this is the fault of the step. In the
    second case the loop's thread has used the processor.
    """

    def __init__(self, cpu: Callable[[], float] | None, now: float) -> None:
        # A function for the processor time of the loop's thread. None if the system cannot tell: without it, every
        # delay is part of the step.
        self._cpu = cpu
        self._used = 0.0 if cpu is None else cpu()
        self._looked = now
        self._since: float | None = None
        self._paused = 0.0

    def until(self, now: float, asked: float, since: float | None) -> float:
        """Return the seconds of pauses since the start of the running step.

        Args:
            now: The time of this look.
            asked: The seconds between two looks.
            since: The start of the step that runs now; None if no step runs.
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
    frames = list(_frames_of(task, sys._current_frames().get(loop_thread)))
    process = _idle_process(frames) or task.context.get(current_process)
    name = task.name if process is None else process.describe()
    return _blocked(frames, seconds, name, None if process is None else process.pid)


def _blocked(frames: list[FrameType], seconds: float, process: str, pid: object) -> Blocked:
    own = [each for each in frames if is_program(each.f_code.co_filename)]
    outer, inner = (own[0], own[-1]) if own else (frames[0], frames[-1])
    file, line = inner.f_code.co_filename, inner.f_lineno
    return Blocked(
        seconds=seconds,
        process=process,
        pid=pid,
        handler=_name(outer),
        function=_name(inner),
        file=file,
        line=line,
        source=linecache.getline(file, line).strip(),
        stack=traceback.StackSummary.extract((each, each.f_lineno) for each in frames).format(),
    )


def _idle_process(frames: Sequence[FrameType]) -> Process | None:
    """Return the process for which the running task handles a message at once; None if it works for itself."""
    # From the innermost, because a server may cause another one to handle a message at once.
    for frame in reversed(frames):
        if frame.f_code is Loop.take.__code__:
            process: Process = frame.f_locals["self"].process
            return process
    return None


def _frames_of(task: trio.lowlevel.Task, innermost: FrameType | None) -> list[FrameType]:
    """Return the frames of a task, outermost first, without the frames of Trio and its caller."""
    outermost = getattr(task.coro, "cr_frame", None)
    frames: list[FrameType] = []
    frame = innermost
    while frame is not None:
        frames.insert(0, frame)
        if frame is outermost:
            break
        frame = frame.f_back
    return frames


def _frames_in_loop(thread: int) -> list[FrameType]:
    """Return the frames of the step that runs in an asyncio loop, outermost first, without the frames of the loop."""
    frames: list[FrameType] = []
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code.co_qualname != "Handle._run":
        frames.insert(0, frame)
        frame = frame.f_back
    # Without such a frame, no step runs, or the loop is not asyncio's own.
    return frames


def _name(frame: FrameType) -> str:
    return frame.f_code.co_qualname.rpartition("<locals>.")[2]


def _tell(runtime: Runtime, blocked: Blocked) -> None:
    metadata = {
        "process": blocked.process,
        "pid": blocked.pid,
        "handler": blocked.handler,
        "file": blocked.file,
        "line": blocked.line,
        "stack": blocked.stack,
    }
    event = BLOCKED
    if blocked.call is not None:
        event, metadata["call"] = LOOP_BLOCKED, blocked.call
    runtime.telemetry.execute(event, {"seconds": blocked.seconds}, metadata)
