"""The process table: process records, names, exit signals, and the end of a process.

Every process is a direct child of one nursery. Parenthood, links and monitors are data. Three rules hold:

* A signal is a synchronous function call. Signals between two processes arrive in the order in which they were sent.
* One function without a checkpoint, `Runtime.end`, ends a process. When other code learns of the end, the process is
  dead, its name is free and its registry entries are gone.
* No exception of a process leaves its task (`Runtime._run`), so no process can cancel another through the nursery.

Trio never raises KeyboardInterrupt here or in a process: `enable_ki_protection` makes Trio raise it in the main task.
An interrupt at an arbitrary line could leave half a link, or a process that no code can end.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import trio
from trio.lowlevel import enable_ki_protection

from actors._kernel.link_graph import LinkGraph
from actors._kernel.mailbox import WakeBatches
from actors._kernel.process import (
    ProcessRecord,
    abandon_nurseries,
    escaping,
    only_unwinding,
    reason_of,
)
from actors._kernel.thread_queue import DEFAULT_LIMIT, ThreadQueue
from actors._kernel.timer_queue import TimerQueue
from actors.arguments import WRITE_AN_ADDRESS, awaitable_of
from actors.errors import (
    AlreadyStarted,
    InvalidArgument,
    NameTaken,
    ProcessKilled,
    RuntimeClosed,
    WrongThread,
    add_advice,
)
from actors.exits import KILL, NORMAL, SHUTDOWN, Crash, ExitReason, Verdict, is_normal_exit, judge
from actors.instrumentation.instrument import Instrument, overriding
from actors.instrumentation.telemetry import Telemetry
from actors.messages import Exit
from actors.refs import Address, Pid
from actors.small_set import items_of

if TYPE_CHECKING:
    import uuid

    from actors._calls import CallChains

__all__ = [
    "EnvironmentLike",
    "LoopLike",
    "Process",
    "Runtime",
    "acting_process",
    "current_process",
    "record_of",
]

CLEANUP_FAILED = ("actors", "process", "cleanup_failed")
CRASH = ("actors", "process", "crash")
DEAD_LETTER = ("actors", "message", "dead_letter")
ZOMBIE = ("actors", "process", "zombie")
# Trio would choose the same name, but would build a new string for each task.
_TASK_NAME = f"{__name__}.Runtime._run"

Process: TypeAlias = "ProcessRecord[Runtime]"
"""The record of a process of this runtime."""

current_process: ContextVar[Process | None] = ContextVar("actors_process", default=None)
"""The process that the running task belongs to. Helper tasks inherit it."""


def acting_process() -> Process | None:
    """Return the process in which the caller runs; None outside of processes.

    The task of a zombie gets an error, because all other processes treat the zombie as dead. A task that a dead process
    has left in another nursery is an ordinary task.

    Raises:
        ProcessKilled: The process has been declared dead.
    """
    process = current_process.get()
    if process is None or not process.dead:
        return process
    if process.pid in process.runtime.zombies:
        raise ProcessKilled(process.reason)
    return None


def record_of(pid: Pid) -> Process | None:
    """Return the record of a living process; None once it has ended."""
    process = pid.process
    # `Runtime.enroll` sets `pid.process`, and always to a ProcessRecord.
    assert process is None or isinstance(process, ProcessRecord)
    return process


class EnvironmentLike(Protocol):
    """The source of a runtime's randomness, identifiers, time of day and time since the boot. See `actors.runtime`."""

    def opened(self, runtime: Runtime) -> None: ...
    def random(self, process: Pid | None) -> random.Random | None: ...
    def uuid(self, process: Pid | None) -> uuid.UUID: ...
    def now(self) -> float: ...
    def since_boot(self) -> float: ...


class LoopLike(Protocol):
    """Another event loop, in a thread of its own, for the watchdog. `thread` is the identifier of the thread."""

    thread: int

    def is_busy(self) -> bool:
        """Return True if the loop may be running code of the program."""

    def ping(self, answer: Callable[[], object]) -> None:
        """Make the loop call a function in its next turn."""

    def running(self) -> tuple[object, Process | None, str]:
        """Return an object for the step that runs now, with the process and the text of the call that it belongs to."""


class Runtime:
    """All processes of one `open_runtime`, and the data that they share. Only `open_runtime` makes one.

    Attributes:
        telemetry: The event listeners of this runtime.
        random: The source of randomness for processes. A seed decides its values.
        pid: The parent of processes that no process spawned: the runtime itself.
    """

    def __init__(
        self, environment: EnvironmentLike, *, kill_grace: float, seed: int | None = None
    ) -> None:
        # Only this thread may use most attributes and methods of a runtime.
        self.thread = threading.get_ident()
        self.telemetry = Telemetry()
        self.environment = environment
        self._random = random.Random(seed)
        self._seeded = seed is not None
        self.kill_grace = kill_grace
        self.timers = TimerQueue()
        self.wake_batches = WakeBatches()
        self.graph = LinkGraph()
        self.table: dict[Pid, Process] = {}
        self.names: dict[object, Process] = {}
        # Classes that have been names. Any other class as an address is a mistake.
        self.classes_named: set[type] = set()
        self.zombies: dict[Pid, Process] = {}
        self.instruments: tuple[Instrument, ...] = ()
        # The instruments that override `callback_started`, and the overriding `message_sent` methods.
        self.callback_instruments: tuple[Instrument, ...] = ()
        self.on_sent: tuple[Callable[[Pid | None, Pid, Any], bool | None], ...] = ()
        self.on_received: tuple[Callable[[Pid, Any], None], ...] = ()
        # True if an instrument sees the messages that processes take.
        self.shows_messages = False
        # True if a sender must ask `admit` first, because an instrument looks at messages or there is a zombie.
        self.guarded = False
        self.mailbox_alarm: float = math.inf
        self.call_chains: CallChains | None = None
        # True while the runtime adds up the run time of each process.
        self.counts_run_time = False
        # The calls and stops that an `AsyncioLoop` or a `BlockingPool` waits for, so that a virtual clock waits too.
        self.work_in_threads = 0
        # The other event loops of this program, by the processes that own them.
        self.other_loops: dict[Pid, LoopLike] = {}
        self.closed = False
        self.spawned = self.crashed = self.abnormal_stops = 0
        self.dead_letters = self.late_answers = self.zombies_ever = self._numbers = self._refs = 0
        self.pid = Pid(0, self)
        self.nursery: trio.Nursery | None = None
        self.empty: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()
        self.interrupted: Callable[[BaseException], None] = _raise
        self.run_sync_soon = trio.lowlevel.current_trio_token().run_sync_soon
        # For hot paths. `trio.current_time()` looks up the clock at each call, which costs two more calls.
        self.current_time = trio.lowlevel.current_clock().current_time
        self.from_threads = ThreadQueue(
            DEFAULT_LIMIT,
            telemetry=self.telemetry,
            run_sync_soon=self.run_sync_soon,
            check_caller=acting_process,
            interrupted=self._interrupt,
        )

    def _interrupt(self, error: BaseException) -> None:
        # `open_runtime` sets `interrupted` later.
        self.interrupted(error)

    def require_thread(self, verb: str) -> None:
        """Raise WrongThread in every thread but the runtime's own."""
        if threading.get_ident() != self.thread:
            raise WrongThread(verb, threading.current_thread().name)

    def next_ref(self) -> int:
        """Return a number that no other reference of this runtime has."""
        self._refs += 1
        return self._refs

    # Instruments

    def add_instrument(self, instrument: Instrument) -> Callable[[], None]:
        """Add an instrument, which stays until the caller calls the returned function.

        Args:
            instrument: The instrument.

        Returns:
            A function that removes the instrument.
        """
        self.instruments = (*self.instruments, instrument)
        self._instruments_changed()

        def remove() -> None:
            self.instruments = tuple(other for other in self.instruments if other is not instrument)
            self._instruments_changed()

        return remove

    def _instruments_changed(self) -> None:
        self.callback_instruments = overriding(self.instruments, "callback_started")
        self.on_sent = tuple(
            each.message_sent for each in overriding(self.instruments, "message_sent")
        )
        self.on_received = tuple(
            each.message_received for each in overriding(self.instruments, "message_received")
        )
        self.shows_messages = bool(self.on_received or self.callback_instruments)
        self.guard()

    def count_time(self, process: Process, seconds: float) -> None:
        """Count time of the current step for `process`, and not for the process whose step it is."""
        process.run_time += seconds
        acting = current_process.get()
        if acting is not None:
            # The end of the step adds the whole step.
            acting.run_time -= seconds

    def guard(self) -> None:
        """Update `guarded` after a change of the instruments or the zombies."""
        self.guarded = bool(self.on_sent or self.zombies)

    def admit(self, receiver: Pid, message: Any) -> bool:
        """Return whether a message may enter a mailbox: False if an instrument refuses it.

        Raises:
            ProcessKilled: The sender is a zombie.
        """
        sender = current_process.get()
        if sender is not None and sender.dead:
            sender = acting_process()
        pid = None if sender is None else sender.pid
        admitted = True
        for sent in self.on_sent:
            # Every instrument sees the message, even if another one refuses it.
            if sent(pid, receiver, message) is False:
                admitted = False
        return admitted

    def announce(self, process: Process) -> None:
        """Show the instruments a process that was spawned."""
        for instrument in self.instruments:
            instrument.process_spawned(process.pid, process.parent, process.describe())
            for other in self.graph.links_of(process.pid):
                instrument.linked(process.pid, other)

    # Randomness, identifiers and the time of day

    @property
    def random(self) -> random.Random:
        """The source of randomness for processes. A seed decides its values.

        In a simulation, each process has its own stream, so the draws of one process do not change those of another.
        """
        if self._seeded:
            return self._random
        return self.environment.random(_acting_pid()) or self._random

    def uuid(self) -> uuid.UUID:
        """Return a new random identifier (version 4). In a simulation the seed decides it."""
        return self.environment.uuid(_acting_pid())

    def now(self) -> float:
        """Return the time of day, in seconds since the epoch. For durations use `trio.current_time()`."""
        return self.environment.now()

    def since_boot(self) -> float:
        """Return the seconds since the machine was booted, including those in which it was suspended.

        Trio's clock does not count them. So use this clock to find out whether a promise to another machine has
        expired.
        """
        return self.environment.since_boot()

    # Addresses

    def resolve(self, address: object) -> Process | None:
        """Return the living process behind a pid, a name or a `Via`; None if there is none.

        Raises:
            InvalidArgument: The address is not hashable.
        """
        if type(address) is Pid:
            return record_of(address)
        try:
            process = self.names.get(address)
        except TypeError:
            raise InvalidArgument(
                None,
                address,
                f"{address!r} is not hashable, so it cannot be a name; {WRITE_AN_ADDRESS}",
            ) from None
        if process is None and isinstance(address, Address):
            pid = address.whereis(self)
            process = None if pid is None else record_of(pid)
        return process

    @enable_ki_protection
    def register(self, name: object, process: Process) -> None:
        """Give a name to a process. A process has at most one name, and a name belongs to at most one process."""
        if name is None:
            raise TypeError("None is not a name; use any other hashable value")
        if isinstance(name, Address):
            holder = name.register(process.pid)
            if holder is not None:
                raise NameTaken(name, holder, f"{name!r} is an address of {holder!r} already")
            return
        named = self.names.get(name)
        if named is not None:
            raise NameTaken(name, named.pid, f"{name!r} is the name of {named.pid!r} already")
        if process.name is not None:
            raise NameTaken(
                name,
                process.pid,
                f"{process.pid!r} is registered as {process.name!r} already; unregister that first",
            )
        self._give_name(name, process)

    def _give_name(self, name: object, process: Process) -> None:
        self.names[name] = process
        process.name = name
        if isinstance(name, type):
            self.classes_named.add(name)
        try:
            for instrument in self.instruments:
                instrument.registered(process.pid, name, None)
        except BaseException:
            # An instrument raised, so the operation fails and the name stays free.
            del self.names[name]
            process.name = None
            raise

    @enable_ki_protection
    def unregister(self, name: object) -> None:
        """Free a name. Does nothing if no process has it."""
        if isinstance(name, Address):
            name.unregister(self)
            return
        process = self.names.pop(name, None)
        if process is not None:
            process.name = None
            for instrument in self.instruments:
                instrument.unregistered(process.pid, name, None)

    def dead_letter(self, address: object, message: Any) -> None:
        """Count and drop a message whose receiver has ended. Erlang drops it without counting."""
        self.dead_letters += 1
        if self.telemetry.handlers(DEAD_LETTER):
            self.telemetry.execute(DEAD_LETTER, {}, {"address": address, "message": message})

    # Spawning

    @enable_ki_protection
    def spawn(
        self,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        *,
        link: bool = False,
        name: object = None,
        label: str | None = None,
        server: bool = False,
    ) -> Process:
        """Make a process and schedule its first step. When `spawn` returns, the process has not run."""
        process = self.enroll(function, link=link, name=name, label=label)
        process.is_server = server
        assert self.nursery is not None  # enroll has checked it
        # Set before the first step, so `process_of` knows tasks that have not run yet.
        token = current_process.set(process)
        try:
            self.nursery.start_soon(self._run, process, function, args, name=_TASK_NAME)
        finally:
            current_process.reset(token)
        if self.instruments:
            self.announce(process)
        return process

    def enroll(
        self,
        function: Callable[..., Any],
        *,
        link: bool = False,
        name: object = None,
        label: str | None = None,
    ) -> Process:
        """Put a process into the table, with its name and its link. The caller must give it a task."""
        if self.closed or self.nursery is None:
            raise RuntimeClosed("this runtime is closed and takes no new processes")
        if name is not None and name in self.names:
            raise AlreadyStarted(name, self.names[name].pid)
        creator = current_process.get()
        if creator is not None and (creator.dead or creator.runtime is not self):
            creator = acting_process()
            if creator is not None and creator.runtime is not self:
                creator = None
        ancestors = () if creator is None else creator.lineage or creator.lineage_of_children()
        self._numbers = number = self._numbers + 1
        pid = Pid(number, self)
        process: Process = ProcessRecord(pid, self, function, ancestors)
        pid.process = process
        process.label = label
        if name is not None:
            if isinstance(name, Address):
                self._enroll_at(name, process)
            else:
                self._give_name(name, process)
        self.table[pid] = process
        self.spawned += 1
        if creator is None:
            process.obeys = self.pid
        elif link:
            process.obeys = creator.pid
            self.graph.link(creator.pid, pid)
        # Otherwise the process is its own parent, as after OTP's gen_server:start.
        return process

    def _enroll_at(self, address: Address[Any], process: Process) -> None:
        holder: Pid | None = process.pid
        try:
            holder = address.register(process.pid)
        finally:
            if holder is not None:
                # The address refused or raised, so this process never comes to life.
                process.pid.process = None
        if holder is not None:
            raise AlreadyStarted(address, holder)

    @enable_ki_protection
    async def _run(
        self, process: Process, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> None:
        process.task = trio.lowlevel.current_task()
        escaped = None
        try:
            with process.scope:
                # A process that was killed before its first step never runs, as on the BEAM.
                if not process.dying:
                    if self.instruments and not process.is_server:
                        waits = process.starting("run", args)
                        if waits is not None:
                            await waits
                    body = awaitable_of(function, args)
                    # A process that runs for long must not keep its arguments in memory.
                    del args
                    await body
        except BaseException as error:
            # An error of a process must not reach the nursery, because it would cancel all other processes.
            escaped = self._failed(process, error)
        else:
            self.end(process, process.reason if process.dying else NORMAL)
        if process.task.child_nurseries:
            abandon_nurseries(process.task)
        # The task's context refers to the process. Drop the task, or each would keep the other in memory.
        process.task = None
        if escaped is not None:
            raise escaped

    def _failed(self, process: Process, error: BaseException) -> trio.Cancelled | None:
        """End a process that raised. Return the cancellation of the runtime itself, which the task must raise."""
        add_advice(error)
        if (interrupt := escaping(error)) is not None:
            self.end(process, process.reason if process.dying else SHUTDOWN)
            self.interrupted(interrupt)
        elif process.dying:
            if not only_unwinding(error):
                self._report(CLEANUP_FAILED, process, process.reason, error)
            self.end(process, process.reason)
        elif type(error) is trio.Cancelled and trio.current_effective_deadline() == -math.inf:
            self.end(process, SHUTDOWN)
            return error
        else:
            self.end(process, reason_of(error))
        return None

    # Exit signals

    @enable_ki_protection
    def signal(self, sender: Pid, receiver: Pid, reason: ExitReason, *, linked: bool) -> None:
        """Deliver an exit signal. `judge` decides if it is dropped, becomes a message, or kills the receiver."""
        process = record_of(receiver)
        if process is None:
            return
        if self.instruments:
            for instrument in self.instruments:
                instrument.signal_sent(sender, receiver, reason, linked)
        verdict, reason = judge(
            reason, linked=linked, trapping=process.trapping, from_self=sender is receiver
        )
        if verdict is Verdict.DELIVER:
            process.mailbox.put(Exit(sender, reason))
        elif verdict is Verdict.DIE:
            self._accept(process, reason)

    def _accept(self, process: Process, reason: ExitReason) -> None:
        if process.dying:
            return
        process.dying = True
        process.reason = reason
        process.scope.cancel()
        process.mailbox.wake()
        # On the BEAM the process would be dead now. Here the process first unwinds, within the kill grace.
        deadline = self.current_time() + self.kill_grace
        process.grace = self.timers.at(deadline, lambda: self._grace_over(process))

    def _grace_over(self, process: Process) -> None:
        # While the event loop is blocked, the process cannot unwind. So give it one more scheduler turn.
        process.grace = self.timers.at(trio.current_time(), lambda: self._declare_zombie(process))

    def _declare_zombie(self, process: Process) -> None:
        """Stop waiting for a killed process. Its task may still run, but all other processes treat it as dead."""
        process.grace = None
        self.zombies_ever += 1
        self.zombies[process.pid] = process
        self.guard()
        self._report(ZOMBIE, process, process.reason, None)
        self.end(process, process.reason)

    def kill_everything(self) -> None:
        """Send `KILL` to every process, newest first."""
        for pid in reversed(list(self.table)):
            self.signal(self.pid, pid, KILL, linked=False)

    # The end

    def end(self, process: Process, reason: ExitReason) -> None:
        """End a process without a checkpoint, so that no other task runs in the middle."""
        pid = process.pid
        if process.dead:
            # The task of a zombie has ended after all.
            self.zombies.pop(pid, None)
            self.guard()
            self.empty.unpark_all()
            return
        process.dead = True
        pid.process = None
        del self.table[pid]
        if process.name is not None:
            del self.names[process.name]
        if process.grace is not None:
            self.timers.forget(process.grace)
        self._release(process, reason)
        for instrument in self.instruments:
            instrument.process_exited(pid, reason)
        if process.dying:
            # An exit signal ended the process. The runtime reports a crash once, and not again for each linked process.
            pass
        elif type(reason) is Crash:
            self.crashed += 1
            self._report(CRASH, process, reason, reason.exception)
        elif process.context is not None and not is_normal_exit(reason):
            self.abnormal_stops += 1
            self._report(CRASH, process, reason, None)
        peers, watchers = self.graph.remove(pid)
        for peer in peers:
            # A process may handle its signal at once, and another peer may then remove its link.
            if self.graph.unlink(peer, pid):
                self.signal(pid, peer, reason, linked=True)
        for watcher in watchers:
            watcher.down(pid, reason)
        process.forget()
        if not self.table:
            self.empty.unpark_all()

    def _release(self, process: Process, reason: ExitReason) -> None:
        """Run the clean-ups of a process, drop its timers and remove its monitors."""
        if process.cleanups is not None:
            for cleanup in process.cleanups_last_first():
                try:
                    cleanup()
                except BaseException as error:
                    # A failed clean-up must not prevent the end of the process.
                    self._report(CLEANUP_FAILED, process, reason, error)
                    if (interrupt := escaping(error)) is not None:
                        self.interrupted(interrupt)
        if process.timers is not None:
            for timer in items_of(process.timers):
                self.timers.forget(timer)
        if process.watching is not None:
            # The clean-ups have removed the monitors of remote addresses.
            for monitor in items_of(process.watching):
                self.graph.unwatch(monitor.target, monitor)

    def _report(
        self,
        event: tuple[str, ...],
        process: Process,
        reason: ExitReason,
        error: BaseException | None,
    ) -> None:
        if self.telemetry.handlers(event):
            measurements = {"queue_length": len(process.mailbox)}
            self.telemetry.execute(event, measurements, process.report(reason, error))

    def verify_closed(self) -> None:
        """Check that the closed runtime is empty. Only debug builds do this: see `actors._checks`."""

    # Introspection

    def processes(self) -> list[Pid]:
        """Return the living processes, in the order in which they were spawned."""
        return list(self.table)

    @staticmethod
    def process_of(task: trio.lowlevel.Task) -> Pid | None:
        """Return the process that `task` runs, even before the task's first step.

        Returns:
            None for a helper task of a process, for the task of a process that has ended, and for any other task.
        """
        process = task.context.get(current_process)
        if process is None:
            return None
        not_started = process.task is None and not process.dead
        return process.pid if process.task is task or not_started else None

    def process_info(self, pid: Pid) -> dict[str, Any] | None:
        """Return a description of a living process, or None if it has ended.

        Keys: `pid`, `name`, `label`, `parent`, `ancestors`, `links`, `monitors`, `timers` (those that send to its pid,
        as a number), `trap_exits`, `queue_length`, `status` ("running", "waiting", "suspended" or "exiting"), `age` in
        seconds, `dictionary`; with `open_runtime(counts_run_time=True)` also `run_time`. In `monitors`, a
        `RemoteAddress` stands for a process that may run on another node.
        """
        process = record_of(pid)
        if process is None:
            return None
        info = {**process.info(), "links": self.graph.links_of(pid)}
        if self.counts_run_time:
            info["run_time"] = process.run_time
        return info

    def statistics(self) -> dict[str, int]:
        """Return the counters since the runtime opened, and the present numbers of processes, names and timers."""
        return {
            "processes": len(self.table),
            "names": len(self.names),
            "timers": len(self.timers),
            "spawned": self.spawned,
            "crashed": self.crashed,
            "dead_letters": self.dead_letters,
            "late_answers": self.late_answers,
            "zombies": len(self.zombies),
            "zombies_ever": self.zombies_ever,
            **self.from_threads.statistics(),
        }


def _acting_pid() -> Pid | None:
    process = acting_process()
    return None if process is None else process.pid


def _raise(error: BaseException) -> None:
    raise error
