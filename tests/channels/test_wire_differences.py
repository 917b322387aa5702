"""Intended differences from Phoenix that clients see. docs/topics/differences.md has the reasons."""

from __future__ import annotations

import json
from typing import Any

import pytest

from channels import Binary, EncodeError, Endpoint, Mount
from tests.channels.conftest import Serve
from tests.channels.polling import Poller
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import EOF, UPGRADE, Client, Close, Server, head, reply, settle
from tests.channels.transports.frames import BINARY, TEXT, client_frame


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve(Endpoint(sockets={"/socket": Mount(UserSocket, longpoll=True)}))


async def ask(server: Server, data: bytes) -> tuple[Client, Any]:
    client = await server.accept()
    client.write(data)
    await settle()
    return client, client.answer()


@pytest.mark.parametrize("position", range(4))
async def test_a_binary_message_with_a_name_that_is_not_utf8_closes_with_1011(
    server: Server, position: int
) -> None:
    names = [b"1", b"2", b"room:a", b"echo"]
    names[position] = b"\xff\xfe"
    client = await server.connect()
    await client.join()
    client.write(client_frame(BINARY, bytes((0, *map(len, names))) + b"".join(names) + b"data"))
    await settle()
    assert client.frames() == [Close(1011), EOF]


async def test_a_join_whose_reply_cannot_be_encoded_crashes(serve: Serve) -> None:
    class Odd(Room):
        async def join(self, topic: str, payload: Any) -> Any:
            return {"when": object()} if topic == "room:odd" else None

    class OddSocket(UserSocket):
        channels = {"room:*": Odd}

    server = await serve(Endpoint(sockets={"/socket": OddSocket}))
    client = await server.connect()
    await client.join("room:b", "9")
    crashed = reply("1", "1", "room:odd", {"reason": "join crashed"}, "error")
    assert await client.exchange(("1", "1", "room:odd", "phx_join")) == [crashed]
    # The connection and its other topics still work.
    assert await client.exchange(("9", "10", "room:b", "echo")) == [reply("9", "10", "room:b")]


async def test_a_request_may_have_as_many_headers_as_fit_into_its_head(server: Server) -> None:
    many = "".join(f"x-{number}: a\r\n" for number in range(500))
    _, answer = await ask(server, head(headers=UPGRADE + many))
    assert answer.status == 101


async def test_refusals_name_neither_vary_nor_cache_control(server: Server) -> None:
    for path in ("/socket/websocket?vsn=2.0.0&token=deny", "/socket/websocket?vsn=1", "/nowhere"):
        _, answer = await ask(server, head(path, "host: test\r\n"))
        assert answer.status in {403, 404}
        assert not {"vary", "cache-control"} & set(answer.headers)


async def test_a_method_in_lower_case_is_get_for_polls_and_refused_for_websockets(
    server: Server,
) -> None:
    _, answer = await ask(server, head().replace(b"GET", b"get"))
    assert (answer.status, answer.body) == (400, b"")
    answer = await Poller(server).ask("get")
    assert answer.status == 200


async def test_every_client_whose_format_can_express_a_broadcast_gets_it(server: Server) -> None:
    old, answer = await ask(server, head("/socket/websocket?vsn=1.0.0"))
    assert answer.status == 101
    old.write(text_v1("room:a", "phx_join", "1"))
    await settle()
    assert len(old.frames()) == 1
    new = await server.connect()
    await new.join()
    # Version 1 of the protocol has no binary messages, and its client has joined first.
    with pytest.raises(EncodeError) as refused:
        server.endpoint.broadcast("room:a", "picture", Binary(b"data"))
    assert refused.value.kind == "broadcast"
    await settle()
    (data,) = new.frames()
    assert data.payload.endswith(b"data")
    assert old.frames() == []


def text_v1(topic: str, event: str, ref: str) -> bytes:
    message = {"topic": topic, "event": event, "payload": {}, "ref": ref}
    return client_frame(TEXT, json.dumps(message).encode())
