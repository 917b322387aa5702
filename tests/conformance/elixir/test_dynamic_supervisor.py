"""Cases of Elixir's dynamic supervisor suite: the ends of stopping children, and their reports."""

import math
from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Crash,
    Fail,
    GenServer,
    Pid,
    Runtime,
    exit,
    kill,
    open_runtime,
    stop,
    trap_exits,
    wait_exit,
)
from supervision import ChildSpec, DynamicSupervisor, Supervisor, child_spec
from supervision.events import CHILD_STOP_FAILED, CHILD_TERMINATED
from tests.supervision.workers import Log, Outcomes, running, settle, worker

Heard = list[tuple[str, Any]]


@pytest.fixture
async def runtime() -> Any:
    async with open_runtime(log=False) as opened:
        yield opened


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def heard(runtime: Runtime) -> Heard:
    """The events about stopped children, each with its exit reason."""
    kept: Heard = []
    for event in (CHILD_STOP_FAILED, CHILD_TERMINATED):
        runtime.telemetry.attach(
            event, lambda event, measured, about: kept.append((event[-1], about["reason"]))
        )
    return kept


class Closing(GenServer[Any]):
    """A child that traps exits. When it is stopped, it ends after `seconds` with `reason`."""

    async def init(self, ending: Any = SHUTDOWN, seconds: float = 0.0) -> None:
        trap_exits()
        self.state = ending
        self.seconds = seconds

    async def terminate(self, reason: Any) -> None:
        await trio.sleep(self.seconds)
        if isinstance(self.state, Exception):
            raise self.state
        if self.state is not SHUTDOWN:
            exit(self.state)


async def stopped(*specs: ChildSpec) -> float:
    """Stop a pool of such children, and return the seconds that it took."""
    pool = await DynamicSupervisor.start()
    for spec in specs:
        await DynamicSupervisor.start_child(pool, spec)
    began = trio.current_time()
    await stop(pool)
    return trio.current_time() - began


def closing(ending: Any = SHUTDOWN, seconds: float = 0.0, **fields: Any) -> ChildSpec:
    return child_spec(Closing, ending, seconds, **fields)


# terminate/2


async def test_children_with_a_brutal_kill_are_killed_without_a_report(
    runtime: Runtime, heard: Heard
) -> None:
    spec = closing(seconds=9.0, shutdown="brutal_kill")
    assert await stopped(spec, spec, spec) == 0
    assert heard == [("terminated", KILLED)] * 3


async def test_children_with_an_infinite_shutdown_are_waited_for(
    runtime: Runtime, heard: Heard
) -> None:
    spec = closing(seconds=1e4, shutdown=math.inf)
    assert await stopped(spec, spec, spec) == 1e4
    assert heard == [("terminated", SHUTDOWN)] * 3


@pytest.mark.parametrize("shutdown", [math.inf, 1.0])
async def test_a_child_that_stops_with_an_unexpected_reason_is_reported(
    runtime: Runtime, heard: Heard, shutdown: float
) -> None:
    await stopped(closing("abnormal", shutdown=shutdown))
    assert heard == [("stop_failed", "abnormal"), ("terminated", "abnormal")]
    heard.clear()
    await stopped(closing(ValueError("x"), shutdown=shutdown))
    assert [reason for _, reason in heard] == [Crash(ValueError("x"))] * 2


async def test_children_with_a_limit_stop_within_it_all_at_once(
    runtime: Runtime, heard: Heard
) -> None:
    spec = closing(seconds=1.0, shutdown=2.0)
    assert await stopped(spec, spec, spec) == 1
    assert heard == [("terminated", SHUTDOWN)] * 3


async def test_children_beyond_their_shutdown_limit_are_killed_and_reported(
    runtime: Runtime, heard: Heard
) -> None:
    spec = closing(seconds=9.0, shutdown=2.0)
    assert await stopped(spec, spec) == 2
    assert sorted(heard, key=str) == sorted(
        [("stop_failed", KILLED), ("terminated", KILLED)] * 2, key=str
    )


async def test_only_a_permanent_child_must_stop_with_shutdown(
    runtime: Runtime, heard: Heard
) -> None:
    await stopped(closing(NORMAL, restart="permanent"))
    assert heard == [("stop_failed", NORMAL), ("terminated", NORMAL)]
    heard.clear()
    await stopped(closing(NORMAL, restart="transient"), closing(NORMAL, restart="temporary"))
    assert heard == [("terminated", NORMAL)] * 2


async def test_a_mix_of_children_is_stopped_each_as_its_spec_says(
    runtime: Runtime, heard: Heard
) -> None:
    took = await stopped(
        closing(seconds=9.0, shutdown="brutal_kill"),
        closing(seconds=1.0, shutdown=5.0),
        closing(seconds=9.0, shutdown=2.0),
        closing(seconds=3.0, shutdown=math.inf),
    )
    assert took == 3
    assert [reason for what, reason in heard if what == "terminated"] == [
        KILLED,
        SHUTDOWN,
        KILLED,
        SHUTDOWN,
    ]
    assert ("stop_failed", KILLED) in heard


# terminate_child/2


@pytest.mark.parametrize(
    ("shutdown", "took", "reason"), [("brutal_kill", 0, KILLED), (5.0, 1, SHUTDOWN)]
)
async def test_terminate_child_stops_a_child_as_its_spec_says(
    runtime: Runtime, heard: Heard, shutdown: Any, took: float, reason: Any
) -> None:
    pool = await DynamicSupervisor.start()
    pid = await DynamicSupervisor.start_child(pool, closing(seconds=1.0, shutdown=shutdown))
    began = trio.current_time()
    await DynamicSupervisor.terminate_child(pool, pid)
    assert trio.current_time() - began == took
    assert heard == [("terminated", reason)]


# start_child/2


async def test_one_restart_attempt_too_many_ends_the_supervisor(runtime: Runtime, log: Log) -> None:
    pool = await DynamicSupervisor.start(max_restarts=3)
    outcomes = Outcomes(None, *[Fail("not now")] * 10)
    pid = await DynamicSupervisor.start_child(pool, worker("a", log, outcomes=outcomes))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill_it, pid)
        assert await wait_exit(pool) is SHUTDOWN
    assert outcomes.attempts == 4


# top


async def test_several_dynamic_supervisors_can_be_children_with_names(runtime: Runtime) -> None:
    top = await Supervisor.start(
        [DynamicSupervisor, child_spec(DynamicSupervisor, kwargs={"name": "jobs"})]
    )
    first: Pid = await running(top, "DynamicSupervisor")
    await kill_it(first)
    assert await running(top, "DynamicSupervisor") is not first
    assert (await DynamicSupervisor.count_children("jobs")).specs == 0


async def kill_it(pid: Pid) -> None:
    kill(pid)
    await settle()
