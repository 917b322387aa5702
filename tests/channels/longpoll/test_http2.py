"""Polling over HTTP/2: all requests of a client on one connection, at the same time."""

from __future__ import annotations

import json
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
import trio

from channels import Endpoint, LongPoll, Mount
from tests.channels.conftest import Serve
from tests.channels.polling import NDJSON, line
from tests.channels.rooms import UserSocket
from tests.channels.support import Client, Server, reply, settle

PATH = "/socket/longpoll?vsn=2.0.0"


class Http2Client:
    """One connection, on which requests are answered in any order."""

    def __init__(self, client: Client) -> None:
        self._client = client
        config = h2.config.H2Configuration(header_encoding="utf-8")
        self._connection = h2.connection.H2Connection(config)
        self._connection.initiate_connection()
        self._bodies: dict[int, bytes] = {}
        self.answers: dict[int, tuple[dict[str, str], bytes]] = {}
        """The complete answers, headers and body, by the numbers of the requests."""
        self._headers: dict[int, dict[str, str]] = {}
        self._next = 1

    async def ask(self, method: str, body: bytes = b"", **headers: str) -> int:
        """Send a request, let the server react without time passing, and return the request's number."""
        number, self._next = self._next, self._next + 2
        fields = [
            (":method", method),
            (":path", PATH),
            (":scheme", "http"),
            (":authority", "test"),
            ("content-type", NDJSON),
            *((name.replace("_", "-"), value) for name, value in headers.items()),
        ]
        self._connection.send_headers(number, fields, end_stream=not body)
        if body:
            self._connection.send_data(number, body, end_stream=True)
        await self.flush()
        return number

    async def leave(self, number: int) -> None:
        """Take a request back."""
        self._connection.reset_stream(number)
        await self.flush()

    async def flush(self) -> None:
        """Exchange all pending data with the server."""
        self._client.write(self._connection.data_to_send())
        await settle()
        self._client._read()
        data, self._client._reader.data = self._client._reader.data, b""
        for event in self._connection.receive_data(data):
            self._take(event)
        self._client.write(self._connection.data_to_send())
        await settle()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self._headers[event.stream_id] = {str(k): str(v) for k, v in event.headers or ()}
            self._bodies[event.stream_id] = b""
        elif isinstance(event, h2.events.DataReceived):
            self._bodies[event.stream_id] += event.data or b""
        elif isinstance(event, h2.events.StreamEnded):
            number = event.stream_id
            self.answers[number] = self._headers.pop(number), self._bodies.pop(number)

    def said(self, number: int) -> dict[str, Any]:
        """Return the content of a JSON answer."""
        found: dict[str, Any] = json.loads(self.answers[number][1])
        return found


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve(Endpoint(sockets={"/socket": Mount(UserSocket, longpoll=True)}, http2=True))


@pytest.fixture
async def client(server: Server) -> Http2Client:
    return Http2Client(await server.accept())


async def test_a_poll_is_held_while_posts_on_the_same_connection_wake_it(
    client: Http2Client,
) -> None:
    opened = client.said(await client.ask("GET"))
    assert opened["status"] == 410
    token = {"x_phoenix_longpoll_token": opened["token"]}
    held = await client.ask("GET", **token)
    assert held not in client.answers
    post = await client.ask("POST", line(("1", "1", "room:a", "phx_join")), **token)
    await client.flush()
    assert client.answers[post][1] == b'{"status":200}'
    headers = client.answers[post][0]
    assert headers[":status"] == "200"
    assert headers["access-control-allow-origin"] == "*"
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert [json.loads(message) for message in client.said(held)["messages"]] == [
        reply("1", "1", "room:a")
    ]


async def test_a_page_of_the_same_host_may_poll_and_others_may_not(client: Http2Client) -> None:
    assert client.said(await client.ask("GET", origin="http://test"))["status"] == 410
    assert client.said(await client.ask("GET", origin="http://evil.example"))["status"] == 403


async def test_a_poll_that_is_taken_back_loses_nothing(server: Server, client: Http2Client) -> None:
    token = {"x_phoenix_longpoll_token": client.said(await client.ask("GET"))["token"]}
    await client.ask("POST", line(("1", "1", "room:a", "phx_join")), **token)
    assert client.said(await client.ask("GET", **token))["status"] == 200
    await client.leave(await client.ask("GET", **token))
    server.endpoint.broadcast("room:a", "new", {"n": 1})
    said = client.said(await client.ask("GET", **token))
    assert [json.loads(message)[4] for message in said["messages"]] == [{"n": 1}]


async def test_a_body_that_is_too_big_does_not_cost_the_connection(serve: Serve) -> None:
    mount = Mount(UserSocket, longpoll=LongPoll(max_body_bytes=100))
    server = await serve(Endpoint(sockets={"/socket": mount}, http2=True))
    client = Http2Client(await server.accept())
    token = {"x_phoenix_longpoll_token": client.said(await client.ask("GET"))["token"]}
    big = await client.ask("POST", b"[" + b"x" * 1000, **token)
    assert client.answers[big][0][":status"] == "400"
    assert client.said(await client.ask("POST", b"[]", **token)) == {"status": 408}


async def test_a_client_that_sends_no_request_is_disconnected(server: Server) -> None:
    connection = await server.accept()
    connection.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    await trio.sleep(4.9)
    assert not connection.is_closed
    await trio.sleep(0.2)
    assert connection.is_closed
