"""Servers without a link to their starter: each is its own parent, as after `gen_server:start` of OTP."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import (
    NORMAL,
    SHUTDOWN,
    Agent,
    Exit,
    GenServer,
    NextState,
    Pid,
    StateEvent,
    StateMachine,
    StateResult,
    call,
    cast,
    current_pid,
    is_alive,
    monitor,
    open_runtime,
    send,
    send_exit,
    sys,
    trap_exits,
    wait_exit,
)
from actors.servers.results import Reply
from tests.actors.helpers import down, in_process, settle

Told = list[Any]


class Server(GenServer[None]):
    async def init(self, told: Told, trap: bool) -> None:
        self.told = told
        trap_exits(trap)

    async def handle_cast(self, message: Callable[[], object]) -> None:
        message()

    async def handle_call(self, request: Callable[[], object], sender: object) -> Reply:
        return Reply(request())

    async def handle_info(self, message: Any) -> None:
        self.told.append(message)

    async def terminate(self, reason: Any) -> None:
        self.told.append(("terminate", reason))


class Machine(StateMachine):
    async def begin(self, told: Told, trap: bool) -> NextState:
        self.told = told
        trap_exits(trap)
        return NextState(self.only)

    async def only(self, event: StateEvent) -> StateResult:
        return None

    async def terminate(self, reason: Any) -> None:
        self.told.append(("terminate", reason))


class Keeper(Agent):
    told: Told

    async def terminate(self, reason: Any) -> None:
        self.state.append(("terminate", reason))


async def start_keeper(told: Told, trap: bool) -> Pid:
    def begin() -> Told:
        trap_exits(trap)
        return told

    return await Keeper.start(begin)


STARTS = [Server.start, Machine.start, start_keeper]


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, "boom"], ids=str)
@pytest.mark.parametrize("trap", [True, False])
@pytest.mark.parametrize("start", STARTS, ids=["server", "machine", "agent"])
@in_process()
async def test_an_exit_message_from_itself_runs_terminate(
    start: Any, trap: bool, reason: Any
) -> None:
    told: Told = []
    pid = await start(told, trap)
    ref = monitor(pid)
    send(pid, Exit(pid, reason))
    assert (await down(ref)).reason == reason
    assert told == [("terminate", reason)]


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, "boom"], ids=str)
@in_process()
async def test_a_signal_from_itself_runs_terminate_if_it_traps_exits(reason: Any) -> None:
    told: Told = []
    pid = await Server.start(told, True)
    ref = monitor(pid)
    cast(pid, lambda: send_exit(current_pid(), reason))
    assert (await down(ref)).reason == reason
    assert told == [("terminate", reason)]


@in_process()
async def test_an_agent_that_signals_itself_runs_terminate() -> None:
    told: Told = []
    pid = await start_keeper(told, True)
    ref = monitor(pid)
    await Agent.get(pid, lambda value: send_exit(current_pid(), "boom"))
    assert (await down(ref)).reason == "boom"
    assert told == [("terminate", "boom")]


@in_process()
async def test_a_suspended_server_is_stopped_by_its_own_exit() -> None:
    told: Told = []
    pid = await Server.start(told, True)
    await sys.suspend(pid)
    ref = monitor(pid)
    send(pid, Exit(pid, "boom"))
    assert (await down(ref)).reason == "boom"
    assert told == [("terminate", "boom")]


@in_process()
async def test_a_linked_server_handles_an_exit_from_itself_as_a_message() -> None:
    told: Told = []
    pid = await Server.start_link(told, True)
    cast(pid, lambda: send_exit(current_pid(), "boom"))
    send(pid, Exit(pid, "by hand"))
    assert await call(pid, lambda: 1) == 1
    assert told == [Exit(pid, "by hand"), Exit(pid, "boom")]


@in_process()
async def test_the_starter_of_a_server_without_a_link_is_not_its_parent() -> None:
    told: Told = []
    pid = await Server.start(told, True)
    send_exit(pid, "boom")
    assert await call(pid, lambda: 1) == 1
    assert told == [Exit(current_pid(), "boom")]


@pytest.mark.parametrize("start", [Server.start, Server.start_link])
async def test_a_server_that_no_process_started_has_itself_and_the_runtime_as_parents(
    start: Any, autojump_clock: MockClock
) -> None:
    told: Told = []
    async with open_runtime():
        pid = await start(told, True)
        send(pid, Exit(pid, "boom"))
        with trio.fail_after(10):
            await wait_exit(pid)
        other = await start(told, True)
        await settle()
        assert is_alive(other)
    assert told == [("terminate", "boom"), ("terminate", SHUTDOWN)]


@in_process()
async def test_the_status_names_the_parent() -> None:
    linked, alone = await Server.start_link([], False), await Server.start([], False)
    assert (await sys.get_status(linked)).parent is current_pid()
    assert (await sys.get_status(alone)).parent is alone
