"""Tests of the room. Copy this file to test your own rooms."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from channels.pytest_plugin import OpenChannelTest
from channels.supabase import sign_jwt
from channels.testing import ChannelTest, TestChannel

from .notices import INTERVAL
from .server import SECRET, Room, endpoint

TOPIC = "realtime:lobby"


def token(role: str) -> str:
    return sign_jwt(SECRET, {"role": role, "exp": time.time() + 60})


@pytest.fixture
async def case(
    channel_test: OpenChannelTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> ChannelTest:
    monkeypatch.chdir(tmp_path)
    return await channel_test(endpoint)


async def join(case: ChannelTest, role: str, **config: Any) -> tuple[Any, TestChannel]:
    client = await case.connect("/realtime/v1", {"apikey": token("anon")})
    payload = {"config": {"private": True, **config}, "access_token": token(role)}
    return await client.join(TOPIC, payload)


async def test_a_visitor_may_not_enter(case: ChannelTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Room, "refusal_delay", 0.0)
    answer, _ = await join(case, "anon")
    assert answer.response["reason"].startswith("Unauthorized: ")


async def test_a_message_of_one_user_reaches_the_others(case: ChannelTest) -> None:
    _, ann = await join(case, "authenticated", broadcast={"ack": True})
    _, bob = await join(case, "authenticated")
    message = {"type": "broadcast", "event": "cursor", "payload": {"x": 1}}
    ref = ann.push("broadcast", message)
    await ann.assert_reply(ref, "ok")
    await bob.assert_push("broadcast", message)


async def test_a_change_of_the_table_reaches_the_users(case: ChannelTest) -> None:
    changes = [{"event": "INSERT", "schema": "public", "table": "notices"}]
    answer, ann = await join(case, "authenticated", postgres_changes=changes)
    assert answer.response == {"postgres_changes": [{**changes[0], "id": 1}]}
    with closing(sqlite3.connect("notices.db")) as database, database:
        database.execute("insert into notices (text) values ('Lunch')")
    await ann.assert_push(
        "postgres_changes",
        lambda payload: payload["data"]["record"] == {"id": 1, "text": "Lunch"},
        timeout=2 * INTERVAL,
    )
