"""Questions about processes that observers ask very often."""

from __future__ import annotations

import trio

from actors import GenServer, Pid, Runtime, kill, receive, send, spawn, sys
from actors.introspection import current_function, is_server, scan, status_of
from tests.actors.helpers import settle


async def test_a_new_process_has_no_function_yet(runtime: Runtime) -> None:
    pid = spawn(trio.sleep_forever)
    assert current_function(pid) is None
    await settle()
    found = current_function(pid)
    assert found is not None
    kill(pid)
    await settle()
    assert current_function(pid) is None
    assert status_of(pid) is None


async def test_only_mailboxes_with_messages_are_returned(runtime: Runtime) -> None:
    full, empty = (spawn(trio.sleep_forever) for _ in range(2))
    send(full, 1)
    send(full, 2)
    assert scan([full, empty]) == ({full: 2}, [])
    kill(full)
    await settle()
    assert scan([full, empty]) == ({}, [full])


async def test_the_status_and_the_kind_of_a_process(runtime: Runtime) -> None:
    class Server(GenServer[None]):
        pass

    server: Pid = await Server.start()
    plain = spawn(receive)
    assert [is_server(pid) for pid in (server, plain)] == [True, False]
    await sys.suspend(server)
    assert status_of(server) == "suspended"
    info = runtime.process_info(server)
    assert info is not None
    assert info["status"] == "suspended"
    assert info["age"] >= 0
    await sys.resume(server)
    await settle()
    assert status_of(server) == "waiting"
