"""The process of one connection: bytes in, effects carried out.

    transport ── bytes, OSError, Signal ──▶ Connection ──▶ Session (pure) ──▶ Start, Deliver, Send, Close
                                               ▲
    channels ── Refused, Closed, Down ─────────┘

It is an ordinary server, and what its client sends are messages like any other. Its life: read the head of the first
request (`_upgrade`); answer it, hand the connection to the HTTP server, or become a WebSocket; then serve frames until
one side closes. It is linked to its supervisor alone; it monitors its channels, and they monitor it.

Close codes: 1000 answers the client's own close; 1001 for `disconnect`; 1002, 1007, 1009 for a client that breaks the
rules of WebSockets and 1011 for one that breaks those of the protocol; 1002 also for one that is silent for too long
(not 1000, on which phoenix.js would stay away); 1012 when the server drains; 1013 for one that reads too slowly.
"""

from __future__ import annotations

import socket
from typing import Any

import trio

from actors.errors import CallExit, StartError, StartIgnored
from actors.exits import NORMAL, Shutdown
from actors.gen_server import GenServer
from actors.links import monitor, send_exit
from actors.messages import Down
from actors.process import current_pid, is_alive, on_exit, send
from actors.refs import Pid, Ref
from actors.results import Continue, Stop
from actors.runtime import current_runtime
from actors.timers import send_after
from channels._channel_server import (
    READ_ON_AT,
    Closed,
    Gone,
    Link,
    ReadOn,
    Refused,
)
from channels._mounts import Services
from channels._upgrade import Upgraded, answer_first_request
from channels.effects import Close, Deliver, Effect, Membership, Send, Start
from channels.messages import BinaryFrame, Broadcast
from channels.session import Session
from channels.telemetry import CONNECTION_CLOSED, SOCKET_MALFORMED, SOCKET_OVERFLOW
from channels.transports.attach import Carrier
from channels.transports.events import Event, Signal
from channels.transports.websocket import Answer, WebSocketProtocol
from channels.transports.websocket import Closed as PeerClosed

__all__ = ["Connection", "Drain"]

# The peer's share of a close handshake, in seconds; what takes longer is cut off.
CLOSE_GRACE = 5.0
# Bytes that may wait in the mailbox of a connection that is busy, before its socket is left unread.
UNREAD_LIMIT = 512 * 1024
# Messages that may wait for one channel before the socket is left unread until it has caught up with most of them. What
# was read already still arrives, so this is not exact. Phoenix has no limit.
WAITING_LIMIT = 1024

GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013

DISCONNECTED = Shutdown("disconnected")
DRAINING = Shutdown("draining")
CLOSED = Shutdown("closed")
INACTIVE = Shutdown("inactive")
DUPLICATE_JOIN = Shutdown("duplicate_join")


class Drain:
    """Asks a connection to close with 1012, so that its client comes back elsewhere."""

    __slots__ = ()


class _IdleCheck:
    __slots__ = ()


class _CloseLimit:
    __slots__ = ()


class Connection(GenServer[None]):
    """Serves one accepted connection, until it ends. Temporary: it is never restarted, the client comes back."""

    async def init(self, services: Services, carrier: Carrier) -> Continue:
        self.services = services
        self.pid = current_pid()
        self.unread = 0
        self.paused = False
        self.closing: Shutdown | None = None
        self.code: int | None = None
        self.cause = ""
        self.members: dict[Ref, Membership] = {}
        # Channels that were told to go because their topic was joined again, and have not gone yet.
        self.replaced: dict[str, list[Pid]] = {}
        self.transport: Any = None
        return Continue(carrier)

    async def handle_continue(self, argument: Any) -> Stop | None:
        carrier: Carrier = argument
        forget = on_exit(lambda: _abandon(carrier))
        upgraded = await answer_first_request(self.services, carrier)
        if upgraded is None:
            return Stop(NORMAL)
        try:
            transport = self.services.transports.attach(carrier, self._tell, codec=upgraded.codec)
        except OSError:
            # The peer was gone before its request was answered.
            return Stop(NORMAL)
        forget()
        self.transport = transport
        on_exit(transport.close)
        self._open(upgraded)
        return await self._receive(upgraded.rest) if upgraded.rest else None

    def _open(self, upgraded: Upgraded) -> None:
        services, mount = self.services, upgraded.mount
        self.mount = mount
        self.socket = upgraded.socket
        self.protocol = WebSocketProtocol(max_message_size=mount.max_frame_size)
        self.session = Session(
            upgraded.codec, mount.router.match, max_channels=mount.socket.max_channels
        )
        self.out = self.transport.out
        self.link = Link(
            connection=self.pid,
            out=self.out,
            codec=upgraded.codec,
            pubsub=services.pubsub,
            endpoint=services.endpoint,
            assigns=self.socket.assigns,
        )
        self.out.put(upgraded.answer)
        if upgraded.id is not None:
            services.pubsub.subscribe(upgraded.id)
        self.last_heard = trio.current_time()
        send_after(self.pid, _IdleCheck(), mount.timeout)

    # What arrives

    def _tell(self, event: Event) -> None:
        """Called by the transport, in other tasks: make a message of it."""
        if type(event) is bytes:
            self.unread += len(event)
            if self.unread > UNREAD_LIMIT:
                self._pause()
        send(self.pid, event)

    def _pause(self) -> None:
        if not self.paused:
            self.paused = True
            self.transport.pause()

    def _read_on(self) -> None:
        """Read again after a pause, unless something is still behind."""
        if self.unread <= 0 and all(
            membership.waiting <= READ_ON_AT for membership in self.members.values()
        ):
            self.paused = False
            self.transport.resume()

    async def handle_info(self, message: Any) -> Stop | None:
        kind = type(message)
        if kind is bytes:
            self.unread -= len(message)
            stop = await self._receive(message)
            if self.paused:
                self._read_on()
            return stop
        if kind is Down:
            membership = self.members.pop(message.ref, None)
            if self.paused:
                self._read_on()
            if membership is not None and self.closing is None:
                if self.replaced:
                    self._not_gone_yet(membership.topic)
                await self._carry_out(self.session.exited(membership))
            return None
        if kind is Closed:
            self.session.closed(message.membership)
            return None
        if kind is Refused:
            self.session.refused(message.membership)
            return None
        return self._seldom(message)

    def _seldom(self, message: Any) -> Stop | None:
        kind = type(message)
        if kind is _IdleCheck:
            self._check_idle()
        elif kind is ReadOn:
            if self.paused:
                self._read_on()
        elif kind is Signal:
            if message is Signal.FINISHED:
                return self._ended()
            self._report(SOCKET_OVERFLOW, "the client reads too slowly", TRY_AGAIN_LATER)
            self._close(TRY_AGAIN_LATER, CLOSED, "the client reads too slowly")
        elif isinstance(message, OSError):
            self.closing = self.closing or CLOSED
            self.cause = self.cause or f"the connection broke: {message}"
            return self._ended()
        elif kind is _CloseLimit:
            return self._ended()
        elif kind is Drain:
            self._close(SERVICE_RESTART, DRAINING, "the server drains")
        elif kind is Broadcast and message.event == "disconnect":
            self._close(GOING_AWAY, DISCONNECTED, "disconnect was broadcast")
        # Whatever else a process was sent is nobody's business, as in Phoenix.
        return None

    async def _receive(self, data: bytes) -> Stop | None:
        if not data:
            # The peer has closed without a word; nothing can be sent any more that it would read.
            self.closing = self.closing or CLOSED
            return self._ended()
        self.last_heard = trio.current_time()
        session = self.session
        for event in self.protocol.receive(data):
            kind = type(event)
            if kind is bytes or kind is BinaryFrame:
                if self.closing is None:
                    await self._carry_out(session.receive(event, binary=kind is BinaryFrame))  # type: ignore[arg-type]
            elif isinstance(event, Answer):
                self.out.put(event.frame)
            elif isinstance(event, PeerClosed):
                self._peer_closed(event)
        return None

    def _peer_closed(self, event: PeerClosed) -> None:
        if not event.by_peer:
            self._report(SOCKET_MALFORMED, f"a broken WebSocket frame: {event.reason}", event.code)
        if self.closing is None:
            cause = "the client closed" if event.by_peer else "a broken WebSocket frame"
            self._finish(event.frame, event.code, CLOSED, cause)

    # What is done about it

    async def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            kind = type(effect)
            if kind is Deliver:
                membership = effect.membership  # type: ignore[union-attr]
                if membership.process is not None:
                    membership.waiting += 1
                    if membership.waiting >= WAITING_LIMIT:
                        self._pause()
                    send(membership.process, effect.message)  # type: ignore[union-attr]
            elif kind is Send:
                self.out.put(effect.frame)  # type: ignore[union-attr]
            elif isinstance(effect, Start):
                await self._start(effect)
            elif isinstance(effect, Close):
                self._report(SOCKET_MALFORMED, effect.cause, effect.code)
                self._close(effect.code, CLOSED, effect.cause)

    async def _start(self, start: Start) -> None:
        membership, replaced = start.membership, start.replaced
        if replaced is not None and replaced.process is not None:
            send_exit(replaced.process, DUPLICATE_JOIN)
            self.replaced.setdefault(membership.topic, []).append(replaced.process)
        going = self._not_gone_yet(membership.topic) if self.replaced else ()
        try:
            pid = await self.mount.start_channel(
                self.link, membership, start.message.payload, going
            )
        except (StartError, StartIgnored, CallExit):
            # The pool is full, gone or restarting. To this client that is a join that crashed; it comes back.
            await self._carry_out(self.session.exited(membership))
            return
        membership.process = pid
        self.members[monitor(pid)] = membership

    def _not_gone_yet(self, topic: str) -> tuple[Pid, ...]:
        """The channels that a join of this topic has to wait for, those of earlier joins included."""
        alive = [pid for pid in self.replaced.pop(topic, ()) if is_alive(pid)]
        if alive:
            self.replaced[topic] = alive
        return tuple(alive)

    def _check_idle(self) -> None:
        if self.paused:
            # It is not the client that is silent: nobody listens.
            self.last_heard = trio.current_time()
        silence = trio.current_time() - self.last_heard
        if silence >= self.mount.timeout:
            self._close(PROTOCOL_ERROR, INACTIVE, f"nothing was heard for {silence:g} s")
        else:
            send_after(self.pid, _IdleCheck(), self.mount.timeout - silence)

    # The end

    def _close(self, code: int, reason: Shutdown, cause: str) -> None:
        """Begin to close from this side. The second reason to close changes nothing."""
        if self.closing is None:
            self._finish(self.protocol.close(code), code, reason, cause)

    def _finish(self, frame: bytes, code: int, reason: Shutdown, cause: str) -> None:
        self.closing, self.code, self.cause = reason, code, cause
        for membership in self.members.values():
            send(membership.process, Gone(reason))
        self.transport.finish(frame)
        send_after(self.pid, _CloseLimit(), CLOSE_GRACE)

    def _ended(self) -> Stop:
        telemetry = current_runtime().telemetry
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

    def _report(self, event: tuple[str, ...], cause: str, code: int) -> None:
        self.services.count(event)
        telemetry = current_runtime().telemetry
        if self.closing is None and telemetry.handlers(event):
            telemetry.execute(
                event,
                {"dropped": self.out.statistics().dropped_messages},
                {
                    "endpoint": self.services.endpoint,
                    "pid": self.pid,
                    "cause": cause,
                    "code": code,
                },
            )


def _abandon(carrier: Carrier) -> None:
    """Close a socket that nobody took over. A Trio stream closes with the task that serves it."""
    if isinstance(carrier, socket.socket):
        carrier.close()
