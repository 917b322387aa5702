"""Programs that are one supervision tree: their start, signals and ordered stop.

    if __name__ == "__main__":
        application.run([Store, child_spec(Listener, 4000)])

Use `run` for a whole program. In a running Trio program and in tests, use `open_application`. `serve` also handles
signals.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import FrameType
from typing import Any, NoReturn, TypeAlias

import msgspec
import trio

from actors.errors import StartError
from actors.exits import Crash, ExitReason, is_normal_exit
from actors.instrumentation.telemetry import Event
from actors.links import wait_exit
from actors.refs import Pid
from actors.runtime import DEFAULT_KILL_GRACE, Runtime, open_runtime
from actors.text import printable
from supervision import logger
from supervision.child_spec import Supervised
from supervision.errors import (
    ApplicationFailed,
    ApplicationKilled,
    ApplicationStartFailed,
    SupervisionError,
    describe_reason,
)
from supervision.events import GAVE_UP
from supervision.supervisor import Supervisor

__all__ = ["Application", "Top", "open_application", "run", "serve"]

Top: TypeAlias = Iterable[Supervised] | Callable[[], Awaitable[Pid]]
"""The children of the top supervisor, or an async function that starts the top supervisor."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# The number of reports to keep about supervisors that gave up. Only the newest explain why the top supervisor gave up.
_REMEMBERED = 100


class Application:
    """A running application. `open_application` makes it.

    Attributes:
        supervisor: The pid of its top supervisor.
        runtime: The runtime of the application, which no other code shares.
    """

    supervisor: Pid

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        # The metadata of the `GAVE_UP` events, newest last.
        self._given_up: dict[Pid, Mapping[str, Any]] = {}
        self._reason: ExitReason = None
        self._ended = trio.Event()
        self._stopping = trio.Event()

    def stop(self) -> None:
        """Make `wait` return. The application stops at the end of the block of `open_application`."""
        self._stopping.set()

    def kill(self) -> None:
        """Kill every process immediately, without order and without `terminate`."""
        self._stopping.set()
        self.runtime.kill_everything()

    async def wait(self) -> None:
        """Wait until `stop` is called or the top supervisor ends.

        Raises:
            ApplicationFailed: The top supervisor gave up or was killed. A clean end, for example by `auto_shutdown`, is
                not a failure.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_then_cancel, self._stopping, nursery.cancel_scope)
            nursery.start_soon(_then_cancel, self._ended, nursery.cancel_scope)
        if self._ended.is_set() and not self._stopping.is_set():
            self._raise_failure()

    async def _boot(self, top: Top) -> None:
        self.runtime.telemetry.attach(GAVE_UP, self._note)
        try:
            self.supervisor = await (top() if callable(top) else Supervisor.start_link(top))
        except SupervisionError:
            raise
        except StartError as error:
            raise ApplicationStartFailed(error.reason) from error
        except Exception as error:
            # A start function may raise any exception. It becomes the reason of the failed start.
            raise ApplicationStartFailed(Crash(error)) from error
        # A system task, because a nursery around the caller's block would wrap the exceptions of the block. The task
        # never raises, and ends with the runtime at the latest. Wait until the task watches the supervisor, so that it
        # cannot miss the end.
        watching = trio.Event()
        trio.lowlevel.spawn_system_task(self._track, watching)
        await watching.wait()

    async def _track(self, watching: trio.Event) -> None:
        watching.set()
        self._reason = await wait_exit(self.supervisor)
        self._ended.set()

    def _note(
        self, event: Event, measurements: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        # Record every supervisor, because the top supervisor may give up because of a supervisor below it.
        self._given_up[about["supervisor"]] = about
        if len(self._given_up) > _REMEMBERED:
            del self._given_up[next(iter(self._given_up))]

    def _raise_failure(self) -> None:
        about = self._given_up.get(self.supervisor)
        if about is not None:
            raise ApplicationFailed(
                f"its top supervisor gave up {self._why(about)}",
                reason=self._reason,
                id=about["id"],
            )
        if not is_normal_exit(self._reason):
            raise ApplicationFailed(
                f"its top process ended: {describe_reason(self._reason)}", reason=self._reason
            )

    def _why(self, about: Mapping[str, Any]) -> str:
        because = (
            f"after {about['max_restarts']:g} restarts within {about['max_seconds']:g} s; "
            f"child {about['id']!r} ended again: "
        )
        below = self._given_up.get(about["pid"])
        if below is None or below is about:
            return because + describe_reason(about["reason"])
        return f"{because}it gave up {self._why(below)}"


async def _then_cancel(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


@asynccontextmanager
async def open_application(
    top: Top,
    *,
    shutdown_deadline: float = 30.0,
    kill_grace: float = DEFAULT_KILL_GRACE,
    log: bool = True,
    watchdog: float | None = None,
) -> AsyncIterator[Application]:
    """Run an application during the block, then stop it in order.

        async with open_application([Store, child_spec(Listener, 4000)]) as application:
            await application.wait()

    Args:
        top: The children of the top supervisor (strategy "one_for_one"). For other strategies, an async function that
            starts a supervisor and returns its pid.
        shutdown_deadline: Seconds that the whole ordered stop may take. Children stop in the reverse order of their
            start, each within its `shutdown`. After the deadline the runtime kills all remaining processes.
        kill_grace: As for `open_runtime`.
        log: Attach `actors.instrumentation.logger` and `supervision.logger`.
        watchdog: As for `open_runtime`.

    Yields:
        The `Application`, after every child has started.

    Raises:
        ApplicationStartFailed: A child did not start. The children before it were stopped.
        InvalidChildSpec, InvalidOption: Nothing was started.
    """
    options = _Options(top, shutdown_deadline, kill_grace, log, watchdog)
    async with _open(_Switch(shutdown_deadline), options) as opened:
        yield opened


async def serve(
    top: Top,
    *,
    on_started: Callable[[Pid], None] | None = None,
    on_stopping: Callable[[], None] | None = None,
    signals: Iterable[signal.Signals] = _SIGNALS,
    shutdown_deadline: float = 30.0,
    kill_grace: float = DEFAULT_KILL_GRACE,
    log: bool = True,
    watchdog: float | None = None,
) -> None:
    """Run an application until a signal comes or its top supervisor ends.

        trio.run(serve, [Store, Listener])

    The first signal stops the application in order. A second signal, of any kind, kills every process immediately. If
    the first signal comes during the start, the application completes the start and then stops.

    Args:
        top: As for `open_application`.
        on_started: A function that `serve` calls with the pid of the top supervisor after the start.
        on_stopping: A function that `serve` calls before it stops the application.
        signals: The signals to handle. Outside the main thread, pass an empty sequence, which handles none.
        shutdown_deadline: As for `open_application`.
        kill_grace: As for `open_application`.
        log: As for `open_application`.
        watchdog: As for `open_runtime`.

    Raises:
        ApplicationStartFailed: A child did not start; or a signal came during the start, and the start did not finish
            within `shutdown_deadline`.
        ApplicationFailed: The top supervisor gave up or was killed.
        ApplicationKilled: A second signal came before the application had stopped.
        InvalidChildSpec, InvalidOption: Nothing was started.
    """
    options = _Options(top, shutdown_deadline, kill_grace, log, watchdog)
    await _serve(options, on_started, on_stopping, signals, end=None)


async def _serve(
    options: _Options,
    on_started: Callable[[Pid], None] | None,
    on_stopping: Callable[[], None] | None,
    signals: Iterable[signal.Signals],
    end: Callable[[int], object] | None,
) -> None:
    switch = _Switch(options.shutdown_deadline)
    with _watch(tuple(signals), switch, end):
        async with _open(switch, options) as application:
            if on_started is not None and not switch.pressed:
                on_started(application.supervisor)
            await application.wait()
            if on_stopping is not None:
                on_stopping()
    if switch.killed_by is not None:
        raise ApplicationKilled(switch.killed_by)


def run(
    top: Top,
    *,
    on_started: Callable[[Pid], None] | None = None,
    on_stopping: Callable[[], None] | None = None,
    signals: Iterable[signal.Signals] = _SIGNALS,
    shutdown_deadline: float = 30.0,
    kill_grace: float = DEFAULT_KILL_GRACE,
    log: bool = True,
    watchdog: float | None = None,
    explain: Callable[[SupervisionError], str] = str,
) -> None:
    """Run a program that is one application, and return after its ordered stop.

        run([Store, child_spec(Listener, 4000)], on_started=lambda pid: print("ready"))

    Args:
        top: As for `open_application`.
        on_started: As for `serve`.
        on_stopping: As for `serve`.
        signals: As for `serve`.
        shutdown_deadline: As for `open_application`.
        kill_grace: As for `open_application`.
        log: As for `open_application`.
        watchdog: As for `open_runtime`.
        explain: A function that takes an error and returns the sentence for standard error. By default this is the
            message of the error.

    A second signal ends the program immediately: it writes out its log, but runs no `terminate` and no `finally`, and
    waits for no thread. The exit code is 128 plus the number of the signal.

    Raises:
        SystemExit: The application did not start, or failed. The exit code is 1, and one sentence on standard error
            explains the error.

    As with a permanent application of OTP, the program ends when the top supervisor gives up.
    """

    def end(signum: int) -> None:
        exit_now(128 + signum, explain(ApplicationKilled(signum)))

    options = _Options(top, shutdown_deadline, kill_grace, log, watchdog)
    main = partial(_serve, options, on_started, on_stopping, signals, end)
    try:
        # Restrict interrupts to checkpoints, because an interrupt inside a process would crash that process.
        trio.run(main, restrict_keyboard_interrupt_to_checkpoints=True)
    except SupervisionError as error:
        sys.stderr.write(f"{printable(explain(error), lines=True)}\n")
        raise SystemExit(1) from None


class _Switch:
    """A switch for signals. The first press stops an application, the second kills it."""

    def __init__(self, shutdown_deadline: float) -> None:
        self.application: Application | None = None
        self.boot = trio.CancelScope()
        self.pressed = False
        self.killed_by: int | None = None
        self._shutdown_deadline = shutdown_deadline

    def press(self, signum: int) -> None:
        application = self.application
        if not self.pressed:
            self.pressed = True
            self.boot.deadline = trio.current_time() + self._shutdown_deadline
            if application is not None:
                application.stop()
        else:
            self.killed_by = signum
            self.boot.cancel()
            if application is not None:
                application.kill()


class _Options(msgspec.Struct, frozen=True):
    """The arguments that `open_application`, `serve` and `run` share."""

    top: Top
    shutdown_deadline: float
    kill_grace: float
    log: bool
    watchdog: float | None


@asynccontextmanager
async def _open(switch: _Switch, options: _Options) -> AsyncIterator[Application]:
    async with open_runtime(
        kill_grace=options.kill_grace,
        shutdown_deadline=options.shutdown_deadline,
        log=options.log,
        watchdog=options.watchdog,
    ) as runtime:
        if options.log:
            logger.attach(runtime.telemetry)
        application = switch.application = Application(runtime)
        with switch.boot:
            await application._boot(options.top)
        if switch.boot.cancelled_caught:
            if switch.killed_by is not None:
                raise ApplicationKilled(switch.killed_by)
            raise ApplicationStartFailed("a signal came before it had started")
        if switch.pressed:
            application.stop()
        yield application


@contextmanager
def _watch(
    signals: tuple[signal.Signals, ...], switch: _Switch, end: Callable[[int], object] | None
) -> Iterator[None]:
    """Make each signal press the switch while the body runs.

    With `end`, the second signal calls `end` instead.
    """
    if not signals:
        yield
        return
    scope = trio.CancelScope()
    with trio.open_signal_receiver(*signals) as received:
        if end is not None:
            on_second_signal(signals, end)
        # A system task, because a nursery here would wrap the exceptions of the application.
        trio.lowlevel.spawn_system_task(_press, received, switch, scope)
        try:
            yield
        finally:
            scope.cancel()


async def _press(received: AsyncIterator[int], switch: _Switch, scope: trio.CancelScope) -> None:
    with scope:
        async for signum in received:
            switch.press(signum)


# The second signal

# Seconds for writing the last lines. Without a limit, a full pipe or a locked log handler would block the end for ever.
_FLUSH = 1.0


def exit_now(code: int, sentence: str) -> NoReturn:
    """Write out the log and end the program without running other code, such as `finally`.

    Args:
        code: The exit code.
        sentence: The last line on standard error.
    """

    def flush() -> None:
        sys.stderr.write(f"{printable(sentence, lines=True)}\n")
        sys.stderr.flush()
        sys.stdout.flush()
        logging.shutdown()

    try:
        last = threading.Thread(target=flush, daemon=True)
        last.start()
        last.join(_FLUSH)
    finally:
        os._exit(code)


def on_second_signal(signals: Iterable[signal.Signals], end: Callable[[int], object]) -> None:
    """Call `end` for the second signal. The handlers that are installed now get the first signal.

    Python calls `end` between two instructions of the main thread, so a blocked event loop does not delay it. This
    function does not remove its handlers. The code that installed the earlier handlers restores the original ones.
    """
    received = False

    def installed(signum: int) -> Callable[[int, FrameType | None], None]:
        before = signal.getsignal(signum)

        def handle(number: int, frame: FrameType | None) -> None:
            nonlocal received
            if received:
                end(number)
            received = True
            if callable(before):
                before(number, frame)

        return handle

    for each in signals:
        signal.signal(each, installed(each))
