"""The server stops reading a client that sends faster than its channel handles, and loses no message."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import trio

from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.connection import session_server as _session_server
from channels.connection.session_server import WAITING_LIMIT
from channels.serializers.json_values import JsonWeight
from channels.telemetry import CONNECTION_CLOSED, SOCKET_INCOMING_SHED
from channels.wire.websocket import WebSocketProtocol
from tests.channels.conftest import Serve
from tests.channels.support import EOF, Client, Close, Server, phx_error, reply, settle
from tests.channels.transports.frames import CONTINUATION, TEXT, client_frame

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


def unfinished(size: int) -> bytes:
    """A frame with a heartbeat of about this size, without its last byte."""
    text = json.dumps([None, "1", "phoenix", "heartbeat", "x" * size])
    return client_frame(TEXT, text.encode())[:-1]


def last(size: int) -> bytes:
    """The last byte of such a frame."""
    text = json.dumps([None, "1", "phoenix", "heartbeat", "x" * size])
    return client_frame(TEXT, text.encode())[-1:]


async def test_beyond_the_limit_for_incomplete_messages_the_largest_one_is_closed(
    serve: Serve,
) -> None:
    server = await serve(
        Endpoint(sockets={"/socket": SluggishSocket}, max_total_incoming_bytes=1_000_000)
    )
    shed = server.listen(SOCKET_INCOMING_SHED)
    greedy, innocent, modest = [await server.connect() for _ in range(3)]
    sizes = {greedy: 600_000, innocent: 500_000, modest: 10_000}
    greedy_pid = server.connections()[0]
    for client, size in sizes.items():
        client.write(unfinished(size))
        await settle()
    assert greedy.frames() == [Close(1013), EOF]
    assert server.endpoint.statistics()["counts"] == {SOCKET_INCOMING_SHED: 1}
    ((measured, about),) = shed
    assert 600_000 < measured["bytes"] < 610_000
    assert (about["pid"], about["code"]) == (greedy_pid, 1013)
    for client in (innocent, modest):
        client.write(last(sizes[client]))
        await settle()
        assert client.frames() == [reply(None, "1", "phoenix")]
    incoming = server.endpoint.statistics()["incoming"]
    assert (incoming.behind, incoming.waiting_bytes, incoming.shed) == (0, 0, 1)


async def test_fragments_count_as_an_incomplete_message(serve: Serve) -> None:
    server = await serve(
        Endpoint(sockets={"/socket": SluggishSocket}, max_total_incoming_bytes=100_000)
    )
    client = await server.connect()
    for opcode in (TEXT, CONTINUATION, CONTINUATION):
        client.write(client_frame(opcode, b"x" * 40_000, fin=False))
        await settle()
    assert client.frames() == [Close(1013), EOF]


async def test_a_message_in_tiny_pieces_counts_what_the_pieces_need(serve: Serve) -> None:
    server = await serve(
        Endpoint(sockets={"/socket": SluggishSocket}, max_total_incoming_bytes=20_000)
    )
    client = await server.connect()
    for byte in unfinished(1000):
        client.write(bytes((byte,)))
        await settle()
    assert client.frames() == [Close(1013), EOF]


async def test_a_message_can_be_dropped_while_it_waits_to_be_decoded_with_all_later_ones(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(Endpoint(sockets={"/socket": SluggishSocket}))
    client = await server.connect()
    incoming = server.services.transports.incoming
    counted: list[int] = []

    class Weight(JsonWeight):
        def feed(self, data: bytes) -> None:
            super().feed(data)
            counted.append(incoming.waiting_bytes)
            incoming.relieve()
            counted.append(incoming.waiting_bytes)

    monkeypatch.setattr(_session_server, "JsonWeight", Weight)
    client.write(unfinished(500_000))
    await settle()
    client.write(last(500_000) + client_frame(TEXT, b'[null,"2","phoenix","heartbeat",{}]'))
    await settle()
    assert client.frames() == [Close(1013), EOF]
    assert len(counted) == 2, "the server does not even count all values of the message"
    assert counted[0] == counted[1] > 500_000, "the message counts until the process drops it"
    assert incoming.waiting_bytes == 0


async def test_without_memory_the_poller_frees_the_largest_messages_and_reads_again_at_once(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets={"/socket": SluggishSocket}))
    large, small = await server.connect(), await server.connect()
    large.write(unfinished(600_000))
    small.write(unfinished(100_000))
    await settle()
    out_of_memory = server.services.transports.pollers["poller"].on_out_of_memory
    assert out_of_memory(5) is True
    await settle()
    assert large.frames() == [Close(1013), EOF]
    small.write(last(100_000))
    await settle()
    assert small.frames() == [reply(None, "1", "phoenix")]
    assert out_of_memory(5) is False, "there is nothing left to free"


async def test_a_client_that_the_server_could_not_read_is_not_blamed_for_its_silence(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets={"/socket": SluggishSocket}))
    client = await server.connect()
    ended = server.listen(CONNECTION_CLOSED)
    await trio.sleep(30)
    server.services.transports.pollers["poller"].on_out_of_memory(1)
    await trio.sleep(31)
    assert client.frames() == [Close(1013), EOF]
    client.close()
    await settle()
    assert "too little memory" in ended[0][1]["cause"]


async def test_a_client_whose_message_finds_no_memory_is_closed_with_1013(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(Endpoint(sockets={"/socket": SluggishSocket}))
    client, other = await server.connect(), await server.connect()
    client.write(unfinished(600_000))
    await settle()
    shed = server.listen(SOCKET_INCOMING_SHED)
    receive = WebSocketProtocol.receive

    def no_memory(self: WebSocketProtocol, data: bytes, steps: int = sys.maxsize) -> Any:
        if self.held > 100_000:
            raise MemoryError
        return receive(self, data, steps)

    monkeypatch.setattr(WebSocketProtocol, "receive", no_memory)
    client.write(last(600_000))
    await settle()
    assert client.frames() == [Close(1013), EOF]
    assert len(shed) == 1
    assert server.endpoint.statistics()["incoming"].waiting_bytes == 0
    assert await other.exchange((None, "h", "phoenix", "heartbeat")) == [
        reply(None, "h", "phoenix")
    ]
