"""Bugs in supervisors: orders, restarts, intensity, shutdown."""

from __future__ import annotations

from random import Random
from typing import Any

import trio

from actors import exit, is_alive, receive
from actors.exits import ExitReason, Shutdown
from actors.links import unlink
from actors.refs import Pid
from supervision import SupervisionError, _children, process_spec
from supervision import strategy as strategies
from supervision import supervisor as supervisors
from supervision._children import Failed, SupervisorBase
from supervision._children import start as start_child
from supervision.child_spec import ChildSpec
from supervision.laboratory.chaos.faults.kinds import Fault, Kill, Raise, Slow
from supervision.laboratory.chaos.faults.moments import At, On
from supervision.laboratory.chaos.faults.plan import Storm
from supervision.laboratory.simulation.world.world import World
from supervision.messages import TryAgain
from supervision.strategy import RestartIntensity, RestartPlan
from supervision.supervisor import Supervisor, Tree
from tests.laws.scenarios import scenario
from tests.simulation.planted.ground import busy, grow, worker
from tests.simulation.planted.planting import Planted, planted

__all__ = ["BUGS"]

THREE = ("a", "b", "c")
WORKERS = [f"/top/{name}" for name in THREE]


# The group of rest_for_one is started from its end


def _backwards(children: Any, pivot: int, strategy: Any) -> RestartPlan[Any]:
    plan: RestartPlan[Any] = strategies.plan_restart(children, pivot, strategy)
    if strategy == "rest_for_one":
        return RestartPlan(stop=plan.stop, drop=plan.drop, start=plan.start[::-1])
    return plan


@scenario(faults=Storm(WORKERS, count=8, within=8.0))
async def rest_for_one_in_the_wrong_order(world: World) -> None:
    with planted((supervisors, "plan_restart", _backwards)):
        await grow(*map(worker, THREE), strategy="rest_for_one")
        await busy(world, THREE, 10)


# The bug: earlier children restart too


def _everybody(children: Any, pivot: int, strategy: Any) -> RestartPlan[Any]:
    return strategies.plan_restart(
        children, pivot, "one_for_all" if strategy == "rest_for_one" else strategy
    )


@scenario(faults=Storm(WORKERS, count=8, within=8.0))
async def rest_for_one_takes_everybody(world: World) -> None:
    with planted((supervisors, "plan_restart", _everybody)):
        await grow(*map(worker, THREE), strategy="rest_for_one")
        await busy(world, THREE, 10)


# The window of restarts


def _never_pruned(self: RestartIntensity, now: float) -> bool:
    self._attempts.append(now)
    return len(self._attempts) <= self.max_restarts


@scenario(faults=Storm(WORKERS, count=8, within=30.0))
async def a_window_that_is_never_pruned(world: World) -> None:
    with planted((RestartIntensity, "admit", _never_pruned)):
        await grow(*map(worker, THREE), max_restarts=2, max_seconds=2.0)
        await busy(world, THREE, 30)


def _one_too_many(self: RestartIntensity, now: float) -> bool:
    while self._attempts and now - self._attempts[0] > self.max_seconds:
        self._attempts.popleft()
    self._attempts.append(now)
    return len(self._attempts) <= self.max_restarts + 1


@scenario(faults=Storm(WORKERS, count=8, within=20.0))
async def an_intensity_that_is_off_by_one(world: World) -> None:
    with planted((RestartIntensity, "admit", _one_too_many)):
        await grow(*map(worker, THREE), max_restarts=2, max_seconds=4.0)
        await busy(world, THREE, 20)


# Stopping


async def _in_start_order(self: Tree) -> None:
    for child in list(self._children.values()):
        await self._stop(child)


@scenario(faults=Storm(WORKERS, count=8, within=20.0))
async def shutdown_in_start_order(world: World) -> None:
    with planted((Tree, "stop_all", _in_start_order)):
        await grow(*map(worker, THREE), max_restarts=1, max_seconds=4.0)
        await busy(world, THREE, 20)


async def _terminate_unless_it_gave_up(self: Supervisor, reason: ExitReason) -> None:
    if self.state._intensity.counted <= self.state._intensity.max_restarts:
        await self.state.stop_all()


@scenario(faults=Storm(WORKERS, count=8, within=20.0))
async def a_terminate_that_is_skipped(world: World) -> None:
    with planted((SupervisorBase, "terminate", _terminate_unless_it_gave_up)):
        await grow(*map(worker, THREE), max_restarts=1, max_seconds=4.0)
        await busy(world, THREE, 20)


# The choice of children to start


async def _impatient(spec: ChildSpec, extra: tuple[Any, ...] = ()) -> Pid | Failed:
    began = trio.current_time()
    started = await start_child(spec, extra)
    if trio.current_time() - began > 1.0:
        # The bug: after a timeout of the start it starts the child again, but the first child is running.
        started = await start_child(spec, extra)
    return started


def _kills_and_slow_starts(random: Random) -> list[Fault]:
    plan: list[Fault] = [
        Kill(target=random.choice(WORKERS), when=At(round(random.uniform(0, 8), 1)))
        for _ in range(6)
    ]
    return [
        *plan,
        *(
            Slow(
                target="/top/*",
                when=On("init", nth=random.randint(4, 9)),
                seconds=round(random.uniform(0.1, 2), 1),
            )
            for _ in range(3)
        ),
    ]


@scenario(faults=_kills_and_slow_starts)
async def a_child_that_is_started_twice(world: World) -> None:
    with planted((_children, "start", _impatient)):
        await grow(*(worker(name, named=False) for name in THREE))
        await trio.sleep(10)


def _clean_ends_are_crashes(restart: Any, reason: ExitReason) -> strategies.Fate:
    if restart == "transient" and type(reason) is Shutdown:
        return strategies.Fate.RESTART
    return strategies.fate(restart, reason)


@scenario(faults=Storm(["/top/visitor"], count=4, within=8.0, kinds=("fill_mailbox",)))
async def a_clean_end_that_counts_as_a_crash(world: World) -> None:
    with planted((supervisors, "fate", _clean_ends_are_crashes)):
        visitor = process_spec(_leave_when_full, id="visitor", restart="transient")
        await grow(worker("a"), visitor)
        await busy(world, ("a",), 10)


async def _leave_when_full() -> None:
    await receive()
    exit(Shutdown("I have seen enough"))


async def _unconditionally(self: Tree, message: TryAgain) -> Any:
    child = self._children.get(message.child)
    return None if child is None else await self._restart(child, message.reason)


def _kills_and_failed_starts(random: Random) -> list[Fault]:
    plan: list[Fault] = [
        Kill(target=random.choice(WORKERS), when=At(round(random.uniform(0, 8), 1)))
        for _ in range(8)
    ]
    return [
        *plan,
        *(Raise(target="/top/b", when=On("init", nth=random.randint(4, 9))) for _ in range(3)),
    ]


@scenario(faults=_kills_and_failed_starts)
async def a_retry_of_a_child_that_was_stopped(world: World) -> None:
    """A request stops a child between two attempts to restart it."""
    chance = world.random("managers")

    async def manage() -> None:
        while world.seconds < 9:
            await trio.sleep(chance.random())
            await Supervisor.terminate_child("top", "b")
            await trio.sleep(chance.random())
            try:
                await Supervisor.restart_child("top", "b")
            except SupervisionError:
                world.sometimes("it ran, or did not start")

    with planted((Tree, "try_again", _unconditionally)):
        children = [worker(name, pause=0.3) for name in THREE]
        await grow(*children, strategy="one_for_all", max_restarts=1000)
        await manage()


# Orphans


async def _loosely(self: Tree, pivot: Any, reason: ExitReason, pid: Any = None) -> Any:
    stop = await _tree_restart(self, pivot, reason, pid)
    if pivot.pid is not None and is_alive(pivot.pid):
        # The bug: the author considered the second link of a child superfluous.
        unlink(pivot.pid)
    return stop


_tree_restart = Tree._restart


@scenario(
    faults=Storm(["/top", "/top/inner", "/top/inner/*"], count=6, within=8.0, kinds=("kill",))
)
async def an_orphan_of_a_killed_supervisor(world: World) -> None:
    with planted((Tree, "_restart", _loosely)):
        inner = Supervisor.child_spec(
            [worker(name, named=False) for name in THREE], id="inner", max_restarts=100
        )
        await grow(inner)
        await trio.sleep(10)


BUGS = (
    Planted(
        name="rest_for_one starts its group from the end",
        scenario=rest_for_one_in_the_wrong_order,
        failure="invariant restart_order",
    ),
    Planted(
        name="rest_for_one stops those that were started before, too",
        scenario=rest_for_one_takes_everybody,
        failure="invariant shutdown_order",
    ),
    Planted(
        name="restarts are counted for ever",
        scenario=a_window_that_is_never_pruned,
        failure="invariant intensity",
    ),
    Planted(
        name="one restart too many is allowed",
        scenario=an_intensity_that_is_off_by_one,
        failure="invariant intensity",
    ),
    Planted(
        name="children are stopped in the order of their start",
        scenario=shutdown_in_start_order,
        failure="invariant shutdown_order",
    ),
    Planted(
        name="a supervisor that gives up does not stop its children",
        scenario=a_terminate_that_is_skipped,
        failure="invariant shutdown_order",
    ),
    Planted(
        name="a child whose start takes long is started twice",
        scenario=a_child_that_is_started_twice,
        failure="invariant one_incarnation",
    ),
    Planted(
        name="a transient child comes back after a clean end",
        scenario=a_clean_end_that_counts_as_a_crash,
        failure="invariant restart_order",
    ),
    Planted(
        name="a child that was stopped is tried again all the same",
        scenario=a_retry_of_a_child_that_was_stopped,
        failure="invariant restart_order",
    ),
    Planted(
        name="a restarted child is not linked",
        scenario=an_orphan_of_a_killed_supervisor,
        failure="invariant no_orphan",
    ),
)
