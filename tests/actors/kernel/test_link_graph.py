"""Links, monitors and exit signals beyond the OTP cases."""

from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Crash,
    Down,
    Exit,
    Pid,
    Shutdown,
    current_pid,
    current_runtime,
    demonitor,
    exit,
    is_alive,
    kill,
    link,
    monitor,
    receive,
    send,
    send_exit,
    spawn,
    spawn_link,
    spawn_monitor,
    trap_exits,
    unlink,
    wait_exit,
)
from actors._kernel.current import Monitor
from tests.actors.helpers import (
    dead_process,
    down,
    idle,
    in_process,
    listen,
    nothing_arrives,
    reason_of,
    settle,
)


@in_process()
async def test_a_monitor_fires_only_once_and_never_after_its_removal() -> None:
    fired, removed = (monitor(spawn(idle)) for _ in range(2))
    assert isinstance(fired, Monitor)
    assert isinstance(removed, Monitor)
    demonitor(removed)
    for ref in (fired, fired, removed):
        ref.down(ref.target, NORMAL)
    assert (await receive()).ref is fired
    await nothing_arrives()


@pytest.mark.parametrize("reason", [SHUTDOWN, Shutdown("x"), "any", Crash(ValueError(1))], ids=repr)
@in_process()
async def test_clean_reasons_kill_a_linked_peer_like_any_other(reason: Any) -> None:
    async def peer() -> None:
        spawn_link(ends)
        await trio.sleep_forever()

    async def ends() -> None:
        exit(reason)

    assert await reason_of(spawn(peer)) == reason


@in_process()
async def test_a_crash_is_reported_once_for_any_number_of_linked_processes() -> None:
    reports: list[Any] = []
    current_runtime().telemetry.attach(
        ("actors", "process", "crash"), lambda *event: reports.append(event[2]["pid"])
    )

    async def crashes() -> None:
        for _ in range(5):
            spawn_link(idle)
        await trio.sleep(1)
        raise ValueError(1)

    pid, ref = spawn_monitor(crashes)
    assert (await down(ref)).reason == Crash(ValueError(1))
    await settle()
    assert reports == [pid]
    assert current_runtime().statistics()["crashed"] == 1
    assert current_runtime().processes() == [current_pid()]


@in_process()
async def test_a_link_with_oneself_does_nothing() -> None:
    trap_exits()
    link(current_pid())
    info = current_runtime().process_info(current_pid())
    assert info is not None
    assert info["links"] == ()


@in_process()
async def test_unlink_with_flush_removes_only_the_exit_of_that_process() -> None:
    trap_exits()
    first, second = spawn_link(idle), spawn_link(idle)
    kill(first)
    kill(second)
    await settle()
    unlink(first, flush=True)
    assert await receive(timeout=0) == Exit(second, KILLED)
    await nothing_arrives()


@in_process()
async def test_unlinking_an_unlinked_or_dead_process_is_not_an_error() -> None:
    unlink(spawn(idle))
    unlink(await dead_process(), flush=True)


@in_process()
async def test_an_unlink_between_the_kill_and_the_end_of_a_peer_is_in_time() -> None:
    pid = spawn_link(idle)
    kill(pid)
    unlink(pid)
    assert await wait_exit(pid) is KILLED
    assert is_alive(current_pid())


@in_process()
async def test_trapping_after_a_fatal_signal_was_accepted_is_too_late() -> None:
    async def too_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            trap_exits()

    pid, ref = spawn_monitor(too_late)
    await settle()
    send_exit(pid, "signal")
    assert (await down(ref)).reason == "signal"


@in_process()
async def test_trap_exits_returns_the_old_setting() -> None:
    assert trap_exits() is False
    assert trap_exits(False) is True
    assert trap_exits() is False


@in_process()
async def test_a_process_that_stops_trapping_keeps_its_messages_and_dies_of_the_next_signal() -> (
    None
):
    me = current_pid()

    async def traps_for_a_while() -> None:
        trap_exits()
        send(me, await receive())
        trap_exits(False)
        await receive()

    pid, ref = spawn_monitor(traps_for_a_while)
    await settle()
    send_exit(pid, "first")
    assert await receive() == Exit(me, "first")
    send_exit(pid, "second")
    assert (await down(ref)).reason == "second"


@in_process()
async def test_a_monitor_of_oneself_never_fires() -> None:
    me = current_pid()

    async def watches_itself() -> None:
        ref = monitor(current_pid())
        send(me, ref)
        await nothing_arrives(1)

    assert await reason_of(spawn(watches_itself)) is NORMAL


@in_process()
async def test_demonitor_returns_true_for_an_active_monitor() -> None:
    pid, ref = spawn_monitor(idle)
    assert demonitor(ref) is True
    assert demonitor(ref) is False
    kill(pid)
    await nothing_arrives(1)
    ref = monitor(pid)  # the process is dead, so the monitor fires at once
    assert demonitor(ref) is False
    assert (await receive(timeout=0)).ref is ref


@in_process()
async def test_demonitor_with_flush_removes_only_its_own_down() -> None:
    (first, one), (_, other) = spawn_monitor(idle), spawn_monitor(idle)
    for pid in current_runtime().processes()[1:]:
        kill(pid)
    await settle()
    demonitor(other, flush=True)
    assert await receive(timeout=0) == Down(one, first, KILLED)
    await nothing_arrives()


@in_process()
async def test_only_its_owner_removes_a_monitor() -> None:
    pid, ref = spawn_monitor(idle)

    async def meddler() -> None:
        assert demonitor(ref, flush=True) is False

    assert await reason_of(spawn(meddler)) is NORMAL
    kill(pid)
    assert (await down(ref)).reason is KILLED


@in_process()
async def test_a_monitor_of_a_name_watches_its_present_owner() -> None:
    pid = spawn(idle, name="name")
    ref = monitor("name")
    kill(pid)
    assert await receive() == Down(ref, pid, KILLED, "name")


@in_process()
async def test_a_monitor_of_a_process_that_has_not_run_yet_works() -> None:
    async def ends() -> None:
        exit("done")

    pid = spawn(ends)
    ref = monitor(pid)
    assert await receive() == Down(ref, pid, "done")


@in_process()
async def test_the_end_of_a_process_removes_its_monitors() -> None:
    target = spawn(idle)

    async def watches() -> None:
        monitor(target)
        monitor(target)

    await reason_of(spawn(watches))
    assert current_runtime().graph.watchers_of(target) == ()


@in_process()
async def test_send_exit_returns_none_and_accepts_a_dead_receiver() -> None:
    send_exit(await dead_process(), "any")
    pid = spawn(idle)
    send_exit(pid, NORMAL)
    assert is_alive(pid)


@in_process()
async def test_a_process_that_signals_itself_does_not_reach_its_next_line() -> None:
    lines: list[str] = []

    async def suicidal() -> None:
        kill(current_pid())
        lines.append("the next line")

    assert await reason_of(spawn(suicidal)) is KILLED
    assert lines == []


@in_process()
async def test_a_helper_task_can_end_its_process_with_a_signal() -> None:
    async def suicidal() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)
            await trio.sleep_forever()

    async def helper() -> None:
        send_exit(current_pid(), "by the helper")

    assert await reason_of(spawn(suicidal)) == "by the helper"


@in_process()
async def test_trapping_processes_that_are_all_linked_see_every_end() -> None:
    heard: dict[str, list[Any]] = {"a": [], "b": [], "c": []}

    async def member(name: str, *others: Pid) -> None:
        trap_exits()
        for other in others:
            link(other)
        await listen(heard[name])

    a = spawn(member, "a")
    b = spawn(member, "b", a)
    spawn(member, "c", a, b)
    await settle()
    kill(a)
    await settle()
    assert heard == {"a": [], "b": [Exit(a, KILLED)], "c": [Exit(a, KILLED)]}
    kill(b)
    await settle()
    assert heard["c"] == [Exit(a, KILLED), Exit(b, KILLED)]
