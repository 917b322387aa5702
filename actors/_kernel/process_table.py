"""The process table of a runtime: who is there, under which name, and who looks on.

No task runs here and no process ends here; that is `actors._kernel.runtime`, whose `Runtime` is a table that can do
both.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import trio
from trio.lowlevel import enable_ki_protection

from actors._kernel.address_check import WRITE_AN_ADDRESS
from actors._kernel.call_chains import CallChains
from actors._kernel.link_graph import LinkGraph
from actors._kernel.process import Process, acting_process
from actors._kernel.wake_batches import Pace
from actors.addresses import Via
from actors.errors import AlreadyStarted, NameTaken, NotAnAddress, RuntimeClosed, WrongThread
from actors.instrumentation.environment import current_environment
from actors.instrumentation.instrument import Instrument
from actors.instrumentation.telemetry import Telemetry
from actors.refs import Pid
from actors.timers import TimerQueue

if TYPE_CHECKING:
    import uuid

    from actors._kernel.runtime import Runtime

__all__ = ["ProcessTable"]

DEAD_LETTER = ("actors", "message", "dead_letter")


class ProcessTable:
    """Processes, names, links, timers, instruments and counters of one runtime."""

    def __init__(self, *, seed: int | None) -> None:
        # Nearly everything in here belongs to this thread alone.
        self.thread = threading.get_ident()
        self.telemetry = Telemetry()
        self.environment = current_environment.get()
        self._random = random.Random(seed)
        self._seeded = seed is not None
        self.timers = TimerQueue()
        self.pace = Pace()
        self.graph = LinkGraph()
        self.table: dict[Pid, Process] = {}
        self.names: dict[object, Process] = {}
        # Classes that have been names. Any other class as an address is a mistake.
        self.classes_named: set[type] = set()
        self.zombies: dict[Pid, Process] = {}
        self.instruments: tuple[Instrument, ...] = ()
        # Those that want to know of callbacks, which few do, and which is told of each.
        self.callback_instruments: tuple[Instrument, ...] = ()
        # Whether `admit` must be asked before a message is sent: there is an instrument, or a zombie.
        self.guarded = False
        self.mailbox_alarm = sys.maxsize
        self.call_chains: CallChains | None = None
        # Whether there is a watchdog, which adds up how long each process runs.
        self.counts_run_time = False
        self.closed = False
        self.spawned = 0
        self.crashed = 0
        self.dead_letters = 0
        self.zombies_ever = 0
        self._numbers = 0
        self._refs = 0
        self.pid = Pid(0, cast("Runtime", self))
        self.nursery: trio.Nursery | None = None

    def add_instrument(self, instrument: Instrument) -> Callable[[], None]:
        """Show everything that happens to `instrument`, until the returned function is called."""
        self.instruments = (*self.instruments, instrument)
        self._sort_out_instruments()

        def remove() -> None:
            self.instruments = tuple(other for other in self.instruments if other is not instrument)
            self._sort_out_instruments()

        return remove

    def _sort_out_instruments(self) -> None:
        untouched = Instrument.callback_started
        self.callback_instruments = tuple(
            each
            for each in self.instruments
            # Of the object and not of its class: some decide when they are made what they want to know.
            if getattr(each.callback_started, "__func__", None) is not untouched
        )
        self.guard()

    def guard(self) -> None:
        """Decide anew whether sending needs a second look."""
        self.guarded = bool(self.instruments or self.zombies)

    def admit(self, receiver: Pid, message: Any) -> bool:
        """Whether a message may enter a mailbox, as its instruments say; ProcessKilled if a zombie sends it."""
        sender = acting_process()
        pid = None if sender is None else sender.pid
        # A list, not a generator: every instrument is told, also after one of them has refused.
        verdicts = [each.message_sent(pid, receiver, message) for each in self.instruments]
        return False not in verdicts

    def require_thread(self, verb: str) -> None:
        """Raise WrongThread in every thread but the runtime's own."""
        if threading.get_ident() != self.thread:
            raise WrongThread(verb, threading.current_thread().name)

    def next_ref(self) -> int:
        """A number that no other reference of this runtime has."""
        self._refs += 1
        return self._refs

    # Chance, identifiers and the time of day

    @property
    def random(self) -> random.Random:
        """The source of randomness that processes should use, so that a seed decides what it gives.

        In a simulation each process has a stream of its own, which no other process's drawing changes.
        """
        if self._seeded:
            return self._random
        return self.environment.random(self._acting()) or self._random

    def uuid(self) -> uuid.UUID:
        """A new identifier: version 4, random. In a simulation the seed decides which."""
        return self.environment.uuid(self._acting())

    def now(self) -> float:
        """The time of day, in seconds since the epoch. For durations use `trio.current_time()`."""
        return self.environment.now()

    def _acting(self) -> Pid | None:
        process = acting_process()
        return None if process is None else process.pid

    # Processes

    def enroll(
        self,
        function: Callable[..., Any],
        *,
        link: bool = False,
        name: object = None,
        label: str | None = None,
    ) -> Process:
        """Put a process into the table, its name and its link with it. Whoever calls this gives it a task."""
        if self.closed or self.nursery is None:
            raise RuntimeClosed("this runtime is closed and takes no new processes")
        if name is not None and name in self.names:
            raise AlreadyStarted(name, self.names[name].pid)
        ancestors: tuple[Pid, ...] = ()
        creator = acting_process()
        if creator is None or creator.runtime is not self:
            creator, parent = None, self.pid
        else:
            parent, ancestors = creator.pid, (creator.pid, *creator.ancestors)
        self._numbers = number = self._numbers + 1
        # Only the whole runtime makes processes.
        runtime = cast("Runtime", self)
        pid = Pid(number, runtime)
        process = pid._process = Process(pid, runtime, function, parent, ancestors)
        process.label = label
        if isinstance(name, Via):
            self._enroll_via(name, process)
        elif name is not None:
            self._give_name(name, process)
        process.mailbox.alarm_at = self.mailbox_alarm
        process.mailbox.on_alarm = process.mailbox_alarm
        self.table[pid] = process
        self.spawned += 1
        if creator is None:
            process.obeys = parent
        elif link:
            process.obeys = parent
            self.graph.link(parent, pid)
        # Otherwise it keeps itself: OTP's gen_server:start makes a server its own parent.
        return process

    def _enroll_via(self, address: Via, process: Process) -> None:
        holder: Pid | None = process.pid
        try:
            holder = address.register(process.pid)
        finally:
            if holder is not None:
                # It was refused, or failed: this process has never existed.
                process.pid._process = None
        if holder is not None:
            raise AlreadyStarted(address, holder)

    def announce(self, process: Process) -> None:
        """Show the instruments a process that was spawned."""
        for instrument in self.instruments:
            instrument.process_spawned(process.pid, process.parent, process.describe())

    # Addresses

    def resolve(self, address: object) -> Process | None:
        """The living process behind a pid, a name or a `Via`; None if there is none.

        Raises:
            NotAnAddress: it is not hashable.
        """
        if type(address) is Pid:
            return address._process
        try:
            process = self.names.get(address)
        except TypeError:
            raise NotAnAddress(
                None, address, f"{address!r} is not hashable, so it is no name; {WRITE_AN_ADDRESS}"
            ) from None
        if process is None and isinstance(address, Via):
            pid = address.whereis(cast("Runtime", self))
            process = None if pid is None else pid._process
        return process

    @enable_ki_protection
    def register(self, name: object, process: Process) -> None:
        """Give a name to a process. One name for each process, one process for each name."""
        if name is None:
            raise TypeError("None is not a name; use any other hashable value")
        if isinstance(name, Via):
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
            # An instrument that raises takes the operation down: the name is free.
            del self.names[name]
            process.name = None
            raise

    @enable_ki_protection
    def unregister(self, name: object) -> None:
        """Take a name away from whoever has it."""
        if isinstance(name, Via):
            name.unregister(cast("Runtime", self))
            return
        process = self.names.pop(name, None)
        if process is not None:
            process.name = None
            for instrument in self.instruments:
                instrument.unregistered(process.pid, name, None)

    def dead_letter(self, address: object, message: Any) -> None:
        """Count a message whose receiver has ended; Erlang, too, lets it vanish."""
        self.dead_letters += 1
        if self.telemetry.handlers(DEAD_LETTER):
            self.telemetry.execute(DEAD_LETTER, {}, {"address": address, "message": message})

    # Looking inside

    def processes(self) -> list[Pid]:
        """The living processes, in the order in which they were spawned."""
        return list(self.table)

    def process_info(self, pid: Pid) -> dict[str, Any] | None:
        """What is known of a living process: name, label, parent, links, queue length, ...; None if it has ended."""
        process = pid._process
        if process is None:
            return None
        info = {**process.info(), "links": self.graph.links_of(pid)}
        if self.counts_run_time:
            info["run_time"] = process.run_time
        return info

    def statistics(self) -> dict[str, int]:
        """Counters since the runtime was opened, and what is alive now."""
        return {
            "processes": len(self.table),
            "names": len(self.names),
            "timers": len(self.timers),
            "spawned": self.spawned,
            "crashed": self.crashed,
            "dead_letters": self.dead_letters,
            "zombies": len(self.zombies),
            "zombies_ever": self.zombies_ever,
        }
