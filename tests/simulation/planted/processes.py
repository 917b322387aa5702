"""Bugs in the runtime: monitors, calls, names, exit signals."""

from __future__ import annotations

import math
from typing import Any

import trio

from actors import (
    CallExit,
    GenServer,
    Pid,
    Registry,
    call,
    cast,
    current_pid,
    demonitor,
    monitor,
    send,
    whereis,
)
from actors._calls import Sender
from actors._kernel.current import Monitor
from actors._kernel.runtime import Process, Runtime
from actors.exits import KILLED, ExitReason
from actors.messages import Down
from actors.registry.registry import RegistryState
from actors.small_set import items_of
from supervision import child_spec
from supervision.laboratory.chaos.faults.plan import Storm
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.planted.ground import grow, worker
from tests.simulation.planted.planting import Planted, planted

__all__ = ["BUGS"]

THREE = ("a", "b", "c")
WORKERS = [f"/top/{name}" for name in THREE]


# Monitors


_down = Monitor.down


def _for_each_of_its_monitors(self: Monitor, pid: Pid, reason: ExitReason) -> None:
    _down(self, pid, reason)
    others = items_of(self.watcher.watching)
    if not self.watcher.dead and any(other.target is pid for other in others):
        # The bug: an owner with two monitors on the same process gets the first `Down` twice.
        self.watcher.mailbox.put(Down(self, pid, reason, self.name))


class Watcher(GenServer[dict[Any, None]]):
    """A server that monitors workers on request, and demonitors some."""

    async def init(self) -> None:
        self.state = {}

    async def handle_cast(self, message: Any) -> None:
        if message == "forget" and self.state:
            demonitor(self.state.popitem()[0])
        elif message in THREE:
            self.state[monitor(message)] = None

    async def handle_info(self, message: Any) -> None:
        self.state.pop(getattr(message, "ref", None), None)


async def _watch(world: World, seconds: float) -> None:
    chance = world.random("watching")
    while world.seconds < seconds:
        cast("watcher", chance.choice([*THREE, "forget", "forget", "forget"]))
        await trio.sleep(chance.random())


@scenario(faults=Storm(WORKERS, count=8, within=10.0))
async def a_monitor_that_fires_twice(world: World) -> None:
    with planted((Monitor, "down", _for_each_of_its_monitors)):
        await grow(*map(worker, THREE), child_spec(Watcher, kwargs={"name": "watcher"}))
        await _watch(world, 12)


def _not_to_the_busy(self: Monitor, pid: Pid, reason: ExitReason) -> None:
    # The bug: the author did not want to disturb a busy process.
    if len(self.watcher.mailbox) == 0:
        _down(self, pid, reason)


@scenario(faults=Storm([*WORKERS, "/top/watcher"], count=12, within=10.0, kinds=("kill", "slow")))
async def a_monitor_that_does_not_fire(world: World) -> None:
    with planted((Monitor, "down", _not_to_the_busy)):
        await grow(*map(worker, THREE), child_spec(Watcher, kwargs={"name": "watcher"}))
        await _watch(world, 12)


# Calls


_sender_down = Sender.down


def _not_when_killed(self: Sender, pid: Pid, reason: ExitReason) -> None:
    if reason is not KILLED:
        _sender_down(self, pid, reason)


@scenario(faults=Storm(WORKERS, count=6, within=10.0, kinds=("kill", "crash")))
async def a_call_that_never_ends(world: World) -> None:
    """Call a server without a time limit. Something kills the server meanwhile."""
    chance = world.random("questions")

    async def ask() -> None:
        while world.seconds < 10:
            name = chance.choice(THREE)
            try:
                await call(name, chance.choice(["question", "later"]), timeout=math.inf)
            except CallExit:
                world.sometimes("a call failed")
            await trio.sleep(chance.random())

    async def answer() -> None:
        while world.seconds < 11:
            await trio.sleep(chance.random())
            cast(chance.choice(THREE), "here it is")

    with planted((Sender, "down", _not_when_killed)):
        await grow(*map(worker, THREE))
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
            nursery.start_soon(answer)
            nursery.cancel_scope.deadline = 20


# Names


_ends = Registry._process_ends


def _by_key(self: Registry[Any, Any], process: Process, state: RegistryState[Any, Any]) -> None:
    had = tuple(_had.get((process.pid, self), ()))
    _ends(self, process, state)
    # The bug: this drops every key that the process once had, even if another process has it now.
    for key in had:
        for entry in state.table.lookup(key):
            state.table.remove(key, entry.pid)


_had: dict[Any, list[Any]] = {}
_add = Registry._add


def _add_and_remember(
    self: Registry[Any, Any], process: Process, key: Any, value: Any
) -> Pid | None:
    holder = _add(self, process, key, value)
    if holder is None:
        _had.setdefault((process.pid, self), []).append(key)
    return holder


class Mover(GenServer[Any]):
    """A server with two keys of a registry. It changes the first key and keeps the second."""

    async def init(self, rooms: Registry[str, None], own: str) -> None:
        self.state = rooms
        rooms.register(f"own {own}")

    async def handle_cast(self, message: Any) -> None:
        self.state.unregister(message)
        if self.state.whereis(message) is None:
            self.state.register(message)
        else:
            self.state.unregister(message)

    async def handle_info(self, message: Any) -> None:
        rooms = self.state
        for key in [*rooms.keys(current_pid())]:
            if not key.startswith("own"):
                rooms.unregister(key)


@scenario(faults=Storm(WORKERS, count=6, within=10.0))
async def a_registry_that_forgets_by_key(world: World) -> None:
    rooms: Registry[str, None] = Registry("unique", name="rooms")
    chance = world.random("moves")
    _had.clear()
    with planted((Registry, "_process_ends", _by_key), (Registry, "_add", _add_and_remember)):
        await grow(
            *(child_spec(Mover, rooms, name, id=name, kwargs={"name": name}) for name in THREE)
        )
        while world.seconds < 12:
            await trio.sleep(chance.random() / 2)
            name = chance.choice(THREE)
            if (pid := whereis(name)) is not None:
                if chance.random() < 0.5:
                    cast(pid, chance.choice(["x", "y"]))
                else:
                    send(pid, "leave")


# Exit signals


_accept = Runtime._accept


def _after_the_mail(self: Runtime, process: Process, reason: ExitReason) -> None:
    if len(process.mailbox) and reason is not KILLED and not process.dying:
        # The bug: the process first reads its mailbox, and ends a moment later.
        self.timers.at(trio.current_time(), lambda: _accept(self, process, reason))
    else:
        _accept(self, process, reason)


class Reader(GenServer[int]):
    """Receive messages without trapping exits."""

    async def init(self) -> None:
        self.state = 0

    async def handle_cast(self, message: Any) -> None:
        self.state += 1
        await trio.sleep(0.3)

    async def handle_info(self, message: Any) -> None:
        """Do nothing."""


@scenario(
    faults=Storm(
        ["/top/reader"], count=6, within=10.0, kinds=("exit_with", "exit_with", "fill_mailbox")
    )
)
async def a_message_that_is_handled_after_death(world: World) -> None:
    chance = world.random("letters")
    with planted((Runtime, "_accept", _after_the_mail)):
        await grow(child_spec(Reader, kwargs={"name": "reader"}, id="reader"), worker("a"))
        while world.seconds < 12:
            cast("reader", "letter")
            await trio.sleep(chance.random())


BUGS = (
    Planted(
        name="a monitor fires twice for an owner of two",
        scenario=a_monitor_that_fires_twice,
        failure="invariant monitors",
    ),
    Planted(
        name="a monitor does not fire for a busy owner",
        scenario=a_monitor_that_does_not_fire,
        failure="invariant monitors",
    ),
    Planted(
        name="a call without a limit does not end when its server is killed",
        scenario=a_call_that_never_ends,
        failure="invariant calls_end",
    ),
    Planted(
        name="a registry forgets by key, and not by process",
        scenario=a_registry_that_forgets_by_key,
        failure="invariant names",
    ),
    Planted(
        name="a process handles messages after a fatal exit signal",
        scenario=a_message_that_is_handled_after_death,
        failure="invariant dead_handle_nothing",
    ),
)
