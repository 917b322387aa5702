"""Supervisors that end with their significant children."""

import pytest
import trio

from actors import NORMAL, SHUTDOWN, Crash, Stop, cast, is_alive, wait_exit
from actors.runtime import Runtime
from supervision import ChildSpec, Supervisor
from supervision.backoff import Backoff
from supervision.child_spec import RestartType
from tests.supervision.workers import Log, crash, end, running, settle, worker

BOOM = Crash(RuntimeError("crash"))


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


async def test_all_significant_waits_for_a_child_that_is_about_to_restart(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start(
        [significant("a", log), significant("b", log)],
        auto_shutdown="all_significant",
        backoff=Backoff(1.0, 10.0),
    )
    await crash(supervisor, "a")
    await end(await running(supervisor, "b"), NORMAL)
    assert is_alive(supervisor)
    await trio.sleep(1.1)
    cast(await running(supervisor, "a"), Stop(NORMAL))
    assert await wait_exit(supervisor) is SHUTDOWN


async def test_children_that_are_not_significant_end_nothing(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start(
        [worker("a", log, restart="transient"), significant("b", log)],
        auto_shutdown="all_significant",
    )
    await end(await running(supervisor, "a"), NORMAL)
    assert is_alive(supervisor)


async def test_the_stop_of_a_significant_sibling_by_a_strategy_ends_nothing(
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
