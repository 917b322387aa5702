"""A model of processes: the documented effects of links, monitors, names and exit signals.

A sweep changes the model in the same step in which it calls the real function. So the model and the runtime see the
same order of events. The model computes its state itself, and never reads this state from the runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import trio
from attrs import define, field

from actors import (
    KILL,
    KILLED,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    Down,
    Exit,
    ExitReason,
    Instrument,
    Pid,
    Ref,
)
from supervision.laboratory.simulation.world.world import World

__all__ = ["Life", "Model"]

UNDECIDED = object()


@define(eq=False)
class Life:
    """The model's data about one process.

    `ending` is the exit reason that the process itself has chosen. `doom` is the reason of the first fatal signal.
    """

    pid: Pid
    label: str
    parent: Pid | None = None
    ancestors: tuple[Pid, ...] = ()
    trapping: bool = False
    name: object = None
    links: dict[Pid, None] = field(factory=dict)
    # `watchers` are the monitors on this process. `watching` are the monitors that this process has set.
    watchers: dict[Ref, tuple[Life, object]] = field(factory=dict)
    watching: dict[Ref, Life] = field(factory=dict)
    mailbox: list[Any] = field(factory=list)
    ending: Any = UNDECIDED
    doom: Any = UNDECIDED
    doomed_at: float = math.inf
    # The seconds for which the process shields itself from cancellation after a fatal signal.
    stubborn: float = 0.0
    # The time at which the scope around an adopted process cancels its task.
    cancelled_at: float = math.inf
    # The time at which the runtime kills the process if the process still lives, such as at a shutdown limit.
    killed_at: float = math.inf
    alive: bool = True
    reason: Any = UNDECIDED
    # `cleanups` must run when the process ends. `cleaned` have run.
    cleanups: list[int] = field(factory=list)
    cleaned: list[int] = field(factory=list)

    @property
    def doomed(self) -> bool:
        """True once a fatal signal has reached the process."""
        return self.doom is not UNDECIDED


class Model(Instrument):
    """The modelled processes of one world, and the first difference from the real processes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lives: dict[Pid, Life] = {}
        self.names: dict[object, Life] = {}
        self.ended: list[Life] = []
        self.problem: str | None = None
        self.crashes = 0
        self.dead_letters = 0
        self.spawned = 0
        self.watch_all = False
        self.at_end: list[Callable[[Life], None]] = []
        self.closed = False
        self.patience = 0.0
        world.invariant("model", lambda: self.problem)
        world.runtime.add_instrument(self)

    def __enter__(self) -> None:
        """Begin to compare the processes with the model."""

    def __exit__(self, *_: object) -> None:
        """Stop the comparison. The world then ends the remaining processes, for which the model has no rules."""
        self.closed = True

    # Differences

    def fail(self, problem: str) -> None:
        """Report a difference. Do not raise here: an exception in a process would only crash that process."""
        if self.problem is None and not self.closed:
            self.problem = problem

    def expect(self, holds: object, problem: str) -> None:
        """Report a difference unless a condition holds."""
        if not holds:
            self.fail(problem)

    def same(self, who: object, what: str, got: object, expected: object) -> None:
        """Report a difference unless two values are equal."""
        if got != expected:
            self.fail(f"{self.who(who)}: {what} is {got!r}, but {expected!r} was expected")

    def who(self, one: object) -> str:
        """Return the name of a process in reports."""
        if isinstance(one, Pid):
            known = self.lives.get(one)
            return repr(one) if known is None else f"{known.label} {one!r}"
        return f"{one.label} {one.pid!r}" if isinstance(one, Life) else str(one)

    @property
    def slack(self) -> float:
        """The most seconds by which the runtime may miss a deadline in this world."""
        return self.world.knobs.quantum + self.patience + 1e-6

    # Births and names

    def born(self, pid: Pid, label: str, *, parent: Life | None = None, link: bool = False) -> Life:
        """Add a new process."""
        life = Life(pid, label, parent=None if parent is None else parent.pid)
        if parent is not None:
            life.ancestors = (parent.pid, *parent.ancestors)
        self.lives[pid] = life
        self.spawned += 1
        if link and parent is not None:
            self.link(parent, life)
        return life

    def give_name(self, life: Life, name: object) -> None:
        """Register a plain name."""
        self.names[name] = life
        life.name = name

    def free_name(self, name: object) -> None:
        """Unregister a plain name."""
        life = self.names.pop(name, None)
        if life is not None:
            life.name = None

    def resolve(self, address: object) -> Life | None:
        """Return the living process at a pid or a plain name."""
        if isinstance(address, Pid):
            return self.lives.get(address)
        return self.names.get(address)

    # Links, monitors, signals

    def link(self, one: Life, other: Life) -> None:
        """Link two living processes."""
        if one is not other:
            one.links[other.pid] = None
            other.links[one.pid] = None

    def unlink(self, one: Life, pid: Pid, *, flush: bool) -> None:
        """Remove a link. With `flush`, also remove the `Exit` of the link from the mailbox."""
        one.links.pop(pid, None)
        other = self.lives.get(pid)
        if other is not None:
            other.links.pop(one.pid, None)
        if flush:
            _remove(one.mailbox, lambda m: type(m) is Exit and m.pid is pid)

    def monitor(self, one: Life, ref: Ref, target: object, found: Life | None) -> None:
        """Add a monitor, except of the process itself. If the target does not exist, the `Down` arrives immediately."""
        if found is None:
            pid = target if isinstance(target, Pid) else None
            one.mailbox.append(Down(ref, pid, NOPROC, None if pid else target))
        elif found is not one:
            found.watchers[ref] = (one, None if isinstance(target, Pid) else target)
            one.watching[ref] = found

    def demonitor(self, one: Life, ref: Ref, *, flush: bool) -> bool:
        """Remove a monitor. Return True if it was active."""
        target = one.watching.pop(ref, None)
        if target is not None:
            target.watchers.pop(ref, None)
        if flush:
            _remove(one.mailbox, lambda m: type(m) is Down and m.ref is ref)
        return target is not None

    def signal(
        self, sender: Pid, receiver: Life | None, reason: ExitReason, *, linked: bool
    ) -> None:
        """Apply the documented table of exit signals to one signal."""
        if receiver is None or not receiver.alive:
            return
        if not linked and reason is KILL:
            self.doom(receiver, KILLED)
        elif receiver.trapping:
            receiver.mailbox.append(Exit(sender, reason))
        elif reason is not NORMAL or sender is receiver.pid:
            self.doom(receiver, reason)

    def doom(self, life: Life, reason: ExitReason) -> None:
        """Record the first fatal signal of a process."""
        if not life.doomed:
            life.doom = reason
            life.doomed_at = trio.current_time()

    # Ends

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        life = self.lives.pop(pid, None)
        if life is None:
            if self.watch_all:
                self.fail(
                    f"{pid!r} ended with {reason!r}, but the model does not know it or it ended before"
                )
            return
        life.alive, life.reason = False, reason
        self.ended.append(life)
        self._check_reason(life, reason)
        self.same(life, "the order of its clean-ups", life.cleaned, life.cleanups[::-1])
        if life.name is not None:
            self.expect(
                self.world.runtime.resolve(life.name) is None,
                f"{self.who(life)} has ended, and its name {life.name!r} is not free",
            )
            del self.names[life.name]
        for ref, target in life.watching.items():
            target.watchers.pop(ref, None)
        for each in self.at_end:
            each(life)
        for peer in life.links:
            other = self.lives.get(peer)
            if other is not None:
                other.links.pop(pid, None)
        for peer in life.links:
            self.signal(pid, self.lives.get(peer), reason, linked=True)
        for ref, (watcher, name) in life.watchers.items():
            watcher.watching.pop(ref, None)
            if watcher.alive:
                watcher.mailbox.append(Down(ref, pid, reason, name))

    def _check_reason(self, life: Life, reason: ExitReason) -> None:
        if reason is KILLED and trio.current_time() >= life.killed_at - 1e-6:
            return
        if reason is SHUTDOWN and trio.current_time() >= life.cancelled_at - 1e-6:
            return
        if life.doomed:
            self.same(life, "its exit reason after a fatal signal", reason, life.doom)
            grace = self.world.knobs.kill_grace
            most = min(life.stubborn, grace) + 2 * self.slack
            late = trio.current_time() - life.doomed_at
            self.expect(
                -1e-9 <= late <= most,
                f"{self.who(life)} ended {late:g} s after the fatal signal {life.doom!r}; at most {most:g} s",
            )
        elif life.ending is UNDECIDED:
            self.fail(
                f"{self.who(life)} ended with {reason!r}, but no signal reached it and it did not decide to end"
            )
        else:
            self.same(life, "its exit reason", reason, life.ending)
            if type(reason).__name__ == "Crash":
                self.crashes += 1

    # At rest

    def rest(self) -> None:
        """Compare the whole model with the runtime. Call this only while no task can run."""
        runtime, now = self.world.runtime, trio.current_time()
        for life in self.lives.values():
            info = runtime.process_info(life.pid)
            if info is None:
                self.fail(
                    f"{self.who(life)} lives in the model, but the runtime says that it has ended"
                )
                return
            if life.doomed and now > life.doomed_at + 2 * self.slack + min(
                life.stubborn, self.world.knobs.kill_grace
            ):
                self.fail(
                    f"{self.who(life)} got the fatal signal {life.doom!r} at {life.doomed_at:g} s and lives"
                )
            self.expect(
                now <= life.killed_at + 2 * self.slack,
                f"{self.who(life)} was not killed at {life.killed_at:g} s",
            )
            if life.doomed:
                self.same(life, "its status", info["status"], "exiting")
            self.same(life, "its links", info["links"], tuple(life.links))
            self.same(
                life, "its monitors", info["monitors"], tuple(t.pid for t in life.watching.values())
            )
            self.same(life, "its trap_exits", info["trap_exits"], life.trapping)
            self.same(life, "its name", info["name"], life.name)
            self.same(life, "its parent", info["parent"], life.parent or runtime.pid)
            self.same(life, "its ancestors", info["ancestors"], life.ancestors)
            if not life.doomed:
                self.same(
                    life, "the length of its mailbox", info["queue_length"], len(life.mailbox)
                )
        names = {name: process.pid for name, process in runtime.names.items()}
        if self.watch_all:
            self.same("the runtime", "the names", names, {n: p.pid for n, p in self.names.items()})
            self.same("the runtime", "the processes", set(runtime.processes()), set(self.lives))
            counted = runtime.statistics()
            for what in ("crashes", "dead_letters", "spawned"):
                got = counted["crashed" if what == "crashes" else what]
                self.same("the runtime", f"the statistic {what}", got, getattr(self, what))


def _remove(messages: list[Any], match: Callable[[Any], bool]) -> None:
    for index, message in enumerate(messages):
        if match(message):
            del messages[index]
            return
