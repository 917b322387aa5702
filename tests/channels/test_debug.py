"""The lists of connected clients and of the topics that each has joined."""

from __future__ import annotations

import pytest
import trio

from actors import InvalidArgument, Pid, current_runtime, spawn
from channels import Endpoint
from channels.debug import get_channel, is_channel, is_socket, list_channels, list_sockets
from tests.channels.conftest import Serve
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import Client, settle


def process_of(client: Client) -> Pid:
    assert client.process is not None
    return client.process


async def test_sockets_and_their_channels_are_listed_in_order(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    one, two = await server.connect(), await server.connect()
    await one.join("room:a")
    one.send(("2", "2", "room:b", "phx_join", {"sleep": 5}))
    await two.join("room:c")
    sockets = await list_sockets(server.endpoint)
    assert [each.pid for each in sockets] == [process_of(one), process_of(two)]
    assert all(type(each.socket) is UserSocket for each in sockets)
    assert sockets[0].id == sockets[0].socket.id()
    joined, joining = await list_channels(sockets[0].pid)
    assert (joined.topic, joined.status, joined.channel) == ("room:a", "joined", Room)
    assert (joining.topic, joining.status) == ("room:b", "joining")
    assert joined.pid == server.channel("room:a")
    assert [each.topic for each in await list_channels(sockets[1].pid)] == ["room:c"]


async def test_list_sockets_skips_pages_and_endpoints_that_do_not_run(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    silent = await server.accept()
    assert is_socket(process_of(silent))
    assert await list_sockets(server.endpoint) == []
    with pytest.raises(InvalidArgument) as refused:
        await list_channels(process_of(silent))
    assert refused.value.value == process_of(silent)
    await server.stop()
    assert await list_sockets(server.endpoint) == []


async def test_list_sockets_waits_for_all_silent_processes_at_once(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    for _ in range(3):
        await server.accept()
    client = await server.connect()
    started = trio.current_time()
    assert [each.pid for each in await list_sockets(server.endpoint)] == [process_of(client)]
    assert trio.current_time() - started == pytest.approx(5.0)


async def test_is_socket_and_is_channel_tell_processes_apart(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    client = await server.connect()
    await client.join("room:a")
    channel, other = server.channel("room:a"), spawn(trio.sleep_forever)
    assert [is_socket(pid) for pid in (process_of(client), channel, other)] == [True, False, False]
    assert [is_channel(pid) for pid in (process_of(client), channel, other)] == [False, True, False]
    for pid in (channel, other, server.pid, current_runtime().pid):
        with pytest.raises(InvalidArgument) as caught:
            await list_channels(pid)
        assert caught.value.value is pid


async def test_a_channel_is_found_by_its_process_until_that_has_ended(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    client = await server.connect()
    await client.join("room:a")
    pid = server.channel("room:a")
    channel = await get_channel(pid)
    assert (type(channel), channel.topic) == (Room, "room:a")
    with pytest.raises(InvalidArgument) as refused:
        await get_channel(process_of(client))
    assert refused.value.value == process_of(client)
    client.send(("1", "2", "room:a", "phx_leave"))
    await settle()
    with pytest.raises(InvalidArgument):
        await get_channel(pid)
