"""The server of the soak. It has metrics, and channels that answer, broadcast, crash, keep messages and show presences.

Its limits are small, so that clients that vanish or do not read reach these limits within seconds. With REDIS_URL, the
node NODE_NAME meets the other nodes at that server, and keeps the history there. Without it, the module can be imported
for its constants.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import trio

from actors import current_pid, send
from channels import Channel, Draining, Endpoint, Mount, PubSub, PushReply, Socket, handle_in
from channels.durable import DurableChannel, History, RedisStorage
from channels.operations.metrics import Metrics
from channels.presence import Presence
from channels.pubsub.redis import RedisAdapter

TIMEOUT = 15.0
"""Seconds of silence after which the server closes a connection."""

DRAIN_TIMEOUT = 10.0
"""Seconds in which a worker drains."""

DOWN_PERIOD = 30.0
"""Seconds without a heartbeat after which a node hides the presences of another one."""

PRESENCE_HEARTBEAT = 1.5
"""Seconds between two heartbeats of the presence."""

REDIS_URL = os.environ.get("REDIS_URL")


class SoakCrash(Exception):
    """A crash that a client requested."""


class Room(Channel):
    """A room that broadcasts the messages of each member to all members."""

    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        self.broadcast("said", payload)
        return PushReply(payload)

    @handle_in("flood")
    async def flood(self, payload: Any) -> None:
        self.broadcast_from("flooded", payload)

    @handle_in("boom")
    async def boom(self, payload: Any) -> None:
        raise SoakCrash


class Lobby(Channel):
    """A topic that shows who is there. The key and the metadata come from the client."""

    async def join(self, topic: str, payload: Any) -> dict[str, Any]:
        self.member = payload["member"]
        self.stay = payload["stay"]
        send(current_pid(), "after join")
        return {"pid": os.getpid()}

    async def handle_info(self, message: Any) -> None:
        online.track(self, self.member, {"stay": self.stay})
        await online.push_state(self)


# Without the server, the module has no storage that several processes can share.
history = (
    History()
    if REDIS_URL is None
    # The limits are so high that no client of the soak reaches them. So it may miss no message.
    else History(RedisStorage(REDIS_URL), max_messages=10_000, max_bytes=2**24, max_answers=100_000)
)


class Document(DurableChannel):
    """A durable topic, whose edits every client gets."""

    history = history

    @handle_in("edit")
    async def edit(self, payload: Any) -> PushReply:
        await self.append("edited", payload)
        return PushReply()


online = Presence(heartbeat=PRESENCE_HEARTBEAT, down_period=DOWN_PERIOD)


class UserSocket(Socket):
    """A socket that accepts every client."""

    channels = {"room:*": Room, "lobby:*": Lobby, "document:*": Document}
    log = None


def figures() -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield the number of Trio's tasks, and the id of the process."""
    yield "soak_tasks", {}, trio.lowlevel.current_statistics().tasks_living
    yield "soak_pid", {}, os.getpid()


endpoint = Endpoint(
    pubsub=None
    if REDIS_URL is None
    else PubSub(RedisAdapter(REDIS_URL, node_name=os.environ["NODE_NAME"])),
    sockets={"/socket": Mount(UserSocket, timeout=TIMEOUT)},
    draining=Draining(timeout=DRAIN_TIMEOUT),
    plugs=[Metrics(token=None, figures=figures)],
    max_buffered_bytes=1024 * 1024,
    histories=[history],
    presences=[online],
)
