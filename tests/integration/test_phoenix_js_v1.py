"""The last phoenix.js that speaks the first version of the protocol, 1.2, with a server of ours.

By polling it understands no server since Phoenix 1.3, which hands out messages as text, where before they were JSON; so
there it borrows the transport of phoenix.js 1.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.phoenix_js import PhoenixJs, connected
from tests.integration.servers import Server

TRANSPORTS: dict[str, dict[str, Any]] = {
    "websocket": {},
    "longpoll": {"transport": "longpoll", "longPollOf": "phoenix-1.3", "xhr": True},
}


@pytest.fixture(params=TRANSPORTS)
def client(conformance: Server, request: pytest.FixtureRequest) -> Iterator[PhoenixJs]:
    with connected(conformance.socket_url, "phoenix-1.2", **TRANSPORTS[request.param]) as client:
        yield client


@pytest.fixture
def modern(conformance: Server) -> Iterator[PhoenixJs]:
    with connected(conformance.socket_url) as client:
        yield client


def test_joins_and_pushes_are_answered(client: PhoenixJs) -> None:
    answer = {"hello": "world", "params": {"user": "ann"}}
    assert client.join("room:withreply", {"user": "ann"}) == ("ok", answer)
    assert client.join("room:deny") == ("error", {"reason": "unauthorized"})
    assert client.request("room:withreply", "echo", {"text": "ä"}) == ("ok", {"text": "ä"})
    assert client.request("room:withreply", "fail", {"why": "asked"}) == ("error", {"why": "asked"})


def test_both_versions_of_the_protocol_share_a_topic(client: PhoenixJs, modern: PhoenixJs) -> None:
    client.join("room:versions")
    modern.join("room:versions")
    client.push("room:versions", "new_msg", {"n": 1})
    assert modern.message("room:versions", "new_msg") == {"n": 1}
    assert client.message("room:versions", "new_msg") == {"n": 1}
    modern.push("room:versions", "from", {"n": 2})
    assert client.message("room:versions", "from") == {"n": 2}
    client.push("room:versions", "push", {"n": 3})
    assert client.message("room:versions", "pushed") == {"n": 3}


def test_a_crashed_channel_is_rejoined(client: PhoenixJs) -> None:
    client.join("room:crash")
    client.push("room:crash", "boom")
    client.expect("message", topic="room:crash", event="phx_error")
    assert client.joined("room:crash") == ("ok", {})
    assert client.request("room:crash", "ping") == ("ok", {})


def test_a_leave_is_confirmed_and_ends_the_broadcasts(client: PhoenixJs, modern: PhoenixJs) -> None:
    client.join("room:left")
    client.join("room:beside")
    modern.join("room:left")
    client.tell("leave", topic="room:left")
    assert client.expect("leave", topic="room:left")["status"] == "ok"
    client.message("room:left", "phx_close")
    assert client.request("room:beside", "ping") == ("ok", {})
    modern.push("room:left", "new_msg", {"n": 1})
    assert modern.message("room:left", "new_msg") == {"n": 1}
    assert client.request("room:beside", "ping") == ("ok", {})
    assert client.seen("message", topic="room:left", event="new_msg") == []
