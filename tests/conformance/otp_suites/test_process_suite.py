"""Cases of OTP's process_SUITE that no other test covers."""

from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    NORMAL,
    Crash,
    DeadProcess,
    Exit,
    NameTaken,
    Pid,
    ProcessExit,
    ProcessKilled,
    current_pid,
    current_runtime,
    exit,
    is_alive,
    is_normal_exit,
    kill,
    monitor,
    receive,
    register,
    send_exit,
    spawn,
    spawn_link,
    trap_exits,
    whereis,
)
from tests.actors.helpers import dead_process, down, idle, in_process, nothing_arrives, settle

# A reason that shows whether Ashtree copies, cuts or compares reasons.
LARGE = {"payload": [bytes(8192)] * 16}


async def the_exit(pid: Pid) -> Any:
    message = await receive()
    assert isinstance(message, Exit)
    assert message.pid is pid
    return message.reason


@in_process()
async def test_a_large_exit_reason_reaches_the_links_unchanged() -> None:
    trap_exits()

    async def ends() -> None:
        exit(LARGE)

    assert await the_exit(spawn_link(ends)) is LARGE


@in_process()
async def test_a_large_reason_of_a_signal_reaches_the_links_unchanged() -> None:
    trap_exits()
    pid = spawn_link(idle)
    send_exit(pid, LARGE)
    assert await the_exit(pid) is LARGE


@in_process()
async def test_a_normal_signal_leaves_a_linked_process_alive() -> None:
    trap_exits()
    pid = spawn_link(idle)
    send_exit(pid, NORMAL)
    await nothing_arrives(1)
    assert is_alive(pid)
    kill(pid)
    assert await the_exit(pid) is KILLED


@pytest.mark.parametrize("reason", [LARGE, NORMAL], ids=["large", "normal"])
@in_process()
async def test_a_trapping_process_gets_its_own_signal_as_a_message(reason: Any) -> None:
    trap_exits()
    for _ in range(200):
        send_exit(current_pid(), reason)
        assert await the_exit(current_pid()) is reason


@pytest.mark.parametrize("reason", [LARGE, NORMAL, "die"], ids=["large", "normal", "die"])
@in_process()
async def test_a_signal_to_oneself_ends_a_process_that_does_not_trap(reason: Any) -> None:
    trap_exits()
    lines: list[str] = []

    async def ends() -> None:
        lines.append("before")
        send_exit(current_pid(), reason)
        lines.append("after")

    assert await the_exit(spawn_link(ends)) is reason
    assert lines == ["before"]


@pytest.mark.parametrize("catch", [Exception, ProcessExit, ProcessKilled, BaseException])
@in_process()
async def test_a_signal_to_oneself_cannot_be_caught(catch: type[BaseException]) -> None:
    trap_exits()

    async def clings_to_life() -> None:
        try:
            send_exit(current_pid(), "die")
        except catch:
            pass

    assert await the_exit(spawn_link(clings_to_life)) == "die"


def absolute(value: Any) -> Any:
    return abs(value)


@in_process()
async def test_an_error_of_a_bad_argument_reaches_the_links_with_its_traceback() -> None:
    trap_exits()

    async def fails() -> None:
        absolute(LARGE)

    reason = await the_exit(spawn_link(fails))
    assert isinstance(reason, Crash)
    assert isinstance(reason.exception, TypeError)
    assert reason.exception.__traceback__ is not None
    assert not is_normal_exit(reason)


@in_process()
async def test_a_process_that_is_spawned_with_wrong_arguments_crashes_like_any_other() -> None:
    trap_exits()
    reason = await the_exit(spawn_link(trio.sleep, "not seconds"))
    assert isinstance(reason, Crash)
    assert isinstance(reason.exception, TypeError)


@in_process()
async def test_a_signal_in_the_same_turn_as_the_end_of_a_wait_wins() -> None:
    trap_exits()

    async def waits() -> None:
        with pytest.raises(trio.TooSlowError):
            await receive(timeout=2)
        await receive(timeout=1)

    async def ends(pid: Pid) -> None:
        await trio.sleep(2)
        send_exit(pid, ("you", "are", "dead"))

    # In either order of the two tasks.
    for first in (True, False):
        if first:
            pid = spawn_link(waits)
            spawn(ends, pid)
        else:
            pid = spawn_link(waits)
            await settle()
            spawn(ends, pid)
        assert await the_exit(pid) == ("you", "are", "dead")


@in_process()
async def test_the_second_of_two_signals_is_ignored() -> None:
    trap_exits()
    pid = spawn_link(idle)
    send_exit(pid, "first")
    send_exit(pid, "second")
    assert await the_exit(pid) == "first"
    await nothing_arrives(1)


@in_process()
async def test_an_invalid_registration_is_refused_and_changes_nothing() -> None:
    pid = spawn(idle)
    register("taken", pid)
    dead = await dead_process()
    refusals: list[tuple[Any, Pid, type[Exception]]] = [
        ("taken", current_pid(), NameTaken),
        ("second", pid, NameTaken),
        (None, current_pid(), TypeError),
        ([], current_pid(), TypeError),
        ("free", dead, DeadProcess),
    ]
    for name, holder, error in refusals:
        with pytest.raises(error):
            register(name, holder)
    assert whereis("taken") is pid
    assert whereis("free") is None
    assert whereis("second") is None


@in_process()
async def test_process_info_works_at_any_time() -> None:
    runtime = current_runtime()
    me = current_pid()
    before = runtime.process_info(me)
    assert before is not None
    assert before["name"] is None
    register("me")
    trap_exits()
    after = runtime.process_info(me)
    assert after is not None
    assert (after["name"], after["trap_exits"], after["status"]) == ("me", True, "running")
    pid = spawn(idle)
    ref = monitor(pid)
    known = runtime.process_info(pid)  # before its first step
    assert known is not None
    assert known["parent"] is me
    kill(pid)
    await down(ref)
    assert runtime.process_info(pid) is None
