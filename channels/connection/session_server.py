"""The process of one client, for any transport. It runs a `Session`, which calls it back.

    transport ── frames ──▶ SessionServer ──▶ Session (pure)
                               ▲   ▲               │ start_channel, deliver, stop_channel, send_frame, violated
    channels ── Down, ReadOn ──┘   └───────────────┘

Subclasses deliver the client's frames, stop and resume reading from the client, and close the connection. The process
is linked only to its supervisor. The process and its channels monitor each other.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import trio

from actors.errors import CallExit
from actors.exits import ExitReason, Shutdown, is_normal_exit
from actors.links import kill, monitor, send_exit
from actors.messages import Down
from actors.process import current_pid, on_exit, send
from actors.refs import Pid, TimerRef
from actors.servers.gen_server import GenServer, Request
from actors.servers.results import Stop
from actors.sys import ServerStatus
from actors.timers import cancel_timer, send_after
from channels.messages import Broadcast, Message
from channels.protocol.link import (
    DUPLICATE_JOIN,
    READ_ON_AT,
    Expire,
    Gone,
    Link,
    ReadOn,
    Tap,
)
from channels.protocol.session import BURST, Limit, Membership, Session, TokenBucket, weight_of
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
    "WAITING_LIMIT",
    "Drain",
    "SessionServer",
    "pass_on",
]

# Messages that can wait for one channel. At the limit, the server stops reading from the client until the channel has
# handled half of them. The channel still gets messages that the server has already read, so the limit is not exact.
# Phoenix has no limit.
WAITING_LIMIT = 1024
# Seconds for a replaced channel to answer its join and to end. After that, the server kills it. Phoenix gives a
# replaced channel the same time to end, and has no limit for the answer.
REPLACED_GRACE = 5.0
# The bytes from which a message counts more than once for `WAITING_LIMIT`. See `weight_of`.
HEAVY = 8192
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


class _Starting:
    """A channel that has not started yet.

    Attributes:
        membership: its membership.
        payload: the payload of the join.
        request: the request to the pool; None if the join still waits for the work budget.
        failed: True if the pool does not run.
    """

    __slots__ = ("failed", "membership", "payload", "request")

    def __init__(self, membership: Membership, payload: Any) -> None:
        self.membership = membership
        self.payload = payload
        self.request: Request | None = None
        self.failed = False


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
        "_members",
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
    exceeded: tuple[Limit, ...] = ()
    # The timers that kill replaced channels, by process. The dict is made on first use.
    overdue: dict[Pid, TimerRef] | None = None
    # The channel that has not started yet. Nothing is read from the client until it has started.
    starting: _Starting | None = None

    def _set_up(self, services: Services) -> None:
        """Set the fields that exist before the session begins. Subclasses call this in `init`."""
        self.services = services
        on_exit(self._release)
        self.pid = current_pid()
        self.paused = False
        self.closing: Shutdown | None = None
        # Turns of the scheduler that the client's latest message has waited.
        self.turns = 0
        # A recorder may set this. Then the recorder records the messages of the client, and also sends them on.
        self.tap: Tap | None = None
        # The memberships whose channels run: None, a single one, or a dict by process. A dict for every client would
        # take 224 bytes more. This is no `SmallSet`, because the end of a channel looks up the membership of its pid.
        self._members: Membership | dict[Pid, Membership] | None = None

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
        self._emit(SESSION_STARTED, {}, {"server": self, "id": connected.id})

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
            self,
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
            return None if self.starting is None else self._finish_starts()
        if kind is ReadOn:
            self._take(message)
            return None
        return self.handle_info(message)

    def _take(self, message: Any) -> None:
        """Handle a message of another process. Ignore an unknown message. A call of `_finish_starts` follows."""
        kind = type(message)
        if kind is Down:
            self._channel_ended(message)
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
        if membership is not None:
            if self.overdue and (timer := self.overdue.pop(membership.process, None)) is not None:
                self.services.runtime.timers.forget(timer)
            if self.closing is None:
                self._report_end(membership, down.reason)
                self.session.exited(membership)
        if self.paused:
            self._read_on()

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
        self._emit(
            SOCKET_LATEST_DROPPED,
            {"values": waiting.latest_values, "bytes": waiting.latest_bytes},
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
        if not membership.is_gone and not is_normal_exit(reason):
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
        waiting = (self.session.waiting, *(each.waiting for each in self.members))
        if self._may_read() and max(waiting) <= READ_ON_AT:
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
            self.session.receive(data, binary=binary)
            if self.starting is not None:
                await self._finish_starts()

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
                self._emit(SOCKET_HELD_BACK, {"turns": self.turns})

    # The calls of the session

    def deliver(self, membership: Membership, message: Message, size: int) -> None:
        """Pass a message to the channel of a membership, and stop reading if too many messages wait for it."""
        process = membership.process
        if size < HEAVY:
            # This runs for each push, so it saves a call.
            membership.waiting += 1
        else:
            membership.load(message, weight_of(size))
        if membership.waiting >= WAITING_LIMIT:
            self._pause()
        if self.tap is None:
            pass_on(process, message)
        else:
            self.tap.deliver(self.pid, process, message, size)

    def send_frame(self, frame: bytes) -> None:
        """Write a frame to the client."""
        self.out.put(frame)

    def violated(self, code: int, cause: str) -> None:
        """Close the connection of a client that has violated the protocol."""
        self._report(SOCKET_MALFORMED, cause, code)
        self._close(code, CLOSED, cause)

    def start_channel(self, membership: Membership, message: Message, size: int) -> None:
        """Start the channel of a join. If the start must wait, `_finish_starts` waits for it."""
        starting = _Starting(membership, message.payload)
        budget = self.services.budget
        if budget.has_room(JOIN_COST):
            budget.spend(JOIN_COST)
            self._request_start(starting)
            request = starting.request
            if request is not None and request.done and self._started(membership, request.result()):
                return
        self.starting = starting

    def stop_channel(self, membership: Membership) -> None:
        """End the channel of a replaced membership. If it is still joining, it ends itself after its answer."""
        process = membership.process
        if self.overdue is None:
            self.overdue = {}
        timers = self.services.runtime.timers
        due = trio.current_time() + REPLACED_GRACE
        self.overdue[process] = timers.at(due, partial(kill, process))
        if membership.status != "joining":
            send_exit(process, DUPLICATE_JOIN)

    def hold_back(self) -> None:
        """Stop reading if too many messages wait for the end of a replaced channel."""
        if self.session.waiting >= WAITING_LIMIT:
            self._pause()

    def limited(self, limit: Limit) -> None:
        """Count a refused message, and emit `SOCKET_RATE_LIMITED` once for each limit of this client."""
        self.services.count(("socket", limit))
        if limit not in self.exceeded:
            self.exceeded = (*self.exceeded, limit)
            self._emit(SOCKET_RATE_LIMITED, {}, {"limit": limit})

    def ignored(self, cause: str) -> None:
        """Count a malformed message that was dropped, and emit `SOCKET_IGNORED` once for this client."""
        self.services.count(SOCKET_IGNORED)
        if not self.has_ignored:
            self.has_ignored = True
            self._emit(SOCKET_IGNORED, {}, {"cause": cause})

    def unmatched(self, topic: Any) -> None:
        """Count a join of a topic without a route, and emit `SOCKET_UNMATCHED_TOPIC`."""
        self.services.count(SOCKET_UNMATCHED_TOPIC)
        about = {"socket": type(self.socket), "topic": topic, "routes": self.mount.router.routes}
        self._emit(SOCKET_UNMATCHED_TOPIC, {}, about)

    # The start of channels

    def _request_start(self, starting: _Starting) -> None:
        try:
            starting.request = self.mount.start_channel(
                self.link, starting.membership, starting.payload
            )
        except CallExit:
            # The pool is restarting or dead.
            starting.failed = True

    async def _finish_starts(self) -> None:
        """Wait until the joined channel has started. Its start can release further joins, which this starts too."""
        while (starting := self.starting) is not None:
            if starting.request is None and not starting.failed:
                await self._take_turn(JOIN_COST)
                self._request_start(starting)
            started: Any = None
            if starting.request is not None:
                try:
                    started = await starting.request.wait_result()
                except CallExit:
                    # The pool ended before its answer.
                    started = None
            self.starting = None
            if not self._started(starting.membership, started):
                # The pool does not run or is full, or the start of the application's server failed. The client gets
                # "join crashed", and joins again later.
                self.session.exited(starting.membership)
        if self.paused:
            self._read_on()

    def _started(self, membership: Membership, started: Any) -> bool:
        """Note the process of a channel. Return False if its start failed."""
        if type(started) is not Pid:
            return False
        self._add(membership, started)
        self.session.started(membership, started)
        return True

    @property
    def members(self) -> Collection[Membership]:
        """The memberships whose channels run, in the order of their starts."""
        found = self._members
        if found is None:
            return ()
        return found.values() if isinstance(found, dict) else (found,)

    def _add(self, membership: Membership, pid: Pid) -> None:
        monitor(pid)
        found = self._members
        if found is None:
            self._members = membership
        elif isinstance(found, dict):
            found[pid] = membership
        else:
            self._members = {found.process: found, pid: membership}

    def _take_out(self, pid: Pid | None) -> Membership | None:
        """Forget the membership of a channel that has ended, and return it; None if `pid` is no channel."""
        found = self._members
        if isinstance(found, dict):
            return found.pop(pid, None) if pid is not None else None
        if found is not None and found.process is pid:
            self._members = None
            return found
        return None

    # The end

    def _release(self) -> None:
        """Release what the process holds. The runtime calls this at its end. Subclasses extend this."""
        session: Session | None = getattr(self, "session", None)
        if session is not None:
            session.forget_owner()

    def _close(self, code: int, reason: Shutdown, cause: str) -> None:
        """Close the connection. Only the first call has an effect."""
        if self.closing is None:
            self._note_end(code, reason, cause)
            self._say_goodbye(code)

    def _note_end(self, code: int, reason: Shutdown, cause: str) -> None:
        """Note the reason for the end, and tell the channels."""
        self.closing, self.code, self.cause = reason, code, cause
        for membership in self.members:
            membership.waiting += 1
            send(membership.process, Gone(reason))

    def _ended(self) -> Stop:
        topics = [membership.topic for membership in self.session.memberships]
        about = {"code": self.code, "cause": self.cause, "topics": topics}
        self._emit(CONNECTION_CLOSED, {}, about)
        return Stop(self.closing or CLOSED)

    def _report(
        self,
        event: tuple[str, ...],
        cause: str,
        code: int,
        measurements: dict[str, int] | None = None,
    ) -> None:
        self.services.count(event)
        if self.closing is None:
            dropped = {"dropped": self.out.statistics().dropped_messages}
            self._emit(event, measurements or dropped, {"cause": cause, "code": code})

    def _emit(
        self,
        event: tuple[str, ...],
        measurements: Mapping[str, Any],
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Emit an event about this connection."""
        telemetry = self.services.runtime.telemetry
        if telemetry.handlers(event):
            telemetry.execute(
                event,
                measurements,
                {"endpoint": self.services.endpoint, "pid": self.pid, **(about or {})},
            )
