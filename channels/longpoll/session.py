"""The process of a polling client, which is what `Connection` is for a WebSocket.

    requests ── Enter, Hello, Line, Poll ──▶ LongPollSession ──▶ Session (pure), which calls back
                                                   ▲
    channels ── Down, ReadOn ──────────────────────┘

A client may send each request on another connection. The task of a request finds the session by its token
(`channels.longpoll.requests`), and calls the session's process. The session first calls the application's `connect`.
Then it keeps the messages of channels until a poll takes them.

The session ends when polls stop, or when the client violates the protocol. It also ends for reasons that end a
WebSocket: a `disconnect` broadcast, draining, or a client that reads too slowly. The client's next request then finds
no session and gets 410.

`Sessions` finds and calls the sessions of this node. Requests to this node use it, and so does the relay, for requests
that came to another node (`channels.longpoll.relay`).
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec
import trio

from actors.errors import CallExit
from actors.exits import NORMAL
from actors.instrumentation.telemetry import Event
from actors.process import on_exit, send
from actors.refs import Pid
from actors.runtime import current_runtime
from actors.servers.gen_server import Sender, call, reply
from actors.servers.results import Continue, NoReply, Reply, Stop
from actors.timers import send_after
from channels.connect_info import ConnectInfo
from channels.connection.session_server import (
    CLOSED,
    INACTIVE,
    PROTOCOL_ERROR,
    TRY_AGAIN_LATER,
    Drain,
    SessionServer,
)
from channels.protocol.longpoll import (
    Line,
    LongPoll,
    PollAnswer,
    left_out,
    messages_answer,
    messages_of,
    plain_answer,
    status_answer,
)
from channels.serving.mounted import MountedSocket
from channels.serving.services import Services
from channels.socket import Refusal
from channels.telemetry import LONGPOLL_ANSWER_LOST, LONGPOLL_LEFT_OUT, LONGPOLL_UNSENDABLE
from channels.tokens.token import Atom, TokenError, sign, verify
from channels.transports.out_buffer import OutBuffer
from channels.upgrade.connecting import connect

__all__ = ["Confirm", "Enter", "Hello", "LongPollSession", "Place", "Poll", "Sessions"]

# The number of windows without a poll after which a session ends.
_IDLE_WINDOWS = 1.5


class Enter(msgspec.Struct, frozen=True):
    """A request for the result of `connect`. The reply is the name of the session, or a `Refusal`."""


class Hello(msgspec.Struct, frozen=True):
    """A request to check that the session exists. The reply is the name of the session."""


class Poll(msgspec.Struct, frozen=True):
    """A request for the waiting messages.

    The session replies when a message waits. The reply is a list of encoded frames. If several polls wait, the session
    replies only to the latest one.

    Attributes:
        confirm_within: seconds in which a `Confirm` must follow the reply, for a poll that came to another node. Until
            the `Confirm`, the session gives messages to no other poll. If none comes in time, the session cannot know
            whether the client got the messages, so it ends. None means that the reply counts as delivery.
    """

    confirm_within: float | None = None


class Confirm(msgspec.Struct, frozen=True):
    """The outcome of a poll that came to another node. If that node did not get the messages, the session keeps them.

    Attributes:
        poll: the same `Poll` object that the session got.
        delivered: True if the other node got the messages.
    """

    poll: Poll
    delivered: bool


class _Unconfirmed(msgspec.Struct, frozen=True):
    """A message of a timer: the time to confirm a poll is up."""

    poll: Poll


class _Wake:
    """A message to the session: frames wait in the out-buffer."""

    __slots__ = ()


class _ReadOn:
    """A message to the session: process the held messages, because its channels have caught up."""

    __slots__ = ()


class _IdleCheck:
    __slots__ = ()


_WAKE = _Wake()


class _Held(msgspec.Struct, frozen=True):
    """A client's message that waits until channels catch up, and the request task that waits for its reply."""

    line: Line
    sender: Sender
    until: float


class LongPollSession(SessionServer):
    """The process of one polling client. The supervisor never restarts it, because the client starts a new session."""

    async def init(
        self, services: Services, mount: MountedSocket, params: dict[str, Any], info: ConnectInfo
    ) -> Continue:
        self._set_up(services)
        assert mount.longpoll is not None  # a mount without it has no poll path
        self.options: LongPoll = mount.longpoll
        self.name = ""
        self.refusal: Refusal | None = None
        self.poll: Sender | None = None
        self.asked = Poll()
        # The poll that waits for its `Confirm`, and the number of messages in the reply to it.
        self.unconfirmed: Poll | None = None
        self.handed_out = 0
        self.held: deque[_Held] = deque()
        return Continue((mount, params, info))

    async def handle_continue(self, argument: Any) -> None:
        mount, params, info = argument
        connected = await connect(self.services, mount, params, info, transport="longpoll")
        if isinstance(connected, Refusal):
            self.refusal = connected
        else:
            out = OutBuffer(
                self,
                tell=lambda event: send(self.pid, event),
                max_messages=self.services.endpoint.max_buffered_messages,
                max_bytes=self.services.endpoint.max_buffered_bytes,
                backlog=self.services.transports.backlog,
                latest=self.services.transports.latest,
            )
            on_exit(out.close)
            self.waiting = out
            self._begin(connected, mount.message_codecs[connected.serializer], out)
            self._make_known()
        self.last_poll = trio.current_time()
        send_after(self.pid, _IdleCheck(), _IDLE_WINDOWS * self.options.window)

    def mark(self, _: OutBuffer) -> None:
        """Tell this process that frames wait. The out-buffer calls this."""
        send(self.pid, _WAKE)

    def limit_unsent(self, _: OutBuffer) -> None:
        """Do nothing, because each answer has its own request."""

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
            self.poll, self.asked = sender, request
            self._hand_out()
            return NoReply()
        if kind is Hello or self.refusal is None:
            return Reply(self.name)
        return Stop(NORMAL, reply=self.refusal)

    async def handle_info(self, message: Any) -> Stop | None:
        kind = type(message)
        if self.refusal is not None:
            # End now, because no request asked for the refusal (_IdleCheck), or because the endpoint drains.
            return Stop(NORMAL) if kind is _IdleCheck or kind is Drain else None
        if kind is _Wake:
            self._hand_out()
            self.waiting.stall()
        elif kind is _ReadOn:
            await self._read_held()
        elif kind is _IdleCheck:
            self._check_idle()
        elif kind is Confirm:
            self._confirmed(message)
        elif kind is _Unconfirmed:
            self._not_confirmed(message.poll)
        else:
            self._take(message)
            if self.starting is not None:
                await self._finish_starts()
        return self._ended() if self.closing is not None else None

    async def _receive(self, line: Line, sender: Sender) -> Reply | NoReply | Stop:
        # Queue even if the session is not paused, so that the messages keep their order.
        if self.paused or self.held:
            now = trio.current_time()
            while self.held and self.held[0].until <= now:
                # The post of this message got 408, so drop the message.
                self.held.popleft()
            self.held.append(_Held(line, sender, now + self.options.window))
            return NoReply()
        await self._deal_with(line)
        return self._ended() if self.closing is not None else Reply(None)

    async def _deal_with(self, line: Line) -> None:
        self._begin_work()
        if self.has_rates:
            self.session.refill(trio.current_time())
        await self._hear(line.data, binary=line.binary)

    async def _read_held(self) -> None:
        while self.held and not self.paused and self.closing is None:
            held = self.held.popleft()
            if held.until > trio.current_time():
                await self._deal_with(held.line)
                reply(held.sender, None)

    def _leave_unread(self) -> None:
        """Do nothing. While the session is paused, `_receive` holds each new message, and its sender waits."""

    def _read_again(self) -> None:
        if self.held:
            send(self.pid, _ReadOn())

    # Messages to the client

    def _hand_out(self) -> None:
        """Reply to the waiting poll with the waiting messages. If that client has left, keep them for the next poll."""
        if self.unconfirmed is not None:
            return
        poll, messages = self.poll, self.waiting.messages
        if poll is not None and messages:
            self.poll = None
            if not reply(poll, messages):
                return
            seconds = self.asked.confirm_within
            if seconds is None:
                self.waiting.drop()
            else:
                self.unconfirmed, self.handed_out = self.asked, len(messages)
                self.waiting.keep_values()
                send_after(self.pid, _Unconfirmed(self.asked), seconds)

    def _confirmed(self, confirm: Confirm) -> None:
        if confirm.poll is self.unconfirmed:
            self.unconfirmed = None
            if confirm.delivered:
                self.waiting.drop(self.handed_out)
            self._hand_out()

    def _not_confirmed(self, poll: Poll) -> None:
        if poll is not self.unconfirmed:
            return
        self.services.count(LONGPOLL_ANSWER_LOST)
        current_runtime().telemetry.execute(
            LONGPOLL_ANSWER_LOST,
            {"messages": self.handed_out},
            {"endpoint": self.services.endpoint, "pid": self.pid},
        )
        self._close(TRY_AGAIN_LATER, CLOSED, "another node did not confirm messages for the client")

    # The end

    def _check_idle(self) -> None:
        patience = _IDLE_WINDOWS * self.options.window
        silence = trio.current_time() - self.last_poll
        if silence >= patience:
            self._close(PROTOCOL_ERROR, INACTIVE, f"no poll for {silence:g} s")
        else:
            send_after(self.pid, _IdleCheck(), patience)

    def _say_goodbye(self, code: int) -> None:
        """Reply to the waiting poll with the last messages. Long polling cannot send a close code."""
        self._hand_out()


# The sessions of a node

_SALT = "phoenix longpoll session"
_VERSION = Atom("v1")
# The bytes of a posted body per unit of the work budget, as a shift.
_BODY_COST_SHIFT = 10


class Place(msgspec.Struct, frozen=True):
    """The place of a session, from its token.

    Attributes:
        node: the name of its node.
        name: the session's name on that node.
        token: the token.
    """

    node: str
    name: str
    token: str


class Sessions:
    """The sessions of this node, for the code that serves requests."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def token(self, name: str) -> str:
        """Return the token of a session of this node. The code that reads the token checks its age."""
        content = (_VERSION, self._services.pubsub.node_name, name)
        return sign(self._services.secret_key_base, _SALT, content, max_age=math.inf)

    def place(self, token: str, *, max_age: float = math.inf) -> Place | None:
        """Return the place of a session; None if the token is invalid or older than `max_age` seconds."""
        try:
            content = verify(self._services.secret_key_base, _SALT, token, max_age=max_age)
        except TokenError:
            return None
        match content:
            case (version, str(node), str(name)) if version == _VERSION:
                return Place(node, name, token)
        return None

    async def find(self, place: Place, timeout: float) -> Pid | None:
        """Return the process of a session; None if it is not on this node, or does not answer in time."""
        services = self._services
        if place.node != services.pubsub.node_name:
            return None
        pid = services.admission.polling.get(place.name)
        if pid is None:
            return None
        try:
            await call(pid, Hello(), timeout=timeout)
        except CallExit:
            return None
        return pid

    async def poll(self, pid: Pid, poll: Poll, window: float) -> list[bytes] | None:
        """Wait for messages of a session, and return them; None if none came in time, or if the session has ended."""
        try:
            messages: list[bytes] = await call(pid, poll, timeout=window)
        except CallExit:
            # If the session has ended, the client's next poll reports that.
            return None
        return messages

    async def post(
        self, pid: Pid, body: bytes, content_type: str | None, window: float
    ) -> PollAnswer:
        """Pass the messages of a body to a session, one after the other. Each may take `window` seconds."""
        # Nothing can interrupt the splitting of a long body, so take its cost from the work budget.
        await self._services.budget.take(len(body) >> _BODY_COST_SHIFT)
        lines = left_out(body, content_type)
        if lines:
            self._report(LONGPOLL_LEFT_OUT, lines, pid)
        for line in messages_of(body, content_type):
            if not isinstance(line, Line):
                return line
            try:
                await call(pid, line, timeout=window)
            except CallExit:
                # The session was too slow, or has ended. If it has ended, the client's next request reports that.
                return status_answer(408)
        return status_answer(200)

    def answer(
        self, token: str, messages: Iterable[bytes] | None, pid: Pid, status: int = 200
    ) -> PollAnswer:
        """Make the answer to a poll. `messages` is the result of the method `poll`."""
        if messages is None:
            status, messages = 204, ()
        messages = list(messages)
        answer = messages_answer(status, token, messages)
        if answer is not None:
            return answer
        # As in Phoenix, a binary message loses all messages in the answer, and the client starts a new session.
        self._report(LONGPOLL_UNSENDABLE, len(messages), pid)
        return plain_answer(500)

    def _report(self, event: Event, messages: int, pid: Pid) -> None:
        self._services.count(event)
        current_runtime().telemetry.execute(
            event, {"messages": messages}, {"endpoint": self._services.endpoint, "pid": pid}
        )
