"""A node for tests: `python -m tests.integration.redis_node --port 0`, with the arguments of its adapter in JSON.

Clients join a room and say something to all nodes. They can also ask for the statistics of the node, and for a crowd of
large messages.
"""

from __future__ import annotations

import json
import os
from typing import Any

import trio

from channels import Channel, Endpoint, PubSub, PushReply, Socket, handle_in
from channels.cli.serve import run_endpoint
from channels.pubsub.redis.adapter import RedisAdapter
from channels.pubsub.redis.server import RedisServer
from supervision import Backoff

OPTIONS = "REDIS_NODE"
"""The environment variable with the arguments."""


class RoomChannel(Channel):
    """A client of this node."""

    async def join(self, topic: str, payload: Any) -> None:
        """Let everybody in."""

    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        self.broadcast("said", payload)
        return PushReply({})

    @handle_in("crowd")
    async def crowd(self, payload: Any) -> PushReply:
        """Send many messages to another room, so that clients of this node do not get them."""
        for n in range(payload["count"]):
            filling = "x" * payload["size"]
            endpoint.broadcast("room:crowd", "said", {"by": payload["by"], "n": n, "x": filling})
            if n % 20 == 0:
                await trio.sleep(0.002)
        return PushReply({})

    @handle_in("statistics")
    async def statistics(self, payload: Any) -> PushReply:
        return PushReply(pubsub.statistics())


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}


options = json.loads(os.environ.get(OPTIONS, "{}"))
server = RedisServer(
    options.pop("url", "redis://127.0.0.1"), backoff=Backoff(0.02, 0.3), **options.pop("server", {})
)
pubsub = PubSub(RedisAdapter(server, **options))
endpoint = Endpoint(sockets={"/socket": UserSocket}, pubsub=pubsub, max_buffered_bytes=2**28)

if __name__ == "__main__":
    run_endpoint(endpoint, default_port=0)
