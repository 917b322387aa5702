"""Ends of other processes that an idle server handles without a message."""

from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    Crash,
    Down,
    Exit,
    ExitReason,
    GenServer,
    Instrument,
    Pid,
    Runtime,
    kill,
    monitor,
    receive,
    send,
    spawn,
    spawn_link,
    sys,
    trap_exits,
)
from actors.servers.gen_server import handle_ends_nowait, stop
from tests.actors.helpers import idle, settle

LINKED, MONITORED = 0, 1


class Watching(GenServer[list[Any]]):
    """A server that is linked to one process and monitors another.

    Its state lists the ends of these processes: a pid for a call of `ended`, and the class of each message.
    """

    async def init(self, watched: list[Pid], answer: object) -> None:
        self.state = []
        self.answer = answer
        trap_exits()
        handle_ends_nowait(self.ended)
        watched += [spawn_link(idle), spawn(idle)]
        monitor(watched[MONITORED])

    def ended(self, pid: Pid, reason: ExitReason) -> bool:
        if self.answer == "raise":
            raise ValueError("no such end")
        self.state.append(pid)
        return bool(self.answer)

    async def handle_info(self, message: Any) -> None:
        if message == "sleep":
            await trio.sleep(1)
        elif isinstance(message, Pid):
            monitor(message)
        else:
            self.state.append(type(message))


async def collect_down(pid: Pid, ends: list[Any]) -> None:
    monitor(pid)
    down = await receive()
    ends.append((down.pid, down.reason))


async def started(*, answer: object = True) -> tuple[Pid, list[Pid]]:
    watched: list[Pid] = []
    server = await Watching.start(watched, answer)
    await settle()
    return server, watched


async def test_a_traced_server_gets_a_message(runtime: Runtime) -> None:
    server, watched = await started()
    await sys.statistics(server, True)
    kill(watched[LINKED])
    await settle()
    assert await sys.get_state(server) == [Exit]
    await sys.statistics(server, False)
    kill(watched[MONITORED])
    await settle()
    assert await sys.get_state(server) == [Exit, watched[MONITORED]]


@pytest.mark.parametrize("which", [LINKED, MONITORED])
async def test_an_idle_server_gets_no_message(runtime: Runtime, which: int) -> None:
    server, watched = await started()
    kill(watched[which])
    await settle()
    assert await sys.get_state(server) == [watched[which]]


@pytest.mark.parametrize(("which", "kind"), [(LINKED, Exit), (MONITORED, Down)])
async def test_a_server_whose_function_declines_gets_the_message(
    runtime: Runtime, which: int, kind: type
) -> None:
    server, watched = await started(answer=False)
    kill(watched[which])
    await settle()
    assert await sys.get_state(server) == [watched[which], kind]


@pytest.mark.parametrize(("which", "kind"), [(LINKED, Exit), (MONITORED, Down)])
async def test_a_busy_server_gets_the_message_after_its_work(
    runtime: Runtime, which: int, kind: type
) -> None:
    server, watched = await started()
    send(server, "sleep")
    await settle()
    kill(watched[which])
    await settle()
    await trio.sleep(1)
    await settle()
    assert await sys.get_state(server) == [kind]


@pytest.mark.parametrize(("which", "kind"), [(LINKED, Exit), (MONITORED, Down)])
async def test_a_server_gets_the_message_if_an_instrument_watches(
    runtime: Runtime, which: int, kind: type
) -> None:
    server, watched = await started()
    runtime.add_instrument(Instrument())
    kill(watched[which])
    await settle()
    assert await sys.get_state(server) == [kind]


@pytest.mark.parametrize("which", [LINKED, MONITORED])
async def test_a_function_that_raises_crashes_only_its_server(runtime: Runtime, which: int) -> None:
    crashes: list[Any] = []
    runtime.telemetry.attach(
        ("actors", "process", "crash"), lambda event, counts, about: crashes.append(about["pid"])
    )
    server, watched = await started(answer="raise")
    ends: list[Any] = []
    spawn(collect_down, watched[which], ends)
    spawn(collect_down, server, ends)
    await settle()
    kill(watched[which])
    await settle()
    assert ends == [(watched[which], KILLED), (server, Crash(ends[1][1].exception))]
    assert str(ends[1][1].exception) == "no such end"
    assert crashes == [server]


@pytest.mark.parametrize(("which", "kind"), [(LINKED, Exit), (MONITORED, Down)])
async def test_a_suspended_server_gets_the_message_after_it_resumes(
    runtime: Runtime, which: int, kind: type
) -> None:
    server, watched = await started()
    await sys.suspend(server)
    kill(watched[which])
    await settle()
    assert await sys.get_state(server) == []
    await sys.resume(server)
    await settle()
    assert await sys.get_state(server) == [kind]


async def test_an_end_overtakes_no_earlier_message(runtime: Runtime) -> None:
    server, _ = await started()

    async def says_goodbye() -> None:
        await receive()
        send(server, "goodbye")

    speaker = spawn(says_goodbye)
    send(server, speaker)
    await settle()
    send(speaker, "go")
    await settle()
    assert await sys.get_state(server) == [str, Down]


async def test_the_function_is_not_called_after_the_end_of_its_server(runtime: Runtime) -> None:
    server, watched = await started(answer="raise")
    await stop(server)
    for pid in watched:
        kill(pid)
    await settle()
    assert not {server, *watched} & set(runtime.processes())
    assert runtime.statistics()["crashed"] == 0
