"""The protocol of a Phoenix client: (event, now) -> frames, events, next deadline.

*pure*: no clock, randomness, I/O or tasks. A shell calls a method for each event, and carries out the effects that the
method returns. It calls `tick` at `deadline`.

    connect, join, push, leave, disconnect ──▶ ┌──────────┐ ──▶ Open, Send, Close     (to the transport)
    opened, received, lost, failed         ──▶ │ Protocol │ ──▶ Settled, Arrived, ... (to the program)
    tick                                   ──▶ └──────────┘ ──▶ Tell                  (lifecycle)

A channel is in one of five states:

    closed ──join──▶ joining ──ok──▶ joined ──leave──▶ leaving ──▶ closed
                       ▲  │ error, timeout, phx_error,  │ phx_error, lost connection
                       │  ▼ lost connection             ▼
                       └─ errored ◀─────────────────────┘

Source: phoenix.js 1.8.16, `socket.js`, `channel.js` and `push.js`, with these differences: a push fails as soon as its
channel closes; an answer to a join with an unknown status counts as an error; a push to a closed channel is an error;
buffers are bounded; a push with a key is sent again after a rejoin; after ten short connections in a row, an open
connection no longer starts the table of waits from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from channels.client import events, wire
from channels.client.errors import BufferFull, ChannelClosed
from channels.client.records import (
    Arrived,
    ChannelRecord,
    ClientSettings,
    Close,
    ConnectionState,
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
from channels.client.timers import Timer, Timers
from channels.messages import Message

__all__ = ["MAX_SHORT_CONNECTIONS", "STABLE_AFTER", "Protocol"]

MAX_SHORT_CONNECTIONS: Final = 10
"""Short connections in a row after which an open connection no longer starts the table of waits from its beginning.

Otherwise, a server that closes each connection immediately would make the client reconnect a hundred times a second.
"""

STABLE_AFTER: Final = 5.0
"""Seconds after which a connection is no longer short. Its end starts the count and the table from the beginning."""

NORMAL = 1000
_HEARTBEATS = "phoenix"


class Protocol:
    """One socket with its channels.

        protocol = Protocol(ClientSettings(), random)
        effects = protocol.connect(now)

    Args:
        settings: the options.
        random: returns a number from 0 to 1, for jitter.

    Attributes:
        state: the state of the connection.
        channels: the channels that are not closed or not joined yet, in the order of their creation.
        transport: the transport of the next connection.
        connections: the number of connections that have been open so far.
        malformed: the number of frames that were not messages.
        has_ended: True after `disconnect`, or after a final close code.
    """

    def __init__(self, settings: ClientSettings, random: Callable[[], float]) -> None:
        self.settings = settings
        self.state: ConnectionState = "closed"
        self.channels: list[ChannelRecord] = []
        self.transport: wire.TransportName = settings.transport
        self.connections = 0
        self.malformed = 0
        self.has_ended = False
        self._has_begun = False
        self._random = random
        self._now = 0.0
        self._out: list[Effect] = []
        self._timers = Timers()
        self._topics: dict[str, list[ChannelRecord]] = {}
        self._ref = 0
        # Joins and leaves that wait for a connection. Each push waits in its channel.
        self._send_buffer: list[tuple[ChannelRecord, str | None, wire.Frame]] = []
        self._tries = 0
        self._short_connections = 0
        self._reconnect_timer: Timer | None = None
        self._away_since = self._opened_at = 0.0
        self._heartbeat_ref: str | None = None
        self._heartbeat_timer: Timer | None = None
        self._pings: dict[str, float] = {}
        self._leaves: dict[str, tuple[ChannelRecord, Timer]] = {}
        self._fallback_timer: Timer | None = None
        self._is_established = True
        self._fallback_ping: str | None = None

    @property
    def deadline(self) -> float:
        """The time of the next `tick`; infinity if no timer runs."""
        return self._timers.deadline

    def tick(self, now: float) -> list[Effect]:
        """Run the callbacks of the timers that are due."""
        self._now = now
        for timer in self._timers.due(now):
            assert timer.callback is not None
            timer.callback(timer.argument)
        return self._take()

    def _take(self) -> list[Effect]:
        out = self._out
        self._out = []
        return out

    def _start(self, delay: float, callback: Callable[[Any], None], argument: Any = None) -> Timer:
        return self._timers.start(self._now + delay, callback, argument)

    # The program asks

    def connect(self, now: float) -> list[Effect]:
        """Open the connection, and keep it open. Later calls change nothing."""
        if not self._has_begun and not self.has_ended:
            self._has_begun = True
            self._now = self._away_since = now
            self._connect()
        return self._take()

    def disconnect(self, now: float, cause: str = "the program closed the socket") -> list[Effect]:
        """Close the connection and all channels, for good."""
        self._now = now
        if not self.has_ended:
            if self.state != "closed":
                self._emit(Close(NORMAL, ""))
            self._end_socket(events.Disconnected(cause), is_clean=True)
        return self._take()

    def channel(
        self, topic: str, params: Any = None, timeout: float | None = None
    ) -> ChannelRecord:
        """Add a channel, which is not joined yet. If the params are a function, each join calls it."""
        timeout = self.settings.timeout if timeout is None else timeout
        channel = ChannelRecord(topic, params, timeout)
        self.channels.append(channel)
        self._topics.setdefault(topic, []).append(channel)
        return channel

    def join(self, channel: ChannelRecord, now: float) -> list[Effect]:
        """Join for the first time, now or when the connection opens."""
        if channel.joined_once:
            raise RuntimeError(f"the channel {channel.topic!r} was joined before; make another one")
        self._now = now
        payload = self._join_payload(channel)
        channel.joined_once = True
        channel.asked_at = now
        self._rejoin(channel, payload)
        return self._take()

    def push(
        self,
        channel: ChannelRecord,
        event: str,
        payload: Any,
        *,
        now: float,
        timeout: float | None = None,
        is_repeatable: bool = False,
    ) -> tuple[PushRecord, list[Effect]]:
        """Send an event, or keep it until the channel joins.

        A push that is repeatable is sent again after each rejoin, until its answer or the end of its timeout.

        Raises:
            ChannelClosed: the channel is closed.
            EncodeError: the payload has no JSON form.
            BufferFull: too many pushes of this channel wait.
        """
        topic = channel.topic
        if channel.state in ("closed", "leaving"):
            raise ChannelClosed(topic, channel.cause or "it was not joined")
        self._now = now
        seconds = channel.timeout if timeout is None else timeout
        prepared = wire.prepare(topic, event, payload)
        push = PushRecord(channel, event, prepared, seconds, is_repeatable)
        if self.state == "open" and channel.state == "joined":
            self._send_push(push)
        else:
            if channel.buffered >= self.settings.max_buffered:
                raise BufferFull(topic, event, self.settings.max_buffered)
            # Encode only to raise here, and not later, if a name cannot be encoded.
            wire.encode(None, None, topic, event, push.payload)
            channel.buffer.append(push)
            channel.buffered += 1
            push.timer = self._start(seconds, self._push_timed_out, push)
        return push, self._take()

    def cancel(self, push: PushRecord) -> None:
        """Forget a push. If it is still buffered, it is never sent."""
        if push.is_settled:
            return
        push.is_settled = True
        self._timers.cancel(push.timer)
        if push.ref is None:
            push.channel.buffered -= 1
        else:
            push.channel.pending.pop(push.ref, None)

    def leave(self, channel: ChannelRecord, now: float) -> list[Effect]:
        """Leave a topic. The channel closes immediately; `Left` follows when the server has answered."""
        self._now = now
        if channel in self.channels:
            self._leave(channel, "the program left it")
        return self._take()

    def ping(self, now: float) -> tuple[str | None, list[Effect]]:
        """Send a heartbeat outside of the schedule. Return its ref; None if the connection is not open."""
        self._now = now
        if self.state != "open":
            return None, []
        return self._ping(), self._take()

    # The transport reports

    def opened(self, now: float) -> list[Effect]:
        """Handle the open connection: send the waiting frames, and join again."""
        self._now = now
        if self.state != "connecting":
            return []
        self.state = "open"
        self.connections += 1
        self._tell(events.Connected(self.transport, self.connections, self._now - self._away_since))
        waiting, self._send_buffer = self._send_buffer, []
        for channel, join_ref, frame in waiting:
            # The channel may have been lost or left since the client queued this frame.
            if channel.join_ref == join_ref and channel.state != "closed":
                self._emit(Send(frame))
        self._opened_at = now
        if self._short_connections < MAX_SHORT_CONNECTIONS:
            self._tries = 0
        self._timers.cancel(self._reconnect_timer)
        self._arm_heartbeat()
        for channel in tuple(self.channels):
            self._reset_rejoin(channel)
            if channel.state == "errored":
                self._rejoin(channel)
        if self._fallback_timer is not None:
            self._is_established = True
            self._await_fallback()
            self._fallback_ping = self._ping()
        return self._take()

    def received(self, frame: wire.Frame, now: float) -> list[Effect]:
        """Handle a frame of the server."""
        self._now = now
        if self.state != "open":
            return []
        try:
            message = wire.decode(frame)
        except wire.MalformedFrame as fault:
            self.malformed += 1
            self._tell(events.Malformed(str(fault)))
            return self._take()
        ref, topic, join_ref = message.ref, message.topic, message.join_ref
        if type(ref) is str and ref == self._heartbeat_ref:
            self._arm_heartbeat()
        if type(topic) is str:
            for channel in tuple(self._topics.get(topic, ())):
                # The wire has null or an empty string for "any membership".
                if not join_ref or join_ref == channel.join_ref:
                    self._dispatch(channel, message)
        if type(ref) is str:
            self._answered(ref)
        return self._take()

    def lost(self, code: int, reason: str, now: float) -> list[Effect]:
        """Handle the end of an open connection that the client did not close."""
        self._now = now
        if self.state != "open":
            return []
        cause = reason or f"the connection ended with the code {code}"
        if code in self.settings.final_close_codes:
            self._tell(events.Lost(cause, code))
            self._end_socket(events.Disconnected(cause, code), is_clean=False)
        else:
            self._drop_connection(events.Lost(cause, code), "connection_closed")
            self._schedule_reconnect()
        return self._take()

    def failed(self, cause: str, status: int | None, now: float) -> list[Effect]:
        """Handle a connection that did not open."""
        self._now = now
        if self.state != "connecting":
            return []
        self._tell(events.ConnectFailed(cause, status))
        if not self._is_established:
            self._fall_back(cause)
            return self._take()
        self.state = "closed"
        for channel in self.channels:
            self._reset_rejoin(channel)
        self._error_channels("connection_error")
        self._schedule_reconnect()
        return self._take()

    # The connection

    def _connect(self) -> None:
        self._stop_fallback()
        if self.settings.longpoll_fallback_after is not None and self.transport == "websocket":
            self._is_established = False
            self._await_fallback()
        self._open()

    def _open(self) -> None:
        self.state = "connecting"
        self._timers.cancel(self._reconnect_timer)
        self._emit(Open(self.transport))

    def _drop_connection(self, event: events.Lost, reason: str) -> None:
        self.state = "closed"
        if self._now - self._opened_at < STABLE_AFTER:
            self._short_connections += 1
        else:
            self._short_connections = self._tries = 0
        self._away_since = self._now
        self._tell(event)
        self._forget_connection()
        self._error_channels(reason)

    def _forget_connection(self) -> None:
        self._clear_heartbeat()
        for ref in self._pings:
            self._emit(Pong(ref, None))
        self._pings.clear()
        for channel, timer in self._leaves.values():
            self._timers.cancel(timer)
            self._emit(Left(channel))
        self._leaves.clear()

    def _end_socket(self, event: events.Disconnected, *, is_clean: bool) -> None:
        self.has_ended = True
        self.state = "closed"
        self._stop_fallback()
        self._reset_reconnect()
        self._forget_connection()
        for channel in tuple(self.channels):
            self._end(channel, event.cause, is_clean=is_clean)
        self._tell(event)

    def _schedule_reconnect(self) -> None:
        self._timers.cancel(self._reconnect_timer)
        attempt = self._tries + 1
        delay = self.settings.reconnect.delay(attempt, self._random)
        self._reconnect_timer = self._start(delay, self._reconnect)
        self._tell(events.Retrying(delay, attempt))

    def _reconnect(self, _: None) -> None:
        self._tries += 1
        if self.state == "closed":
            self._connect()

    def _reset_reconnect(self) -> None:
        self._tries = 0
        self._timers.cancel(self._reconnect_timer)

    # Heartbeats

    def _arm_heartbeat(self) -> None:
        self._clear_heartbeat()
        # With long polling, the polls show that the server is there.
        if self.transport != "longpoll":
            interval = self.settings.heartbeat_interval
            self._heartbeat_timer = self._start(interval, self._send_heartbeat)

    def _clear_heartbeat(self) -> None:
        self._timers.cancel(self._heartbeat_timer)
        self._heartbeat_ref = None

    def _send_heartbeat(self, _: None) -> None:
        self._heartbeat_ref = self._make_ref()
        self._emit(Send(wire.encode(None, self._heartbeat_ref, _HEARTBEATS, "heartbeat", {})))
        interval = self.settings.heartbeat_interval
        self._heartbeat_timer = self._start(interval, self._heartbeat_timed_out)

    def _heartbeat_timed_out(self, _: None) -> None:
        cause = "heartbeat timeout"
        self._emit(Close(NORMAL, cause))
        self._drop_connection(events.Lost(cause), "heartbeat_timeout")
        self._schedule_reconnect()

    def _ping(self) -> str:
        ref = self._make_ref()
        self._pings[ref] = self._now
        self._emit(Send(wire.encode(None, ref, _HEARTBEATS, "heartbeat", {})))
        return ref

    def _answered(self, ref: str) -> None:
        if (asked_at := self._pings.pop(ref, None)) is not None:
            if ref == self._fallback_ping:
                self._stop_fallback()
            self._emit(Pong(ref, self._now - asked_at))
        if (left := self._leaves.pop(ref, None)) is not None:
            channel, timer = left
            self._timers.cancel(timer)
            self._emit(Left(channel))

    # The fallback to long polling

    def _await_fallback(self) -> None:
        self._timers.cancel(self._fallback_timer)
        seconds = self.settings.longpoll_fallback_after
        assert seconds is not None
        self._fallback_timer = self._start(seconds, self._fall_back, f"no answer in {seconds:g} s")

    def _stop_fallback(self) -> None:
        self._timers.cancel(self._fallback_timer)
        self._fallback_timer = None
        self._fallback_ping = None
        self._is_established = True

    def _fall_back(self, cause: str) -> None:
        self._stop_fallback()
        self._tell(events.FellBack(cause))
        was = self.state
        self._reset_reconnect()
        if was != "closed":
            self._emit(Close(NORMAL, ""))
        if was == "open":
            self._drop_connection(events.Lost(cause), "connection_closed")
        self.transport = "longpoll"
        self._open()

    # Channels

    def _dispatch(self, channel: ChannelRecord, message: Message) -> None:
        match message.event:
            case "phx_reply":
                self._reply(channel, message)
            case "phx_error":
                self._crash(channel, wire.reason_of(message.payload), is_crash=True)
            case "phx_close":
                self._end(channel, "the server closed it", is_clean=True)
            case _:
                self._emit(Arrived(channel, message))

    def _reply(self, channel: ChannelRecord, message: Message) -> None:
        ref, payload = message.ref, message.payload
        if type(ref) is not str or type(payload) is not dict or "status" not in payload:
            return
        status, response = str(payload["status"]), payload.get("response")
        push = channel.pending.get(ref)
        if push is not None:
            self._settle(push, status, response)
        elif ref == channel.join_ref and not channel.is_answered:
            self._timers.cancel(channel.join_timer)
            channel.is_answered = True
            if status == "ok":
                self._joined(channel, response)
            else:
                channel.state = "errored"
                self._tell(events.JoinRejected(channel.topic, status, response), channel)
                self._schedule_rejoin(channel)

    def _joined(self, channel: ChannelRecord, response: Any) -> None:
        channel.state = "joined"
        channel.response = response
        self._reset_rejoin(channel)
        if channel.was_joined:
            since = channel.asked_at if channel.lost_at is None else channel.lost_at
            self._tell(events.Rejoined(channel.topic, response, self._now - since), channel)
        else:
            channel.was_joined = True
            self._tell(
                events.Joined(channel.topic, response, self._now - channel.asked_at), channel
            )
        channel.lost_at = None
        waiting, channel.buffer = channel.buffer, []
        channel.buffered = 0
        for push in waiting:
            if not push.is_settled:
                self._send_push(push)

    def _crash(self, channel: ChannelRecord, cause: str, *, is_crash: bool = False) -> None:
        if channel.state == "closed":
            return
        if channel.state == "joining":
            self._reset_join(channel)
        if channel.state == "joined":
            channel.lost_at = self._now
            self._take_back(channel)
        channel.state = "errored"
        self._tell(events.ChannelLost(channel.topic, cause, is_crash), channel)
        self._schedule_rejoin(channel)

    def _error_channels(self, reason: str) -> None:
        for channel in tuple(self.channels):
            if channel.state in ("joining", "joined"):
                self._crash(channel, reason)

    def _schedule_rejoin(self, channel: ChannelRecord) -> None:
        # Without a connection, start no timer: the next connection rejoins.
        if self.state == "open":
            self._timers.cancel(channel.rejoin_timer)
            attempt = channel.tries + 1
            delay = self.settings.rejoin.delay(attempt, self._random)
            channel.rejoin_timer = self._start(delay, self._rejoin_in_time, channel)
            self._tell(events.Rejoining(channel.topic, delay, attempt), channel)

    def _rejoin_in_time(self, channel: ChannelRecord) -> None:
        channel.tries += 1
        if self.state == "open":
            self._rejoin(channel)

    def _reset_rejoin(self, channel: ChannelRecord) -> None:
        channel.tries = 0
        self._timers.cancel(channel.rejoin_timer)

    def _rejoin(self, channel: ChannelRecord, payload: Any = None) -> None:
        if payload is None:
            payload = self._join_payload(channel)
        for other in tuple(self._topics[channel.topic]):
            if other is not channel and other.state in ("joined", "joining"):
                self._leave(other, "another channel of the socket has joined the topic")
        channel.state = "joining"
        self._reset_join(channel)
        ref = channel.join_ref = self._make_ref()
        channel.is_answered = False
        channel.join_timer = self._start(channel.timeout, self._join_timed_out, channel)
        frame = wire.encode(ref, ref, channel.topic, "phx_join", payload)
        if self.state == "open":
            self._emit(Send(frame))
        else:
            # Keep at most one join of a channel: earlier joins are outdated.
            kept = [each for each in self._send_buffer if each[0] is not channel]
            self._send_buffer = [*kept, (channel, ref, frame)]

    def _join_payload(self, channel: ChannelRecord) -> Any:
        params = channel.params() if callable(channel.params) else channel.params
        payload = wire.prepare(channel.topic, "phx_join", params)
        # Encode only to raise before any state has changed.
        wire.encode(None, None, channel.topic, "phx_join", payload)
        return payload

    def _reset_join(self, channel: ChannelRecord) -> None:
        self._timers.cancel(channel.join_timer)
        channel.join_ref = None
        channel.is_answered = True

    def _join_timed_out(self, channel: ChannelRecord) -> None:
        # The server may have accepted the join, and its answer may be on the way.
        self._transmit_leave(channel)
        channel.state = "errored"
        self._reset_join(channel)
        self._tell(events.JoinTimedOut(channel.topic), channel)
        self._schedule_rejoin(channel)

    def _leave(self, channel: ChannelRecord, cause: str) -> None:
        self._reset_rejoin(channel)
        self._timers.cancel(channel.join_timer)
        channel.state = "leaving"
        ref = self._transmit_leave(channel)
        if self.state == "open":
            timer = self._start(channel.timeout, self._leave_timed_out, ref)
            self._leaves[ref] = channel, timer
        else:
            self._emit(Left(channel))
        self._end(channel, cause, is_clean=True)

    def _leave_timed_out(self, ref: str) -> None:
        channel, _ = self._leaves.pop(ref)
        self._emit(Left(channel))

    def _transmit_leave(self, channel: ChannelRecord) -> str:
        ref = self._make_ref()
        frame = wire.encode(channel.join_ref, ref, channel.topic, "phx_leave", {})
        # Without a connection there is nothing to leave.
        if self.state == "open":
            self._emit(Send(frame))
        return ref

    def _end(self, channel: ChannelRecord, cause: str, *, is_clean: bool) -> None:
        if channel not in self.channels:
            return
        self._reset_rejoin(channel)
        self._timers.cancel(channel.join_timer)
        channel.state = "closed"
        channel.cause = cause
        self.channels.remove(channel)
        same = self._topics[channel.topic]
        same.remove(channel)
        if not same:
            del self._topics[channel.topic]
        self._send_buffer = [each for each in self._send_buffer if each[0] is not channel]
        for push in (*channel.pending.values(), *channel.buffer):
            self._settle(push, "closed", cause)
        channel.buffer.clear()
        self._tell(events.ChannelEnded(channel.topic, cause), channel)
        self._emit(Ended(channel, is_clean))

    # Pushes

    def _send_push(self, push: PushRecord) -> None:
        channel = push.channel
        ref = self._make_ref()
        frame = wire.encode(channel.join_ref, ref, channel.topic, push.event, push.payload)
        push.ref = ref
        if not push.was_sent:
            # As in phoenix.js, the timeout starts again with the first frame. Later frames do not restart it: a push
            # that crashes its channel must not repeat for ever.
            push.was_sent = True
            self._timers.cancel(push.timer)
            push.timer = self._start(push.timeout, self._push_timed_out, push)
        channel.pending[ref] = push
        self._emit(Send(frame))

    def _take_back(self, channel: ChannelRecord) -> None:
        """Put the repeatable pushes that were sent before the unsent pushes, to send all after the rejoin."""
        again = [push for push in channel.pending.values() if push.is_repeatable]
        for push in again:
            assert push.ref is not None  # it is pending
            del channel.pending[push.ref]
            push.ref = None
        channel.buffer[:0] = again
        channel.buffered += len(again)

    def _push_timed_out(self, push: PushRecord) -> None:
        self._settle(push, "timeout", None)

    def _settle(self, push: PushRecord, status: str, response: Any) -> None:
        if not push.is_settled:
            self.cancel(push)
            self._emit(Settled(push, status, response))

    # Frames

    def _make_ref(self) -> str:
        self._ref += 1
        return str(self._ref)

    def _emit(self, effect: Effect) -> None:
        self._out.append(effect)

    def _tell(self, event: events.Lifecycle, channel: ChannelRecord | None = None) -> None:
        self._out.append(Tell(event, channel))
