"""Functions that open and close a runtime, and its environment: the real world or a simulation.

A separate *host task* has the nursery of all processes, inside a shielded scope. The body of
`async with open_runtime()` stays in the caller's task and is not shielded. The body may return, raise, be cancelled
from outside, or end by Ctrl-C. In each case only the ordered shutdown ends the processes.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import islice
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

import trio
from trio.abc import Clock
from trio.lowlevel import enable_ki_protection

from actors._kernel.current import ambient_runtime, require_runtime, wait_for_end
from actors._kernel.runtime import EnvironmentLike, Process, Runtime, current_process
from actors._kernel.thread_queue import DEFAULT_LIMIT
from actors.arguments import check_number, check_seconds
from actors.exits import SHUTDOWN
from actors.instrumentation import logger
from actors.refs import Pid
from actors.text import printable
from actors.watchdog import count_run_time, watch_loop

__all__ = [
    "Environment",
    "EnvironmentLike",
    "Runtime",
    "current_environment",
    "current_runtime",
    "in_runtime",
    "open_runtime",
]


DEFAULT_KILL_GRACE: Final = 5.0
"""Seconds that a process has to unwind after a fatal exit signal."""


class Environment:
    """A runtime's source of randomness, identifiers, time of day and time since the boot: the real world.

    A simulation overrides these methods. So a program should take these values from its runtime. In a simulation, the
    seed then decides them:

        runtime = current_runtime()
        delay = runtime.random.uniform(0, 1)
        order_id = runtime.uuid()
        created_at = runtime.now()

    For durations use Trio's clock, `trio.current_time()`. In a test on Trio's `MockClock`, such as `autojump_clock`,
    the time of day passes as this clock does.
    """

    def opened(self, runtime: Runtime) -> None:
        """Handle the opening of a runtime, which has no processes yet. Override this method to add an instrument."""

    def random(self, process: Pid | None) -> random.Random | None:
        """Return the source for `process`, or None for the runtime's own. `process` is None outside of processes."""
        return None

    def uuid(self, process: Pid | None) -> uuid.UUID:
        """Return a new identifier."""
        return uuid.uuid4()

    def now(self) -> float:
        """Return the seconds since the epoch."""
        return time.time()

    def since_boot(self) -> float:
        """Return the seconds since the machine was booted, including those in which it was suspended."""
        return _since_boot()


def _boot_clock() -> Callable[[], float]:
    """Return the function of the clock that also counts while the machine is suspended."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_MONOTONIC"):
        # On macOS, this clock counts while the machine sleeps, and `time.monotonic` does not.
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return time.monotonic


_since_boot: Final = _boot_clock()


class _VirtualTime(Environment):
    """The real world, but the time of day and the time since the boot pass as a `MockClock` does."""

    # The time of day at the start of each clock, which all runtimes on the clock share.
    _starts: ClassVar[WeakKeyDictionary[Clock, float]] = WeakKeyDictionary()

    def __init__(self, clock: Clock) -> None:
        self._current_time = clock.current_time
        self._start = self._starts.setdefault(clock, time.time() - clock.current_time())

    def now(self) -> float:
        return self._start + self._current_time()

    def since_boot(self) -> float:
        return self._current_time()


current_environment: ContextVar[Environment] = ContextVar(
    "actors_environment",
    default=Environment(),  # noqa: B039 # it has no state
)
"""The environment of the next `open_runtime`. Tasks inherit it, as they do all context variables."""

_log = logging.getLogger("actors.runtime")


def current_runtime() -> Runtime:
    """Return the runtime that the calling task belongs to.

    Raises:
        RuntimeClosed: The calling task belongs to no runtime.
    """
    return require_runtime()


@contextmanager
def in_runtime(runtime: Runtime) -> Iterator[None]:
    """Make the current task belong to a runtime while the body runs, if another library has started the task.

        with in_runtime(runtime):
            pid = await Counter.start(0)

    A task belongs to the runtime of the task that opened its nursery. So the request handlers of a web server belong to
    no runtime if the server was started before the runtime. The body is not a process.

    Args:
        runtime: A runtime of the same `trio.run`. If the runtime has been closed, operations in the body fail.
    """
    within = current_process.set(None)
    token = ambient_runtime.set(runtime)
    try:
        yield
    finally:
        ambient_runtime.reset(token)
        current_process.reset(within)


@asynccontextmanager
@enable_ki_protection
async def open_runtime(
    *,
    kill_grace: float = DEFAULT_KILL_GRACE,
    shutdown_deadline: float = 30.0,
    seed: int | None = None,
    log: bool = True,
    debug: bool | None = None,
    watchdog: float | None = None,
    counts_run_time: bool = False,
    mailbox_alarm: float = 10_000,
    max_thread_calls: int = DEFAULT_LIMIT,
    max_crash_reports: float = logger.DEFAULT_MAX_CRASH_REPORTS,
) -> AsyncIterator[Runtime]:
    """Run processes while the body runs, then stop them in order.

        async with open_runtime() as runtime:
            pid = await Counter.start_link(0)
            ...

    At the end of the body, the runtime stops the processes that no process started, newest first. It sends `SHUTDOWN`
    to one process, waits for its end, and continues with the next process. A supervisor stops its tree when it gets
    `SHUTDOWN`. After all these processes have ended, or after `shutdown_deadline` seconds, the runtime kills all
    remaining processes and names them in a warning. Finally the block raises the exception that ended the body.

    KeyboardInterrupt or SystemExit in a process also ends the body, and the block raises that exception at its end.
    Another Ctrl-C during the shutdown kills all processes immediately.

    You may open a runtime inside another runtime, even in a process of the outer one. The body then belongs only to the
    inner runtime and is not a process.

    Args:
        kill_grace: The seconds that a process has to unwind after a fatal exit signal. Then the runtime declares it a
            zombie.
        shutdown_deadline: The seconds that the ordered part of the shutdown may take.
        seed: The seed of `runtime.random`. With None, the seed comes from the operating system, or in a simulation from
            the simulation's seed.
        log: Attach `actors.instrumentation.logger`, which writes crashes and zombies to the log.
        debug: Check the invariants of `actors._checks` all the time. Python then also names the line that
            created a coroutine without `await`. The program runs several times slower. None reads the environment
            variable ASHTREE_DEBUG.
        watchdog: The seconds that one step of a task may take. The watchdog reports a longer step with its stack,
            because a step blocks all other tasks. None turns the watchdog off. See `actors.watchdog`.
        counts_run_time: Add up the durations of each process's steps. `process_info` then has the sum as `run_time`, in
            seconds. This costs about a microsecond for each step of every task.
        mailbox_alarm: The number of waiting messages above which the runtime reports a mailbox. It reports again each
            time the number has doubled. Mailboxes have no bound, because a sender must never wait. After an alarm,
            bound the messages with calls in place of casts, or add receivers. `math.inf` reports no mailbox.
        max_thread_calls: The number of messages from other threads that may wait for the runtime's thread. A thread
            that sends a further message waits until there is room. After 30 seconds, the thread gets ThreadQueueFull.
        max_crash_reports: The maximum number of crash reports in the log per second. When the second is over, one line
            gives the number of crashes without a report. Your own handlers of the crash event get every crash.
            `math.inf` shows all reports.

    Yields:
        The runtime.

    Raises:
        RuntimeError: Trio does not run this code. The program may run under asyncio.
        InvalidOption: An option has an invalid value.

    Not guaranteed: the block never ends if a task swallows its cancellation for ever. An error log names the task.
    """
    _check(kill_grace, shutdown_deadline, mailbox_alarm, max_thread_calls, max_crash_reports)
    debug = os.environ.get("ASHTREE_DEBUG", "0") not in ("", "0") if debug is None else debug
    make = _checked_runtime() if debug else Runtime
    environment = _environment()
    runtime = make(environment, kill_grace=kill_grace, seed=seed)
    runtime.mailbox_alarm = mailbox_alarm
    runtime.from_threads.limit = max_thread_calls
    environment.opened(runtime)
    detach = _start_log(runtime, max_crash_reports) if log else _nothing
    host = _Host(runtime, shutdown_deadline)
    failure: BaseException | None = None
    # Even in a process of another runtime, the body is not a process.
    within = current_process.set(None)
    token = ambient_runtime.set(runtime)
    try:
        async with trio.open_nursery() as nursery:
            # Do not use `nursery.start`. In a cancelled task it would raise, and then wait for the host, which does not
            # end.
            nursery.start_soon(host.run)
            try:
                await host.opened()
                async with _watched(runtime, watchdog, counts_run_time):
                    with _coroutine_origins(debug), host.body_scope:
                        yield runtime
            except BaseException as error:  # raised again below, after the shutdown
                failure = error
            finally:
                host.close()
            await host.closed()
    finally:
        ambient_runtime.reset(token)
        current_process.reset(within)
        detach()
    interrupt = host.interrupt
    try:
        if interrupt is not None:
            raise interrupt
        try:
            runtime.verify_closed()
        except AssertionError as breach:
            raise breach from failure
        if failure is not None:
            raise failure
    finally:
        # The tracebacks refer to this frame, so exceptions and frame would keep each other in memory.
        del failure, interrupt, host


def _environment() -> EnvironmentLike:
    environment, clock = current_environment.get(), trio.lowlevel.current_clock()
    # Production code does not import `trio.testing`. If no module has imported it, the clock is not its MockClock.
    testing = sys.modules.get("trio.testing")
    is_virtual = testing is not None and isinstance(clock, testing.MockClock)
    return _VirtualTime(clock) if is_virtual and type(environment) is Environment else environment


def _nothing() -> None:
    pass


def _start_log(runtime: Runtime, max_crash_reports: float) -> Callable[[], None]:
    crash_log = partial(
        logger.CrashLog,
        runtime.telemetry,
        at=runtime.timers.at,
        emitted=lambda: runtime.crashed + runtime.abnormal_stops,
        limit=max_crash_reports,
    )
    return logger.attach(runtime.telemetry, crash_log)


def _check(
    kill_grace: float,
    shutdown_deadline: float,
    mailbox_alarm: float,
    max_thread_calls: int,
    max_crash_reports: float,
) -> None:
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError(
            "processes run on Trio, and Trio does not run this code; start a program with trio.run(main), and an ASGI "
            "server on Trio: hypercorn --worker-class trio (Uvicorn has asyncio alone)"
        )
    check_seconds("open_runtime", "kill_grace", kill_grace)
    check_seconds("open_runtime", "shutdown_deadline", shutdown_deadline)
    expected = "a whole number above 0"
    check_number(
        "open_runtime", "max_thread_calls", max_thread_calls, expected, least=1, whole=True
    )
    expected = "a number, 1 or more, or math.inf"
    check_number("open_runtime", "mailbox_alarm", mailbox_alarm, expected, least=1)
    check_number("open_runtime", "max_crash_reports", max_crash_reports, expected, least=1)


@asynccontextmanager
async def _watched(
    runtime: Runtime, watchdog: float | None, counts_run_time: bool
) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        if counts_run_time:
            stack.enter_context(count_run_time(runtime))
        if watchdog is not None:
            await stack.enter_async_context(watch_loop(runtime, watchdog))
        yield


def _checked_runtime() -> type[Runtime]:
    # Imported here, because a server in production makes no checks.
    from actors._checks import CheckedRuntime  # noqa: PLC0415

    return CheckedRuntime


@contextmanager
def _coroutine_origins(debug: bool) -> Iterator[None]:
    """Make Python's warning about a coroutine that was never awaited name the line that made it.

    Only debug builds do this, because Python then records the line of every call of an async function.
    """
    before = sys.get_coroutine_origin_tracking_depth()
    if debug:
        sys.set_coroutine_origin_tracking_depth(max(before, 1))
    try:
        yield
    finally:
        sys.set_coroutine_origin_tracking_depth(before)


class _Host:
    """The task in which the processes of a runtime live."""

    def __init__(self, runtime: Runtime, shutdown_deadline: float) -> None:
        self.runtime = runtime
        self.shutdown_deadline = shutdown_deadline
        self.body_scope = trio.CancelScope()
        self.interrupt: BaseException | None = None
        self._opened = trio.Event()
        self._closing = trio.Event()
        self._closed = trio.Event()
        self._ordered = trio.CancelScope()

    async def opened(self) -> None:
        """Wait until the runtime can spawn processes."""
        # Shielded, so that a body that was cancelled before it began ends like any other. Takes one scheduler turn.
        with trio.CancelScope(shield=True):
            await self._opened.wait()

    def close(self) -> None:
        """Begin the shutdown."""
        self._closing.set()

    async def closed(self) -> None:
        """Wait until the shutdown is over. Ctrl-C makes the shutdown kill all processes immediately."""
        # Shielded, because `open_runtime` promises that the processes are gone, even after a cancellation.
        with trio.CancelScope(shield=True):
            while not self._closed.is_set():
                try:
                    await self._closed.wait()
                except KeyboardInterrupt as error:
                    self.interrupted(error)

    def interrupted(self, error: BaseException) -> None:
        """End the program because of a KeyboardInterrupt or SystemExit.

        Before the shutdown, this cancels the body, and the ordered shutdown follows. During the shutdown, this kills
        all processes immediately.
        """
        if self.interrupt is None:
            self.interrupt = error
        if self._closing.is_set():
            self._ordered.cancel()
        self.body_scope.cancel()

    # Ctrl-C must reach the main task, which calls `interrupted`.
    @enable_ki_protection
    async def run(self) -> None:
        ambient_runtime.set(self.runtime)
        try:
            # Shielded, so that neither an outer cancellation nor an error of the body reaches the processes. The
            # ordered shutdown below ends them, bounded by shutdown_deadline and kill_grace.
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    self.runtime.nursery = nursery
                    self.runtime.interrupted = self.interrupted
                    nursery.start_soon(self.runtime.timers.run)
                    nursery.start_soon(self.runtime.wake_batches.run)
                    self._opened.set()
                    await self._closing.wait()
                    await self._stop_everything()
                    self.runtime.timers.stop()
                    self.runtime.wake_batches.stop()
        finally:
            self.runtime.closed = True
            self.runtime.from_threads.close()
            self._closed.set()

    async def _stop_everything(self) -> None:
        runtime = self.runtime
        with self._ordered:
            self._ordered.deadline = trio.current_time() + self.shutdown_deadline
            while (root := self._newest_root()) is not None:
                runtime.signal(runtime.pid, root.pid, SHUTDOWN, linked=False)
                if not root.dead:
                    await wait_for_end(root.pid)
        if self._ordered.cancelled_caught and self.interrupt is None:
            _log.warning("The ordered shutdown did not end within %g s", self.shutdown_deadline)
        runtime.closed = True
        # Processes that are ending already need no warning.
        left = {pid: each for pid, each in runtime.table.items() if not each.dying}
        if left:
            _log.warning(
                "Killing the processes that are left at the end of the runtime: %s", _names(left)
            )
            runtime.kill_everything()
        # This loop ends, because a process that does not unwind becomes a zombie after kill_grace and leaves the table.
        while runtime.table:
            await runtime.empty.park()
        if runtime.zombies:
            _log.error(
                "Waiting for processes that were killed and do not end: %s",
                _names(runtime.zombies),
            )

    def _newest_root(self) -> Process | None:
        runtime = self.runtime
        for process in reversed(runtime.table.values()):
            if process.parent is runtime.pid and not process.dying:
                return process
        return None


def _names(processes: dict[Pid, Process]) -> str:
    shown = [
        f"{printable(process.describe())} {pid!r}" for pid, process in islice(processes.items(), 10)
    ]
    more = len(processes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
