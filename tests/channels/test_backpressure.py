"""The server stops reading a client that sends faster than its channel handles, and loses no message."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.connection import connection as _connection
from channels.connection.session_server import WAITING_LIMIT
from channels.telemetry import CONNECTION_CLOSED
from tests.channels.conftest import Serve
from tests.channels.support import EOF, Client, Close, Server, phx_error, reply, settle
from tests.channels.transports.frames import TEXT, client_frame

SENT = 6 * WAITING_LIMIT


class Sluggish(Channel):
    """A channel that waits for the test before each answer."""

    gate = trio.Event()

    @handle_in("slow")
    async def slow(self, payload: Any) -> PushReply:
        await Sluggish.gate.wait()
        return PushReply(payload)

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        await Sluggish.gate.wait()
        raise RuntimeError("crash")


class SluggishSocket(Socket):
    channels = {"slow:*": Sluggish}


async def send_in_pieces(client: Client, pushes: list[Any]) -> None:
    for begin in range(0, len(pushes), 128):
        client.send(*pushes[begin : begin + 128])
        await settle()


async def flood(serve: Serve, event: str, count: int = SENT) -> tuple[Server, Client, list[Any]]:
    """A client that has sent a lot of data, in small pieces, to a stuck channel."""
    Sluggish.gate = trio.Event()
    server = await serve(Endpoint(sockets={"/socket": SluggishSocket}))
    client = await server.connect()
    await client.join("slow:a")
    pushes = [("1", str(number), "slow:a", event, {"n": number}) for number in range(count)]
    await send_in_pieces(client, pushes)
    return server, client, pushes


async def test_the_messages_that_wait_for_a_slow_channel_are_bounded(serve: Serve) -> None:
    server, _, _ = await flood(serve, "slow")
    info = server.runtime.process_info(server.channel("slow:a"))
    assert info is not None
    assert WAITING_LIMIT <= info["queue_length"] < SENT / 2
    Sluggish.gate.set()


async def test_a_slow_channel_answers_all_messages_in_order_once_it_continues(serve: Serve) -> None:
    _, client, _ = await flood(serve, "slow")
    Sluggish.gate.set()
    await settle()
    assert client.frames() == [
        reply("1", str(number), "slow:a", {"n": number}) for number in range(SENT)
    ]


async def test_after_the_crash_of_a_slow_channel_the_server_reads_again(serve: Serve) -> None:
    _, client, _ = await flood(serve, "crash")
    Sluggish.gate.set()
    await settle()
    frames = client.frames()
    assert frames[0] == phx_error("1", "slow:a")
    assert await client.exchange((None, "h", "phoenix", "heartbeat")) == [
        reply(None, "h", "phoenix")
    ]


async def test_a_paused_client_is_not_closed_for_silence(serve: Serve) -> None:
    _, client, _ = await flood(serve, "slow")
    await trio.sleep(59)
    Sluggish.gate.set()
    await settle()
    assert len(client.frames()) == SENT
    await trio.sleep(59)
    assert client.frames() == [], "the time for which it was not read does not count"
    await trio.sleep(2)
    assert client.frames()[0] == Close(1002)


async def test_a_pause_does_not_count_as_silence_of_the_client(serve: Serve) -> None:
    # The last message exceeds the limit, so no message is left for the next read.
    _, client, _ = await flood(serve, "slow", WAITING_LIMIT + 1)
    await trio.sleep(59)
    Sluggish.gate.set()
    await settle()
    assert len(client.frames()) == WAITING_LIMIT + 1
    await trio.sleep(59)
    assert client.frames() == []
    await trio.sleep(2)
    assert client.frames()[0] == Close(1002)


async def test_the_server_closes_a_client_with_1013_if_it_could_not_read_it_for_the_timeout(
    serve: Serve,
) -> None:
    server, client, _ = await flood(serve, "slow")
    ended = server.listen(CONNECTION_CLOSED)
    await trio.sleep(61)
    assert Close(1013) in client.frames()
    client.close()
    await trio.sleep(6)
    ((_, about),) = ended
    assert about["cause"] == "a channel had too many waiting messages for 60 s"
    assert server.connections() == []
    assert len(server.channels("slow:a")) == 1, "a handler that hangs is not killed for that"
    Sluggish.gate.set()
    await settle()
    assert server.channels("slow:a") == []


async def test_the_server_notices_a_client_that_leaves_during_a_pause(serve: Serve) -> None:
    server, client, _ = await flood(serve, "slow", WAITING_LIMIT + 200)
    client.end()
    await settle()
    assert server.connections() == []
    info = server.runtime.process_info(server.channel("slow:a"))
    assert info is not None
    assert info["queue_length"] > WAITING_LIMIT + 190, "what it had sent before is not lost"
    Sluggish.gate.set()
    await settle()
    assert server.channels("slow:a") == []


async def test_the_server_can_pause_a_client_a_second_time(
    serve: Serve,
) -> None:
    server, client, pushes = await flood(serve, "slow")
    Sluggish.gate.set()
    await settle()
    assert len(client.frames()) == SENT
    Sluggish.gate = trio.Event()
    await send_in_pieces(client, pushes)
    info = server.runtime.process_info(server.channel("slow:a"))
    assert info is not None
    assert WAITING_LIMIT <= info["queue_length"] < SENT / 2
    Sluggish.gate.set()
    await settle()
    assert len(client.frames()) == SENT


async def test_long_messages_count_several_times(serve: Serve) -> None:
    Sluggish.gate = trio.Event()
    server = await serve(Endpoint(sockets={"/socket": SluggishSocket}))
    client = await server.connect()
    await client.join("slow:a")
    pushes = [("1", str(number), "slow:a", "slow", "x" * 200_000) for number in range(60)]
    for push in pushes:
        client.send(push)
        await settle()
    info = server.runtime.process_info(server.channel("slow:a"))
    assert info is not None
    # 1,024 times 8 KiB, and the data on its way.
    assert 35 <= info["queue_length"] <= 50
    Sluggish.gate.set()
    await settle()
    assert [frame[1] for frame in client.frames()] == [push[1] for push in pushes]


async def test_the_incomplete_messages_of_all_clients_share_one_bound(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connection, "HELD_LIMIT", 1_000_000)
    server = await serve(Endpoint(sockets={"/socket": SluggishSocket}))
    one, greedy, modest = [await server.connect() for _ in range(3)]
    whole = client_frame(TEXT, json.dumps(["1", "1", "slow:a", "phx_join", "x" * 600_000]).encode())
    small = client_frame(TEXT, json.dumps(["1", "1", "slow:a", "phx_join", "x" * 10_000]).encode())
    for client, data in ((one, whole), (greedy, whole), (modest, small)):
        client.write(data[:-1])
        await settle()
    assert greedy.frames() == [Close(1013), EOF]
    assert server.endpoint.statistics()["counts"] == {("websocket", "too_much_held"): 1}
    for client, data in ((one, whole), (modest, small)):
        client.write(data[-1:])
        await settle()
        assert client.frames() == [reply("1", "1", "slow:a")]
    assert server.services.counters.held == 0
