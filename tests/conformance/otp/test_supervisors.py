"""Supervisors: cases 50 to 62."""

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
    Ignore,
    Pid,
    Shutdown,
    StartError,
    StartIgnored,
    cast,
    is_alive,
    kill,
    monitor,
    spawn_monitor,
    stop,
    trap_exits,
)
from supervision import (
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    ChildStartFailed,
    DynamicSupervisor,
    FailedToStartChild,
    InvalidChildSpec,
    MaxChildren,
    Supervisor,
)
from supervision.child_spec import RestartType
from tests.actors.helpers import down, in_process, nothing_arrives, settle
from tests.supervision.workers import (
    Log,
    Outcomes,
    child,
    crash,
    end,
    running,
    unlinks_from,
    worker,
)

BOOM = Crash(RuntimeError("crash"))


def fails(times: int) -> Outcomes:
    """Outcomes of a first start that succeeds, and then of failures."""
    return Outcomes(None, *[Fail("not now")] * times)


@in_process()
async def test_50_children_start_in_order_stop_in_reverse_and_are_listed_so() -> None:
    log = Log()
    supervisor = await Supervisor.start([worker(name, log) for name in "abc"])
    listed = await Supervisor.which_children(supervisor)
    assert [info.id for info in listed] == ["c", "b", "a"]
    await stop(supervisor)
    assert log.take() == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]


@in_process()
async def test_51_a_failed_boot_stops_the_started_children_and_restarts_nothing() -> None:
    log, outcomes = Log(), Outcomes(Fail("no"))
    trap_exits()
    children = [worker("a", log), worker("b", log, outcomes=outcomes), worker("c", log)]
    with pytest.raises(StartError) as caught:
        await Supervisor.start_link(children)
    assert caught.value.reason == Shutdown(FailedToStartChild("b", "no"))
    assert log.take() == ["start a", "stop a"]
    assert outcomes.attempts == 1
    await nothing_arrives(1)

    async def not_trapping() -> None:
        await Supervisor.start_link([worker("b", log, outcomes=Outcomes(Fail("no")))])

    _, ref = spawn_monitor(not_trapping)
    assert (await down(ref)).reason == Shutdown(FailedToStartChild("b", "no"))


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Shutdown("x"), BOOM, "killed"], ids=repr)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@in_process()
async def test_52_a_restart_depends_on_the_restart_type_and_the_exit_reason(
    restart: RestartType, reason: Any
) -> None:
    log = Log()
    supervisor = await Supervisor.start([worker("a", log, restart=restart)])
    before = await running(supervisor, "a")
    log.clear()
    await end(before, reason)
    abnormal = reason in (BOOM, "killed")
    children = {info.id: info.pid for info in await Supervisor.which_children(supervisor)}
    if restart == "permanent" or (restart == "transient" and abnormal):
        assert isinstance(children["a"], Pid)
        assert children["a"] is not before
        assert log.names("start") == "a"
    elif restart == "transient":
        assert children == {"a": None}
        assert log.names("start") == ""
    else:
        assert children == {}
        assert log.names("start") == ""


@pytest.mark.parametrize("restart", ["permanent", "transient"])
@in_process()
async def test_53_too_many_restarts_end_the_supervisor_with_shutdown(restart: RestartType) -> None:
    log = Log()
    inner = Supervisor.child_spec(
        [worker(name, log) for name in "abc"], id="inner", restart=restart
    )
    outer = await Supervisor.start([inner])
    pid = await running(outer, "inner")
    ref = monitor(pid)
    for _ in range(3):
        await crash(pid, "b")
    log.clear()
    await crash(pid, "b")
    assert (await down(ref)).reason is SHUTDOWN
    await settle()
    # The fourth crash stops the other children in reverse. SHUTDOWN is a clean end, so only a permanent one restarts.
    stopped = ["stop b", "stop c", "stop a"]
    if restart == "permanent":
        assert log.take() == [*stopped, "start a", "start b", "start c"]
        assert await running(outer, "inner") is not pid
    else:
        assert log.take() == stopped
        assert await child(outer, "inner") is None


@pytest.mark.parametrize(
    ("crashes", "survives"),
    # A restart that is exactly as old as the window still counts, as in OTP.
    [((0, 4, 6, 10), True), ((0, 1, 2), False), ((0, 4, 5), False), ((0, 4, 5.01), True)],
    ids=str,
)
@in_process()
async def test_54_restarts_count_within_a_sliding_window(
    crashes: tuple[float, ...], survives: bool
) -> None:
    supervisor = await Supervisor.start([worker("a", Log())], max_restarts=2, max_seconds=5)
    began = trio.current_time()
    for at in crashes:
        await trio.sleep_until(began + at)
        await crash(supervisor, "a")
    assert is_alive(supervisor) is survives


@in_process()
async def test_55_each_failed_restart_costs_budget_and_the_supervisor_answers_meanwhile() -> None:
    outcomes = fails(2)
    supervisor = await Supervisor.start([worker("a", Log(), outcomes=outcomes)], max_restarts=3)
    await crash(supervisor, "a")
    assert outcomes.attempts == 4
    assert is_alive(supervisor)
    await crash(supervisor, "a")
    assert not is_alive(supervisor)


@in_process()
async def test_55_a_restarting_child_is_listed_and_can_be_terminated() -> None:
    outcomes = fails(10**6)
    supervisor = await Supervisor.start([worker("a", Log(), outcomes=outcomes)], max_restarts=10**9)
    kill(await running(supervisor, "a"))
    while (seen := await child(supervisor, "a")) != "restarting":
        assert seen is not None
    before = outcomes.attempts
    while outcomes.attempts < before + 3:
        assert await child(supervisor, "a") == "restarting"
    await Supervisor.terminate_child(supervisor, "a")
    attempts = outcomes.attempts
    await settle()
    assert outcomes.attempts == attempts
    assert await child(supervisor, "a") is None


@in_process()
async def test_56_one_for_all_stops_all_in_reverse_and_starts_all_in_order() -> None:
    log = Log()
    supervisor = await Supervisor.start(
        [
            worker("a", log),
            worker("b", log),
            worker("finished", log, restart="transient"),
            worker("stopped", log),
            worker("temporary", log, restart="temporary"),
            worker("c", log),
        ],
        strategy="one_for_all",
        max_restarts=1,
    )
    await end(await running(supervisor, "finished"), NORMAL)
    await Supervisor.terminate_child(supervisor, "stopped")
    log.clear()
    await crash(supervisor, "b")
    assert log.take() == [
        *["stop b", "stop c", "stop temporary", "stop a"],
        *["start a", "start b", "start finished", "start stopped", "start c"],
    ]
    # All of this was one restart, which has used up the limit of one.
    assert is_alive(supervisor)
    await crash(supervisor, "a")
    assert not is_alive(supervisor)


@in_process()
async def test_57_rest_for_one_leaves_the_earlier_children_alone() -> None:
    log = Log()
    supervisor = await Supervisor.start(
        [worker(name, log) for name in "abc"], strategy="rest_for_one"
    )
    untouched = await running(supervisor, "a")
    log.clear()
    await crash(supervisor, "b")
    assert log.take() == ["stop b", "stop c", "start b", "start c"]
    assert await running(supervisor, "a") is untouched


@pytest.mark.parametrize(
    ("shutdown", "takes", "terminates"),
    [(0.05, 0.05, False), ("brutal_kill", 0, False), (math.inf, 100, True), (200.0, 100, True)],
    ids=str,
)
@in_process()
async def test_58_a_child_has_as_long_to_stop_as_its_spec_says(
    shutdown: Any, takes: float, terminates: bool
) -> None:
    log = Log()
    supervisor = await Supervisor.start([worker("a", log, stop_takes=100, shutdown=shutdown)])
    ref = monitor(await running(supervisor, "a"))
    log.clear()
    began = trio.current_time()
    await stop(supervisor)
    assert trio.current_time() - began == pytest.approx(takes)
    assert log.take() == (["stop a"] if terminates else [])
    assert (await down(ref)).reason is (SHUTDOWN if terminates else KILLED)


@in_process()
async def test_59_a_child_that_has_unlinked_itself_is_stopped_too() -> None:
    supervisor = await Supervisor.start([worker("a", Log(), shutdown=1.0)])
    pid = await running(supervisor, "a")
    cast(pid, unlinks_from(supervisor))
    await settle()
    await Supervisor.terminate_child(supervisor, "a")
    assert not is_alive(pid)
    # The supervisor does not see the end of an unlinked child. It lists the child and does not restart it.
    await Supervisor.restart_child(supervisor, "a")
    pid = await running(supervisor, "a")
    cast(pid, unlinks_from(supervisor))
    await end(pid, BOOM)
    assert await child(supervisor, "a") is pid
    assert (await Supervisor.count_children(supervisor)).active == 0
    await Supervisor.terminate_child(supervisor, "a")
    assert await child(supervisor, "a") is None


@in_process()
async def test_60_the_end_of_a_significant_child_ends_its_supervisor() -> None:
    def significant(name: str) -> ChildSpec:
        return worker(name, Log(), restart="transient", significant=True)

    any_of = await Supervisor.start([significant("a")], auto_shutdown="any_significant")
    await crash(any_of, "a")
    assert isinstance(await child(any_of, "a"), Pid)
    await Supervisor.terminate_child(any_of, "a")
    assert is_alive(any_of)
    await Supervisor.restart_child(any_of, "a")
    ref = monitor(any_of)
    await end(await running(any_of, "a"), NORMAL)
    assert (await down(ref)).reason is SHUTDOWN

    all_of = await Supervisor.start(
        [significant("a"), significant("b"), worker("c", Log())], auto_shutdown="all_significant"
    )
    ref = monitor(all_of)
    await end(await running(all_of, "a"), NORMAL)
    assert is_alive(all_of)
    await end(await running(all_of, "b"), NORMAL)
    assert (await down(ref)).reason is SHUTDOWN


# Running, stopped, restarting, unknown: each request in each state.


async def in_state(state: str) -> Pid:
    """A supervisor whose child "a" is in the given state."""
    outcomes = fails(10**6) if state == "restarting" else None
    supervisor = await Supervisor.start([worker("a", Log(), outcomes=outcomes)], max_restarts=10**9)
    if state == "stopped":
        await Supervisor.terminate_child(supervisor, "a")
    if state == "restarting":
        kill(await running(supervisor, "a"))
        while await child(supervisor, "a") != "restarting":
            pass
    if state == "unknown":
        await Supervisor.terminate_child(supervisor, "a")
        await Supervisor.delete_child(supervisor, "a")
    return supervisor


@pytest.mark.parametrize(
    ("request_", "state", "answer"),
    [
        ("start", "running", ChildAlreadyStarted),
        ("start", "stopped", ChildAlreadyPresent),
        ("start", "restarting", ChildAlreadyPresent),
        ("start", "unknown", Pid),
        ("terminate", "running", None),
        ("terminate", "stopped", None),
        ("terminate", "restarting", None),
        ("terminate", "unknown", ChildNotFound),
        ("restart", "running", ChildRunning),
        ("restart", "stopped", Pid),
        ("restart", "restarting", ChildRestarting),
        ("restart", "unknown", ChildNotFound),
        ("delete", "running", ChildRunning),
        ("delete", "stopped", None),
        ("delete", "restarting", ChildRestarting),
        ("delete", "unknown", ChildNotFound),
    ],
)
@in_process()
async def test_61_each_request_about_a_child_has_an_answer_in_each_state(
    request_: str, state: str, answer: Any
) -> None:
    supervisor = await in_state(state)
    given: Any
    try:
        match request_:
            case "start":
                given = await Supervisor.start_child(supervisor, worker("a", Log()))
            case "terminate":
                given = await Supervisor.terminate_child(supervisor, "a")  # type: ignore[func-returns-value]
            case "restart":
                given = await Supervisor.restart_child(supervisor, "a")
            case _:
                given = await Supervisor.delete_child(supervisor, "a")  # type: ignore[func-returns-value]
    except Exception as error:
        given = error
    assert type(given) is (answer or type(None)), given
    if answer is ChildAlreadyStarted:
        assert isinstance(given, ChildAlreadyStarted)
        assert given.pid is await running(supervisor, "a")
    if request_ == "terminate" and state != "unknown":
        assert await child(supervisor, "a") is None
    kill(supervisor)


@in_process()
async def test_61_start_child_reports_a_failed_an_ignored_and_an_invalid_child() -> None:
    supervisor = await Supervisor.start([])
    with pytest.raises(ChildStartFailed) as caught:
        await Supervisor.start_child(supervisor, worker("a", Log(), outcomes=Outcomes(Fail("no"))))
    assert caught.value.reason == "no"
    assert await Supervisor.which_children(supervisor) == []
    ignoring = worker("a", Log(), outcomes=Outcomes(Ignore()))
    assert await Supervisor.start_child(supervisor, ignoring) is None
    assert await child(supervisor, "a") is None
    temporary = worker("b", Log(), outcomes=Outcomes(Ignore()), restart="temporary")
    assert await Supervisor.start_child(supervisor, temporary) is None
    assert [info.id for info in await Supervisor.which_children(supervisor)] == ["a"]
    with pytest.raises(InvalidChildSpec):
        await Supervisor.start([worker("a", Log()), worker("a", Log())])


@in_process()
async def test_62_children_that_are_restarting_count_against_the_limit() -> None:
    pool = await DynamicSupervisor.start(max_children=1, max_restarts=10**9)
    pid = await DynamicSupervisor.start_child(pool, worker("a", Log(), outcomes=fails(10**6)))
    kill(pid)
    while [info.pid for info in await DynamicSupervisor.which_children(pool)] != ["restarting"]:
        pass
    with pytest.raises(MaxChildren):
        await DynamicSupervisor.start_child(pool, worker("b", Log()))
    await DynamicSupervisor.terminate_child(pool, pid)
    await DynamicSupervisor.start_child(pool, worker("b", Log()))
    with pytest.raises(MaxChildren):
        await DynamicSupervisor.start_child(pool, worker("c", Log()))


@in_process()
async def test_62_a_dynamic_supervisor_stops_its_children_all_at_once() -> None:
    pool = await DynamicSupervisor.start()
    for name in "abc":
        await DynamicSupervisor.start_child(pool, worker(name, Log(), stop_takes=0.1))
    began = trio.current_time()
    await stop(pool)
    assert trio.current_time() - began == pytest.approx(0.1)


@in_process()
async def test_62_a_dynamic_supervisor_raises_start_errors_unchanged() -> None:
    pool = await DynamicSupervisor.start()
    with pytest.raises(StartError) as caught:
        await DynamicSupervisor.start_child(pool, worker("a", Log(), outcomes=Outcomes(Fail("no"))))
    assert caught.value.reason == "no"
    with pytest.raises(StartIgnored):
        await DynamicSupervisor.start_child(pool, worker("a", Log(), outcomes=Outcomes(Ignore())))
    assert await DynamicSupervisor.which_children(pool) == []
