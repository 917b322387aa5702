"""The configurations of the page about proxies, word for word, before two servers of a generated project."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionRejected

from channels.generators.files import project_files
from channels.generators.names import parse_name
from tests.integration.valkey import valkey
from tests.patience import PATIENCE
from tests.proxies.deployment import PROXIES, Load, Proxy, deployed, joined, program


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp(request.param)
    program(request.param)
    with valkey(folder) as redis, deployed(request.param, folder, redis.url) as proxy:
        yield proxy


def seen(proxy: Proxy, headers: dict[str, str] | None = None, **options: Any) -> Any:
    status, body = proxy.ask("GET", "/pages", None, headers, **options)
    assert status == 200
    return json.loads(body)


def test_the_page_and_phoenix_js_arrive(proxy: Proxy) -> None:
    status, page = proxy.ask("GET", "/")
    assert (status, b"<title>Chat</title>" in page) == (200, True)
    assert proxy.ask("GET", "/phoenix.mjs")[0] == 200


def test_browsers_get_http2(proxy: Proxy) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", proxy.port)) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as secured,
    ):
        assert secured.selected_alpn_protocol() == "h2"


async def test_a_page_of_the_same_site_opens_a_websocket_and_another_site_does_not(
    proxy: Proxy,
) -> None:
    origin = f"https://localhost:{proxy.port}"
    with trio.fail_after(PATIENCE):
        async with proxy.websocket(origin=origin) as ann, proxy.websocket() as bob:
            for client in (ann, bob):
                assert (await joined(client, "room:lobby"))["status"] == "ok"
            for body in ("hello", "x" * 500):
                await ann.send_message(say("2", body))
                heard = json.loads(await bob.get_message())
                assert heard == [None, None, "room:lobby", "new_msg", {"body": body}]
            # A message of a megabyte arrives whole, and is too long for the channel.
            await bob.send_message(say("3", "x" * 1_000_000))
            answer = json.loads(await bob.get_message())
            assert (answer[1], answer[4]["response"]["field"]) == ("3", "body")
        refused = pytest.RaisesExc(ConnectionRejected, check=lambda error: error.status_code == 403)
        with pytest.RaisesGroup(refused):
            async with proxy.websocket(origin="https://evil.example"):
                pass


def say(ref: str, body: str) -> str:
    return json.dumps(["1", ref, "room:lobby", "new_msg", {"body": body}])


async def test_a_client_cannot_forge_its_address_or_its_scheme(proxy: Proxy) -> None:
    forged = {"x-forwarded-for": "203.0.113.7, 127.0.0.1", "x-forwarded-proto": "gopher"}
    for source in ("127.0.0.5", "127.0.0.6"):
        answer = seen(proxy, forged, source=source)
        assert answer["forwarded"] == answer["client"] == source
        assert (answer["scheme"], answer["host"]) == ("https", f"localhost:{proxy.port}")
    with trio.fail_after(PATIENCE):
        async with proxy.websocket("/seen", x_forwarded_for="203.0.113.7") as client:
            reply = await joined(client, "seen")
    assert reply["response"] == {"client": "127.0.0.1", "scheme": "https"}


class Poll:
    """A client of long polling."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._path = "/socket/longpoll?vsn=2.0.0"
        answer = self._ask("GET")
        assert answer["status"] == 410
        self._path += f"&token={answer['token']}"

    def _ask(self, method: str, *messages: Any) -> Any:
        body = "\n".join(json.dumps(message) for message in messages).encode() or None
        status, data = self._proxy.ask(
            method, self._path, body, {"content-type": "application/x-ndjson"}
        )
        assert status == 200, data
        return json.loads(data)

    def send(self, *messages: Any) -> int:
        status: int = self._ask("POST", *messages)["status"]
        return status

    def receive(self) -> list[Any]:
        answer = self._ask("GET")
        assert answer["status"] == 200, answer
        return [json.loads(message) for message in answer["messages"]]


def test_long_polling_joins_and_hears_a_client_of_the_other_server(proxy: Proxy) -> None:
    # Four clients, so that both servers have one, although each request may reach any server.
    clients = [Poll(proxy) for _ in range(4)]
    for client in clients:
        assert client.send(["1", "1", "room:lobby", "phx_join", {}]) == 200
        assert client.receive()[0][3:] == ["phx_reply", {"status": "ok", "response": {}}]
    assert clients[0].send(["1", "2", "room:lobby", "new_msg", {"body": "hello"}]) == 200
    for client in clients[1:]:
        assert client.receive() == [[None, None, "room:lobby", "new_msg", {"body": "hello"}]]


def test_a_body_of_five_megabytes_arrives_whole(proxy: Proxy) -> None:
    body = bytes(range(256)) * 20_000
    status, answer = proxy.ask("POST", "/pages", body)
    assert status == 200
    assert json.loads(answer)["digest"] == hashlib.sha256(body).hexdigest()
    status, _ = proxy.ask("POST", "/pages", bytes(9_000_000))
    assert status == (413 if proxy.name == "nginx" else 200)


def test_a_client_cannot_change_to_http2_on_the_connection_to_the_server(proxy: Proxy) -> None:
    with (
        socket.create_connection(("127.0.0.1", proxy.port)) as sock,
        proxy.context.wrap_socket(sock, server_hostname="localhost") as secured,
    ):
        secured.settimeout(PATIENCE)
        secured.sendall(
            f"GET /pages HTTP/1.1\r\nHost: localhost:{proxy.port}\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n".encode()
        )
        answer = secured.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_drain_and_a_rolling_restart_fail_no_request(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    load = Load(proxy)
    with load.running():
        load.wait_for_more()
        for server in (*proxy.servers, *proxy.servers):
            server.restart()
            load.wait_for_more()
    with capsys.disabled():
        print(
            f"\n{proxy.name}: {load.posts:,} POSTs and {load.visits:,} WebSockets during four restarts, "
            f"{len(load.failures)} failures"
        )
    assert load.failures == []


# The unit


def test_systemd_rates_the_unit_as_hardened(tmp_path: Path) -> None:
    unit = tmp_path / "chat.service"
    unit.write_text(project_files(parse_name("chat"))["deploy/chat.service"])
    done = subprocess.run(
        [program("systemd-analyze"), "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    (exposure,) = re.findall(r"Overall exposure level for chat.service: ([\d.]+)", done.stdout)
    assert float(exposure) <= 1.5, done.stdout
