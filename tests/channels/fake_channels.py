"""A server in a few lines around real sessions: every process is an object that takes steps.

The channel is the one that the frames in `tests/data/frames.json` were recorded from. Each
step needs a call: `FakeConnection.feed` hands a frame to the session, which calls the connection back,
`FakeChannel.step` handles one message, `FakeConnection.step` takes one report; `settle` does all
that is left. So a test chooses the order in which the processes run.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from channels.errors import EncodeError
from channels.messages import BinaryFrame, Message
from channels.protocol.session import Membership, Session
from channels.serializers.serializer import Codec
from channels.serializers.v2 import V2
from channels.topics import Route, Router

ROUTER = Router([Route("room:*", "RoomChannel")])
CODEC = Codec(V2(), lambda data: data)


class FakeConnection:
    """A connection: a session, its frames, its channels, and its pending reports."""

    def __init__(
        self,
        *,
        max_channels: int = 100,
        traps_exits: bool = False,
        subscribers: list[FakeChannel] | None = None,
    ) -> None:
        self.session = Session(CODEC, ROUTER.match, self, max_channels=max_channels)
        self.traps_exits = traps_exits
        self.written: list[bytes] = []
        self.close: int | None = None
        self.channels: list[FakeChannel] = []
        self.ended: deque[Membership] = deque()
        self.subscribers: list[FakeChannel] = [] if subscribers is None else subscribers

    def feed(self, data: bytes, *, binary: bool = False) -> None:
        if self.close is None:
            self.session.receive(data, binary=binary)

    # The calls of the session

    def start_channel(self, membership: Membership, message: Message, size: int) -> None:
        channel = FakeChannel(self, membership, message)
        self.channels.append(channel)
        self.session.started(membership, channel)

    def deliver(self, membership: Membership, message: Message, size: int) -> None:
        membership.process.send(message)

    def stop_channel(self, membership: Membership) -> None:
        if membership.status != "joining":
            membership.process.exit_signal()

    def send_frame(self, frame: bytes) -> None:
        self.written.append(frame)

    def violated(self, code: int, cause: str) -> None:
        self.close = code

    def hold_back(self) -> None:
        pass

    def limited(self, limit: str) -> None:
        pass

    def unmatched(self, topic: Any) -> None:
        pass

    def ignored(self, cause: str) -> None:
        pass

    # Steps

    def step(self) -> None:
        """Take the report of one ended channel."""
        self.session.exited(self.ended.popleft())

    def settle(self) -> None:
        """Let every process of this connection run until none has anything to do."""
        while self.ended or any(channel.inbox for channel in self.channels):
            for channel in self.channels:
                while channel.inbox:
                    channel.step()
            while self.ended:
                self.step()
            self._kill_replaced()

    def _kill_replaced(self) -> None:
        """End the replaced channels that trap exits, as the connection does after five seconds."""
        for channel in self.channels:
            if channel.alive and channel.membership.is_replaced:
                channel.exit()

    def take(self) -> list[str]:
        """The frames since the last time, in the notation of the recording."""
        shown = [
            f"B:{frame.hex()}" if isinstance(frame, BinaryFrame) else f"T:{frame.decode()}"
            for frame in self.written
        ]
        self.written.clear()
        if self.close is not None:
            shown.append(f"CLOSE:{self.close}:")
        return shown


class FakeChannel:
    """The process of one membership."""

    def __init__(self, connection: FakeConnection, membership: Membership, join: Message) -> None:
        self.connection = connection
        self.membership = membership
        self.alive = True
        self.inbox: deque[Message] = deque([join])

    def send(self, message: Message) -> None:
        # A message to a process that has ended is lost.
        if self.alive:
            self.inbox.append(message)

    def step(self) -> None:
        """Handle one message; the first is the join."""
        message = self.inbox.popleft()
        try:
            if message.event == "phx_join":
                self.join(message)
            elif message.event == "phx_leave":
                self.write(self.reply(message, "ok", {}))
                self.stop()
            else:
                self.handle(message)
        except (EncodeError, RuntimeError):
            self.exit()

    def join(self, message: Message) -> None:
        if message.topic == "room:deny":
            self.write_join_reply("error", {"reason": "unauthorized"})
            self.exit()
        elif message.topic == "room:joinboom":
            raise RuntimeError("boom")
        else:
            greeting = {"hello": "world", "params": message.payload}
            self.write_join_reply("ok", greeting if message.topic == "room:withreply" else {})
            if self.membership.is_replaced:
                self.exit_signal()
            else:
                self.connection.subscribers.append(self)

    def handle(self, message: Message) -> None:
        payload: Any = message.payload
        match message.event:
            case "echo":
                self.write(self.reply(message, "ok", payload))
            case "ping":
                self.write(self.reply(message, "ok", {}))
            case "fail":
                self.write(self.reply(message, "error", payload))
            case "push":
                membership = self.membership
                self.write(CODEC.push(membership.channel_ref, membership.topic, "pushed", payload))
            case "new_msg" | "from":
                frame = CODEC.broadcast(self.membership.topic, message.event, payload) or b""
                for channel in self.connection.subscribers:
                    same_topic = channel.membership.topic == self.membership.topic
                    if same_topic and not (message.event == "from" and channel is self):
                        channel.write(frame)
            case "stop" | "stop_shutdown" | "stop_left":
                self.stop()
            case "stop_reply":
                self.write(self.reply(message, "ok", {"bye": True}))
                self.stop()
            case _:
                raise RuntimeError(f"no handler for {message.event!r}")

    def write(self, frame: bytes) -> None:
        self.connection.written.append(frame)

    def reply(self, message: Message, status: str, response: Any) -> bytes:
        membership = self.membership
        return CODEC.reply(membership.channel_ref, message.ref, membership.topic, status, response)

    def write_join_reply(self, status: str, response: Any) -> None:
        membership = self.membership
        frame = CODEC.reply(membership.join_ref, membership.ref, membership.topic, status, response)
        if status == "ok":
            membership.accept(self.write, frame)
        else:
            membership.refuse(self.write, frame)

    def stop(self) -> None:
        if not self.membership.is_gone and not self.membership.is_replaced:
            self.write(CODEC.close(self.membership.join_ref, self.membership.topic))
            self.membership.end()
        self.exit()

    def exit(self) -> None:
        self.alive = False
        self.inbox.clear()
        if self in self.connection.subscribers:
            self.connection.subscribers.remove(self)
        self.connection.ended.append(self.membership)

    def exit_signal(self) -> None:
        if self.alive and not self.connection.traps_exits:
            self.exit()
