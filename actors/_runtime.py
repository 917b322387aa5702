"""The process table: spawning, exit signals, and the end of a process.

Every process is a direct child of one nursery; parenthood, links and monitors are data. The three rules that the rest
of the package relies on:

* a signal is a synchronous function call, so that signals between two processes arrive in the order in which they
  were sent;
* ending a process (`_end`) is one function without a checkpoint, so that whoever learns of the end finds the name
  free, the entries gone and the process dead;
* no exception of a process leaves its task (`_run`), so that no process can cancel another through the nursery.

Ctrl-C is never raised in here, nor in any process: `enable_ki_protection`, which costs nothing, lets Trio raise it in
the main task instead. Raised anywhere it likes, it could leave a link half cut or a process that nobody can end.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from actors._links import LinkGraph
from actors._process import Process, acting_process, current_process
from actors._reasons import escaping, only_unwinding, reason_of
from actors.errors import AlreadyStarted, NameTaken, RuntimeClosed
from actors.exits import KILL, NORMAL, SHUTDOWN, Crash, ExitReason, Verdict, is_normal_exit, judge
from actors.messages import Exit
from actors.refs import Pid
from actors.telemetry import Telemetry
from actors.timers import TimerQueue

if TYPE_CHECKING:
    from actors.instrument import Instrument

__all__ = ["Runtime"]

CRASH = ("actors", "process", "crash")
CLEANUP = ("actors", "process", "cleanup_failed")
ZOMBIE = ("actors", "process", "zombie")
DEAD_LETTER = ("actors", "message", "dead_letter")


class Runtime:
    """All processes of one `open_runtime`, and what they share. Made by `open_runtime` alone.

    Attributes:
        telemetry: the event listeners of this runtime.
        random: the source of randomness that processes should use, so that a seed decides what it gives.
        pid: stands for the runtime itself as the parent of processes that were not spawned by a process.
    """

    def __init__(self, *, kill_grace: float, seed: int | None = None) -> None:
        self.telemetry = Telemetry()
        self.random = random.Random(seed)
        self.timers = TimerQueue()
        self.graph = LinkGraph()
        self.kill_grace = kill_grace
        self.table: dict[Pid, Process] = {}
        self.names: dict[object, Process] = {}
        self.zombies: dict[Pid, Process] = {}
        self.instruments: tuple[Instrument, ...] = ()
        # Whether `admit` must be asked before a message is sent: there is an instrument, or a zombie.
        self.guarded = False
        self.closed = False
        self.spawned = 0
        self.crashed = 0
        self.dead_letters = 0
        self.zombies_ever = 0
        self._numbers = 0
        self._refs = 0
        self.pid = Pid(0, self)
        self.nursery: trio.Nursery | None = None
        self.empty: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()
        self.interrupted: Callable[[BaseException], None] = _nobody_to_interrupt

    def add_instrument(self, instrument: Instrument) -> Callable[[], None]:
        """Show everything that happens to `instrument`, until the returned function is called."""
        self.instruments = (*self.instruments, instrument)
        self._guard()

        def remove() -> None:
            self.instruments = tuple(other for other in self.instruments if other is not instrument)
            self._guard()

        return remove

    def _guard(self) -> None:
        self.guarded = bool(self.instruments or self.zombies)

    def admit(self, receiver: Pid, message: Any) -> bool:
        """Whether a message may enter a mailbox, as its instruments say; ProcessKilled if a zombie sends it."""
        sender = acting_process()
        pid = None if sender is None else sender.pid
        # A list, not a generator: every instrument is told, also after one of them has refused.
        verdicts = [each.message_sent(pid, receiver, message) for each in self.instruments]
        return False not in verdicts

    def next_ref(self) -> int:
        """A number that no other reference of this runtime has."""
        self._refs += 1
        return self._refs

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
    ) -> Process:
        """Make a process and schedule its first step. Synchronous: it has not run when this returns."""
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
        pid = Pid(number, self)
        process = pid._process = Process(pid, self, function, parent, ancestors)
        process.label = label
        self.table[pid] = process
        self.spawned += 1
        if name is not None:
            self.names[name] = process
            process.name = name
        if creator is None:
            process.obeys = parent
        elif link:
            process.obeys = parent
            self.graph.link(parent, pid)
        self.nursery.start_soon(self._run, process, function, args)
        if self.instruments:
            for instrument in self.instruments:
                instrument.process_spawned(pid, parent, process.describe())
        return process

    @enable_ki_protection
    async def _run(
        self, process: Process, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> None:
        current_process.set(process)
        process.task = trio.lowlevel.current_task()
        escaped = None
        try:
            with process.scope:
                # Killed before its first step: it never runs, as on the BEAM.
                if not process.dying:
                    await function(*args)
        except (
            BaseException
        ) as error:  # isolation: a process's failure is its reason, never the nursery's
            escaped = self._failed(process, error)
        else:
            self._end(process, process.reason if process.dying else NORMAL)
        # The task's context refers to the process: without this they would keep each other alive.
        process.task = None
        process.reason = NORMAL
        if escaped is not None:
            raise escaped

    def _failed(self, process: Process, error: BaseException) -> trio.Cancelled | None:
        """End a process that raised. Returns what must be raised on: only a cancellation of the runtime itself."""
        interrupt = escaping(error)
        if interrupt is not None:
            self._end(process, process.reason if process.dying else SHUTDOWN)
            self.interrupted(interrupt)
        elif process.dying:
            if not only_unwinding(error):
                self._report(CLEANUP, process, process.reason, error)
            self._end(process, process.reason)
        elif isinstance(error, trio.Cancelled) and trio.current_effective_deadline() == -math.inf:
            self._end(process, SHUTDOWN)
            return error
        else:
            self._end(process, reason_of(error))
        return None

    # Exit signals

    @enable_ki_protection
    def signal(self, sender: Pid, receiver: Pid, reason: ExitReason, *, linked: bool) -> None:
        """Deliver an exit signal: drop it, make it a message, or let it kill, as `judge` says."""
        process = receiver._process
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
        # On the BEAM it would be dead now. Here it still unwinds; if it does not, it is declared dead.
        process.grace = self.timers.at(
            trio.current_time() + self.kill_grace, lambda: self._grace_over(process)
        )

    def _grace_over(self, process: Process) -> None:
        # If something held up the whole loop, the process had no chance to unwind: it gets one round of the loop.
        process.grace = self.timers.at(trio.current_time(), lambda: self._declare_zombie(process))

    def _declare_zombie(self, process: Process) -> None:
        """Give up waiting for a process that was killed: for everybody but its own task it is dead from here on."""
        process.grace = None
        self.zombies_ever += 1
        self.zombies[process.pid] = process
        self._guard()
        self._report(ZOMBIE, process, process.reason, None)
        self._end(process, process.reason)

    # The end

    def _end(self, process: Process, reason: ExitReason) -> None:
        """Take a process out of the world. No checkpoint: it is alive before this and gone after it."""
        pid = process.pid
        if process.dead:
            # A zombie whose task has come to its end after all.
            self.zombies.pop(pid, None)
            self._guard()
            self.empty.unpark_all()
            return
        process.dead = True
        pid._process = None
        del self.table[pid]
        if process.name is not None:
            del self.names[process.name]
        if process.grace is not None:
            self.timers.cancel(process.grace)
        self._release(process, reason)
        for instrument in self.instruments:
            instrument.process_exited(pid, reason)
        if process.dying:
            # An exit signal ended it. Whoever crashed has been reported; those it takes along are not to blame.
            pass
        elif type(reason) is Crash:
            self.crashed += 1
            self._report(CRASH, process, reason, reason.exception)
        elif process.context is not None and not is_normal_exit(reason):
            self._report(CRASH, process, reason, None)
        peers, watchers = self.graph.remove(pid)
        for peer in peers:
            self.signal(pid, peer, reason, linked=True)
        for watcher in watchers:
            watcher.down(pid, reason)
        process.let_go()
        if not self.table:
            self.empty.unpark_all()

    def _release(self, process: Process, reason: ExitReason) -> None:
        """Give back what a process holds: its clean-ups run, its timers are dropped, its monitors removed."""
        if process.cleanups:
            self._clean_up(process, process.cleanups, reason)
        if process.timers:
            for timer in process.timers:
                self.timers.cancel(timer)
        if process.watching:
            for ref, target in process.watching.items():
                self.graph.unwatch(target, ref)

    def _clean_up(
        self, process: Process, cleanups: dict[object, Callable[[], None]], reason: ExitReason
    ) -> None:
        for cleanup in reversed(list(cleanups.values())):
            try:
                cleanup()
            except BaseException as error:  # one bad clean-up must not keep the rest, or the end itself, from happening
                self._report(CLEANUP, process, reason, error)
                interrupt = escaping(error)
                if interrupt is not None:
                    self.interrupted(interrupt)

    def _report(
        self,
        event: tuple[str, ...],
        process: Process,
        reason: ExitReason,
        error: BaseException | None,
    ) -> None:
        if self.telemetry.handlers(event):
            self.telemetry.execute(
                event,
                {"queue_length": len(process.mailbox)},
                {
                    "pid": process.pid,
                    "process": process.describe(),
                    "parent": process.parent,
                    "ancestors": process.ancestors,
                    "reason": reason,
                    "exception": error,
                    "task": process.task,
                    **(process.context or {}),
                },
            )

    # Addresses

    def resolve(self, address: object) -> Process | None:
        """The living process behind a pid or a name; None if there is none."""
        if type(address) is Pid:
            return address._process
        return self.names.get(address)

    @enable_ki_protection
    def register(self, name: object, process: Process) -> None:
        """Give a name to a process. One name for each process, one process for each name."""
        if name is None:
            raise TypeError("None is not a name; use any other hashable value")
        holder = self.names.get(name)
        if holder is not None:
            raise NameTaken(name, holder.pid, f"{name!r} is the name of {holder.pid!r} already")
        if process.name is not None:
            raise NameTaken(
                name,
                process.pid,
                f"{process.pid!r} is registered as {process.name!r} already; unregister that first",
            )
        self.names[name] = process
        process.name = name

    @enable_ki_protection
    def unregister(self, name: object) -> None:
        """Take a name away from whoever has it."""
        process = self.names.pop(name, None)
        if process is not None:
            process.name = None

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
        return {**process.info(), "links": self.graph.links_of(pid)}

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

    def verify_closed(self) -> None:
        """Called when the runtime has been left. Checks something only in debug builds: see `actors._invariants`."""

    def kill_everything(self) -> None:
        """Send `KILL` to every process, newest first."""
        for pid in reversed(list(self.table)):
            self.signal(self.pid, pid, KILL, linked=False)


def _nobody_to_interrupt(error: BaseException) -> None:
    raise error
