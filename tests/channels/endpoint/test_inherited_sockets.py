"""An endpoint on sockets that its process inherited: it hands them over to the process that follows."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio

from actors import Runtime, kill
from channels import Endpoint, EndpointError
from channels.endpoint.endpoint import services_of
from channels.transports.listener import inherited, listening_sockets
from tests.channels.rooms import UserSocket
from tests.channels.support import Server, TcpClient, settle
from tests.channels.trees import child
from tests.patience import until

# Over real sockets, which a virtual clock would run away from.
REAL_CLOCK = True

REQUEST = b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"


@pytest.fixture
async def sockets() -> AsyncIterator[list[socket.socket]]:
    sockets = await listening_sockets("127.0.0.1", 0)
    yield sockets
    for sock in sockets:
        sock.close()


async def start(runtime: Runtime, sockets: list[socket.socket]) -> Server:
    endpoint = Endpoint(sockets={"/socket": UserSocket})
    pid = await endpoint.start_link(listen=inherited(sockets))
    return Server(endpoint, runtime, pid)


async def test_an_endpoint_serves_on_inherited_sockets(
    runtime: Runtime, sockets: list[socket.socket]
) -> None:
    server = await start(runtime, sockets)
    assert server.endpoint.address == sockets[0].getsockname()
    client = await TcpClient.open(server.endpoint)
    await client.write(REQUEST)
    assert (await client.answer()).status == 404
    await client.close()


async def test_a_restarted_listener_goes_on_with_the_same_sockets(
    runtime: Runtime, sockets: list[socket.socket]
) -> None:
    server = await start(runtime, sockets)
    before = services_of(server.endpoint).admission.listener
    kill(await child(server.pid, "listener"))
    await until(lambda: services_of(server.endpoint).admission.listener is not before)
    client = await TcpClient.open(server.endpoint)
    await client.write(REQUEST)
    assert (await client.answer()).status == 404
    await client.close()


async def test_an_endpoint_that_stops_accepting_keeps_its_clients_and_leaves_new_ones_to_another(
    runtime: Runtime, sockets: list[socket.socket]
) -> None:
    old = await start(runtime, sockets)
    client = await TcpClient.connect(old.endpoint)
    await client.join()
    await old.endpoint.stop_accepting()
    await old.endpoint.stop_accepting()
    late = await TcpClient.open(old.endpoint)
    await late.write(REQUEST)
    await settle()
    assert len(old.connections()) == 1, "nobody serves the new client yet"
    new = await start(runtime, sockets)
    assert (await late.answer()).status == 404
    assert await client.exchange(None, "2", "phoenix", "heartbeat", {})
    await client.close()
    await late.close()
    await new.stop()


async def test_an_endpoint_that_stops_accepting_waits_for_the_requests_of_those_it_has_accepted(
    runtime: Runtime, sockets: list[socket.socket]
) -> None:
    server = await start(runtime, sockets)
    clients = [await TcpClient.open(server.endpoint) for _ in range(3)]
    await until(lambda: len(server.connections()) == 3)
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await server.endpoint.stop_accepting(grace=3600.0)
            assert services_of(server.endpoint).admission.is_quiet

        nursery.start_soon(stop)
        for client in clients:
            await client.write(REQUEST)
    for client in clients:
        assert (await client.answer()).status == 404
        await client.close()


async def test_an_endpoint_that_stops_accepting_does_not_wait_long_for_a_client_that_says_nothing(
    runtime: Runtime, sockets: list[socket.socket]
) -> None:
    server = await start(runtime, sockets)
    client = await TcpClient.open(server.endpoint)
    await until(lambda: len(server.connections()) == 1)
    await server.endpoint.stop_accepting(grace=0.05)
    assert not services_of(server.endpoint).admission.is_quiet
    await client.close()


async def test_only_a_running_endpoint_can_stop_accepting() -> None:
    with pytest.raises(
        EndpointError, match="cannot stop accepting connections, because it is not running"
    ):
        await Endpoint(sockets={}).stop_accepting()


@pytest.mark.parametrize(("own", "used"), [(None, b"g" * 64), (b"o" * 64, b"o" * 64)])
async def test_a_given_secret_is_for_an_endpoint_without_one(
    runtime: Runtime, sockets: list[socket.socket], own: bytes | None, used: bytes
) -> None:
    endpoint = Endpoint(sockets={}, secret_key_base=own)
    await endpoint.start_link(listen=inherited(sockets), secret_key_base=b"g" * 64)
    assert services_of(endpoint).secret_key_base == used
