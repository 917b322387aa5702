"""Events of supervisors, and the log lines for them."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from actors import NORMAL, SHUTDOWN, Crash, Fail, GenServer, Pid, cast, kill, stop, wait_exit
from actors.runtime import Runtime
from supervision import DynamicSupervisor, MaxChildren, Supervisor, child_spec, logger
from supervision.events import (
    CHILD_REFUSED,
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STARTED,
    CHILD_STARTING,
    CHILD_STOP_FAILED,
    CHILD_TERMINATED,
    GAVE_UP,
)
from tests.supervision.workers import Log, Outcomes, crash, end, running, settle, worker

BOOM = Crash(RuntimeError("crash"))
ALL = (
    CHILD_STARTED,
    CHILD_TERMINATED,
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STOP_FAILED,
    GAVE_UP,
)


class Heard:
    """Every supervision event of a runtime, in order."""

    def __init__(self, runtime: Runtime) -> None:
        self.events: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = []
        for event in ALL:
            runtime.telemetry.attach(event, self._hear)

    def _hear(
        self, event: tuple[str, ...], measurements: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        self.events.append((event[-1], measurements, about))

    def names(self) -> list[str]:
        return [f"{name} {about['id']}" for name, _, about in self.events]

    def last(self, name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return next((m, about) for what, m, about in reversed(self.events) if what == name)


@pytest.fixture
def heard(runtime: Runtime) -> Heard:
    return Heard(runtime)


async def test_events_of_starts_and_stops_come_in_order(
    runtime: Runtime, heard: Heard, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log), worker("b", log)])
    pid = await running(supervisor, "b")
    await stop(supervisor)
    assert heard.names() == ["started a", "started b", "terminated b", "terminated a"]
    _, about = heard.events[1], heard.events[1][2]
    assert about == {
        "supervisor": supervisor,
        "id": "b",
        "pid": pid,
        "type": "worker",
        "restart_type": "permanent",
    }
    assert heard.events[2][2]["reason"] is SHUTDOWN
    assert heard.events[2][2]["stopped"] is True


async def test_the_starting_event_comes_before_the_spawn(runtime: Runtime, log: Log) -> None:
    told: list[object] = []

    def hear(event: object, _: object, about: Mapping[str, Any]) -> None:
        told.append((about["id"], about["pid"], about["type"], len(runtime.processes())))

    runtime.telemetry.attach(CHILD_STARTING, hear)
    supervisor = await Supervisor.start([worker("a", log), worker("b", log)])
    assert told == [("a", None, "worker", 1), ("b", None, "worker", 2)]
    await crash(supervisor, "a")
    assert told[2:] == [("a", None, "worker", 2)]


async def test_a_crash_gives_an_ended_event_and_a_restarted_event_with_the_count(
    runtime: Runtime, heard: Heard, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log)])
    before = await running(supervisor, "a")
    await crash(supervisor, "a")
    await crash(supervisor, "a")
    assert heard.names() == ["started a", *["terminated a", "restarted a"] * 2]
    ended = heard.events[1][2]
    assert (ended["pid"], ended["reason"], ended["stopped"]) == (before, BOOM, False)
    measurements, about = heard.last("restarted")
    assert measurements == {"restarts": 2}
    assert about["pid"] is await running(supervisor, "a")
    assert about["reason"] == BOOM


async def test_a_restart_that_outlasts_the_window_still_counts_itself(
    runtime: Runtime, heard: Heard
) -> None:
    class Slow(GenServer[None]):
        async def init(self) -> None:
            await trio.sleep(3)

    supervisor = await Supervisor.start([child_spec(Slow, id="slow")], max_seconds=2.0)
    kill(await running(supervisor, "slow"))
    await trio.sleep(4)
    assert heard.last("restarted")[0] == {"restarts": 1}


async def test_a_restarted_group_gives_one_event_for_each_child(
    runtime: Runtime, heard: Heard, log: Log
) -> None:
    supervisor = await Supervisor.start(
        [worker("a", log), worker("b", log)], strategy="one_for_all"
    )
    heard.events.clear()
    await crash(supervisor, "a")
    assert heard.names() == ["terminated a", "terminated b", "restarted a", "restarted b"]


async def test_failed_starts_and_giving_up_give_events(
    runtime: Runtime, heard: Heard, log: Log
) -> None:
    spec = worker("a", log, outcomes=Outcomes(None, Fail("no"), Fail("never")))
    supervisor = await Supervisor.start([spec], max_restarts=2, max_seconds=7.0)
    cast(await running(supervisor, "a"), BOOM.exception)
    await wait_exit(supervisor)
    assert heard.names() == [
        "started a",
        "terminated a",
        "start_failed a",
        "start_failed a",
        "gave_up a",
    ]
    _, failed = heard.last("start_failed")
    assert (failed["reason"], failed["restart"], failed["pid"]) == ("never", True, None)
    measurements, about = heard.last("gave_up")
    assert measurements == {"restarts": 3}
    assert about == {
        "supervisor": supervisor,
        "id": "a",
        "pid": None,
        "type": "worker",
        "restart_type": "permanent",
        "strategy": "one_for_one",
        "reason": "never",
        "max_restarts": 2,
        "max_seconds": 7.0,
    }


async def test_a_kill_after_the_limit_gives_a_stop_failed_event(
    runtime: Runtime, heard: Heard, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log, stop_takes=9, shutdown=1.0)])
    await stop(supervisor)
    assert heard.names() == ["started a", "stop_failed a", "terminated a"]


@pytest.mark.parametrize("kind", ["static", "dynamic"])
async def test_the_stop_event_of_a_crashed_child_has_its_crash(
    runtime: Runtime, heard: Heard, log: Log, kind: str
) -> None:
    spec = worker("a", log, restart="temporary")
    if kind == "static":
        supervisor = await Supervisor.start([spec])
        pid = await running(supervisor, "a")
    else:
        supervisor = await DynamicSupervisor.start()
        pid = await DynamicSupervisor.start_child(supervisor, spec)

    blocker = worker("blocker", log, stop_takes=1.0, shutdown=9.0)
    if kind == "static":
        await Supervisor.start_child(supervisor, blocker)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop, supervisor)
            await settle()  # it is waiting for the blocker now
            cast(pid, BOOM.exception)
    else:
        cast(pid, BOOM.exception)
        await stop(supervisor)
    _, about = heard.last("terminated")
    assert (about["id"], about["reason"], about["stopped"]) == ("a", BOOM, True)
    assert "stop_failed a" in heard.names()


async def test_dynamic_supervisors_execute_the_same_events(
    runtime: Runtime, heard: Heard, log: Log
) -> None:
    pool = await DynamicSupervisor.start(max_restarts=1)
    outcomes = Outcomes(None, Fail("no"))
    pid = await DynamicSupervisor.start_child(pool, worker("a", log, outcomes=outcomes))
    temporary = worker("t", log, restart="temporary", stop_takes=9, shutdown=1.0)
    short = worker("s", log, restart="temporary")
    await end(await DynamicSupervisor.start_child(pool, short), NORMAL)
    assert heard.names() == ["started a", "started s", "terminated s"]
    last = await DynamicSupervisor.start_child(pool, temporary)
    heard.events.clear()
    cast(pid, BOOM.exception)
    assert await wait_exit(pool) is SHUTDOWN
    assert heard.names() == [
        "terminated a",
        "start_failed a",
        "gave_up a",
        "stop_failed t",
        "terminated t",
    ]
    _, about = heard.last("terminated")
    assert (about["pid"], about["stopped"], about["supervisor"]) == (last, True, pool)


async def test_a_full_dynamic_supervisor_gives_a_refused_event(runtime: Runtime, log: Log) -> None:
    told: list[Mapping[str, Any]] = []
    runtime.telemetry.attach(CHILD_REFUSED, lambda event, measured, about: told.append(about))
    pool = await DynamicSupervisor.start(max_children=1)
    await DynamicSupervisor.start_child(pool, worker("a", log))
    assert told == []
    with pytest.raises(MaxChildren):
        await DynamicSupervisor.start_child(pool, worker("b", log))
    assert told == [
        {
            "supervisor": pool,
            "id": "b",
            "pid": None,
            "type": "worker",
            "restart_type": "permanent",
            "max_children": 1,
        }
    ]


async def test_no_event_is_built_without_a_listener(runtime: Runtime, log: Log) -> None:
    said: list[Any] = []
    telemetry = runtime.telemetry
    execute = type(telemetry).execute

    class Counting(type(telemetry)):  # type: ignore[misc]
        def execute(self, *args: Any) -> None:
            said.append(args)
            execute(self, *args)

    runtime.telemetry = Counting()
    supervisor = await Supervisor.start([worker("a", log)], max_restarts=0)
    cast(await running(supervisor, "a"), BOOM.exception)
    await wait_exit(supervisor)
    assert [args[0] for args in said if args[0][0] == "supervision"] == []


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == "supervision"
    ]


async def test_restarts_and_failures_are_logged(
    runtime: Runtime, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    detach = logger.attach(runtime.telemetry)
    spec = worker("a", log, outcomes=Outcomes(None, None, Fail("no")))
    supervisor = await Supervisor.start(
        [spec, worker("b", log, stop_takes=9, shutdown=1.0)], max_restarts=2
    )
    with caplog.at_level(logging.INFO):
        await crash(supervisor, "a")
        cast(await running(supervisor, "a"), BOOM.exception)
        await wait_exit(supervisor)
    (restarted, failed, gave_up, stop_failed) = lines(caplog)
    assert restarted[0] == "WARNING"
    assert "restarted child 'a'" in restarted[1]
    assert "RuntimeError: crash" in restarted[1]
    assert failed[0] == "ERROR"
    assert failed[1].endswith("could not restart child 'a' and tries again: no")
    assert "gave up: more than 2 restarts within 5 s; the last child was 'a': no" in gave_up[1]
    assert "did not stop in order: KILLED" in stop_failed[1]
    detach()
    caplog.clear()
    other = await Supervisor.start([worker("a", log)])
    await crash(other, "a")
    assert lines(caplog) == []


async def test_a_long_exit_reason_is_cut_in_the_log(
    runtime: Runtime, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    logger.attach(runtime.telemetry)
    supervisor = await Supervisor.start([worker("a", log)])
    cast(await running(supervisor, "a"), RuntimeError("x" * 1_000_000))
    await settle()
    ((_, restarted),) = lines(caplog)
    assert "RuntimeError: xxx" in restarted
    assert len(restarted) < 3000


async def test_ordinary_starts_and_ends_are_not_logged(
    runtime: Runtime, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    logger.attach(runtime.telemetry)
    with caplog.at_level(logging.DEBUG):
        pool = await DynamicSupervisor.start()
        spec = worker("a", log, restart="temporary")
        pid = await DynamicSupervisor.start_child(pool, spec)
        assert isinstance(pid, Pid)
        await end(pid, NORMAL)
        with pytest.raises(Exception, match="no"):
            await DynamicSupervisor.start_child(
                pool, worker("x", log, outcomes=Outcomes(Fail("no")))
            )
        await stop(pool)
    assert lines(caplog) == []
