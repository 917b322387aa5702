"""Large input of a client is handled in pieces, and other clients are served in between.

The tests count turns of the scheduler, not seconds. Other clients run once in each turn.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
import trio

from channels import Endpoint, Mount
from channels.connection.session_server import HELD_BACK_AT
from channels.telemetry import SOCKET_HELD_BACK, SOCKET_MALFORMED
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import EOF, UPGRADE, Client, Close, Server, head, reply, settle, text
from tests.channels.transports.frames import CONTINUATION, PING, PONG, TEXT, client_frame

HEARTBEAT: tuple[Any, ...] = (None, "h", "phoenix", "heartbeat", {})
BEAT = reply(None, "h", "phoenix")
READ = 64 * 1024


def repeated(frame: bytes) -> bytes:
    return frame * (READ // len(frame))


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    return client_frame(TEXT, packed[:-4], rsv=4)


def message(payload: bytes) -> bytes:
    return b'[null,"1","phoenix","heartbeat",' + payload + b"]"


async def turns_until(client: Client, wanted: Any) -> int:
    """Return the number of scheduler turns until a client has got a frame."""
    return await turns_until_all([client], wanted)


async def turns_until_all(clients: list[Client], wanted: Any) -> int:
    """Return the number of scheduler turns until each client has got a frame."""
    waiting = clients
    for turn in range(100_000):
        waiting = [client for client in waiting if wanted not in client.frames()]
        if not waiting:
            return turn
        await trio.lowlevel.checkpoint()
    raise AssertionError(f"{wanted} did not come")


FLOODS = {
    "pongs": repeated(client_frame(PONG, b"")),
    "pings": repeated(client_frame(PING, b"")),
    "fragments": client_frame(TEXT, b"[", fin=False)
    + repeated(client_frame(CONTINUATION, b" ", fin=False))
    + client_frame(CONTINUATION, message(b"{}")[1:]),
    "heartbeats": repeated(text(None, "1", "phoenix", "heartbeat", {})),
    "messages to nowhere": repeated(text("1", "1", "room:x", "echo", {})),
    "replies to leaves": repeated(text("1", "1", "room:x", "phx_leave", {})),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_read_full_of_frames_is_handled_64_at_a_time(serve: Serve, kind: str) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}, max_buffered_messages=100_000))
    client = await server.connect()
    flood = FLOODS[kind]
    frames = 9000 if kind in ("pongs", "pings", "fragments") else 900
    client.write(flood * 8 + text(*HEARTBEAT))
    # Sixteen pieces of 64 frames are a turn, for one client alone.
    assert await turns_until(client, BEAT) >= 8 * frames / 1024


@pytest.mark.parametrize("kind", FLOODS)
async def test_floods_of_many_clients_do_not_delay_a_quiet_client(serve: Serve, kind: str) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}, max_buffered_messages=100_000))
    strangers = [await server.connect() for _ in range(20)]
    friend = await server.connect()
    for each in strangers:
        each.write(FLOODS[kind] + text(*HEARTBEAT))
    friend.write(text(*HEARTBEAT))
    turns = await turns_until(friend, BEAT)
    assert turns <= 10
    frames = 9000 if kind in ("pongs", "pings", "fragments") else 900
    # Trio runs the clients of one turn in any order, so only the last of all of them is certain.

    assert turns + await turns_until_all(strangers, BEAT) >= 15 * frames / 1024


async def test_joins_count_as_two_dozen_frames(serve: Serve) -> None:
    class Wide(UserSocket):
        max_channels = 1000
        max_joining = 1000

    server = await serve(Endpoint(sockets={"/socket": Wide}))
    client = await server.connect()
    client.write(b"".join(text("1", str(n), f"room:{n}", "phx_join", {}) for n in range(1000)))
    client.write(text(*HEARTBEAT))
    assert await turns_until(client, BEAT) >= 1000 * 24 / 1024


@pytest.mark.parametrize("size", [200_000, 1_000_000])
async def test_the_values_of_a_long_message_are_counted_64_kib_at_a_time(
    serve: Serve, size: int
) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    client = await server.connect()
    client.write(client_frame(TEXT, message(b'"' + b"x" * size + b'"')))
    assert (
        await turns_until(client, reply(None, "1", "phoenix")) >= 1.8 * size / READ
    )  # read, then weighed


async def test_a_compressed_message_is_inflated_piece_by_piece(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, compress=True)}))
    client = await server.accept()
    offer = "sec-websocket-extensions: permessage-deflate\r\n"
    client.write(head(headers=UPGRADE + offer))
    await settle()
    client.answer()
    bomb = deflated(message(b'"' + b"x" * 9_000_000 + b'"'))
    assert len(bomb) < 10_000
    client.write(bomb)
    # 550 pieces of 16 KiB, two of which are a piece of work of 64 units.
    assert await turns_until(client, reply(None, "1", "phoenix")) >= 9_000_000 / 32_768 / 16


# Messages with too much in them


def values(count: int) -> bytes:
    # Long enough to be counted.
    return message(b"[" + b"1," * (count - 1) + b'"' + b"," * READ + b'"]')


async def answer_to(server: Server, data: bytes) -> list[Any]:
    client = await server.connect()
    client.write(client_frame(TEXT, data))
    await settle()
    return client.frames()


async def test_a_message_with_too_many_values_closes_with_1009(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    heard = server.listen(SOCKET_MALFORMED)
    assert await answer_to(server, values(49_000)) == [reply(None, "1", "phoenix")]
    assert await answer_to(server, values(51_000)) == [Close(1009), EOF]
    ((_, about),) = heard
    assert "has more than 50,000 JSON values" in about["cause"]
    assert about["code"] == 1009
    assert server.services.counters.counts["socket", "too_many_values"] == 1


async def test_a_mount_can_set_the_maximum_values_of_a_message(serve: Serve) -> None:
    mounts = {"/socket": Mount(UserSocket, max_json_values=60_000)}
    server = await serve(Endpoint(sockets=mounts))
    assert await answer_to(server, values(51_000)) == [reply(None, "1", "phoenix")]
    assert await answer_to(server, values(61_000)) == [Close(1009), EOF]


async def test_the_count_of_values_ignores_the_content_of_strings(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    csv = message(json.dumps('a,"b",[c]\\\n' * 100_000).encode())
    assert await answer_to(server, csv) == [reply(None, "1", "phoenix")]


async def test_a_ref_of_more_than_4096_characters_closes_with_1011(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    for ref in ("x" * 5000, [1] * 5000):
        data = json.dumps([ref, "1", "room:a", "phx_join", {}]).encode()
        assert await answer_to(server, data) == [Close(1011), EOF]


# Reports


async def test_a_client_whose_flood_takes_a_hundred_turns_is_reported_once(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    heard = server.listen(SOCKET_HELD_BACK)
    client = await server.connect()
    for _ in range(2):
        client.write(client_frame(TEXT, message(b'"' + b"x" * (HELD_BACK_AT + 10) * READ + b'"')))
        await settle()
    ((measures, about),) = heard
    assert measures == {"turns": HELD_BACK_AT}
    assert about["pid"] == client.process
    assert server.services.counters.counts[SOCKET_HELD_BACK] == 1
    assert server.endpoint.statistics()["work"].waits > HELD_BACK_AT


async def test_a_client_that_sends_little_at_a_time_is_never_reported(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    heard = server.listen(SOCKET_HELD_BACK)
    client = await server.connect()
    for _ in range(3 * HELD_BACK_AT):
        client.write(client_frame(TEXT, message(b'"' + b"x" * READ + b'"')))
        await settle()
    assert heard == []
