"""Cases of OTP's signal_SUITE that no other test covers.

They are about a process that was ready to run when it accepted a fatal signal. It runs a few more lines, until its next
wait.
"""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from actors import (
    KILL,
    KILLED,
    Exit,
    Pid,
    ProcessKilled,
    current_pid,
    current_runtime,
    exit,
    is_alive,
    link,
    receive,
    send,
    send_exit,
    spawn,
    spawn_link,
    spawn_monitor,
    trap_exits,
    unlink,
)
from tests.actors.helpers import down, idle, in_process, nothing_arrives, settle


async def end_of_the_condemned(does: Callable[[Pid], Any]) -> Any:
    """Return the exit reason of a process that acts after it has accepted the signal `signal`."""
    wake = trio.Event()
    did: list[Any] = []
    tester = current_pid()

    async def condemned() -> None:
        link(tester)
        with trio.CancelScope(shield=True):
            await wake.wait()
        did.append(does(tester))
        await trio.lowlevel.checkpoint()
        did.append("went on")

    trap_exits()
    pid, ref = spawn_monitor(condemned)
    await settle()
    wake.set()
    send_exit(pid, "signal")
    reason = (await down(ref)).reason
    assert "went on" not in did
    return reason, did


@pytest.mark.parametrize("verb", ["unlink", "trap_exits", "is_alive", "process_info", "send"])
@in_process()
async def test_a_process_cannot_escape_an_accepted_signal(
    verb: str,
) -> None:
    verbs: dict[str, Callable[[Pid], Any]] = {
        "unlink": unlink,
        "trap_exits": lambda _: trap_exits(),
        "is_alive": is_alive,
        "process_info": lambda tester: current_runtime().process_info(tester) is not None,
        "send": lambda _: send(current_pid(), "message"),
    }
    reason, did = await end_of_the_condemned(verbs[verb])
    assert reason == "signal"
    assert len(did) == 1


@in_process()
async def test_an_exit_after_an_accepted_signal_does_not_change_the_reason() -> None:
    reason, _ = await end_of_the_condemned(lambda _: exit("of its own"))
    assert reason == "signal"


@in_process()
async def test_an_exit_that_was_called_before_a_signal_came_is_the_reason() -> None:
    async def unwinds() -> None:
        try:
            exit("of its own")
        finally:
            spawn(signals, current_pid())

    async def signals(pid: Pid) -> None:
        send_exit(pid, "signal")

    _, ref = spawn_monitor(unwinds)
    assert (await down(ref)).reason == "of its own"


@in_process()
async def test_a_message_is_not_received_after_an_accepted_signal() -> None:
    got: list[Any] = []
    wake = trio.Event()

    async def condemned() -> None:
        with trio.CancelScope(shield=True):
            await wake.wait()
            try:
                got.append(await receive())
            except ProcessKilled:
                got.append("nothing")
                raise

    pid, ref = spawn_monitor(condemned)
    await settle()
    send(pid, "message")
    wake.set()
    send_exit(pid, "signal")
    assert (await down(ref)).reason == "signal"
    assert got == ["nothing"]


@in_process()
async def test_a_process_with_an_accepted_signal_is_alive_until_its_end() -> None:
    wake = trio.Event()

    async def condemned() -> None:
        with trio.CancelScope(shield=True):
            await wake.wait()

    pid, ref = spawn_monitor(condemned)
    await settle()
    send_exit(pid, "signal")
    assert is_alive(pid)
    info = current_runtime().process_info(pid)
    assert info is not None
    assert info["status"] == "exiting"
    wake.set()
    await down(ref)
    assert not is_alive(pid)
    assert current_runtime().process_info(pid) is None


@in_process()
async def test_only_messages_from_before_a_signal_can_arrive() -> None:
    for _ in range(100):
        got: list[str] = []

        async def keeps(got: list[str]) -> None:
            while True:
                got.append(await receive())

        pid, ref = spawn_monitor(keeps, got)
        for _ in range(3):
            send(pid, "may reach")
        send_exit(pid, "signal")
        for _ in range(3):
            send(pid, "must not reach")
        assert (await down(ref)).reason == "signal"
        assert "must not reach" not in got


@in_process()
async def test_a_kill_reaches_direct_and_further_links_as_killed() -> None:
    trap_exits()

    async def middle() -> None:
        inner = spawn_link(idle)
        send_exit(inner, KILL)
        await trio.sleep_forever()

    outer = spawn_link(middle)
    assert await receive() == Exit(outer, KILLED)
    await nothing_arrives(1)
