"""The limit of restarts, the restart of groups, and failed restarts."""

import math
from typing import Any

import pytest
import trio

from actors import (
    NORMAL,
    SHUTDOWN,
    Crash,
    Fail,
    Ignore,
    Pid,
    Stop,
    cast,
    is_alive,
    kill,
    spawn_link,
    stop,
    wait_exit,
)
from actors.runtime import Runtime
from supervision import ChildSpec, Supervisor
from supervision.child_spec import RestartType
from tests.supervision.workers import Log, Outcomes, child, crash, end, running, settle, worker

BOOM = Crash(RuntimeError("crash"))


# Restart intensity


async def test_the_fourth_crash_within_the_window_ends_the_supervisor(
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


async def test_giving_up_goes_up_the_tree_to_a_supervisor_within_its_limit(
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


async def test_one_for_all_restarts_every_child_for_one_restart(runtime: Runtime, log: Log) -> None:
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


async def test_one_for_all_restarts_nothing_after_a_clean_end_of_a_transient_child(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start(
        [worker("a", log), worker("b", log, restart="transient")], strategy="one_for_all"
    )
    log.clear()
    await end(await running(supervisor, "b"), NORMAL)
    assert log.take() == ["stop b"]


async def test_rest_for_one_restarts_the_children_started_later(runtime: Runtime, log: Log) -> None:
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
    """Return a child whose restarts fail, each after a while, so that a test can send requests in between."""

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
        # All these messages are in the mailbox before the next attempt.
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
