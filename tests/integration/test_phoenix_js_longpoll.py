"""The unmodified phoenix.js, of today and of earlier times, polling a server of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.phoenix_js import PhoenixJs, connected
from tests.integration.servers import Server, serving
from tests.integration.upgrade_breaker import Mode, breaking_upgrades
from tests.patience import PATIENCE

POLLING: dict[str, dict[str, Any]] = {
    "phoenix": {"package": "phoenix"},
    "phoenix, XMLHttpRequest": {"package": "phoenix", "xhr": True},
    "phoenix-1.7": {"package": "phoenix-1.7", "xhr": True},
    "phoenix-1.3": {"package": "phoenix-1.3", "xhr": True},
}


# The newest client is tried at each run.
ALL = ["phoenix", *(pytest.param(name, marks=pytest.mark.deep) for name in list(POLLING)[1:])]


@pytest.fixture(params=ALL)
def how(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Which phoenix.js polls, and by which means."""
    return {"transport": "longpoll", **POLLING[request.param]}


@pytest.fixture
def client(conformance: Server, how: dict[str, Any]) -> Iterator[PhoenixJs]:
    with connected(conformance.socket_url, **how) as client:
        yield client


@pytest.fixture
def native(conformance: Server) -> Iterator[PhoenixJs]:
    """Another client, with a WebSocket."""
    with connected(conformance.socket_url) as client:
        yield client


def test_joins_and_pushes_are_answered(client: PhoenixJs) -> None:
    answer = {"hello": "world", "params": {"user": "žluťoučký kůň 🐎"}}
    assert client.join("room:withreply", answer["params"]) == ("ok", answer)
    assert client.join("room:deny") == ("error", {"reason": "unauthorized"})
    text = {"text": 'a "quoted" \\ line\n', "deep": [1, {"two": None}]}
    assert client.request("room:withreply", "echo", text) == ("ok", text)
    assert client.request("room:withreply", "fail", {"why": "asked"}) == ("error", {"why": "asked"})


def test_polling_and_websocket_clients_exchange_messages(
    client: PhoenixJs, native: PhoenixJs
) -> None:
    client.join("room:both")
    native.join("room:both")
    client.push("room:both", "new_msg", {"n": 1})
    assert native.message("room:both", "new_msg") == {"n": 1}
    assert client.message("room:both", "new_msg") == {"n": 1}
    native.push("room:both", "from", {"n": 2})
    assert client.message("room:both", "from") == {"n": 2}


def test_a_burst_is_answered_in_full_and_in_order(client: PhoenixJs, how: dict[str, Any]) -> None:
    # 1.7 puts everything into one batch, of which servers read no more than a hundred lines.
    size = 90 if how["package"] == "phoenix-1.7" else 250
    client.join("room:burst")
    numbers = [client.push("room:burst", "echo", {"n": n}) for n in range(size)]
    assert [client.reply(number) for number in numbers] == [("ok", {"n": n}) for n in range(size)]


def test_a_crashed_channel_is_rejoined(client: PhoenixJs) -> None:
    client.join("room:crash")
    client.join("room:beside")
    client.push("room:crash", "boom")
    client.expect("message", topic="room:crash", event="phx_error")
    assert client.request("room:beside", "echo", {"n": 1}) == ("ok", {"n": 1})
    meanwhile = client.push("room:crash", "echo", {"n": 2})
    assert client.joined("room:crash") == ("ok", {})
    assert client.reply(meanwhile) == ("ok", {"n": 2})
    assert client.seen("close") == []


def test_a_leave_is_confirmed(client: PhoenixJs) -> None:
    client.join("room:left")
    client.tell("leave", topic="room:left")
    assert client.expect("leave", topic="room:left")["status"] == "ok"
    assert client.join("room:left") == ("ok", {})


def test_phoenix_js_rejoins_after_a_server_is_killed_and_restarted(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    with (
        serving("examples.conformance", tmp_path) as server,
        connected(server.socket_url, **how) as client,
    ):
        client.join("room:one")
        client.join("room:two")
        server.kill()
        client.expect("close")
        meanwhile = client.push("room:one", "echo", {"n": 1})
        server.start()
        client.expect("open")
        assert client.joined("room:one") == ("ok", {})
        assert client.joined("room:two") == ("ok", {})
        assert client.reply(meanwhile) == ("ok", {"n": 1})


def test_a_stopping_server_answers_its_polls_and_clients_rejoin_after_its_restart(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    with (
        serving("examples.conformance", tmp_path) as server,
        connected(server.socket_url, **how) as client,
    ):
        client.join("room:one")
        assert server.stop() == 0
        client.expect("close")
        server.start()
        client.expect("open")
        assert client.joined("room:one") == ("ok", {})


# Features of recent clients


@pytest.fixture(params=["phoenix", pytest.param("phoenix-1.7", marks=pytest.mark.deep)])
def modern(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"package": request.param, "xhr": request.param != "phoenix"}


def test_binary_payloads_reach_the_server_whole(
    conformance: Server, modern: dict[str, Any]
) -> None:
    with connected(conformance.socket_url, transport="longpoll", **modern) as client:
        client.join("room:binary")
        for data in (b"", b"\x00", bytes(range(256)), b"\n[\r\n" * 1000):
            number = client.push_bytes("room:binary", "bytes", data)
            assert client.reply(number) == ("ok", {"bytes": list(data)})


def test_a_connection_that_is_refused_is_closed_with_1008(
    conformance: Server, modern: dict[str, Any]
) -> None:
    params = {"token": "deny"}
    with PhoenixJs(conformance.socket_url, transport="longpoll", params=params, **modern) as client:
        client.tell("connect")
        assert client.expect("close")["code"] == 1008
        assert client.seen("open") == []


@pytest.mark.parametrize("mode", ["refuse", "swallow"])
def test_phoenix_js_polls_if_websockets_are_broken(
    conformance: Server, modern: dict[str, Any], mode: Mode
) -> None:
    with (
        breaking_upgrades(conformance.port, mode) as proxy,
        PhoenixJs(proxy.socket_url, longPollFallbackMs=1000, **modern) as client,
    ):
        client.tell("connect")
        client.expect("open")
        assert proxy.broken >= 1
        assert client.join("room:fallback") == ("ok", {})
        assert client.request("room:fallback", "echo", {"n": 1}) == ("ok", {"n": 1})


def test_phoenix_js_does_not_poll_if_websockets_work(
    conformance: Server, modern: dict[str, Any]
) -> None:
    with connected(conformance.socket_url, longPollFallbackMs=PATIENCE * 1000, **modern) as client:
        assert client.join("room:fallback") == ("ok", {})
        number = client.push_bytes("room:fallback", "echo", b"\x00\xff")
        # A binary reply: no poll could bring it.
        assert client.reply(number) == ("ok", {"bytes": [0, 255]})
