"""The process of one connection. It reads bytes, and calls its session with each message.

    transport ── bytes, OSError, Signal ──▶ Connection ──▶ Session (pure), which calls back
                                               ▲
    channels ── Down, ReadOn ──────────────────┘

The process is a GenServer. First it reads the head of the first request (`channels.upgrade`). Then it does one of three
things: answer the request, hand the connection to the HTTP server, or serve a WebSocket until one side closes.

The bytes of the client arrive as messages. If the process is idle, it begins to handle a short read in the task that
reads the socket (`handle_info_nowait`). Only what must wait is left to the task of the process. So it sleeps while most
messages go directly to the mailboxes of their channels.

Close codes:

| code | reason |
|---|---|
| 1000 | the client closed |
| 1001 | the application broadcast `disconnect` |
| 1002, 1007, 1008, 1009 | the client violated the WebSocket protocol |
| 1002 | the client was silent for the timeout; not 1000, because phoenix.js does not reconnect after 1000 |
| 1011 | the client violated the Phoenix protocol |
| 1012 | the server drains |
| 1013 | the client reads too slowly, or a channel had too many waiting messages for the timeout |
| 1013 | the incomplete messages of all clients are too large, or the memory has run out |
| 3000 | the deadline of the connection has passed |
"""

from __future__ import annotations

import math
import socket
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import trio

from actors.exits import NORMAL
from actors.process import send
from actors.servers.results import Continue, Stop
from actors.timers import send_after
from channels.connection.session_server import (
    CLOSED,
    FREE_BYTES,
    INACTIVE,
    PROTOCOL_ERROR,
    TRY_AGAIN_LATER,
    SessionServer,
    pass_on,
)
from channels.messages import BinaryFrame
from channels.protocol.work_budget import COST_SHIFT
from channels.serializers.json_values import LIGHT
from channels.serving.services import Services
from channels.telemetry import SOCKET_MALFORMED
from channels.transports.contract import Event, Signal
from channels.transports.transports import ByteStream
from channels.upgrade.first_request import Upgraded, answer_first_request
from channels.wire.websocket import (
    SHORT_MESSAGE,
    ControlReply,
    PeerClosed,
    WebSocketEvent,
    WebSocketProtocol,
)

__all__ = ["Connection"]

# Seconds for the peer to finish the close handshake. After that, the server cuts the connection.
CLOSE_GRACE = 5.0
# Bytes that may wait in the mailbox of a connection. If more wait, the transport stops reading.
UNREAD_LIMIT = 512 * 1024
# The same limit for compressed connections. It is lower, because data may inflate to a thousand times its size.
UNREAD_COMPRESSED_LIMIT = 64 * 1024
# The first FREE_FRAMES frames of a read are free. Each further group of FRAMES frames is one piece of work.
FREE_FRAMES = 8
FRAMES = 64
# The longest read that the task of the reader handles, in bytes. It handles only messages whose size is free.
SHORT_READ = FREE_FRAMES * SHORT_MESSAGE
# The bytes per unit of work for unmasking and checking, as a shift. A byte costs a quarter of what decoding costs.
HELD_COST_SHIFT = COST_SHIFT + 2


class _CloseLimit:
    __slots__ = ()


class _Silent:
    """The message to a connection whose client was silent for too long."""

    __slots__ = ()


class Connection(SessionServer):
    """The process of one accepted connection."""

    # Slots and defaults of the class, as in `SessionServer`.
    __slots__ = ("check_at", "last_heard", "protocol", "transport", "unread")

    # The limit of `unread`.
    unread_limit = UNREAD_LIMIT
    # The bytes of the client's incomplete message that count in `services.transports.incoming`. A complete message
    # counts until the process has decoded it.
    reserved = 0

    async def init(self, services: Services, source: ByteStream) -> Continue:
        self._set_up(services)
        services.admission.take_over(source)
        self.check_at = -math.inf
        # The bytes that wait in the mailbox.
        self.unread = 0
        # The socket until the upgrade, then its transport. A Trio stream closes with its task.
        self.transport: Any = source if isinstance(source, socket.socket) else None
        return Continue(source)

    async def handle_continue(self, argument: Any) -> Stop | None:
        source: ByteStream = argument
        answering = self.services.admission.answering
        answering[self.pid] = None
        try:
            upgraded = await answer_first_request(self.services, source)
        finally:
            del answering[self.pid]
        if upgraded is None:
            return Stop(NORMAL)
        connected = upgraded.connected
        codec = connected.mount.codec(connected.serializer, upgraded.deflate)
        try:
            self.transport = self.services.transports.attach(source, self._tell)
        except OSError:
            # The peer closed the connection before the answer to its request.
            return Stop(NORMAL)
        self._begin(connected, codec, self.transport.out)
        self._open(upgraded)
        if upgraded.rest:
            await self._receive_data(upgraded.rest)
        return None

    def _open(self, upgraded: Upgraded) -> None:
        deflate = upgraded.deflate
        self.protocol = WebSocketProtocol(
            max_message_size=self.mount.max_frame_size,
            extension=None if deflate is None else deflate.extension,
        )
        if deflate is not None:
            self.unread_limit = UNREAD_COMPRESSED_LIMIT
        if upgraded.answer:
            self.out.put(upgraded.answer)
        self.last_heard = now = self.services.runtime.current_time()
        self.services.idle_checks.add(self, now + self.mount.timeout, now)

    # Input

    def _tell(self, event: Event) -> None:
        """Send an event of the transport to this process. The transport calls this in other tasks."""
        if type(event) is bytes:
            self.unread += len(event)
            if self.unread > self.unread_limit:
                self._pause()
            if self.tap is not None:
                self.tap.read(self.pid, event)
                return
        pass_on(self.pid, event)

    def _leave_unread(self) -> None:
        self.transport.pause()

    def _read_again(self) -> None:
        # The server paused reading, so the client was not silent.
        self.last_heard = trio.current_time()
        self.transport.resume()

    def _may_read(self) -> bool:
        return self.unread <= 0

    def handle_info_nowait(self, message: Any) -> Any:
        if type(message) is not bytes:
            return super().handle_info_nowait(message)
        size = len(message)
        messages = None
        if 0 < size <= SHORT_READ:
            messages = self.protocol.receive_short(message, FREE_FRAMES)
        if messages is None:
            return self._receive(message)
        self.unread -= size
        self._begin_read()
        events = iter(messages)
        waiting = self._take_events(events)
        if waiting is not None or self.paused or self.unread > 0:
            return self._end_short_read(waiting, events)
        return None

    async def handle_info(self, message: Any) -> Stop | None:
        kind = type(message)
        if kind is _Silent:
            self._end_silence()
        elif message is Signal.FINISHED or kind is _CloseLimit:
            return self._ended()
        elif isinstance(message, OSError):
            self.closing = self.closing or CLOSED
            self.cause = self.cause or f"the connection broke: {message}"
            return self._ended()
        else:
            self._take(message)
            if self.starting is not None:
                await self._finish_starts()
        return None

    def _begin_read(self) -> None:
        self.last_heard = now = self.services.runtime.current_time()
        if self.has_rates:
            self.session.refill(now)
        if self.turns:
            self._begin_work()

    async def _receive(self, data: bytes) -> Stop | None:
        """Handle a read of any length."""
        self.unread -= len(data)
        stop = None
        try:
            if data:
                await self._receive_data(data)
            else:
                # The peer ended its stream without a close frame.
                self.closing = self.closing or CLOSED
                stop = self._ended()
        except MemoryError:
            self.shed_bytes = self.shed_bytes or self.reserved
            self._close_for_memory("the server has too little memory for the client's message")
        await self._end_read(stop)
        return stop

    async def _receive_data(self, data: bytes) -> None:
        self._begin_read()
        protocol = self.protocol
        held = protocol.held
        if held > LIGHT and protocol.completes(len(data)):
            # Nothing can interrupt the unmasking and the UTF-8 check of a long message.
            await self._take_turn(held >> HELD_COST_SHIFT)
        await self._take_all_events(protocol.receive(data, FREE_FRAMES))
        # The frames of a read after the free ones.
        while protocol.has_more:
            await self._take_turn(FRAMES)
            await self._take_all_events(protocol.receive(b"", FRAMES))
        if protocol.held != self.reserved:
            self.services.transports.incoming.replace(self, protocol.held)

    async def _end_short_read(
        self, waiting: Coroutine[Any, Any, None] | None, events: Iterator[WebSocketEvent]
    ) -> None:
        """Wait for the channel that a read starts, and handle the events after its join."""
        while waiting is not None:
            await waiting
            waiting = self._take_events(events)
        await self._end_read(None)

    async def _end_read(self, stop: Stop | None) -> None:
        if self.paused:
            self._read_on()
        if self.unread > 0 and stop is None:
            # More bytes wait. Free frames are an allowance for one turn, so end this turn.
            await trio.lowlevel.checkpoint()

    async def _take_all_events(self, events: Sequence[WebSocketEvent]) -> None:
        rest = iter(events)
        while (waiting := self._take_events(rest)) is not None:
            await waiting

    def _take_events(self, events: Iterator[WebSocketEvent]) -> Coroutine[Any, Any, None] | None:
        """Handle events, until one must wait. Return the coroutine that waits; None if no event is left."""
        for event in events:
            kind = type(event)
            if kind is bytes or kind is BinaryFrame:
                if self.closing is not None or self.shed_bytes:
                    continue
                size = len(event)  # type: ignore[arg-type]
                if size > FREE_BYTES:
                    return self._hear(event, binary=kind is BinaryFrame)  # type: ignore[arg-type]
                self.session.receive(event, binary=kind is BinaryFrame)  # type: ignore[arg-type]
                if self.starting is not None:
                    return self._finish_starts()
            elif isinstance(event, ControlReply):
                self.out.put(event.frame)
            elif isinstance(event, PeerClosed):
                self._peer_closed(event)
        return None

    def shed(self) -> bool:
        """Drop the incomplete message, and tell this process to close. The backlog of incoming bytes calls this.

        If the process is about to decode a complete message, the bytes of this message count until it has dropped them.
        """
        is_first, self.shed_bytes = not self.shed_bytes, self.shed_bytes or self.reserved
        incoming = self.services.transports.incoming
        incoming.remove(self)
        self.reserved = max(0, self.reserved - self.protocol.held)
        if self.reserved:
            incoming.keep(self, self.reserved)
        self.protocol.forget()
        if is_first:
            send(self.pid, Signal.INCOMING_SHED)
        return is_first

    def _peer_closed(self, event: PeerClosed) -> None:
        if not event.by_peer:
            self._report(
                SOCKET_MALFORMED, f"a malformed WebSocket frame: {event.reason}", event.code
            )
        if self.closing is None:
            cause = "the client closed" if event.by_peer else "a malformed WebSocket frame"
            self._note_end(event.code, CLOSED, cause)
            self._finish(event.frame)

    def silent_at(self) -> float:
        """Return the time at which the client has been silent for too long, if it sends nothing more."""
        return self.last_heard + self.mount.timeout

    def check_silence(self) -> None:
        """Wake this process if the client was silent for too long, otherwise check again later.

        The wake-ups of 15,000 clients that are alive would cost a tenth as much as their heartbeats.
        """
        now, due = self.services.runtime.current_time(), self.silent_at()
        if now < due:
            self.services.idle_checks.add(self, due, now)
        else:
            send(self.pid, _Silent())

    def _end_silence(self) -> None:
        now = trio.current_time()
        if now < self.silent_at():
            # The client sent something while the message waited.
            self.check_silence()
            return
        silence = now - self.last_heard
        if self.paused:
            # The server does not read from this client, so it has seen no heartbeats. The client may be alive.
            self._close(
                TRY_AGAIN_LATER,
                CLOSED,
                f"a channel had too many waiting messages for {silence:g} s",
            )
        elif self.services.transports.starved_at >= self.last_heard:
            # The client may be alive, because the server could not read.
            self._close(
                TRY_AGAIN_LATER,
                CLOSED,
                f"the server had too little memory to read from the client for {silence:g} s",
            )
        else:
            self._close(PROTOCOL_ERROR, INACTIVE, f"the client was silent for {silence:g} s")

    # The end

    def _say_goodbye(self, code: int) -> None:
        self._finish(self.protocol.close(code))

    def _finish(self, frame: bytes) -> None:
        self.transport.finish(frame)
        self.protocol.forget()
        self.services.transports.incoming.replace(self, 0)
        send_after(self.pid, _CloseLimit(), CLOSE_GRACE)

    def _release(self) -> None:
        super()._release()
        self.services.idle_checks.remove(self)
        self.services.transports.incoming.replace(self, 0)
        if self.transport is not None:
            self.transport.close()
