"""Stored messages of private channels: who stores them, who gets them again, and nothing twice."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from channels.durable import History
from channels.supabase.channel import stored_broadcast
from channels.supabase.serializers import PRIVATE as PREFIX_OF_PRIVATE
from tests.channels.conftest import Serve
from tests.channels.supabase.clients import (
    JOINED,
    Realtime,
    endpoint_of,
    error,
    ok,
    room_of,
    token,
)
from tests.channels.support import Server

PRIVATE: dict[str, Any] = {"private": True, "access_token": token("writer")}
STORED = f"{PREFIX_OF_PRIVATE}realtime:lobby"


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve(endpoint_of())


def bodies(heard: list[Any]) -> list[Any]:
    """Return the payloads of broadcasts."""
    return [payload["payload"] for event, payload in heard if event == "broadcast"]


def replay(since: float = 0, limit: int = 25, **more: Any) -> dict[str, Any]:
    return {"ack": False, "self": False, "replay": {"since": since, "limit": limit}, **more}


async def test_a_stored_message_arrives_live_once_and_not_at_its_sender(server: Server) -> None:
    ann, bob = await Realtime.open(server), await Realtime.open(server)
    await ann.join(**PRIVATE, broadcast={"ack": True, "self": False})
    await bob.join(**PRIVATE)
    for number in (1, 2):
        ann.shout("chat", number, persist=True)
    assert await ann.heard() == [ok(), ok()]
    heard = await bob.heard()
    assert bodies(heard) == [1, 2]
    assert list(heard[0][1]["meta"]) == ["id"]


async def test_a_sender_that_asks_for_its_own_messages_gets_the_stored_ones(server: Server) -> None:
    ann = await Realtime.open(server)
    await ann.join(**PRIVATE, broadcast={"ack": False, "self": True})
    ann.shout("chat", 1, persist=True)
    assert bodies(await ann.heard()) == [1]


async def test_a_client_that_asks_for_it_gets_the_newest_messages_again_after_its_join(
    server: Server,
) -> None:
    ann, bob = await Realtime.open(server), await Realtime.open(server)
    await ann.join(**PRIVATE)
    for number in range(5):
        ann.shout("chat", number, persist=True)
    ann.shout("cursor", "not stored")
    await ann.heard()
    first, *heard = await bob.join(**PRIVATE, broadcast=replay(limit=3))
    assert first == JOINED
    assert bodies(heard) == [2, 3, 4]
    for _, payload in heard:
        assert payload["meta"]["replayed"] is True
        assert UUID(payload["meta"]["id"]).version == 7
    ann.shout("chat", 5, persist=True)
    assert bodies(await bob.heard()) == [5]


async def test_a_client_gets_no_message_before_its_time(server: Server) -> None:
    history: History = room_of(server.endpoint).messages
    old, new = stored_broadcast("chat", "old"), stored_broadcast("chat", "new")
    new["meta"]["id"] = str(UUID(int=UUID(new["meta"]["id"]).int + (60_000 << 80)))
    for each in (old, new):
        await history.append(STORED, "broadcast", each)
    since = (UUID(new["meta"]["id"]).int >> 80) - 1
    client = await Realtime.open(server)
    assert bodies(await client.join(**PRIVATE, broadcast=replay(since))) == ["new"]


@pytest.mark.parametrize("limit", [-1, 0])
async def test_a_limit_below_one_replays_nothing(server: Server, limit: int) -> None:
    client = await Realtime.open(server)
    await room_of(server.endpoint).messages.append(STORED, "broadcast", stored_broadcast("a", 1))
    assert await client.join(**PRIVATE, broadcast=replay(limit=limit)) == [JOINED]


async def test_a_client_replays_at_most_the_maximum_of_the_server(server: Server) -> None:
    history: History = room_of(server.endpoint).messages
    for number in range(30):
        await history.append(STORED, "broadcast", stored_broadcast("chat", number))
    client = await Realtime.open(server, "1.0.0")
    got = bodies(await client.join(**PRIVATE, broadcast=replay(limit=100)))
    assert got == list(range(5, 30))


async def test_messages_of_public_channels_are_not_stored_and_not_replayed(server: Server) -> None:
    client = await Realtime.open(server)
    await client.join()
    client.shout("chat", 1, persist=True)
    client.send("phx_leave", {})
    await client.heard()
    assert room_of(server.endpoint).messages.statistics()["messages"] == 0
    text = "UnableToReplayMessages: Replay is not allowed for public channels"
    assert await client.join(broadcast=replay()) == [error({"reason": text})]


async def test_raw_bytes_cannot_be_stored(server: Server) -> None:
    client = await Realtime.open(server)
    await client.join(**PRIVATE, broadcast={"ack": True, "self": False})
    client.shout("photo", b"\x00", persist=True)
    assert await client.heard() == [error({"error": "only JSON payloads can be stored"})]


async def test_a_message_that_the_history_refuses_gets_an_error(serve: Serve) -> None:
    history = History(max_bytes=100)
    endpoint = endpoint_of(messages=history)
    server = await serve(endpoint)
    client = await Realtime.open(server)
    await client.join(**PRIVATE, broadcast={"ack": True, "self": False})
    client.shout("chat", "x" * 200, persist=True)
    ((event, reply),) = await client.heard()
    assert (event, reply["status"]) == ("phx_reply", "error")


async def test_a_push_with_a_key_is_a_broadcast_like_any_other(server: Server) -> None:
    client = await Realtime.open(server, "1.0.0")
    await client.join(**PRIVATE, broadcast={"ack": True, "self": False})
    client.send("broadcast", {"type": "broadcast", "event": "a", "payload": {}, "_key": "7"})
    assert await client.heard() == [ok()]
