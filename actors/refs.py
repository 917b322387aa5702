"""Process identifiers and references, which are opaque, cheap and compared by identity.

A `Pid` always belongs to one incarnation of a process, so a restarted process has a new pid. The numbers come from the
runtime's counters and not from memory addresses, so two runs of one program print the same numbers.

This module imports no other module of the runtime, so that pids do not depend on the process table. Instead it has a
protocol for each part of the runtime that code reaches through a pid.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar, final

from actors.exits import ExitReason
from actors.small_set import SmallSet

__all__ = [
    "Address",
    "MailboxLike",
    "Pid",
    "ProcessLike",
    "Ref",
    "RuntimeLike",
    "TimerRef",
    "Watcher",
]

R_contra = TypeVar("R_contra", contravariant=True)


@final
class Pid:
    """The identity of one process, and its address in its runtime.

    `spawn` and its relatives make pids. A pid is hashable and compared by identity. No later process has the same pid.
    You may use a pid after its process has ended. The runtime then counts and drops messages to it, and a monitor of it
    reports `NOPROC`.

        pid = spawn(worker)
        send(pid, "hello")
        print(pid)                      # <pid 3>

    A pid does not keep the record of a dead process in memory.

    Attributes:
        number: The position of this process in the order of spawning, from 1. The runtime's own pid has the number 0.
        process: The record of the living process; None once it has ended. Only the runtime uses it.
        runtime: The runtime that the process belongs to.
        links: The linked processes. Only the link graph uses this and `watchers`, which are here because a table of all
            processes would take more time and memory.
        watchers: What watches the process.
    """

    __slots__ = ("__weakref__", "links", "number", "process", "runtime", "watchers")

    def __init__(self, number: int, runtime: RuntimeLike) -> None:
        self.number = number
        self.runtime = runtime
        # The runtime sets this when it spawns the process and clears it when the process ends.
        self.process: ProcessLike | None = None
        self.links: SmallSet[Pid] = None
        self.watchers: SmallSet[Watcher] = None

    def __repr__(self) -> str:
        return f"<pid {self.number}>"


class Ref:
    """A reference that is equal only to itself. `monitor` returns a reference, and `Down` carries it.

    Attributes:
        number: The position of this reference in its runtime's order of creation, for printing.
    """

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.number}>"


@final
class TimerRef(Ref):
    """The reference of a timer: `send_after` returns it, and `cancel_timer` takes it.

    Attributes:
        deadline: The time on Trio's clock at which the timer runs next.
        callback: The function that the timer calls; None once it has run or was cancelled. Only the runtime uses it.
        owner: The process whose end cancels the timer. Only the runtime uses it.
    """

    __slots__ = ("callback", "deadline", "owner")

    callback: Callable[[], None] | None
    deadline: float
    owner: ProcessLike | None

    def __init__(self, number: int, deadline: float, callback: Callable[[], None]) -> None:
        # Skip Ref.__init__ for speed, because each call with a time limit makes a TimerRef.
        self.number = number
        self.deadline = deadline
        self.callback = callback
        self.owner = None


class Address(Generic[R_contra]):
    """Base of `actors.addresses.Via`. The runtime resolves an address through these methods."""

    __slots__ = ()

    forgiving: ClassVar[bool] = False
    # The problem for an error if no process has the address, and the correction.
    absence: ClassVar[str] = (
        "no process has this name; start the server before the call, as a child of a supervisor for example, and give "
        "it the name with start_link(..., name=...)"
    )
    # The correction for a function that cannot work with this kind of address; None if every function can.
    instead: ClassVar[str | None] = None

    def whereis(self, runtime: R_contra) -> Pid | None:
        raise NotImplementedError

    def register(self, pid: Pid) -> Pid | None:
        raise NotImplementedError

    def unregister(self, runtime: R_contra) -> None:
        raise NotImplementedError


class Watcher(Protocol):
    """An object that the runtime notifies of the end of a process, such as a monitor, a call or a start."""

    def down(self, pid: Pid, reason: ExitReason) -> None:
        """Handle the end of `pid`. The runtime calls this once, and never after the watcher was removed."""


class MailboxLike(Protocol):
    """The mailbox behind a pid."""

    @property
    def queue(self) -> Collection[Any]: ...
    def put(self, message: Any) -> None: ...
    def __len__(self) -> int: ...


class GraphLike(Protocol):
    """The part of the link graph behind a pid that holds the watchers."""

    def watch(self, pid: Pid, watcher: Watcher) -> None: ...
    def unwatch(self, pid: Pid, watcher: Watcher) -> bool: ...


class TimersLike(Protocol):
    """The timer queue behind a pid."""

    def at(
        self, deadline: float, callback: Callable[[], None], timer: TimerRef | None = None
    ) -> TimerRef: ...
    def forget(self, timer: TimerRef) -> None: ...


class ThreadQueueLike(Protocol):
    """The queue behind a pid for function calls from other threads."""

    def put(self, function: Callable[..., object], *args: Any) -> None: ...
    def put_nowait(self, function: Callable[..., object], *args: Any) -> bool: ...


class Observer(Protocol):
    """The methods of an instrument that calls and timers use. They reach the instruments through a pid."""

    def call_started(
        self, caller: Pid | None, server: Pid, call: object, timeout: float
    ) -> None: ...
    def call_answered(self, call: object, value: Any) -> None: ...
    def call_ended(self, call: object, how: str) -> None: ...
    def timer_started(self, timer: TimerRef, address: object, interval: float | None) -> None: ...
    def timer_fired(self, timer: TimerRef) -> None: ...


class ProcessLike(Protocol):
    """The attributes of a process's record that code reaches through the pid."""

    @property
    def pid(self) -> Pid: ...
    @property
    def runtime(self) -> RuntimeLike: ...
    @property
    def mailbox(self) -> MailboxLike: ...
    @property
    def reason(self) -> ExitReason: ...
    def add_timer(self, timer: TimerRef) -> None: ...
    def remove_timer(self, timer: TimerRef) -> None: ...
    def describe(self) -> str: ...


class TelemetryLike(Protocol):
    """The methods of `Telemetry` for code that reaches a runtime through a pid."""

    def execute(
        self, event: tuple[str, ...], measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None: ...
    def handlers(self, event: tuple[str, ...]) -> Sequence[Any]: ...


class RuntimeLike(Protocol):
    """The attributes of a runtime that code reaches through a pid."""

    late_answers: int

    @property
    def telemetry(self) -> TelemetryLike: ...
    @property
    def pid(self) -> Pid: ...
    @property
    def thread(self) -> int: ...
    @property
    def guarded(self) -> bool: ...
    @property
    def instruments(self) -> tuple[Observer, ...]: ...
    @property
    def graph(self) -> GraphLike: ...
    @property
    def timers(self) -> TimersLike: ...
    @property
    def from_threads(self) -> ThreadQueueLike: ...
    def require_thread(self, verb: str) -> None: ...
    def resolve(self, address: object) -> ProcessLike | None: ...
    def admit(self, receiver: Pid, message: Any) -> bool: ...
    def dead_letter(self, address: object, message: Any) -> None: ...
    def signal(self, sender: Pid, receiver: Pid, reason: ExitReason, *, linked: bool) -> None: ...
