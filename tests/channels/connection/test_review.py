"""Defects of short reads that a review found. Each test passes at d2482bf4, and fails now."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import open_runtime
from actors import sys as actors_sys
from channels import Endpoint, Mount
from channels.connection.channel_server import ChannelServer
from channels.connection.session_server import JOIN_COST
from channels.messages import Message
from channels.serializers.serializer import Requirement
from channels.serializers.v2 import V2
from channels.telemetry import SESSION_STARTED
from tests.channels.conftest import Serve
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import Server, reply, settle
from tests.channels.transports.frames import PING, client_frame

POOL = ("channels", "UserSocket", 0)


class Fatal(V2):
    """A serializer that raises an error for one event."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def decode(self, data: bytes, *, binary: bool) -> Message:
        message = super().decode(data, binary=binary)
        if message.event == "fatal":
            raise self.error
        return message


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_in_a_serializer_ends_the_runtime(kind: type[BaseException]) -> None:
    mount = Mount(UserSocket, serializers=[(Fatal(kind), Requirement("~> 2.0.0"))])
    endpoint = Endpoint(sockets={"/socket": mount})
    with pytest.raises(kind):
        async with open_runtime(log=False) as runtime:
            server = Server(endpoint, runtime, await endpoint.start_link(port=0))
            client = await server.connect()
            client.send((None, "1", "phoenix", "fatal"))
            await settle()


@pytest.mark.parametrize("what", ["own server", "instrument", "busy pool"])
async def test_a_join_that_must_wait_costs_as_much_as_any_other(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "own server":
        monkeypatch.setattr(Room, "_server", staticmethod(ChannelServer.start_link))
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, partitions=1)}))
    client = await server.connect()
    if what == "instrument":
        from actors import Instrument

        server.runtime.add_instrument(Instrument())
    if what == "busy pool":
        await actors_sys.suspend((server.endpoint, *POOL))
    budget: Any = server.services.budget
    before = budget._left
    client.send(("1", "1", "room:a", "phx_join"))
    await settle()
    if what == "busy pool":
        await actors_sys.resume((server.endpoint, *POOL))
        await settle()
    assert client.frames() == [reply("1", "1", "room:a")]
    assert before - budget._left == JOIN_COST


class _Pongs(trio.abc.Instrument):
    """Counts the frames that a connection writes in each step of its task."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.most = self.before = 0
        self.task = server.pid.process.task

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.before = self.server.out.statistics().waiting_messages

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            written = self.server.out.statistics().waiting_messages - self.before
            self.most = max(self.most, written)


async def test_a_connection_handles_the_free_frames_of_one_read_in_a_step(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket)}))
    started = server.listen(SESSION_STARTED)
    await server.connect()
    connection = started[0][1]["server"]
    pongs = _Pongs(connection)
    trio.lowlevel.add_instrument(pongs)
    for _ in range(3):
        connection._tell(client_frame(PING, b"") * 8)
    await settle()
    trio.lowlevel.remove_instrument(pongs)
    assert pongs.most == 8


class Flaky(V2):
    """A serializer that fails once for each message with the event `flaky`."""

    failed = False

    def decode(self, data: bytes, *, binary: bool) -> Message:
        message = super().decode(data, binary=binary)
        if message.event == "flaky" and not self.failed:
            self.failed = True
            raise ValueError("a bug of the application")
        return message


async def test_an_error_of_a_serializer_that_happens_once_is_reported(serve: Serve) -> None:
    mount = Mount(UserSocket, serializers=[(Flaky(), Requirement("~> 2.0.0"))])
    server = await serve(Endpoint(sockets={"/socket": mount}))
    client = await server.connect()
    crashes = server.crashes()
    client.send((None, "1", "phoenix", "flaky"))
    await settle()
    assert [str(each) for each in crashes] == ["a bug of the application"]


class _Turns(V2, trio.abc.Instrument):
    """A serializer that counts the messages of all clients in each turn of the scheduler."""

    count = most = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count = 0

    def decode(self, data: bytes, *, binary: bool) -> Message:
        self.count += 1
        self.most = max(self.most, self.count)
        return super().decode(data, binary=binary)


async def test_a_turn_handles_the_free_frames_of_at_most_128_streams(serve: Serve) -> None:
    turns = _Turns()
    mount = Mount(UserSocket, serializers=[(turns, Requirement("~> 2.0.0"))])
    server = await serve(Endpoint(sockets={"/socket": mount}))
    clients = [await server.connect() for _ in range(512)]
    trio.lowlevel.add_instrument(turns)
    for client in clients:
        client.send(*[(None, "1", "phoenix", "heartbeat")] * 8)
    await settle()
    trio.lowlevel.remove_instrument(turns)
    assert all(len(client.frames()) == 8 for client in clients)
    assert turns.most <= 128 * 8
