"""Functions that run inside an idle server."""

from typing import Any

import pytest
import trio

from actors import (
    Crash,
    GenServer,
    Instrument,
    Pid,
    Runtime,
    current_pid,
    is_alive,
    open_runtime,
    send,
    spawn_link,
    stop,
    sys,
    wait_exit,
)
from actors._kernel.mailbox import CALLS
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


def handle_now(server: Pid, function: Any, message: Any) -> bool:
    process = server.process
    return process is not None and process.handle_now(function, message)


async def test_an_idle_server_handles_a_message_at_once_as_itself(runtime: Runtime) -> None:
    server = await Quiet.start()
    await settle()
    handled: list[Any] = []

    def handle(message: str) -> bool:
        handled.append((current_pid(), message))
        return message == "yes"

    assert handle_now(server, handle, "yes")
    assert not handle_now(server, handle, "no")
    assert handled == [(server, "yes"), (server, "no")]


async def test_a_server_with_other_work_handles_no_message_at_once(runtime: Runtime) -> None:
    server = await Quiet.start()
    await settle()

    def fail(_: object) -> bool:
        raise AssertionError("the server is not idle")

    remove = runtime.add_instrument(Instrument())
    assert not handle_now(server, fail, None)
    remove()
    await sys.suspend(server)
    assert not handle_now(server, fail, None)
    await sys.resume(server)
    send(server, "unread")
    assert not handle_now(server, fail, None)
    await settle()
    assert not handle_now(server, fail, None), "it sleeps in a callback"
    await stop(server)
    assert not handle_now(server, fail, None)


async def test_an_error_while_a_server_handles_a_message_crashes_only_the_server(
    runtime: Runtime,
) -> None:
    server = await Quiet.start()
    await settle()
    error = ValueError("a bug of the server")

    def fail(_: object) -> bool:
        raise error

    assert handle_now(server, fail, None)
    assert (await wait_exit(server)) == Crash(error)


async def test_a_server_handles_no_message_at_once_while_run_times_count() -> None:
    async with open_runtime(counts_run_time=True):
        server = await Quiet.start()
        await settle()
        assert not handle_now(server, current_pid, None)


async def test_an_interrupt_is_no_error_of_the_server(runtime: Runtime) -> None:
    server = await Quiet.start()
    await settle()

    def leave(_: object) -> bool:
        raise SystemExit

    with pytest.raises(SystemExit):
        handle_now(server, leave, None)
    assert is_alive(server)


async def test_a_turn_allows_a_bounded_number_of_calls(runtime: Runtime) -> None:
    server = await Quiet.start()
    await settle()
    assert sum(handle_now(server, bool, 1) for _ in range(2 * CALLS)) <= CALLS
    await settle()
    assert handle_now(server, bool, 1), "a later turn allows more"
