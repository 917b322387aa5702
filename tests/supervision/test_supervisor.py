"""One supervisor: boot, stop, and the end of a child."""

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
    InvalidOption,
    Pid,
    Shutdown,
    StartError,
    call,
    cast,
    exit,
    is_alive,
    kill,
    receive,
    send,
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
    ChildSpec,
    FailedToStartChild,
    InvalidChildSpec,
    Supervisor,
    UnknownRequest,
    check_child_specs,
)
from supervision.child_spec import RestartType
from tests.supervision.workers import Log, Outcomes, child, crash, end, running, settle, worker

BOOM = Crash(RuntimeError("crash"))


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


async def test_a_child_that_fails_at_boot_stops_those_before_it_and_ends_the_supervisor(
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


async def test_an_exit_of_a_supervisor_without_a_link_to_itself_stops_it_and_its_children(
    runtime: Runtime, log: Log
) -> None:
    async def boot() -> None:
        top = await Supervisor.start([worker("a", log), worker("b", log)], name="top")
        send(top, Exit(top, "enough"))

    spawn(boot)
    await settle()
    assert log.take() == ["start a", "start b", "stop b", "stop a"]
    assert whereis("top") is None


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_a_boot_continues_after_a_child_that_ignores_its_start_and_keeps_it(
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
async def test_every_error_of_a_start_function_is_the_reason_of_the_failed_start(
    runtime: Runtime, start: Any, text: str
) -> None:
    with pytest.raises(StartError) as caught:
        await Supervisor.start([ChildSpec("x", start)])
    reason = caught.value.reason
    assert isinstance(reason, Shutdown)
    assert reason.detail.id == "x"  # type: ignore[attr-defined]
    assert text in str(reason)


async def test_nothing_starts_if_a_spec_or_option_is_invalid(runtime: Runtime, log: Log) -> None:
    good = worker("a", log)
    with pytest.raises(InvalidChildSpec) as duplicate:
        await Supervisor.start([good, worker("a", log)])
    assert duplicate.value.id == "a"
    with pytest.raises(InvalidChildSpec) as refused:
        await Supervisor.start([good, 5])  # type: ignore[list-item]
    assert refused.value.value == 5
    with pytest.raises(InvalidChildSpec) as refused:
        await Supervisor.start([good, worker("b", log, restart="transient", significant=True)])
    assert refused.value.field == "significant"
    for wrong in (
        {"strategy": "x"},
        {"max_restarts": -1},
        {"max_seconds": 0},
        {"auto_shutdown": 1},
    ):
        with pytest.raises(InvalidOption) as option:
            await Supervisor.start([good], **wrong)
        assert option.value.option in wrong
    assert log == []
    assert runtime.processes() == []


def test_specs_can_be_checked_without_starting_anything(log: Log) -> None:
    specs = [worker("a", log), worker("b", log)]
    assert check_child_specs(specs) == tuple(specs)
    with pytest.raises(InvalidChildSpec):
        check_child_specs([*specs, worker("b", log)])


async def test_a_supervisor_can_be_named_and_asked_by_name(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start([worker("a", log)], name="top")
    assert whereis("top") is supervisor
    assert (await Supervisor.count_children("top")).active == 1


# The end of a child: restart type x reason

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


async def test_the_exit_of_a_process_that_is_not_a_child_is_ignored(
    runtime: Runtime, log: Log
) -> None:
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
        exit(reason)

    pid = spawn(parent)
    await settle()
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
    # The child that traps exits sees the end and cleans up. No process waits for it.
    assert log.names("stop") == "a"


async def test_stray_messages_calls_and_casts_do_not_disturb_a_supervisor(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log)])
    strays: list[object] = []
    runtime.telemetry.attach(
        ("actors", "server", "unhandled_info"),
        lambda _e, _m, about: strays.append(about["message"]),
    )
    send(supervisor, "info")
    cast(supervisor, "cast")
    assert isinstance(await call(supervisor, "call"), UnknownRequest)
    assert strays == ["info", "cast", "call"]
    assert is_alive(supervisor)


async def test_messages_of_an_unhashable_class_do_not_disturb_a_supervisor(
    runtime: Runtime, log: Log
) -> None:
    class Unhashable(type):
        __hash__ = None  # type: ignore[assignment]

    class Message(metaclass=Unhashable):
        pass

    supervisor = await Supervisor.start([worker("a", log)])
    send(supervisor, Message())
    cast(supervisor, Message())
    assert isinstance(await call(supervisor, Message()), UnknownRequest)
    assert is_alive(supervisor)


async def test_an_exit_message_of_a_stopped_child_does_not_stay_in_the_mailbox(
    runtime: Runtime, log: Log
) -> None:
    supervisor = await Supervisor.start([worker(name, log) for name in "abc"])
    for name in "abc":
        await Supervisor.terminate_child(supervisor, name)
    assert runtime.process_info(supervisor)["queue_length"] == 0  # type: ignore[index]
    assert runtime.process_info(supervisor)["links"] == ()  # type: ignore[index]
