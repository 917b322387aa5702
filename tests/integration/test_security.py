"""The chat refuses pages of other origins, and reveals no internals."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator

import pytest

from tests.integration.servers import Server, serving
from tests.patience import PATIENCE, wait_until

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
PATHS = ("/", "/socket/websocket", "/socket/longpoll", "/no/such", "/../etc/passwd", "/socket")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("examples.chat", tmp_path_factory.mktemp("security")) as running:
        yield running


def ask(
    server: Server, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read() if answer.status != 101 else b""
        return answer.status, body, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1.evil.example", "file://", "http://"],
)
def test_a_page_of_another_origin_cannot_connect(server: Server, origin: str) -> None:
    status, body, _ = ask(server, "/socket/websocket?vsn=2.0.0", **UPGRADE, Origin=origin)
    assert (status, body) == (403, b"")
    status, body, _ = ask(server, "/socket/longpoll?vsn=2.0.0", Origin=origin)
    assert (status, json.loads(body)) == (200, {"status": 403})
    said = f"Refused a page from '{origin}' that tried to connect to UserSocket"
    wait_until(lambda: said in server.output(), server.output)


def test_pages_of_the_same_origin_and_programs_can_connect(server: Server) -> None:
    assert ask(server, "/socket/websocket?vsn=2.0.0", **UPGRADE, Origin=server.url)[0] == 101
    assert ask(server, "/socket/websocket?vsn=2.0.0", **UPGRADE)[0] == 101


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "TRACE"])
def test_responses_reveal_no_internals(server: Server, path: str, method: str) -> None:
    _, body, headers = ask(server, path, method)
    assert headers.keys().isdisjoint({"server", "x-powered-by", "via"})
    if path != "/":
        assert len(body) < 200
    assert not re.search(rb"Traceback|\.py|hypercorn|python|trio|channels\.", body, re.IGNORECASE)


def test_secrets_of_a_client_are_not_in_the_log(server: Server) -> None:
    ask(server, "/socket/websocket?vsn=2.0.0&token=s3same", **UPGRADE)
    ask(server, "/socket/longpoll?vsn=2.0.0&password=s3same")
    ask(server, "/nowhere?token=s3same", Cookie="session=s3same", Authorization="Bearer s3same")
    wait_until(lambda: server.output().count("FILTERED") == 2, server.output)
    assert "s3same" not in server.output()
