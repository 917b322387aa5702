"""Killed processes that hold something and do not end: names, keys, locks, aliases, monitors, links, timers and calls.

    ashtree simulate tests.simulation.sweeps.zombies:zombies --seeds 1-1000

A killed process gets the kill grace to unwind. Then the runtime declares it dead, and everything that it held must be
free at that moment, once. The task of the zombie goes on. It must not get anything new, and its late clean-up must not
take anything from the successors that have the same name, key or lock now.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import trio
from attrs import define, field

from actors import (
    KILLED,
    CallExit,
    Down,
    Exit,
    GenServer,
    Pid,
    ProcessKilled,
    Registry,
    Reply,
    alias,
    call,
    current_pid,
    is_alive,
    kill,
    link,
    monitor,
    on_exit,
    receive,
    register,
    send,
    send_every,
    spawn,
    trap_exits,
    unregister,
    whereis,
)
from supervision import ChildSpec, Supervisor
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario

__all__ = ["zombies"]

THINGS = ("name", "key", "entry", "lock", "alias", "target", "watcher", "linked", "timer")
# The seconds around a moment at which something must not have happened, and must have happened.
MOMENT = 0.01


@define(eq=False)
class Round:
    """One holder, and the processes around it.

    Attributes:
        things: what the holder holds.
        stubborn: the seconds for which its task goes on after the kill.
        heard: what the watching process has received.
        cleaned: how often the `on_exit` function of the holder has run.
    """

    world: World
    things: frozenset[str]
    stubborn: float
    keys: Registry[Any, Any]
    entries: Registry[Any, Any]
    number: int
    holder: Pid | None = None
    target: Pid | None = None
    alias: Any = None
    watcher: Pid | None = None
    heard: list[Any] = field(factory=list)
    cleaned: list[float] = field(factory=list)
    got_lock: float | None = None
    successor_ends: trio.Event = field(factory=trio.Event)
    is_ready: trio.Event = field(factory=trio.Event)
    ended: float | None = None
    refused: list[str] = field(factory=list)
    allowed: list[str] = field(factory=list)

    @property
    def name(self) -> str:
        return f"name {self.number % 2}"

    @property
    def key(self) -> Any:
        return ("key", self.number % 2)

    def check(self, holds: object, problem: str) -> None:
        held = ", ".join(sorted(self.things)) or "nothing"
        self.world.check(holds, f"the process {self.holder!r}, which held {held}: {problem}")

    # The holder

    async def hold(self) -> None:
        """Take all things, wait for the kill, and go on for a while."""
        things = self.things
        async with AsyncExitStack() as stack:
            if "name" in things:
                register(self.name, current_pid())
            if "key" in things:
                self.keys.register(self.key, "holder")
            if "entry" in things:
                self.entries.register(self.key, "holder")
            if "lock" in things:
                await stack.enter_async_context(self.keys.lock(self.key))
            if "alias" in things:
                self.alias = alias()
            if "target" in things and self.target is not None:
                monitor(self.target)
            if "timer" in things:
                send_every(current_pid(), "tick", 0.5)
            on_exit(lambda: self.cleaned.append(trio.current_time()))
            self.is_ready.set()
            try:
                while True:
                    await receive()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(self.stubborn)
                self.use_the_runtime()
        self.ended = trio.current_time()

    def use_the_runtime(self) -> None:
        """Try what a zombie must not do."""
        if self.holder is not None and is_alive_for(self.world, self.holder):
            return
        watcher = self.watcher
        assert watcher is not None
        tries: dict[str, Callable[[], Any]] = {
            "send": lambda: send(watcher, "from a zombie"),
            "register": lambda: register("a zombie's name", current_pid()),
            "a key": lambda: self.keys.register("a zombie's key", None),
            "an entry": lambda: self.entries.register("a zombie's key", None),
            "unregister": lambda: self.keys.unregister(self.key),
            "monitor": lambda: monitor(watcher),
            "link": lambda: link(watcher),
            "spawn": lambda: spawn(trio.sleep_forever, label="a zombie's child"),
            "kill": lambda: kill(watcher),
            "an alias": alias,
            "a timer": lambda: send_every(watcher, "from a zombie", 0.1),
        }
        for what, verb in tries.items():
            try:
                verb()
            except ProcessKilled:
                self.refused.append(what)
        self.allowed = [what for what in tries if what not in self.refused]

    # The processes around it

    async def watch(self) -> None:
        trap_exits()
        assert self.holder is not None
        if "watcher" in self.things:
            monitor(self.holder)
        if "linked" in self.things:
            link(self.holder)
        while True:
            self.heard.append(await receive())

    async def succeed(self) -> None:
        """Wait for the lock, and hold it until the round ends."""
        async with self.keys.lock(self.key):
            self.got_lock = trio.current_time()
            await self.successor_ends.wait()

    async def inherit(self) -> None:
        """Take the name and the keys of the holder, and keep them until the round ends."""
        register(self.name, current_pid())
        self.keys.register(self.key, "successor")
        self.entries.register(self.key, "successor")
        await self.successor_ends.wait()

    # The round

    async def run(self) -> None:
        world, runtime = self.world, self.world.runtime
        timers = runtime.statistics()["timers"]
        self.target = spawn(trio.sleep_forever, label="target")
        self.holder = spawn(self.hold, label="holder")
        await self.is_ready.wait()
        self.watcher = spawn(self.watch, label="watcher")
        waiter = spawn(self.succeed, label="waiter")
        await world.settle()
        began = trio.current_time()
        kill(self.holder)
        grace = runtime.kill_grace
        end = began + min(self.stubborn, grace)
        slack = world.knobs.quantum + MOMENT
        if min(self.stubborn, grace) > 2 * slack:
            await trio.sleep_until(end - slack)
            self.compare_held()
        await trio.sleep_until(end + slack)
        await world.settle()
        self.compare_freed(end + slack)
        self.check(
            runtime.statistics()["timers"] == timers, f"{runtime.statistics()} after its end"
        )
        heir = spawn(self.inherit, label="heir")
        await world.settle()
        is_zombie = self.stubborn > grace
        world.sometimes("a zombie held something", is_zombie and self.things)
        self.compare_heir(heir, waiter)
        await trio.sleep_until(max(end, began + self.stubborn) + 2 * slack)
        await world.settle()
        self.compare_heir(heir, waiter)
        # The zombie itself must not check this, because nobody would get its exception.
        self.check(not self.allowed, f"as a zombie, it was not refused {self.allowed}")
        self.check(bool(self.refused) == is_zombie, f"it was refused {self.refused}")
        self.check(len(self.cleaned) <= 1, f"its clean-up ran at {self.cleaned}")
        self.check(runtime.process_info(self.holder) is None, "it is still in the table")
        self.check("from a zombie" not in self.heard, "it sent a message as a zombie")
        self.check(whereis("a zombie's name") is None, "it got a name as a zombie")
        self.check(not self.keys.lookup("a zombie's key"), "it got a key as a zombie")
        self.successor_ends.set()
        for pid in (self.target, self.watcher):
            kill(pid)
        await world.settle()

    def compare_held(self) -> None:
        """Check that the holder still has everything during the kill grace."""
        holder = self.holder
        assert holder is not None
        self.check(is_alive(holder), "it was declared dead before the end of the kill grace")
        self.check("name" not in self.things or whereis(self.name) is holder, "its name is free")
        self.check(
            "key" not in self.things or self.keys.whereis(self.key) is holder, "its key is free"
        )
        self.check("lock" not in self.things or self.got_lock is None, "its lock is free")
        self.check(not self.heard, f"its end was reported early: {self.heard}")

    def compare_freed(self, now: float) -> None:
        """Check that everything is free now, and that the end was reported once."""
        holder, graph = self.holder, self.world.runtime.graph
        assert holder is not None
        self.check(not is_alive(holder), "it still counts as alive after the kill grace")
        self.check(whereis(self.name) is None, f"its name belongs to {whereis(self.name)!r}")
        self.check(not self.keys.lookup(self.key), f"its key has {self.keys.lookup(self.key)}")
        self.check(not self.entries.lookup(self.key), "its entry is still there")
        self.check(self.got_lock is not None, f"its lock is taken at {now:g} s")
        if self.alias is not None:
            self.check(whereis(self.alias) is None, "its alias still has an owner")
        assert self.target is not None
        left = graph.watchers_of(self.target)
        self.check(not left, f"its monitor {left} is still there")
        self.check(not graph.links_of(holder), "it still has links")
        downs: list[Any] = [each for each in self.heard if type(each) is Down]
        exits: list[Any] = [each for each in self.heard if type(each) is Exit]
        self.check(len(downs) == ("watcher" in self.things), f"it caused the messages {downs}")
        self.check(len(exits) == ("linked" in self.things), f"it caused the messages {exits}")
        reasons: set[Any] = {each.reason for each in (*downs, *exits)}
        self.check(reasons <= {KILLED}, f"it ended with {reasons}")

    def compare_heir(self, heir: Pid, waiter: Pid) -> None:
        """Check that the successors have what the holder had."""
        self.check(whereis(self.name) is heir, f"its name belongs to {whereis(self.name)!r}")
        self.check(self.keys.whereis(self.key) is heir, f"its key has {self.keys.lookup(self.key)}")
        entries = [each.pid for each in self.entries.lookup(self.key)]
        self.check(entries == [heir], f"its entry belongs to {entries}")
        self.check(is_alive(waiter) and is_alive(heir), "its successors have ended")
        self.check(self.got_lock is not None, "its lock went back to it")


def is_alive_for(world: World, pid: Pid) -> bool:
    """Return True if a process is in the table. A zombie may not ask with `is_alive`."""
    return world.runtime.process_info(pid) is not None


async def exclusion(world: World, registry: Registry[Any, Any], stream: Random) -> None:
    """Let several holders of one lock become zombies, one after another. Check that the lock excludes."""
    holding: list[str] = []
    order: list[str] = []

    async def hold(label: str, stubborn: float) -> None:
        async with registry.lock("shared"):
            # A holder that was declared dead holds nothing any more.
            living = [each for each in holding if is_alive_for(world, pids[each])]
            world.check(not living, f"{label} got the lock of {living}")
            holding.append(label)
            order.append(label)
            try:
                await trio.sleep(stream.choice((0.1, 1.0)))
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(stubborn)
                holding.remove(label)

    grace = world.runtime.kill_grace
    pids: dict[str, Pid] = {}
    for number in range(5):
        label = f"holder {number}"
        stubborn = stream.choice((0.0, 0.0, grace / 2, 2 * grace))
        pids[label] = spawn(hold, label, stubborn, label=label)
    for _ in range(4):
        await trio.sleep(stream.choice((0.05, 0.5, grace)))
        victims = [pid for pid in pids.values() if is_alive(pid)]
        if victims:
            kill(stream.choice(victims))
    await trio.sleep(20 * grace + 10)
    await world.settle()
    world.check(not holding, f"{holding} still hold the lock")
    left = [label for label, pid in pids.items() if is_alive(pid)]
    world.check(not left, f"{left} wait for a lock that is free; it was taken by {order}")


class Stuck(GenServer[None]):
    """A server that does not end when it is killed, if a call tells it to resist."""

    async def init(self, stubborn: float) -> None:
        self.stubborn = stubborn

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        if request == "count":
            return Reply(1)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.stubborn)


async def children(world: World, stream: Random) -> None:
    """Let a child of a supervisor become a zombie. Check its callers, and its successor with the same id and name."""
    grace = world.runtime.kill_grace
    stubborn = grace * stream.choice((0.5, 1.5, 3))
    shutdown: Any = stream.choice((0.5, "brutal_kill"))
    spec = ChildSpec(
        "stuck", Stuck.start_link, (stubborn,), kwargs={"name": "stuck"}, shutdown=shutdown
    )
    top = await Supervisor.start([spec], max_restarts=5, label="top")
    first = whereis("stuck")
    assert first is not None
    answers: list[tuple[float, str]] = []

    async def ask() -> None:
        try:
            await call(first, "resist", timeout=1000)
            answers.append((trio.current_time(), "answered"))
        except CallExit as error:
            answers.append((trio.current_time(), repr(error.reason)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await world.settle()
        began = trio.current_time()
        is_stopped = stream.random() < 0.5
        if is_stopped:
            await Supervisor.terminate_child(top, "stuck")
            await Supervisor.restart_child(top, "stuck")
        else:
            kill(first)
        # The first fatal signal decides the reason, and the kill grace begins with it.
        reason = "SHUTDOWN" if is_stopped and shutdown == 0.5 else "KILLED"
        due = began + min(grace, stubborn)
        await trio.sleep_until(due + 0.1)
        await world.settle()
        world.check(
            [each[1] for each in answers] == [reason] and abs(answers[0][0] - due) < 0.1,
            f"the caller of a killed server got {answers}; it was due at {due:g} s",
        )
    for moment in ("after the end of the first child", "after the end of its task"):
        second = whereis("stuck")
        world.check(
            second is not None and second is not first,
            f"{moment}, the name of the child belongs to {second!r}",
        )
        world.check(
            second is not None and await call(second, "count") == 1,
            f"{moment}, the second child does not answer",
        )
        counts = await Supervisor.count_children(top)
        world.check(
            (counts.specs, counts.active) == (1, 1), f"{moment}, the supervisor counts {counts}"
        )
        await trio.sleep(stubborn + 1)
    kill(top)
    await trio.sleep(3 * grace)


@scenario(invariants=())
async def zombies(world: World) -> None:
    """Run some holders one after another, with successors for everything that they hold."""
    stream = world.random("zombies")
    world.runtime.kill_grace = grace = stream.choice((0.3, 1.0, 5.0))
    keys: Registry[Any, Any] = Registry("unique", name="keys")
    entries: Registry[Any, Any] = Registry(
        "duplicate", name="entries", partitions=stream.choice((1, 3))
    )
    for number in range(4):
        things = frozenset(each for each in THINGS if stream.random() < 0.6)
        stubborn = grace * stream.choice((0, 0.5, 1.5, 2, 4))
        await Round(world, things, stubborn, keys, entries, number).run()
    what = stream.randrange(3)
    if what == 0:
        await exclusion(world, keys, stream)
    elif what == 1:
        await children(world, stream)
    unregister("nobody")
