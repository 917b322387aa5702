"""The invariants find supervisors that break the rules, and accept correct supervisors."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import (
    GenServer,
    Ignore,
    Pid,
    Reply,
    Sender,
    call,
    cast,
    kill,
    link,
    receive,
    spawn_link,
    stop,
)
from actors.exits import SHUTDOWN, ExitReason
from actors.runtime import Runtime
from supervision import ChildSpec, DynamicSupervisor, Supervisor, child_spec
from supervision.backoff import Backoff
from supervision.dynamic_supervisor import Pool
from supervision.events import CHILD_START_FAILED
from supervision.laboratory.chaos.errors import InvariantViolated
from supervision.laboratory.chaos.invariants.base import Watch
from supervision.laboratory.simulation.world.world import World
from supervision.supervisor import Tree
from tests.laws.scenarios import scenario, simulate
from tests.laws.supervisor_models import Supervised
from tests.laws.supervisors import (
    AutoShutdown,
    RestartRetried,
    StopLimits,
)
from tests.simulation.planted.planting import planted

checked = scenario()


class Worker(GenServer[None]):
    async def init(self, ends: list[Any]) -> Ignore | None:
        if ends and ends[0] == "ignore":
            ends.pop(0)
            return Ignore()
        if ends and ends[0] == "fail":
            ends.pop(0)
            raise OSError("not now")
        return None

    async def handle_cast(self, message: Any) -> None:
        raise ValueError(message)


class Starter(GenServer[None]):
    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        return Reply(await Worker.start([]))


def workers(*ids: str, ends: list[Any] | None = None, **fields: Any) -> list[ChildSpec]:
    return [
        child_spec(Worker, ends if id == "b" and ends else [], id=id, kwargs={"name": id}, **fields)
        for id in ids
    ]


def found(program: Any) -> str:
    error = simulate(checked(program), seed=1).error
    assert isinstance(error, InvariantViolated), error
    return f"{error.invariant}: {error.problem}"


# Violations


async def _forgets(self: Tree, pivot: Any, reason: ExitReason, pid: Any = None) -> None:
    """Report the end of a child, and restart nothing."""


async def _skips_the_first(self: Tree, pivot: Any) -> Any:
    return (await _stop_group(self, pivot))[1:]


async def _goes_on(self: Tree, pivot: Any, reason: ExitReason, pid: Any = None) -> None:
    for child in await _stop_group(self, pivot):
        if not isinstance(await self._launch(child), Pid):
            self._report(CHILD_START_FAILED, child.spec, None, reason=reason, restart=True)


async def _boots_backwards(self: Tree) -> None:
    for spec in reversed(self._setup.specs):
        await self._add(spec)


async def _stops_all_first(self: Tree, pivot: Any, reason: ExitReason, pid: Any = None) -> Any:
    for child in reversed(self._children.values()):
        if child is not pivot:
            await self._stop(child)
    return await _restart(self, pivot, reason, pid)


async def _starts_at_the_end(self: Tree) -> None:
    await _stop_all(self)
    for child in self._children.values():
        await self._launch(child)


_pool_restart = Pool._restart
_stop_group, _restart, _stop_all = Tree._stop_group, Tree._restart, Tree.stop_all


@pytest.mark.parametrize(
    ("name", "broken", "part"),
    [
        ("_restart", _forgets, "restart_order: /top#1 <pid 1> has dealt with the end of 'a'"),
        (
            "_stop_group",
            _skips_the_first,
            "restart_order: /top#1 <pid 1> restarts 'a' (one_for_all)",
        ),
        ("boot", _boots_backwards, "restart_order: /top#1 <pid 1> boots and starts 'c'; the order"),
        ("_restart", _goes_on, "restart_order: /top#1 <pid 1> goes on with 'c' after a start"),
        ("stop_all", _starts_at_the_end, "restart_order: /top#1 <pid 1> is stopping, and starts"),
    ],
)
def test_a_group_restarted_in_the_wrong_order_is_found(name: str, broken: Any, part: str) -> None:
    async def program(world: World) -> None:
        with planted((Tree, name, broken)):
            ends: list[Any] = [None]
            specs = workers("a", "b", "c", ends=ends)
            await Supervisor.start(specs, strategy="one_for_all", name="top")
            ends[:] = ["fail"]
            cast("a", "crash")
            await trio.sleep(1)
            await stop("top")

    assert part in found(program)


def test_a_sibling_that_one_for_one_stops_is_found() -> None:
    async def program(world: World) -> None:
        with planted((Tree, "_restart", _stops_all_first)):
            await Supervisor.start(workers("a", "b"), name="top")
            cast("b", "crash")
            await trio.sleep(1)

    assert "shutdown_order: /top#1 <pid 1> stops 'a' because 'b' has ended" in found(program)


def test_a_pool_that_restarts_too_often_is_found() -> None:
    async def program(world: World) -> None:
        async def again(self: Pool, child: Any, pid: Pid, reason: ExitReason) -> Any:
            self._intensity._attempts.clear()
            return await _pool_restart(self, child, pid, reason)

        with planted((Pool, "_restart", again)):
            pool = await DynamicSupervisor.start(max_restarts=1, name="pool")
            await DynamicSupervisor.start_child(pool, child_spec(Worker, [], kwargs={"name": "w"}))
            for _ in range(2):
                cast("w", "crash")
                await trio.sleep(0.1)

    assert "intensity: /pool#1 <pid 1> makes restart 2 of a child within" in found(program)


# Correct behaviour


def passes(program: Any) -> None:
    simulate(checked(program), seed=1).check()


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("backoff", [None, Backoff(0.5, 2.0)])
def test_failed_and_ignored_starts_do_not_violate_the_order(strategy: Any, backoff: Any) -> None:
    async def program(world: World) -> None:
        ends: list[Any] = [None]
        await Supervisor.start(
            workers("a", "b", "c", ends=ends), strategy=strategy, backoff=backoff, name="top"
        )
        for following in (["fail", "fail"], ["ignore"], []):
            ends[:] = following
            for name in ("a", "b", "c"):
                cast(name, "crash")
                await trio.sleep(20)
        await stop("top")

    passes(program)


def test_requests_to_a_supervisor_do_not_violate_the_order() -> None:
    async def program(world: World) -> None:
        top = await Supervisor.start(workers("a", "b", "c"), strategy="one_for_all", name="top")
        await Supervisor.terminate_child(top, "a")
        await Supervisor.delete_child(top, "a")
        await Supervisor.start_child(top, workers("a")[0])
        await Supervisor.terminate_child(top, "b")
        await Supervisor.restart_child(top, "b")
        await Supervisor.terminate_child(top, "c")
        cast("a", "crash")
        await trio.sleep(1)
        await Supervisor.start_child(top, workers("d", restart="temporary")[0])
        cast("b", "crash")
        await trio.sleep(1)
        await stop(top)

    passes(program)


def test_a_killed_supervisor_does_not_violate_the_order() -> None:
    async def program(world: World) -> None:
        inner = Supervisor.child_spec(workers("a", "b"), id="inner")
        await Supervisor.start([inner], name="top", max_restarts=10)
        for _ in range(3):
            pid = world.find("/top/inner")
            assert pid is not None
            kill(pid)
            await trio.sleep(1)

    passes(program)


def test_a_start_function_may_have_helpers() -> None:
    async def start() -> Pid:
        for _ in range(2):
            spawn_link(receive, label="helper")
        return await Worker.start_link([])

    async def program(world: World) -> None:
        top = await Supervisor.start([ChildSpec("a", start)], name="top")
        for _ in range(2):
            (child,) = await Supervisor.which_children(top)
            cast(child.pid, "crash")
            await trio.sleep(1)
        await stop("top")

    passes(program)


@pytest.mark.parametrize("invariant", [RestartRetried, AutoShutdown, StopLimits])
async def test_overdue_work_of_a_supervisor_is_found_at_the_second_rest(
    runtime: Runtime, autojump_clock: object, invariant: type[Supervised]
) -> None:
    late = invariant()
    watch = Watch(runtime, [late])
    top = await Supervisor.start(workers("a"), backoff=Backoff(0.5, 2.0), name="top")
    model = late.models[top]
    child = model.children["a"]
    if invariant is StopLimits:
        late.stops(model, child, SHUTDOWN)
    elif invariant is AutoShutdown:
        model.ends_with = child
    else:
        child.again = model.may_retry = True
        child.again_since = trio.current_time()
    # The event loop stalls until each time limit is over.
    await trio.sleep(100)
    assert watch.at_rest() is None
    assert watch.at_rest() is not None
    watch.close()


def test_a_start_function_may_return_a_process_of_another_starter() -> None:
    async def program(world: World) -> None:
        async def start() -> Pid:
            pid = await call("starter", "start")
            link(pid)
            assert isinstance(pid, Pid)
            return pid

        await Starter.start(name="starter")
        specs = [*workers("first"), ChildSpec("a", start, restart="transient")]
        top = await Supervisor.start(specs, strategy="rest_for_one", name="top")
        for id in ("a", "first"):
            children = {each.id: each.pid for each in await Supervisor.which_children(top)}
            cast(children[id], "crash")
            await trio.sleep(1)
        await stop("top")

    passes(program)


def test_a_start_that_takes_too_long_is_tried_again() -> None:
    class Slow(GenServer[None]):
        async def init(self, pauses: list[float]) -> None:
            await trio.sleep(pauses.pop(0) if pauses else 0)

    async def program(world: World) -> None:
        pauses: list[float] = []
        spec = child_spec(Slow, pauses, id="slow", start_timeout=1.0)
        await Supervisor.start([spec], name="top")
        pauses[:] = [5.0, 5.0]
        pid = world.find("/top/slow")
        assert pid is not None
        kill(pid)
        await trio.sleep(5)
        assert world.find("/top/slow") is not None

    passes(program)
