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
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from actors._kernel.callbacks import is_server, starting
from actors._kernel.process import Process, current_process
from actors._kernel.process_table import ProcessTable
from actors._kernel.reasons import escaping, only_unwinding, reason_of
from actors._kernel.thread_queue import DEFAULT_LIMIT, ThreadQueue
from actors.exits import KILL, NORMAL, SHUTDOWN, Crash, ExitReason, Verdict, is_normal_exit, judge
from actors.functions import awaitable_of
from actors.instrumentation.advice import add_advice
from actors.messages import Exit
from actors.refs import Pid

__all__ = ["Runtime"]

CRASH = ("actors", "process", "crash")
CLEANUP = ("actors", "process", "cleanup_failed")
ZOMBIE = ("actors", "process", "zombie")


class Runtime(ProcessTable):
    """All processes of one `open_runtime`, and what they share. Made by `open_runtime` alone.

    Attributes:
        telemetry: the event listeners of this runtime.
        random: the source of randomness that processes should use, so that a seed decides what it gives.
        pid: stands for the runtime itself as the parent of processes that were not spawned by a process.
    """

    def __init__(self, *, kill_grace: float, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        self.kill_grace = kill_grace
        self.empty: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()
        self.interrupted: Callable[[BaseException], None] = _nobody_to_interrupt
        self.run_sync_soon = trio.lowlevel.current_trio_token().run_sync_soon
        # The way in for other threads.
        self.from_threads = ThreadQueue(self, DEFAULT_LIMIT)

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
        process = self.enroll(function, link=link, name=name, label=label)
        assert self.nursery is not None  # enroll has looked
        # The task inherits this context, so `process_of` knows its process before the first step.
        token = current_process.set(process)
        try:
            self.nursery.start_soon(self._run, process, function, args)
        finally:
            current_process.reset(token)
        if self.instruments:
            self.announce(process)
        return process

    @staticmethod
    def process_of(task: trio.lowlevel.Task) -> Pid | None:
        """Return the process that `task` runs, also before the task's first step.

        Returns:
            None for a helper task of a process, for the task of a process that has ended, and for any other task.
        """
        process = task.context.get(current_process)
        if process is None:
            return None
        not_started = process.task is None and not process.dead
        return process.pid if process.task is task or not_started else None

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
                    if self.instruments and not is_server(process):
                        waits = starting(process, "run", args)
                        if waits is not None:
                            await waits
                    await awaitable_of(function, args)
        except (
            BaseException
        ) as error:  # isolation: a process's failure is its reason, never the nursery's
            escaped = self._failed(process, error)
        else:
            self._end(process, process.reason if process.dying else NORMAL)
        if process.task.child_nurseries:
            _abandon_nurseries(process.task)
        # The task's context refers to the process: without this they would keep each other alive.
        process.task = None
        if escaped is not None:
            raise escaped

    def _failed(self, process: Process, error: BaseException) -> trio.Cancelled | None:
        """End a process that raised. Returns what must be raised on: only a cancellation of the runtime itself."""
        add_advice(error)
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
        self.guard()
        self._report(ZOMBIE, process, process.reason, None)
        self._end(process, process.reason)

    # The end

    def _end(self, process: Process, reason: ExitReason) -> None:
        """Take a process out of the world. No checkpoint: it is alive before this and gone after it."""
        pid = process.pid
        if process.dead:
            # A zombie whose task has come to its end after all.
            self.zombies.pop(pid, None)
            self.guard()
            self.empty.unpark_all()
            return
        process.dead = True
        pid._process = None
        del self.table[pid]
        if process.name is not None:
            del self.names[process.name]
        if process.grace is not None:
            self.timers.forget(process.grace)
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
                self.timers.forget(timer)
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
                    **(process.context() if process.context is not None else {}),
                },
            )

    def statistics(self) -> dict[str, int]:
        """Counters since the runtime was opened, and what is alive or waits now."""
        return {**super().statistics(), **self.from_threads.statistics()}

    def verify_closed(self) -> None:
        """Called when the runtime has been left. Checks something only in debug builds: see `actors._kernel.checks`."""

    def kill_everything(self) -> None:
        """Send `KILL` to every process, newest first."""
        for pid in reversed(list(self.table)):
            self.signal(self.pid, pid, KILL, linked=False)


def _nobody_to_interrupt(error: BaseException) -> None:
    raise error


def _abandon_nurseries(task: trio.lowlevel.Task) -> None:
    """Lose the nurseries that a process has left open, in a generator that nobody closes any more.

    The process has crashed of that already, with Trio's advice. Trio would raise once more in the nursery of all
    processes, and end every one of them for the mistake of one; there is no public way to tell it not to.
    """
    for nursery in task.child_nurseries:
        nursery.cancel_scope.cancel()
    task._child_nurseries.clear()
