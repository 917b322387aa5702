"""The process of a client that polls: what a connection is to a WebSocket, without one.

    requests ── Enter, Hello, Line, Poll ──▶ LongPollSession ──▶ Session (pure) ──▶ Start, Deliver, Send, Close
                                                   ▲
    channels ── Refused, Closed, Down ─────────────┘

Requests come and go, each on whatever connection its client has at hand; they find the session by the token that they
carry (`_longpoll_requests`), and call it. It begins with `connect`, as every client does, keeps what the channels say
until a poll takes it, and ends when nobody polls any more, when the client breaks the rules of the protocol, or for the
reasons that end a WebSocket: `disconnect`, draining, a client that takes too little. A client hears of the end by its
next request, which finds no session: 410.
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
from channels.longpoll.message_buffer import MessageBuffer
from channels.longpoll.options import LongPoll
from channels.longpoll.protocol import Line
from channels.socket import Refusal
from channels.upgrade.connecting import connect

__all__ = ["Enter", "Hello", "LongPollSession", "Poll"]

# Of the time that a poll is held, how long a session lives without one.
_PATIENCE = 1.5


class Enter(msgspec.Struct, frozen=True):
    """Asks whether the client was let in: answered with the name of the session, or with a `Refusal`."""


class Hello(msgspec.Struct, frozen=True):
    """Asks whether the session is there."""


class Poll(msgspec.Struct, frozen=True):
    """Asks for what waits: answered with encoded frames, as soon as there is one. The latest takes all."""


class _Wake:
    """Something waits in the out-buffer."""

    __slots__ = ()


class _ReadOn:
    """Deal with what came while channels were behind."""

    __slots__ = ()


class _IdleCheck:
    __slots__ = ()


_WAKE = _Wake()


class _Held(msgspec.Struct, frozen=True):
    """A message of the client that waits for channels to catch up, and who waits for it to be dealt with."""

    line: Line
    sender: Sender
    until: float


class LongPollSession(SessionServer):
    """Serves one client that polls. Temporary: it is never restarted, the client comes back."""

    async def init(
        self, services: Services, mount: MountedSocket, params: dict[str, Any], info: ConnectInfo
    ) -> Continue:
        self._set_up(services)
        assert mount.longpoll is not None  # nobody polls a mount without it
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
            out = MessageBuffer(
                lambda: send(self.pid, _WAKE),
                tell=lambda event: send(self.pid, event),
                max_messages=self.services.endpoint.max_buffered_messages,
                max_bytes=self.services.endpoint.max_buffered_bytes,
            )
            on_exit(out.close)
            self.messages = out
            self._begin(connected, mount.message_codecs[connected.serializer], out)
            self._make_known()
        self.last_poll = trio.current_time()
        send_after(self.pid, _IdleCheck(), _PATIENCE * self.options.window)

    def _make_known(self) -> None:
        # Nobody could guess it, even without the signature around it.
        name = self.name = secrets.token_urlsafe(16)
        polling = self.services.admission.polling
        polling[name] = self.pid
        on_exit(lambda: polling.__delitem__(name))

    # What arrives

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
            # Nobody asked what became of this client, or the endpoint drains.
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
        # Behind what is held already, even if that may be dealt with by now.
        if self.paused or self.held:
            now = trio.current_time()
            while self.held and self.held[0].until <= now:
                # Its client was told that it was not dealt with.
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
        """Messages that come from now on wait, and their senders with them."""

    def _read_again(self) -> None:
        if self.held:
            send(self.pid, _ReadOn())

    # What is handed out

    def _hand_out(self) -> None:
        """Give the poll what waits, if both are there. If its client is gone, the next poll gets it."""
        poll, messages = self.poll, self.messages.messages
        if poll is not None and messages:
            self.poll = None
            if reply(poll, messages):
                self.messages.take()

    # The end

    def _check_idle(self) -> None:
        patience = _PATIENCE * self.options.window
        silence = trio.current_time() - self.last_poll
        if silence >= patience:
            self._close(PROTOCOL_ERROR, INACTIVE, f"nobody polled for {silence:g} s")
        else:
            send_after(self.pid, _IdleCheck(), patience)

    def _say_goodbye(self, code: int) -> None:
        """Hand out what still can be. There is no telling a client that polls of the code."""
        self._hand_out()
