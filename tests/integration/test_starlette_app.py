"""The example of an endpoint inside a Starlette application: page and sockets on one port, and real clients."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.integration.phoenix_js import connected
from tests.integration.servers import Server, serving
from tests.patience import PATIENCE


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving("examples.starlette_app", tmp_path) as running:
        yield running


def socket_url(server: Server) -> str:
    return f"ws://127.0.0.1:{server.port}/live/socket"


def ask(url: str, body: bytes | None = None) -> tuple[int, str]:
    with urllib.request.urlopen(
        urllib.request.Request(url, data=body), timeout=PATIENCE
    ) as answer:  # its own server's
        return answer.status, answer.read().decode()


def exchange(socket: ClientConnection, *message: Any) -> Any:
    socket.send(json.dumps(message))
    return json.loads(socket.recv(timeout=PATIENCE))


def test_the_page_and_the_sockets_are_on_one_port(server: Server) -> None:
    status, page = ask(server.url)
    assert status == 200
    assert "/live/socket" in page
    with connect(f"{socket_url(server)}/websocket?vsn=2.0.0", open_timeout=PATIENCE) as socket:
        joined = exchange(socket, "1", "1", "news", "phx_join", {})
        assert joined == ["1", "1", "news", "phx_reply", {"status": "ok", "response": {}}]
        echo = exchange(socket, "1", "2", "news", "echo", {"text": "x" * 100_000})
        assert echo[4]["response"] == {"text": "x" * 100_000}
        assert ask(f"{server.url}/announce", b"to all") == (200, '{"announced":"to all"}')
        heard = json.loads(socket.recv(timeout=PATIENCE))
        assert heard == [None, None, "news", "announced", {"text": "to all"}]
        # Starlette runs this handler in a thread.
        asked = ask(f"{server.url}/announce-slowly?text=again", b"")
        assert asked == (200, '{"announced":"again"}')
        heard = json.loads(socket.recv(timeout=10))
        assert heard == [None, None, "news", "announced", {"text": "again"}]


@pytest.mark.parametrize(
    ("path", "origin", "status"),
    [("live/socket/websocket", "https://evil.example", 403), ("live/nowhere/websocket", None, 404)],
)
def test_pages_of_other_origins_and_unmounted_paths_are_refused(
    server: Server, path: str, origin: Any, status: int
) -> None:
    url = f"ws://127.0.0.1:{server.port}/{path}?vsn=2.0.0"
    with pytest.raises(InvalidStatus) as caught, connect(url, origin=origin, open_timeout=PATIENCE):
        pass
    assert caught.value.response.status_code == status


def test_clients_are_closed_with_1012_before_the_server_stops(server: Server) -> None:
    with connect(f"{socket_url(server)}/websocket?vsn=2.0.0", open_timeout=PATIENCE) as socket:
        exchange(socket, "1", "1", "news", "phx_join", {})
        assert server.stop() == 0
        with pytest.raises(ConnectionClosedError) as caught:
            socket.recv(timeout=PATIENCE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012
    assert "Traceback" not in server.output()


def test_phoenix_js_is_served_and_rejoins_after_a_crash(server: Server) -> None:
    with connected(socket_url(server)) as client:
        assert client.join("news") == ("ok", {})
        client.push("news", "crash")
        assert client.joined("news") == ("ok", {})
        assert client.request("news", "echo", {"still": "here"}) == ("ok", {"still": "here"})
