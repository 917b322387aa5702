"""What the server does for supabase's clients, byte for byte on a virtual clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from channels.supabase.serializers import PRIVATE
from tests.channels.conftest import Serve
from tests.channels.supabase.clients import (
    APIKEY,
    JOINED,
    TOPIC,
    Realtime,
    endpoint_of,
    error,
    ok,
    pushed,
    raw,
    room_of,
    said,
    socket_of,
    system,
    token,
)
from tests.channels.support import Close, Server, head, settle

BOTH = pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
ACK = {"ack": True, "self": False}
SELF = {"ack": False, "self": True}
CLOSED: tuple[str, Any] = ("phx_close", {})


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve(endpoint_of())


# Connecting


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "API key is missing"),
        ("apikey=nonsense", "The token provided is not a valid JWT"),
        (f"apikey={APIKEY[:-4]}AAAA", "Failed to validate JWT signature"),
        (f"apikey={token(role=None)}", "Fields `role` and `exp` are required in JWT"),  # type: ignore[arg-type]
    ],
)
async def test_a_client_without_a_valid_api_key_gets_401_with_the_reason(
    server: Server, query: str, text: str
) -> None:
    client = await server.accept()
    client.write(head(f"/realtime/v1/websocket?vsn=2.0.0&{query}"))
    await settle()
    answer = client.answer()
    assert answer is not None
    assert (answer.status, answer.body.decode()) == (401, f'{{"error":"{text}"}}')


async def test_an_expired_api_key_gets_401_with_its_age(server: Server) -> None:
    client = await server.accept()
    client.write(head(f"/realtime/v1/websocket?apikey={token(seconds=-7)}"))
    await settle()
    answer = client.answer()
    assert answer is not None
    assert (answer.status, answer.body) == (401, b'{"error":"Token has expired 7 seconds ago"}')


async def test_the_header_x_api_key_goes_before_the_parameter(server: Server) -> None:
    client = await server.accept()
    client.write(
        head("/realtime/v1/websocket?apikey=nonsense").replace(
            b"\r\n\r\n", f"\r\nx-api-key: {APIKEY}\r\n\r\n".encode()
        )
    )
    await settle()
    answer = client.answer()
    assert answer is not None
    assert answer.status == 101


@BOTH
async def test_a_heartbeat_gets_a_reply(server: Server, vsn: str) -> None:
    client = await Realtime.open(server, vsn)
    client.send("heartbeat", {}, topic="phoenix")
    assert await client.heard() == [ok()]


async def test_a_malformed_message_is_dropped_counted_and_closes_nothing(server: Server) -> None:
    client = await Realtime.open(server)
    await client.join()
    for data in (
        b"",
        b"\x03",
        b"\x02junk",
        b"\x03\x09\x00\x00\x00\x00\x01{}",
        pushed("a", {}) + b"}",
    ):
        client.client.send_binary(data)
    client.client.write_text("[1, 2")
    assert await client.heard() == []
    client.send("heartbeat", {}, topic="phoenix")
    assert await client.heard() == [ok()]
    assert server.endpoint.statistics()["counts"]["phoenix", "socket_ignored"] == 6


# Broadcasts


@BOTH
async def test_a_broadcast_reaches_clients_of_both_versions_but_not_its_sender(
    server: Server, vsn: str
) -> None:
    ann, bob, carl = [await Realtime.open(server, each) for each in (vsn, "1.0.0", "2.0.0")]
    for each in (ann, bob, carl):
        assert await each.join() == [JOINED]
    ann.shout("cursor", {"x": 1})
    for each in (bob, carl):
        assert await each.heard() == [said("cursor", {"x": 1})]
    assert await ann.heard() == []


@BOTH
async def test_the_sender_gets_its_broadcast_and_a_reply_if_it_has_asked_for_them(
    server: Server, vsn: str
) -> None:
    client = await Realtime.open(server, vsn)
    await client.join(broadcast={"ack": True, "self": True})
    client.shout("cursor", {"x": 1})
    assert await client.heard() == [said("cursor", {"x": 1}), ok()]


async def test_a_raw_broadcast_reaches_clients_of_version_2_and_skips_those_of_version_1(
    server: Server,
) -> None:
    ann, bob, carl = [await Realtime.open(server, each) for each in ("2.0.0", "1.0.0", "2.0.0")]
    for each in (ann, bob, carl):
        await each.join(broadcast=ACK)
    crashes = server.crashes()
    ann.shout("photo", b"\x00\xff")
    assert await ann.heard() == [ok()]
    assert await bob.heard() == []
    assert await carl.heard() == [raw("photo", b"\x00\xff")]
    assert crashes == []


async def test_a_broadcast_above_the_limit_gets_an_error_only_with_ack(serve: Serve) -> None:
    server = await serve(endpoint_of(max_payload_bytes=20))
    ann, bob = await Realtime.open(server), await Realtime.open(server)
    await ann.join(broadcast=ACK)
    await bob.join()
    ann.shout("photo", "x" * 30)
    assert await ann.heard() == [error({"error": "payload_size_exceeded"})]
    bob.shout("photo", b"x" * 30)
    assert await bob.heard() == []
    assert await ann.heard() == []


async def test_too_many_messages_close_the_channel_with_a_system_message(serve: Serve) -> None:
    server = await serve(endpoint_of(max_messages_per_second=1.0))
    client = await Realtime.open(server)
    await client.join()
    for _ in range(11):
        client.shout("cursor", {})
    assert await client.heard() == [system("Too many messages per second"), CLOSED]


@pytest.mark.parametrize("payload", [None, "text", {}, {"event": 7}])
async def test_a_broadcast_without_an_event_gets_an_error(server: Server, payload: Any) -> None:
    client = await Realtime.open(server, "1.0.0")
    await client.join(broadcast=ACK)
    client.send("broadcast", payload)
    assert await client.heard() == [error({"error": "a broadcast needs the name of an event"})]


async def test_an_unknown_event_is_ignored(server: Server) -> None:
    client = await Realtime.open(server)
    await client.join()
    client.send("postgres_changes", {"event": "INSERT"})
    client.send("broadcast", {"event": "still here", "payload": {}})
    assert await client.heard() == []


# Joins


@pytest.mark.parametrize(
    ("topic", "reason"),
    [("realtime:", "TopicNameRequired: You must provide a topic name")],
)
async def test_a_topic_needs_a_name(server: Server, topic: str, reason: str) -> None:
    client = await Realtime.open(server)
    assert await client.join(topic) == [error({"reason": reason})]


async def test_a_refusal_waits_because_the_client_joins_again_at_once(serve: Serve) -> None:
    server = await serve(endpoint_of(refusal_delay=5.0, private_only=True))
    client = await Realtime.open(server)
    assert await client.join() == []
    await trio.sleep(5)
    refused = error({"reason": "PrivateOnly: This project only allows private channels"})
    assert await client.heard() == [refused]


async def test_a_refused_token_refuses_the_join_with_its_code(server: Server) -> None:
    client = await Realtime.open(server)
    expired = "InvalidJWTToken: Token has expired 7 seconds ago"
    assert await client.join(access_token=token(seconds=-7)) == [error({"reason": expired})]
    malformed = "MalformedJWT: The token provided is not a valid JWT"
    assert await client.join(access_token="a.b") == [error({"reason": malformed})]
    assert await client.join(access_token="sb_publishable_x") == [JOINED]


async def test_options_that_are_null_count_as_left_out(server: Server) -> None:
    client = await Realtime.open(server, "1.0.0")
    got = await client.join(broadcast=None, presence=None, private=None, postgres_changes=None)
    assert got == [JOINED]


async def test_a_channel_above_the_limit_gets_the_text_that_the_python_client_knows(
    serve: Serve,
) -> None:
    endpoint = endpoint_of()
    socket_of(endpoint).max_channels = 1
    server = await serve(endpoint)
    client = await Realtime.open(server)
    await client.join()
    full = error({"reason": "ChannelRateLimitReached: Too many channels"})
    assert await client.join("realtime:other") == [full]


async def test_joins_above_the_limit_get_the_text_that_the_python_client_knows(
    serve: Serve,
) -> None:
    endpoint = endpoint_of()
    socket = socket_of(endpoint)
    socket.max_channels, socket.max_joins_per_second = 1, 0.1
    server = await serve(endpoint)
    client = await Realtime.open(server)
    await client.join()
    limited = error({"reason": "ClientJoinRateLimitReached: Too many joins per second"})
    assert await client.join() == [limited]


# Presences


@BOTH
async def test_a_client_that_enables_presences_gets_the_state_and_then_diffs(
    server: Server, vsn: str
) -> None:
    ann, bob = await Realtime.open(server, vsn), await Realtime.open(server)
    enabled = {"key": "ann", "enabled": True}
    assert await ann.join(presence=enabled) == [JOINED, ("presence_state", {})]
    ann.send("presence", {"event": "track", "payload": {"at": 1}})
    await trio.sleep(0.1)
    reply, (event, diff) = await ann.heard()
    assert (reply, event) == (ok(), "presence_diff")
    assert diff["joins"]["ann"]["metas"][0]["at"] == 1
    _, (event, state) = await bob.join(presence={"key": "", "enabled": True})
    assert (event, list(state)) == ("presence_state", ["ann"])
    assert "phx_ref" in state["ann"]["metas"][0]


async def test_a_second_track_is_an_update_and_untrack_ends_it(server: Server) -> None:
    ann = await Realtime.open(server)
    await ann.join(presence={"key": "ann", "enabled": True})
    events = [("track", 1), ("TRACK", 2), ("untrack", None)]
    for event, at in events:
        ann.send("presence", {"event": event, "payload": {"at": at}})
        await trio.sleep(0.1)
    heard = await ann.heard()
    assert heard.count(ok()) == 3
    diffs = [payload for event, payload in heard if event == "presence_diff"]
    joins = [[m["at"] for m in diff["joins"].get("ann", {"metas": []})["metas"]] for diff in diffs]
    leaves = [
        [m["at"] for m in diff["leaves"].get("ann", {"metas": []})["metas"]] for diff in diffs
    ]
    assert (joins, leaves) == ([[1], [2], []], [[], [1], [2]])


async def test_wrong_presences_get_an_error(serve: Serve) -> None:
    server = await serve(endpoint_of())
    client = await Realtime.open(server)
    await client.join()
    client.send("presence", {"event": "track", "payload": "text"})
    client.send("presence", {"event": "dance"})
    client.send("presence", [])
    must = error({"reason": "Presence track payload must be a map"})
    assert await client.heard() == [must, error({}), error({})]


async def test_a_presence_that_is_too_large_closes_the_channel(server: Server) -> None:
    client = await Realtime.open(server)
    await client.join()
    client.send("presence", {"event": "track", "payload": {"text": "x" * 20_000}})
    assert await client.heard() == [system("Track message size exceeded"), CLOSED]


async def test_too_many_presence_calls_close_the_channel(server: Server) -> None:
    client = await Realtime.open(server)
    await client.join()
    for number in range(101):
        client.send("presence", {"event": "track", "payload": {"at": number}})
    heard = [each for each in await client.heard() if each[0] != "presence_diff"]
    assert heard[100:] == [system("Client presence rate limit exceeded"), CLOSED]


async def test_a_server_without_presences_refuses_track(serve: Serve) -> None:
    server = await serve(endpoint_of(presence=None))
    client = await Realtime.open(server)
    assert await client.join(presence={"key": "", "enabled": True}) == [JOINED]
    client.send("presence", {"event": "track", "payload": {}})
    assert await client.heard() == [error({"error": "this server tracks no presences"})]


# Tokens


async def test_a_channel_closes_when_its_token_expires(server: Server) -> None:
    client = await Realtime.open(server)
    await client.join(access_token=token(seconds=20))
    await trio.sleep(19)
    assert await client.heard() == []
    await trio.sleep(2)
    assert await client.heard() == [system("Token has expired 0 seconds ago"), CLOSED]


async def test_a_new_token_renews_the_lifetime_of_the_channel_without_a_reply(
    server: Server,
) -> None:
    client = await Realtime.open(server)
    await client.join(access_token=token(seconds=20))
    client.send("access_token", {"access_token": token(seconds=40)})
    await trio.sleep(39)
    assert await client.heard() == []
    await trio.sleep(2)
    assert await client.heard() == [system("Token has expired 0 seconds ago"), CLOSED]


@pytest.mark.parametrize("value", [None, 7, "sb_publishable_x"])
async def test_a_key_or_no_text_is_not_a_new_token(server: Server, value: Any) -> None:
    client = await Realtime.open(server)
    await client.join()
    client.send("access_token", {"access_token": value})
    client.send("access_token", [])
    assert await client.heard() == []


async def test_an_invalid_new_token_closes_the_channel(server: Server) -> None:
    client = await Realtime.open(server)
    await client.join()
    client.send("access_token", {"access_token": token(seconds=-7)})
    assert await client.heard() == [system("Token has expired 7 seconds ago"), CLOSED]


# Private channels


async def test_private_and_public_channels_of_a_name_are_separate(server: Server) -> None:
    ann, bob, carl = [await Realtime.open(server) for _ in range(3)]
    for each in (ann, bob):
        await each.join(private=True, access_token=token("writer"))
    await carl.join()
    ann.shout("cursor", {"x": 1})
    ann.shout("photo", b"\x00")
    carl.shout("cursor", {"x": 2})
    assert await bob.heard() == [said("cursor", {"x": 1}), raw("photo", b"\x00")]
    assert await carl.heard() == []
    assert await ann.heard() == []


async def test_presences_of_private_and_public_channels_are_separate(server: Server) -> None:
    ann, bob = await Realtime.open(server), await Realtime.open(server)
    enabled = {"key": "ann", "enabled": True}
    await ann.join(private=True, access_token=token("writer"), presence=enabled)
    ann.send("presence", {"event": "track", "payload": {}})
    await trio.sleep(0.1)
    assert [each[0] for each in await ann.heard()] == ["phx_reply", "presence_diff"]
    assert await bob.join(presence=enabled) == [JOINED, ("presence_state", {})]


async def test_a_client_that_may_not_read_cannot_join_a_private_channel(server: Server) -> None:
    client = await Realtime.open(server)
    text = "Unauthorized: You do not have permissions to read from this Channel topic: lobby"
    assert await client.join(private=True) == [error({"reason": text})]


async def test_a_client_that_may_not_write_joins_and_its_broadcasts_are_dropped(
    server: Server,
) -> None:
    ann, bob = await Realtime.open(server), await Realtime.open(server)
    await bob.join(private=True, access_token=token("writer"))
    assert await ann.join(private=True, broadcast=ACK, access_token=token("reader")) == [JOINED]
    ann.shout("cursor", {})
    ann.shout("cursor", {})
    ann.send("presence", {"event": "track", "payload": {}})
    assert await ann.heard() == [error({})]
    assert await bob.heard() == []
    # The answer holds until the next token.
    asked = room_of(server.endpoint).asked
    assert asked.count(("write", "lobby")) == 1
    ann.send("access_token", {"access_token": token("writer")})
    ann.shout("cursor", {})
    assert await ann.heard() == [ok()]
    assert await bob.heard() == [said("cursor", {})]


async def test_a_new_token_that_may_not_read_closes_the_channel(server: Server) -> None:
    client = await Realtime.open(server)
    await client.join(private=True, access_token=token("reader"))
    client.send("access_token", {"access_token": token("anon")})
    text = "You no longer have permission to read from this Channel topic: lobby"
    assert await client.heard() == [system(text), CLOSED]


@pytest.mark.parametrize("answer", [1, "yes", None, object()])
async def test_only_true_is_a_yes(serve: Serve, answer: Any) -> None:
    async def authorize(action: str, topic: str, claims: Any) -> Any:
        return answer

    server = await serve(endpoint_of(authorize=staticmethod(authorize)))
    client = await Realtime.open(server)
    ((_, reply),) = await client.join(private=True)
    assert reply["response"]["reason"].startswith("Unauthorized: ")


async def test_an_exception_in_authorize_refuses_the_join(serve: Serve) -> None:
    async def authorize(action: str, topic: str, claims: Any) -> bool:
        raise RuntimeError("the database is away")

    server = await serve(endpoint_of(authorize=staticmethod(authorize)))
    client = await Realtime.open(server)
    assert await client.join(private=True) == [error({"reason": "join crashed"})]


async def test_no_route_lets_a_client_join_the_topic_of_a_private_channel(server: Server) -> None:
    client = await Realtime.open(server)
    assert await client.join(f"{PRIVATE}{TOPIC}") == [error({"reason": "unmatched topic"})]


# The end


async def test_a_leave_gets_a_reply_and_a_close(server: Server) -> None:
    client = await Realtime.open(server)
    await client.join(private=True, access_token=token("writer"))
    client.send("phx_leave", {})
    assert await client.heard() == [ok(), CLOSED]


async def test_a_server_that_drains_closes_with_a_code_after_which_the_clients_reconnect(
    server: Server,
) -> None:
    client = await Realtime.open(server)
    await client.join()
    await server.stop()
    await settle()
    codes = [each.code for each in client.client.frames() if isinstance(each, Close)]
    assert codes == [1012]
