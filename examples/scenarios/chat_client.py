"""A client of the chat that counts its messages, the answers and the losses.

`channels.client` does the rest: it joins again after a phx_error, and connects again after a lost connection. The waits
are shorter than in phoenix.js, so that a short run has many rejoins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import trio
from attrs import define, field

from channels.client import (
    ChannelLost,
    ClientChannel,
    ClientPush,
    ConnectFailed,
    Joined,
    JoinRejected,
    Lifecycle,
    Lost,
    Refused,
    Rejoined,
    RetryTable,
    open_socket,
)
from supervision.chaos import OpenRequest

__all__ = ["ChatClient", "Tally"]

JOIN_TIMEOUT = 3.0
"""Seconds after which the client repeats a join without an answer."""

RECONNECT = RetryTable(steps=(), then=0.3, jitter=0.67)
REJOIN = RetryTable(steps=(), then=0.15, jitter=0.67)

Connect = Callable[..., Awaitable[trio.abc.Stream]]
Begin = Callable[..., OpenRequest]


@define
class Tally:
    """The counts of one client, or the sums over several clients.

    Attributes:
        joins: Joins with the answer "ok".
        failed_joins: Joins whose channel ended before it answered.
        errors: Joined channels that crashed or were killed (phx_error).
        disconnects: Lost connections.
        failed_handshakes: Connections that were lost before they became WebSockets. The server may not have a process
            for them.
        failed_connects: Failed attempts to connect.
        left_with_connection: Joined channels that were lost with their connection.
        unanswered_joins: Joins whose connection was lost before the answer. The server may have started their channels.
        said: Messages that the client sent.
        answered: Messages with an answer.
        lost_to_errors: Messages without an answer when their channel ended.
        lost_to_disconnects: Messages without an answer when the connection ended.
        refused: Messages that the server refused, because their channel had already ended.
        heard: Messages of all clients that the client received.
        out: The seconds of each absence from the room.
        slowest: Seconds of the slowest answer.
    """

    joins: int = 0
    failed_joins: int = 0
    errors: int = 0
    disconnects: int = 0
    failed_handshakes: int = 0
    failed_connects: int = 0
    left_with_connection: int = 0
    unanswered_joins: int = 0
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
            "failed_handshakes",
            "unanswered_joins",
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
    """One person in the lobby, who sends a message now and then.

    Args:
        number: The number of the client. The host of number 7 is `client 7`.
        random: Chooses the times of messages and of attempts to return.
        connect: Opens a stream, such as `world.connect`.
        host: The host of the chat.
        port: The port of the chat.
        request: Begins a request for the report: `world.request`.

    Attributes:
        tally: The counts so far.
        joined: True while the client is in the room.
        stopping: True after `stop`: the client sends no more messages.
        answered: Set after `stop`, once each message of the client was answered or lost.
    """

    def __init__(
        self,
        number: int,
        random: Random,
        connect: Connect,
        host: str,
        port: int,
        *,
        request: Begin,
    ) -> None:
        self.number = number
        self.tally = Tally()
        self.joined = False
        self.stopping = False
        self.answered = trio.Event()
        self._random = random
        self._connect = connect
        self._url = f"ws://{host}:{port}/socket"
        self._request = request
        self._waiting: dict[ClientPush, OpenRequest] = {}
        self._lost_to_errors: set[ClientPush] = set()
        self._has_stream = False
        self._is_joining = False

    def stop(self) -> None:
        """Send no more messages. `answered` is set when no message waits for an answer."""
        self.stopping = True
        self._look_whether_answered()

    def _look_whether_answered(self) -> None:
        if self.stopping and not self._waiting:
            self.answered.set()

    async def main(self) -> None:
        """Stay in the room until cancelled."""
        async with (
            open_socket(
                self._url,
                connect=self._open_stream,
                wait=False,
                reconnect=RECONNECT,
                rejoin=REJOIN,
                random=self._random.random,
            ) as socket,
            trio.open_nursery() as nursery,
        ):
            events = socket.events()
            name = {"name": f"client {self.number}"}
            channel = socket.channel("room:lobby", name, wait=False, timeout=JOIN_TIMEOUT)
            async with channel:
                nursery.start_soon(self._hear, channel)
                nursery.start_soon(self._speak, channel, nursery)
                async for event in events:
                    self._note(event)

    async def _open_stream(self, host: str, port: int) -> trio.abc.Stream:
        stream = await self._connect(host, port, source=f"client {self.number}")
        self._has_stream = True
        return stream

    async def _hear(self, channel: ClientChannel) -> None:
        async for message in channel:
            self.tally.heard += message.event == "new_msg"

    async def _speak(self, channel: ClientChannel, nursery: trio.Nursery) -> None:
        while True:
            await trio.sleep(0.25 + self._random.random() * 0.5)
            if channel.state == "joined" and not self.stopping:
                # The tally decides which messages are lost. So the timeout is long.
                push = channel.push_nowait("new_msg", {"body": "hello"}, timeout=3600)
                self.tally.said += 1
                self._waiting[push] = self._request("new_msg", client=self.number)
                nursery.start_soon(self._await_answer, push)

    # Counting

    async def _await_answer(self, push: ClientPush) -> None:
        start = trio.current_time()
        try:
            await push.wait()
        except Refused:
            if push in self._waiting:
                self.tally.refused += 1
                self._waiting[push].unanswered()
            elif push in self._lost_to_errors:
                # The message arrived after the channel had ended.
                self.tally.lost_to_errors -= 1
                self.tally.refused += 1
        else:
            if push in self._waiting:
                self.tally.answered += 1
                self._waiting[push].answered()
                self.tally.slowest = max(self.tally.slowest, trio.current_time() - start)
        self._waiting.pop(push, None)
        self._lost_to_errors.discard(push)
        self._look_whether_answered()

    def _note(self, event: Lifecycle) -> None:
        match event:
            case Joined():
                self.tally.joins += 1
                self.joined = True
            case Rejoined():
                self.tally.joins += 1
                self.tally.out.append(event.seconds)
                self.joined = True
            case JoinRejected():
                self.tally.failed_joins += 1
            case ChannelLost(is_crash=True) if self.joined:
                self.tally.errors += 1
                self.tally.lost_to_errors += len(self._waiting)
                self._lost_to_errors |= self._waiting.keys()
                self._thrown_out()
            case ChannelLost(is_crash=True):
                self.tally.failed_joins += 1
            case ChannelLost(is_crash=False) if self._is_joining:
                self.tally.unanswered_joins += 1
            case Lost() | ConnectFailed():
                # If the client lost the channel too, the next event reports that.
                self._is_joining = isinstance(event, Lost) and not self.joined
                self.tally.failed_handshakes += (
                    isinstance(event, ConnectFailed) and self._has_stream
                )
                self._disconnected()

    def _disconnected(self) -> None:
        # A connection that ends before it becomes a WebSocket counts too.
        self.tally.disconnects += self._has_stream
        self.tally.failed_connects += not self._has_stream
        self._has_stream = False
        self.tally.left_with_connection += self.joined
        self.tally.lost_to_disconnects += len(self._waiting)
        self._lost_to_errors.clear()
        self._thrown_out()

    def _thrown_out(self) -> None:
        for request in self._waiting.values():
            request.unanswered()
        self._waiting.clear()
        self.joined = False
        self._look_whether_answered()
