"""A server in a few lines around real sessions: every process is an object that takes steps.

The channel is the one that the frames in `tests/data/frames.json` were recorded from. Each
step needs a call: `FakeConnection.feed` hands a frame to the session and carries out the effects,
`FakeChannel.step` handles one message, `FakeConnection.step` takes one report; `settle` does all
that is left. So a test chooses the order in which the processes run.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from channels.errors import EncodeError
from channels.messages import BinaryFrame, Message
from channels.protocol.session import Close, Deliver, Effect, Membership, Send, Session, Start
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
        self.session = Session(CODEC, ROUTER.match, max_channels=max_channels)
        self.traps_exits = traps_exits
        self.written: list[bytes] = []
        self.close: Close | None = None
        self.channels: list[FakeChannel] = []
        self.reports: deque[tuple[str, Membership]] = deque()
        self.subscribers: list[FakeChannel] = [] if subscribers is None else subscribers

    def feed(self, data: bytes, *, binary: bool = False) -> None:
        if self.close is None:
            self.perform(self.session.receive(data, binary=binary))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Deliver(membership, message):
                    membership.process.send(message)
                case Start(membership, message, replaced):
                    if replaced is not None and replaced.status != "superseded":
                        replaced.process.exit_signal()
                    channel = FakeChannel(self, membership, message)
                    if replaced is not None:
                        channel.waits_for = (replaced.process, *replaced.process.waits_for)
                    membership.process = channel
                    self.channels.append(channel)
                case Send(frame):
                    self.written.append(frame)
                case Close():
                    self.close = effect

    def step(self) -> None:
        """Take one report."""
        report, membership = self.reports.popleft()
        match report:
            case "refused":
                self.session.refused(membership)
            case "closed":
                self.session.closed(membership)
            case "exited":
                self.perform(self.session.exited(membership))

    def settle(self) -> None:
        """Let every process of this connection run until none has anything to do."""
        while self.reports or any(channel.inbox for channel in self.channels):
            for channel in self.channels:
                while channel.inbox:
                    channel.step()
            while self.reports:
                self.step()

    def take(self) -> list[str]:
        """The frames since the last time, in the notation of the recording."""
        shown = [
            f"B:{frame.hex()}" if isinstance(frame, BinaryFrame) else f"T:{frame.decode()}"
            for frame in self.written
        ]
        self.written.clear()
        if self.close is not None:
            shown.append(f"CLOSE:{self.close.code}:{self.close.reason}")
        return shown


class FakeChannel:
    """The process of one membership."""

    def __init__(self, connection: FakeConnection, membership: Membership, join: Message) -> None:
        self.connection = connection
        self.membership = membership
        self.alive = True
        self.inbox: deque[Message] = deque([join])
        # The channels that this one replaces. Their joins are answered before its own.
        self.waits_for: tuple[FakeChannel, ...] = ()

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
        for before in reversed(self.waits_for):
            while before.inbox and before.membership.status == "superseded":
                before.step()
        if message.topic == "room:deny":
            self.write_join_reply("error", {"reason": "unauthorized"})
            self.membership.ended = True
            self.report("refused")
            self.exit()
        elif message.topic == "room:joinboom":
            raise RuntimeError("boom")
        else:
            greeting = {"hello": "world", "params": message.payload}
            self.write_join_reply("ok", greeting if message.topic == "room:withreply" else {})
            if self.membership.status == "gone":
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
        self.write(
            CODEC.reply(membership.join_ref, membership.ref, membership.topic, status, response)
        )
        if status == "ok":
            membership.accepted()
        for frame in membership.take_closes():
            self.write(frame)

    def stop(self) -> None:
        if self.membership.status != "gone":
            self.write(CODEC.close(self.membership.join_ref, self.membership.topic))
        self.membership.ended = True
        self.report("closed")
        self.exit()

    def exit(self) -> None:
        self.alive = False
        self.inbox.clear()
        if self in self.connection.subscribers:
            self.connection.subscribers.remove(self)
        self.report("exited")

    def exit_signal(self) -> None:
        if self.alive and not self.connection.traps_exits:
            self.exit()

    def report(self, what: str) -> None:
        self.connection.reports.append((what, self.membership))
