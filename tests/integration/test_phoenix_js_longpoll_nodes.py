"""The unmodified phoenix.js, polling two nodes behind a balancer that sends each request to the other node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.alternating_proxy import AlternatingProxy, alternating
from tests.integration.phoenix_js import PhoenixJs, connected
from tests.integration.servers import Server, serving
from tests.patience import wait_until

POLLING: dict[str, dict[str, Any]] = {
    "phoenix": {"package": "phoenix"},
    "phoenix-1.7": {"package": "phoenix-1.7", "xhr": True},
    "phoenix-1.3": {"package": "phoenix-1.3", "xhr": True},
}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("tests.integration.two_nodes", tmp_path_factory.mktemp("nodes")) as server:
        wait_until(lambda: len(ports_of(server)) == 2, server.output)
        yield server


def ports_of(server: Server) -> list[int]:
    return [int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", server.output())]


@pytest.fixture
def proxy(nodes: Server) -> Iterator[AlternatingProxy]:
    with alternating(ports_of(nodes)) as proxy:
        yield proxy


# The newest client is tried at each run.
ALL = ["phoenix", *(pytest.param(name, marks=pytest.mark.deep) for name in list(POLLING)[1:])]


@pytest.fixture(params=ALL)
def how(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Which phoenix.js polls, and by which means."""
    return {"transport": "longpoll", **POLLING[request.param]}


@pytest.fixture
def client(proxy: AlternatingProxy, how: dict[str, Any]) -> Iterator[PhoenixJs]:
    with connected(proxy.socket_url, **how) as client:
        yield client
        assert client.seen("close") == [], "the session never got lost"
    counts = list(proxy.requests.values())
    assert len(counts) == 2
    assert abs(counts[0] - counts[1]) <= 1, "the requests alternated"


def test_joins_and_pushes_are_answered(client: PhoenixJs) -> None:
    answer = {"hello": "world", "params": {"user": "žluťoučký kůň 🐎"}}
    assert client.join("room:withreply", answer["params"]) == ("ok", answer)
    assert client.join("room:deny") == ("error", {"reason": "unauthorized"})
    for number in range(10):
        assert client.request("room:withreply", "echo", {"n": number}) == ("ok", {"n": number})


def test_messages_go_between_polls_and_websockets_of_both_nodes(
    client: PhoenixJs, nodes: Server
) -> None:
    client.join("room:both")
    here, there = (f"ws://127.0.0.1:{port}/socket" for port in ports_of(nodes))
    with connected(here) as one, connected(there) as other:
        one.join("room:both")
        other.join("room:both")
        client.push("room:both", "new_msg", {"n": 1})
        for each in (client, one, other):
            assert each.message("room:both", "new_msg") == {"n": 1}
        for number, sender in enumerate((one, other)):
            sender.push("room:both", "new_msg", {"from": number})
            assert client.message("room:both", "new_msg") == {"from": number}


def test_a_burst_is_answered_in_full_and_in_order(client: PhoenixJs, how: dict[str, Any]) -> None:
    # 1.7 puts everything into one batch, of which servers read no more than a hundred lines.
    size = 90 if how["package"] == "phoenix-1.7" else 250
    client.join("room:burst")
    numbers = [client.push("room:burst", "echo", {"n": n}) for n in range(size)]
    assert [client.reply(number) for number in numbers] == [("ok", {"n": n}) for n in range(size)]


def test_a_long_message_travels_whole_both_ways(client: PhoenixJs) -> None:
    client.join("room:long")
    text = {"text": "ž" * 700_000}
    assert client.request("room:long", "echo", text) == ("ok", text)


def test_a_crashed_channel_is_rejoined(client: PhoenixJs) -> None:
    client.join("room:crash")
    client.push("room:crash", "boom")
    client.expect("message", topic="room:crash", event="phx_error")
    meanwhile = client.push("room:crash", "echo", {"n": 2})
    assert client.joined("room:crash") == ("ok", {})
    assert client.reply(meanwhile) == ("ok", {"n": 2})


def test_binary_payloads_reach_the_server_whole(proxy: AlternatingProxy) -> None:
    with connected(proxy.socket_url, transport="longpoll") as client:
        client.join("room:binary")
        for data in (b"", b"\x00", bytes(range(256)), b"\n[\r\n" * 1000):
            number = client.push_bytes("room:binary", "bytes", data)
            assert client.reply(number) == ("ok", {"bytes": list(data)})
