"""Runtimes that open and close in one world. A model predicts how each runtime stops its processes.

The body of each runtime starts processes with different reactions to an exit signal. Then the body ends in one of
several ways. All times are multiples of half a second, so the model predicts each end exactly.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from random import Random
from typing import Any

import trio
from attrs import define, field

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Exit,
    GenServer,
    Instrument,
    Pid,
    Runtime,
    RuntimeClosed,
    exit,
    is_alive,
    open_runtime,
    receive,
    send,
    send_after,
    spawn,
    spawn_link,
    trap_exits,
)
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.supervision.supervisor_model import Ambiguous

__all__ = ["runtimes"]

TICK = 0.5

KINDS = (
    "obeys",
    "obeys",
    "slow",
    "slow",
    "refuses",
    "resists",
    "server",
    "trapping server",
    "ends",
)


@define(eq=False)
class Part:
    """One process of a runtime.

    Attributes:
        name: the name of the process, which is also its label.
        kind: the behaviour of the process after the exit signal of the runtime.
        ticks: the time that the process needs to stop. For the kind "ends", the time until it ends by itself.
        reason: the exit reason, if the process chooses it.
        children: the number of processes that it starts. They end at the first exit signal.
        linked: True if the process is linked to its children.
    """

    name: str
    kind: str
    ticks: int
    reason: Any
    children: int
    linked: bool
    pid: Pid | None = None
    kids: list[Pid] = field(factory=list)

    @property
    def kid_names(self) -> list[str]:
        """The labels of the children."""
        return [f"{self.name}'s child {number}" for number in range(self.children)]

    async def run(self) -> None:
        """Behave as `kind` says."""
        if self.kind in ("slow", "refuses"):
            trap_exits()
        for label in self.kid_names:
            start = spawn_link if self.linked else spawn
            self.kids.append(start(trio.sleep_forever, label=label))
        if self.kind == "ends":
            await trio.sleep(self.ticks * TICK)
            return
        try:
            while True:
                message = await receive()
                if type(message) is Exit and message.reason is SHUTDOWN and self.kind == "slow":
                    break
        except trio.Cancelled:
            if self.kind == "resists":
                with trio.CancelScope(shield=True):
                    await trio.sleep(self.ticks * TICK)
            raise
        await trio.sleep(self.ticks * TICK)
        if isinstance(self.reason, type):
            raise self.reason(self.name)
        exit(self.reason)


class Desk(GenServer[None]):
    """A server, for the two kinds of processes that are servers."""

    async def init(self, part: Part) -> None:
        self.part = part
        if part.kind == "trapping server":
            trap_exits()

    async def terminate(self, reason: Any) -> None:
        await trio.sleep(self.part.ticks * TICK)


class Diary(Instrument):
    """An instrument that records the time and the reason of each process's end."""

    def __init__(self, runtime: Runtime) -> None:
        self.labels: dict[Pid, str] = {}
        self.ends: list[tuple[float, str, str]] = []
        runtime.add_instrument(self)

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        self.labels[pid] = label

    def process_exited(self, pid: Pid, reason: Any) -> None:
        self.ends.append((trio.current_time(), self.labels[pid], repr(reason)))


class Plan:
    """A runtime, its processes, and the end of its body."""

    def __init__(self, stream: Random) -> None:
        self.grace = stream.choice((2, 5))
        self.deadline = stream.choice((6, 20, 60))
        self.ticks = stream.randint(1, 9)
        self.parts = [self._part(stream, number) for number in range(stream.randint(0, 6))]
        self.ends = stream.choice(
            ("returns", "returns", "raises", "is cancelled", "is interrupted")
        )
        self.calls = stream.choice((0, 3, 70, 200))

    def _part(self, stream: Random, number: int) -> Part:
        kind = stream.choice(KINDS)
        reason = stream.choice((NORMAL, NORMAL, SHUTDOWN, "odd", SystemExit))
        children = 0 if "server" in kind else stream.choice((0, 0, 1, 2))
        ticks = stream.choice((0, 1, 3, 7))
        if kind == "ends" and ticks >= self.ticks:
            kind = "obeys"
        return Part(
            name=f"part{number}",
            kind=kind,
            ticks=ticks,
            reason=reason,
            children=children,
            linked=stream.random() < 0.5,
        )

    def __repr__(self) -> str:
        parts = ", ".join(
            f"{each.name} ({each.kind}, {each.ticks * TICK:g} s, {each.reason!r}, {each.children} "
            f"{'linked' if each.linked else 'free'} children)"
            for each in self.parts
        )
        return (
            f"the runtime with kill_grace={self.grace * TICK:g} and shutdown_deadline={self.deadline * TICK:g}, whose "
            f"body {self.ends} after {self.ticks * TICK:g} s, of {parts or 'no process'}"
        )


class Model:
    """The expected end of each process of a plan. Times are in ticks from the start of the runtime.

    Attributes:
        ends: each end, with its time, its process and its reason.
        ordered: the processes that the ordered shutdown stops, in the order of their ends.
        closes: the time at which the block ends.
        raises: the class of the exception that the block raises; None for no exception.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ends: list[tuple[float, str, str]] = []
        self.ordered: list[str] = []
        self.closes = float(plan.ticks)
        self.raises = {"raises": ValueError, "is interrupted": KeyboardInterrupt}.get(plan.ends)
        # The processes without an expected end so far.
        self.left = list(plan.parts)
        self.kids = {part.name: part.kid_names for part in plan.parts}
        if self.raises is KeyboardInterrupt:
            self.ends.append((plan.ticks, "interrupter", repr(SHUTDOWN)))
        self._run()

    def _run(self) -> None:
        plan = self.plan
        for part in plan.parts:
            if part.kind == "ends":
                self._end(part, part.ticks, NORMAL)
        self._kill(self._stop_in_order())

    def _end(self, part: Part, at: float, reason: Any) -> None:
        self.ends.append((at, part.name, repr(reason)))
        self.left.remove(part)
        if part.linked and reason is not NORMAL:
            self.ends += [(at, name, repr(reason)) for name in self.kids.pop(part.name)]

    def _stop_in_order(self) -> float:
        """Expect the processes to stop one by one, newest first. Return the time of the kill of the other processes."""
        plan, now = self.plan, float(self.plan.ticks)
        limit = plan.ticks + plan.deadline
        for part in reversed(self.left.copy()):
            takes = {
                "slow": part.ticks,
                "trapping server": part.ticks,
                "resists": min(part.ticks, plan.grace),
                "refuses": math.inf,
            }.get(part.kind, 0)
            if now + takes == limit:
                raise Ambiguous
            if now + takes > limit:
                if part.kind == "resists":
                    # The process already ends with SHUTDOWN, so the kill at the limit changes nothing.
                    self._unwinds(part, now)
                    self._end_alone(part, now + takes, SHUTDOWN)
                return limit
            now += takes
            if part.kind == "resists":
                self._unwinds(part, now - takes)
            interrupts = part.kind == "slow" and part.reason is SystemExit
            self.ordered.append(part.name)
            self._end(
                part, now, part.reason if part.kind == "slow" and not interrupts else SHUTDOWN
            )
            if interrupts:
                self.raises = self.raises if self.raises is KeyboardInterrupt else SystemExit
                self._one_more(now)
                return now
        return now

    def _one_more(self, now: float) -> None:
        """Expect that the next process gets SHUTDOWN just before the kill, at the same time."""
        part = self.left[-1] if self.left else None
        if part is None or part.kind in ("slow", "refuses", "trapping server"):
            # The process traps SHUTDOWN.
            return
        takes = 0
        if part.kind == "resists":
            takes = min(part.ticks, self.plan.grace)
            self._unwinds(part, now)
        if takes:
            # The kill ends the linked processes first.
            self._end_alone(part, now + takes, SHUTDOWN)
        else:
            raise Ambiguous

    def _end_alone(self, part: Part, at: float, reason: Any) -> None:
        """Expect the end of a process alone. Its children end with the kill instead."""
        self.ends.append((at, part.name, repr(reason)))
        self.left.remove(part)

    def _unwinds(self, part: Part, since: float) -> None:
        # The `open_runtime` block waits for the task, even if the runtime has declared the process dead.
        self.closes = max(self.closes, since + part.ticks)

    def _kill(self, at: float) -> None:
        """Expect the kill of all other processes."""
        for part in self.left.copy():
            takes = 0
            if part.kind == "resists":
                takes = min(part.ticks, self.plan.grace)
                self._unwinds(part, at)
            self._end_alone(part, at + takes, KILLED)
        for names in self.kids.values():
            self.ends += [(at, name, repr(KILLED)) for name in names]
        self.closes = max([self.closes, *(each[0] for each in self.ends)])


async def interrupts(seconds: float) -> None:
    """Raise KeyboardInterrupt, as Ctrl-C does."""
    await trio.sleep(seconds)
    raise KeyboardInterrupt


class Run:
    """One runtime that carries out a plan."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world, self.plan = world, plan
        self.made: list[int] = []
        self.diary: Diary
        self.runtime: Runtime
        self.began = trio.current_time()

    async def run(self) -> None:
        """Open the runtime, run the body, and return after the end of the block."""
        plan = self.plan
        limit = plan.ticks * TICK if plan.ends == "is cancelled" else math.inf
        with trio.move_on_after(limit):
            async with open_runtime(
                kill_grace=plan.grace * TICK, shutdown_deadline=plan.deadline * TICK, log=False
            ) as self.runtime:
                self.diary = Diary(self.runtime)
                await self.body()

    async def body(self) -> None:
        plan, queue = self.plan, self.runtime.from_threads
        for part in plan.parts:
            if "server" in part.kind:
                part.pid = await Desk.start(part, label=part.name)
            else:
                part.pid = spawn(part.run, label=part.name)
            if plan.calls:
                send_after(part.pid, "a late message", 1000.0)
        if plan.ends == "is interrupted":
            spawn(interrupts, plan.ticks * TICK, label="interrupter")
        if plan.ends in ("is interrupted", "is cancelled"):
            try:
                await trio.sleep_forever()
            finally:
                self.hand_over(queue)
        await trio.sleep(plan.ticks * TICK)
        self.hand_over(queue)
        if plan.ends == "raises":
            raise ValueError("the body")

    def hand_over(self, queue: Any) -> None:
        """Hand calls to the runtime at the last moment, as another thread may do."""
        for number in range(self.plan.calls):
            queue.put(self.made.append, number)

    def compare(self, model: Model, raised: type[BaseException] | None) -> None:
        """Compare the run with the model."""
        plan, world, who = self.plan, self.world, repr(self.plan)
        world.check(raised is model.raises, f"{who} raised {raised}; expected {model.raises}")
        took = (trio.current_time() - self.began) / TICK
        got = sorted(((at - self.began) / TICK, name, why) for at, name, why in self.diary.ends)
        expected = sorted(model.ends)
        for one, other in zip_longest(got, expected):
            world.check(
                one == other, f"in {who}, the end {_shown(one)} came; expected {_shown(other)}"
            )
        order = [name for _, name, _ in self.diary.ends if name in model.ordered]
        world.check(
            order == model.ordered, f"{who} stopped {order}; expected the order {model.ordered}"
        )
        world.check(
            took == model.closes,
            f"{who} closed after {took * TICK:g} s; expected {model.closes * TICK:g} s",
        )
        world.check(
            self.made == list(range(plan.calls)),
            f"{who} made {len(self.made)} calls of other threads; expected {plan.calls}",
        )
        self.nothing_is_left(who)
        killed = any(why == repr(KILLED) for _, _, why in model.ends)
        world.sometimes("a runtime killed processes at the end of its shutdown", killed)
        world.sometimes("an interrupt ended a runtime", raised is KeyboardInterrupt)

    def nothing_is_left(self, who: str) -> None:
        runtime = self.runtime
        counted = runtime.statistics()
        left = {key: counted[key] for key in ("processes", "names", "timers", "zombies")}
        self.world.check(not any(left.values()), f"{who} has closed, but it has {left}")
        pids = [
            pid for part in self.plan.parts for pid in (part.pid, *part.kids) if pid is not None
        ]
        self.world.check(not any(map(is_alive, pids)), f"{who} has closed, but {pids} live")
        for pid in pids:
            send(pid, "a message after the end")
        try:
            runtime.from_threads.put(self.made.append, -1)
        except RuntimeClosed:
            return
        self.world.check(False, f"{who} has closed, but takes calls of other threads")


def _shown(end: tuple[float, str, str] | None) -> str:
    return "none" if end is None else f"of {end[1]} at {end[0] * TICK:g} s with {end[2]}"


@scenario()
@small_bounds
async def runtimes(world: World) -> None:
    """Open and close four random runtimes, one after another."""
    stream = world.random("runtimes")
    for _ in range(4):
        await trio.sleep_until(math.ceil(trio.current_time() / TICK + 1) * TICK)
        run = Run(world, Plan(stream))
        try:
            model = Model(run.plan)
        except Ambiguous:
            continue
        raised: type[BaseException] | None = None
        try:
            await run.run()
        except (ValueError, KeyboardInterrupt, SystemExit) as error:
            raised = type(error)
        run.compare(model, raised)
