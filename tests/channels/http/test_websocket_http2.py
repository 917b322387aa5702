"""WebSockets over HTTP/2 (RFC 8441): several on one connection, as browsers open them where that is offered."""

from __future__ import annotations

import json

import h2.config
import h2.connection
import h2.events
import pytest

from channels import Endpoint, Mount
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import Client, Close, Reader, Server, reply, settle, text
from tests.channels.transports.frames import CONTINUATION, TEXT, client_close, client_frame


class Http2Sockets:
    """One connection of HTTP/2, and the WebSockets on it by their numbers."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._connection = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8")
        )
        self._connection.initiate_connection()
        self._readers: dict[int, Reader] = {}
        self.statuses: dict[int, str] = {}

    async def open(self, query: str = "vsn=2.0.0", origin: str = "http://test") -> int:
        """Ask for a WebSocket, and return its number."""
        number = self._connection.get_next_available_stream_id()
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", f"/socket/websocket?{query}"),
            (":authority", "test"),
            ("sec-websocket-version", "13"),
            ("origin", origin),
        ]
        self._readers[number] = Reader()
        self._connection.send_headers(number, fields)
        await self._flush()
        return number

    async def exchange(self, number: int, data: bytes) -> list[object]:
        """Send bytes on one of them, and take the frames that came."""
        self._connection.send_data(number, data)
        await self._flush()
        return self.frames(number)

    def frames(self, number: int) -> list[object]:
        return self._readers[number].frames()

    async def _flush(self) -> None:
        self._client.write(self._connection.data_to_send())
        await settle()
        self._client._read()
        data, self._client._reader.data = self._client._reader.data, b""
        for event in self._connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived) and event.stream_id is not None:
                headers = {str(name): str(value) for name, value in event.headers or ()}
                self.statuses[event.stream_id] = headers[":status"]
            elif isinstance(event, h2.events.DataReceived) and event.stream_id is not None:
                self._readers[event.stream_id].feed(event.data or b"")
        self._client.write(self._connection.data_to_send())
        await settle()


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve(Endpoint(sockets={"/socket": UserSocket}, http2=True))


@pytest.fixture
async def sockets(server: Server) -> Http2Sockets:
    return Http2Sockets(await server.accept())


async def test_several_websockets_share_a_connection(server: Server, sockets: Http2Sockets) -> None:
    one, other = await sockets.open(), await sockets.open()
    assert sockets.statuses == {one: "200", other: "200"}
    for number in (one, other):
        got = await sockets.exchange(number, text("1", "1", "room:a", "phx_join", {}))
        assert got == [reply("1", "1", "room:a")]
    shouted = [None, None, "room:a", "shouted", {"n": 1}]
    assert await sockets.exchange(one, text("1", "2", "room:a", "shout", {"n": 1})) == [shouted]
    assert sockets.frames(other) == [shouted]
    assert await sockets.exchange(one, client_close(1000)) == [Close(1000)]
    assert len(server.channels("room:a")) == 1
    echo = await sockets.exchange(other, text("1", "3", "room:a", "echo", {"still": "here"}))
    assert echo == [reply("1", "3", "room:a", {"still": "here"})]


async def test_a_refused_client_does_not_disturb_the_others(sockets: Http2Sockets) -> None:
    refused = await sockets.open("vsn=2.0.0&token=deny")
    elsewhere = await sockets.open(origin="https://evil.example")
    fine = await sockets.open()
    assert sockets.statuses == {refused: "403", elsewhere: "403", fine: "200"}


@pytest.fixture
async def small(serve: Serve) -> Http2Sockets:
    """Sockets of an endpoint with little memory for incomplete messages."""
    server = await serve(
        Endpoint(sockets={"/socket": UserSocket}, http2=True, max_total_incoming_bytes=100_000)
    )
    return Http2Sockets(await server.accept())


async def test_a_fragmented_message_arrives_whole(sockets: Http2Sockets) -> None:
    number = await sockets.open()
    payload = json.dumps(
        [None, "1", "phoenix", "heartbeat", {"x": "ä" * 3000}], ensure_ascii=False
    ).encode()
    # The cut is within a character of the text.
    cut = payload.index("ä".encode()) + 1001
    assert await sockets.exchange(number, client_frame(TEXT, payload[:cut], fin=False)) == []
    assert await sockets.exchange(number, client_frame(CONTINUATION, payload[cut:])) == [
        reply(None, "1", "phoenix")
    ]


async def test_incomplete_messages_over_http2_share_the_limit(small: Http2Sockets) -> None:
    greedy, innocent = await small.open(), await small.open()
    piece = client_frame(TEXT, b"x" * 15_000, fin=False)
    more = client_frame(CONTINUATION, b"x" * 15_000, fin=False)
    frames = await small.exchange(greedy, piece)
    for _ in range(8):
        if not frames:
            frames = await small.exchange(greedy, more)
    assert frames[:1] == [Close(1013)]
    # The client goes on with its message. That disturbs no other WebSocket on the connection.
    assert await small.exchange(innocent, text(None, "1", "phoenix", "heartbeat", {})) == [
        reply(None, "1", "phoenix")
    ]


async def test_a_message_over_http2_has_the_size_limit_of_the_mount(serve: Serve) -> None:
    mount = Mount(UserSocket, max_frame_size=1000)
    server = await serve(Endpoint(sockets={"/socket": mount}, http2=True))
    sockets = Http2Sockets(await server.accept())
    number = await sockets.open()
    frames = await sockets.exchange(number, client_frame(TEXT, b"x" * 2000, fin=False))
    assert frames[:1] == [Close(1009)]
