"""The listener as a process: every accepted socket becomes a connection or is closed, whatever fails meanwhile."""

from __future__ import annotations

import pytest
import trio

from actors import Runtime, kill, sys
from channels import Draining, Endpoint
from tests.channels.rooms import UserSocket
from tests.channels.support import GENEROUS, Footprint, Server, TcpClient, named, settle
from tests.channels.trees import child

REAL_CLOCK = True


@pytest.fixture
async def server(runtime: Runtime) -> Server:
    endpoint = Endpoint(sockets={"/socket": UserSocket}, draining=Draining(timeout=0.05))
    return Server(endpoint, runtime, await endpoint.start_link(port=0))


async def test_clients_that_come_while_connections_cannot_be_started_wait_and_are_served(
    server: Server,
) -> None:
    connections = named((server.endpoint, "connections"))
    await sys.suspend(connections)
    clients = [await TcpClient.open(server.endpoint) for _ in range(5)]
    await settle()
    await sys.resume(connections)
    for client in clients:
        await client.write(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        assert (await client.answer()).status == 404
        await client.close()


async def test_clients_that_come_while_their_supervisor_is_gone_are_closed_and_counted(
    server: Server,
) -> None:
    connections = named((server.endpoint, "connections"))
    await sys.suspend(connections)
    clients = [await TcpClient.open(server.endpoint) for _ in range(5)]
    await settle()
    kill(connections)
    closed = 0
    for client in clients:
        await client.write(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        with trio.fail_after(GENEROUS):
            try:
                closed += await client.stream.receive_some() == b""
            except trio.BrokenResourceError:
                closed += 1
        await client.close()
    # The one whose start was under way is closed; the others may be in time for the next supervisor.
    counts = server.endpoint.statistics()["counts"]
    assert closed == counts["connection", "not_started"] >= 1


async def test_a_listener_that_is_killed_closes_what_it_had_accepted_and_not_handed_over(
    server: Server,
) -> None:
    before = Footprint.of(server.runtime)
    connections = named((server.endpoint, "connections"))
    await sys.suspend(connections)
    clients = [await TcpClient.open(server.endpoint) for _ in range(5)]
    await settle()
    kill(await child(server.pid, "listener"))
    await settle()
    await sys.resume(connections)
    # The first had been handed over, so it is served.
    first, *others = clients
    for client in others:
        assert await client.ended() == []
    await first.write(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
    assert (await first.answer()).status == 404
    for client in clients:
        await client.close()
    await settle()
    after = Footprint.of(server.runtime)
    assert (len(after.processes), after.tasks, after.descriptors) == (
        len(before.processes),
        before.tasks,
        before.descriptors,
    )
