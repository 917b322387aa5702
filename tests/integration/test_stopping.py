"""Stop a server while hundreds of clients are in the middle of their work.

Each WebSocket gets its close frame, each request an answer or the close that docs/howto/deploy.md describes, and the
server ends well, within the time of its drain.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.channels.support import head
from tests.channels.transports.frames import client_close
from tests.integration.servers import Server, serving

DRAIN = 30.0
GOING_AWAY = b"\x88\x02" + (1012).to_bytes(2, "big")

GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"


class Client:
    """One connection to the server, and everything that it has heard."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.heard = b""
        self.ended = False

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def hear(self, what: bytes) -> None:
        """Read until this was heard."""
        while what not in self.heard:
            assert await self._read(), f"the server closed the connection after {self.heard!r}"

    async def hear_the_end(self) -> bytes:
        """Read until the server closes the connection. Return its data."""
        while await self._read():
            pass
        self.ended = True
        await self.stream.aclose()
        return self.heard

    async def _read(self) -> bool:
        try:
            data = bytes(await self.stream.receive_some())
        except trio.BrokenResourceError:
            return False
        self.heard += data
        return bool(data)


async def clients(
    server: Server, count: int, said: bytes = b"", heard: bytes = b""
) -> list[Client]:
    """Connect this many clients. Each sends a message; wait until each has received one."""
    found = [Client(await trio.open_tcp_stream("127.0.0.1", server.port)) for _ in range(count)]
    for client in found:
        if said:
            await client.say(said)
    for client in found:
        await client.hear(heard)
        client.heard = b""
    return found


async def everything_was_read(server: Server) -> None:
    """Wait until the server has read all earlier data. It reads its sockets in turns."""
    for _ in range(5):
        for client in await clients(server, 1, GET % b"/page", b"0 bytes"):
            await client.stream.aclose()


@pytest.fixture
def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    monkeypatch.setenv("DRAIN_SECONDS", str(getattr(request, "param", DRAIN)))
    with serving("tests.integration.stopping_server", tmp_path) as running:
        yield running


async def end_of(server: Server) -> int:
    """Wait for the end of the server's process; answer its exit code."""
    assert server._process is not None
    process = server._process
    return await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)


async def test_a_stop_in_time_gives_every_client_an_answer_or_a_documented_close(
    server: Server,
) -> None:
    silent = await clients(server, 30)
    after_a_page = await clients(server, 35, GET % b"/page", b"0 bytes")
    after_a_stream = await clients(server, 35, GET % b"/streamed", b"two\r\n0\r\n\r\n")
    streaming = await clients(server, 100, POST % b"/echo" + b"first", b"first")
    cut_short = await clients(server, 40, b"GET /page HTTP/1.1\r\nHost: loc")
    second_cut_short = await clients(server, 30, GET % b"/page", b"0 bytes")
    for client in second_cut_short:
        await client.say(b"GET /page HTTP/1.1\r\nHost: loc")
    half_a_body = await clients(server, 30, POST % b"/page" + b"first")
    websockets = await clients(server, 100, head(), b"\r\n\r\n")
    await everything_was_read(server)

    began = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)

    async def websocket(client: Client) -> None:
        await client.hear(GOING_AWAY)
        await client.say(client_close(1012))
        assert await client.hear_the_end() == GOING_AWAY

    with trio.fail_after(DRAIN + 30):
        async with trio.open_nursery() as nursery:
            for client in websockets:
                nursery.start_soon(websocket, client)
        # The server drains now. It accepted the following requests before, and finishes them.
        for client in silent + after_a_page + after_a_stream + second_cut_short:
            assert await client.hear_the_end() == b""
        for client in cut_short:
            answer = await client.hear_the_end()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in answer.lower()
        for client in streaming + half_a_body:
            await client.say(b" last")
        for client in streaming:
            assert b" last" in await client.hear_the_end()
            assert client.heard.endswith(b"0\r\n\r\n")
        for client in half_a_body:
            answer = await client.hear_the_end()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"10 bytes")
        code = await end_of(server)
    took = time.monotonic() - began
    assert code == 0, server.output()
    assert took < DRAIN
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("server", [1.0], indirect=True)
async def test_an_endless_response_is_cut_off_after_the_drain_timeout(
    server: Server,
) -> None:
    streaming = await clients(server, 20, POST % b"/echo" + b"first", b"first")
    unread = [Client(await trio.open_tcp_stream("127.0.0.1", server.port)) for _ in range(5)]
    for client in unread:
        await client.say(POST % b"/echo" + b"first")
    await everything_was_read(server)
    os.kill(server.pid, signal.SIGTERM)
    with trio.fail_after(60):
        for client in streaming:
            assert b"0\r\n\r\n" not in await client.hear_the_end()
        assert await end_of(server) == 0, server.output()
    assert "Traceback" not in server.output()
    for client in unread:
        await client.stream.aclose()
