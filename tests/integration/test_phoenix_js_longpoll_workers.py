"""The unmodified phoenix.js, polling three workers: each request is a connection of its own, which any worker takes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.alternating_proxy import AlternatingProxy, alternating
from tests.integration.phoenix_js import PhoenixJs, connected
from tests.integration.valkey import valkey
from tests.integration.worker_servers import WorkersServer, serving_with

WORKERS = 3


@pytest.fixture(scope="module", params=["workers", pytest.param("redis", marks=pytest.mark.deep)])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkersServer]:
    """Three workers that meet over their parent, or at a Valkey server."""
    with contextlib.ExitStack() as stack:
        environment = {}
        if request.param == "redis":
            store = stack.enter_context(valkey(tmp_path_factory.mktemp("valkey")))
            environment["REDIS_URL"] = store.url
        folder = tmp_path_factory.mktemp("workers")
        yield stack.enter_context(serving_with(folder, WORKERS, environment=environment))


@pytest.fixture
def proxy(server: WorkersServer) -> Iterator[AlternatingProxy]:
    with alternating([server.port]) as proxy:
        yield proxy


def polling(proxy: AlternatingProxy) -> contextlib.AbstractContextManager[PhoenixJs]:
    return connected(proxy.socket_url, transport="longpoll")


def test_a_session_is_reached_through_every_worker(proxy: AlternatingProxy) -> None:
    with polling(proxy) as client:
        assert client.join("room:lobby") == ("ok", {})
        served: list[Any] = [client.request("room:lobby", "where")[1]["pid"] for _ in range(30)]
        assert len(set(served)) == 1
        assert client.seen("close") == []
    assert proxy.requests.total() > 30


def test_polling_clients_of_all_workers_hear_each_other(proxy: AlternatingProxy) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(polling(proxy)) for _ in range(3)]
        for client in clients:
            client.join("room:talk")
        for number, client in enumerate(clients):
            assert client.request("room:talk", "say", {"n": number}) == ("ok", {})
            for other in clients:
                assert other.message("room:talk", "said") == {"n": number}
        assert [client.seen("close") for client in clients] == [[], [], []]


def test_a_client_whose_worker_is_killed_begins_a_new_session_and_joins_again(
    proxy: AlternatingProxy,
) -> None:
    with polling(proxy) as client:
        client.join("room:lobby")
        before = client.request("room:lobby", "where")[1]["pid"]
        os.kill(before, signal.SIGKILL)
        client.expect("close")
        client.expect("open")
        assert client.joined("room:lobby") == ("ok", {})
        assert client.request("room:lobby", "where")[1]["pid"] != before
