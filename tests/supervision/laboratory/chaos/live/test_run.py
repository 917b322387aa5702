"""Experiments on a live runtime, on a clock that takes no time."""

from __future__ import annotations

import gc
import re
import weakref
from random import Random
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from actors import (
    SHUTDOWN,
    CallExit,
    CallTimeout,
    ExitReason,
    GenServer,
    NoProcess,
    NoReply,
    Pid,
    Reply,
    Sender,
    call,
    cast,
    current_runtime,
    spawn,
)
from supervision import Supervisor, child_spec
from supervision.laboratory.chaos.errors import ChaosFailed, InvalidFault
from supervision.laboratory.chaos.faults.kinds import Hang, Kill, Raise, ResetConnection, StallLoop
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.chaos.faults.plan import Storm
from supervision.laboratory.chaos.invariants.base import Invariant
from supervision.laboratory.chaos.live.outcome import LiveOutcome
from supervision.laboratory.chaos.live.run import live, run_live
from supervision.laboratory.chaos.live.service import ServiceLimits
from supervision.laboratory.chaos.live.world import LiveWorld
from supervision.recording import places
from tests.laws.scenarios import scenario, simulate
from tests.supervision.recording.reader.test_merging import note, recording, young


class Counter(GenServer[int]):
    """Counts, and forgets when it crashes."""

    async def init(self) -> None:
        self.state = 0

    async def handle_call(self, request: object, sender: Sender) -> Reply:
        return Reply(self.state)

    async def handle_cast(self, message: object) -> None:
        self.state += 1


NAMES = ("a", "b", "c")


async def answers() -> str | None:
    for name in NAMES:
        try:
            await call(name, "get", timeout=1)
        except (CallExit, NoProcess) as error:
            return f"{name} does not answer: {type(error).__name__}"
    return None


@scenario(faults=Storm(["/top/*"], kinds=("kill", "crash"), count=8, within=15.0))
async def counting(world: Any) -> str:
    """Three counters, and a process that makes them count."""
    specs = [child_spec(Counter, id=name, kwargs={"name": name}) for name in NAMES]
    await Supervisor.start_link(specs, max_restarts=100, label="top")
    world.steady("all answer", answers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count, world)
        await world.until_over()
        nursery.cancel_scope.cancel()
    return "done"


async def count(world: Any) -> None:
    stream = world.random("counting")
    while True:
        cast(stream.choice(NAMES), "count")
        await trio.sleep(0.1)


def kinds(outcome: LiveOutcome) -> list[tuple[str, Any]]:
    events = [msgspec.json.decode(line) for line in outcome.trace]
    return [(e["kind"], e.get("phase")) for e in events if e["kind"] in {"phase", "heal", "fault"}]


async def test_a_system_that_is_supervised_comes_back() -> None:
    outcome = await live(counting, 7, seconds=20)
    assert outcome.check() is outcome
    assert outcome.result == "done"
    assert [report.status for report in outcome.fault_reports] == ["applied"] * 8
    measures = outcome.measures
    assert (measures.applied, measures.processes.ended_by_faults) == (8, 8)
    assert measures.recovery.count + measures.recovery.not_back == 8
    assert measures.processes.troubled == 0
    assert outcome.seconds == pytest.approx(30, abs=0.5)


async def test_faults_happen_only_in_their_phase() -> None:
    happened = kinds(await live(counting, 7, seconds=20))
    assert happened[:2] == [("phase", "before"), ("phase", "during")]
    assert happened[2:-3] == [("fault", None)] * 8
    assert happened[-3:] == [("phase", "after"), ("heal", None), ("phase", "closing")]


async def test_the_seed_decides_the_faults() -> None:
    one, same, other = [(await live(counting, seed, seconds=1)).faults for seed in (7, 7, 8)]
    assert one == same != other


async def test_the_plan_is_the_one_that_a_simulation_draws() -> None:
    outcome = await trio.to_thread.run_sync(lambda: simulate(counting, 7, params={"seconds": 20}))
    assert outcome.check().faults == (await live(counting, 7, seconds=1)).faults


async def test_an_experiment_does_not_begin_without_a_steady_state() -> None:
    async def broken(world: LiveWorld) -> None:
        world.steady("all answer", answers)
        await world.until_over()

    outcome = await live(broken, 7, seconds=5, faults=[Kill(target="/top", when=At(1))])
    assert outcome.failed
    assert "the experiment did not begin" in outcome.problems[0]
    assert "a does not answer: NoProcess" in outcome.problems[0]
    assert ("phase", "during") not in kinds(outcome)
    assert [report.status for report in outcome.fault_reports] == []


async def test_a_steady_state_that_does_not_come_back_fails_the_run() -> None:
    async def unsupervised(world: LiveWorld) -> None:
        for name in NAMES:
            await Counter.start(name=name, label=name)
        world.steady("all answer", answers)
        await world.until_over()

    outcome = await live(unsupervised, 7, seconds=5, faults=[Kill(target="/b", when=At(1))])
    assert "the steady state did not come back within 15 s" in outcome.problems[0]
    assert outcome.measures.problems == list(outcome.problems)
    with pytest.raises(ChaosFailed, match="b does not answer"):
        outcome.check()


async def test_hung_callbacks_continue_when_the_faults_are_over() -> None:
    outcome = await live(counting, 7, seconds=5, faults=[Hang(target="/top/a", when=At(1))])
    assert not outcome.failed
    (all_answer,) = outcome.measures.steady
    assert all_answer.longest_outage == pytest.approx(4, abs=1.2)


async def test_an_invariant_that_breaks_fails_the_run_once() -> None:
    async def forgetful(world: LiveWorld) -> None:
        world.invariant("nothing is ever over", lambda: "it is" if world.seconds > 8 else None)
        await counting(world)

    outcome = await live(forgetful, 7, seconds=10, faults=[Kill(target="/top/a", when=At(1))])
    assert outcome.problems == ("the invariant 'nothing is ever over' was broken: it is",)
    assert [broken.name for broken in outcome.measures.invariants] == ["nothing is ever over"]


class LastWords(Invariant):
    name = "last_words"

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        if reason is SHUTDOWN:
            self.violated(f"{self.who(pid)} was stopped")


async def test_a_violation_during_shutdown_fails_the_run() -> None:
    outcome = await live(counting, 7, seconds=1, faults=(), invariants=["all", LastWords])
    (problem,) = outcome.problems
    assert problem.startswith("the invariant 'last_words' was broken: /top/c#1")
    assert [broken.name for broken in outcome.measures.invariants] == ["last_words"]


class Silent(GenServer[None]):
    async def handle_call(self, request: object, sender: Sender) -> NoReply:
        return NoReply()


async def test_a_stall_of_the_whole_program_breaks_no_invariant() -> None:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)

    async def drag() -> None:
        # Every round of the scheduler takes longer than it is between two looks at the invariants.
        while True:
            clock.jump(0.1)
            await trio.lowlevel.checkpoint()

    async def dragging(world: LiveWorld) -> None:
        silent = await Silent.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drag)
            for _ in range(200):
                with pytest.raises(CallTimeout):
                    await call(silent, "anything", timeout=0.25)
            await world.until_over()
            nursery.cancel_scope.cancel()

    limits = ServiceLimits(max_late_share=1.0)
    (await live(dragging, 7, seconds=30, limits=limits)).check()


async def test_an_exception_of_the_scenario_is_in_the_outcome() -> None:
    async def failing(world: LiveWorld) -> None:
        await trio.sleep(8)
        world.check(False, "nobody answered")

    outcome = await live(failing, 7, seconds=10)
    assert outcome.problems == (
        "the scenario raised InvariantViolated: invariant 'check' does not hold at 8 s: nobody answered",
    )
    with pytest.raises(ChaosFailed) as caught:
        outcome.check()
    assert caught.value.__cause__ is outcome.error


@pytest.mark.parametrize("raises", [True, False])
async def test_recordings_without_a_common_message_are_no_second_error_of_a_scenario(
    raises: bool,
) -> None:
    async def lonely(world: LiveWorld) -> None:
        recording = {
            "kind": "recording",
            "why": "continuous",
            "began": 0.0,
            "seconds": 0.0,
            "t": 0.0,
        }
        world.recordings["server.jsonl"] = [msgspec.json.encode({"n": 0, **recording})]
        if raises:
            raise ValueError("wrong address")
        await world.until_over()

    outcome = await live(lonely, 7, seconds=1, faults=[StallLoop(seconds=0.001, when=At(0.5))])
    if raises:
        assert outcome.problems == ("the scenario raised ValueError: wrong address",)
    else:
        [problem] = outcome.problems
        assert problem == (
            "the report has only the events of the experiment: server.jsonl and the experiment do not belong together: "
            "no message of one was received in the other"
        )


async def test_a_recording_that_ends_too_early_is_a_problem_and_the_report_has_the_others() -> None:
    async def cluster(world: LiveWorld) -> None:
        world.trace.add("note", {"pid": None, "text": "sent", "leaves": "m"})
        world.recordings["server.1.jsonl"] = recording(note("received", 1.0, arrives="m"))
        world.recordings["server.2.jsonl"] = young()
        await world.until_over()

    outcome = await live(cluster, 7, seconds=1, faults=[StallLoop(seconds=0.001, when=At(0.5))])
    [problem] = outcome.problems
    assert problem == (
        "the report lacks server.2.jsonl: a process was killed so soon after its start that the recorder had not "
        "written; let the faults leave it more time"
    )
    assert "received" in {each.get("text") for each in map(msgspec.json.decode, outcome.trace)}


async def test_a_scenario_that_returns_too_early_is_a_problem_with_advice() -> None:
    async def hasty(world: LiveWorld) -> None:
        pass

    outcome = await live(hasty, 7, seconds=10)
    assert "await world.until_over()" in outcome.problems[0]


async def test_a_scenario_may_end_its_faults_itself() -> None:
    async def knowing(world: LiveWorld) -> None:
        await Supervisor.start_link(
            [child_spec(Counter, id="a", kwargs={"name": "a"})], label="top"
        )
        await world.eventually("there are faults", world.faults.report, within=60)
        await trio.sleep(2)
        await world.recovered("a is back", lambda: world.find("/top/a"), within=5)

    outcome = await live(knowing, 7, seconds=60, faults=[Kill(target="/top/a", when=At(1))])
    assert not outcome.failed
    assert outcome.seconds < 20


async def test_a_scenario_that_returns_during_the_faults_is_a_problem() -> None:
    async def hasty(world: LiveWorld) -> None:
        await world.eventually("there are faults", world.faults.report, within=60)
        await trio.sleep(2)

    outcome = await live(hasty, 7, seconds=60, faults=[StallLoop(seconds=0.0, when=At(1))])
    (problem,) = outcome.problems
    assert "so its recovery was not checked" in problem
    assert "`await world.recovered(...)`" in problem


async def test_faults_that_are_healed_before_they_begin_do_not_begin_later() -> None:
    async def early(world: LiveWorld) -> None:
        await world.recovered("nothing", lambda: True, within=1)
        await counting(world)

    faults = [Kill(target="/top/a", when=At(time)) for time in (0, 1)]
    outcome = await live(early, 7, seconds=60, faults=faults)
    assert "before the faults began" in outcome.problems[0]
    assert outcome.measures.processes.ended == 0
    happened = [kind for kind in kinds(outcome) if kind[0] != "fault"]
    assert happened[1:4] == [("phase", "during"), ("phase", "after"), ("heal", None)]


UNMET = (
    r"none of the 1 planned faults was applied; kill /nowhere at 6(\.\d+)? s: "
    r"there was no such process at that time"
)


async def test_a_run_without_an_applied_fault_fails() -> None:
    faults = [Kill(target="/nowhere", when=At(1))]
    (problem,) = (await live(counting, 7, seconds=2, faults=faults)).problems
    assert re.fullmatch(UNMET, problem)


async def test_a_run_without_an_applied_fault_fails_also_after_recovered() -> None:
    async def knowing(world: LiveWorld) -> None:
        await world.eventually("there are faults", world.faults.report, within=60)
        await trio.sleep(2)
        await world.recovered("nothing", lambda: True, within=5)

    faults = [Kill(target="/nowhere", when=At(1))]
    (problem,) = (await live(knowing, 7, seconds=60, faults=faults)).problems
    assert re.fullmatch(UNMET, problem)


async def test_a_run_can_be_ended_early_and_in_order() -> None:
    stop = trio.Event()

    async def stopped(world: LiveWorld) -> str:
        trio.lowlevel.spawn_system_task(stop_later)
        return await counting(world)

    async def stop_later() -> None:
        await trio.sleep(10)
        stop.set()

    faults = [Kill(target="/top/a", when=At(time)) for time in (1, 50)]
    outcome = await live(stopped, 7, seconds=60, faults=faults, stop=stop)
    assert outcome.interrupted
    assert not outcome.failed
    assert outcome.result == "done"
    assert outcome.seconds < 13
    assert [report.status for report in outcome.fault_reports] == ["applied", "not_applicable"]


async def test_faults_to_connections_need_a_network() -> None:
    faults = (ResetConnection(when=At(1)), Kill(target="/top/a", when=At(1)))
    outcome = await live(counting, 7, seconds=2, faults=faults)
    assert [report.status for report in outcome.fault_reports] == ["not_applicable", "applied"]
    assert not outcome.failed


async def test_a_stall_really_blocks_the_loop() -> None:
    outcome = await live(counting, 7, seconds=1, faults=[StallLoop(seconds=0.05, when=At(0.5))])
    assert [report.status for report in outcome.fault_reports] == ["applied"]


async def test_a_report_has_the_plan_and_its_outcome() -> None:
    outcome = await live(counting, 7, seconds=5, faults=[Raise(target="/top/a", when=At(1))])
    report = msgspec.json.decode(outcome.to_json())
    assert report["format"] == 1
    assert report["scenario"] == f"{__name__}:counting"
    assert (report["seed"], report["verdict"], report["interrupted"]) == (7, "held", False)
    assert report["plan"] == [
        {"type": "crash", "target": "/top/a", "when": {"type": "at", "seconds": 1}}
    ]
    assert report["measures"]["applied"] == 1
    assert report["problems"] == []


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"faults": StallLoop(seconds=1, when=At(1))}, InvalidFault, "write a sequence of faults"),
        ({"faults": ["kill"]}, InvalidFault, "plan(faults='kill') is invalid"),
        ({"faults": lambda random: "kill"}, InvalidFault, "write a sequence of faults"),
        ({"invariants": "no_orphan"}, TypeError, "('no_orphan',)"),
        ({"invariants": ["no_orphans"]}, ValueError, "write one of: no_orphan"),
    ],
)
def test_invalid_arguments_are_refused_at_once(
    wrong: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        run_live(counting, 7, seconds=1, **wrong)


@pytest.mark.parametrize("wrong", [{"faults": StallLoop(seconds=1, when=At(1))}, {"faults": [7]}])
def test_a_scenario_with_an_invalid_plan_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidFault, match="write a sequence of faults"):
        scenario(**wrong)


def test_a_scenario_takes_several_invariants() -> None:
    with pytest.raises(TypeError, match="no_orphan"):
        scenario(invariants="no_orphan")


async def test_run_live_is_refused_within_trio() -> None:
    with pytest.raises(RuntimeError, match=r"write `await live\(\.\.\.\)`"):
        run_live(counting, 7, seconds=1)


async def test_random_numbers_are_those_of_a_simulation_with_the_same_seed() -> None:
    drawn: list[tuple[float, ...]] = []

    class Gambler(GenServer[float]):
        async def init(self) -> None:
            self.state = current_runtime().random.random()

        async def handle_call(self, request: object, sender: Sender) -> Reply:
            return Reply(self.state)

    async def gamble(world: Any) -> None:
        await Supervisor.start_link(
            [child_spec(Gambler, id="a", kwargs={"name": "a"})], label="top"
        )
        await Gambler.start(name="b", label="b")
        own = world.random("dice").random()
        drawn.append((own, await call("a", "get"), await call("b", "get")))

    def simulated() -> None:
        simulate(gamble, 7).check()

    await trio.to_thread.run_sync(simulated)
    await live(gamble, 7, seconds=1)
    await live(gamble, 8, seconds=1)
    assert drawn[0] == drawn[1] != drawn[2]


async def test_random_streams_of_ended_processes_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places, "REMEMBERED", 3)
    streams: list[weakref.ref[Random]] = []
    left: list[int] = []

    async def draw() -> None:
        stream = current_runtime().random
        assert current_runtime().random is stream
        streams.append(weakref.ref(stream))

    async def drawing(world: LiveWorld) -> None:
        for _ in range(10):
            spawn(draw)
            await trio.sleep(1)
        gc.collect()
        left.extend(number for number, stream in enumerate(streams) if stream() is not None)
        await world.until_over()

    (await live(drawing, 7, seconds=10)).check()
    assert len(streams) == 10
    assert left == [7, 8, 9]


async def test_figures_and_notes_of_the_scenario_are_in_the_trace() -> None:
    async def noting(world: LiveWorld) -> None:
        world.note("nobody is here", clients=0)
        world.measure("clients", 0)
        world.sometimes("somebody was", False)

    outcome = await live(noting, 7, seconds=1)
    events = [msgspec.json.decode(line) for line in outcome.trace]
    assert {"text": "nobody is here", "clients": "0"}.items() <= events[2].items()
    assert {"kind": "measure", "name": "clients", "value": 0}.items() <= events[3].items()
    assert outcome.sometimes == {"somebody was": False}


async def test_a_run_can_be_ended_before_its_faults() -> None:
    stop = trio.Event()
    stop.set()
    outcome = await live(counting, 7, seconds=60, stop=stop)
    assert outcome.interrupted
    assert not outcome.failed
    assert outcome.measures.applied == 0
    assert outcome.seconds < 1


async def test_a_scenario_that_does_not_return_is_cancelled() -> None:
    async def endless(world: LiveWorld) -> None:
        await trio.sleep_forever()

    outcome = await live(endless, 7, seconds=1)
    assert not outcome.failed
    assert outcome.result is None
    assert outcome.seconds == pytest.approx(5 + 1 + 5 + 10, abs=0.5)


async def test_a_check_of_an_invariant_that_raises_is_a_problem() -> None:
    async def careless(world: LiveWorld) -> None:
        world.invariant("a division", lambda: str(1 / 0))
        await world.until_over()

    outcome = await live(careless, 7, seconds=1)
    assert len(outcome.problems) == 1
    assert "ZeroDivisionError" in outcome.problems[0]


async def test_all_times_count_from_the_start_of_the_run() -> None:
    outcome = await live(counting, 7, seconds=5, faults=[Kill(target="/top/a", when=At(1))])
    (report,) = outcome.fault_reports
    (fault,) = outcome.measures.faults
    assert report.seconds == pytest.approx(6, abs=0.3)
    assert fault.seconds == pytest.approx(6, abs=0.3)
    assert re.fullmatch(r"kill /top/a at 6(\.\d+)? s", fault.fault)
    assert report.text == fault.fault


async def test_a_plan_can_be_spread_over_the_phase_with_the_faults() -> None:
    faults = [Kill(target="/top/a", when=At(time)) for time in (10, 30)]
    outcome = await live(counting, 7, seconds=60, faults=faults, spread_plan=True)
    assert [fault.when for fault in outcome.faults] == [At(18), At(54)]
    assert [report.status for report in outcome.fault_reports] == ["applied"] * 2
    assert outcome.measures.faults[-1].seconds == pytest.approx(59, abs=0.3)
