"""`postgres_changes`: entries of joins, filters, and rows that a client may not see."""

from __future__ import annotations

from typing import Any

import pytest

from channels.supabase import Change, Changes
from channels.supabase.changes import Subscription
from tests.channels.conftest import Serve
from tests.channels.supabase.clients import Realtime, endpoint_of, error, ok, system, token
from tests.channels.support import Server

ALL = {"event": "*", "schema": "public", "table": "notices"}
ROW = {"id": 7, "title": "hello", "urgent": True}


def change(type: str = "INSERT", table: str = "notices", **more: Any) -> Change:
    return Change(type=type, table=table, record=ROW, columns={"id": "int8"}, **more)  # type: ignore[arg-type]


def may_select(change: Change, claims: Any) -> bool:
    return change.table == "notices" or claims["role"] == "writer"


@pytest.fixture
def changes() -> Changes:
    return Changes(may_select)


@pytest.fixture
async def server(serve: Serve, changes: Changes) -> Server:
    return await serve(endpoint_of(changes=changes))


async def test_a_join_gets_its_entries_with_ids_and_then_the_changes(
    server: Server, changes: Changes
) -> None:
    client = await Realtime.open(server, "1.0.0")
    other = {"event": "DELETE", "schema": "public", "table": "users", "filter": "id=eq.7"}
    joined, told = await client.join(postgres_changes=[ALL, other])
    assert joined == ok({"postgres_changes": [{**ALL, "id": 1}, {**other, "id": 2}]})
    assert told == system("Subscribed to PostgreSQL", "ok", "postgres_changes")
    changes.publish(server.endpoint.pubsub, change(commit_timestamp="2026-01-31T12:00:00Z"))
    ((event, payload),) = await client.heard()
    assert event == "postgres_changes"
    assert payload == {
        "ids": [1],
        "data": {
            "schema": "public",
            "table": "notices",
            "commit_timestamp": "2026-01-31T12:00:00Z",
            "type": "INSERT",
            "columns": [
                {"name": "id", "type": "int8"},
                {"name": "title", "type": "text"},
                {"name": "urgent", "type": "text"},
            ],
            "record": ROW,
            "old_record": {},
            "errors": None,
        },
    }


async def test_a_client_gets_only_the_rows_that_it_may_see(
    server: Server, changes: Changes
) -> None:
    ann, bob = await Realtime.open(server), await Realtime.open(server)
    users = [{"event": "*", "schema": "public", "table": "users"}]
    await ann.join(postgres_changes=users)
    await bob.join(postgres_changes=users, access_token=token("writer"))
    changes.publish(server.endpoint.pubsub, change(table="users"))
    assert await ann.heard() == []
    assert [event for event, _ in await bob.heard()] == ["postgres_changes"]


async def test_only_true_shows_a_row(serve: Serve) -> None:
    changes = Changes(lambda change, claims: "yes")  # type: ignore[arg-type, return-value]
    server = await serve(endpoint_of(changes=changes))
    client = await Realtime.open(server)
    await client.join(postgres_changes=[ALL])
    changes.publish(server.endpoint.pubsub, change())
    assert await client.heard() == []


async def test_a_server_without_changes_refuses_a_join_that_asks_for_them(serve: Serve) -> None:
    server = await serve(endpoint_of())
    client = await Realtime.open(server)
    text = "UnableToSubscribeToPostgres: this server has no source of Postgres changes"
    assert await client.join(postgres_changes=[ALL]) == [error({"reason": text})]


@pytest.mark.parametrize("wrong", ["id", "id=like.a", "=eq.7", "id=eq.1,title=eq.a"])
async def test_an_unknown_filter_refuses_the_join(server: Server, wrong: str) -> None:
    client = await Realtime.open(server)
    ((_, reply),) = await client.join(postgres_changes=[{**ALL, "filter": wrong}])
    assert reply["status"] == "error"
    assert f"the filter {wrong!r} is not column=operator.value" in reply["response"]["reason"]


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("id=eq.7", True),
        ("id=eq.7.0", True),
        ("id=neq.7", False),
        ("id=gt.6.5", True),
        ("id=lt.10", True),
        ("id=gte.8", False),
        ("id=lte.7", True),
        ("id=gt.text", False),
        ("id=in.(1,7,8)", True),
        ("title=in.(a,b)", False),
        ("title=eq.hello", True),
        ("title=gt.a", True),
        ("urgent=eq.true", True),
        ("missing=neq.7", False),
    ],
)
def test_a_filter_compares_numbers_as_numbers_and_all_else_as_text(text: str, passes: bool) -> None:
    wanted = Subscription("*", filter=text)
    assert wanted.problem() is None
    assert wanted.wants(change()) is passes


@pytest.mark.parametrize(
    ("entry", "wants"),
    [
        ({"event": "*"}, True),
        ({"event": "INSERT", "schema": "*"}, True),
        ({"event": "UPDATE"}, False),
        ({"event": "*", "schema": "private"}, False),
        ({"event": "*", "table": "users"}, False),
        ({"event": "*", "table": "*"}, True),
    ],
)
def test_an_entry_names_the_kind_the_schema_and_the_table(
    entry: dict[str, Any], wants: bool
) -> None:
    assert Subscription(**entry).wants(change()) is wants


def test_a_deleted_row_is_filtered_by_its_old_record() -> None:
    deleted = Change(type="DELETE", table="notices", old_record=ROW)
    assert Subscription("*", filter="id=eq.7").wants(deleted)
    data = deleted.data()
    assert (data["record"], data["old_record"]) == ({}, ROW)
