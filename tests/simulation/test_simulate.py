"""Whole runs: determinism, failures, and clean-up."""

import gc
import json
import os
import time
from typing import Any
from uuid import UUID

import pytest
import trio
from trio._core import _run as run_module

from actors import (
    GenServer,
    NoReply,
    Pid,
    Reply,
    Sender,
    call,
    cast,
    current_runtime,
    exit,
    receive,
    send,
    spawn,
    wait_exit,
)
from supervision import Supervisor, child_spec
from supervision.laboratory.simulation.errors import (
    BudgetSpent,
    Deadlock,
    Escape,
    InvariantViolated,
    Livelock,
    SimulationFailed,
)
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome, identify
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate


class Counter(GenServer[int]):
    async def init(self, start: int) -> None:
        self.state = start

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        return Reply(self.state)

    async def handle_cast(self, message: Any) -> None:
        await trio.sleep(current_runtime().random.random() / 10)
        if message == "crash":
            raise ValueError("as was asked for")
        self.state += 1


async def busy_tree(world: World) -> None:
    top = await Supervisor.start_link(
        [child_spec(Counter, 0, id=number) for number in range(5)], max_restarts=100
    )
    stream = world.random("what happens")
    for _ in range(30):
        children = await Supervisor.which_children(top)
        child = stream.choice(children)
        cast(child.pid, stream.choice(["count", "count", "crash"]))
        await trio.sleep(stream.random() / 10)


def events(outcome: Outcome, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in outcome.trace]
    return [event for event in found if event["kind"] == kind]


def test_a_seed_always_gives_the_same_run_and_another_seed_a_different_one() -> None:
    first = simulate(busy_tree, seed=1)
    assert first.passed
    assert first.trace == simulate(busy_tree, seed=1).trace
    assert first.steps_digest == simulate(busy_tree, seed=1).steps_digest
    assert len({simulate(busy_tree, seed=seed).digest for seed in range(10)}) == 10


def test_a_run_can_be_repeated_as_deviations_from_the_canonical_order() -> None:
    seeded = simulate(busy_tree, seed=3)
    assert seeded.deviations
    again = simulate(
        busy_tree, seed=3, knobs=Knobs(policy="canonical"), deviations=seeded.deviations
    )
    assert (again.digest, again.steps_digest) == (seeded.digest, seeded.steps_digest)


def test_a_coarser_quantum_leaves_the_scheduler_more_choices() -> None:
    exact, coarse = (
        simulate(busy_tree, seed=2, knobs=Knobs(quantum=quantum)) for quantum in (0.0, 0.1)
    )
    assert coarse.choices > exact.choices


def test_the_trace_has_events_with_their_causes() -> None:
    outcome = simulate(busy_tree, seed=1)
    crash = events(outcome, "crash")[0]
    assert crash["error"] == "ValueError('as was asked for')"
    ended = next(event for event in events(outcome, "exited") if event["pid"] == crash["pid"])
    assert ended["path"] == "/Supervisor/1"
    received = json.loads(outcome.trace[ended["cause"]])
    assert received["kind"] == "received"
    sent = json.loads(outcome.trace[received["cause"]])
    assert (sent["via"], sent["message"]) == ("cast", "'crash'")
    assert events(outcome, "child_restarted")
    assert [json.loads(line)["n"] for line in outcome.trace] == list(range(outcome.events))


def test_a_scenario_that_raises_fails_and_the_error_has_its_seed() -> None:
    async def scenario(world: World) -> None:
        await trio.sleep(1)
        raise LookupError("nothing there")

    outcome = simulate(scenario, seed=7)
    assert isinstance(outcome.error, LookupError)
    with pytest.raises(SimulationFailed, match="seed 7") as caught:
        outcome.check()
    assert isinstance(caught.value.__cause__, LookupError)
    assert caught.value.seed == 7


def test_check_returns_a_passed_outcome() -> None:
    async def scenario(world: World) -> None:
        world.check(True, "is fine")

    outcome = simulate(scenario, seed=1)
    assert outcome.check() is outcome
    assert identify(outcome.error) is None


def test_a_deadlock_report_shows_the_wait_graph() -> None:
    class Silent(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> NoReply:
            return NoReply()

    async def asks(server: Pid) -> None:
        await call(server, "anybody?", timeout=float("inf"))

    async def scenario(world: World) -> None:
        silent = await Silent.start()
        await wait_exit(spawn(asks, silent))

    error = simulate(scenario, seed=1).error
    assert isinstance(error, Deadlock)
    the_scenario, asking, idle = error.waiting
    assert the_scenario.startswith("the scenario waits for the end of a process, at ")
    assert "asks <pid 2> waits for <pid 1> to answer 'anybody?', at simulation/test_simul" in asking
    assert idle == "1 server waits for a message"
    assert asking in str(error)


def test_a_program_that_only_waits_for_time_is_not_a_deadlock() -> None:
    async def scenario(world: World) -> None:
        await trio.sleep(3000)

    assert simulate(scenario, seed=1).check().seconds >= 3000


def test_a_livelock_names_the_running_tasks() -> None:
    async def play(first: bool) -> None:
        peer = await receive()
        if first:
            send(peer, "ball")
        while True:
            send(peer, await receive())

    async def scenario(world: World) -> None:
        one, other = spawn(play, True), spawn(play, False)
        send(one, other)
        send(other, one)
        await wait_exit(one)

    error = simulate(scenario, seed=1, knobs=Knobs(livelock_rounds=1000)).error
    assert isinstance(error, Livelock)
    assert "play" in str(error)


@pytest.mark.parametrize(
    ("what", "knobs"),
    [
        ("seconds", Knobs(max_seconds=10)),
        ("steps", Knobs(max_steps=100)),
    ],
)
def test_a_scenario_beyond_its_budget_fails(what: str, knobs: Knobs) -> None:
    async def scenario(world: World) -> None:
        for _ in range(1_000_000):
            await trio.sleep(1)

    error = simulate(scenario, seed=1, knobs=knobs).error
    assert isinstance(error, BudgetSpent)
    assert identify(error) == f"BudgetSpent of {error.what}"
    assert error.what == what
    assert "the scenario sleeps" in str(error)


def test_an_escape_fails_the_run_even_if_a_supervisor_restarts_the_process() -> None:
    class Impatient(GenServer[None]):
        async def handle_cast(self, message: Any) -> None:
            time.sleep(1)  # noqa: ASYNC251 # what must not be done

    async def scenario(world: World) -> None:
        top = await Supervisor.start_link([child_spec(Impatient)])
        (child,) = await Supervisor.which_children(top)
        cast(child.pid, "sleep")
        await trio.sleep(10)

    outcome = simulate(scenario, seed=1)
    assert isinstance(outcome.error, Escape)
    assert "handle_cast" in outcome.error.place
    assert "trio.sleep" in outcome.error.instead
    assert outcome.seconds < 10


def test_an_invariant_is_checked_between_all_rounds_and_names_the_moment() -> None:
    async def scenario(world: World) -> None:
        numbers = [0]
        world.invariant("small", lambda: None if numbers[0] < 5 else f"it is {numbers[0]}")
        for _ in range(100):
            await trio.sleep(1)
            numbers[0] += 1

    error = simulate(scenario, seed=1).error
    assert isinstance(error, InvariantViolated)
    assert (error.invariant, error.seconds, error.problem) == ("small", 5.0, "it is 5")
    assert identify(error) == "invariant small"


def test_a_check_that_is_broken_fails_the_run() -> None:
    async def scenario(world: World) -> None:
        world.invariant("broken", lambda: str(1 / 0))
        await trio.sleep(1)

    assert isinstance(simulate(scenario, seed=1).error, ZeroDivisionError)


def test_a_run_that_ignores_its_cancellation_is_abandoned() -> None:
    async def scenario(world: World) -> None:
        while True:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                await trio.lowlevel.cancel_shielded_checkpoint()

    error = simulate(scenario, seed=1, knobs=Knobs(livelock_rounds=100)).error
    assert isinstance(error, Deadlock)


def test_each_process_draws_from_a_stream_of_its_own() -> None:
    drawn: dict[str, list[Any]] = {}

    async def draw(name: str) -> None:
        runtime = current_runtime()
        drawn.setdefault(name, []).append((runtime.random.random(), runtime.uuid()))

    async def scenario(world: World) -> None:
        for name in world.params["names"]:
            await wait_exit(spawn(draw, name, label=name))

    simulate(scenario, seed=1, params={"names": ["a", "b", "a"]}).check()
    before = dict(drawn)
    drawn.clear()
    simulate(scenario, seed=1, params={"names": ["b", "a", "a", "c"]}).check()
    assert {name: drawn[name] for name in ("a", "b")} == before
    assert len({value for values in drawn.values() for value in values}) == 4
    assert all(isinstance(value[1], UUID) for value in drawn["a"])


def test_the_time_of_day_is_virtual() -> None:
    async def scenario(world: World) -> None:
        assert current_runtime().now() == world.knobs.epoch
        await trio.sleep(3600)
        assert current_runtime().now() == world.knobs.epoch + 3600

    simulate(scenario, seed=1, knobs=Knobs(max_seconds=4000)).check()


def test_settle_waits_until_no_task_can_run() -> None:
    async def scenario(world: World) -> None:
        seen: list[int] = []

        async def reads() -> None:
            seen.extend([await receive() for _ in range(10)])
            await receive(timeout=60)

        pid = spawn(reads)
        for number in range(10):
            send(pid, number)
        await world.settle()
        assert seen == list(range(10))
        assert world.seconds == 0

    simulate(scenario, seed=1).check()


def test_time_passes_for_all_tasks_during_a_stall() -> None:
    async def scenario(world: World) -> None:
        with trio.move_on_after(1) as scope:
            world.stall(5)
            await trio.sleep(0.5)
        assert scope.cancelled_caught

    simulate(scenario, seed=1).check()


def test_a_simulation_restores_everything() -> None:
    async def scenario(world: World) -> None:
        assert not gc.isenabled()
        exit("not a process") if world.params else None

    before = (vars(run_module).copy(), os.urandom, time.time, time.sleep, gc.isenabled())
    simulate(scenario, seed=1)
    simulate(scenario, seed=1, params={"fail": True})
    assert (vars(run_module), os.urandom, time.time, time.sleep, gc.isenabled()) == before
    assert time.time() > 1.7e9


async def test_a_simulation_within_trio_is_refused() -> None:
    with pytest.raises(RuntimeError, match="synchronous code"):
        simulate(busy_tree, seed=1)
