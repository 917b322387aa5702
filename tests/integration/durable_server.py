"""A server with a durable topic, for the tests of phoenix.js.

HISTORY is the path of a SQLite file, or the URL of a Redis server. MESSAGES is the number of messages that a topic
keeps.
"""

from __future__ import annotations

import os
from typing import Any

from channels import Endpoint, PushReply, Socket, handle_in
from channels.cli.serve import run_endpoint
from channels.durable import DurableChannel, History, RedisStorage, SQLiteStorage
from channels.pubsub.redis.server import RedisServer
from supervision import Backoff

PLACE = os.environ["HISTORY"]
storage = (
    RedisStorage(RedisServer(PLACE, backoff=Backoff(0.02, 0.3)))
    if "://" in PLACE
    else SQLiteStorage(PLACE)
)


class Document(DurableChannel):
    """A document whose edits every client gets."""

    history = History(storage, max_messages=int(os.environ.get("MESSAGES", "10000")))

    @handle_in("edit")
    async def edit(self, payload: Any) -> PushReply:
        await self.append("edited", payload)
        return PushReply()

    @handle_in("edit and locate")
    async def edit_and_locate(self, payload: Any) -> PushReply:
        return PushReply({"position": await self.append("edited", payload)})


class UserSocket(Socket):
    """A socket for anyone."""

    channels = {"document:*": Document}


assert Document.history is not None
endpoint = Endpoint(sockets={"/socket": UserSocket}, histories=[Document.history])

if __name__ == "__main__":
    run_endpoint(endpoint, default_port=0, default_log_level="error")
