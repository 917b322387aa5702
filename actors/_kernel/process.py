"""The record of one process, and how code finds out in which process it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, final

import trio

from actors._kernel.mailbox import Mailbox
from actors.errors import NotAProcess, ProcessKilled, RuntimeClosed
from actors.exits import NORMAL, ExitReason
from actors.messages import Down
from actors.refs import Pid, Ref

if TYPE_CHECKING:
    from actors._kernel.runtime import Runtime
    from actors._kernel.start import StartSlot
    from actors.refs import TimerRef

__all__ = [
    "MAILBOX_ALARM",
    "Monitor",
    "Process",
    "acting_process",
    "ambient_runtime",
    "current_process",
    "require_process",
    "require_runtime",
    "start_monitor",
]

MAILBOX_ALARM = ("actors", "mailbox", "alarm")


class Process:
    """What the runtime knows of one process. Owned by the runtime; nothing outside this package sees it.

    `dying` and `reason` are the memory of the first fatal signal that was accepted: from then on the process only
    unwinds, and whatever else happens to it does not change its reason.
    """

    __slots__ = (
        "ancestors",
        "cleanups",
        "context",
        "dead",
        "dictionary",
        "dying",
        "function",
        "grace",
        "label",
        "mailbox",
        "name",
        "obeys",
        "parent",
        "pid",
        "reason",
        "run_time",
        "runtime",
        "scope",
        "start_slot",
        "task",
        "timers",
        "trapping",
        "watching",
    )

    def __init__(
        self,
        pid: Pid,
        runtime: Runtime,
        function: Callable[..., Any],
        parent: Pid,
        ancestors: tuple[Pid, ...],
    ) -> None:
        self.pid: Final = pid
        self.runtime: Final = runtime
        self.function: Final = function
        self.parent: Final = parent
        # The parent of a server in OTP's sense, whose Exit stops it: the process that it was started linked to, the
        # runtime if no process started it, and otherwise the server itself.
        self.obeys: Pid = pid
        self.ancestors: Final = ancestors
        self.mailbox: Final = Mailbox(runtime.pace)
        self.scope: Final = trio.CancelScope()
        self.task: trio.lowlevel.Task | None = None
        self.trapping = False
        self.dying = False
        self.dead = False
        self.reason: ExitReason = NORMAL
        self.name: object = None
        self.label: str | None = None
        self.start_slot: StartSlot | None = None
        # Seconds of its steps, as a watchdog counts them.
        self.run_time = 0.0
        self.grace: TimerRef | None = None
        # The rest is made on first use: most processes never need it, and there may be very many of them.
        self.cleanups: dict[object, Callable[[], None]] | None = None
        self.watching: dict[Monitor, Pid] | None = None
        self.timers: dict[TimerRef, None] | None = None
        self.dictionary: dict[Any, Any] | None = None
        self.context: Callable[[], dict[str, Any]] | None = None

    def describe(self) -> str:
        """How messages about this process call it: its name, else its label, else its function."""
        if self.name is not None:
            return repr(self.name)
        return self.label or str(getattr(self.function, "__qualname__", self.function))

    def info(self) -> dict[str, Any]:
        """What `process_info` says, except for what the record does not know."""
        return {
            "pid": self.pid,
            "name": self.name,
            "label": self.describe(),
            "parent": self.parent,
            "ancestors": self.ancestors,
            "monitors": tuple(self.watching.values()) if self.watching else (),
            "trap_exits": self.trapping,
            "queue_length": len(self.mailbox),
            "status": "exiting" if self.dying else "waiting" if self.mailbox.parked else "running",
            "dictionary": dict(self.dictionary or {}),
        }

    def mailbox_alarm(self) -> None:
        """Tell that messages come faster than this process handles them."""
        self.runtime.telemetry.execute(
            MAILBOX_ALARM,
            {"queue_length": len(self.mailbox)},
            {"pid": self.pid, "process": self.describe()},
        )

    def is_stopped_by(self, sender: Pid) -> bool:
        """Return whether an `Exit` from `sender` stops the server that runs in this process."""
        # One that no process started is linked to none, so it is its own parent too; the runtime stands beside it, to
        # stop it in order at the end.
        obeys = self.obeys
        return sender is obeys or (sender is self.pid and obeys is self.runtime.pid)

    def check(self) -> None:
        """Raise ProcessKilled if this process has accepted a fatal signal."""
        if self.dying or self.dead:
            raise ProcessKilled(self.reason)

    def let_go(self) -> None:
        """Forget everything but the identity, once the process has ended.

        Otherwise each ended process would be a circle that only the garbage collector finds: its undelivered calls
        and its timers know their process.
        """
        self.cleanups = self.watching = self.timers = self.dictionary = self.context = None
        self.start_slot = None
        self.mailbox.on_alarm = None
        self.mailbox.clear()


@final
class Monitor(Ref):
    """A monitor of one process by another: the watcher in the graph is also the reference that the user holds."""

    __slots__ = ("name", "watcher")

    def __init__(self, number: int, watcher: Process, name: object) -> None:
        super().__init__(number)
        self.watcher = watcher
        self.name = name

    def __repr__(self) -> str:
        return f"<ref {self.number}>"

    def down(self, pid: Pid, reason: ExitReason) -> None:
        watcher = self.watcher
        if watcher.watching is not None:
            watcher.watching.pop(self, None)
        if not watcher.dead:
            if watcher.runtime.instruments:
                for instrument in watcher.runtime.instruments:
                    instrument.down_sent(watcher.pid, self)
            watcher.mailbox.put(Down(self, pid, reason, self.name))


# Inherited by the helper tasks that a process starts in nurseries of its own: they act in its name.
current_process: ContextVar[Process | None] = ContextVar("actors_process", default=None)

ambient_runtime: ContextVar[Runtime | None] = ContextVar("actors_runtime", default=None)


def acting_process() -> Process | None:
    """The process in whose name the calling task acts, or None; ProcessKilled if the task is a zombie.

    What still runs of a process that has ended (its clean-ups, or a task that it started in somebody else's nursery)
    is no process any more, and may do what any task may.
    """
    process = current_process.get()
    if process is None or not process.dead:
        return process
    if process.pid in process.runtime.zombies:
        # Everybody has been told that it is gone, so it may not act any more.
        raise ProcessKilled(process.reason)
    return None


def require_process(verb: str, *, any_thread: bool = False) -> Process:
    """Return the process in which the caller runs.

    Args:
        verb: what the caller does, for errors.
        any_thread: the verb works in the threads that a process has started, too.

    Raises:
        NotAProcess: the caller is no process.
        ProcessKilled: the process has been declared dead.
        WrongThread: the caller runs in another thread than the runtime.
    """
    process = acting_process()
    if process is None:
        raise NotAProcess(verb)
    if not any_thread:
        process.runtime.require_thread(verb)
    return process


def require_runtime(verb: str | None = None) -> Runtime:
    """Return the runtime in which the caller runs.

    Args:
        verb: what the caller does, if that works in the runtime's thread alone.

    Raises:
        RuntimeClosed: there is none here.
        ProcessKilled: the caller acts for a process that has been declared dead.
        WrongThread: there is a verb, and the caller runs in another thread than the runtime.
    """
    process = acting_process()
    runtime = process.runtime if process is not None else ambient_runtime.get()
    if runtime is None:
        raise RuntimeClosed(
            "there is no runtime here; wrap this code in `async with open_runtime():`"
        )
    if verb is not None:
        runtime.require_thread(verb)
    return runtime


def start_monitor(process: Process, pid: Pid, name: object) -> Ref:
    """Make a monitor of a living process for `process`; `name` is what its Down says was monitored."""
    ref = Monitor(process.runtime.next_ref(), process, name)
    process.runtime.graph.watch(pid, ref)
    if process.watching is None:
        process.watching = {}
    process.watching[ref] = pid
    if process.runtime.instruments:
        for instrument in process.runtime.instruments:
            instrument.monitored(process.pid, ref, pid)
    return ref
