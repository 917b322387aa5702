"""The seven invariants of a runtime, checked while it runs.

`open_runtime(debug=True)`, or the environment variable ASHTREE_DEBUG=1, makes a `CheckedRuntime` in place of a
`Runtime`. This subclass adds checks around the methods of `Runtime`. A plain `Runtime` makes no checks.

1. A process ends exactly once. After its end no message enters its mailbox, and it has no name.
2. Links are symmetric and join living processes only.
3. Every running task of a process has a record, and no exception of a process reaches the nursery.
4. Each monitor is exactly one of: active, fired, removed.
5. After a `call` has returned or raised, no watcher waits for its answer.
6. After a process has accepted a fatal exit signal, none of its callbacks starts, and it gets no message.
7. After the runtime has closed, there are no processes, names, links, timers or zombies.

A failed check raises InvariantBroken. In a process, this error only crashes that process. So the runtime raises the
first such error again when it closes.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NoReturn, cast

import trio
from trio.lowlevel import enable_ki_protection

from actors._calls import CallChains, Sender
from actors._kernel.current import Monitor, RemoteMonitor
from actors._kernel.link_graph import LinkGraph
from actors._kernel.mailbox import Mailbox
from actors._kernel.runtime import EnvironmentLike, Process, Runtime, current_process, record_of
from actors.declared import declared
from actors.exits import ExitReason
from actors.refs import Pid, Watcher
from actors.servers import _loop as _server_loop
from actors.servers._loop import serve
from actors.servers.gen_server import GenServer
from actors.small_set import has_item, items_of

__all__ = ["CheckedRuntime", "InvariantBroken"]

CALLBACKS = ("handle_call", "handle_cast", "handle_info", "handle_continue", "terminate")


@declared("invariant {number}: {what}; this is a mistake in Ashtree, please report it")
class InvariantBroken(AssertionError):
    """An invariant does not hold. This is a bug in Ashtree, not in the program that uses it."""

    number: int
    what: str


class CheckedRuntime(Runtime):
    """A runtime that checks its own invariants. It behaves like `Runtime`, but is several times slower."""

    def __init__(
        self, environment: EnvironmentLike, *, kill_grace: float, seed: int | None = None
    ) -> None:
        super().__init__(environment, kill_grace=kill_grace, seed=seed)
        self.breaches: list[InvariantBroken] = []
        self.checked_graph = self.graph = _CheckedGraph(self.broken)
        self.call_chains = CallChains()

    def broken(self, number: int, what: str) -> NoReturn:
        """Record that an invariant does not hold, and raise."""
        breach = InvariantBroken(number, what)
        self.breaches.append(breach)
        raise breach

    def enroll(
        self,
        function: Callable[..., Any],
        *,
        link: bool = False,
        name: object = None,
        label: str | None = None,
    ) -> Process:
        process = super().enroll(function, link=link, name=name, label=label)
        mailbox = _CheckedMailbox(process.pid, self)
        mailbox.alarm_at, mailbox.owner = process.mailbox.alarm_at, process.mailbox.owner
        process.mailbox = mailbox  # type: ignore[misc] # it is final everywhere else
        return process

    @enable_ki_protection
    async def _run(
        self, process: Process, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> None:
        pid = process.pid
        if self.table.get(pid) is not process:
            self.broken(3, f"a task of {pid!r} started without a record in the process table")
        if function is serve:
            args = (partial(_guarded, args[0], self), *args[1:])
        try:
            await super()._run(process, function, args)
        except (trio.Cancelled, InvariantBroken):
            # The runtime itself is cancelled, or a check has failed already.
            raise
        except BaseException as error:
            # `_run` must never raise, so any exception breaks the invariant.
            self.broken(3, f"{error!r} of {pid!r} reached the nursery of all processes")
        if not process.dead or pid in self.zombies:
            self.broken(3, f"the task of {pid!r} has ended, but its record says that it is alive")

    def end(self, process: Process, reason: ExitReason) -> None:
        pid, name, task = process.pid, process.name, process.task
        if process.dead:
            if pid not in self.zombies:
                self.broken(1, f"{pid!r} ended a second time, with {reason!r}")
            super().end(process, reason)
            return
        super().end(process, reason)
        if pid.process is not None or pid in self.table:
            self.broken(1, f"{pid!r} has ended and is still in the process table")
        if process.mailbox.queue:
            self.broken(1, f"{pid!r} has ended and has {len(process.mailbox)} messages")
        if name is not None and self.names.get(name) is process:
            self.broken(1, f"{pid!r} has ended and is still registered as {name!r}")
        self.checked_graph.ended(pid, task)

    def verify(self) -> None:
        """Check the process table, the names, the links and the monitors, while no process runs."""
        for pid, process in self.table.items():
            if pid.process is not process or process.dead:
                self.broken(1, f"{pid!r} is in the process table and has ended")
            for ref in items_of(process.watching):
                if isinstance(ref, RemoteMonitor) and not ref.is_active:
                    self.broken(4, f"{ref!r} of {pid!r} has fired or was removed, and is active")
        for name, process in self.names.items():
            if process.dead or process.name != name:
                self.broken(
                    1, f"{name!r} leads to {process.pid!r}, which has another name or has ended"
                )
        self.checked_graph.verify(self.table)

    def verify_closed(self) -> None:
        """Check that the closed runtime is empty. If an earlier check has failed, raise its error."""
        if self.breaches:
            raise self.breaches[0]
        self.verify()
        left = {key: number for key, number in self._leftovers().items() if number}
        if left:
            self.broken(7, f"the runtime has closed and still has {left}")

    def _leftovers(self) -> dict[str, int]:
        return {
            "processes": len(self.table),
            "names": len(self.names),
            "timers": len(self.timers),
            "zombies": len(self.zombies),
            "monitors": len(self.checked_graph.active),
            "calls": len(self.checked_graph.calls),
        }


class _CheckedMailbox(Mailbox):
    __slots__ = ("pid", "runtime")

    def __init__(self, pid: Pid, runtime: CheckedRuntime) -> None:
        super().__init__(runtime.wake_batches)
        self.pid = pid
        self.runtime = runtime

    def put(self, message: Any) -> None:
        if self.pid.process is None:
            self.runtime.broken(
                1, f"{message!r} entered the mailbox of {self.pid!r}, which has ended"
            )
        super().put(message)

    def take(self, match: Callable[[Any], bool] | None) -> tuple[bool, Any]:
        found, message = super().take(match)
        process = record_of(self.pid)
        if found and (process is None or process.dying):
            self.runtime.broken(6, f"{self.pid!r} got {message!r} after a fatal exit signal")
        return found, message


class _CheckedGraph(LinkGraph):
    """A link graph that also records the active monitors and calls."""

    __slots__ = ("active", "broken", "calls", "firing", "newest")

    def __init__(self, broken: Callable[[int, str], NoReturn]) -> None:
        super().__init__()
        self.broken = broken
        self.active: dict[Monitor, Pid] = {}
        self.firing: list[Monitor] = []
        self.newest = 0
        # By the waiting task, or by themselves if no task waits yet.
        self.calls: dict[object, Sender] = {}

    def link(self, one: Pid, other: Pid) -> None:
        if one.process is None or other.process is None:
            self.broken(2, f"{one!r} and {other!r} were linked, but one of them has ended")
        super().link(one, other)
        self._symmetric(one, other)

    def unlink(self, one: Pid, other: Pid) -> bool:
        cut = super().unlink(one, other)
        self._symmetric(one, other)
        return cut

    def watch(self, pid: Pid, watcher: Watcher) -> None:
        if pid.process is None:
            self.broken(4, f"{watcher!r} watches {pid!r}, which has ended")
        if isinstance(watcher, Monitor):
            if watcher.number <= self.newest:
                self.broken(4, f"{watcher!r} became active a second time")
            self.newest = watcher.number
            self.active[watcher] = pid
        elif isinstance(watcher, Sender):
            key = watcher.task or watcher
            if key in self.calls:
                self.broken(5, f"{watcher!r} calls while its previous call is still active")
            self.calls[key] = watcher
        super().watch(pid, watcher)

    def unwatch(self, pid: Pid, watcher: Watcher) -> bool:
        removed = super().unwatch(pid, watcher)
        if isinstance(watcher, Monitor) and removed != (self.active.pop(watcher, None) is pid):
            self.broken(4, f"{watcher!r}: this check and the graph disagree about its removal")
        if removed and isinstance(watcher, Sender):
            self._forget(watcher)
        return removed

    def _forget(self, sender: Sender) -> None:
        # A request that was sent before its task waited for the answer is there under itself.
        if self.calls.pop(sender, None) is None:
            del self.calls[sender.task]

    def remove(self, pid: Pid) -> tuple[tuple[Pid, ...], tuple[Watcher, ...]]:
        peers, watchers = super().remove(pid)
        for watcher in watchers:
            if isinstance(watcher, Monitor):
                if self.active.pop(watcher, None) is not pid:
                    self.broken(4, f"{watcher!r} fires and was not active")
                self.firing.append(watcher)
            elif isinstance(watcher, Sender):
                self._forget(watcher)
        return peers, watchers

    def ended(self, pid: Pid, task: trio.lowlevel.Task | None) -> None:
        """Check that an ended process has no link, watcher or waiting call, and that its monitors have fired."""
        # A monitor that fires, or that is removed during the end of its process, is no longer there.
        silent = [ref for ref in self.firing if has_item(ref.watcher.watching, ref)]
        self.firing.clear()
        if silent:
            self.broken(4, f"{pid!r} has ended, and {silent} did not fire")
        if self.links_of(pid) or self.watchers_of(pid):
            self.broken(2, f"{pid!r} has ended and is still linked or watched")
        if task is not None and task in self.calls:
            self.broken(5, f"{pid!r} has ended and its call to {self.calls[task]!r} is active")

    def verify(self, table: dict[Pid, Process]) -> None:
        """Check all links and monitors."""
        for one in table:
            for other in self.links_of(one):
                if other not in table:
                    self.broken(2, f"{other!r} has ended and is linked to {one!r}")
                self._symmetric(one, other)
        watching = {
            ref: ref.target
            for process in table.values()
            for ref in items_of(process.watching)
            if not isinstance(ref, RemoteMonitor)
        }
        watched = {
            ref: pid for pid in table for ref in self.watchers_of(pid) if isinstance(ref, Monitor)
        }
        if not watching == watched == self.active:
            self.broken(
                4, "owners, targets and this check disagree about which monitors are active"
            )

    def _symmetric(self, one: Pid, other: Pid) -> None:
        if self.linked(one, other) != self.linked(other, one):
            self.broken(2, f"only one of {one!r} and {other!r} has the link between them")


def _guarded(cls: type[GenServer[Any]], runtime: CheckedRuntime) -> GenServer[Any]:
    """Make a server that checks, before each callback, that its process has not accepted a fatal exit signal."""
    server = cls()
    # A strong reference would make a cycle, which only the garbage collector can free.
    itself = weakref.ref(server)
    for name in CALLBACKS:
        setattr(server, name, partial(_start_callback, name, itself, runtime))
    return server


def _start_callback(
    name: str, server: weakref.ref[GenServer[Any]], runtime: CheckedRuntime, *args: Any
) -> Awaitable[Any]:
    process, itself = current_process.get(), server()
    assert process is not None
    # Check only calls from the server's loop. A server's own code may call its callbacks at any time.
    if process.dying and sys._getframe(1).f_globals is vars(_server_loop):
        runtime.broken(6, f"{name} of {process.pid!r} was started after a fatal exit signal")
    return cast("Awaitable[Any]", getattr(type(itself), name)(itself, *args))
