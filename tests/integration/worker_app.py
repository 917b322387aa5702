"""A chat for tests of workers: rooms, and an event that tells who serves.

Each import adds the process to the file IMPORTED. While the file BROKEN exists, an import fails. With STUCK, an
import never ends. With REDIS_URL, the nodes meet at that server. With MONITORED, there are probes and metrics. NOTICE
is the time before a drain, in seconds.
"""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from channels import Channel, Draining, Endpoint, Mount, PubSub, PushReply, Socket, handle_in
from channels.endpoint.endpoint import services_of
from channels.pubsub.redis.adapter import RedisAdapter

if "IMPORTED" in os.environ:
    with Path(os.environ["IMPORTED"]).open("a") as imported:
        imported.write(f"{os.getpid()}\n")
if Path(os.environ.get("BROKEN", "/nonexistent")).exists():
    raise RuntimeError("the application is broken")
if "STUCK" in os.environ:
    time.sleep(3600)


class Room(Channel):
    """A room in which everybody hears everybody."""

    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        self.broadcast("said", payload)
        return PushReply({})

    @handle_in("where")
    async def where(self, payload: Any) -> PushReply:
        secret = services_of(endpoint).secret_key_base
        assert isinstance(secret, bytes)
        return PushReply(
            {
                "pid": os.getpid(),
                "worker": os.environ.get("ASHTREE_WORKER"),
                "secret": sha256(secret).hexdigest(),
                "node": endpoint.pubsub.node_name,
            }
        )

    @handle_in("busy")
    async def busy(self, payload: Any) -> None:
        while True:
            pass


class UserSocket(Socket):
    """Anybody."""

    channels = {"room:*": Room}
    log = None


def pubsub() -> PubSub | None:
    url = os.environ.get("REDIS_URL")
    return PubSub(RedisAdapter(url, node_name="app")) if url else None


def plugs() -> list[Any]:
    if "MONITORED" not in os.environ:
        return []
    from channels.operations.health import Health
    from channels.operations.metrics import Metrics

    return [Health(), Metrics(token=None)]


endpoint = Endpoint(
    pubsub=pubsub(),
    sockets={"/socket": Mount(UserSocket, longpoll=True)},
    draining=Draining(timeout=5.0, notice=float(os.environ.get("NOTICE", "0"))),
    plugs=plugs(),
)
