"""The unmodified phoenix.js, of today and of the 1.7 series, on a server of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.phoenix_js import PhoenixJs, connected
from tests.integration.servers import Server, serving


# Each run tries 1.7 on a durable topic. Its other scenarios are those of the newest client.
@pytest.fixture(params=["phoenix", pytest.param("phoenix-1.7", marks=pytest.mark.deep)])
def package(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(conformance: Server, package: str) -> Iterator[PhoenixJs]:
    with connected(conformance.socket_url, package) as client:
        yield client


@pytest.fixture
def other(conformance: Server, package: str) -> Iterator[PhoenixJs]:
    with connected(conformance.socket_url, package) as client:
        yield client


def test_a_join_is_answered_with_the_result_of_the_channel(client: PhoenixJs) -> None:
    assert client.join("room:plain") == ("ok", {})
    answer = {"hello": "world", "params": {"user": "ann"}}
    assert client.join("room:withreply", {"user": "ann"}) == ("ok", answer)


def test_a_join_that_is_refused_is_answered_with_the_reason(client: PhoenixJs) -> None:
    assert client.join("room:deny") == ("error", {"reason": "unauthorized"})


def test_a_join_that_raises_or_has_no_route_is_answered_with_an_error(client: PhoenixJs) -> None:
    assert client.join("room:joinboom") == ("error", {"reason": "join crashed"})
    assert client.join("nowhere:at-all") == ("error", {"reason": "unmatched topic"})


def test_a_push_is_answered_with_the_status_and_payload_of_its_reply(client: PhoenixJs) -> None:
    client.join("room:replies")
    text = {"text": "žluťoučký kůň 🐎", "deep": [1, {"two": None}]}
    assert client.request("room:replies", "echo", text) == ("ok", text)
    assert client.request("room:replies", "ping") == ("ok", {})
    assert client.request("room:replies", "fail", {"why": "asked"}) == ("error", {"why": "asked"})


def test_replies_to_pushes_in_flight_find_their_own_push(client: PhoenixJs) -> None:
    client.join("room:flight")
    numbers = [client.push("room:flight", "echo", {"n": n}) for n in range(50)]
    answers = [client.reply(number) for number in reversed(numbers)]
    assert answers == [("ok", {"n": n}) for n in reversed(range(50))]


def test_a_broadcast_reaches_every_member_and_broadcast_from_all_except_its_sender(
    client: PhoenixJs, other: PhoenixJs
) -> None:
    client.join("room:many")
    other.join("room:many")
    other.join("room:elsewhere")
    client.push("room:many", "from", {"n": 1})
    client.push("room:many", "new_msg", {"n": 2})
    assert other.message("room:many", "from") == {"n": 1}
    assert other.message("room:many", "new_msg") == {"n": 2}
    assert client.message("room:many", "new_msg") == {"n": 2}
    # The reply to a later request comes after all that was sent before it.
    client.request("room:many", "ping")
    other.request("room:elsewhere", "ping")
    assert client.seen("message", topic="room:many") == []
    assert other.seen("message", topic="room:elsewhere") == []


def test_a_server_push_reaches_the_one_client_that_asked_for_it(
    client: PhoenixJs, other: PhoenixJs
) -> None:
    client.join("room:pushed")
    other.join("room:pushed")
    client.push("room:pushed", "push", {"n": 1})
    assert client.message("room:pushed", "pushed") == {"n": 1}
    other.request("room:pushed", "ping")
    assert other.seen("message", topic="room:pushed") == []


def test_phoenix_js_rejoins_a_crashed_channel_after_its_own_backoff(
    client: PhoenixJs, other: PhoenixJs
) -> None:
    client.join("room:crash")
    client.join("room:beside")
    other.join("room:crash")
    client.push("room:crash", "boom")
    crashed = client.expect("message", topic="room:crash", event="phx_error")
    assert crashed["payload"] == {"reason": "channel_crash"}

    # Meanwhile its other channel and the other member of the room still work.
    assert client.request("room:beside", "echo", {"n": 1}) == ("ok", {"n": 1})
    assert other.request("room:crash", "echo", {"n": 2}) == ("ok", {"n": 2})
    meanwhile = client.push("room:crash", "echo", {"n": 3})  # kept by phoenix.js until it is back

    rejoined = client.expect("join", topic="room:crash")
    assert rejoined["status"] == "ok", "the first try failed"
    # One second is phoenix.js's first wait.
    assert rejoined["at"] - crashed["at"] > 950
    assert client.reply(meanwhile) == ("ok", {"n": 3})
    other.push("room:crash", "new_msg", {"n": 4})
    assert client.message("room:crash", "new_msg") == {"n": 4}
    assert other.message("room:crash", "new_msg") == {"n": 4}
    assert other.seen("message", topic="room:crash") == []


def test_a_channel_that_stops_in_order_is_closed_and_not_rejoined(client: PhoenixJs) -> None:
    client.join("room:stop")
    assert client.request("room:stop", "stop_reply") == ("ok", {"bye": True})
    client.message("room:stop", "phx_close")
    # A topic that was left can be joined again by a new channel of the same client.
    assert client.join("room:stop") == ("ok", {})


def test_a_leave_is_confirmed_and_ends_the_broadcasts(client: PhoenixJs, other: PhoenixJs) -> None:
    client.join("room:left")
    other.join("room:left")
    client.tell("leave", topic="room:left")
    assert client.expect("leave", topic="room:left")["status"] == "ok"
    client.message("room:left", "phx_close")
    client.join("room:beside")
    assert client.request("room:beside", "ping") == ("ok", {})
    other.push("room:left", "new_msg", {"n": 1})
    assert other.message("room:left", "new_msg") == {"n": 1}
    client.request("room:beside", "ping")
    assert client.seen("message", topic="room:left") == []
    assert client.join("room:left") == ("ok", {})


def test_heartbeats_are_answered(conformance: Server, package: str) -> None:
    with connected(conformance.socket_url, package) as client:
        client.join("room:alive")
        # By its own clock phoenix.js sends one every half minute, and closes if that has no answer until the next.
        for _ in range(4):
            client.tell("heartbeat")
            assert client.expect("heartbeat")["status"] == "ok"
        assert client.request("room:alive", "ping") == ("ok", {})
        assert client.seen("close") == []
        assert client.seen("message") == []


def test_a_connection_that_is_refused_never_opens(conformance: Server, package: str) -> None:
    with PhoenixJs(conformance.socket_url, package, params={"token": "deny"}) as client:
        client.tell("connect")
        # phoenix.js tries again and again, and is refused every time.
        for _ in range(3):
            assert client.expect("close")["code"] == 1006
        client.tell("ping")
        client.expect("not open")


@pytest.mark.parametrize("transport", ["websocket", "longpoll"])
def test_phoenix_js_connects_with_new_params_after_its_connection_has_expired(
    conformance: Server, package: str, transport: str
) -> None:
    connects = [{}, {"token": "deny"}, {}]
    options = {"transport": transport, "paramsOfConnects": connects, "reconnectAfter": [10]}
    with connected(conformance.socket_url, package, **options) as client:
        assert client.join("room:kept") == ("ok", {})
        client.push("room:kept", "expire", {"seconds": 0})
        assert client.expect("close")["code"] == (3000 if transport == "websocket" else 3410)
        # The server refuses the second params. So phoenix.js has called `params` again.
        assert client.expect("close")["code"] == (1006 if transport == "websocket" else 1008)
        client.expect("open")
        assert client.joined("room:kept") == ("ok", {})
        assert client.request("room:kept", "ping") == ("ok", {})


def test_phoenix_js_rejoins_after_a_server_is_killed_and_restarted(
    tmp_path: Path, package: str
) -> None:
    with (
        serving("examples.conformance", tmp_path) as server,
        connected(server.socket_url, package) as client,
    ):
        client.join("room:one")
        client.join("room:two")
        server.kill()
        client.expect("close", code=1006)
        meanwhile = client.push("room:one", "echo", {"n": 1})
        server.start()
        client.expect("open")
        assert client.joined("room:one") == ("ok", {})
        assert client.joined("room:two") == ("ok", {})
        assert client.reply(meanwhile) == ("ok", {"n": 1})
        client.push("room:two", "new_msg", {"n": 2})
        assert client.message("room:two", "new_msg") == {"n": 2}


def test_phoenix_js_rejoins_after_an_orderly_restart(tmp_path: Path, package: str) -> None:
    with (
        serving("examples.conformance", tmp_path) as server,
        connected(server.socket_url, package) as client,
    ):
        client.join("room:one")
        server.stop()
        client.expect("close")
        server.start()
        client.expect("open")
        assert client.joined("room:one") == ("ok", {})
