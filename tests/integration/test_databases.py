"""Databases in the handlers of a running server: asyncpg, SQLAlchemy, httpx, Django's ORM, psycopg and sqlite3."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

from actors import open_runtime
from channels.client import ClientChannel, open_socket
from tests.integration.postgres import Postgres, postgres
from tests.integration.servers import Server, serving
from tests.patience import PATIENCE, until

MODULE = "tests.integration.database_server"
LIBRARIES = ["asyncpg", "sqlalchemy", "httpx", "django", "psycopg", "sqlite3"]
CLIENTS, PUSHES = 20, 10


@pytest.fixture(scope="module", name="database")
def run_database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module", name="server")
def run_server(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("databases")
    environment = {"POSTGRES": database.url, "SQLITE": str(folder / "data.db"), "MAX_CALLS": "100"}
    with serving(MODULE, folder, environment) as server:
        yield server


@contextlib.asynccontextmanager
async def channels(server: Server, count: int) -> AsyncIterator[list[ClientChannel]]:
    """Join a channel with each of several clients."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(open_runtime())
        joined = []
        for number in range(count):
            socket = await stack.enter_async_context(
                open_socket(server.socket_url, timeout=PATIENCE)
            )
            channel = socket.channel(f"data:{number}")
            joined.append(await stack.enter_async_context(channel))
        yield joined


async def statistics(channel: ClientChannel, name: str) -> dict[str, int]:
    answer: Any = await channel.push("statistics", {})
    found: dict[str, int] = answer[name]
    return found


@pytest.mark.parametrize("library", LIBRARIES)
async def test_the_handlers_of_twenty_clients_use_a_library_at_once(
    server: Server, library: str
) -> None:
    answers: list[int] = []

    async def pushes(number: int, channel: ClientChannel) -> None:
        for push in range(PUSHES):
            n = 1000 * number + push
            answer: Any = await channel.push(library, {"n": n, "port": server.port})
            answers.append(answer["n"] - n)

    with trio.fail_after(PATIENCE):
        async with channels(server, CLIENTS) as joined, trio.open_nursery() as nursery:
            for number, channel in enumerate(joined):
                nursery.start_soon(pushes, number, channel)
    assert answers == [1] * CLIENTS * PUSHES


@pytest.mark.parametrize(("event", "name"), [("asyncpg", "asyncio"), ("psycopg", "psycopg")])
@pytest.mark.parametrize("how", ["kill", "timeout"])
async def test_a_handler_that_is_cancelled_cancels_its_query_in_the_database(
    server: Server, database: Postgres, event: str, name: str, how: str
) -> None:
    payload = {"timeout": 0.5} if how == "timeout" else {}
    with trio.fail_after(PATIENCE):
        async with channels(server, 4) as [observer, *others]:
            before = await statistics(observer, name)
            for channel in others:
                channel.push_nowait(f"sleep in {event}", payload)
            if how == "kill":
                await until(lambda: database.active("pg_sleep(3600)") == 3)
                await observer.push("kill", {})
            while (await statistics(observer, name))["calls_cancelled"] < before[
                "calls_cancelled"
            ] + 3:
                await trio.lowlevel.checkpoint()
            assert (await statistics(observer, name))["calls"] == 0
            assert database.active("pg_sleep(3600)") == 0
            answer: Any = await observer.push(event, {"n": 1})
            assert answer == {"n": 2}


async def test_a_thousand_calls_at_once_are_bounded_in_the_loop_and_in_the_database(
    server: Server, database: Postgres
) -> None:
    most = 0
    with trio.fail_after(PATIENCE):
        async with channels(server, 1) as [channel]:
            push = channel.push_nowait("many", {})
            counts: Any = None

            async def waits() -> None:
                nonlocal counts
                counts = await push.wait()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(waits)
                while counts is None:
                    active = await trio.to_thread.run_sync(database.active, "pg_sleep(0.001)")
                    most = max(most, active)
    assert counts == {"answered": 100, "refused": 900, "most": 100}
    # The pool of asyncpg has ten connections.
    assert most <= 10
    assert "refused asyncio_call(fetch, ..., loop='asyncio')" in server.output()
