"""Functions of `trio.to_thread.run_sync` in a simulation."""

from __future__ import annotations

import json
import math
import threading
from typing import Any

import pytest
import trio

from supervision.laboratory.simulation.errors import Escape
from supervision.laboratory.simulation.pins import fence as fence_module
from supervision.simulation import Knobs, Node, World, check_determinism
from tests.laws.scenarios import scenario, simulate


def add(one: int, other: int) -> int:
    return one + other


def fails() -> None:
    raise ValueError("no")


async def race(world: World) -> None:
    order: list[int] = []

    async def caller(number: int) -> None:
        await trio.to_thread.run_sync(order.append, number)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(caller, number)
    world.note("order", order=order)


@scenario()
async def adds(world: World) -> None:
    began, ident = trio.current_time(), threading.get_ident()
    assert await trio.to_thread.run_sync(add, 1, 2) == 3
    assert 0 < trio.current_time() - began < 0.1
    assert await trio.to_thread.run_sync(threading.get_ident) == ident
    with pytest.raises(ValueError, match="no"):
        await trio.to_thread.run_sync(fails)
    with pytest.raises(TypeError, match="sync function"):
        await trio.to_thread.run_sync(trio.sleep, 1)  # type: ignore[unused-coroutine]
    assert await trio.Path(__file__).exists()
    await race(world)


def test_a_function_runs_on_the_same_thread_and_its_result_comes_at_a_later_moment() -> None:
    outcome = simulate(adds, 1).check()
    check_determinism(outcome)


def test_the_seed_decides_the_order_of_functions() -> None:
    notes = (json.loads(line) for seed in range(30) for line in simulate(race, seed).trace)
    orders = {tuple(note["order"]) for note in notes if note["kind"] == "note"}
    assert len(orders) > 10


def test_a_limiter_lets_only_its_number_of_functions_wait() -> None:
    async def run(world: World) -> None:
        limiter = trio.CapacityLimiter(1)
        ends: list[float] = []

        async def caller() -> None:
            await trio.to_thread.run_sync(add, 1, 2, limiter=limiter)
            ends.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(caller)
        assert len(set(ends)) == 3
        assert limiter.borrowed_tokens == 0

    simulate(run, 1).check()


def test_a_cancelled_caller_waits_unless_it_abandons_the_function() -> None:
    async def run(world: World) -> None:
        ran: list[str] = []
        limiter = trio.CapacityLimiter(1)
        with trio.move_on_after(0.00001) as scope:
            await trio.to_thread.run_sync(ran.append, "waits", limiter=limiter)
        assert (ran, scope.cancelled_caught) == (["waits"], False)
        with trio.move_on_after(0.00001) as scope:
            await trio.to_thread.run_sync(
                ran.append, "abandoned", abandon_on_cancel=True, limiter=limiter
            )
        assert scope.cancelled_caught
        # A thread holds its token until its end.
        assert (ran, limiter.borrowed_tokens) == (["waits"], 1)
        await trio.sleep(1)
        assert (ran, limiter.borrowed_tokens) == (["waits", "abandoned"], 0)

    simulate(run, 1, knobs=Knobs(quantum=0.0)).check()


def test_a_function_can_ask_whether_its_caller_was_cancelled() -> None:
    async def run(world: World) -> None:
        with trio.move_on_after(0.00001) as scope:
            await trio.to_thread.run_sync(trio.from_thread.check_cancelled)
        assert scope.cancelled_caught

    simulate(run, 1).check()


def test_a_dead_node_never_runs_a_function_and_a_paused_one_runs_it_later() -> None:
    ran: list[float] = []

    async def main(node: Node) -> None:
        await trio.sleep(1)
        await trio.to_thread.run_sync(lambda: ran.append(trio.current_time()))
        await trio.sleep_forever()

    async def killed(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(1)
        await world.settle()
        world.nodes.kill("a")
        await trio.sleep(1)
        assert ran == []

    async def paused(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(1)
        await world.settle()
        world.nodes.pause("a")
        await trio.sleep(10)
        assert ran == []
        world.nodes.resume("a")
        await trio.sleep(1)
        assert [math.floor(time) for time in ran] == [11]

    simulate(killed, 1).check()
    simulate(paused, 1).check()


def test_a_stopped_node_takes_its_abandoned_functions_with_it() -> None:
    ran: list[str] = []

    async def main(node: Node) -> None:
        await trio.sleep(1)
        await trio.to_thread.run_sync(ran.append, "abandoned", abandon_on_cancel=True)

    async def run(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(1)
        await world.settle()
        world.nodes.stop("a")
        await trio.sleep(1)
        assert not world.nodes.is_up("a")
        assert ran == []

    simulate(run, 1).check()


def test_dead_nodes_leave_the_limiter_of_threads_to_their_successors() -> None:
    async def main(node: Node) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(trio.to_thread.run_sync, add, 1, 2)

    async def run(world: World) -> None:
        world.nodes.start("a", main)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            await world.settle()
            world.nodes.kill("a")
            world.nodes.boot("a")
        await trio.sleep(1)
        assert not world.nodes.is_up("a")

    simulate(run, 1).check()


def test_a_run_ends_although_a_function_has_not_run() -> None:
    async def run(world: World) -> None:
        world.nodes.start("a", lambda node: trio.to_thread.run_sync(add, 1, 2))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, add, 1, 2)
            await trio.lowlevel.checkpoint()
            raise ValueError("over")

    with pytest.raises(ValueError, match="over"):
        raise simulate(run, 1).error or AssertionError


def calls_trio() -> Any:
    return trio.from_thread.run(trio.sleep, 0)


LOCK = threading.Lock()


def keeps_the_lock() -> None:
    LOCK.acquire()


@pytest.mark.parametrize(
    ("function", "what", "instead"),
    [
        (calls_trio, "trio.from_thread", "call Trio in the task"),
        (keeps_the_lock, "threading.Lock.acquire()", "wait with Trio"),
    ],
)
def test_a_function_that_would_never_end_is_refused(function: Any, what: str, instead: str) -> None:
    async def run(world: World) -> None:
        await trio.to_thread.run_sync(function)
        await trio.to_thread.run_sync(function)

    try:
        error = simulate(run, 1).error
    finally:
        if LOCK.locked():
            LOCK.release()
    assert isinstance(error, Escape)
    assert (error.what, instead in error.instead) == (what, True)
    assert error.place.endswith(f"in {function.__name__}")


def test_a_function_that_blocks_for_long_causes_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([1.0, 3.5])
    monkeypatch.setattr(fence_module, "perf_counter", lambda: next(moments))

    async def run(world: World) -> None:
        await trio.to_thread.run_sync(add, 1, 2)

    with pytest.warns(RuntimeWarning, match="'add from .*' blocked the simulation for 2.5 s"):
        simulate(run, 1).check()


def test_trio_in_another_thread_uses_real_threads_during_a_simulation() -> None:
    """Its functions run in threads of their own, and may call Trio."""
    begin, done, idents = threading.Event(), threading.Event(), list[int]()

    def function() -> int:
        trio.from_thread.run(trio.sleep, 0)
        return threading.get_ident()

    async def outside() -> None:
        idents.append(await trio.to_thread.run_sync(function))

    def run_outside() -> None:
        begin.wait()
        try:
            trio.run(outside)
        finally:
            done.set()

    other = threading.Thread(target=run_outside)
    other.start()

    async def run(world: World) -> None:
        begin.set()
        # The simulation may not wait for another thread, so it looks again and again.
        while not done.is_set():
            await trio.lowlevel.checkpoint()

    outcome = simulate(run, 1, knobs=Knobs(livelock_rounds=10_000_000))
    other.join()
    outcome.check()
    assert idents[0] not in (threading.get_ident(), other.ident)
