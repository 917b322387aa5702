"""Nodes: a kill like `kill -9`, which only the disk survives, and its effects on other nodes."""

import gc
import json
import os
import subprocess
import sys
import tracemalloc
import warnings
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio

from actors import (
    GenServer,
    call,
    current_runtime,
    spawn,
    trap_exits,
    wait_exit,
)
from supervision import Supervisor, child_spec
from supervision.chaos import At, KillNode, On, SkewClock
from supervision.laboratory.simulation.errors import Deadlock, InvariantViolated
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.world.nodes import Node
from supervision.laboratory.simulation.world.world import World
from supervision.simulation import SimulationError
from tests.laws.scenarios import simulate
from tests.simulation import node_scenarios
from tests.simulation.node_scenarios import heartbeats

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


def events(outcome: Outcome, kind: str) -> list[dict[str, Any]]:
    return [event for event in map(json.loads, outcome.trace) if event["kind"] == kind]


async def sleeps(node: Node, log: list[str]) -> None:
    life = node.label
    log.append(f"{life} begins")
    try:
        await trio.sleep_forever()
    finally:
        log.append(f"{life} cleans up")


@pytest.mark.parametrize("seed", range(200 if DEEP else 5))
def test_a_killed_node_runs_no_clean_up_and_its_peers_notice(seed: int) -> None:
    node_scenarios.clean_ups.clear()
    outcome = simulate(heartbeats, seed, knobs=Knobs().drawn(seed)).check()
    killed = {event["node"] for event in events(outcome, "node_killed")}
    ended = {event["node"] for event in events(outcome, "node_ended")}
    assert killed
    assert not killed & ended
    gc.collect()
    assert set(node_scenarios.clean_ups) == ended
    texts = {event["text"] for event in events(outcome, "note")}
    assert {"boots", "no answer"} <= texts
    last_words = {event["node"]: event["n"] for event in events(outcome, "node_killed")}
    for event in map(json.loads, outcome.trace):
        life = event.get("by", event.get("node"))
        assert event["n"] <= last_words.get(str(life).strip("'"), event["n"])
    again = simulate(heartbeats, seed, knobs=Knobs().drawn(seed))
    assert (again.digest, again.steps_digest) == (outcome.digest, outcome.steps_digest)


def test_a_booted_node_has_its_disk_and_no_other_old_state() -> None:
    async def main(node: Node) -> None:
        node.disk.setdefault("seen", ())
        node.disk["seen"] += (node.incarnation,)
        await trio.sleep_forever()

    async def scenario(world: World) -> None:
        world.nodes.start("a", main)
        await world.settle()
        for _ in range(3):
            world.nodes.kill("a")
            assert not world.nodes.is_up("a")
            world.nodes.boot("a")
            await world.settle()
        assert world.nodes.disk("a") == {"seen": (1, 2, 3, 4)}
        assert world.nodes["a"].label == "a#4"

    simulate(scenario, seed=1).check()


def test_a_kill_takes_effect_in_the_middle_of_a_round() -> None:
    log: list[str] = []

    async def busy(node: Node) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            log.append(node.name)

    async def scenario(world: World) -> None:
        for name in "abcdef":
            world.nodes.start(name, busy)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        for name in "abcdef":
            world.nodes.kill(name)
        log.clear()
        await trio.sleep(1)

    for seed in range(10):
        simulate(scenario, seed).check()
        assert log == []


def test_a_task_that_ends_in_the_step_in_which_it_kills_its_node_hurts_no_later_kill() -> None:
    async def main(node: Node) -> None:
        async def write() -> None:
            await trio.sleep(1)
            node.disk.open("log", "a").write(b"data")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await trio.sleep_forever()

    async def scenario(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(10)
        assert world.nodes.is_up("a")
        assert world.nodes["a"].incarnation == 4
        assert world.nodes["a"].tasks

    # `write` raises in the step in which the fault kills the node, so this task ends although its node is dead.
    crashes = [KillNode(node="a", reboot_after=0.0, when=On("write", nth=n)) for n in (1, 2, 3)]
    simulate(scenario, seed=1, faults=crashes).check()


def test_timers_and_deadlines_of_a_dead_node_never_fire_and_delay_no_run() -> None:
    log: list[str] = []

    class Cancels:
        def __call__(self, _: object) -> trio.lowlevel.Abort:
            log.append("was cancelled")
            return trio.lowlevel.Abort.SUCCEEDED

    async def main(node: Node) -> None:
        runtime = current_runtime()
        runtime.timers.at(trio.current_time() + 5, lambda: log.append("a timer fired"))
        with trio.move_on_after(7), trio.move_on_after(6):
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.deadline = trio.current_time() + 4
                await trio.lowlevel.wait_task_rescheduled(Cancels())

    async def scenario(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(1)
        world.nodes.kill("a")
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")
        await trio.sleep(10)

    outcome = simulate(scenario, seed=1, knobs=Knobs(quantum=0)).check()
    assert outcome.seconds == 11
    assert log == []


def test_the_same_scopes_of_a_living_node_do_call_back() -> None:
    log: list[str] = []

    async def main(node: Node) -> None:
        def cancelled(_: object) -> trio.lowlevel.Abort:
            log.append("was cancelled")
            return trio.lowlevel.Abort.SUCCEEDED

        with trio.move_on_after(4):
            await trio.lowlevel.wait_task_rescheduled(cancelled)

    async def scenario(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(10)

    simulate(scenario, seed=1).check()
    assert log == ["was cancelled"]


def test_a_node_can_be_killed_in_init_in_terminate_and_while_it_holds_a_lock() -> None:
    log: list[str] = []

    class Slow(GenServer[None]):
        async def init(self, disk: dict[str, int]) -> None:
            trap_exits()
            try:
                await trio.sleep(disk.get("init", 0))
            finally:
                log.append("init is over")

        async def terminate(self, reason: Any) -> None:
            try:
                await trio.sleep(10)
            finally:
                log.append("terminate is over")

    async def main(node: Node) -> None:
        await Supervisor.start_link([child_spec(Slow, node.disk)])
        lock = trio.Lock()
        async with lock, trio.open_nursery() as nursery:
            nursery.start_soon(lock.acquire)
            await trio.sleep_forever()

    async def scenario(world: World) -> None:
        node = world.nodes.start("a", main)
        node.disk["init"] = 10
        await trio.sleep(1)
        world.nodes.kill("a")
        node.disk["init"] = 0
        world.nodes.boot("a")
        await trio.sleep(1)
        assert log == ["init is over"]
        world.nodes.kill("a")
        world.nodes.boot("a")
        await trio.sleep(1)
        world.nodes.stop("a")
        await trio.sleep(1)
        world.nodes.kill("a")
        assert log == ["init is over"] * 2
        await trio.sleep(100)

    simulate(scenario, seed=1).check()
    assert log == ["init is over"] * 2


def test_a_stopped_node_shuts_down_in_order() -> None:
    log: list[str] = []

    async def scenario(world: World) -> None:
        world.nodes.start("a", sleeps, log)
        await trio.sleep(1)
        world.nodes.stop("a")
        await trio.sleep(1)
        assert not world.nodes.is_up("a")

    simulate(scenario, seed=1).check()
    assert log == ["a begins", "a cleans up"]


def test_nodes_that_outlive_the_scenario_shut_down_in_order() -> None:
    log: list[str] = []

    async def scenario(world: World) -> None:
        world.nodes.start("a", sleeps, log)
        world.nodes.start("b", sleeps, log)
        await trio.sleep(1)
        world.nodes.kill("a")

    simulate(scenario, seed=1).check()
    assert sorted(log) == ["a begins", "b begins", "b cleans up"]


async def echo(node: Node) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        while data := await stream.receive_some():
            await stream.send_all(data)

    await trio.serve_listeners(serve, [node.listen(7)])


def test_peers_of_a_killed_node_see_their_connections_reset_and_new_ones_refused() -> None:
    async def scenario(world: World) -> None:
        world.nodes.start("a", echo)
        await world.settle()
        stream = await world.network.connect("a", 7)
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        world.nodes.kill("a")
        assert world.network.connections == []
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        with pytest.raises(ConnectionRefusedError):
            await world.network.connect("a", 7)
        world.nodes.boot("a")
        await world.settle()
        async with await world.network.connect("a", 7) as stream:
            await stream.send_all(b"again")
            assert await stream.receive_some() == b"again"

    simulate(scenario, seed=1).check()


def test_peers_of_a_node_without_power_get_no_error_until_it_boots_and_they_send() -> None:
    async def scenario(world: World) -> None:
        world.nodes.start("a", echo)
        await world.settle()
        idle, busy, late = [await world.network.connect("a", 7) for _ in range(3)]
        world.nodes.kill("a", power=True)
        await busy.send_all(b"anybody?")
        with trio.move_on_after(60) as scope:
            await busy.receive_some()
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            await world.network.connect("a", 7)
        world.network.heal()
        world.nodes.boot("a")
        with pytest.raises(trio.BrokenResourceError):
            await busy.receive_some()
        with trio.move_on_after(60) as scope:
            await idle.receive_some()
        assert scope.cancelled_caught
        with pytest.raises(trio.BrokenResourceError):
            await late.send_all(b"are you back?")
        idle.close()
        assert world.network.connections == []
        async with await world.network.connect("a", 7) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"

    simulate(scenario, seed=1).check()


def test_code_of_a_node_connects_from_the_host_of_the_node() -> None:
    async def main(node: Node, world: World) -> None:
        await world.network.connect("server", 80)

    async def scenario(world: World) -> None:
        world.network.listen("server", 80)
        world.nodes.start("a", main, world)
        await trio.sleep(1)
        await world.network.connect("server", 80)

    outcome = simulate(scenario, seed=1).check()
    assert [event["source"] for event in events(outcome, "connected")] == ["a", "client"]


def test_each_node_has_a_clock_and_streams_of_its_own_and_keeps_its_clock() -> None:
    seen: dict[str, list[Any]] = {}

    async def draw() -> float:
        return current_runtime().random.random()

    async def main(node: Node) -> None:
        drawn: list[float] = []

        async def process() -> None:
            drawn.append(current_runtime().random.random())

        await wait_exit(spawn(process, label="draws"))
        seen[node.label] = [current_runtime().now(), current_runtime().random.random(), *drawn]
        await trio.sleep_forever()

    async def scenario(world: World) -> None:
        for name in world.params["names"]:
            world.nodes.start(name, main)
        world.nodes.skew("a", 100.0)
        await trio.sleep(1)
        world.nodes.kill("a")
        world.nodes.boot("a")
        await trio.sleep(1)

    simulate(scenario, seed=1, params={"names": ["a", "b"]}, knobs=Knobs(epoch=0.0)).check()
    assert {life: values[0] for life, values in seen.items()} == {"a": 100, "b": 0, "a#2": 101}
    assert len({value for values in seen.values() for value in values[1:]}) == 6
    before = dict(seen)
    seen.clear()
    simulate(scenario, seed=1, params={"names": ["c", "b", "a"]}, knobs=Knobs(epoch=0.0)).check()
    assert {life: seen[life] for life in before} == before


def test_a_deadlock_is_found_despite_timers_of_a_dead_node_and_names_only_living_tasks() -> None:
    async def sleeper(node: Node) -> None:
        await trio.sleep(3000)

    async def scenario(world: World) -> None:
        world.nodes.start("a", sleeper)
        await trio.sleep(1)
        world.nodes.kill("a")
        await trio.sleep_forever()

    outcome = simulate(scenario, seed=1)
    assert isinstance(outcome.error, Deadlock)
    assert outcome.seconds == 1
    assert "the scenario sleeps for ever" in outcome.error.waiting[0]
    assert "sleeper" not in str(outcome.error)


def test_an_exception_of_a_nodes_main_fails_the_run() -> None:
    async def main(node: Node) -> None:
        raise LookupError("nothing there")

    async def scenario(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(10)

    assert isinstance(simulate(scenario, seed=1).error, LookupError)


@pytest.mark.parametrize("power", [False, True])
def test_an_exception_of_the_scenario_after_a_kill_is_the_outcome(power: bool) -> None:
    log: list[str] = []

    async def scenario(world: World) -> None:
        world.nodes.start("a", sleeps, log)
        await trio.sleep(1)
        world.nodes.kill("a", power=power)
        world.check(False, "as was to be shown")

    assert isinstance(simulate(scenario, seed=1).error, InvariantViolated)
    assert log == ["a begins"]


def test_no_code_of_a_dead_node_runs_at_any_end_of_the_scenario() -> None:
    log: list[str] = []

    async def scenario(world: World) -> None:
        world.nodes.start("a", sleeps, log)
        await trio.sleep(1)
        world.nodes.kill("a")
        await trio.sleep(world.params["more"])

    simulate(scenario, seed=1, params={"more": 1}).check()
    assert not simulate(scenario, seed=1, params={"more": 10}, knobs=Knobs(max_seconds=5)).passed
    assert log == ["a begins"] * 2


def test_a_run_with_dead_nodes_prints_no_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        simulate(heartbeats, seed=3).check()
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    assert capfd.readouterr().err == ""


def test_no_code_of_a_dead_node_runs_when_its_references_go() -> None:
    log: list[str] = []
    kept: list[weakref.ref[Any]] = []

    @contextmanager
    def guarded(name: str) -> Iterator[None]:
        try:
            yield
        finally:
            log.append(name)

    class Loud:
        def __init__(self) -> None:
            self.itself = self
            kept.append(weakref.ref(self))

        def __del__(self) -> None:
            log.append("__del__")

    class Holder(GenServer[Any]):
        async def init(self) -> None:
            self.state = guarded("held by a server"), Loud()
            self.state[0].__enter__()

    async def unborn(loud: Loud) -> None:
        log.append("never begun")

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        try:
            yield
        finally:
            log.append("asynchronous generator")

    async def main(node: Node, world: World) -> None:
        await Holder.start_link()
        loud = Loud()
        with guarded("block"):
            async with opened(), trio.Lock(), trio.open_nursery() as nursery:
                await trio.sleep(1)
                nursery.start_soon(unborn, loud)
                world.nodes.kill(node.name)
                await trio.sleep_forever()

    async def scenario(world: World) -> None:
        world.nodes.start("a", main, world)
        await trio.sleep(2)

    for seed in range(3):
        simulate(scenario, seed).check()
    gc.collect()
    assert log == []
    assert len(kept) == 6


def test_no_code_of_a_dead_node_runs_at_the_end_of_the_interpreter() -> None:
    script = (
        "from supervision.simulation import simulate\n"
        "from tests.simulation.test_nodes import sleeps_and_says_when_it_ends\n"
        "simulate(sleeps_and_says_when_it_ends, seed=1).check()\n"
        "print('over')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("over\n", "")


async def sleeps_and_says_when_it_ends(world: World) -> None:
    """Kill a node that would print something if any of its code ran."""

    async def main(node: Node) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
        finally:
            print("a clean-up has run")

    world.nodes.start("a", main)
    await trio.sleep(1)
    world.nodes.kill("a")


def test_the_tasks_of_a_killed_node_do_not_keep_the_trace_in_memory() -> None:
    def kept(events: int) -> int:
        async def scenario(world: World) -> None:
            world.nodes.start("a", sleeps, [])
            await trio.sleep(1)
            world.nodes.kill("a")
            for number in range(events):
                world.note("one more", number=number)

        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        simulate(scenario, seed=1).check()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        few = kept(10)
        assert kept(3_000) - few < 60_000
    finally:
        tracemalloc.stop()


def test_a_task_that_a_living_task_starts_in_a_dead_nursery_never_runs() -> None:
    log: list[str] = []

    async def intruder() -> None:
        log.append("ran")

    async def main(node: Node, nurseries: list[trio.Nursery]) -> None:
        async with trio.open_nursery() as nursery:
            nurseries.append(nursery)
            await trio.sleep_forever()

    async def scenario(world: World) -> None:
        nurseries: list[trio.Nursery] = []
        world.nodes.start("a", main, nurseries)
        await trio.sleep(1)
        world.nodes.kill("a")
        nurseries[0].start_soon(intruder)
        await trio.sleep(1)

    simulate(scenario, seed=1).check()
    assert log == []


def test_processes_of_a_dead_node_are_no_longer_found() -> None:
    async def main(node: Node) -> None:
        await Supervisor.start_link([], label="top")
        await trio.sleep_forever()

    async def scenario(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(1)
        pid = world.find("/top")
        assert pid is not None
        world.nodes.kill("a")
        assert world.find("/top") is None
        assert world.path_of(pid) is None
        assert len(world.runtimes) == 1
        with trio.move_on_after(5):
            await call(pid, "anybody?", timeout=60)

    outcome = simulate(scenario, seed=1).check()
    assert {event.get("node") for event in events(outcome, "spawned")} == {"a"}


def test_a_plan_of_faults_kills_nodes_and_skews_their_clocks() -> None:
    log: list[str] = []

    async def main(node: Node) -> None:
        log.append(f"{node.label} begins at {current_runtime().now():g}")
        try:
            await trio.sleep_forever()
        finally:
            log.append(f"{node.label} cleans up")

    async def scenario(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(10)

    plan = (
        KillNode(node="a", when=At(1.0), reboot_after=2.0),
        SkewClock(node="a", when=At(2.0), seconds=100.0),
    )
    outcome = simulate(scenario, seed=1, knobs=Knobs(epoch=0.0), faults=plan).check()
    assert [report.status for report in outcome.fault_reports] == ["applied", "applied"]
    assert log == ["a begins at 0", "a#2 begins at 103", "a#2 cleans up"]


@pytest.mark.parametrize("seed", range(5))
def test_a_paused_node_does_nothing_and_its_deadlines_have_passed_when_it_resumes(
    seed: int,
) -> None:
    log: list[tuple[str, float]] = []
    resumed: list[float] = []

    async def main(node: Node) -> None:
        listener = node.listen(4000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ticks, node)
            stream = await listener.accept()
            with trio.move_on_after(3.0):
                log.append((f"{node.name} got {bytes(await stream.receive_some())!r}", node.now()))
                await stream.receive_some()
            log.append((f"{node.name} gave up", node.now()))

    async def ticks(node: Node) -> None:
        while True:
            await trio.sleep(1.0)
            log.append((node.name, node.now()))

    async def scenario(world: World) -> None:
        for name in "ab":
            world.nodes.start(name, main)
        await trio.sleep(0.5)
        stream = await world.network.connect("a", 4000)
        await trio.sleep(1.0)
        world.nodes.pause("a")
        log.clear()
        await stream.send_all(b"x")
        await trio.sleep(10.0)
        assert [name for name, _ in log] == ["b"] * 10
        log.clear()
        resumed.append(world.seconds)
        world.nodes.resume("a")
        world.nodes.resume("a")
        await trio.sleep(2.2)

    outcome = simulate(scenario, seed, knobs=Knobs(epoch=0.0)).check()
    mine = [(name, round(at - resumed[0], 6)) for name, at in log if name != "b"]
    # The tick that was due, and two more.
    assert [each for each in mine if each[0] == "a"] == [("a", 0.0), ("a", 1.0), ("a", 2.0)]
    assert ("a gave up", 0.0) in mine
    assert [event["node"] for event in events(outcome, "node_paused")] == ["a"]
    assert [event["node"] for event in events(outcome, "node_resumed")] == ["a"]


@pytest.mark.parametrize("end", ["nothing", "kill", "stop"])
def test_a_run_ends_with_a_paused_node(end: str) -> None:
    log: list[str] = []

    async def scenario(world: World) -> None:
        world.nodes.start("a", sleeps, log)
        await trio.sleep(1.0)
        world.nodes.pause("a")
        with pytest.raises(SimulationError, match="'a': it is paused already"):
            world.nodes.pause("a")
        if end == "kill":
            world.nodes.kill("a")
            world.nodes.boot("a")
        elif end == "stop":
            world.nodes.stop("a")
        await trio.sleep(1.0)
        assert world.nodes.is_up("a")

    simulate(scenario, seed=1).check()
    expected = ["a#2 begins", "a#2 cleans up"] if end == "kill" else ["a cleans up"]
    assert log == ["a begins", *expected]


def test_a_suspend_moves_the_clocks_of_a_node_and_not_the_clock_of_trio() -> None:
    seen: list[float] = []

    async def main(node: Node) -> None:
        runtime = current_runtime()
        before = (runtime.since_boot(), runtime.now(), trio.current_time())
        await trio.sleep(10.0)
        after = (runtime.since_boot(), runtime.now(), trio.current_time())
        seen.extend(round(b - a, 6) for a, b in zip(before, after, strict=True))

    async def scenario(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(5.0)
        world.nodes.suspend("a", 3600.0)
        assert current_runtime().since_boot() == trio.current_time()
        await trio.sleep(10.0)

    outcome = simulate(scenario, seed=1).check()
    assert seen == [3610.0, 3610.0, 10.0]
    assert [event["seconds"] for event in events(outcome, "node_suspended")] == [3600.0]


def test_an_impossible_request_to_a_node_is_refused_with_its_name() -> None:
    async def scenario(world: World) -> None:
        world.nodes.start("a", echo)
        with pytest.raises(SimulationError, match="there is no node of that name; the nodes are a"):
            world.nodes.kill("b")
        with pytest.raises(SimulationError, match="to start it again"):
            world.nodes.start("a", echo)
        with pytest.raises(SimulationError, match="it is already running"):
            world.nodes.boot("a")
        world.nodes.kill("a")
        with pytest.raises(SimulationError, match="it is down"):
            world.nodes.kill("a")
        assert world.nodes.names() == ("a",)

    simulate(scenario, seed=1).check()
