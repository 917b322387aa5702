"""Dynamic supervisors: children known by pid, restarted one by one, limited in number."""

import gc
import math
import weakref
from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    AlreadyStarted,
    CallingSelf,
    Crash,
    Fail,
    Ignore,
    Instrument,
    NameInUse,
    NoProcess,
    Pid,
    ServerExit,
    Shutdown,
    StartError,
    StartIgnored,
    Stop,
    call,
    cast,
    current_pid,
    exit,
    is_alive,
    kill,
    send,
    spawn,
    spawn_link,
    stop,
    sys,
    wait_exit,
    whereis,
)
from actors.errors import InvalidOption
from actors.runtime import Runtime
from supervision import (
    Backoff,
    ChildCounts,
    ChildInfo,
    ChildNotFound,
    ChildSpec,
    DynamicSupervisor,
    InvalidChildSpec,
    MaxChildren,
    Supervisor,
    UnknownRequest,
    child_spec,
)
from supervision.child_spec import RestartType
from supervision.events import CHILD_TERMINATED
from tests.actors.steps import counted
from tests.supervision.workers import Log, Outcomes, Worker, end, settle, worker

BOOM = Crash(RuntimeError("crash"))
REASONS = [NORMAL, SHUTDOWN, Shutdown("x"), BOOM, "killed"]


async def pids(pool: object) -> list[object]:
    """Return the pids of the children, the one that was started first first."""
    return [info.pid for info in reversed(await DynamicSupervisor.which_children(pool))]


class SlowToRestart:
    """Return a spec whose first start succeeds and whose restarts fail after a second each."""

    def __init__(self, fails: float = math.inf) -> None:
        self.fails = fails
        self.attempts = 0
        self.spec = ChildSpec("slow", self._start)

    async def _start(self) -> Pid:
        self.attempts += 1
        if self.attempts > 1:
            await trio.sleep(1)
            if self.attempts - 1 <= self.fails:
                raise ValueError("not yet")
        return await Worker.start_link("slow")


async def a_restarting_child(pool: Pid) -> tuple[SlowToRestart, Pid]:
    slow = SlowToRestart()
    pid = await DynamicSupervisor.start_child(pool, slow.spec)
    kill(pid)
    await settle()
    assert await pids(pool) == ["restarting"]
    return slow, pid


# Starting


async def test_children_may_share_an_id_and_are_listed_last_first_without_ids(
    runtime: Runtime, log: Log
) -> None:
    pool = await DynamicSupervisor.start()
    first = await DynamicSupervisor.start_child(pool, worker("a", log))
    second = await DynamicSupervisor.start_child(pool, worker("a", log))
    assert await DynamicSupervisor.which_children(pool) == [
        ChildInfo(None, second, "worker"),
        ChildInfo(None, first, "worker"),
    ]


async def test_one_spec_serves_many_children_with_arguments_of_their_own(
    runtime: Runtime, log: Log
) -> None:
    pool = await DynamicSupervisor.start()
    spec = child_spec(Worker, kwargs={"stop_takes": 0.0})
    for name in "abc":
        await DynamicSupervisor.start_child(pool, spec, name, log)
    assert log.names("start") == "abc"
    with_first = child_spec(Worker, "d")
    await DynamicSupervisor.start_child(pool, with_first, log)
    assert log.names("start") == "abcd"


async def test_a_class_can_be_started_as_it_is(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start(name="pool")
    assert is_alive(await DynamicSupervisor.start_child("pool", Worker, "a"))
    assert whereis("pool") is pool


async def test_children_are_linked_to_their_supervisor(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start()
    pid = await DynamicSupervisor.start_child(pool, Worker, "a")
    info = runtime.process_info(pid)
    assert info is not None
    assert (info["links"], info["parent"]) == ((pool,), pool)


async def test_the_error_of_a_failed_start_is_raised_unchanged_and_nothing_is_kept(
    runtime: Runtime, log: Log
) -> None:
    pool = await DynamicSupervisor.start()

    async def start(*outcomes: Any) -> None:
        spec = worker("x", log, outcomes=Outcomes(*outcomes))
        await DynamicSupervisor.start_child(pool, spec)

    with pytest.raises(StartError) as failed:
        await start(Fail("no"))
    assert failed.value.reason == "no"
    with pytest.raises(StartError) as crashed:
        await start(ValueError("broken"))
    assert crashed.value.reason == Crash(ValueError("broken"))
    with pytest.raises(StartError) as stopped:
        await start(Stop("off"))
    assert stopped.value.reason == "off"
    with pytest.raises(StartIgnored):
        await start(Ignore())
    named = child_spec(Worker, "a", kwargs={"name": "taken"})
    pid = await DynamicSupervisor.start_child(pool, named)
    with pytest.raises(AlreadyStarted) as taken:
        await DynamicSupervisor.start_child(pool, named)
    assert (taken.value.name, taken.value.pid) == ("taken", pid)
    assert taken.value.reason == NameInUse("taken", pid)
    assert await pids(pool) == [pid]
    assert is_alive(pool)


async def test_an_invalid_child_is_refused_in_the_caller(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start()
    with pytest.raises(InvalidChildSpec) as refused:
        await DynamicSupervisor.start_child(pool, 5)  # type: ignore[arg-type]
    assert refused.value.value == 5
    significant = child_spec(Worker, restart="transient", significant=True)
    with pytest.raises(InvalidChildSpec) as caught:
        await DynamicSupervisor.start_child(pool, significant, "a")
    assert caught.value.field == "significant"
    assert await pids(pool) == []


async def test_invalid_options_are_refused_before_anything_starts(
    runtime: Runtime,
) -> None:
    for wrong in (
        {"max_children": -1},
        {"max_children": "many"},
        {"max_children": True},
        {"max_children": math.nan},
        {"max_restarts": -1},
        {"max_seconds": 0},
    ):
        with pytest.raises(InvalidOption) as caught:
            await DynamicSupervisor.start(**wrong)
        assert caught.value.option in wrong
    assert runtime.processes() == []


# max_children


async def test_no_more_than_max_children_are_started(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start(max_children=2)
    first = await DynamicSupervisor.start_child(pool, child_spec(Worker, restart="temporary"), "a")
    await DynamicSupervisor.start_child(pool, Worker, "b")
    with pytest.raises(MaxChildren) as caught:
        await DynamicSupervisor.start_child(pool, Worker, "c")
    assert caught.value.limit == 2
    await end(first, NORMAL)
    assert is_alive(await DynamicSupervisor.start_child(pool, Worker, "c"))


async def test_a_restarting_child_counts_against_max_children(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start(max_children=1, max_restarts=100)
    await a_restarting_child(pool)
    with pytest.raises(MaxChildren):
        await DynamicSupervisor.start_child(pool, Worker, "a")


async def test_a_start_that_failed_does_not_count_against_max_children(
    runtime: Runtime, log: Log
) -> None:
    pool = await DynamicSupervisor.start(max_children=1)
    for outcome in (Fail("no"), Ignore(), ValueError("broken")):
        with pytest.raises((StartError, StartIgnored)):
            await DynamicSupervisor.start_child(pool, worker("x", log, outcomes=Outcomes(outcome)))
    assert is_alive(await DynamicSupervisor.start_child(pool, Worker, "a"))


# Restart type x reason


@pytest.mark.parametrize("reason", REASONS, ids=str)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_restart_types_mean_the_same_as_under_a_fixed_supervisor(
    runtime: Runtime, log: Log, restart: RestartType, reason: object
) -> None:
    pool = await DynamicSupervisor.start()
    pid = await DynamicSupervisor.start_child(pool, worker("a", log, restart=restart))
    await end(pid, reason)
    clean = reason in REASONS[:3]
    again = restart == "permanent" or (restart == "transient" and not clean)
    assert log.names("start") == ("aa" if again else "a")
    left = await pids(pool)
    assert len(left) == int(again)
    assert pid not in left


async def test_a_restarted_child_gets_its_own_arguments_again(runtime: Runtime, log: Log) -> None:
    pool = await DynamicSupervisor.start()
    spec = child_spec(Worker)
    pid = await DynamicSupervisor.start_child(pool, spec, "a", log)
    await DynamicSupervisor.start_child(pool, spec, "b", log)
    await end(pid, BOOM)
    assert log.names("start") == "aba"


async def test_temporary_children_never_count_as_restarts(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start(max_restarts=0)
    spec = child_spec(Worker, restart="temporary")
    for _ in range(20):
        await end(await DynamicSupervisor.start_child(pool, spec, "a"), BOOM)
    assert is_alive(pool)
    assert await pids(pool) == []


async def test_a_handler_of_the_end_of_a_temporary_child_runs_in_the_supervisor(
    runtime: Runtime,
) -> None:
    pool = await DynamicSupervisor.start_link()
    child = await DynamicSupervisor.start_child(pool, child_spec(Worker, "a", restart="temporary"))
    ended: list[tuple[Pid, Pid]] = []
    runtime.telemetry.attach(
        CHILD_TERMINATED, lambda _, __, about: ended.append((current_pid(), about["pid"]))
    )
    kill(child)
    await settle()
    assert ended == [(pool, child)]
    assert await DynamicSupervisor.which_children(pool) == []


async def test_a_suspended_supervisor_forgets_a_temporary_child_after_it_resumes(
    runtime: Runtime,
) -> None:
    pool = await DynamicSupervisor.start_link()
    child = await DynamicSupervisor.start_child(pool, child_spec(Worker, "a", restart="temporary"))
    await sys.suspend(pool)
    kill(child)
    await settle()
    info = runtime.process_info(pool)
    assert info is not None
    assert info["queue_length"] == 1
    await sys.resume(pool)
    assert await DynamicSupervisor.which_children(pool) == []


class Argument:
    pass


async def test_the_arguments_of_a_temporary_child_are_not_kept_and_those_of_others_are(
    runtime: Runtime,
) -> None:
    async def start(argument: Argument) -> Pid:
        return spawn_link(trio.sleep_forever)  # a plain process does not know its supervisor

    pool = await DynamicSupervisor.start()
    argument, kept, in_spec = Argument(), Argument(), Argument()
    forgotten = [weakref.ref(argument), weakref.ref(in_spec)]
    remembered = weakref.ref(kept)
    temporary = ChildSpec("child", start, restart="temporary")
    await DynamicSupervisor.start_child(pool, temporary, argument)
    await DynamicSupervisor.start_child(pool, child_spec(temporary, args=(in_spec,)))
    await DynamicSupervisor.start_child(pool, ChildSpec("child", start), kept)
    del argument, kept, in_spec
    await settle()
    gc.collect()
    assert [ref() for ref in forgotten] == [None, None]
    assert remembered() is not None


# Restart intensity


async def test_all_children_share_one_budget_and_one_more_ends_the_supervisor(
    runtime: Runtime, log: Log
) -> None:
    pool = await DynamicSupervisor.start(max_restarts=3)
    for name in "abcd":
        await DynamicSupervisor.start_child(pool, worker(name, log))
    first, second, third, fourth = await pids(pool)
    for pid in (first, second, third):
        assert isinstance(pid, Pid)
        await end(pid, BOOM)
    assert is_alive(pool)
    assert log.names("start") == "abcdabc"
    log.clear()
    cast(fourth, BOOM.exception)
    assert await wait_exit(pool) is SHUTDOWN
    assert sorted(log.names("stop")) == ["a", "b", "c", "d"]
    assert runtime.processes() == []


async def test_restarts_count_only_within_the_window(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start(max_restarts=1, max_seconds=1.0)
    await DynamicSupervisor.start_child(pool, Worker, "a")
    for _ in range(5):
        [pid] = await pids(pool)
        assert isinstance(pid, Pid)
        await end(pid, BOOM)
        await trio.sleep(1.01)
    assert is_alive(pool)


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_only_a_permanent_dynamic_supervisor_is_restarted_and_then_it_is_empty(
    runtime: Runtime, restart: RestartType
) -> None:
    spec = DynamicSupervisor.child_spec(name="pool", max_restarts=0, restart=restart)
    top = await Supervisor.start([spec])
    await end(await DynamicSupervisor.start_child("pool", Worker, "a"), BOOM)
    assert is_alive(top)
    if restart == "permanent":
        assert await pids("pool") == []
    else:
        assert whereis("pool") is None


# Restarts that fail


async def test_a_restart_is_tried_until_it_succeeds_and_each_attempt_counts(
    runtime: Runtime, log: Log
) -> None:
    outcomes = Outcomes(None, Fail("no"), ValueError("broken"), None, *[Fail("no")] * 9)
    pool = await DynamicSupervisor.start(max_restarts=4)
    pid = await DynamicSupervisor.start_child(pool, worker("a", log, outcomes=outcomes))
    await end(pid, BOOM)
    [again] = await pids(pool)
    assert isinstance(again, Pid)
    assert is_alive(again)
    assert outcomes.attempts == 4
    cast(again, BOOM.exception)
    assert await wait_exit(pool) is SHUTDOWN
    assert outcomes.attempts == 5


async def test_a_child_that_ignores_its_restart_is_forgotten(runtime: Runtime, log: Log) -> None:
    pool = await DynamicSupervisor.start()
    spec = worker("a", log, outcomes=Outcomes(None, Ignore()))
    await end(await DynamicSupervisor.start_child(pool, spec), BOOM)
    assert await pids(pool) == []


async def test_a_restarting_child_is_counted_but_not_as_active(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start(max_restarts=100)
    await a_restarting_child(pool)
    await DynamicSupervisor.start_child(pool, DynamicSupervisor)
    assert await DynamicSupervisor.count_children(pool) == ChildCounts(
        specs=2, active=1, supervisors=1, workers=1
    )


async def test_a_restarting_child_can_be_terminated_by_its_last_pid(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start(max_restarts=100)
    slow, pid = await a_restarting_child(pool)
    await DynamicSupervisor.terminate_child(pool, pid)
    attempts = slow.attempts
    await trio.sleep(10)
    assert slow.attempts == attempts
    assert await pids(pool) == []


async def test_a_supervisor_with_a_restarting_child_can_be_stopped(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start(max_restarts=math.inf)
    await a_restarting_child(pool)
    with trio.fail_after(5):
        await stop(pool)
    assert runtime.processes() == []


# Stopping


async def test_terminate_child_stops_it_for_good(runtime: Runtime, log: Log) -> None:
    pool = await DynamicSupervisor.start(max_restarts=0)
    pid = await DynamicSupervisor.start_child(pool, worker("a", log))
    await DynamicSupervisor.terminate_child(pool, pid)
    assert log.take() == ["start a", "stop a"]
    assert await pids(pool) == []
    assert not is_alive(pid)
    with pytest.raises(ChildNotFound) as caught:
        await DynamicSupervisor.terminate_child(pool, pid)
    assert caught.value.child is pid
    assert is_alive(pool)


async def test_terminate_child_does_not_touch_a_process_that_is_not_a_child(
    runtime: Runtime,
) -> None:
    pool = await DynamicSupervisor.start()
    stranger = spawn(trio.sleep_forever)
    with pytest.raises(ChildNotFound):
        await DynamicSupervisor.terminate_child(pool, stranger)
    assert is_alive(stranger)


async def test_children_of_a_killed_supervisor_end_with_it(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start()
    for name in "abc":
        await DynamicSupervisor.start_child(pool, Worker, name)
    kill(pool)
    assert await wait_exit(pool) is KILLED
    await settle()
    assert runtime.processes() == []


async def test_a_stop_does_not_wait_for_a_child_that_has_just_crashed(
    runtime: Runtime, log: Log
) -> None:
    pool = await DynamicSupervisor.start()
    pid = await DynamicSupervisor.start_child(pool, worker("a", log, restart="temporary"))
    kill(pid)
    with trio.fail_after(1):
        await stop(pool)


async def test_stray_messages_calls_and_casts_do_not_disturb_a_supervisor(
    runtime: Runtime,
) -> None:
    pool = await DynamicSupervisor.start()
    pid = await DynamicSupervisor.start_child(pool, Worker, "a")
    send(pool, "info")
    cast(pool, "cast")
    assert isinstance(await call(pool, "call"), UnknownRequest)
    assert await pids(pool) == [pid]


async def test_a_request_to_a_supervisor_that_does_not_exist_raises_no_process(
    runtime: Runtime,
) -> None:
    with pytest.raises(NoProcess):
        await DynamicSupervisor.start_child("nobody", Worker, "a")


async def test_a_supervisor_answers_during_many_crashes(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start()
    spec = child_spec(Worker, restart="temporary")
    children = [await DynamicSupervisor.start_child(pool, spec, "a") for _ in range(500)]
    steady = await DynamicSupervisor.start_child(pool, Worker, "b")
    for pid in children:
        cast(pid, BOOM.exception)
    await settle()
    assert await pids(pool) == [steady]


# Starts at once

SPAWNED = ChildSpec("spawned", Worker.spawn_link, restart="temporary")


def start_at_once(pool: Pid, child: ChildSpec, *extra: Any) -> Pid:
    """Start a child in an idle supervisor, which does so before `request_start` returns."""
    request = DynamicSupervisor.request_start(pool, child, *extra)
    assert request.done
    started = request.result()
    if isinstance(started, Exception):
        raise started
    assert type(started) is Pid
    return started


async def test_a_start_without_waiting_gives_the_child_to_the_supervisor(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start_link()
    await settle()
    pid = start_at_once(pool, SPAWNED, "a")
    assert await pids(pool) == [pid]
    info = runtime.process_info(pid)
    assert info is not None
    assert info["parent"] is pool
    assert info["links"] == (pool,)
    await stop(pool)
    assert not is_alive(pid)


async def test_a_busy_supervisor_starts_a_child_later_in_order(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start_link()
    await settle()
    await sys.suspend(pool)
    first = DynamicSupervisor.request_start(pool, SPAWNED, "a")
    second = DynamicSupervisor.request_start(pool, SPAWNED, "b")
    assert (first.done, second.done) == (False, False)
    await sys.resume(pool)
    started = [await first.wait_result(), await second.wait_result()]
    assert await pids(pool) == started
    await sys.suspend(pool)
    last = DynamicSupervisor.request_start(pool, SPAWNED, "a")
    kill(pool)
    with pytest.raises(ServerExit):
        await last.wait_result()
    with pytest.raises(NoProcess):
        DynamicSupervisor.request_start(pool, SPAWNED, "a")


async def test_a_supervisor_that_waits_for_the_end_of_a_child_starts_another_after_it(
    runtime: Runtime, nursery: trio.Nursery
) -> None:
    pool = await DynamicSupervisor.start_link()
    slow = ChildSpec("slow", Worker.spawn_link, ("slow",), {"stop_takes": 2.0})
    child = await DynamicSupervisor.start_child(pool, slow)
    nursery.start_soon(DynamicSupervisor.terminate_child, pool, child)
    await trio.sleep(1)
    request = DynamicSupervisor.request_start(pool, SPAWNED, "b")
    assert not request.done
    await wait_exit(child)
    assert await pids(pool) == [await request.wait_result()]


async def test_a_start_without_waiting_respects_max_children(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start_link(max_children=1)
    await settle()
    start_at_once(pool, SPAWNED, "a")
    with pytest.raises(MaxChildren):
        start_at_once(pool, SPAWNED, "b")


async def test_a_start_function_that_waits_keeps_later_requests_waiting(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start_link()
    await settle()
    slow = DynamicSupervisor.request_start(pool, ChildSpec("slow", Worker.start_link), "a")
    quick = DynamicSupervisor.request_start(pool, SPAWNED, "b")
    assert (slow.done, quick.done) == (False, False)
    started = [await slow.wait_result(), await quick.wait_result()]
    assert await pids(pool) == started


async def test_the_failure_of_a_start_function_that_waits_is_the_answer(runtime: Runtime) -> None:
    async def fail() -> Pid:
        await trio.lowlevel.checkpoint()
        raise ValueError("no")

    pool = await DynamicSupervisor.start_link(max_children=1)
    await settle()
    answer = await DynamicSupervisor.request_start(pool, ChildSpec("failing", fail)).wait_result()
    assert isinstance(answer, StartError)
    start_at_once(pool, SPAWNED, "a")
    assert isinstance(DynamicSupervisor.request_start(pool, SPAWNED).result(), MaxChildren)


async def test_an_exception_of_a_start_without_waiting_is_the_reason_of_the_failure(
    runtime: Runtime,
) -> None:
    pool = await DynamicSupervisor.start_link()
    await settle()

    def fail() -> Pid:
        raise ValueError("no")

    with pytest.raises(StartError) as caught:
        start_at_once(pool, ChildSpec("failing", fail))
    assert isinstance(caught.value.reason, Crash)
    assert isinstance(caught.value.reason.exception, ValueError)
    assert await pids(pool) == []


async def test_an_exit_in_a_start_without_waiting_ends_no_process(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start_link()
    await settle()
    with pytest.raises(StartError) as caught:
        start_at_once(pool, ChildSpec("leaving", exit, ("no",)))
    assert caught.value.reason == "no"
    assert await pids(pool) == []


@pytest.mark.parametrize("error", [StartError("taken"), StartIgnored()])
async def test_a_start_without_waiting_passes_on_the_failure_of_the_start_function(
    runtime: Runtime, error: Exception
) -> None:
    pool = await DynamicSupervisor.start_link()
    await settle()

    def fail() -> Pid:
        raise error

    with pytest.raises(type(error)) as caught:
        start_at_once(pool, ChildSpec("failing", fail))
    assert caught.value is error
    await settle()
    start_at_once(pool, SPAWNED, "a")


async def test_a_start_function_that_asks_for_a_sibling_gets_an_error(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start_link()
    await settle()

    def start() -> Pid:
        # The start function runs in the process of the supervisor.
        with pytest.raises(CallingSelf):
            DynamicSupervisor.request_start(pool, SPAWNED, "sibling")
        return Worker.spawn_link("a")

    pid = start_at_once(pool, ChildSpec("nested", start))
    assert await pids(pool) == [pid]


@pytest.mark.parametrize("watches", [False, True])
async def test_a_start_and_an_end_take_no_step_of_an_idle_supervisor(
    runtime: Runtime, watches: bool
) -> None:
    pool = await DynamicSupervisor.start_link()
    await settle()
    if watches:
        runtime.add_instrument(Instrument())
    process: Any = pool.process
    with counted(process.task) as steps:
        pid = start_at_once(pool, SPAWNED, "a")
        await settle()
        cast(pid, BOOM.exception)
        await settle()
    assert steps.count == 0
    assert await pids(pool) == []


async def test_a_significant_child_without_waiting_is_refused(runtime: Runtime) -> None:
    pool = await DynamicSupervisor.start_link()
    await settle()
    spec = ChildSpec("main", Worker.spawn_link, ("a",), restart="temporary", significant=True)
    with pytest.raises(InvalidChildSpec):
        start_at_once(pool, spec)


async def test_a_child_that_waits_for_its_restart_counts_for_a_start_without_waiting(
    runtime: Runtime,
) -> None:
    backoff = Backoff(initial=10.0, maximum=10.0)
    pool = await DynamicSupervisor.start_link(max_children=1, backoff=backoff)
    await settle()
    spec = ChildSpec("spawned", Worker.spawn_link, ("a",))
    cast(start_at_once(pool, spec), BOOM.exception)
    await settle()
    with pytest.raises(MaxChildren):
        start_at_once(pool, SPAWNED, "b")
