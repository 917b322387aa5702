"""A small system on which every fault is tried, in a simulated world and on a live runtime alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import trio
import trio.testing
from attrs import define, field

from actors import (
    CallExit,
    Crash,
    ExitReason,
    GenServer,
    Instrument,
    Pid,
    Reply,
    Runtime,
    Sender,
    call,
    cast,
    open_runtime,
    receive,
    send,
    trap_exits,
    whereis,
)
from supervision import Supervisor, child_spec, process_spec
from supervision.laboratory.chaos.errors import InjectedCrash
from supervision.laboratory.chaos.faults.kinds import Fault
from supervision.laboratory.chaos.faults.report import FaultReport
from supervision.laboratory.chaos.injection.injector import Injector
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.world.world import World
from supervision.recording.places import Places
from tests.laws.scenarios import simulate


@define(kw_only=True)
class Seen:
    """The observations of the system."""

    reports: tuple[FaultReport, ...] = ()
    handled: list[tuple[float, str, Any]] = field(factory=list)
    """The callbacks of /top/store: time, callback, argument."""
    heard: list[tuple[float, Any]] = field(factory=list)
    """The messages of /top/ear, a plain process: time, message."""
    exits: list[tuple[float, str, ExitReason]] = field(factory=list)
    """When, which place, why."""
    answers: list[Any] = field(factory=list)
    """Of calls: an answer, or an exception."""
    clock: list[float] = field(factory=list)
    """The time of day, in seconds since the beginning, once a second."""
    zombies: int = 0

    @property
    def report(self) -> FaultReport:
        """The result of the one fault."""
        (report,) = self.reports
        return report

    def of(self, callback: str) -> list[Any]:
        """Return the arguments of one callback of the store."""
        return [what for _, name, what in self.handled if name == callback]

    def times(self, callback: str) -> list[float]:
        """Return the times of the calls of a callback."""
        return [seconds for seconds, name, _ in self.handled if name == callback]

    def ends(self, place: str) -> list[ExitReason]:
        """Return the exit reasons of the processes at a path."""
        return [reason for _, where, reason in self.exits if where.startswith(f"{place}#")]


class Store(GenServer[int]):
    """Notes everything."""

    async def init(self, seen: Seen, traps: bool) -> None:
        self.seen = seen
        self.state = 0
        if traps:
            trap_exits()
        self.note("init", None)

    def note(self, callback: str, what: Any) -> None:
        self.seen.handled.append((trio.current_time(), callback, what))

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        self.note("handle_call", request)
        return Reply(request)

    async def handle_cast(self, message: Any) -> None:
        self.note("handle_cast", message)

    async def handle_info(self, message: Any) -> None:
        self.note("handle_info", message)

    async def terminate(self, reason: object) -> None:
        self.note("terminate", reason)


async def ear(seen: Seen) -> None:
    while True:
        message = await receive()
        seen.heard.append((trio.current_time(), message))


class Ends(Instrument):
    def __init__(self, seen: Seen, where: Callable[[Pid], str]) -> None:
        self.seen = seen
        self.where = where

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self.seen.exits.append((trio.current_time(), self.where(pid), reason))


async def play(seen: Seen, injector: Injector, runtime: Runtime, *, traps: bool) -> None:
    """Ten seconds: a cast to the store and a message to the ear every 0.1 s, a call every 0.5 s; healed at 8 s."""
    began = runtime.now()

    def where(pid: Pid) -> str:
        place = places.was_at(pid)
        return str(place)

    places = Places(runtime)
    runtime.add_instrument(Ends(seen, where))
    await Supervisor.start(
        [
            child_spec(Store, seen, traps, id="store", kwargs={"name": "store"}),
            process_spec(ear, seen, id="ear"),
            child_spec(Supervisor, [], id="inner", kwargs={}),
        ],
        name="top",
        max_restarts=1000,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ask, seen)
        nursery.start_soon(_feed, places)
        for second in range(8):
            seen.clock.append(round(runtime.now() - began, 3))
            await trio.sleep(1)
            if second == 1 and (inner := places.find("/top/inner")):
                send(inner, "hello")
        injector.heal()
        await trio.sleep(2)
    await injector.finished()
    seen.zombies = runtime.statistics()["zombies_ever"]


async def _ask(seen: Seen) -> None:
    for number in range(20):
        try:
            seen.answers.append(await call("store", ("get", number), timeout=0.45))
        except CallExit as error:
            seen.answers.append(error)
        await trio.sleep_until((number + 1) * 0.5)


async def _feed(places: Places) -> None:
    for number in range(1, 95):
        await trio.sleep_until(number * 0.1)
        cast("store", ("put", number))
        pid = places.find("/top/ear")
        if pid is not None:
            send(pid, ("say", number))


def simulated(plan: Sequence[Fault], *, traps: bool = False, **knobs: Any) -> Seen:
    """Play in a simulated world."""
    return staged(plan, traps=traps, **knobs)[0]


def staged(
    plan: Sequence[Fault], *, traps: bool = False, seed: int = 1, **knobs: Any
) -> tuple[Seen, Outcome]:
    """Play in a simulated world, and return the observations and the outcome."""
    seen = Seen()

    async def scenario(world: World) -> None:
        await play(seen, world.faults, world.runtime, traps=traps)

    outcome = simulate(scenario, seed, faults=plan, knobs=Knobs(quantum=0.0, **knobs))
    seen.reports = outcome.fault_reports
    return seen, outcome


def live(plan: Sequence[Fault], *, traps: bool = False) -> Seen:
    """Play on an ordinary runtime, with a clock that jumps."""
    seen = Seen()
    clock = trio.testing.MockClock(autojump_threshold=0)

    async def main() -> None:
        async with open_runtime(log=False) as runtime:
            injector = Injector(runtime, Places(runtime), stall=clock.jump)
            injector.start(plan)
            try:
                await play(seen, injector, runtime, traps=traps)
            finally:
                injector.close()
            seen.reports = injector.report()

    trio.run(main, clock=clock)
    return seen


def is_injected(reason: ExitReason) -> bool:
    """Return True if an injected crash ended a process."""
    return isinstance(reason, Crash) and isinstance(reason.exception, InjectedCrash)


def store() -> Pid:
    """The store's pid."""
    pid = whereis("store")
    assert pid is not None
    return pid
