"""The probe of the event loop, the service limits, and the result of a run whose event loop was too slow."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
import trio.testing

from supervision.laboratory.chaos.errors import ChaosFailed
from supervision.laboratory.chaos.faults.kinds import StallLoop
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.chaos.live.experiment import Experiment, Phases
from supervision.laboratory.chaos.live.run import live
from supervision.laboratory.chaos.live.service import LoopProbe, MachineProbe, ServiceLimits
from supervision.laboratory.chaos.live.world import LiveWorld
from supervision.laboratory.entropy import Streams
from supervision.recording.trace import BoundedTrace


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


def a_probe() -> tuple[Clock, LoopProbe]:
    clock = Clock()
    return clock, LoopProbe(BoundedTrace(clock.now), clock.now, ServiceLimits(), every=0.25)


def test_a_probe_in_time_has_no_lag() -> None:
    clock, probe = a_probe()
    for clock.time in (0.25, 0.5, 0.75):
        probe.woken()
    assert probe.lags == [(0.25, 0.0), (0.5, 0.0), (0.75, 0.0)]


def test_each_due_time_of_a_stall_counts() -> None:
    clock, probe = a_probe()
    clock.time = 1.0
    probe.woken()
    assert probe.lags == [(0.25, 0.75), (0.5, 0.5), (0.75, 0.25), (1.0, 0.0)]
    assert probe.lags_since(0.6) == [0.25, 0.0]


def test_the_due_times_of_a_planned_stall_do_not_count() -> None:
    clock, probe = a_probe()
    probe.excuse(0.3, 0.8)
    clock.time = 1.0
    probe.woken()
    assert [due for due, _ in probe.lags] == [0.25, 1.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"late_after": 0},
        {"answer_within": -1},
        {"max_late_share": 1.1},
        {"min_in_time": -0.1},
        {"max_wait_share": 1.1},
        {"max_load": 0},
    ],
)
def test_invalid_limits_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"ServiceLimits got {next(iter(wrong))}="):
        ServiceLimits(**wrong)


async def idle(world: LiveWorld) -> None:
    world.steady("all is well", lambda: None)
    await world.until_over()


async def busy(world: LiveWorld) -> None:
    """Block the loop for 200 ms, twice a second."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    world.steady("all is well", lambda: None)
    while not world.over.is_set():
        clock.jump(0.2)
        await trio.sleep(0.3)


async def test_a_run_on_an_idle_loop_holds() -> None:
    outcome = await live(idle, 7, seconds=5)
    assert outcome.verdict == "held"
    assert outcome.measures.loop is not None
    assert outcome.measures.loop.late_share == 0.0
    assert outcome.measures.loop.ticks > 150


async def test_a_run_with_a_busy_loop_is_overloaded_and_not_green() -> None:
    outcome = await live(busy, 7, seconds=5)
    assert (outcome.verdict, outcome.failed) == ("overloaded", True)
    (problem,) = outcome.problems
    assert problem.startswith("overloaded: for ")
    assert "do not speak about recovery" in problem
    assert outcome.measures.loop is not None
    assert outcome.measures.loop.overloaded
    assert outcome.measures.problems == [problem]
    with pytest.raises(ChaosFailed, match="overloaded"):
        outcome.check()


async def test_the_limits_decide_how_much_lag_is_allowed() -> None:
    outcome = await live(busy, 7, seconds=5, limits=ServiceLimits(max_late_share=0.5))
    assert outcome.verdict == "held"
    outcome = await live(busy, 7, seconds=5, limits=ServiceLimits(late_after=0.3))
    assert outcome.verdict == "held"


async def test_a_planned_stall_does_not_make_a_run_overloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    monkeypatch.setattr(time, "sleep", clock.jump)
    outcome = await live(idle, 7, seconds=5, faults=[StallLoop(seconds=3.0, when=At(1))])
    assert [report.status for report in outcome.fault_reports] == ["applied"]
    assert outcome.verdict == "held"


def an_experiment(clock: Clock) -> Experiment:
    trace = BoundedTrace(clock.now)
    world = LiveWorld(
        seed=7,
        params={},
        trace=trace,
        streams=Streams(7),
        network=None,
        now=clock.now,
        heal=lambda: None,
    )
    return Experiment(
        world,
        plan=(),
        seconds=1.0,
        phases=Phases(),
        machine=MachineProbe(trace, clock.now, ServiceLimits()),
        on_phase=lambda name: None,
    )


def test_a_stall_at_the_end_of_the_run_counts() -> None:
    clock, probe = a_probe()
    for clock.time in (0.25, 0.5):
        probe.woken()
    # The loop stalls, and the run ends before the probe wakes.
    clock.time = 5.0
    experiment = an_experiment(clock)
    assert experiment.judge_service(probe, ServiceLimits())
    assert experiment.problems[0].startswith("overloaded: ")


async def asking(world: LiveWorld, seconds: float) -> None:
    world.steady("all is well", lambda: None)

    async def client(number: int) -> None:
        while True:
            with world.request("ask", client=number):
                await trio.sleep(seconds if number else 0.1)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(client, number)
        await world.until_over()
        nursery.cancel_scope.cancel()


async def test_a_run_without_answers_in_time_for_most_clients_fails() -> None:
    async def slow(world: LiveWorld) -> None:
        await asking(world, 1.5)

    outcome = await live(slow, 7, seconds=5)
    assert outcome.verdict == "failed"
    (problem,) = outcome.problems
    assert problem.startswith("too few answers in time to 'ask': ")
    assert "1 of 3 clients" in problem
    outcome = await live(slow, 7, seconds=5, limits=ServiceLimits(answer_within=2.0))
    assert outcome.verdict == "held"
    outcome = await live(slow, 7, seconds=5, limits=ServiceLimits(min_in_time=0.0))
    assert outcome.verdict == "held"


async def test_a_run_whose_clients_ask_nothing_during_the_faults_fails() -> None:
    async def cut_off(world: LiveWorld) -> None:
        world.steady("all is well", lambda: None)

        async def client(number: int) -> None:
            while True:
                # The client hangs where it connects, so it makes no request.
                if 5 <= world.seconds < 15:
                    await trio.sleep(10)
                with world.request("ask", client=number):
                    await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(client, number)
            await world.until_over()
            nursery.cancel_scope.cancel()

    outcome = await live(cut_off, 7, seconds=8)
    assert outcome.verdict == "failed"
    (problem,) = outcome.problems
    assert problem.startswith("too few answers in time to 'ask': ")
    assert "3 clients made no request during the faults" in problem
    assert [each.silent for each in outcome.measures.requests] == [3]


async def test_answers_in_time_are_in_the_figures() -> None:
    async def quick(world: LiveWorld) -> None:
        await asking(world, 0.5)

    outcome = await live(quick, 7, seconds=5)
    assert outcome.verdict == "held"
    (ask,) = outcome.measures.requests
    assert (ask.clients, ask.clients_in_time, ask.late, ask.unanswered) == (3, 3, 0, 0)
    assert ask.longest == pytest.approx(0.5, abs=0.01)
