"""The server of the soak. It has metrics, and rooms whose channels answer, broadcast and crash.

Its limits are small, so that clients that vanish or do not read reach these limits within seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import trio

from channels import Channel, Draining, Endpoint, Mount, PushReply, Socket, handle_in
from channels.operations.metrics import Metrics

TIMEOUT = 15.0
"""Seconds of silence after which the server closes a connection."""


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


class UserSocket(Socket):
    """A socket that accepts every client."""

    channels = {"room:*": Room}
    log = None


def figures() -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield the number of Trio's tasks, and the id of the process."""
    yield "soak_tasks", {}, trio.lowlevel.current_statistics().tasks_living
    yield "soak_pid", {}, os.getpid()


endpoint = Endpoint(
    sockets={"/socket": Mount(UserSocket, timeout=TIMEOUT)},
    draining=Draining(timeout=10.0),
    plugs=[Metrics(token=None, figures=figures)],
    max_buffered_bytes=1024 * 1024,
)
