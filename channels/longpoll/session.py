"""The process of a client that polls: the long-polling counterpart of `Connection`.

    requests ── Enter, Hello, Line, Poll ──▶ LongPollSession ──▶ Session (pure) ──▶ Start, Deliver, Send, Close
                                                   ▲
    channels ── Refused, Closed, Down ─────────────┘

Each request may come on another connection. It finds the session by its token (`channels.longpoll.requests`) and calls
it. The session begins with `connect`, and keeps the messages of channels until a poll takes them. It ends when polls
stop, when the client breaks the rules of the protocol, or for the reasons that end a WebSocket: `disconnect`, draining,
a client that reads too slowly. The client learns of the end from its next request, which finds no session: 410.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import Any

import msgspec
import trio

from actors.exits import NORMAL
from actors.process import on_exit, send
from actors.servers.gen_server import Sender, reply
from actors.servers.results import Continue, NoReply, Reply, Stop
from actors.timers import send_after
from channels.connect_info import ConnectInfo
from channels.connection.session_server import INACTIVE, PROTOCOL_ERROR, Drain, SessionServer
from channels.endpoint._wiring import MountedSocket, Services
from channels.longpoll.protocol import Line, LongPoll
from channels.socket import Refusal
from channels.transports.out_buffer import OutBuffer
from channels.upgrade.connecting import connect

__all__ = ["Enter", "Hello", "LongPollSession", "Poll"]

# A session without a poll ends after this many windows.
_IDLE_WINDOWS = 1.5


class Enter(msgspec.Struct, frozen=True):
    """Ask whether `connect` accepted the client. The reply is the name of the session, or a `Refusal`."""


class Hello(msgspec.Struct, frozen=True):
    """Ask whether the session exists."""


class Poll(msgspec.Struct, frozen=True):
    """Ask for the waiting messages.

    The reply is a list of encoded frames, sent when there is one. The latest poll gets all.
    """


class _Wake:
    """Report that a message waits in the out-buffer."""

    __slots__ = ()


class _ReadOn:
    """Process the messages that came while channels were behind."""

    __slots__ = ()


class _IdleCheck:
    __slots__ = ()


_WAKE = _Wake()


class _Held(msgspec.Struct, frozen=True):
    """A message of the client that waits for channels to catch up, and the caller that waits for it."""

    line: Line
    sender: Sender
    until: float


class LongPollSession(SessionServer):
    """Serve one client that polls. Temporary: it is never restarted, because the client comes back."""

    async def init(
        self, services: Services, mount: MountedSocket, params: dict[str, Any], info: ConnectInfo
    ) -> Continue:
        self._set_up(services)
        assert mount.longpoll is not None  # a mount without it has no poll path
        self.options: LongPoll = mount.longpoll
        self.name = ""
        self.refusal: Refusal | None = None
        self.poll: Sender | None = None
        self.held: deque[_Held] = deque()
        return Continue((mount, params, info))

    async def handle_continue(self, argument: Any) -> None:
        mount, params, info = argument
        connected = await connect(self.services, mount, params, info, transport="longpoll")
        if isinstance(connected, Refusal):
            self.refusal = connected
        else:
            out = OutBuffer(
                lambda _: send(self.pid, _WAKE),
                tell=lambda event: send(self.pid, event),
                max_messages=self.services.endpoint.max_buffered_messages,
                max_bytes=self.services.endpoint.max_buffered_bytes,
            )
            on_exit(out.close)
            self.waiting = out
            self._begin(connected, mount.message_codecs[connected.serializer], out)
            self._make_known()
        self.last_poll = trio.current_time()
        send_after(self.pid, _IdleCheck(), _IDLE_WINDOWS * self.options.window)

    def _make_known(self) -> None:
        # The name cannot be guessed, even without the signed token around it.
        name = self.name = secrets.token_urlsafe(16)
        polling = self.services.admission.polling
        polling[name] = self.pid
        on_exit(lambda: polling.__delitem__(name))

    # Requests and messages

    async def handle_call(self, request: Any, sender: Sender) -> Reply | NoReply | Stop:
        kind = type(request)
        if kind is Line:
            return await self._receive(request, sender)
        if kind is Poll:
            self.last_poll = trio.current_time()
            self.poll = sender
            self._hand_out()
            return NoReply()
        if kind is Hello or self.refusal is None:
            return Reply(self.name)
        return Stop(NORMAL, reply=self.refusal)

    async def handle_info(self, message: Any) -> Stop | None:
        kind = type(message)
        if self.refusal is not None:
            # No request asked about this client, or the endpoint drains.
            return Stop(NORMAL) if kind is _IdleCheck or kind is Drain else None
        if kind is _Wake:
            self._hand_out()
        elif kind is _ReadOn:
            await self._read_held()
        elif kind is _IdleCheck:
            self._check_idle()
        else:
            await self._take(message)
        return self._ended() if self.closing is not None else None

    async def _receive(self, line: Line, sender: Sender) -> Reply | NoReply | Stop:
        # Queue behind the held messages, even if those could be processed now.
        if self.paused or self.held:
            now = trio.current_time()
            while self.held and self.held[0].until <= now:
                # Its client got 408.
                self.held.popleft()
            self.held.append(_Held(line, sender, now + self.options.window))
            return NoReply()
        await self._deal_with(line)
        return self._ended() if self.closing is not None else Reply(None)

    async def _deal_with(self, line: Line) -> None:
        self._begin_work()
        await self._hear(line.data, binary=line.binary)

    async def _read_held(self) -> None:
        while self.held and not self.paused and self.closing is None:
            held = self.held.popleft()
            if held.until > trio.current_time():
                await self._deal_with(held.line)
                reply(held.sender, None)

    def _leave_unread(self) -> None:
        """Keep the messages that come from now on, and let their senders wait."""

    def _read_again(self) -> None:
        if self.held:
            send(self.pid, _ReadOn())

    # Messages to the client

    def _hand_out(self) -> None:
        """Reply to the poll with the waiting messages. If its client has left, the next poll gets them."""
        poll, messages = self.poll, self.waiting.messages
        if poll is not None and messages:
            self.poll = None
            if reply(poll, messages):
                self.waiting.drop()

    # The end

    def _check_idle(self) -> None:
        patience = _IDLE_WINDOWS * self.options.window
        silence = trio.current_time() - self.last_poll
        if silence >= patience:
            self._close(PROTOCOL_ERROR, INACTIVE, f"no poll for {silence:g} s")
        else:
            send_after(self.pid, _IdleCheck(), patience)

    def _say_goodbye(self, code: int) -> None:
        """Hand out the last messages. Long polling cannot send the close code."""
        self._hand_out()
