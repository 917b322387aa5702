"""Functions that run inside an idle server."""

from typing import Any

import pytest
import trio

from actors import (
    GenServer,
    Instrument,
    Runtime,
    current_pid,
    is_alive,
    send,
    spawn_link,
    stop,
    sys,
    wait_exit,
)
from actors.servers.gen_server import run_idle
from tests.actors.helpers import idle, settle


class Quiet(GenServer[None]):
    """A server that sleeps at each message."""

    async def handle_info(self, message: Any) -> None:
        await trio.sleep(1)


async def test_the_function_runs_at_once_in_the_process_of_the_server(runtime: Runtime) -> None:
    server = await Quiet.start()
    await settle()
    assert run_idle(server, current_pid) is server
    child = run_idle(server, spawn_link, idle)
    await stop(server, "done")
    await wait_exit(child)
    assert not is_alive(child), "the server was linked to it"


async def test_a_server_with_other_work_runs_nothing(runtime: Runtime) -> None:
    server = await Quiet.start()
    await settle()
    send(server, "unread")
    with pytest.raises(trio.WouldBlock):
        run_idle(server, current_pid)
    await settle()
    with pytest.raises(trio.WouldBlock):
        run_idle(server, current_pid)
    await trio.sleep(1)
    await settle()
    assert run_idle(server, current_pid) is server
    await sys.suspend(server)
    with pytest.raises(trio.WouldBlock):
        run_idle(server, current_pid)
    await sys.resume(server)
    await stop(server)
    with pytest.raises(trio.WouldBlock):
        run_idle(server, current_pid)


async def test_a_function_of_a_server_cannot_run_another_one_inside_it(runtime: Runtime) -> None:
    server = await Quiet.start()
    await settle()
    with pytest.raises(trio.WouldBlock):
        run_idle(server, run_idle, server, current_pid)
    assert run_idle(server, current_pid) is server


async def test_a_server_runs_nothing_that_an_instrument_would_miss(runtime: Runtime) -> None:
    server = await Quiet.start()
    await settle()
    remove = runtime.add_instrument(Instrument())
    with pytest.raises(trio.WouldBlock):
        run_idle(server, current_pid)
    remove()
    assert run_idle(server, current_pid) is server
