"""Cases of OTP's proc_lib_SUITE that no other test covers."""

import traceback
from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    Crash,
    Exit,
    Fail,
    GenServer,
    ServerExit,
    StartError,
    Stop,
    call,
    current_pid,
    exit,
    kill,
    receive,
    spawn_monitor,
    trap_exits,
)
from tests.actors.helpers import down, in_process, nothing_arrives


class Slow(GenServer[str]):
    """A server that takes a second to start, and then returns its argument."""

    async def init(self, then: Any = None) -> Any:
        await trio.sleep(1)
        if then == "raise":
            raise ValueError("of init")
        if then == "die":
            kill(current_pid())
        if then == "exit":
            exit("of init")
        return then


@pytest.mark.parametrize("linked", [True, False])
@in_process()
async def test_a_start_waits_for_init_with_or_without_a_link(linked: bool) -> None:
    began = trio.current_time()
    await (Slow.start_link if linked else Slow.start)()
    assert trio.current_time() - began == pytest.approx(1)


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (Fail("no"), "no"),
        (Stop("no"), "no"),
        ("raise", Crash(ValueError("of init"))),
        ("exit", "of init"),
        ("die", KILLED),
    ],
    ids=repr,
)
@in_process()
async def test_a_failed_start_without_a_link_does_not_harm_the_starter(
    then: Any, reason: Any
) -> None:
    began = trio.current_time()
    with pytest.raises(StartError) as caught:
        await Slow.start(then)
    # The start does not wait for an ended child.
    assert trio.current_time() - began == pytest.approx(1)
    assert caught.value.reason == reason
    await nothing_arrives(1)


@pytest.mark.parametrize("then", [Stop("no"), "raise", "exit", "die"], ids=repr)
@in_process()
async def test_a_start_with_a_link_fails_for_a_starter_that_traps_and_leaves_no_message(
    then: Any,
) -> None:
    trap_exits()
    with pytest.raises(StartError):
        await Slow.start_link(then)
    await nothing_arrives(1)


@in_process()
async def test_the_reason_of_a_crash_has_its_traceback() -> None:
    async def outer() -> None:
        await where_it_happens()

    async def where_it_happens() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("here")

    _, ref = spawn_monitor(outer)
    reason = (await down(ref)).reason
    assert isinstance(reason, Crash)
    names = [frame.name for frame in traceback.extract_tb(reason.exception.__traceback__)]
    assert names[-2:] == ["outer", "where_it_happens"]


@in_process()
async def test_the_later_end_of_a_started_server_is_an_exit_and_not_a_failed_start() -> None:
    trap_exits()
    pid = await Slow.start_link()
    with pytest.raises(ServerExit):
        await call(pid, "?")
    message = await receive()
    assert isinstance(message, Exit)
    assert message.pid is pid
    await nothing_arrives(1)
