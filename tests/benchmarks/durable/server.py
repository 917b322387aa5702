"""The server that is measured: `python -m tests.benchmarks.durable.server`.

HISTORY is the path of the SQLite file, and REDIS_URL the Redis server. Topics `plain:*`, `memory:*`, `sqlite:*` and
`redis:*` do the same. The first is not durable, and the others differ in their storage.
"""

from __future__ import annotations

import os
from typing import Any

from channels import Channel, Endpoint, Mount, PushReply, Socket, handle_in
from channels.cli.serve import run_endpoint
from channels.durable import (
    DurableChannel,
    History,
    MemoryStorage,
    RedisStorage,
    SQLiteStorage,
)


class Plain(Channel):
    """Sends a message to all clients, once."""

    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        self.broadcast("said", payload)
        return PushReply()


class Durable(DurableChannel):
    """Keeps it first."""

    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        await self.append("said", payload)
        return PushReply()


class InMemory(Durable):
    """Keeps it in memory."""

    history = History(MemoryStorage(), name="memory")


class InSQLite(Durable):
    """Keeps it in a file."""

    # A join of thousands of clients at once waits for its turn at the file.
    history = History(SQLiteStorage(os.environ["HISTORY"]), name="sqlite", timeout=60.0)


class InRedis(Durable):
    """Keeps it in Redis."""

    history = History(RedisStorage(os.environ["REDIS_URL"]), name="redis", timeout=60.0)


class UserSocket(Socket):
    """A socket for anyone."""

    channels = {"plain:*": Plain, "memory:*": InMemory, "sqlite:*": InSQLite, "redis:*": InRedis}


histories = [
    channel.history for channel in (InMemory, InSQLite, InRedis) if channel.history is not None
]
# The clients send no heartbeats.
endpoint = Endpoint(sockets={"/socket": Mount(UserSocket, timeout=3600.0)}, histories=histories)

if __name__ == "__main__":
    run_endpoint(endpoint, default_port=0, default_log_level="warning")
