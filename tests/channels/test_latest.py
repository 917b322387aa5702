"""Values that may be dropped, in an endpoint: bounds and reports, mistakes, and the end of dead clients.

`tests/contracts/test_channels_over_transports.py` shows them over every transport.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest
import trio

from actors import InvalidOperation, InvalidOption, open_runtime, send
from channels import Broadcast, Channel, EncodeError, Endpoint, Mount, Socket
from channels.messages import MAX_KEY
from channels.recording.watched_out import WatchedOut
from channels.telemetry import SESSION_STARTED, SOCKET_LATEST_DROPPED
from tests.channels.conftest import Serve
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import Client, Close, Gate, Mailbox, Server, reply, settle

ENDPOINT: dict[str, Any] = {"/socket": Mount(UserSocket, timeout=30.0)}


async def slow_client(server: Server) -> tuple[Client, Gate]:
    """A client that has joined, and does not read."""
    gate = Gate()
    client = await server.connect(gate=gate)
    await client.join()
    gate.shut()
    for _ in range(2):
        # One frame is being written, and one waits before the client counts as behind.
        server.endpoint.broadcast("room:a", "shouted", {})
        await settle()
    return client, gate


def values(client: Client) -> list[Any]:
    return [frame[4]["key"] for frame in client.frames() if frame[4]]


async def test_values_beyond_the_bounds_are_dropped_counted_and_reported_once(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT, max_latest_values=2))
    heard = server.listen(SOCKET_LATEST_DROPPED)
    client, gate = await slow_client(server)
    for key in "abcbdc":
        server.endpoint.broadcast_latest("room:a", "shouted", {"key": key}, key=key)
        await settle()
    ((measured, about),) = heard
    assert measured == {
        "values": 2,
        "bytes": 2 * len(b'..[null,null,"room:a","shouted",{"key":"a"}]'),
    }
    assert about["pid"] == server.connections()[0]
    statistics = server.endpoint.statistics()
    assert statistics["counts"] == {SOCKET_LATEST_DROPPED: 1}
    assert (statistics["latest"].replaced, statistics["latest"].dropped) == (1, 3)
    gate.opened.set()
    await settle()
    assert values(client) == ["a", "b"]
    assert await client.exchange(("1", "2", "room:a", "echo", {})) == [reply("1", "2", "room:a")]


async def test_the_log_says_which_options_allow_more_values(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_runtime() as runtime:
        endpoint = Endpoint(sockets=ENDPOINT, max_latest_bytes=60)
        server = Server(endpoint, runtime, await endpoint.start_link(port=0))
        await slow_client(server)
        for key in "ab":
            endpoint.broadcast_latest("room:a", "shouted", {"key": key}, key=key)
        await settle()
    (line,) = [each for each in caplog.records if "Dropped values" in each.getMessage()]
    assert line.levelno == logging.WARNING
    assert "1 values with 44 bytes" in line.getMessage()
    assert "Endpoint(max_latest_bytes=)" in line.getMessage()


async def test_a_client_that_gets_only_values_is_still_closed_for_silence(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client, gate = await slow_client(server)
    for number in range(29):
        server.endpoint.broadcast_latest("room:a", "shouted", {"n": number}, key="a")
        await trio.sleep(1)
    assert len(server.connections()) == 1
    await trio.sleep(2)
    gate.opened.set()
    await settle()
    assert Close(1002) in client.frames()


async def test_the_endpoint_leaves_out_the_client_of_a_channel(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    one, other = await server.connect(), await server.connect()
    await one.join()
    await other.join()
    sender = server.channels("room:a")[0]
    server.endpoint.broadcast_latest_from(sender, "room:a", "shouted", {"key": "a"}, key="a")
    await settle()
    assert (values(one), values(other)) == ([], ["a"])


async def test_a_process_that_subscribes_gets_the_key(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    mailbox = Mailbox()
    await mailbox.start(partial(server.endpoint.pubsub.subscribe, "room:a"))
    server.endpoint.broadcast_latest("room:a", "position", {"x": 1}, key="bus")
    server.endpoint.broadcast("room:a", "position", {"x": 2})
    await settle()
    assert mailbox.messages == [
        Broadcast("room:a", "position", {"x": 1}, "bus"),
        Broadcast("room:a", "position", {"x": 2}),
    ]
    assert "key" not in repr(mailbox.messages[1])


async def test_a_key_that_is_no_text_is_a_mistake_before_anybody_gets_the_value(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect()
    await client.join()
    number: Any = 7
    with pytest.raises(EncodeError, match="its key is 7, which cannot travel to other nodes"):
        server.endpoint.broadcast_latest("room:a", "shouted", {}, key=number)
    errors: list[Any] = []

    def mistake(room: Room) -> None:
        with pytest.raises(InvalidOption, match="push_latest got key=7; write text") as found:
            room.push_latest("pushed", {}, key=number)
        errors.append(found)

    send(server.channel("room:a"), mistake)
    await settle()
    assert len(errors) == 1
    assert client.frames() == []


async def test_a_long_key_is_a_mistake_because_it_waits_for_each_client_that_is_behind(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect()
    await client.join()
    server.endpoint.broadcast_latest("room:a", "shouted", {"key": "ok"}, key="k" * MAX_KEY)
    with pytest.raises(EncodeError, match="its key has 256 characters, and the limit is 255"):
        server.endpoint.broadcast_latest("room:a", "shouted", {}, key="k" * (MAX_KEY + 1))
    binary: Any = b"bus"
    with pytest.raises(EncodeError, match="its key is b'bus', which cannot travel"):
        server.endpoint.broadcast_latest("room:a", "shouted", {}, key=binary)
    errors: list[Any] = []

    def mistake(room: Room) -> None:
        with pytest.raises(InvalidOption, match="text of at most 255 characters") as found:
            room.push_latest("pushed", {}, key="k" * (MAX_KEY + 1))
        errors.append(found)

    send(server.channel("room:a"), mistake)
    await settle()
    assert len(errors) == 1
    assert values(client) == ["ok"]


async def test_a_channel_cannot_push_values_before_its_join_was_accepted(serve: Serve) -> None:
    class Hasty(Channel):
        async def join(self, topic: str, payload: Any) -> None:
            with pytest.raises(InvalidOperation, match="called push_latest before its join"):
                self.push_latest("pushed", {}, key="a")
            with pytest.raises(InvalidOperation, match="called broadcast before its join"):
                self.broadcast_latest("pushed", {}, key="a")

    class HastySocket(Socket):
        channels = {"room:*": Hasty}

    server = await serve(Endpoint(sockets={"/socket": HastySocket}))
    await (await server.connect()).join()


async def test_an_observer_of_the_frames_sees_values_too(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    seen: list[bytes] = []

    def watch(_event: Any, _measured: Any, about: Any) -> None:
        watched = about["server"]
        watched.out = watched.link.out = WatchedOut(watched.out, seen.append)

    server.runtime.telemetry.attach(SESSION_STARTED, watch)
    client = await server.connect()
    await client.join()
    server.endpoint.broadcast_latest("room:a", "shouted", {"key": "a"}, key="a")
    await settle()
    assert values(client) == ["a"]
    assert seen[-1].endswith(b'"shouted",{"key":"a"}]')
