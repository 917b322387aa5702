"""HTTP/2 on the endpoint's own TLS, with curl, with Chromium, and with a WebSocket as the first stream.

The server closes a connection without a request after half a second. No test may confuse a connection whose first
request still runs with such a connection.
"""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
import trio
import trustme

from tests.channels.support import Close, Reader, text
from tests.channels.transports.frames import client_close
from tests.integration.browsers import chromium
from tests.integration.http2_server import KEEP_ALIVE
from tests.integration.servers import Server, serving
from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA, tmp_path: Path) -> Iterator[Server]:
    certificate = tmp_path / "certificate.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    environment = {"CERTIFICATE": str(certificate)}
    with serving("tests.integration.http2_server", tmp_path, environment) as running:
        yield running


def curl(server: Server, path: str, *options: str) -> str:
    """Ask with curl, or skip the test that wants it. Return the body, the status and the version of HTTP."""
    found = shutil.which("curl")
    if found is None:
        pytest.skip("there is no curl: install it with `apt-get install curl`")
    command = [
        found,
        "-sS",
        "-k",
        "--max-time",
        str(PATIENCE),
        "-w",
        " %{http_code} %{http_version}",
    ]
    command += [*options, f"https://127.0.0.1:{server.port}{path}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_first_request_of_curl_may_take_longer_than_an_idle_connection(server: Server) -> None:
    assert curl(server, "/slow", "--http2") == "<p>HTTP/2</p> 200 2"
    assert curl(server, "/slow", "--http1.1") == "<p>HTTP/1.1</p> 200 1.1"


def test_the_first_request_and_the_websocket_of_a_browser_live_longer_than_an_idle_connection(
    server: Server,
) -> None:
    with chromium() as browser, browser.new_context(ignore_https_errors=True) as context:
        page = context.new_page()
        url = f"https://127.0.0.1:{server.port}"
        page.goto(f"{url}/slow")
        assert page.text_content("p") == "HTTP/2"
        page.evaluate(
            """async () => {
                window.heard = []
                window.socket = new WebSocket(`wss://${location.host}/socket/websocket?vsn=2.0.0`)
                socket.onmessage = ({ data }) => heard.push(JSON.parse(data))
                socket.onclose = ({ code }) => heard.push(code)
                await new Promise((opened) => (socket.onopen = opened))
                socket.send(JSON.stringify(["1", "1", "room:a", "phx_join", {}]))
            }"""
        )
        page.wait_for_function("heard.length == 1")
        page.wait_for_timeout(3 * KEEP_ALIVE * 1000)
        page.evaluate('socket.send(JSON.stringify(["1", "2", "room:a", "echo", { n: 1 }]))')
        page.wait_for_function("heard.length == 2")
        assert page.evaluate("heard[1][4]") == {"status": "ok", "response": {"n": 1}}
        assert curl(server, "/upgrades").startswith("[None] 200"), "the WebSocket uses HTTP/2"
        assert server.stop() == 0
        page.wait_for_function("heard.length == 3")
        assert page.evaluate("heard[2]") == 1012


class Http2WebSocket:
    """A WebSocket that is the first stream of a connection."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._connection = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8")
        )
        self._connection.initiate_connection()
        self._reader = Reader()
        self.status = ""
        self.has_ended = False

    async def open(self) -> None:
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/socket/websocket?vsn=2.0.0"),
            (":authority", "127.0.0.1"),
            ("sec-websocket-version", "13"),
        ]
        self._connection.send_headers(1, fields)
        await self._stream.send_all(self._connection.data_to_send())
        while not self.status:
            await self._read()

    async def send(self, data: bytes) -> None:
        self._connection.send_data(1, data)
        await self._stream.send_all(self._connection.data_to_send())

    async def frame(self) -> Any:
        """Wait for the next frame."""
        while not (frames := self._reader.frames()):
            assert await self._read(), "the server closed the connection"
        (frame,) = frames
        return frame

    async def end(self) -> None:
        """Wait until the server closes the connection."""
        while await self._read():
            pass

    async def _read(self) -> bool:
        data = bytes(await self._stream.receive_some())
        for event in self._connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.status = str(dict(event.headers)[":status"])  # type: ignore[index]
            elif isinstance(event, h2.events.DataReceived):
                self._reader.feed(event.data)
        if reply := self._connection.data_to_send():
            await self._stream.send_all(reply)
        return bool(data)


@asynccontextmanager
async def websocket(server: Server, authority: trustme.CA) -> AsyncIterator[Http2WebSocket]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2"])
    tcp = await trio.open_tcp_stream("127.0.0.1", server.port)
    async with trio.SSLStream(
        tcp, context, server_hostname="127.0.0.1", https_compatible=True
    ) as stream:
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == "h2"
        client = Http2WebSocket(stream)
        await client.open()
        yield client


async def test_a_websocket_that_is_the_first_stream_lives_until_sigterm_closes_it_with_1012(
    server: Server, authority: trustme.CA
) -> None:
    with trio.fail_after(PATIENCE):
        async with websocket(server, authority) as client:
            assert client.status == "200"
            await client.send(text("1", "1", "room:a", "phx_join", {}))
            joined: Any = await client.frame()
            assert joined[4] == {"status": "ok", "response": {}}
            await trio.sleep(3 * KEEP_ALIVE)
            await client.send(text("1", "2", "room:a", "echo", {"n": 1}))
            assert (await client.frame())[4] == {"status": "ok", "response": {"n": 1}}
            os.kill(server.pid, signal.SIGTERM)
            assert await client.frame() == Close(1012)
            await client.send(client_close(1012))
            await client.end()
    assert server._process is not None
    assert await trio.to_thread.run_sync(server._process.wait) == 0
