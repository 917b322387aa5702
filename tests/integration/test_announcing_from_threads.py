"""Routes of FastAPI that announce to WebSocket clients: a `def` route runs in a thread, and is heard all the same."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.integration.servers import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("announcing")
    with serving("tests.integration.announcing_app", folder) as running:
        yield running


@contextmanager
def joined(server: Server) -> Iterator[ClientConnection]:
    with connect(f"{server.socket_url}/websocket?vsn=2.0.0", max_queue=None) as socket:
        socket.send(json.dumps(["1", "1", "news", "phx_join", {}]))
        assert receive(socket) == {"status": "ok", "response": {}}
        yield socket


def receive(socket: ClientConnection) -> Any:
    """The payload of the next message."""
    return json.loads(socket.recv(timeout=20))[4]


def post(server: Server, path: str) -> Any:
    request = urllib.request.Request(f"{server.url}{path}", method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:  # its own server's
        assert answer.status == 200
        return json.load(answer)


def test_both_kinds_of_route_announce_and_new_clients_still_connect(server: Server) -> None:
    with joined(server) as one, joined(server) as other:
        for number, (path, source) in enumerate(
            [("/from-a-thread", "a thread"), ("/from-a-task", "a task")] * 2
        ):
            assert post(server, f"{path}?first={number}") == {"announced": 1}
            for client in (one, other):
                assert receive(client) == {"from": source, "n": number}
        with joined(server) as late:
            post(server, "/from-a-thread?first=7")
            for client in (one, other, late):
                assert receive(client) == {"from": "a thread", "n": 7}


def test_an_announcement_that_cannot_be_encoded_raises_in_the_route(
    server: Server,
) -> None:
    with joined(server) as client:
        assert post(server, "/what-cannot-be-announced") == {"refused": "announced"}
        post(server, "/from-a-thread?first=1")
        assert receive(client) == {"from": "a thread", "n": 1}
    assert "Traceback" not in server.output()


def test_ten_thousand_announcements_of_eight_threads_arrive_once_and_in_order(
    server: Server,
) -> None:
    with joined(server) as one, joined(server) as other, ThreadPoolExecutor(8) as pool:
        # Eight requests at a time, each in its own thread, with 1250 numbers each.
        paths = [f"/from-a-thread?first={10_000 * each}&count=1250" for each in range(8)]
        answers = pool.map(lambda path: post(server, path), paths)
        for client in (one, other):
            numbers = [receive(client)["n"] for _ in range(10_000)]
            for each in range(8):
                of_thread = [n for n in numbers if n // 10_000 == each]
                assert of_thread == list(range(10_000 * each, 10_000 * each + 1250))
        assert list(answers) == [{"announced": 1250}] * 8
