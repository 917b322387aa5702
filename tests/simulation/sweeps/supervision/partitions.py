"""Random partition supervisors that grow and shrink. The sweep compares each event and each route with a model."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import trio
from attrs import evolve

from actors import NoProcess, Pid, whereis
from supervision import (
    NoPartitions,
    PartitionSupervisor,
    partition,
    which_partition,
)
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.supervision.diary import TICK, now, spec_of
from tests.simulation.sweeps.supervision.lockstep import Lockstep, a_manner, some_options
from tests.simulation.sweeps.supervision.partition_model import PartitionModel
from tests.simulation.sweeps.supervision.supervisor_model import Manner, Op, Options

__all__ = ["partition_supervisors"]


class Partitioned(Lockstep):
    """A `PartitionSupervisor` under test."""

    def __init__(
        self, world: World, stream: Random, options: Options, manners: list[Manner]
    ) -> None:
        super().__init__(world, stream, options, PartitionModel(options, manners))
        self.manners = manners

    async def start(self) -> Pid:
        options, manners, diary = self.options, self.manners, self.diary
        return await PartitionSupervisor.start(
            spec_of(manners[0], diary),
            name="parts",
            partitions=len(manners),
            with_arguments=lambda args, number: (manners[number], *args[1:]),
            strategy=options.strategy,  # type: ignore[arg-type] # one of the strategies
            max_restarts=options.max_restarts,
            max_seconds=options.max_seconds * TICK,
            backoff=self.backoff(),
        )

    def draw(self, at: int, ids: list[Any]) -> Op:
        stream, most = self.stream, len(self.manners)
        what = stream.random()
        if what < 0.5:
            return Op(at, "resize", stream.randint(0, most))
        if what < 0.53:
            return Op(at, "resize", stream.choice((-1, most + 1)))
        if what < 0.8:
            return Op(at, "route")
        return Op(at, stream.choice(("which", "count", "spec")), stream.choice([*ids, "nobody"]))

    async def ask(self, op: Op, top: Pid) -> Any:
        if op.verb == "resize":
            return await PartitionSupervisor.resize("parts", op.id)
        if op.verb == "route":
            return self._routes()
        return (await PartitionSupervisor.get_childspec(top, op.id)).id

    def _routes(self) -> Any:
        """Return the process for each key from 0. It is None for a process that does not run."""
        try:
            found = []
            for key in range(PartitionSupervisor.partitions("parts") + 2):
                pid = self._route(key)
                self.world.check(
                    whereis(partition("parts", key)) is pid,
                    f"which_partition finds {pid!r} for the key {key} of {self.told()}, and whereis "
                    f"{whereis(partition('parts', key))!r}",
                )
                found.append(self.diary.name(pid))
        except NoPartitions:
            return "NoPartitions"
        return found

    def _route(self, key: int) -> Pid | None:
        try:
            return which_partition("parts", key if key % 2 else -key)
        except NoProcess:
            return None

    def told(self) -> str:
        restart = self.manners[0].restart
        return f"the partition supervisor parts ({self.options.strategy}) of {len(self.manners)} {restart} copies"

    def check_rest(self, top: Pid) -> None:
        model = self.model
        assert isinstance(model, PartitionModel)
        size = PartitionSupervisor.partitions("parts")
        self.world.check(
            size == model.size, f"{self.told()} has {size} partitions; expected {model.size}"
        )
        routes, expected = self._routes(), model.routes()
        self.world.check(
            routes == expected,
            f"after {'; '.join(self.history)}, the keys of {self.told()} map to {routes}; expected {expected}",
        )


@scenario()
async def partition_supervisors(world: World) -> None:
    """Run two random partition supervisors, and resize them."""
    stream = world.random("partitions")
    for _ in range(2):
        await trio.sleep_until(math.ceil(trio.current_time() / TICK + 1) * TICK)
        options = evolve(some_options(stream), auto_shutdown="never")
        first = a_copy(stream, 0)
        # All copies have the same child spec.
        manners = [first]
        for number in range(1, stream.randint(1, 5)):
            manner = a_copy(stream, number)
            manner.restart, manner.shutdown = first.restart, first.shutdown
            manner.supervisor, manner.start_timeout = first.supervisor, first.start_timeout
            if first.shutdown is None and manner.slow is None:
                manner.slow = 1
            manners.append(manner)
        await Partitioned(world, stream, options, manners).live(stream.randint(3, 8))
        await trio.sleep_until((now(world) + 1) * TICK)


def a_copy(stream: Random, number: int) -> Manner:
    manner = a_manner(stream, number, "never")
    while manner.plain:
        manner = a_manner(stream, number, "never")
    manner.named = manner.significant = manner.early = False
    manner.starts = [
        evolve(each, kind="ok") if each.kind == "leave" else each for each in manner.starts
    ]
    return manner
