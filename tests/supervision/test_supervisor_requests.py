"""Requests to a supervisor, in every state of a child."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import (
    AlreadyStarted,
    Fail,
    Ignore,
    NameInUse,
    NoProcess,
    Pid,
    Registry,
    Shutdown,
    StartError,
    Stop,
    is_alive,
    kill,
    stop,
    whereis,
)
from actors.runtime import Runtime
from supervision import (
    Backoff,
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildCounts,
    ChildInfo,
    ChildNameTaken,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    ChildStartFailed,
    DynamicSupervisor,
    FailedToStartChild,
    InvalidChildSpec,
    Supervisor,
    child_spec,
)
from supervision.events import CHILD_START_FAILED
from tests.supervision.workers import Log, Outcomes, Worker, child, running, settle, worker


async def a_supervisor(log: Log) -> Pid:
    """Start one child in each state: running, stopped, restarting. The id "absent" is unknown."""
    supervisor = await Supervisor.start(
        [worker("running", log), worker("stopped", log)], max_restarts=1e9
    )
    await Supervisor.terminate_child(supervisor, "stopped")
    attempts = Outcomes(None, *[Fail("not yet")] * 10_000)

    async def start() -> Pid:
        if attempts.attempts:
            await trio.sleep(1)  # leaves time for a request between two attempts
        return await Worker.start_link("restarting", log, outcomes=attempts)

    await Supervisor.start_child(supervisor, ChildSpec("restarting", start))
    kill(await running(supervisor, "restarting"))
    await settle()
    assert await child(supervisor, "restarting") == "restarting"
    log.clear()
    return supervisor


# start_child


async def test_start_child_appends_a_child_and_starts_it(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start([worker("a", log)])
    pid = await Supervisor.start_child(supervisor, worker("b", log))
    assert pid is await running(supervisor, "b")
    await stop(supervisor)
    assert log.take() == ["start a", "start b", "stop b", "stop a"]


async def test_start_child_with_an_id_in_use_raises_with_the_child(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await a_supervisor(log)
    with pytest.raises(ChildAlreadyStarted) as started:
        await Supervisor.start_child(supervisor, worker("running", log))
    assert (started.value.id, started.value.pid) == (
        "running",
        await running(supervisor, "running"),
    )
    for id in ("stopped", "restarting"):
        with pytest.raises(ChildAlreadyPresent) as present:
            await Supervisor.start_child(supervisor, worker(id, log))
        assert present.value.id == id
    assert log == []


@pytest.mark.parametrize(
    ("outcome", "text"),
    [(Fail("no"), "no"), (ValueError("broken"), "ValueError: broken"), (Stop("off"), "off")],
)
async def test_a_failed_start_child_has_the_reason_and_keeps_nothing(
    runtime: Runtime, log: Log, outcome: Any, text: str
) -> None:
    supervisor = await Supervisor.start([])
    with pytest.raises(ChildStartFailed, match=text) as caught:
        await Supervisor.start_child(supervisor, worker("x", log, outcomes=Outcomes(outcome)))
    assert caught.value.id == "x"
    assert await Supervisor.which_children(supervisor) == []
    assert await Supervisor.start_child(supervisor, worker("x", log))
    assert is_alive(supervisor)


async def test_start_child_that_is_ignored_keeps_the_spec_unless_it_is_temporary(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([])
    kept = worker("kept", log, outcomes=Outcomes(Ignore()))
    dropped = worker("dropped", log, outcomes=Outcomes(Ignore()), restart="temporary")
    assert await Supervisor.start_child(supervisor, kept) is None
    assert await Supervisor.start_child(supervisor, dropped) is None
    assert await Supervisor.which_children(supervisor) == [ChildInfo("kept", None, "worker")]


async def test_start_child_refuses_a_child_that_does_not_fit_the_supervisor(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([])
    with pytest.raises(InvalidChildSpec) as refused:
        await Supervisor.start_child(supervisor, 5)  # type: ignore[arg-type]
    assert refused.value.value == 5
    with pytest.raises(InvalidChildSpec) as refused:
        await Supervisor.start_child(
            supervisor, worker("x", log, restart="transient", significant=True)
        )
    assert refused.value.field == "significant"
    assert await Supervisor.which_children(supervisor) == []


# Start or find


def named(name: Any, id: Any = "named", **fields: Any) -> ChildSpec:
    return child_spec(Worker, name, id=id, kwargs={"name": name}, **fields)


async def start_or_find(supervisor: Pid, spec: ChildSpec) -> Any:
    """Start a child or find it, as OTP programs do with `{error, {already_started, Pid}}`."""
    try:
        return await Supervisor.start_child(supervisor, spec)
    except AlreadyStarted as error:
        return error.pid


async def test_start_or_find_finds_the_child_of_that_id(runtime: Runtime) -> None:
    supervisor = await Supervisor.start([])
    pid = await start_or_find(supervisor, named("db"))
    assert await start_or_find(supervisor, named("db")) is pid
    assert await start_or_find(supervisor, named("db", id="other")) is pid
    assert [info.pid for info in await Supervisor.which_children(supervisor)] == [pid]


async def test_start_or_find_finds_the_child_of_another_supervisor(runtime: Runtime) -> None:
    one, other = await Supervisor.start([]), await Supervisor.start([])
    pid = await start_or_find(one, named("db"))
    assert await start_or_find(other, named("db")) is pid
    assert await Supervisor.which_children(other) == []


@pytest.mark.parametrize("via", [False, True])
async def test_start_child_with_a_taken_name_has_the_pid_and_forgets_the_child(
    runtime: Runtime, via: bool
) -> None:
    name: Any = Registry[str, None]("unique").via("db") if via else "db"
    supervisor = await Supervisor.start([])
    pid = await Worker.start("somebody", name=name)
    with pytest.raises(ChildNameTaken) as caught:
        await Supervisor.start_child(supervisor, named(name))
    error = caught.value
    assert (error.id, error.name, error.pid) == ("named", name, pid)
    assert error.reason == NameInUse(name, pid)
    assert isinstance(error, ChildStartFailed)
    assert await Supervisor.which_children(supervisor) == []


async def test_restart_child_with_a_taken_name_has_the_pid_and_keeps_the_child(
    runtime: Runtime,
) -> None:
    supervisor = await Supervisor.start([named("db")])
    await Supervisor.terminate_child(supervisor, "named")
    pid = await Worker.start("somebody", name="db")
    with pytest.raises(ChildNameTaken) as caught:
        await Supervisor.restart_child(supervisor, "named")
    assert (caught.value.id, caught.value.name, caught.value.pid) == ("named", "db", pid)
    assert await child(supervisor, "named") is None
    await stop(pid)
    assert await Supervisor.restart_child(supervisor, "named") is whereis("db")


async def test_a_taken_name_at_boot_is_in_the_reason_with_its_pid(runtime: Runtime) -> None:
    pid = await Worker.start("somebody", name="db")
    inner = Supervisor.child_spec([named("db")], id="inner")
    with pytest.raises(StartError) as caught:
        await Supervisor.start([inner])
    why = FailedToStartChild("named", NameInUse("db", pid))
    assert caught.value.reason == Shutdown(FailedToStartChild("inner", Shutdown(why)))


async def test_a_supervisor_with_a_taken_name_raises_with_the_pid(runtime: Runtime) -> None:
    pid = await Supervisor.start([], name="top")
    with pytest.raises(AlreadyStarted) as caught:
        await Supervisor.start([], name="top")
    assert (caught.value.name, caught.value.pid) == ("top", pid)
    assert caught.value.reason == NameInUse("top", pid)


async def test_a_start_function_that_finds_the_child_elsewhere_passes_its_pid_on(
    runtime: Runtime,
) -> None:
    one, other = await Supervisor.start([named("db")]), await Supervisor.start([])
    pid = await running(one, "named")

    async def start() -> Any:
        return await Supervisor.start_child(one, named("db"))

    with pytest.raises(AlreadyStarted) as caught:
        await Supervisor.start_child(other, ChildSpec("x", start))
    assert caught.value.pid is pid


async def test_a_failed_restart_reports_who_has_the_name(
    runtime: Runtime, autojump_clock: MockClock
) -> None:
    told: list[Any] = []
    runtime.telemetry.attach(
        CHILD_START_FAILED, lambda event, measured, about: told.append(about["reason"])
    )
    supervisor = await Supervisor.start([named("db")], backoff=Backoff(1.0, 1.0))
    kill(await running(supervisor, "named"))
    await settle()
    pid = await Worker.start("somebody", name="db")
    await trio.sleep(1.5)
    assert told == [NameInUse("db", pid)]
    assert await child(supervisor, "named") == "restarting"


# terminate_child


async def test_terminate_child_stops_it_keeps_its_spec_and_does_not_restart_it(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log)])
    await Supervisor.terminate_child(supervisor, "a")
    await settle()
    assert log.take() == ["start a", "stop a"]
    assert await child(supervisor, "a") is None


async def test_terminate_child_forgets_a_temporary_child(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start([worker("a", log, restart="temporary")])
    await Supervisor.terminate_child(supervisor, "a")
    assert await Supervisor.which_children(supervisor) == []


async def test_terminate_child_of_one_that_is_not_running_does_nothing(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await a_supervisor(log)
    await Supervisor.terminate_child(supervisor, "stopped")
    assert log == []
    with pytest.raises(ChildNotFound) as caught:
        await Supervisor.terminate_child(supervisor, "absent")
    assert caught.value.child == "absent"


# restart_child


async def test_restart_child_starts_one_that_is_not_running_and_costs_no_restart(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log)], max_restarts=0)
    for _ in range(3):
        await Supervisor.terminate_child(supervisor, "a")
        assert await Supervisor.restart_child(supervisor, "a") is await running(supervisor, "a")
    assert log.names("start") == "aaaa"


async def test_restart_child_in_any_other_state_names_the_state(runtime: Runtime, log: Log) -> None:
    supervisor = await a_supervisor(log)
    with pytest.raises(ChildRunning) as busy:
        await Supervisor.restart_child(supervisor, "running")
    assert busy.value.pid is await running(supervisor, "running")
    with pytest.raises(ChildRestarting):
        await Supervisor.restart_child(supervisor, "restarting")
    with pytest.raises(ChildNotFound):
        await Supervisor.restart_child(supervisor, "absent")


async def test_a_failed_restart_child_has_the_reason_and_leaves_it_stopped(
    runtime: Runtime, log: Log
) -> None:
    outcomes = Outcomes(None, Fail("no"), Ignore())
    supervisor = await Supervisor.start([worker("a", log, outcomes=outcomes)])
    await Supervisor.terminate_child(supervisor, "a")
    with pytest.raises(ChildStartFailed) as caught:
        await Supervisor.restart_child(supervisor, "a")
    assert (caught.value.id, caught.value.reason) == ("a", "no")
    assert await child(supervisor, "a") is None
    assert await Supervisor.restart_child(supervisor, "a") is None
    assert await Supervisor.restart_child(supervisor, "a") is not None


# delete_child


async def test_delete_child_forgets_one_that_is_not_running(runtime: Runtime, log: Log) -> None:
    supervisor = await a_supervisor(log)
    await Supervisor.delete_child(supervisor, "stopped")
    assert [info.id for info in await Supervisor.which_children(supervisor)] == [
        "restarting",
        "running",
    ]
    assert await Supervisor.start_child(supervisor, worker("stopped", log))


async def test_delete_child_in_any_other_state_names_the_state(runtime: Runtime, log: Log) -> None:
    supervisor = await a_supervisor(log)
    with pytest.raises(ChildRunning):
        await Supervisor.delete_child(supervisor, "running")
    with pytest.raises(ChildRestarting):
        await Supervisor.delete_child(supervisor, "restarting")
    with pytest.raises(ChildNotFound):
        await Supervisor.delete_child(supervisor, "absent")


# Lists and counts


async def test_which_children_shows_every_state_and_type(runtime: Runtime, log: Log) -> None:
    supervisor = await a_supervisor(log)
    await Supervisor.start_child(supervisor, DynamicSupervisor)
    pool, restarting, stopped, busy = await Supervisor.which_children(supervisor)
    assert (pool.id, pool.type) == ("DynamicSupervisor", "supervisor")
    assert restarting == ChildInfo("restarting", "restarting", "worker")
    assert stopped == ChildInfo("stopped", None, "worker")
    assert isinstance(busy.pid, Pid)


async def test_count_children_counts_known_alive_supervisors_and_workers(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await a_supervisor(log)
    await Supervisor.start_child(supervisor, DynamicSupervisor)
    assert await Supervisor.count_children(supervisor) == ChildCounts(
        specs=4, active=2, supervisors=1, workers=3
    )


async def test_get_childspec_returns_the_spec(runtime: Runtime, log: Log) -> None:
    spec = worker("a", log)
    supervisor = await Supervisor.start([spec])
    assert await Supervisor.get_childspec(supervisor, "a") == spec
    with pytest.raises(ChildNotFound):
        await Supervisor.get_childspec(supervisor, "b")


async def test_a_request_to_a_supervisor_that_does_not_exist_raises_no_process(
    runtime: Runtime,
) -> None:
    with pytest.raises(NoProcess):
        await Supervisor.which_children("nobody")
    supervisor = await Supervisor.start([])
    await stop(supervisor)
    with pytest.raises(NoProcess):
        await Supervisor.which_children(supervisor)
