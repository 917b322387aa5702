"""Random dynamic supervisors. The sweep compares each of their events with a model."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import trio

from actors import Pid
from supervision import DynamicSupervisor, tree_of
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.supervision.diary import TICK, now, spec_of
from tests.simulation.sweeps.supervision.dynamic_model import DynamicModel
from tests.simulation.sweeps.supervision.lockstep import Lockstep, a_manner, some_options
from tests.simulation.sweeps.supervision.supervisor_model import Op, Options

__all__ = ["dynamic_supervisors"]


class Dynamic(Lockstep):
    """A `DynamicSupervisor` under test.

    Attributes:
        used: ids of earlier children, which a later child may get.
        fresh: ids of the children of this batch.
    """

    def __init__(self, world: World, stream: Random, options: Options, model: DynamicModel) -> None:
        super().__init__(world, stream, options, model)
        self.used: list[Any] = []
        self.fresh: list[Any] = []

    def _draw_batch(self, base: int) -> list[tuple[int, Op]]:
        self.used += self.fresh
        self.fresh = []
        return super()._draw_batch(base)

    async def start(self) -> Pid:
        options = self.options
        return await DynamicSupervisor.start(
            max_children=options.max_children,
            max_restarts=options.max_restarts,
            max_seconds=options.max_seconds * TICK,
            backoff=self.backoff(),
            name="pool",
        )

    def draw(self, at: int, ids: list[Any]) -> Op:
        stream = self.stream
        what = stream.random()
        if ids and what < 0.4:
            verb = stream.choice(("terminate", "terminate", "stale", "which", "count"))
            return Op(at, verb, stream.choice(ids))
        id = f"n{self.number}"
        known = [each.id for each in self.model.known()]
        free = [each for each in self.used if each not in known]
        if free and stream.random() < 0.4:
            # Use the id of a child that has ended. Take it out, so that a batch does not use it twice.
            id = stream.choice(free)
            self.used.remove(id)
        else:
            self.fresh.append(id)
        manner = a_manner(stream, id, "never")
        manner.significant = manner.restart != "permanent" and stream.random() < 0.05
        extra = tuple(f"extra {self.number}-{each}" for each in range(stream.randint(0, 2)))
        return Op(at, "start", manner.id, manner, extra)

    async def ask(self, op: Op, top: Pid) -> Any:
        if op.verb == "start":
            assert op.manner is not None
            spec = spec_of(op.manner, self.diary)
            return await DynamicSupervisor.start_child(top, spec, *op.extra)
        pids = self.diary.first if op.verb == "stale" else self.diary.last
        pid: Any = pids.get(op.id)
        return await DynamicSupervisor.terminate_child(top, pid)

    def told(self) -> str:
        options = self.options
        limits = f"max_children={options.max_children:g}, max_restarts={options.max_restarts:g}"
        return f"the dynamic supervisor pool ({limits})"

    def check_rest(self, top: Pid) -> None:
        shown = [each.status for each in tree_of(top).children]
        expected = [
            "running" if each.alive else "restarting" if each.retry else "stopped"
            for each in self.model.known()
        ]
        self.world.check(
            shown == expected, f"tree_of {self.told()} shows {shown}; expected {expected}"
        )


@scenario()
async def dynamic_supervisors(world: World) -> None:
    """Run two random dynamic supervisors, with children that come and go."""
    stream = world.random("dynamic")
    for _ in range(2):
        await trio.sleep_until(math.ceil(trio.current_time() / TICK + 1) * TICK)
        options = some_options(stream)
        model = DynamicModel(options)
        pool = Dynamic(world, stream, options, model)
        await pool.live(stream.randint(4, 10))
        await trio.sleep_until((now(world) + 1) * TICK)
