"""Waits before restarts: their length, the state of a waiting child, and requests about it."""

import math
from typing import Any

import pytest
import trio

from actors import Crash, InvalidOption, Pid, Runtime, call, is_alive, stop, wait_exit
from supervision import Backoff, ChildRestarting, ChildSpec, DynamicSupervisor, Supervisor
from supervision.backoff import Delays
from tests.supervision.workers import Log, Outcomes, child, crash, end, running, settle, worker

BOOM = Crash(RuntimeError("crash"))
BACKOFF = Backoff(1.0, 5.0)


def test_waits_grow_to_the_maximum_and_start_over_after_the_reset_time() -> None:
    delays, now, waits = Delays(Backoff(1.0, 5.0, factor=2.0, reset_after=10.0)), 0.0, []
    for lived in (0.0, 0.0, 9.9, 0.0, 10.0, 0.0):
        now += lived
        waits.append(delays.next(now))
        now += waits[-1]
    assert waits == [1.0, 2.0, 4.0, 5.0, 1.0, 2.0]


def test_a_failed_start_does_not_reset_the_waits() -> None:
    delays = Delays(Backoff(1.0, 5.0, reset_after=0.0))
    assert [delays.next(0.0), delays.next(1.0), delays.next(3.5)] == [1.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"initial": 0.0, "maximum": 1.0}, "backoff.initial"),
        ({"initial": "1", "maximum": 1.0}, "backoff.initial"),
        ({"initial": 2.0, "maximum": 1.0}, "backoff.maximum"),
        ({"initial": 2.0, "maximum": math.inf}, "backoff.maximum"),
        ({"initial": 1.0, "maximum": 1.0, "factor": 0.5}, "backoff.factor"),
        ({"initial": 1.0, "maximum": 1.0, "reset_after": -1}, "backoff.reset_after"),
    ],
)
def test_an_invalid_backoff_is_refused(values: dict[str, Any], option: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Backoff(**values)
    assert caught.value.option == option


async def test_a_value_that_is_not_a_backoff_is_refused(runtime: Runtime) -> None:
    wrong: Any = 2.0
    with pytest.raises(InvalidOption) as refused:
        await Supervisor.start([], backoff=wrong)
    assert refused.value.option == "backoff"
    with pytest.raises(InvalidOption):
        await DynamicSupervisor.start(backoff=wrong)
    with pytest.raises(InvalidOption):
        Supervisor.child_spec([], backoff=2.0)


async def test_a_child_waits_longer_before_each_restart(runtime: Runtime, log: Log) -> None:
    outcomes = Outcomes(None, *[ValueError("not yet")] * 4)
    supervisor = await Supervisor.start(
        [worker("a", log, outcomes=outcomes)], backoff=BACKOFF, max_restarts=math.inf
    )
    await crash(supervisor, "a")
    # After 1, 2, 4, 5 and 5 seconds; the last of these attempts succeeds.
    await trio.sleep(11.9)
    assert outcomes.attempts == 4
    await trio.sleep(5.0)
    assert outcomes.attempts == 5
    assert await child(supervisor, "a") == "restarting"
    await trio.sleep(0.2)
    assert outcomes.attempts == 6
    assert isinstance(await child(supervisor, "a"), Pid)


async def test_a_waiting_child_is_restarting_and_its_supervisor_answers(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker(name, log) for name in "ab"], backoff=BACKOFF)
    other = await running(supervisor, "b")
    await crash(supervisor, "a")
    with trio.fail_after(0.1):
        assert await child(supervisor, "a") == "restarting"
        counts = await Supervisor.count_children(supervisor)
        assert (counts.specs, counts.active) == (2, 1)
        with pytest.raises(ChildRestarting):
            await Supervisor.restart_child(supervisor, "a")
    assert await running(supervisor, "b") is other
    await trio.sleep(1.1)
    assert isinstance(await child(supervisor, "a"), Pid)


async def test_a_waiting_child_can_be_terminated_and_is_not_started_any_more(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log)], backoff=BACKOFF)
    await crash(supervisor, "a")
    await Supervisor.terminate_child(supervisor, "a")
    assert await child(supervisor, "a") is None
    assert runtime.statistics()["timers"] == 0
    pid = await Supervisor.restart_child(supervisor, "a")
    await trio.sleep(10)
    assert await child(supervisor, "a") is pid
    assert log.names("start") == "aa"


async def test_a_supervisor_stops_at_once_while_a_child_waits(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start([worker("a", log)], backoff=BACKOFF)
    await crash(supervisor, "a")
    began = trio.current_time()
    await stop(supervisor)
    assert trio.current_time() == began
    assert runtime.statistics()["timers"] == 0


async def test_a_group_is_stopped_at_once_and_started_together_after_the_wait(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start(
        [worker(name, log) for name in "abc"], strategy="rest_for_one", backoff=BACKOFF
    )
    log.clear()
    await crash(supervisor, "b")
    assert log.take() == ["stop b", "stop c"]
    await trio.sleep(0.9)
    assert log.take() == []
    await trio.sleep(0.2)
    assert log.take() == ["start b", "start c"]


async def test_restarts_count_when_they_are_made(runtime: Runtime, log: Log) -> None:
    patient = await Supervisor.start(
        [worker("a", log)], backoff=Backoff(1.0, 1.0), max_restarts=1, max_seconds=0.5
    )
    strict = await Supervisor.start(
        [worker("b", log)], backoff=Backoff(1.0, 1.0), max_restarts=1, max_seconds=5.0
    )
    for _ in range(3):
        await crash(patient, "a")
        if is_alive(strict):
            await crash(strict, "b")
        await trio.sleep(1.1)
    assert is_alive(patient)
    assert not is_alive(strict)


async def test_a_dynamic_supervisor_has_separate_waits_for_each_child(
    runtime: Runtime, log: Log
) -> None:
    pool = await DynamicSupervisor.start(backoff=BACKOFF, max_restarts=math.inf)
    first = await DynamicSupervisor.start_child(pool, worker("a", log))
    second = await DynamicSupervisor.start_child(pool, worker("b", log))
    await end(first, BOOM)
    await trio.sleep(0.5)
    await end(second, BOOM)
    assert [info.pid for info in await DynamicSupervisor.which_children(pool)] == [
        "restarting",
        "restarting",
    ]
    log.clear()
    await trio.sleep(0.6)
    assert log.take() == ["start a"]
    await DynamicSupervisor.terminate_child(pool, second)
    await trio.sleep(10)
    assert log.take() == []
    assert (await DynamicSupervisor.count_children(pool)).specs == 1


async def test_a_dynamic_supervisor_waits_longer_each_time_and_counts(
    runtime: Runtime, log: Log
) -> None:
    pool = await DynamicSupervisor.start(backoff=BACKOFF, max_restarts=2, max_seconds=60.0)
    outcomes = Outcomes(None, ValueError("1"), ValueError("2"))
    pid = await DynamicSupervisor.start_child(pool, worker("a", log, outcomes=outcomes))
    began = trio.current_time()
    await end(pid, BOOM)
    await wait_exit(pool)
    # Attempts after 1 and 2 seconds fail; the third, after 4 more, is one too many.
    assert trio.current_time() - began == pytest.approx(7.0)
    assert outcomes.attempts == 3


async def test_without_a_backoff_a_restart_takes_no_time(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start([worker("a", log)])
    began = trio.current_time()
    await crash(supervisor, "a")
    assert trio.current_time() == began
    assert await call(await running(supervisor, "a"), "hello") == "hello"


async def test_a_backoff_survives_in_a_spec(runtime: Runtime, log: Log) -> None:
    spec: ChildSpec = Supervisor.child_spec([worker("a", log)], id="top", backoff=BACKOFF)
    top = await Supervisor.start([spec, DynamicSupervisor.child_spec(id="pool", backoff=BACKOFF)])
    inner = await running(top, "top")
    await crash(inner, "a")
    await settle()
    assert await child(inner, "a") == "restarting"
