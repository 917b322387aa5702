"""Chains of supervisors. The crashes of one worker escalate in the chain, and a model counts all restarts."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import trio
from attrs import define, field

from actors import GenServer, Pid, cast, is_alive, stop, wait_exit, whereis
from supervision import ChildSpec, Supervisor, child_spec
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.supervision.diary import TICK, now, short

__all__ = ["nested_supervisors"]


class Counted(GenServer[None]):
    """A child that counts its starts."""

    async def init(self, starts: dict[str, int], id: str) -> None:
        starts[id] = starts.get(id, 0) + 1

    async def handle_cast(self, message: Any) -> None:
        raise ValueError(message)


@define(eq=False)
class Level:
    """One supervisor. It has two children: the level below or the worker, and a sibling."""

    number: int
    max_restarts: int
    max_seconds: int
    strategy: Any
    # The restart type of this supervisor under the level above it.
    restart: Any
    auto_shutdown: Any
    attempts: list[int] = field(factory=list)

    def admits(self, now: int) -> bool:
        self.attempts = [at for at in self.attempts if now - at <= self.max_seconds]
        self.attempts.append(now)
        return len(self.attempts) <= self.max_restarts

    def __repr__(self) -> str:
        return (
            f"level {self.number} ({self.restart}, {self.strategy}, {self.max_restarts} restarts in "
            f"{self.max_seconds * TICK:g} s, auto_shutdown={self.auto_shutdown})"
        )


class Chain:
    """A chain of supervisors above one worker. Level 0 is the supervisor of the worker."""

    def __init__(self, stream: Random) -> None:
        self.levels = [
            Level(
                number,
                stream.choice((0, 1, 1, 2, 3)),
                stream.choice((2, 4, 10, 20)),
                stream.choice(("one_for_one", "one_for_all", "rest_for_one")),
                stream.choice(("permanent", "permanent", "permanent", "transient")),
                stream.choice(("never", "any_significant", "all_significant")),
            )
            for number in range(stream.randint(1, 4))
        ]
        self.expected: dict[str, int] = {}
        self.starts: dict[str, int] = {}
        self.runs = True
        self.ended: str | None = None
        self.boots(len(self.levels) - 1)

    def boots(self, number: int) -> None:
        """Expect the start of a level, of all levels below it, and of the worker."""
        for level in self.levels[: number + 1]:
            level.attempts = []
            self.starts_one(f"sibling {level.number}")
        self.starts_one("worker")

    def starts_one(self, id: str) -> None:
        self.expected[id] = self.expected.get(id, 0) + 1

    def crashes(self, now: int) -> None:
        """Expect all effects of a crash of the worker."""
        clean = False
        for level in self.levels:
            below = self.levels[level.number - 1] if level.number else None
            if clean and below is not None and below.restart == "transient":
                # The supervisor below has given up, which is a clean end. So this level does not restart it.
                if level.auto_shutdown == "never":
                    self.runs = False
                    return
                continue
            if level.admits(now):
                if below is None:
                    self.starts_one("worker")
                else:
                    self.boots(below.number)
                if level.strategy != "one_for_one":
                    self.starts_one(f"sibling {level.number}")
                return
            clean = True
        self.runs, self.ended = False, "shutdown"

    def spec(self, number: int) -> list[ChildSpec]:
        """Return the children of a level."""
        level = self.levels[number]
        sibling = child_spec(
            Counted, self.starts, f"sibling {number}", id="sibling", shutdown="brutal_kill"
        )
        if number == 0:
            worker = child_spec(Counted, self.starts, "worker", id="w", kwargs={"name": "worker"})
            return [worker, sibling]
        below = self.levels[number - 1]
        significant = below.restart == "transient" and level.auto_shutdown != "never"
        options = self.options(below)
        child = Supervisor.child_spec(
            self.spec(number - 1),
            id="below",
            restart=below.restart,
            significant=significant,
            **options,
        )
        return [child, sibling]

    def options(self, level: Level) -> dict[str, Any]:
        return {
            "strategy": level.strategy,
            "max_restarts": level.max_restarts,
            "max_seconds": level.max_seconds * TICK,
            "auto_shutdown": level.auto_shutdown,
        }


@scenario()
async def nested_supervisors(world: World) -> None:
    """Crash the worker of four random chains at random times, often exactly at the end of a restart window."""
    stream = world.random("nested")
    for _ in range(4):
        await trio.sleep_until(math.ceil(trio.current_time() / TICK + 1) * TICK)
        await run_chain(world, stream)


async def run_chain(world: World, stream: Random) -> None:
    chain = Chain(stream)
    top = await Supervisor.start(
        chain.spec(len(chain.levels) - 1), **chain.options(chain.levels[-1])
    )
    reasons: list[str] = []
    crashes: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, top, reasons)
        for _ in range(stream.randint(3, 16)):
            wait = stream.choice((0, 1, 1, 2, stream.choice(chain.levels).max_seconds))
            await trio.sleep_until((now(world) + wait) * TICK)
            if not chain.runs:
                break
            chain.crashes(now(world))
            crashes.append(now(world) * TICK)
            cast("worker", "crash")
            await world.settle()
            compare(world, chain, top, reasons, crashes)
        world.sometimes("a crash ended a chain of supervisors", chain.ended is not None)
        world.sometimes("a crash escalated", chain.expected["worker"] > 1 + len(chain.levels))
        if is_alive(top):
            await stop(top)


async def watch(top: Pid, reasons: list[str]) -> None:
    reasons.append(short(await wait_exit(top)))


def compare(world: World, chain: Chain, top: Pid, reasons: list[str], crashes: list[float]) -> None:
    told = f"after crashes at {crashes} s, the chain {chain.levels}"
    for id, count in chain.expected.items():
        got = chain.starts.get(id, 0)
        world.check(got == count, f"{told} has started {id!r} {got} times; expected {count}")
    ended = [] if chain.ended is None else [chain.ended]
    world.check(reasons == ended, f"{told} has ended with {reasons}; expected {ended}")
    runs = whereis("worker") is not None
    world.check(runs == chain.runs, f"{told}: the worker runs: {runs}; expected {chain.runs}")
