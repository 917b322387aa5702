"""A model of the client's protocol, with one plain deadline for each thing that can time out.

The model follows phoenix.js: the tables of waits, the time-outs of joins, pushes, leaves and heartbeats, and the frames
that a client keeps while it has no connection. It has no heap of timers and cancels nothing. Each deadline is a field,
and infinity means that the thing cannot time out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, field

from channels.client.records import ClientSettings

__all__ = ["ChannelModel", "ClientModel", "PushModel"]


@define(eq=False)
class PushModel:
    """One push, which waits in its channel until `ref` is set. It times out at `due`."""

    number: int
    timeout: float
    is_repeatable: bool
    due: float
    ref: str | None = None
    was_sent: bool = False


@define(eq=False)
class ChannelModel:
    """One channel. A join without an answer times out at `join_due`, and the next join starts at `rejoin_due`."""

    number: int
    topic: str
    timeout: float
    state: str = "new"
    join_ref: str | None = None
    join_due: float = math.inf
    rejoin_due: float = math.inf
    tries: int = 0
    was_joined: bool = False
    asked_at: float = 0.0
    lost_at: float | None = None
    waiting: list[PushModel] = field(factory=list)
    sent: list[PushModel] = field(factory=list)


@define(eq=False)
class ClientModel:
    """The client.

    Attributes:
        did: what the client does, in order, since the last `take`.
        now: the time.
    """

    settings: ClientSettings
    did: list[Any] = field(factory=list)
    now: float = 0.0
    state: str = "closed"
    refs: int = 0
    connections: int = 0
    tries: int = 0
    short_connections: int = 0
    away_since: float = 0.0
    opened_at: float = 0.0
    reconnect_due: float = math.inf
    beat_due: float = math.inf
    beat_ref: str | None = None
    channels: list[ChannelModel] = field(factory=list)
    # The join that each channel sends when the connection opens.
    kept: dict[ChannelModel, Any] = field(factory=dict)
    leaves: dict[str, tuple[ChannelModel, float]] = field(factory=dict)
    pings: dict[str, float] = field(factory=dict)

    def take(self) -> list[Any]:
        """Return what the client has done since the last call."""
        did, self.did = self.did, []
        return did

    def tell(self, name: str, *about: Any) -> None:
        self.did.append(("told", name, *about))

    def ref(self) -> str:
        self.refs += 1
        return str(self.refs)

    # Time

    def dues(self) -> list[tuple[float, Callable[[], None]]]:
        """Return all deadlines, with the function to call at each."""
        found: list[tuple[float, Callable[[], None]]] = [
            (self.reconnect_due, self.reconnect),
            (self.beat_due, self.beat),
        ]
        found += [(due, partial(self.left, ref)) for ref, (_, due) in self.leaves.items()]
        for channel in self.channels:
            found.append((channel.join_due, partial(self.join_late, channel)))
            found.append((channel.rejoin_due, partial(self.rejoin_later, channel)))
            found += [
                (push.due, partial(self.settle, channel, push, "timeout", None))
                for push in (*channel.waiting, *channel.sent)
            ]
        return found

    @property
    def due(self) -> float:
        """The time of the next deadline."""
        return min(due for due, _ in self.dues())

    def advance(self, now: float) -> None:
        """Let time pass up to `now`, with each time-out at its time."""
        while True:
            due, function = min(self.dues(), key=lambda each: each[0])
            if due > now:
                break
            self.now = due
            function()
        self.now = now

    # The connection

    def connect(self) -> None:
        self.away_since = self.now
        self.state = "connecting"
        self.did.append(("open",))

    def reconnect(self) -> None:
        self.reconnect_due = math.inf
        self.tries += 1
        self.state = "connecting"
        self.did.append(("open",))

    def reconnect_later(self) -> None:
        delay = self.settings.reconnect.delay(self.tries + 1)
        self.reconnect_due = self.now + delay
        self.tell("Retrying", round(delay, 6), self.tries + 1)

    def opened(self) -> None:
        self.state = "open"
        self.connections += 1
        self.tell("Connected", self.connections, round(self.now - self.away_since, 6))
        for frame in self.kept.values():
            self.did.append(("send", frame))
        self.kept.clear()
        self.opened_at, self.reconnect_due = self.now, math.inf
        # A server that ends each connection within moments must not make the client reconnect all the time.
        if self.short_connections < 10:
            self.tries = 0
        self.arm()
        for channel in list(self.channels):
            channel.tries, channel.rejoin_due = 0, math.inf
            if channel.state == "errored":
                self.rejoin(channel)

    def failed(self) -> None:
        self.tell("ConnectFailed")
        self.state = "closed"
        for channel in self.channels:
            channel.tries, channel.rejoin_due = 0, math.inf
        self.error_all()
        self.reconnect_later()

    def lost(self, code: int) -> None:
        if code in self.settings.final_close_codes:
            self.tell("Lost", code)
            self.end(code)
            return
        self.state = "closed"
        if self.now - self.opened_at >= 5.0:
            self.short_connections = self.tries = 0
        else:
            self.short_connections += 1
        self.away_since = self.now
        self.tell("Lost", code)
        self.forget()
        self.error_all()
        self.reconnect_later()

    def end(self, code: int) -> None:
        self.state = "ended"
        self.reconnect_due = math.inf
        self.forget()
        for channel in list(self.channels):
            self.close(channel)
        self.tell("Disconnected", code)

    def disconnect(self) -> None:
        if self.state in ("open", "connecting"):
            self.did.append(("close",))
        self.end(1000)

    def forget(self) -> None:
        """Forget everything that waits for an answer of the lost connection, except pushes."""
        self.beat_due, self.beat_ref = math.inf, None
        self.did += [("pong", None) for _ in self.pings]
        self.pings.clear()
        for ref in list(self.leaves):
            self.left(ref)

    def error_all(self) -> None:
        for channel in list(self.channels):
            if channel.state in ("joining", "joined"):
                self.error(channel, is_crash=False)

    # Heartbeats

    def arm(self) -> None:
        self.beat_ref, self.beat_due = None, self.now + self.settings.heartbeat_interval

    def beat(self) -> None:
        if self.beat_ref is not None:
            self.did.append(("close",))
            self.lost(1006)
            return
        self.beat_ref = self.ref()
        self.did.append(("send", [None, self.beat_ref, "phoenix", "heartbeat", {}]))
        self.beat_due = self.now + self.settings.heartbeat_interval

    def ping(self) -> None:
        ref = self.ref()
        self.pings[ref] = self.now
        self.did.append(("send", [None, ref, "phoenix", "heartbeat", {}]))

    # Channels

    def join(self, channel: ChannelModel) -> None:
        channel.asked_at = self.now
        self.rejoin(channel)

    def rejoin(self, channel: ChannelModel) -> None:
        for other in list(self.channels):
            same = other.topic == channel.topic and other is not channel
            if same and other.state in ("joined", "joining"):
                self.leave(other)
        channel.state = "joining"
        channel.join_ref = ref = self.ref()
        channel.join_due, channel.rejoin_due = self.now + channel.timeout, math.inf
        frame = [ref, ref, channel.topic, "phx_join", {"n": channel.number}]
        if self.state == "open":
            self.did.append(("send", frame))
        else:
            # The oldest join first: a newer join of a channel goes to the end.
            self.kept.pop(channel, None)
            self.kept[channel] = frame

    def rejoin_later(self, channel: ChannelModel) -> None:
        channel.rejoin_due = math.inf
        channel.tries += 1
        if self.state == "open":
            self.rejoin(channel)

    def retry(self, channel: ChannelModel) -> None:
        if self.state == "open":
            delay = self.settings.rejoin.delay(channel.tries + 1)
            channel.rejoin_due = self.now + delay
            self.tell("Rejoining", channel.topic, round(delay, 6), channel.tries + 1)

    def join_late(self, channel: ChannelModel) -> None:
        self.send_leave(channel)
        channel.state = "errored"
        channel.join_ref, channel.join_due = None, math.inf
        self.kept.pop(channel, None)
        self.tell("JoinTimedOut", channel.topic)
        self.retry(channel)

    def error(self, channel: ChannelModel, *, is_crash: bool) -> None:
        if channel.state == "joining":
            channel.join_ref, channel.join_due = None, math.inf
            self.kept.pop(channel, None)
        if channel.state == "joined":
            channel.lost_at = self.now
            again = [push for push in channel.sent if push.is_repeatable]
            channel.sent = [push for push in channel.sent if not push.is_repeatable]
            for push in again:
                push.ref = None
            channel.waiting = again + channel.waiting
        channel.state = "errored"
        self.tell("ChannelLost", channel.topic, is_crash)
        self.retry(channel)

    def send_leave(self, channel: ChannelModel) -> str:
        ref = self.ref()
        if self.state == "open":
            frame: list[Any] = [channel.join_ref, ref, channel.topic, "phx_leave", {}]
            self.did.append(("send", frame))
        return ref

    def leave(self, channel: ChannelModel) -> None:
        ref = self.send_leave(channel)
        if self.state == "open":
            self.leaves[ref] = channel, self.now + channel.timeout
        else:
            self.did.append(("left", channel.number))
        self.close(channel)

    def left(self, ref: str) -> None:
        channel, _ = self.leaves.pop(ref)
        self.did.append(("left", channel.number))

    def close(self, channel: ChannelModel) -> None:
        self.channels.remove(channel)
        self.kept.pop(channel, None)
        channel.state = "closed"
        for push in (*channel.sent, *channel.waiting):
            self.settle(channel, push, "closed", None)
        self.tell("ChannelEnded", channel.topic)
        self.did.append(("ended", channel.number))

    # Pushes

    def push(self, channel: ChannelModel, push: PushModel) -> bool:
        """Push, or return False if too many pushes wait."""
        if self.state == "open" and channel.state == "joined":
            self.send_push(channel, push)
        elif len(channel.waiting) >= self.settings.max_buffered:
            return False
        else:
            channel.waiting.append(push)
        return True

    def send_push(self, channel: ChannelModel, push: PushModel) -> None:
        push.ref = self.ref()
        if not push.was_sent:
            push.was_sent, push.due = True, self.now + push.timeout
        channel.sent.append(push)
        frame: list[Any] = [channel.join_ref, push.ref, channel.topic, "do", {"n": push.number}]
        self.did.append(("send", frame))

    def cancel(self, channel: ChannelModel, push: PushModel) -> None:
        channel.waiting = [each for each in channel.waiting if each is not push]
        channel.sent = [each for each in channel.sent if each is not push]

    def settle(self, channel: ChannelModel, push: PushModel, status: str, response: Any) -> None:
        self.cancel(channel, push)
        self.did.append(("settled", push.number, status, response))

    # Frames

    def received(self, join_ref: Any, ref: Any, topic: str, event: str, payload: Any) -> None:
        if ref is not None and ref == self.beat_ref:
            self.arm()
        for channel in [each for each in self.channels if each.topic == topic]:
            if not join_ref or join_ref == channel.join_ref:
                self.take_frame(channel, ref, event, payload)
        if ref in self.pings:
            self.did.append(("pong", round(self.now - self.pings.pop(ref), 6)))
        if ref in self.leaves:
            self.left(ref)

    def take_frame(self, channel: ChannelModel, ref: Any, event: str, payload: Any) -> None:
        if event == "phx_error":
            self.error(channel, is_crash=True)
        elif event == "phx_close":
            self.close(channel)
        elif event == "phx_reply":
            self.take_reply(channel, ref, payload["status"], payload["response"])
        else:
            self.did.append(("arrived", channel.number, payload))

    def take_reply(self, channel: ChannelModel, ref: Any, status: str, response: Any) -> None:
        for push in channel.sent:
            if push.ref == ref:
                self.settle(channel, push, status, response)
                return
        if ref != channel.join_ref or channel.join_due == math.inf:
            return
        channel.join_due = math.inf
        if status != "ok":
            channel.state = "errored"
            self.tell("JoinRejected", channel.topic, status)
            self.retry(channel)
            return
        channel.state = "joined"
        channel.tries, channel.rejoin_due = 0, math.inf
        if channel.was_joined:
            since = channel.asked_at if channel.lost_at is None else channel.lost_at
            self.tell("Rejoined", channel.topic, round(self.now - since, 6))
        else:
            channel.was_joined = True
            self.tell("Joined", channel.topic, round(self.now - channel.asked_at, 6))
        channel.lost_at = None
        waiting, channel.waiting = channel.waiting, []
        for push in waiting:
            self.send_push(channel, push)
