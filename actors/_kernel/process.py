"""The record of one process, and the rules that turn an exception into an exit reason.

This module does not import the process table. The class of the runtime is a type parameter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

import trio

from actors._kernel.mailbox import Mailbox, WakeBatches
from actors.errors import ProcessExit, ProcessKilled, StartError, StartIgnored
from actors.exits import NORMAL, Crash, ExitReason
from actors.instrumentation.instrument import Instrument
from actors.instrumentation.telemetry import Telemetry
from actors.refs import Pid, TimerRef, Watcher
from actors.small_set import SmallSet, items_of, with_item, without_item

__all__ = [
    "CleanUp",
    "ProcessRecord",
    "StartListener",
    "abandon_nurseries",
    "escaping",
    "only_cancellations",
    "only_exits",
    "only_unwinding",
    "reason_of",
]

MAILBOX_ALARM = ("actors", "mailbox", "alarm")


class StartListener(Protocol):
    """The object to which a new process reports its start."""

    def ack(self) -> None:
        """Report that the process is ready."""

    def nack(self, failure: StartError | StartIgnored) -> None:
        """Report that the process will not run."""


class Host(Protocol):
    """The attributes of the runtime that a process record uses."""

    @property
    def pid(self) -> Pid: ...
    @property
    def telemetry(self) -> Telemetry: ...
    @property
    def wake_batches(self) -> WakeBatches: ...
    @property
    def mailbox_alarm(self) -> float: ...
    @property
    def current_time(self) -> Callable[[], float]: ...
    @property
    def instruments(self) -> tuple[Instrument, ...]: ...
    @property
    def counts_run_time(self) -> bool: ...
    @property
    def callback_instruments(self) -> tuple[Instrument, ...]: ...


class Monitoring(Watcher, Protocol):
    """A monitor of a process, or of an address whose process may run on another node."""

    @property
    def target(self) -> Any: ...


CleanUp: TypeAlias = Callable[[], object]
"""A function that the runtime calls at the end of a process."""

R = TypeVar("R", bound=Host)


class ProcessRecord(Generic[R]):
    """The runtime's record of one process. Code outside this package does not see it.

    `R` is the class of the runtime. `actors._kernel.runtime` defines `Process` as the record with that class.

    `dying` and `reason` keep the first fatal signal that the process accepted. After that signal the process only
    unwinds, and its reason stays the same.
    """

    __slots__ = (
        "ancestors",
        "born",
        "cleanups",
        "context",
        "dead",
        "dictionary",
        "dying",
        "function",
        "grace",
        "is_server",
        "label",
        "lineage",
        "mailbox",
        "name",
        "obeys",
        "pid",
        "reason",
        "run_time",
        "runtime",
        "scope",
        "start_slot",
        "suspended",
        "task",
        "timers",
        "trapping",
        "watching",
    )

    def __init__(
        self,
        pid: Pid,
        runtime: R,
        function: Callable[..., Any],
        ancestors: tuple[Pid, ...],
    ) -> None:
        self.pid: Final = pid
        self.runtime: Final = runtime
        self.function: Final = function
        # The parent in OTP's sense: its Exit stops a server. This is the starter if it is linked to this process, the
        # runtime if no process started this process, and otherwise this process itself.
        self.obeys: Pid = pid
        self.ancestors: Final = ancestors
        # The ancestors of the processes that this process starts. All of them share this tuple.
        self.lineage: tuple[Pid, ...] | None = None
        # On Trio's clock.
        self.born: Final = runtime.current_time()
        self.mailbox: Final = Mailbox(runtime.wake_batches, self, runtime.mailbox_alarm)
        self.scope: Final = trio.CancelScope()
        self.task: trio.lowlevel.Task | None = None
        # True for a server, which announces its callbacks to instruments, and not `run` and `receive`.
        self.is_server = False
        self.trapping = False
        # True between `suspend` and `resume` of `actors.sys`, for a server.
        self.suspended = False
        self.dying = False
        self.dead = False
        self.reason: ExitReason = NORMAL
        self.name: object = None
        self.label: str | None = None
        self.start_slot: StartListener | None = None
        # The seconds that its steps have taken. Stays 0 without `counts_run_time`.
        self.run_time = 0.0
        self.grace: TimerRef | None = None
        # Made on first use, because most processes never need these and each takes memory.
        # Clean-ups by key. A single clean-up is a pair with its key, because a dict takes three times the memory.
        self.cleanups: tuple[object, CleanUp] | dict[object, CleanUp] | None = None
        self.watching: SmallSet[Monitoring] = None
        self.timers: SmallSet[TimerRef] = None
        self.dictionary: dict[Any, Any] | None = None
        self.context: Callable[[], dict[str, Any]] | None = None

    @property
    def parent(self) -> Pid:
        """The process that started this process; the runtime's pid if no process did."""
        return self.ancestors[0] if self.ancestors else self.runtime.pid

    def lineage_of_children(self) -> tuple[Pid, ...]:
        """Return the ancestors of the processes that this process starts."""
        if self.lineage is None:
            self.lineage = (self.pid, *self.ancestors)
        return self.lineage

    def add_cleanup(self, key: object, cleanup: CleanUp) -> None:
        """Call `cleanup` at the end of the process. The key identifies it for `remove_cleanup`."""
        cleanups = self.cleanups
        if cleanups is None:
            self.cleanups = (key, cleanup)
        elif isinstance(cleanups, dict):
            cleanups[key] = cleanup
        else:
            self.cleanups = dict((cleanups, (key, cleanup)))

    def has_cleanup(self, key: object) -> bool:
        """Return True if the process has a clean-up with this key."""
        cleanups = self.cleanups
        if isinstance(cleanups, dict):
            return key in cleanups
        return cleanups is not None and cleanups[0] is key

    def remove_cleanup(self, key: object) -> None:
        """Remove a clean-up, if it is there."""
        cleanups = self.cleanups
        if isinstance(cleanups, dict):
            cleanups.pop(key, None)
        elif cleanups is not None and cleanups[0] is key:
            self.cleanups = None

    def cleanups_last_first(self) -> Sequence[CleanUp]:
        """Return a copy of the clean-ups, in the order in which they run."""
        cleanups = self.cleanups
        if cleanups is None:
            return ()
        return (*reversed(cleanups.values()),) if isinstance(cleanups, dict) else (cleanups[1],)

    def add_timer(self, timer: TimerRef) -> None:
        """Cancel `timer` when the process ends."""
        self.timers = with_item(self.timers, timer)

    def remove_timer(self, timer: TimerRef) -> None:
        """Forget a timer that has run or was cancelled."""
        self.timers = without_item(self.timers, timer)

    def describe(self) -> str:
        """Return the name of the process in messages: its name, else its label, else its function."""
        if self.name is not None:
            return repr(self.name)
        return self.label or str(getattr(self.function, "__qualname__", self.function))

    def info(self) -> dict[str, Any]:
        """Return the part of `process_info` that the record knows."""
        return {
            "pid": self.pid,
            "name": self.name,
            "label": self.describe(),
            "parent": self.parent,
            "ancestors": self.ancestors,
            "monitors": tuple(each.target for each in items_of(self.watching)),
            "timers": len(items_of(self.timers)),
            "trap_exits": self.trapping,
            "queue_length": len(self.mailbox),
            "status": self.status,
            "age": trio.current_time() - self.born,
            "dictionary": dict(self.dictionary or {}),
        }

    def report(self, reason: ExitReason, error: BaseException | None) -> dict[str, Any]:
        """Return the metadata of a telemetry event about the end of the process."""
        return {
            "pid": self.pid,
            "process": self.describe(),
            "parent": self.parent,
            "ancestors": self.ancestors,
            "reason": reason,
            "exception": error,
            "task": self.task,
            **(self.context() if self.context is not None else {}),
        }

    @property
    def status(self) -> str:
        """The status of the process in `process_info`."""
        if self.dying:
            return "exiting"
        if self.suspended:
            return "suspended"
        return "waiting" if self.mailbox.parked else "running"

    def current_function(self) -> str | None:
        """Return the innermost function of the task outside Trio, preferably one outside this package."""
        found = fallback = None
        coroutine: Any = None if self.task is None else self.task.coro
        # Only coroutines have `cr_frame`. The search stops at other awaitables, such as those of async generators.
        while (frame := getattr(coroutine, "cr_frame", None)) is not None:
            module = frame.f_globals.get("__name__", "")
            if module == "trio" or module.startswith("trio."):
                break
            fallback = frame
            if not module.startswith("actors."):
                found = frame
            coroutine = coroutine.cr_await
        frame = found or fallback
        if frame is None:
            return None
        return f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}:{frame.f_lineno}"

    def mailbox_alarm(self) -> None:
        """Report that messages arrive faster than this process handles them."""
        self.runtime.telemetry.execute(
            MAILBOX_ALARM,
            {"queue_length": len(self.mailbox)},
            {"pid": self.pid, "process": self.describe()},
        )

    def is_stopped_by(self, sender: Pid) -> bool:
        """Return whether an `Exit` from `sender` stops the server that runs in this process."""
        # A server that no process started has two parents: itself, and the runtime, which stops it at shutdown.
        obeys = self.obeys
        return sender is obeys or (sender is self.pid and obeys is self.runtime.pid)

    def check(self) -> None:
        """Raise ProcessKilled if this process has accepted a fatal signal."""
        if self.dying or self.dead:
            raise ProcessKilled(self.reason)

    def starting(self, callback: str, message: Any) -> Awaitable[None] | None:
        """Tell every instrument, in order, that a callback of this process is about to run.

        The caller tests `runtime.instruments` first, so that a runtime without instruments avoids this call.

        Returns:
            An awaitable that the caller must await before the callback; None if there is nothing to await.

        Raises:
            ProcessKilled: The process has accepted a fatal exit signal, so the callback may not run.
        """
        instruments = self.runtime.callback_instruments
        for position, instrument in enumerate(instruments):
            if self.dying:
                break
            wait = instrument.callback_started(self.pid, callback, message)
            if wait is not None:
                return self._await_start(wait, instruments[position + 1 :], callback, message)
        if self.dying:
            raise ProcessKilled(self.reason)
        return None

    async def _await_start(
        self,
        wait: Awaitable[None],
        others: tuple[Instrument, ...],
        callback: str,
        message: Any,
    ) -> None:
        await wait
        for instrument in others:
            # The process was killed during the wait, so no callback starts. Do not announce it to the other
            # instruments.
            if self.dying:
                break
            following = instrument.callback_started(self.pid, callback, message)
            if following is not None:
                await following
        if self.dying:
            raise ProcessKilled(self.reason)

    def forget(self) -> None:
        """Drop everything but the identity, once the process has ended.

        Unanswered calls and timers refer to their process. Without this, every ended process would be a reference
        cycle, which only the garbage collector can free.
        """
        self.cleanups = self.watching = self.timers = self.dictionary = self.context = None
        self.start_slot = None
        self.mailbox.owner = None
        self.mailbox.clear()


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]


def reason_of(error: BaseException) -> ExitReason:
    """Return the exit reason for an exception that a process did not catch, when no accepted signal explains it.

    A process may use nurseries of its own, so the error may be a group. This function ignores the cancellations in the
    group. If one exception remains, that exception is the crash or the exit. If several exits with the same reason
    remain, they are one exit. In every other case the group is the crash.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error.reason if isinstance(error, ProcessExit) else Crash(error)
    leaves = [
        leaf for leaf in _leaves(error) if not isinstance(leaf, (trio.Cancelled, ProcessKilled))
    ]
    exits = [leaf.reason for leaf in leaves if isinstance(leaf, ProcessExit)]
    if leaves and len(exits) == len(leaves) and all(reason == exits[0] for reason in exits):
        return exits[0]
    return Crash(leaves[0] if len(leaves) == 1 else error)


def only_unwinding(error: BaseException) -> bool:
    """Return True if an exception contains only cancellations, exits and kills, and no error of the program."""
    return all(
        isinstance(leaf, (trio.Cancelled, ProcessKilled, ProcessExit)) for leaf in _leaves(error)
    )


def only_cancellations(error: BaseException) -> bool:
    """Return True if an exception, or each exception of a nursery's group, is a cancellation from outside."""
    return all(isinstance(leaf, (trio.Cancelled, GeneratorExit)) for leaf in _leaves(error))


def only_exits(error: BaseException) -> bool:
    """Return True if an exception contains only exits and kills of a process, and no cancellation from outside."""
    return all(isinstance(leaf, (ProcessKilled, ProcessExit)) for leaf in _leaves(error))


def escaping(error: BaseException) -> BaseException | None:
    """Return the KeyboardInterrupt or SystemExit in an exception, or None. These end the whole runtime."""
    if isinstance(error, Exception) and not isinstance(error, ExceptionGroup):
        return None
    for leaf in _leaves(error):
        if isinstance(leaf, (KeyboardInterrupt, SystemExit)):
            return leaf
    return None


def abandon_nurseries(task: trio.lowlevel.Task) -> None:
    """Drop the nurseries that a process left open in an unfinished generator.

    Trio has already raised an error with advice in the process, and the process crashed. At the end of the task Trio
    would raise a second error, in the nursery of all processes, which would end them all. Trio has no public way to
    prevent that.
    """
    for nursery in task.child_nurseries:
        nursery.cancel_scope.cancel()
    task._child_nurseries.clear()
