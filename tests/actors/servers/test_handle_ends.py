"""Ends of other processes that an idle server handles without a message."""

from typing import Any

import pytest
import trio

from actors import (
    Down,
    Exit,
    ExitReason,
    GenServer,
    Instrument,
    Pid,
    Runtime,
    kill,
    monitor,
    send,
    spawn,
    spawn_link,
    sys,
    trap_exits,
)
from actors.servers.gen_server import handle_ends_nowait
from tests.actors.helpers import idle, settle

LINKED, MONITORED = 0, 1


class Watching(GenServer[list[Any]]):
    """A server that is linked to one process and monitors another.

    Its state lists the ends of these processes: a pid for a call of `ended`, and the class of each message.
    """

    async def init(self, watched: list[Pid], answer: bool) -> None:
        self.state = []
        self.answer = answer
        trap_exits()
        handle_ends_nowait(self.ended)
        watched += [spawn_link(idle), spawn(idle)]
        monitor(watched[MONITORED])

    def ended(self, pid: Pid, reason: ExitReason) -> bool:
        self.state.append(pid)
        return self.answer

    async def handle_info(self, message: Any) -> None:
        if message == "sleep":
            await trio.sleep(1)
        else:
            self.state.append(type(message))


async def started(*, answer: bool = True) -> tuple[Pid, list[Pid]]:
    watched: list[Pid] = []
    server = await Watching.start(watched, answer)
    await settle()
    return server, watched


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
