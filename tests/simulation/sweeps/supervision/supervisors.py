"""Random supervisors with random children. The sweep compares each event with a model.

Each run starts some supervisors, one after another. It ends children in all ways and sends all kinds of requests, also
while the supervisor restarts or stops children. `supervisor_model.py` predicts the events and their times.
"""

from __future__ import annotations

import math
from random import Random
from typing import Any

import trio
from attrs import evolve

from actors import Pid
from supervision import Supervisor, tree_of
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.supervision.diary import TICK, spec_of
from tests.simulation.sweeps.supervision.lockstep import ENDS, Lockstep, a_manner, some_options
from tests.simulation.sweeps.supervision.supervisor_model import Manner, Model, Op, Options

__all__ = ["supervisors"]

REQUESTS = ("terminate", "terminate", "restart", "restart", "delete", "which", "count", "spec")
# The ids of all children. There are few, so most children get the id of an earlier child.
IDS = ("a", "b", "c", "d", "e", "n1", "n2")


class Fixed(Lockstep):
    """A `Supervisor` under test."""

    def __init__(
        self, world: World, stream: Random, options: Options, manners: list[Manner]
    ) -> None:
        super().__init__(world, stream, options, Model(options, manners))
        self.manners = manners

    async def start(self) -> Pid:
        options = self.options
        return await Supervisor.start(
            [spec_of(manner, self.diary) for manner in self.manners],
            strategy=options.strategy,  # type: ignore[arg-type] # one of the strategies
            max_restarts=options.max_restarts,
            max_seconds=options.max_seconds * TICK,
            auto_shutdown=options.auto_shutdown,  # type: ignore[arg-type] # one of the settings
            backoff=self.backoff(),
            name="top",
        )

    def draw(self, at: int, ids: list[Any]) -> Op:
        stream = self.stream
        if stream.random() < 0.6:
            # The other ids include ids of children that have ended for good or that were deleted.
            others = stream.choice([*IDS, "nobody"])
            return Op(at, stream.choice(REQUESTS), stream.choice([*ids, *ids, others]))
        id = stream.choice(ids) if ids and stream.random() < 0.3 else stream.choice(IDS)
        manner = a_manner(stream, id, stream.choice(("never", self.options.auto_shutdown)))
        if stream.random() < 0.3:
            manner.significant = manner.restart != "permanent"
        return Op(at, "start", id, manner)

    async def ask(self, op: Op, top: Pid) -> Any:
        match op.verb:
            case "start":
                assert op.manner is not None
                return await Supervisor.start_child(top, spec_of(op.manner, self.diary))
            case "restart":
                return await Supervisor.restart_child(top, op.id)
            case "terminate":
                return await Supervisor.terminate_child(top, op.id)
            case "delete":
                return await Supervisor.delete_child(top, op.id)
        return (await Supervisor.get_childspec(top, op.id)).id

    def told(self) -> str:
        options = self.options
        children = ", ".join(f"{each.id} ({each.restart})" for each in self.manners)
        return f"the supervisor top ({options.strategy}, auto_shutdown={options.auto_shutdown}) of {children}"

    def check_rest(self, top: Pid) -> None:
        shown = [(each.id, each.status) for each in tree_of(top).children]
        expected = [
            (each.id, "running" if each.alive else "restarting" if each.retry else "stopped")
            for each in self.model.known()
        ]
        self.world.check(
            shown == expected, f"tree_of {self.told()} shows {shown}; expected {expected}"
        )


@scenario()
async def supervisors(world: World) -> None:
    """Run three random supervisors, each with its children, until they end or for some batches of operations."""
    stream = world.random("supervisors")
    for _ in range(3):
        await trio.sleep_until(math.ceil(trio.current_time() / TICK + 1) * TICK)
        options = some_options(stream)
        ids = "abcde"[: stream.randint(1, 5)]
        manners = [a_manner(stream, id, options.auto_shutdown) for id in ids]
        if stream.random() < 0.15:
            options = all_significant(options, manners)
        for manner in manners:
            if manner.traps and manner.slow != 0 and stream.random() < 0.4:
                # Only a slow child may end a sibling. Otherwise the model would not know which child ends first.
                sibling = stream.choice([id for id in "abcde" if id != manner.id])
                manner.pushes = sibling, stream.choice(ENDS)
        await Fixed(world, stream, options, manners).live(stream.randint(2, 6))


def all_significant(options: Options, manners: list[Manner]) -> Options:
    """Make all children significant, so that some wait for a restart when others end."""
    for manner in manners:
        manner.restart, manner.significant = "transient", True
    return evolve(
        options, strategy="one_for_one", auto_shutdown="all_significant", initial=10, maximum=20
    )
