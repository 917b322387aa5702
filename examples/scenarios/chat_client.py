"""A client of the chat that counts its messages, the answers and the losses.

It implements a part of the Phoenix protocol. Like phoenix.js, it joins again after a phx_error, and connects again
after a lost connection.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import msgspec
import trio
from attrs import define, field
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
)

from examples.scenarios.handshake import open_websocket

__all__ = ["ChatClient", "Tally"]

JOIN_TIMEOUT = 3.0
"""Seconds to wait for the answer to a join before the next attempt."""

Connect = Callable[..., Awaitable[trio.abc.Stream]]

_GONE = (
    *(ConnectionClosed, ConnectionRejected, HandshakeError, OSError),
    *(trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError),
)


@define
class Tally:
    """The counts of one client, or of several together.

    Attributes:
        joins: Joins with the answer "ok".
        failed_joins: Joins whose channel ended before it answered.
        errors: Joined channels that crashed or were killed (phx_error).
        disconnects: Lost connections.
        failed_connects: Failed attempts to connect.
        left_with_connection: Joined channels that were lost with their connection.
        said: Messages that the client sent.
        answered: Messages with an answer.
        lost_to_errors: Messages without an answer when their channel ended.
        lost_to_disconnects: Messages without an answer when the connection ended.
        refused: Messages that the server refused because their channel had ended.
        heard: Messages of all clients that the client received.
        out: The seconds of each absence from the room.
        slowest: Seconds of the slowest answer.
    """

    joins: int = 0
    failed_joins: int = 0
    errors: int = 0
    disconnects: int = 0
    failed_connects: int = 0
    left_with_connection: int = 0
    said: int = 0
    answered: int = 0
    lost_to_errors: int = 0
    lost_to_disconnects: int = 0
    refused: int = 0
    heard: int = 0
    out: list[float] = field(factory=list)
    slowest: float = 0.0

    def add(self, other: Tally) -> None:
        """Add the counts of another tally."""
        for name in ("joins", "errors", "disconnects", "left_with_connection", "said", "answered"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in (
            "lost_to_errors",
            "lost_to_disconnects",
            "refused",
            "heard",
            "failed_joins",
            "failed_connects",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.out += other.out
        self.slowest = max(self.slowest, other.slowest)


class ChatClient:
    """One user in the lobby, who sends messages at random times.

    Args:
        number: The number of the client. The host of number 7 is `client 7`.
        random: The random numbers for the times of messages.
        connect: A function that opens a stream, such as `world.connect`.
        host: The host of the chat.
        port: The port of the chat.

    Attributes:
        tally: The counts so far.
        joined: True while the client is in the room.
        stopping: True after `stop`.
        answered: An event that is set after `stop`, when each message of the client is answered or lost.
    """

    def __init__(self, number: int, random: Random, connect: Connect, host: str, port: int) -> None:
        self.number = number
        self.tally = Tally()
        self.joined = False
        self.stopping = False
        self.answered = trio.Event()
        self._random = random
        self._connect = connect
        self._host = host
        self._port = port
        self._refs = 0
        self._join_ref = ""
        self._waiting: dict[str, float] = {}
        self._given_up: set[str] = set()
        self._connected = False
        self._out_since: float | None = None

    def stop(self) -> None:
        """Send no more messages. `answered` is set when no message waits for an answer."""
        self.stopping = True
        self._look_whether_answered()

    def _look_whether_answered(self) -> None:
        if self.stopping and not self._waiting:
            self.answered.set()

    async def main(self) -> None:
        """Stay in the room until cancelled. Come back after each error."""
        while True:
            try:
                await self._be_connected()
            except* _GONE:
                # The server or the connection is gone. The tally counts it.
                pass
            self._disconnected()
            await trio.sleep(0.1 + self._random.random() * 0.2)

    async def _be_connected(self) -> None:
        source = f"client {self.number}"
        with trio.fail_after(5):
            stream = await self._connect(self._host, self._port, source=source)
        self._connected = True
        try:
            async with trio.open_nursery() as nursery:
                websocket = await open_websocket(nursery, stream, self._host)
                nursery.start_soon(self._speak, websocket)
                await self._listen(websocket)
        finally:
            await trio.aclose_forcefully(stream)

    async def _listen(self, websocket: WebSocketConnection) -> None:
        await self._join(websocket)
        while True:
            with trio.move_on_after(math.inf if self.joined else JOIN_TIMEOUT) as limit:
                message = await websocket.get_message()
            if limit.cancelled_caught or self._is_thrown_out(msgspec.json.decode(message)):
                await trio.sleep(0.05 + self._random.random() * 0.1)
                await self._join(websocket)

    def _is_thrown_out(self, frame: list[Any]) -> bool:
        """Handle a frame of the server. Return True if the client must join again."""
        join_ref, ref, _topic, event, payload = frame
        if event == "phx_reply":
            return self._replied(join_ref, ref, payload)
        if event == "phx_error" and join_ref == self._join_ref:
            self._crashed()
            return True
        if event == "new_msg":
            self.tally.heard += 1
        return False

    async def _speak(self, websocket: WebSocketConnection) -> None:
        while True:
            await trio.sleep(0.25 + self._random.random() * 0.5)
            if self.joined and not self.stopping:
                ref = self._next_ref()
                self._waiting[ref] = trio.current_time()
                self.tally.said += 1
                await self._send(websocket, ref, "new_msg", {"body": "hello"})

    async def _join(self, websocket: WebSocketConnection) -> None:
        self._join_ref = ref = self._next_ref()
        await self._send(websocket, ref, "phx_join", {"name": f"client {self.number}"})

    async def _send(
        self, websocket: WebSocketConnection, ref: str, event: str, payload: Any
    ) -> None:
        frame = [self._join_ref, ref, "room:lobby", event, payload]
        await websocket.send_message(msgspec.json.encode(frame).decode())

    def _next_ref(self) -> str:
        self._refs += 1
        return str(self._refs)

    # Counting

    def _replied(self, join_ref: str, ref: str, payload: Any) -> bool:
        is_ok = payload["status"] == "ok"
        if ref == self._join_ref:
            if is_ok:
                self._is_back()
            else:
                self.tally.failed_joins += 1
            return not is_ok
        since = self._waiting.pop(ref, None)
        if since is not None and is_ok:
            self.tally.answered += 1
            self.tally.slowest = max(self.tally.slowest, trio.current_time() - since)
        elif since is not None:
            self.tally.refused += 1
        elif ref in self._given_up:
            # The message arrived after its channel had ended.
            self._given_up.discard(ref)
            self.tally.lost_to_errors -= 1
            self.tally.refused += 1
        self._look_whether_answered()
        return False

    def _is_back(self) -> None:
        self.joined = True
        self.tally.joins += 1
        if self._out_since is not None:
            self.tally.out.append(trio.current_time() - self._out_since)
            self._out_since = None

    def _crashed(self) -> None:
        self.tally.errors += 1
        self.tally.lost_to_errors += len(self._waiting)
        self._given_up |= self._waiting.keys()
        self._thrown_out()

    def _disconnected(self) -> None:
        self._given_up.clear()
        self.tally.disconnects += self._connected
        self.tally.failed_connects += not self._connected
        self._connected = False
        self.tally.left_with_connection += self.joined
        self.tally.lost_to_disconnects += len(self._waiting)
        self._thrown_out()

    def _thrown_out(self) -> None:
        self._waiting.clear()
        self._look_whether_answered()
        self.joined = False
        if self._out_since is None:
            self._out_since = trio.current_time()
