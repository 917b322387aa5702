"""The process of one client, for any transport. It runs a `Session`, and carries out the effects of the session.

    transport ── frames ──▶ SessionServer ──▶ Session (pure) ──▶ Start, Deliver, Send, Close
                                 ▲
    channels ── Refused, ChannelClosed, Down, ReadOn

Subclasses deliver the client's frames, stop and resume reading from the client, and close the connection. The process
is linked only to its supervisor. The process and its channels monitor each other.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Coroutine, Sequence
from typing import Any

import trio

from actors.errors import CallExit
from actors.exits import ExitReason, Shutdown, is_normal_exit
from actors.links import monitor, send_exit
from actors.messages import Down
from actors.process import current_pid, is_alive, send
from actors.refs import Pid, TimerRef
from actors.servers.gen_server import GenServer, Request
from actors.servers.results import Stop
from actors.sys import ServerStatus
from actors.timers import cancel_timer, send_after
from channels.messages import Broadcast
from channels.protocol.link import (
    DUPLICATE_JOIN,
    READ_ON_AT,
    ChannelClosed,
    Expire,
    Gone,
    Link,
    ReadOn,
    Refused,
    Tap,
)
from channels.protocol.session import (
    BURST,
    Close,
    Deliver,
    Effect,
    Ignored,
    Limit,
    Limited,
    Membership,
    Send,
    Session,
    Start,
    TokenBucket,
    Unmatched,
)
from channels.protocol.ticket import Ticket
from channels.protocol.work_budget import COST_SHIFT
from channels.serializers.json_values import LIGHT, PIECE, JsonWeight
from channels.serializers.serializer import Codec
from channels.serving.services import Services
from channels.socket import bind
from channels.telemetry import (
    CHANNEL_CRASHED,
    CONNECTION_CLOSED,
    SESSION_STARTED,
    SOCKET_EXPIRED,
    SOCKET_HELD_BACK,
    SOCKET_IGNORED,
    SOCKET_INCOMING_SHED,
    SOCKET_LATEST_DROPPED,
    SOCKET_MALFORMED,
    SOCKET_OVERFLOW,
    SOCKET_RATE_LIMITED,
    SOCKET_SHED,
    SOCKET_UNMATCHED_TOPIC,
)
from channels.transports.contract import Out, Signal
from channels.upgrade.connecting import Connected

__all__ = [
    "CLOSED",
    "FREE_BYTES",
    "INACTIVE",
    "PROTOCOL_ERROR",
    "TRY_AGAIN_LATER",
    "UNDECIDED_LIMIT",
    "WAITING_LIMIT",
    "Drain",
    "SessionServer",
    "pass_on",
]

# Messages that can wait for one channel. At the limit, the server stops reading from the client until the channel has
# handled half of them. The channel still gets messages that the server has already read, so the limit is not exact.
# Phoenix has no limit.
WAITING_LIMIT = 1024
# A long message counts once more for each 8 KiB. This constant is the shift for 8 KiB.
HEAVY_SHIFT = 13
# Joins of one topic that can wait for the answer to an earlier join. At the limit, a new join replaces the latest
# waiting join, which gets the reply "join crashed". phoenix.js sends one join at a time.
UNDECIDED_LIMIT = 8
# The maximum bytes of a message that costs nothing. A longer message takes units of the work budget.
FREE_BYTES = 512
# The cost of starting a channel, in units of the work budget.
JOIN_COST = 24
# The server emits `SOCKET_HELD_BACK` when a client's data has waited for this many turns of the scheduler.
HELD_BACK_AT = 100

GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
MESSAGE_TOO_BIG = 1009
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013
# In the IANA registry of close codes, 3000 means "Unauthorized", like HTTP 401. Every version of phoenix.js reconnects
# after this code.
UNAUTHORIZED = 3000

DISCONNECTED = Shutdown("disconnected")
DRAINING = Shutdown("draining")
CLOSED = Shutdown("closed")
INACTIVE = Shutdown("inactive")
EXPIRED = Shutdown("expired")


class Drain:
    """A request to a connection to close with 1012, so that its client reconnects to another server."""

    __slots__ = ()


class _Expiry:
    """The message of the timer for the deadline of the connection. The deadline may have moved in the meantime."""

    __slots__ = ()


def _bucket(rate: float, least: float) -> TokenBucket | None:
    """Return a bucket for a rate limit; None if there is no limit. The bucket can hold at least `least` tokens."""
    if rate == math.inf:
        return None
    return TokenBucket(rate=rate, burst=max(least, BURST * rate), now=trio.current_time())


def pass_on(pid: Pid, message: Any) -> None:
    """Send a message as `send` does, without the checks of its arguments. This runs for every read and every push."""
    process = pid.process
    if process is not None and not process.runtime.guarded:
        process.mailbox.put(message)
    else:
        send(pid, message)


class SessionServer(GenServer[None]):
    """The process of one client. The supervisor never restarts it, because the client reconnects."""

    # Slots, because a dict would take 300 bytes more of each connection. Python shares the keys of dicts only if the
    # first 30 instances set all their attributes early.
    __slots__ = (
        "_tickets",
        "closing",
        "has_rates",
        "is_json",
        "link",
        "mount",
        "out",
        "paused",
        "pid",
        "services",
        "session",
        "socket",
        "tap",
        "turns",
    )

    # Most connections never set these, so the defaults belong to the class and take no memory in each connection.
    # The deadline from `expire_connection_after`, and its timer. Most connections have no deadline.
    deadline: float = math.inf
    expiry: TimerRef | None = None
    # True after a malformed message that the server dropped.
    has_ignored: bool = False
    # The size of the incomplete message that the server dropped to save memory; 0 if it dropped none.
    shed_bytes: int = 0
    code: int | None = None
    cause = ""
    # The limits that the client has exceeded.
    limited: tuple[Limit, ...] = ()
    # The channels that have not ended yet, although the client has joined their topic again, by topic. The dict is made
    # on first use.
    replaced: dict[str, list[Pid]] | None = None

    def _set_up(self, services: Services) -> None:
        """Set the fields that exist before the session begins. Subclasses call this in `init`."""
        self.services = services
        self.pid = current_pid()
        self.paused = False
        self.closing: Shutdown | None = None
        # Turns of the scheduler that the client's latest message has waited.
        self.turns = 0
        # A recorder may set this. Then the recorder records the messages of the client, and also sends them on.
        self.tap: Tap | None = None
        # The tickets of the channels that run: None, a single one, or a dict by process. A dict for every client would
        # take 224 bytes more. This is no `SmallSet`, because the end of a channel looks up the ticket of its pid.
        self._tickets: Ticket | dict[Pid, Ticket] | None = None

    def _begin(self, connected: Connected, codec: Codec, out: Out) -> None:
        """Begin the session of a client that `connect` has accepted."""
        services, mount = self.services, connected.mount
        self.mount = mount
        self.socket = connected.socket
        self.out = out
        self.is_json = codec.is_json
        self._begin_session(codec)
        self.link = Link(
            connection=self.pid,
            out=out,
            codec=codec,
            pubsub=services.pubsub,
            endpoint=services.endpoint,
            assigns=self.socket.assigns,
            count=services.counting,
            budget=services.budget,
            id=connected.id,
            trace=connected.trace,
            runtime=services.runtime,
        )
        if connected.id is not None:
            services.pubsub.subscribe(connected.id)
        deadline = bind(self.socket, self.link)
        if deadline < math.inf:
            self._expire_at(deadline)
        telemetry = services.runtime.telemetry
        if telemetry.handlers(SESSION_STARTED):
            about = {
                "endpoint": services.endpoint,
                "pid": self.pid,
                "server": self,
                "id": connected.id,
            }
            telemetry.execute(SESSION_STARTED, {}, about)

    def _begin_session(self, codec: Codec) -> None:
        mount = self.mount
        messages = joins = None
        self.has_rates = mount.has_rates
        if mount.has_rates:
            messages = _bucket(mount.max_messages_per_second, 1.0)
            joins = _bucket(mount.max_joins_per_second, float(mount.max_channels))
        self.session = Session(
            codec,
            mount.match,
            max_channels=mount.max_channels,
            max_joining=mount.max_joining,
            messages=messages,
            joins=joins,
        )

    # For subclasses

    @abstractmethod
    def _leave_unread(self) -> None:
        """Stop reading from the client until `_read_again`."""

    @abstractmethod
    def _read_again(self) -> None:
        """Read from the client again."""

    @abstractmethod
    def _say_goodbye(self, code: int) -> None:
        """Send the closing frame, if the transport has one. A call of `_ended` follows."""

    def _may_read(self) -> bool:
        """Return True if the transport can read more from the client."""
        return True

    # Messages of other processes

    def handle_info_nowait(self, message: Any) -> Any:
        kind = type(message)
        # From a channel. If this process is idle, it handles the message in the task of the channel. This saves a step
        # of the scheduler for each channel that ends.
        if kind is Down:
            self._channel_ended(message)
            return None
        if kind is ChannelClosed or kind is Refused or kind is ReadOn:
            self._take(message)
            return None
        return self.handle_info(message)

    def _take(self, message: Any) -> None:
        """Handle a message of another process. Ignore an unknown message."""
        kind = type(message)
        if kind is Down:
            self._channel_ended(message)
        elif kind is ChannelClosed:
            self.session.closed(message.ticket.membership)
        elif kind is Refused:
            self.session.refused(message.ticket.membership)
        elif kind is ReadOn:
            if self.paused:
                self._read_on()
        elif message is Signal.LATEST_DROPPED:
            self._report_latest_dropped()
        elif kind is Signal:
            self._close_large_client(message)
        elif kind is Drain:
            self._close(SERVICE_RESTART, DRAINING, "the server drains")
        elif kind is Expire:
            self._expire_at(message.deadline)
        elif kind is _Expiry:
            self._expire()
        elif kind is Broadcast and message.event == "disconnect":
            self._close(GOING_AWAY, DISCONNECTED, "disconnect was broadcast")

    def _channel_ended(self, down: Down) -> None:
        membership = self._take_out(down.pid)
        if self.paused:
            self._read_on()
        if membership is not None and self.closing is None:
            if self.replaced:
                self._not_gone_yet(membership.topic)
            if self.services.runtime.telemetry.handlers(CHANNEL_CRASHED):
                self._report_end(membership, down.reason)
            self._send_last_frames(membership)

    def _send_last_frames(self, membership: Membership) -> None:
        """Send the last frames of a membership whose channel has ended or could not start."""
        for effect in self.session.exited(membership):
            if type(effect) is Send:
                self.out.put(effect.frame)
            elif type(effect) is Close:
                self._close_for(effect)

    def _close_large_client(self, signal: Signal) -> None:
        if signal is Signal.INCOMING_SHED:
            self._close_for_memory(
                "the incomplete messages of all clients are too large together, and this one is among the largest"
            )
            return
        if signal is Signal.SHED:
            event = SOCKET_SHED
            cause = "too many bytes wait for all clients together, and most of them for this client"
        else:
            event, cause = SOCKET_OVERFLOW, "the client reads too slowly"
        self._report(event, cause, TRY_AGAIN_LATER)
        self._close(TRY_AGAIN_LATER, CLOSED, cause)

    def _report_latest_dropped(self) -> None:
        """Count and report that a value did not fit into the bounds of `push_latest`. The client stays connected."""
        self.services.count(SOCKET_LATEST_DROPPED)
        waiting = self.out.statistics()
        self.services.runtime.telemetry.execute(
            SOCKET_LATEST_DROPPED,
            {"values": waiting.latest_values, "bytes": waiting.latest_bytes},
            {"endpoint": self.services.endpoint, "pid": self.pid},
        )

    def _close_for_memory(self, cause: str) -> None:
        """Close a client whose message was dropped."""
        if self.closing is None:
            self._report(SOCKET_INCOMING_SHED, cause, TRY_AGAIN_LATER, {"bytes": self.shed_bytes})
            self._close(TRY_AGAIN_LATER, CLOSED, cause)

    def _expire_at(self, deadline: float) -> None:
        if self.expiry is not None:
            cancel_timer(self.expiry)
        self.deadline = deadline
        self.expiry = (
            None
            if deadline == math.inf
            else send_after(self.pid, _Expiry(), max(0.0, deadline - trio.current_time()))
        )

    def _expire(self) -> None:
        if trio.current_time() < self.deadline:
            # The deadline moved after the timer fired, or a rounded delay made the timer fire early.
            self._expire_at(self.deadline)
        elif self.closing is None:
            cause = "the time of the connection is over"
            self._report(SOCKET_EXPIRED, cause, UNAUTHORIZED)
            self._close(UNAUTHORIZED, EXPIRED, cause)

    def _report_end(self, membership: Membership, reason: ExitReason) -> None:
        """Emit `CHANNEL_CRASHED` for a channel that ended with an error."""
        if membership.ended or is_normal_exit(reason):
            return
        about = {
            "endpoint": self.services.endpoint,
            "channel": membership.route.channel,
            "topic": membership.topic,
            "connection": self.pid,
            "reason": reason,
        }
        self.services.runtime.telemetry.execute(CHANNEL_CRASHED, {}, about)

    def format_status(self, status: ServerStatus) -> ServerStatus:
        """Keep messages of the client out of crash reports, because the messages contain unmasked secrets."""
        message = status.message
        if isinstance(message, bytes):
            status.message = f"<{len(message)} bytes>"
        elif message is not None:
            status.message = f"<{type(message).__name__}>"
        return status

    # Flow control

    def _pause(self) -> None:
        if not self.paused:
            self.paused = True
            self._leave_unread()

    def _read_on(self) -> None:
        """Read again after a pause, unless the transport or a channel is still behind."""
        if self._may_read() and all(ticket.waiting <= READ_ON_AT for ticket in self._each_ticket()):
            self.paused = False
            self._read_again()

    # Messages of the client

    async def _hear(self, data: bytes, *, binary: bool) -> None:
        """Handle one message of the client.

        Nothing can interrupt the decoding of a message. So the server first counts the values of a long message. Then
        it waits for a turn of the scheduler with enough budget, and decodes the message.
        """
        size = len(data)
        if size > LIGHT and self.is_json(data, binary) and not await self._is_bearable(data):
            return
        if size > FREE_BYTES:
            await self._take_turn(size >> COST_SHIFT)
        if self.closing is None and not self.shed_bytes:
            waiting = self._carry_out(self.session.receive(data, binary=binary), size)
            if waiting is not None:
                await waiting

    async def _is_bearable(self, data: bytes) -> bool:
        """Return True if a long JSON message has at most `max_json_values`. If it has more, close the connection."""
        weight, limit = JsonWeight(), self.mount.max_json_values
        for start in range(0, len(data), PIECE):
            await self._take_turn(PIECE >> COST_SHIFT)
            if self.shed_bytes:
                return False
            weight.feed(data[start : start + PIECE])
            if weight.values > limit:
                self.services.count(("socket", "too_many_values"))
                cause = (
                    f"a message of {len(data):,} bytes has more than {limit:,} JSON values; to allow more, "
                    "raise Mount(max_json_values=)"
                )
                self._report(SOCKET_MALFORMED, cause, MESSAGE_TOO_BIG)
                self._close(MESSAGE_TOO_BIG, CLOSED, cause)
                return False
        return True

    def _begin_work(self) -> None:
        """Reset the count of turns. After `SOCKET_HELD_BACK`, keep the count, so that the event does not recur."""
        if self.turns < HELD_BACK_AT:
            self.turns = 0

    async def _take_turn(self, cost: int) -> None:
        """Take `cost` units of the work budget. If too few are left, wait for a later turn of the scheduler."""
        if await self.services.budget.take(cost):
            self.turns += 1
            if self.turns == HELD_BACK_AT:
                self.services.count(SOCKET_HELD_BACK)
                self.services.runtime.telemetry.execute(
                    SOCKET_HELD_BACK,
                    {"turns": self.turns},
                    {"endpoint": self.services.endpoint, "pid": self.pid},
                )

    def _carry_out(  # noqa: C901, PLR0912 - one branch for each effect
        self, effects: Sequence[Effect], size: int = 0
    ) -> Coroutine[Any, Any, None] | None:
        """Carry out the effects of one message of the client.

        Args:
            effects: the effects. Only the last one can be a `Start`.
            size: the size of the message in bytes.

        Returns:
            A coroutine that waits until a channel has started; None if the work is done.
        """
        for effect in effects:
            kind = type(effect)
            if kind is Deliver:
                membership = effect.membership  # type: ignore[union-attr]
                process = membership.process
                if process is not None:
                    found: Any = self._tickets
                    ticket = found if type(found) is Ticket else found[process]
                    if size >> HEAVY_SHIFT:
                        ticket.load(effect.message, 1 + (size >> HEAVY_SHIFT))  # type: ignore[union-attr]
                    else:
                        ticket.waiting += 1
                    if ticket.waiting >= WAITING_LIMIT:
                        self._pause()
                    if self.tap is None:
                        pass_on(process, effect.message)  # type: ignore[union-attr]
                    else:
                        self.tap.deliver(self.pid, process, effect.message, size)  # type: ignore[union-attr]
            elif kind is Send:
                self.out.put(effect.frame)  # type: ignore[union-attr]
            elif kind is Start:
                return self._start(effect)  # type: ignore[arg-type]
            elif kind is Close:
                self._close_for(effect)  # type: ignore[arg-type]
            elif kind is Limited:
                self._report_limited(effect.limit)  # type: ignore[union-attr]
            elif kind is Unmatched:
                self._report_unmatched(effect.topic)  # type: ignore[union-attr]
            elif kind is Ignored:
                self._report_ignored(effect.cause)  # type: ignore[union-attr]
        return None

    def _close_for(self, close: Close) -> None:
        """Close the connection of a client that has violated the protocol."""
        self._report(SOCKET_MALFORMED, close.cause, close.code)
        self._close(close.code, CLOSED, close.cause)

    def _report_limited(self, limit: Limit) -> None:
        """Count a refused message, and emit `SOCKET_RATE_LIMITED` once for each limit of this client."""
        self.services.count(("socket", limit))
        if limit not in self.limited:
            self.limited = (*self.limited, limit)
            self.services.runtime.telemetry.execute(
                SOCKET_RATE_LIMITED,
                {},
                {"endpoint": self.services.endpoint, "pid": self.pid, "limit": limit},
            )

    def _report_ignored(self, cause: str) -> None:
        """Count a malformed message that was dropped, and emit `SOCKET_IGNORED` once for this client."""
        self.services.count(SOCKET_IGNORED)
        if not self.has_ignored:
            self.has_ignored = True
            about = {"endpoint": self.services.endpoint, "pid": self.pid, "cause": cause}
            self.services.runtime.telemetry.execute(SOCKET_IGNORED, {}, about)

    def _report_unmatched(self, topic: Any) -> None:
        """Count a join of a topic without a route, and emit `SOCKET_UNMATCHED_TOPIC`."""
        self.services.count(SOCKET_UNMATCHED_TOPIC)
        telemetry = self.services.runtime.telemetry
        if telemetry.handlers(SOCKET_UNMATCHED_TOPIC):
            about = {
                "endpoint": self.services.endpoint,
                "pid": self.pid,
                "socket": type(self.socket),
                "topic": topic,
                "routes": self.mount.router.routes,
            }
            telemetry.execute(SOCKET_UNMATCHED_TOPIC, {}, about)

    def _start(self, start: Start) -> Coroutine[Any, Any, None] | None:
        """Start the channel of a join. Return a coroutine if the start must wait."""
        budget = self.services.budget
        if not budget.has_room(JOIN_COST):
            return self._start_later(start)
        budget.spend(JOIN_COST)
        return self._start_channel(start)

    async def _start_later(self, start: Start) -> None:
        await self._take_turn(JOIN_COST)
        waiting = self._start_channel(start)
        if waiting is not None:
            await waiting

    def _start_channel(self, start: Start) -> Coroutine[Any, Any, None] | None:
        membership, replaced = start.membership, start.replaced
        if replaced is not None and replaced.process is not None:
            self._replace(replaced)
        ticket = Ticket(membership)
        try:
            request = self.mount.start_channel(
                self.link,
                ticket,
                start.message.payload,
                self._not_gone_yet(membership.topic) if self.replaced else (),
            )
        except CallExit:
            # The pool is restarting or dead.
            self._send_last_frames(membership)
            return None
        if not request.done:
            return self._wait_for_start(ticket, request)
        self._started(ticket, request.result())
        return None

    async def _wait_for_start(self, ticket: Ticket, request: Request) -> None:
        try:
            started = await request.wait_result()
        except CallExit:
            self._send_last_frames(ticket.membership)
            return
        self._started(ticket, started)

    def _started(self, ticket: Ticket, started: Any) -> None:
        """Note the process of a channel, or the failure of its start."""
        if type(started) is Pid:
            self._add(ticket, started)
        else:
            # The pool is full, or the start of the application's server failed. The client gets "join crashed", and
            # joins again later.
            self._send_last_frames(ticket.membership)

    def _replace(self, replaced: Membership) -> None:
        """End the channel of a membership that the client has replaced, unless it still has to answer its join."""
        if self.replaced is None:
            self.replaced = {}
        before = self.replaced.setdefault(replaced.topic, [])
        if replaced.status != "superseded":
            send_exit(replaced.process, DUPLICATE_JOIN)
        elif len(before) >= UNDECIDED_LIMIT:
            # The replaced channel still waits for earlier channels, so its join has not begun.
            self.services.count(("session", "joins_given_up"))
            self.session.give_up(replaced)
            send_exit(replaced.process, DUPLICATE_JOIN)
        before.append(replaced.process)

    @property
    def members(self) -> Collection[Membership]:
        """The memberships whose channels run, in the order of their starts."""
        return [ticket.membership for ticket in self._each_ticket()]

    def _each_ticket(self) -> Collection[Ticket]:
        found = self._tickets
        if found is None:
            return ()
        return found.values() if isinstance(found, dict) else (found,)

    def _add(self, ticket: Ticket, pid: Pid) -> None:
        self.session.started(ticket.membership, pid)
        monitor(pid)
        found = self._tickets
        if found is None:
            self._tickets = ticket
        elif isinstance(found, dict):
            found[pid] = ticket
        else:
            self._tickets = {found.membership.process: found, pid: ticket}

    def _take_out(self, pid: Pid | None) -> Membership | None:
        """Forget the ticket of a channel that has ended. Return its membership; None if `pid` is no channel."""
        found = self._tickets
        ticket = None
        if isinstance(found, dict):
            ticket = found.pop(pid, None) if pid is not None else None
        elif found is not None and found.membership.process is pid:
            ticket, self._tickets = found, None
        return None if ticket is None else ticket.membership

    def _not_gone_yet(self, topic: str) -> tuple[Pid, ...]:
        """Return the replaced channels of a topic that have not ended."""
        assert self.replaced is not None  # the caller has checked it
        alive = [pid for pid in self.replaced.pop(topic, ()) if is_alive(pid)]
        if alive:
            self.replaced[topic] = alive
        return tuple(alive)

    # The end

    def _close(self, code: int, reason: Shutdown, cause: str) -> None:
        """Close the connection. Only the first call has an effect."""
        if self.closing is None:
            self._note_end(code, reason, cause)
            self._say_goodbye(code)

    def _note_end(self, code: int, reason: Shutdown, cause: str) -> None:
        """Note the reason for the end, and tell the channels."""
        self.closing, self.code, self.cause = reason, code, cause
        for ticket in self._each_ticket():
            ticket.waiting += 1
            send(ticket.membership.process, Gone(reason))

    def _ended(self) -> Stop:
        telemetry = self.services.runtime.telemetry
        if telemetry.handlers(CONNECTION_CLOSED):
            topics = [membership.topic for membership in self.session.memberships]
            telemetry.execute(
                CONNECTION_CLOSED,
                {},
                {
                    "endpoint": self.services.endpoint,
                    "pid": self.pid,
                    "code": self.code,
                    "cause": self.cause,
                    "topics": topics,
                },
            )
        return Stop(self.closing or CLOSED)

    def _report(
        self,
        event: tuple[str, ...],
        cause: str,
        code: int,
        measurements: dict[str, int] | None = None,
    ) -> None:
        self.services.count(event)
        telemetry = self.services.runtime.telemetry
        if self.closing is None and telemetry.handlers(event):
            telemetry.execute(
                event,
                measurements or {"dropped": self.out.statistics().dropped_messages},
                {
                    "endpoint": self.services.endpoint,
                    "pid": self.pid,
                    "cause": cause,
                    "code": code,
                },
            )
