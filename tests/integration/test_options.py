"""Options of mounts with clients that other people wrote: `websockets`, and phoenix.js over the `ws` of Node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection, connect

from tests.integration.phoenix_js import PhoenixJs, connected
from tests.integration.servers import Server, serving
from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("tests.integration.options_server", tmp_path_factory.mktemp("options")) as running:
        yield running


def opened(server: Server, **parameters: Any) -> ClientConnection:
    factory = ClientPerMessageDeflateFactory(**parameters)
    url = f"{server.socket_url}/websocket?vsn=2.0.0"
    return connect(
        url, compression=None, extensions=[factory], max_size=None, open_timeout=PATIENCE
    )


def exchange(socket: ClientConnection, *message: Any) -> Any:
    socket.send(json.dumps(message))
    return json.loads(socket.recv(timeout=PATIENCE))


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"client_no_context_takeover": True, "server_no_context_takeover": True},
        {"server_max_window_bits": 9, "client_max_window_bits": 9},
    ],
    ids=["plain", "no context", "small windows"],
)
def test_messages_travel_compressed_both_ways(server: Server, parameters: dict[str, Any]) -> None:
    with opened(server, **parameters) as socket, opened(server) as other:
        (extension,) = socket.protocol.extensions
        assert extension.name == "permessage-deflate"
        for each in (socket, other):
            exchange(each, "1", "1", "room:packed", "phx_join", {})
        for number in range(5):
            payload = {"text": f"the same words again and again {number} " * 2000}
            answer = exchange(socket, "1", "2", "room:packed", "echo", payload)
            assert answer[4]["response"] == payload
            shouted = exchange(socket, "1", "3", "room:packed", "new_msg", payload)
            assert shouted == [None, None, "room:packed", "new_msg", payload]
            assert json.loads(other.recv(timeout=PATIENCE)) == shouted


def test_a_message_that_inflates_beyond_the_limit_is_1009(server: Server) -> None:
    with opened(server) as socket:
        socket.send("x" * 50_000_000)
        with pytest.raises(ConnectionClosedError) as caught:
            socket.recv(timeout=PATIENCE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


def test_phoenix_js_over_a_websocket_that_compresses(server: Server) -> None:
    # Node's `ws` offers compression by default, and compresses messages above one kilobyte.
    with connected(server.socket_url) as client:
        assert client.join("room:packed") == ("ok", {})
        for size in (1, 5_000, 500_000):
            payload = {"text": "kůň 🐎 " * size}
            assert client.request("room:packed", "echo", payload) == ("ok", payload)
        number = client.push_bytes("room:packed", "echo", bytes(5000))
        status, response = client.reply(number)
        assert (status, response) == ("ok", {"bytes": [0] * 5000})


@pytest.mark.parametrize("transport", ["websocket", "longpoll"])
def test_phoenix_js_sends_its_auth_token_without_the_query(server: Server, transport: str) -> None:
    url = f"ws://127.0.0.1:{server.port}/private/acme"
    token = "a>> secret"  # in base64 it has a plus
    with connected(url, transport=transport, authToken=token) as client:
        assert client.join("who") == ("ok", {"token": token, "tenant": "acme"})


def test_phoenix_js_without_a_token_is_refused(server: Server) -> None:
    with PhoenixJs(f"ws://127.0.0.1:{server.port}/private/acme") as client:
        client.tell("connect")
        client.expect("close", code=1006)


def test_phoenix_js_gets_an_error_for_a_push_beyond_the_rate_limit_and_stays_joined(
    server: Server,
) -> None:
    with connected(server.socket_url.replace("/socket", "/limited")) as client:
        assert client.join("room:limited") == ("ok", {})
        assert client.request("room:limited", "echo", {"n": 1}) == ("ok", {"n": 1})
        status, response = client.request("room:limited", "echo", {"n": 2})
        assert (status, response.pop("reason")) == ("error", "rate limited")
        # The bucket gets one token in 100 seconds.
        assert 0 < response.pop("retry_after_ms") <= 100_000
        assert client.join("room:other") == ("ok", {})
