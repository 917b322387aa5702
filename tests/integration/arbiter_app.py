"""A channel over the arbiter of each worker, for tests of workers that own keys.

Each import adds the process to the file IMPORTED. With LINGER, the process lives on after its server has stopped.
NOTICE is the time before a drain, in seconds.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import trio

from channels import Channel, Draining, Endpoint, PushReply, Socket, handle_in
from channels.entities.arbiter import Arbiter, ArbiterUnavailable, Owned
from channels.entities.arbiters.choice import arbiter_for
from channels.pubsub.adapter import Node

if "IMPORTED" in os.environ:
    with Path(os.environ["IMPORTED"]).open("a") as imported:
        imported.write(f"{os.getpid()}\n")
if "LINGER" in os.environ:
    threading.Thread(target=time.sleep, args=(3600,)).start()

lost: list[tuple[str, float]] = []
"""The ended nodes that this worker was told of, with the times."""

_arbiters: list[Arbiter] = []


async def opened() -> Arbiter:
    """Return the arbiter of this worker, with a session."""
    if not _arbiters:
        arbiter = arbiter_for(endpoint.pubsub)
        _arbiters.append(arbiter)
        arbiter.start("keys", on_node_lost=_note_lost)
        await arbiter.open_session(endpoint.pubsub.node)
    return _arbiters[0]


def _note_lost(node: Node) -> None:
    lost.append((node.name, time.monotonic()))


class Keys(Channel):
    """The requests of one client."""

    async def join(self, topic: str, payload: Any) -> None:
        await opened()

    @handle_in("state")
    async def state(self, payload: Any) -> PushReply:
        arbiter = await opened()
        return PushReply(
            {
                "pid": os.getpid(),
                "arbiter": arbiter.name,
                "node": endpoint.pubsub.node_name,
                "problem": arbiter.lease.problem,
                "lost": lost,
            }
        )

    @handle_in("acquire")
    async def acquire(self, payload: Any) -> PushReply:
        try:
            answer = await (await opened()).acquire(payload["key"])
        except ArbiterUnavailable as error:
            return PushReply({"problem": str(error)})
        if isinstance(answer, Owned):
            return PushReply({"fence": answer.fence, "at": time.monotonic()})
        return PushReply({"owner": answer.node.name})

    @handle_in("acquire_many")
    async def acquire_many(self, payload: Any) -> PushReply:
        arbiter = await opened()
        began, limit = time.process_time(), trio.CapacityLimiter(500)

        async def acquire(number: int) -> None:
            async with limit:
                await arbiter.acquire(f"many:{number}")

        async with trio.open_nursery() as nursery:
            for number in range(payload["count"]):
                nursery.start_soon(acquire, number)
        return PushReply({"cpu": time.process_time() - began})


class UserSocket(Socket):
    """Anybody."""

    channels = {"keys:*": Keys}
    log = None


draining = Draining(timeout=2.0, notice=float(os.environ.get("NOTICE", "0")))
endpoint = Endpoint(sockets={"/socket": UserSocket}, draining=draining)
