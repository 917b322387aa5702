"""The life of one supervisor: boot, restarts, strategies, giving up."""

import math
from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Crash,
    Exit,
    Fail,
    Ignore,
    Pid,
    Shutdown,
    StartError,
    Stop,
    cast,
    is_alive,
    kill,
    receive,
    send_exit,
    spawn,
    spawn_link,
    stop,
    trap_exits,
    wait_exit,
    whereis,
)
from actors.runtime import Runtime
from supervision import (
    BadChildSpec,
    BadSupervisorOption,
    ChildSpec,
    DuplicateChildId,
    FailedToStartChild,
    Supervisor,
    check_child_specs,
)
from supervision.child_spec import RestartType
from tests.supervision.workers import (
    Log,
    Outcomes,
    child,
    crash,
    end,
    running,
    settle,
    worker,
)

BOOM = Crash(RuntimeError("crash"))


@pytest.fixture
def log() -> Log:
    return Log()


# Boot and stop


async def test_children_start_in_order_stop_in_reverse_and_are_listed_last_first(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker(name, log) for name in "abc"])
    assert [info.id for info in await Supervisor.which_children(supervisor)] == ["c", "b", "a"]
    await stop(supervisor)
    assert log.take() == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]


async def test_each_child_starts_when_the_one_before_it_is_ready(runtime: Runtime) -> None:
    times = []

    async def slow() -> Pid:
        await trio.sleep(1)
        times.append(trio.current_time())
        return spawn_link(trio.sleep_forever)

    began = trio.current_time()
    await Supervisor.start([ChildSpec(id, slow) for id in range(3)])
    assert [time - began for time in times] == pytest.approx([1, 2, 3])


async def test_a_child_that_fails_at_boot_takes_those_before_it_down_and_ends_the_supervisor(
    runtime: Runtime, log: Log
) -> None:
    outcomes = Outcomes(Fail("no"), Fail("no"))
    with pytest.raises(StartError) as caught:
        await Supervisor.start(
            [
                worker("a", log),
                worker("b", log),
                worker("x", log, outcomes=outcomes),
                worker("c", log),
            ],
            name="top",
        )
    assert caught.value.reason == Shutdown(FailedToStartChild("x", "no"))
    assert log.take() == ["start a", "start b", "stop b", "stop a"]
    assert outcomes.attempts == 1
    assert whereis("top") is None
    assert runtime.processes() == []


async def test_a_starter_dies_with_a_supervisor_that_does_not_boot_unless_it_traps(
    runtime: Runtime, log: Log
) -> None:
    reason = Shutdown(FailedToStartChild("x", "no"))
    seen: list[object] = []

    async def boot(trap: bool) -> None:
        trap_exits(trap)
        try:
            await Supervisor.start_link([worker("x", log, outcomes=Outcomes(Fail("no")))])
        except StartError as error:
            seen.append(error.reason)

    assert await wait_exit(spawn(boot, False)) == reason
    assert seen == []
    assert await wait_exit(spawn(boot, True)) is NORMAL
    assert seen == [reason]


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_a_child_that_ignores_its_start_is_kept_not_running_and_boot_goes_on(
    runtime: Runtime, log: Log, restart: RestartType
) -> None:
    supervisor = await Supervisor.start(
        [worker("x", log, outcomes=Outcomes(Ignore()), restart=restart), worker("a", log)]
    )
    assert await child(supervisor, "x") is None
    assert log.take() == ["start a"]
    await Supervisor.restart_child(supervisor, "x")
    assert log.take() == ["start x"]


async def test_a_temporary_child_that_ignores_its_start_is_forgotten(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start(
        [worker("x", log, outcomes=Outcomes(Ignore()), restart="temporary"), worker("a", log)]
    )
    assert [info.id for info in await Supervisor.which_children(supervisor)] == ["a"]


async def raises() -> Pid:
    raise ValueError("broken")


async def returns_nothing() -> Any:
    return None


def not_async() -> Any:
    return "pid"


async def exits() -> Pid:
    from actors import exit

    exit("gone")


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (raises, "broken"),
        (returns_nothing, "returned None"),
        (not_async, "returned 'pid'"),
        (exits, "gone"),
    ],
)
async def test_whatever_a_start_function_does_wrong_is_why_the_child_did_not_start(
    runtime: Runtime, start: Any, text: str
) -> None:
    with pytest.raises(StartError) as caught:
        await Supervisor.start([ChildSpec("x", start)])
    reason = caught.value.reason
    assert isinstance(reason, Shutdown)
    assert reason.detail.id == "x"  # type: ignore[attr-defined]
    assert text in str(reason)


async def test_nothing_starts_if_any_spec_or_option_cannot_be(runtime: Runtime, log: Log) -> None:
    good = worker("a", log)
    with pytest.raises(DuplicateChildId) as duplicate:
        await Supervisor.start([good, worker("a", log)])
    assert duplicate.value.id == "a"
    with pytest.raises(BadChildSpec, match="cannot be a child"):
        await Supervisor.start([good, 5])  # type: ignore[list-item]
    with pytest.raises(BadChildSpec, match="auto_shutdown"):
        await Supervisor.start([good, worker("b", log, restart="transient", significant=True)])
    for wrong in (
        {"strategy": "x"},
        {"max_restarts": -1},
        {"max_seconds": 0},
        {"auto_shutdown": 1},
    ):
        with pytest.raises(BadSupervisorOption) as option:
            await Supervisor.start([good], **wrong)
        assert option.value.option in wrong
    assert log == []
    assert runtime.processes() == []


def test_specs_can_be_checked_without_starting_anything(log: Log) -> None:
    specs = [worker("a", log), worker("b", log)]
    assert check_child_specs(specs) == tuple(specs)
    with pytest.raises(DuplicateChildId):
        check_child_specs([*specs, worker("b", log)])


async def test_a_supervisor_can_be_named_and_asked_by_name(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start([worker("a", log)], name="top")
    assert whereis("top") is supervisor
    assert (await Supervisor.count_children("top")).active == 1


# What becomes of a child that ends: restart type x reason

REASONS = [NORMAL, SHUTDOWN, Shutdown("x"), BOOM, "killed"]


@pytest.mark.parametrize("reason", REASONS, ids=str)
async def test_a_permanent_child_is_restarted_whatever_it_ended_with(
    runtime: Runtime, log: Log, reason: object
) -> None:
    supervisor = await Supervisor.start([worker("a", log)])
    before = await running(supervisor, "a")
    await end(before, reason)
    after = await running(supervisor, "a")
    assert after is not before
    assert is_alive(after)
    assert log.names("start") == "aa"


@pytest.mark.parametrize("reason", REASONS, ids=str)
async def test_a_transient_child_is_restarted_only_if_it_did_not_end_cleanly(
    runtime: Runtime, log: Log, reason: object
) -> None:
    supervisor = await Supervisor.start([worker("a", log, restart="transient")])
    await end(await running(supervisor, "a"), reason)
    clean = reason in REASONS[:3]
    assert (await child(supervisor, "a") is None) is clean
    assert log.names("start") == ("a" if clean else "aa")


@pytest.mark.parametrize("reason", REASONS, ids=str)
async def test_a_temporary_child_is_forgotten_whatever_it_ended_with(
    runtime: Runtime, log: Log, reason: object
) -> None:
    supervisor = await Supervisor.start([worker("a", log, restart="temporary")])
    await end(await running(supervisor, "a"), reason)
    assert await Supervisor.which_children(supervisor) == []
    assert log.names("start") == "a"


async def test_siblings_of_a_child_that_ends_are_left_alone(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start([worker(name, log) for name in "abc"])
    before = [await running(supervisor, name) for name in "ac"]
    await crash(supervisor, "b")
    assert [await running(supervisor, name) for name in "ac"] == before
    assert [info.id for info in await Supervisor.which_children(supervisor)] == ["c", "b", "a"]


async def test_the_exit_of_a_stranger_is_ignored(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start([worker("a", log)])

    async def stranger() -> None:
        send_exit(supervisor, BOOM)

    await wait_exit(spawn(stranger))
    await settle()
    assert is_alive(supervisor)
    assert log.take() == ["start a"]


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, "whatever"])
async def test_the_exit_of_its_parent_stops_a_supervisor_in_order_with_that_reason(
    runtime: Runtime, log: Log, reason: object
) -> None:
    started: list[Pid] = []

    async def parent() -> None:
        started.append(await Supervisor.start_link([worker("a", log), worker("b", log)]))
        await receive()
        from actors import exit

        exit(reason)

    pid = spawn(parent)
    await settle()
    from actors import send

    send(pid, "go")
    assert await wait_exit(started[0]) == reason
    assert log.take() == ["start a", "start b", "stop b", "stop a"]


async def test_a_supervisor_that_is_killed_leaves_no_child_behind(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log), worker("b", log, trap=False)])
    kill(supervisor)
    assert await wait_exit(supervisor) is KILLED
    await settle()
    assert runtime.processes() == []
    # The one that traps exits hears of it and cleans up; nobody waits for it.
    assert log.names("stop") == "a"


async def test_stray_messages_calls_and_casts_do_not_disturb_a_supervisor(
    runtime: Runtime, log: Log
) -> None:
    from actors import CallTimeout, call, send

    supervisor = await Supervisor.start([worker("a", log)])
    strays: list[object] = []
    runtime.telemetry.attach(
        ("actors", "server", "unhandled_info"),
        lambda _e, _m, about: strays.append(about["message"]),
    )
    send(supervisor, "info")
    cast(supervisor, "cast")
    with pytest.raises(CallTimeout):
        await call(supervisor, "call")
    assert strays == ["info", "cast", "call"]
    assert is_alive(supervisor)


# Restart intensity


async def test_the_fourth_crash_within_the_window_is_one_too_many(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log), worker("b", log), worker("c", log)])
    for _ in range(3):
        await crash(supervisor, "b")
    assert log.names("start") == "abcbbb"
    log.clear()
    cast(await running(supervisor, "b"), BOOM.exception)
    assert await wait_exit(supervisor) is SHUTDOWN
    assert log.take() == ["stop b", "stop c", "stop a"]
    assert runtime.processes() == []


async def test_without_restarts_the_first_crash_ends_the_supervisor(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log)], max_restarts=0)
    cast(await running(supervisor, "a"), BOOM.exception)
    assert await wait_exit(supervisor) is SHUTDOWN


@pytest.mark.parametrize(
    ("times", "gives_up"), [((0, 4, 6, 10), False), ((0, 1, 2), True), ((0, 4, 5), True)]
)
async def test_crashes_count_only_within_the_window(
    runtime: Runtime, log: Log, times: tuple[float, ...], gives_up: bool
) -> None:
    supervisor = await Supervisor.start([worker("a", log)], max_restarts=2, max_seconds=5.0)
    began = trio.current_time()
    for time in times:
        await trio.sleep_until(began + time)
        await crash(supervisor, "a")
    assert is_alive(supervisor) is not gives_up


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_only_a_permanent_supervisor_is_restarted_after_it_gave_up(
    runtime: Runtime, log: Log, restart: RestartType
) -> None:
    top = await Supervisor.start(
        [Supervisor.child_spec([worker("a", log)], id="sub", max_restarts=0, restart=restart)]
    )
    before = await running(top, "sub")
    await crash(before, "a")
    assert not is_alive(before)
    if restart == "permanent":
        assert is_alive(await running(top, "sub"))
    else:
        remaining = [(info.id, info.pid) for info in await Supervisor.which_children(top)]
        assert remaining == ([("sub", None)] if restart == "transient" else [])
    assert log.names("start") == ("aa" if restart == "permanent" else "a")


async def test_giving_up_climbs_the_tree_until_somebody_can_bear_it(
    runtime: Runtime, log: Log
) -> None:
    middle = Supervisor.child_spec(
        [Supervisor.child_spec([worker("a", log)], id="low", max_restarts=1)],
        id="middle",
        max_restarts=1,
    )
    top = await Supervisor.start([middle], max_restarts=1)
    for _ in range(4):
        low = await running(await running(top, "middle"), "low")
        await crash(low, "a")
    assert is_alive(top)
    assert log.names("start") == "aaaaa"
    for _ in range(3):
        low = await running(await running(top, "middle"), "low")
        await crash(low, "a")
    low = await running(await running(top, "middle"), "low")
    cast(await running(low, "a"), BOOM.exception)
    assert await wait_exit(top) is SHUTDOWN


# Strategies


async def test_one_for_all_takes_everybody_down_and_up_again_for_one_restart(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start(
        [worker(name, log) for name in "abc"], strategy="one_for_all", max_restarts=1
    )
    log.clear()
    await crash(supervisor, "b")
    assert log.take() == ["stop b", "stop c", "stop a", "start a", "start b", "start c"]
    assert is_alive(supervisor)
    cast(await running(supervisor, "a"), BOOM.exception)
    assert await wait_exit(supervisor) is SHUTDOWN


async def test_one_for_all_starts_those_that_had_finished_and_forgets_temporaries(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start(
        [
            worker("a", log, restart="transient"),
            worker("b", log),
            worker("c", log),
            worker("d", log, restart="temporary"),
        ],
        strategy="one_for_all",
    )
    await end(await running(supervisor, "a"), NORMAL)
    await Supervisor.terminate_child(supervisor, "b")
    log.clear()
    await crash(supervisor, "c")
    assert log.take() == ["stop c", "stop d", "start a", "start b", "start c"]
    assert [info.id for info in await Supervisor.which_children(supervisor)] == ["c", "b", "a"]


async def test_one_for_all_disturbs_nobody_for_a_transient_child_that_finished(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start(
        [worker("a", log), worker("b", log, restart="transient")], strategy="one_for_all"
    )
    log.clear()
    await end(await running(supervisor, "b"), NORMAL)
    assert log.take() == ["stop b"]


async def test_rest_for_one_takes_down_those_started_later(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start(
        [worker(name, log) for name in "abcd"], strategy="rest_for_one"
    )
    before = await running(supervisor, "a")
    log.clear()
    await crash(supervisor, "b")
    assert log.take() == ["stop b", "stop d", "stop c", "start b", "start c", "start d"]
    assert await running(supervisor, "a") is before


async def test_siblings_that_crash_together_cost_one_restart_of_the_group(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start(
        [worker(name, log) for name in "abc"], strategy="one_for_all", max_restarts=1
    )
    log.clear()
    pids = [await running(supervisor, name) for name in "abc"]
    for pid in pids:
        cast(pid, BOOM.exception)
    await settle()
    assert is_alive(supervisor)
    assert not any(is_alive(pid) for pid in pids)
    assert [is_alive(await running(supervisor, name)) for name in "abc"] == [True] * 3


# Restarts that fail


async def test_every_failed_attempt_to_restart_is_counted(runtime: Runtime, log: Log) -> None:
    outcomes = Outcomes(None, *[Fail("not yet")] * 9)
    supervisor = await Supervisor.start([worker("a", log, outcomes=outcomes)], max_restarts=4)
    cast(await running(supervisor, "a"), BOOM.exception)
    assert await wait_exit(supervisor) is SHUTDOWN
    # The first start, and the four attempts that were allowed.
    assert outcomes.attempts == 5


async def test_a_restart_that_succeeds_in_the_end_is_a_restart(runtime: Runtime, log: Log) -> None:
    outcomes = Outcomes(None, Fail("not yet"), ValueError("nor now"), Stop("nor now"))
    supervisor = await Supervisor.start(
        [worker("a", log), worker("b", log, outcomes=outcomes)], max_restarts=4
    )
    before = await running(supervisor, "a")
    await crash(supervisor, "b")
    assert is_alive(await running(supervisor, "b"))
    assert outcomes.attempts == 5
    assert await running(supervisor, "a") is before


class Slow:
    """A child whose restarts fail, each after a while, so that there is time to ask in between."""

    def __init__(self, fails: float = math.inf) -> None:
        self.fails = fails
        self.attempts = 0

    def spec(self, id: str = "slow", **fields: Any) -> ChildSpec:
        return ChildSpec(id, self.start, **fields)

    async def start(self) -> Pid:
        self.attempts += 1
        if self.attempts > 1:
            await trio.sleep(1)
            if self.attempts - 1 <= self.fails:
                raise ValueError("not yet")
        return spawn_link(trio.sleep_forever)


async def test_between_two_attempts_a_supervisor_answers_and_the_child_is_restarting(
    runtime: Runtime, log: Log
) -> None:
    slow = Slow()
    supervisor = await Supervisor.start([slow.spec(), worker("a", log)], max_restarts=100)
    kill(await running(supervisor, "slow"))
    await settle()
    assert await child(supervisor, "slow") == "restarting"
    counts = await Supervisor.count_children(supervisor)
    assert (counts.specs, counts.active, counts.workers) == (2, 1, 2)
    assert is_alive(await running(supervisor, "a"))


async def test_terminating_a_child_that_is_restarting_ends_the_attempts(runtime: Runtime) -> None:
    slow = Slow()
    supervisor = await Supervisor.start([slow.spec()], max_restarts=100)
    kill(await running(supervisor, "slow"))
    await settle()
    await Supervisor.terminate_child(supervisor, "slow")
    attempts = slow.attempts
    await trio.sleep(10)
    assert slow.attempts == attempts
    assert await child(supervisor, "slow") is None


async def test_a_supervisor_can_be_stopped_between_two_attempts(runtime: Runtime) -> None:
    slow = Slow()
    supervisor = await Supervisor.start([slow.spec()], max_restarts=math.inf)
    kill(await running(supervisor, "slow"))
    await settle()
    with trio.fail_after(5):
        await stop(supervisor)
    assert slow.attempts < 5


async def test_an_attempt_that_was_cancelled_is_not_made_after_a_restart_by_hand(
    runtime: Runtime,
) -> None:
    slow = Slow(fails=1)
    supervisor = await Supervisor.start([slow.spec()])
    kill(await running(supervisor, "slow"))
    await settle()
    async with trio.open_nursery() as nursery:
        # All of these are in the mailbox before the message that would try again.
        nursery.start_soon(Supervisor.terminate_child, supervisor, "slow")
        await settle()
        nursery.start_soon(Supervisor.restart_child, supervisor, "slow")
    await settle()
    assert slow.attempts == 3
    assert is_alive(await running(supervisor, "slow"))


async def test_one_for_all_tries_the_whole_group_again_when_another_child_fails_to_restart(
    runtime: Runtime, log: Log
) -> None:
    outcomes = Outcomes(None, Fail("not yet"))
    supervisor = await Supervisor.start(
        [worker("a", log), worker("b", log, outcomes=outcomes), worker("c", log)],
        strategy="one_for_all",
    )
    log.clear()
    await crash(supervisor, "a")
    assert log.take() == [
        *("stop a", "stop c", "stop b", "start a"),
        *("stop a", "start a", "start b", "start c"),
    ]


async def test_rest_for_one_tries_again_from_the_child_that_failed_to_restart(
    runtime: Runtime, log: Log
) -> None:
    outcomes = Outcomes(None, Fail("not yet"))
    supervisor = await Supervisor.start(
        [worker("a", log), worker("b", log, outcomes=outcomes), worker("c", log)],
        strategy="rest_for_one",
    )
    log.clear()
    await crash(supervisor, "a")
    assert log.take() == ["stop a", "stop c", "stop b", "start a", "start b", "start c"]


async def test_after_a_failed_group_restart_the_children_after_it_are_not_running(
    runtime: Runtime, log: Log
) -> None:
    slow = Slow()
    supervisor = await Supervisor.start(
        [worker("a", log), slow.spec(), worker("c", log)],
        strategy="one_for_all",
        max_restarts=100,
    )
    await crash(supervisor, "a")
    states = {info.id: info.pid for info in await Supervisor.which_children(supervisor)}
    assert isinstance(states["a"], Pid)
    assert states["slow"] == "restarting"
    assert states["c"] is None


async def test_a_child_that_ignores_its_restart_is_kept_not_running(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log, outcomes=Outcomes(None, Ignore()))])
    await crash(supervisor, "a")
    assert await child(supervisor, "a") is None


# Significant children


def significant(name: str, log: Log, restart: RestartType = "transient") -> ChildSpec:
    return worker(name, log, restart=restart, significant=True)


@pytest.mark.parametrize("restart", ["transient", "temporary"])
async def test_any_significant_child_that_finishes_ends_the_supervisor(
    runtime: Runtime, log: Log, restart: RestartType
) -> None:
    supervisor = await Supervisor.start(
        [worker("a", log), significant("b", log, restart), significant("c", log)],
        auto_shutdown="any_significant",
    )
    log.clear()
    cast(await running(supervisor, "b"), Stop(NORMAL))
    assert await wait_exit(supervisor) is SHUTDOWN
    assert log.take() == ["stop b", "stop c", "stop a"]


async def test_a_significant_transient_child_that_crashes_is_restarted_and_a_temporary_is_not(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start(
        [significant("a", log), significant("b", log, "temporary")], auto_shutdown="any_significant"
    )
    await crash(supervisor, "a")
    assert is_alive(await running(supervisor, "a"))
    cast(await running(supervisor, "b"), BOOM.exception)
    assert await wait_exit(supervisor) is SHUTDOWN


async def test_a_significant_child_that_was_terminated_ends_nothing(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([significant("a", log)], auto_shutdown="any_significant")
    await Supervisor.terminate_child(supervisor, "a")
    await settle()
    assert is_alive(supervisor)


async def test_all_significant_waits_for_the_last(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start(
        [significant("a", log), significant("b", log, "temporary"), worker("c", log)],
        auto_shutdown="all_significant",
    )
    await end(await running(supervisor, "b"), BOOM)
    assert is_alive(supervisor)
    cast(await running(supervisor, "a"), Stop(NORMAL))
    assert await wait_exit(supervisor) is SHUTDOWN


async def test_children_that_are_not_significant_end_nothing(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start(
        [worker("a", log, restart="transient"), significant("b", log)],
        auto_shutdown="all_significant",
    )
    await end(await running(supervisor, "a"), NORMAL)
    assert is_alive(supervisor)


async def test_siblings_taken_down_by_a_strategy_are_no_significant_ends(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start(
        [worker("a", log), significant("b", log, "temporary"), significant("c", log)],
        strategy="one_for_all",
        auto_shutdown="any_significant",
    )
    await crash(supervisor, "a")
    assert is_alive(supervisor)
    assert [info.id for info in await Supervisor.which_children(supervisor)] == ["c", "a"]


async def test_an_exit_message_of_a_stopped_child_does_not_stay_in_the_mailbox(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker(name, log) for name in "abc"])
    for name in "abc":
        await Supervisor.terminate_child(supervisor, name)
    assert runtime.process_info(supervisor)["queue_length"] == 0  # type: ignore[index]
    assert runtime.process_info(supervisor)["links"] == ()  # type: ignore[index]


def test_an_exit_message_is_what_a_supervisor_works_with() -> None:
    # Guards the tests above: they rely on Exit carrying pid and reason in this order.
    assert Exit.__match_args__ == ("pid", "reason")
