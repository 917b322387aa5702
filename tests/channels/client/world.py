"""A server and a network in memory, for clients on a virtual clock.

Every connection is a pair of streams. A test can cut them, hold them, and refuse new ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
import trio.testing
from attrs import define

from actors import kill
from channels import (
    Binary,
    Channel,
    ConnectInfo,
    ConnectRefused,
    Endpoint,
    JoinRefused,
    Mount,
    PushReply,
    Socket,
    handle_in,
)
from channels.protocol.longpoll import LongPoll
from tests.channels.support import Server

URL = "ws://server/socket"


class Room(Channel):
    """A room that does what its clients ask for."""

    async def join(self, topic: str, payload: Any) -> Any:
        payload = payload if isinstance(payload, dict) else {}
        if payload.get("refuse"):
            raise JoinRefused({"reason": "no"})
        if payload.get("slow"):
            await trio.sleep(payload["slow"])
        return {"topic": topic, **payload}

    @handle_in("echo")
    async def echo(self, payload: Any) -> PushReply:
        return PushReply(payload)

    @handle_in("refuse")
    async def refuse(self, payload: Any) -> PushReply:
        return PushReply(payload, status="error")

    @handle_in("silence")
    async def silence(self, payload: Any) -> None:
        return None

    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        self.broadcast("said", payload)
        return PushReply({})

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        raise RuntimeError("asked to")

    @handle_in("send_bytes")
    async def send_bytes(self, payload: Any) -> None:
        self.push("bytes", Binary(b"\x00\xff"))


class RoomSocket(Socket):
    """A socket that refuses and remembers."""

    channels = {"room:*": Room}

    async def connect(self, params: Any, info: ConnectInfo) -> None:
        if params.get("refuse"):
            raise ConnectRefused
        self.assigns["params"] = params
        self.assigns["token"] = info.auth_token
        self.assigns["headers"] = dict(info.x_headers)


@define
class Wires:
    """One connection: the two ends, and what the test does to it."""

    ours: trio.StapledStream[Any, Any]
    theirs: trio.StapledStream[Any, Any]

    def cut(self) -> None:
        """End the connection without a word, in both directions."""
        for stream in (self.ours, self.theirs):
            stream.send_stream.close()
            stream.receive_stream.close()


class World:
    """A server that clients reach through memory."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.wires: list[Wires] = []
        self.is_down = False
        self.attempts: list[float] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream, for `open_socket(connect=...)`."""
        self.attempts.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.is_down:
            raise ConnectionRefusedError("nobody listens")
        ours, theirs = trio.testing.memory_stream_pair()
        self.wires.append(Wires(ours, theirs))
        await self.server.accept(_Served(theirs))  # type: ignore[arg-type] # it has the stream, the part that is used
        return ours

    def cut(self) -> None:
        """End all connections."""
        for each in self.wires:
            each.cut()
        self.wires.clear()


class _Served:
    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.process: Any = None


def room_endpoint(**options: Any) -> Endpoint:
    """An endpoint with rooms, for WebSockets and for polls."""
    mount = Mount(RoomSocket, longpoll=LongPoll(window=10.0), auth_token=True, **options)
    return Endpoint(sockets={"/socket": mount})


def kill_channel(server: Server, topic: str = "room:a") -> None:
    """Kill the only channel of a topic."""
    kill(server.channel(topic))


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for a state, on the virtual clock."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - any state, of anything
            await trio.sleep(0.01)


def broadcast(server: Server, topic: str, event: str, payload: Any) -> None:
    """Broadcast to the clients of a topic."""
    server.endpoint.broadcast(topic, event, payload)
