"""A pure client for tests: its clock, its frames as lists, and its effects by kind."""

from __future__ import annotations

import json
from typing import Any

from channels.client.events import Lifecycle
from channels.client.protocol import Protocol
from channels.client.records import (
    Arrived,
    ChannelRecord,
    ClientSettings,
    Close,
    Effect,
    Ended,
    Left,
    Open,
    Pong,
    PushRecord,
    Send,
    Settled,
    Tell,
)


class Driver:
    """A protocol, with everything that it has done since the last look."""

    def __init__(self, *, random: float = 0.0, **settings: Any) -> None:
        self.protocol = Protocol(ClientSettings(**settings), lambda: random)
        self.now = 0.0
        self.effects: list[Effect] = []

    def run(self, effects: list[Effect]) -> None:
        self.effects += effects

    def take(self, *kinds: type) -> list[Any]:
        """Take out the effects of these kinds."""
        found = [each for each in self.effects if isinstance(each, kinds)]
        self.effects = [each for each in self.effects if not isinstance(each, kinds)]
        return found

    def frames(self) -> list[Any]:
        """The frames since the last look: text as lists, binary as bytes."""
        return [
            json.loads(each.frame) if isinstance(each.frame, str) else each.frame
            for each in self.take(Send)
        ]

    def told(self, *kinds: type) -> list[Lifecycle]:
        """The lifecycle events since the last look."""
        events = [each.event for each in self.take(Tell)]
        return [each for each in events if not kinds or isinstance(each, kinds)]

    def settled(self) -> list[tuple[PushRecord, str, Any]]:
        return [(each.push, each.status, each.response) for each in self.take(Settled)]

    def arrived(self) -> list[tuple[str, Any]]:
        return [(each.message.event, each.message.payload) for each in self.take(Arrived)]

    def opens(self) -> list[str]:
        return [each.transport for each in self.take(Open)]

    def closes(self) -> list[tuple[int, str]]:
        return [(each.code, each.reason) for each in self.take(Close)]

    def ended(self) -> list[tuple[str, bool]]:
        return [(each.channel.topic, each.is_clean) for each in self.take(Ended)]

    def left(self) -> list[ChannelRecord]:
        return [each.channel for each in self.take(Left)]

    def pongs(self) -> list[tuple[str, float | None]]:
        return [(each.ref, each.seconds) for each in self.take(Pong)]

    # The world

    def wait(self, seconds: float) -> None:
        """Let time pass; every timer runs at its time."""
        end = self.now + seconds
        while self.protocol.deadline <= end:
            self.now = max(self.now, self.protocol.deadline)
            self.run(self.protocol.tick(self.now))
        self.now = end

    def connect(self) -> None:
        self.run(self.protocol.connect(self.now))

    def opened(self) -> None:
        self.run(self.protocol.opened(self.now))

    def open(self) -> None:
        """Connect, and open the connection."""
        self.connect()
        self.opened()

    def lose(self, code: int = 1006, reason: str = "") -> None:
        self.run(self.protocol.lost(code, reason, self.now))

    def fail(self, cause: str = "refused", status: int | None = None) -> None:
        self.run(self.protocol.failed(cause, status, self.now))

    def hear(self, *message: Any) -> None:
        """Receive a text message."""
        self.run(self.protocol.received(json.dumps(message), self.now))

    def hear_frame(self, frame: str | bytes) -> None:
        self.run(self.protocol.received(frame, self.now))

    def answer(self, frame: list[Any], status: str = "ok", response: Any = None) -> None:
        """Receive the reply to one of our frames."""
        payload = {"status": status, "response": {} if response is None else response}
        self.hear(frame[0], frame[1], frame[2], "phx_reply", payload)

    # The program

    def channel(self, topic: str = "room:a", params: Any = None, **how: Any) -> ChannelRecord:
        make = params if callable(params) else lambda: params
        return self.protocol.channel(topic, make, **how)

    def join(self, channel: ChannelRecord) -> None:
        self.run(self.protocol.join(channel, self.now))

    def joined(self, topic: str = "room:a", **how: Any) -> ChannelRecord:
        """A joined channel of the open connection. What this took is not seen."""
        channel = self.channel(topic, **how)
        self.join(channel)
        (frame,) = self.frames()
        self.answer(frame)
        assert channel.state == "joined"
        self.effects = []
        return channel

    def push(
        self, channel: ChannelRecord, event: str = "new", payload: Any = None, **how: Any
    ) -> PushRecord:
        push, effects = self.protocol.push(channel, event, payload, now=self.now, **how)
        self.run(effects)
        return push

    def leave(self, channel: ChannelRecord) -> None:
        self.run(self.protocol.leave(channel, self.now))


def connected(**settings: Any) -> Driver:
    """A client with an open connection. What this took is not seen."""
    driver = Driver(**settings)
    driver.open()
    driver.effects = []
    return driver
