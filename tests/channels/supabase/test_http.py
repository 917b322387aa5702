"""Broadcasts over HTTP: the two routes of supabase, their answers, and pages of other origins."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.channels.conftest import Serve
from tests.channels.supabase.clients import (
    APIKEY,
    Realtime,
    endpoint_of,
    raw,
    room_of,
    said,
    token,
)
from tests.channels.support import Answer, Server, settle

WRITER = token("writer")
BASE = "/realtime/v1/api/broadcast"
SINGLE = f"{BASE}/lobby/events/cursor"


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve(endpoint_of())


async def post(
    server: Server,
    path: str,
    body: Any,
    *,
    bearer: str = APIKEY,
    method: str = "POST",
    **headers: str,
) -> Answer:
    """Send a request. A name with an underscore is a header with a hyphen."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    every = {"host": "test", "content-length": str(len(data)), "connection": "close"}
    if bearer:
        every["authorization"] = f"Bearer {bearer}"
    every |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in every.items())
    client = await server.accept()
    client.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + data)
    for _ in range(20):
        await settle()
        answer = client.answer()
        if answer is not None:
            return answer
    raise AssertionError("no answer")


async def test_a_message_reaches_the_clients_of_the_topic(server: Server) -> None:
    client = await Realtime.open(server)
    await client.join("realtime:a/b c")
    answer = await post(server, f"{BASE}/a%2Fb%20c/events/cur%2Fsor", {"x": 1})
    assert answer.status == 202
    assert await client.heard() == [said("cur/sor", {"x": 1})]


async def test_raw_bytes_reach_clients_of_version_2(server: Server) -> None:
    client = await Realtime.open(server)
    await client.join()
    answer = await post(server, SINGLE, b"\x00\xff", content_type="application/octet-stream")
    assert answer.status == 202
    assert await client.heard() == [raw("cursor", b"\x00\xff")]


async def test_a_batch_reaches_its_topics_and_drops_private_messages_without_permission(
    server: Server,
) -> None:
    ann, bob = await Realtime.open(server), await Realtime.open(server)
    await ann.join()
    await bob.join(private=True, access_token=WRITER)
    message = {"topic": "lobby", "event": "a", "payload": {"x": 1}}
    batch = {"messages": [message, {**message, "private": True}]}
    assert (await post(server, BASE, batch)).status == 202
    assert await ann.heard() == [said("a", {"x": 1})]
    assert await bob.heard() == []
    assert (await post(server, BASE, batch, bearer=WRITER)).status == 202
    assert await bob.heard() == [said("a", {"x": 1})]


async def test_a_private_message_needs_the_permission_to_write(server: Server) -> None:
    client = await Realtime.open(server)
    await client.join(private=True, access_token=WRITER)
    refused = await post(server, f"{SINGLE}?private=true", {}, bearer=token("reader"))
    assert (refused.status, refused.body) == (403, b'{"error":"Unauthorized"}')
    assert (await post(server, f"{SINGLE}?private=true", {}, bearer=WRITER)).status == 202
    assert await client.heard() == [said("cursor", {})]


async def test_a_stored_message_arrives_live_and_again_at_a_later_join(server: Server) -> None:
    ann, bob = await Realtime.open(server), await Realtime.open(server)
    private: dict[str, Any] = {"private": True, "access_token": WRITER}
    await ann.join(**private)
    path = f"{SINGLE}?private=true&persist=true"
    assert (await post(server, path, {"x": 1}, bearer=WRITER)).status == 202
    ((_, live),) = await ann.heard()
    assert live["payload"] == {"x": 1}
    broadcast = {"ack": False, "self": False, "replay": {"since": 0}}
    _, (_, again) = await bob.join(**private, broadcast=broadcast)
    assert again == {**live, "meta": {**live["meta"], "replayed": True}}


@pytest.mark.parametrize("headers", [{}, {"authorization": "Basic x"}, {"apikey": "x"}])
async def test_a_request_without_a_valid_token_gets_401(
    server: Server, headers: dict[str, str]
) -> None:
    answer = await post(server, SINGLE, {}, bearer="", **headers)
    assert (answer.status, answer.body) == (401, b'{"error":"Unauthorized"}')


async def test_the_api_key_is_enough_without_a_bearer_token(server: Server) -> None:
    assert (await post(server, SINGLE, {}, bearer="", apikey=APIKEY)).status == 202


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        (SINGLE, {}, {"content_type": "text/plain"}, 415),
        (SINGLE, b"{", {}, 422),
        (f"{BASE}//events/a", {}, {}, 422),
        (f"{BASE}/lobby/events/", {}, {}, 422),
        (f"{BASE}/lobby/cursor", {}, {}, 422),
        (
            f"{BASE}/lobby/events/{'x' * 300}",
            b"",
            {"content_type": "application/octet-stream"},
            422,
        ),
        (BASE, {"messages": [{"topic": "lobby", "event": "a"}]}, {}, 422),
        (BASE, {"messages": [{"topic": "lobby", "event": "a", "payload": 7}]}, {}, 422),
        (BASE, {"messages": [{"topic": "a", "event": "a", "payload": {}}] * 101}, {}, 422),
        (f"{SINGLE}?persist=true", {}, {}, 422),
        (SINGLE, b"x" * 70_000, {}, 413),
    ],
)
async def test_a_wrong_request_gets_an_error_with_a_text(
    server: Server, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    answer = await post(server, path, body, **headers)
    assert answer.status == status
    assert json.loads(answer.body)["error"]


async def test_too_many_messages_of_a_token_get_429(serve: Serve) -> None:
    endpoint = endpoint_of(max_http=0.1)
    server = await serve(endpoint)
    assert (await post(server, SINGLE, {})).status == 202
    answer = await post(server, SINGLE, {})
    assert (answer.status, answer.headers["retry-after"]) == (429, "10")
    assert (await post(server, SINGLE, {}, bearer=WRITER)).status == 202


async def test_a_server_of_private_channels_refuses_public_messages(serve: Serve) -> None:
    server = await serve(endpoint_of(private_only=True))
    assert (await post(server, SINGLE, {})).status == 403


async def test_a_page_of_another_origin_may_send(server: Server) -> None:
    origin = "https://example.org"
    asked = {
        "access_control_request_method": "POST",
        "access_control_request_headers": "apikey,authorization,content-type",
    }
    preflight = await post(server, SINGLE, b"", bearer="", method="OPTIONS", origin=origin, **asked)
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    assert preflight.headers["access-control-allow-headers"] == "apikey,authorization,content-type"
    answer = await post(server, SINGLE, {}, origin=origin)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (202, origin)
    # A page can read the reason of a refusal too.
    refused = await post(server, SINGLE, {}, bearer="", origin=origin)
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, origin)


async def test_the_permission_to_write_is_asked_for_the_topic_without_its_prefix(
    server: Server,
) -> None:
    await post(server, f"{SINGLE}?private=true", {})
    assert room_of(server.endpoint).asked == [("write", "lobby")]


async def test_other_methods_get_405(server: Server) -> None:
    assert (await post(server, SINGLE, b"", method="GET")).status == 405


@pytest.mark.parametrize("answer", [1, "yes", None])
async def test_only_true_is_a_yes(serve: Serve, answer: Any) -> None:
    async def authorize(action: str, topic: str, claims: Any) -> Any:
        return answer

    server = await serve(endpoint_of(authorize=staticmethod(authorize)))
    assert (await post(server, f"{SINGLE}?private=true", {})).status == 403
