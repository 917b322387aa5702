"""Bugs in limits, retries, auto_shutdown and callbacks. Only one invariant finds each of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import trio

from actors import Stop, cast, stop
from actors.exits import SHUTDOWN, ExitReason
from actors.refs import Pid, Ref
from actors.servers import _loop
from supervision import _children
from supervision import supervisor as supervisors
from supervision._children import Retried, end_process
from supervision.child_spec import ChildSpec, ShutdownLimit
from supervision.dynamic_supervisor import DynamicSupervisor, Pool
from supervision.errors import SupervisionError
from supervision.laboratory.chaos.faults.plan import Storm
from supervision.laboratory.simulation.world.world import World
from supervision.supervisor import Supervisor
from tests.laws.scenarios import scenario
from tests.simulation.planted.ground import Worker, busy, grow, worker
from tests.simulation.planted.planting import Planted, planted

__all__ = ["BUGS"]

THREE = ("a", "b", "c")
WORKERS = [f"/top/{name}" for name in THREE]


# A child gets half of its time


async def _half_the_time(pid: Pid, ref: Ref, shutdown: ShutdownLimit) -> ExitReason:
    return await end_process(pid, ref, shutdown if shutdown == "brutal_kill" else shutdown / 2)


class Slow(Worker):
    """A worker that takes three seconds to stop."""

    async def terminate(self, reason: Any) -> None:
        await trio.sleep(3)


@scenario(faults=Storm(WORKERS, count=4, within=8.0))
async def a_kill_that_comes_early(world: World) -> None:
    with planted((_children, "end_process", _half_the_time)):
        slow = [ChildSpec(name, Slow.start_link, (), {"name": name}) for name in THREE]
        await grow(*slow, strategy="one_for_all")
        await busy(world, THREE, 12)


# A failed restart is forgotten


def _only_the_first(self: Any, child: Retried, key: object, reason: ExitReason) -> None:
    if child.restarts == 0:
        _try_later(self, child, key, reason)


_try_later = _children.Children._try_later


class Moody(Worker):
    """A worker whose second restart fails."""

    async def init(self, starts: list[int]) -> None:  # type: ignore[override] # it takes a list
        starts[0] += 1
        await super().init()
        if starts[0] == 3:
            raise OSError("not now")

    async def handle_cast(self, message: Any) -> None:
        raise ValueError(message)


@scenario(faults=Storm(WORKERS, count=3, within=8.0))
async def a_restart_that_is_not_tried_again(world: World) -> None:
    with planted((_children.Children, "_try_later", _only_the_first)):
        moody = ChildSpec("m", Moody.start_link, ([0],), {"name": "m"})
        await grow(moody, *map(worker, THREE))
        for _ in range(2):
            await trio.sleep(4)
            cast("m", "crash")
        await trio.sleep(2)
        await stop("top", timeout=math.inf)


# Each significant child ends its supervisor


def _any_is_enough(auto_shutdown: Any, ended: ChildSpec, remaining: Iterable[ChildSpec]) -> bool:
    return auto_shutdown != "never" and ended.significant


class Finishing(Worker):
    """A worker that stops cleanly when it gets a cast."""

    async def handle_cast(self, message: Any) -> Stop:  # type: ignore[override] # it stops
        return Stop(SHUTDOWN)


@scenario(faults=Storm(WORKERS, count=3, within=8.0))
async def a_supervisor_that_ends_too_early(world: World) -> None:
    with planted((supervisors, "ends_supervisor", _any_is_enough)):
        finishing = [
            ChildSpec(
                id, Finishing.start_link, (), {"name": id}, restart="transient", significant=True
            )
            for id in ("first", "last")
        ]
        await Supervisor.start(
            [*map(worker, THREE), *finishing],
            auto_shutdown="all_significant",
            max_restarts=100,
            name="top",
        )
        await trio.sleep(9)
        cast("first", "finish")
        await trio.sleep(2)


# One child too many


def _one_too_many(self: Pool, spec: ChildSpec, extra: tuple[Any, ...]) -> Any:
    limit = self._max_children
    self._max_children = limit + 1
    try:
        return _start_child(self, spec, extra)
    finally:
        self._max_children = limit


_start_child = Pool.start_child


@scenario(faults=Storm(["/pool/*"], count=3, within=8.0))
async def a_pool_with_one_child_too_many(world: World) -> None:
    with planted((Pool, "start_child", _one_too_many)):
        pool = await DynamicSupervisor.start(max_children=2, max_restarts=100, name="pool")
        for _ in range(12):
            try:
                await DynamicSupervisor.start_child(pool, worker("w", named=False))
            except SupervisionError:
                world.sometimes("the pool was full")
            await trio.sleep(1)


# A server terminates twice


async def _terminates_again(self: Any, stopping: Any) -> None:
    try:
        await _stop(self, stopping)
    except BaseException:
        if stopping.reason is SHUTDOWN:
            await self._terminating(stopping.reason)
        raise


_stop = _loop.Loop._stop


@scenario(faults=Storm(WORKERS, count=3, within=8.0))
async def a_server_that_terminates_twice(world: World) -> None:
    with planted((_loop.Loop, "_stop", _terminates_again)):
        await grow(*map(worker, THREE), strategy="one_for_all")
        await busy(world, THREE, 10)


BUGS = (
    Planted(
        name="a child is killed before the end of its limit",
        scenario=a_kill_that_comes_early,
        failure="invariant stop_limits",
    ),
    Planted(
        name="a failed restart of a child that was restarted before is forgotten",
        scenario=a_restart_that_is_not_tried_again,
        failure="invariant restart_retried",
        first_seed=159,
    ),
    Planted(
        name="the first significant child to end is taken for the last",
        scenario=a_supervisor_that_ends_too_early,
        failure="invariant auto_shutdown",
    ),
    Planted(
        name="a dynamic supervisor has one child too many",
        scenario=a_pool_with_one_child_too_many,
        failure="invariant max_children",
    ),
    Planted(
        name="a server runs its terminate twice",
        scenario=a_server_that_terminates_twice,
        failure="invariant callback_order",
    ),
)
