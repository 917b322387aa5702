"""A server whose handlers use asyncio libraries and blocking databases.

POSTGRES is the URL of a Postgres server, SQLITE the path of a file.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped] # it has no types
import django  # type: ignore[import-untyped] # likewise
import httpx
import psycopg
import trio
from django.conf import settings  # type: ignore[import-untyped] # likewise
from django.db import (  # type: ignore[import-untyped] # likewise
    close_old_connections,
    connections,
    models,
)
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from actors import Pid, TooManyCalls, current_pid, kill
from actors.asyncio_loop import AsyncioLoop, asyncio_call
from actors.blocking_pool import BlockingPool, blocking_call
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.cli.serve import run_endpoint

POSTGRES, SQLITE = os.environ["POSTGRES"], Path(os.environ["SQLITE"])
ADD = "SELECT %s + 1"

# asyncpg

pools: list[asyncpg.Pool] = []


async def pool_of_asyncpg() -> asyncpg.Pool:
    """Return the pool of this process's loop."""
    if not pools:
        pools.append(asyncpg.create_pool(POSTGRES, min_size=0, max_size=10))
    return await pools[0]


async def fetch(query: str, *values: object) -> Any:
    pool = await pool_of_asyncpg()
    return await pool.fetchval(query, *values)


# SQLAlchemy

engine: AsyncEngine = create_async_engine(f"sqlite+aiosqlite:///{SQLITE}")


async def select(number: int) -> int:
    async with engine.connect() as connection:
        result = await connection.execute(text("SELECT :number + 1"), {"number": number})
        return int(result.scalar_one())


# httpx

clients: list[httpx.AsyncClient] = []


async def get(url: str) -> str:
    if not clients:
        clients.append(httpx.AsyncClient())
    return (await clients[0].get(url)).text


# Django's ORM

parts = psycopg.conninfo.conninfo_to_dict(POSTGRES)
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts["dbname"],
            "USER": parts["user"],
            "HOST": parts["host"],
            "PORT": parts["port"],
            "CONN_MAX_AGE": None,
        }
    }
)
django.setup()


class Visit(models.Model):  # type: ignore[misc] # likewise
    """A row in a table of Django."""

    room = models.CharField(max_length=20)

    class Meta:
        app_label = "visits"


def make_table() -> None:
    with connections["default"].schema_editor() as editor:
        editor.create_model(Visit)


def visit(room: str) -> int:
    Visit.objects.create(room=room)
    return int(Visit.objects.filter(room=room).count())


def in_django(function: Callable[..., Any], *args: Any) -> Any:
    """Do what Django does around each request: give up connections that are too old or broken."""
    close_old_connections()
    try:
        return function(*args)
    finally:
        close_old_connections()


# psycopg and sqlite3 block


def query(connection: psycopg.Connection[Any], query: str, *values: object) -> Any:
    [value] = connection.execute(query.encode(), values).fetchone() or [None]
    return value


def add(connection: sqlite3.Connection, number: int) -> int:
    [(value,)] = connection.execute("SELECT ? + 1", (number,))
    return int(value)


sleepers: list[Pid] = []

children: list[AsyncioLoop | BlockingPool] = [
    AsyncioLoop(max_calls=int(os.environ.get("MAX_CALLS", "1000"))),
    BlockingPool("django", size=4, close=connections.close_all),
    BlockingPool(
        "psycopg",
        size=4,
        connect=partial(psycopg.connect, POSTGRES, autocommit=True),
        close=psycopg.Connection.close,
        cancel=psycopg.Connection.cancel_safe,
        reconnect_on=(psycopg.OperationalError,),
    ),
    BlockingPool(
        "sqlite",
        size=2,
        connect=partial(sqlite3.connect, SQLITE),
        close=sqlite3.Connection.close,
        cancel=sqlite3.Connection.interrupt,
    ),
]


class Data(Channel):
    """A channel whose handlers ask databases. Each answers with the number of its payload plus one."""

    @handle_in("nothing")
    async def nothing(self, payload: Any) -> PushReply:
        return PushReply({"n": payload["n"] + 1})

    @handle_in("asyncpg")
    async def asyncpg(self, payload: Any) -> PushReply:
        return PushReply({"n": await asyncio_call(fetch, "SELECT $1::int + 1", payload["n"])})

    @handle_in("sqlalchemy")
    async def sqlalchemy(self, payload: Any) -> PushReply:
        return PushReply({"n": await asyncio_call(select, payload["n"])})

    @handle_in("httpx")
    async def httpx(self, payload: Any) -> PushReply:
        url = f"http://127.0.0.1:{payload['port']}/next/{payload['n']}"
        return PushReply({"n": int(await asyncio_call(get, url))})

    @handle_in("django")
    async def django(self, payload: Any) -> PushReply:
        number = await blocking_call(in_django, visit, str(payload["n"]), pool="django")
        return PushReply({"n": number + payload["n"]})

    @handle_in("psycopg")
    async def psycopg(self, payload: Any) -> PushReply:
        return PushReply({"n": await blocking_call(query, ADD, payload["n"], pool="psycopg")})

    @handle_in("sqlite3")
    async def sqlite3(self, payload: Any) -> PushReply:
        return PushReply({"n": await blocking_call(add, payload["n"], pool="sqlite")})

    @handle_in("sleep in asyncpg")
    async def sleep_in_asyncpg(self, payload: Any) -> PushReply:
        sleepers.append(current_pid())
        await asyncio_call(fetch, "SELECT pg_sleep(3600)", timeout=payload.get("timeout", math.inf))
        return PushReply()

    @handle_in("sleep in psycopg")
    async def sleep_in_psycopg(self, payload: Any) -> PushReply:
        sleepers.append(current_pid())
        timeout = payload.get("timeout", math.inf)
        await blocking_call(query, "SELECT pg_sleep(3600)", pool="psycopg", timeout=timeout)
        return PushReply()

    @handle_in("kill")
    async def kill(self, payload: Any) -> PushReply:
        while sleepers:
            kill(sleepers.pop())
        return PushReply()

    @handle_in("many")
    async def many(self, payload: Any) -> PushReply:
        """Make a thousand calls at once, and count those that the loop refuses."""
        counts = {"answered": 0, "refused": 0, "most": 0}

        async def once() -> None:
            try:
                await asyncio_call(fetch, "SELECT pg_sleep(0.001)")
                counts["answered"] += 1
            except TooManyCalls:
                counts["refused"] += 1
            counts["most"] = max(counts["most"], children[0].statistics()["calls"])

        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(once)
        return PushReply(counts)

    @handle_in("statistics")
    async def statistics(self, payload: Any) -> PushReply:
        return PushReply({str(each.name): each.statistics() for each in children})


class UserSocket(Socket):
    """A socket for anyone."""

    channels = {"data:*": Data}


async def next_number(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(request.path_params["n"] + 1))


endpoint = Endpoint(
    sockets={"/socket": UserSocket},
    http=Starlette(routes=[Route("/next/{n:int}", next_number)]),
    children=children,
)

if __name__ == "__main__":
    # One worker makes the table.
    make_table()
    connections.close_all()
    run_endpoint(endpoint, default_port=0, default_log_level="warning")
