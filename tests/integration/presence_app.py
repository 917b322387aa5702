"""Rooms that show who is in them, on one node of several.

- With `REDIS_URL`, the node `NODE_NAME` meets the others at that server.
- `ashtree serve --workers` joins its workers by itself.
- With `JOINED`, `python -m tests.integration.presence_app --port PORT` serves two nodes that are joined in memory, at
  PORT and the next port.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import trio

from actors import current_pid, open_runtime, send
from channels import Channel, Endpoint, PubSub, PushReply, Socket, handle_in
from channels.presence import Presence
from channels.pubsub.redis.adapter import RedisAdapter
from channels.testing import JoinedNodes


class Room(Channel):
    """A room whose members are present under the `user` of their join."""

    async def join(self, topic: str, payload: Any) -> None:
        self.user = payload["user"]
        self.presence = presence_of(self.endpoint)
        send(current_pid(), "after join")

    async def handle_info(self, message: Any) -> None:
        self.presence.track(self, self.user, {"n": 0})
        await self.presence.push_state(self)

    @handle_in("update")
    async def update(self, payload: Any) -> PushReply:
        self.presence.update(self, self.user, payload)
        return PushReply({})

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        raise RuntimeError("as the client wished")

    @handle_in("who")
    async def who(self, payload: Any) -> PushReply:
        return PushReply(
            {"pid": os.getpid(), "presences": await self.presence.list(self)},
        )


class UserSocket(Socket):
    """Anybody."""

    channels = {"room:*": Room}
    log = None


def presence_of(endpoint: Any) -> Presence:
    """The presence of the endpoint of a channel."""
    (presence,) = endpoint.presences
    return presence  # type: ignore[no-any-return]


def make_endpoint(pubsub: PubSub | None = None) -> Endpoint:
    """An endpoint with a presence of its own, which notices silent nodes quickly."""
    presence = Presence(name="online", heartbeat=0.5, down_period=4.0)
    return Endpoint(sockets={"/socket": UserSocket}, pubsub=pubsub, presences=[presence])


def _pubsub() -> PubSub | None:
    url = os.environ.get("REDIS_URL")
    return PubSub(RedisAdapter(url, node_name=os.environ["NODE_NAME"])) if url else None


endpoint = make_endpoint(_pubsub())


async def main(port: int) -> None:
    """Serve one node, or two that are joined in memory."""
    endpoints = [endpoint]
    if "JOINED" in os.environ:
        nodes = JoinedNodes(latency=0.005)
        endpoints = [make_endpoint(PubSub(nodes.adapter(name))) for name in ("a", "b")]
    async with open_runtime():
        for number, each in enumerate(endpoints):
            await each.start_link(port=port + number)
        print(f"http://127.0.0.1:{port}", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    trio.run(main, parser.parse_args().port)
