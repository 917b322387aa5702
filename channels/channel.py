"""Channels: one process for each client and topic.

    class RoomChannel(Channel):
        async def join(self, topic, payload):
            if topic != "room:lobby":
                raise JoinRefused({"reason": "unauthorized"})

        @handle_in("new_msg")
        async def new_msg(self, payload):
            self.broadcast("new_msg", {"body": payload["body"]})

An instance is made in its process when the client joins, so whatever it holds lives and dies with that process: after
a crash the client rejoins and meets a new instance. Callbacks run one at a time. An exception in one ends the process;
the client is told `phx_error` and rejoins, and nobody else notices.

After Phoenix.Channel. Where it differs, docs/topics/differences.md says how and why.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Literal, TypeAlias

from actors.exits import ExitReason
from actors.process import current_pid
from actors.refs import Pid
from actors.runtime import current_runtime
from actors.servers.gen_server import Sender
from actors.servers.results import Continue, NoReply, Reply, Stop, Within
from channels.connection.fastlane import publish
from channels.connection.link import Broadcaster, Link
from channels.connection.session import Membership
from channels.errors import ChannelsError, EncodeError, InvalidOption
from channels.excerpts import brief, place_of_frame
from channels.handlers import HandlerTable, check_names, collect
from channels.messages import Broadcast, PushReply
from channels.telemetry import CHANNEL_UNHANDLED_INFO

__all__ = [
    "Channel",
    "ChannelContext",
    "LogLevelName",
    "NotJoined",
    "NothingToAnswer",
    "SocketRef",
    "UnhandledEvent",
    "place",
    "reply_to",
    "table_of",
]


LogLevelName: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]


class NotJoined(ChannelsError, RuntimeError):
    """A channel pushed or broadcast at a time when it is not joined.

    Fields: `topic`, `verb`.
    """

    def __init__(self, topic: str, verb: str) -> None:
        super().__init__(
            f"the channel for {brief(topic)} used {verb} before its join was answered with ok; return the first "
            "news from join, or send() the channel's own process a message and push from handle_info"
        )
        self.topic = topic
        self.verb = verb


class NothingToAnswer(ChannelsError, RuntimeError):
    """A channel asked for a `socket_ref` while it was not handling a push that expects an answer.

    Field: `topic`.
    """

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"the channel for {brief(topic)} asked for a socket_ref, but is handling no push that expects an answer; "
            "call socket_ref() in the handler of a push, keep it, and use it with reply_to later"
        )
        self.topic = topic


class UnhandledEvent(ChannelsError):
    """A client pushed an event that its channel has no handler for. The channel crashes, as in Phoenix.

    Fields: `channel`, the class; `event`, as it was sent.
    """

    def __init__(self, channel: type, event: object) -> None:
        super().__init__(
            f'{channel.__name__} has no handler for the event {brief(event)}; add one with @handle_in("..."), '
            "or override handle_in(event, payload) to take whatever has none"
        )
        self.channel = channel
        self.event = event


class ChannelContext:
    """The machinery behind one channel, which `push` and `broadcast` use.

    Attributes:
        link: of its connection.
        membership: of its client in its topic.
        pid: its process.
        joined: whether its join was answered with ok.
        ref: of the push that is being handled; None outside of a handler, and for a push that expects no answer.
    """

    __slots__ = ("joined", "link", "membership", "pid", "ref")

    def __init__(self, link: Link, membership: Membership, pid: Pid) -> None:
        self.link = link
        self.membership = membership
        self.pid = pid
        self.joined = False
        self.ref: Any = None


class SocketRef:
    """Where the answer to one push goes; any process may use it with `reply_to`, at any time."""

    __slots__ = ("_join_ref", "_link", "_ref", "_topic")

    def __init__(self, link: Link, topic: str, join_ref: Any, ref: Any) -> None:
        self._link = link
        self._topic = topic
        self._join_ref = join_ref
        self._ref = ref


def reply_to(socket_ref: SocketRef, reply: PushReply) -> None:
    """Answer a push later, from any process and any thread.

        ref = self.socket_ref()               # in the handler
        ...
        reply_to(ref, PushReply({"total": 3}))

    Clients take the first answer to a push and ignore the rest, and one that comes after a rejoin.

    Raises:
        InvalidOption: `reply` is no `channels.PushReply`.
    """
    if not isinstance(reply, PushReply):
        raise InvalidOption(
            "reply_to", "reply", reply, "PushReply(payload), with PushReply of channels"
        )
    link = socket_ref._link
    link.put(
        link.codec.reply(
            socket_ref._join_ref, socket_ref._ref, socket_ref._topic, reply.status, reply.payload
        )
    )


class Channel:
    """A channel. Subclass it, override `join`, add handlers with `handle_in` and `handle_out`.

    Attributes:
        topic: the topic that was joined.
        assigns: what the socket's `connect` and the route have assigned; a copy of this channel's own.
        endpoint: the endpoint that the client is connected to; `self.endpoint.broadcast(topic, event, payload)`.

        log_join: at which level joins are logged, None not at all. Phoenix's `log_join`.
        log_handle_in: the same for pushes that were handled. Phoenix's `log_handle_in`.
        slow_join: seconds after which a `join` that has not returned is reported, with the place where it waits; None
            does not report it. 10, as long as phoenix.js waits for the answer.

    Other attributes are yours. `__init__`, if you write one, takes no arguments.
    """

    topic: str
    assigns: dict[str, Any]
    endpoint: Broadcaster

    log_join: ClassVar[LogLevelName | None] = "info"
    log_handle_in: ClassVar[LogLevelName | None] = "debug"
    slow_join: ClassVar[float | None] = 10.0

    # For `spawn`: an instance belongs to one process, and must not outlive it.
    _ashtree_in_process: ClassVar[bool] = True
    _table: ClassVar[HandlerTable] = HandlerTable({}, {}, frozenset())

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_names(cls, Channel)
        cls._table = collect(cls)

    _context: ChannelContext

    # Callbacks

    async def join(self, topic: str, payload: Any) -> Any:
        """Decide whether the client may join. Untrusted input: check who it is and what it sent.

        Args:
            topic: what it wants to join, `self.topic`.
            payload: what it sent with the join; an object by convention, any JSON value or a `Binary` in fact.

        Returns:
            None, or what the client gets with the ok: a dict, or a record that encodes as a JSON object, or a `Binary`.
            Everything else is a mistake, and the client is refused.

        Raises:
            JoinRefused: the client gets its payload with an error. Anything else raised here is answered with
                `{"reason": "join crashed"}`.

        The client is not subscribed before this has returned, so it may not push or broadcast. It may take its time:
        meanwhile messages for this topic wait, and other topics of the client go on. It is never
        ended for being slow alone, but phoenix.js gives up after 10 seconds and joins again: see `slow_join`.

        If the client joins the topic again meanwhile, this call has five seconds to end. Its answer is sent, and then
        the channel is replaced. After five seconds the channel is killed, and the answer is `join crashed`.
        """
        return None

    async def handle_in(self, event: str, payload: Any) -> PushReply | Stop | None:
        """Take an event that no `@handle_in` method takes. Raises UnhandledEvent unless overridden."""
        raise UnhandledEvent(type(self), event)

    async def handle_info(self, message: Any) -> NoReply | Continue | Within | Stop | None:
        """Take a message that another process sent to this one, or that came from a further subscription.

        Without an override, the event `("phoenix", "channel_unhandled_info")` is executed and the message is forgotten.
        """
        current_runtime().telemetry.execute(
            CHANNEL_UNHANDLED_INFO,
            {},
            {"endpoint": self.endpoint, "channel": self, "message": message},
        )
        return None

    async def handle_continue(self, argument: Any) -> NoReply | Continue | Within | Stop | None:
        """Act on a `Continue(argument)` that a callback returned, before any message that is waiting."""
        raise NotImplementedError(
            f"{type(self).__name__} returned Continue({argument!r}) but has no handle_continue; add one"
        )

    async def handle_call(self, request: Any, sender: Sender) -> Reply | NoReply | Stop:
        """Answer a `call` to this process, as a GenServer does."""
        raise NotImplementedError(
            f"{type(self).__name__} was called with {request!r} but has no handle_call; add one, or use send()"
        )

    async def handle_cast(self, message: Any) -> NoReply | Continue | Within | Stop | None:
        """Act on a `cast` to this process, as a GenServer does."""
        raise NotImplementedError(
            f"{type(self).__name__} was cast {message!r} but has no handle_cast; add one"
        )

    async def terminate(self, reason: ExitReason) -> None:
        """Clean up after a leave, a stop, a crash, or the end of the connection.

        Not called if the process is killed, nor if `join` raised. See `GenServer.terminate`.
        """

    # Verbs: in any thread, so that work in a thread can tell of its progress

    def push(self, event: str, payload: Any) -> None:
        """Send an event to this channel's client, from any thread. Nobody learns whether it arrived.

        Never blocks in the runtime's thread. For another thread see `Endpoint.broadcast`.
        """
        context = self._context
        if not context.joined:
            raise NotJoined(self.topic, "push")
        link = context.link
        try:
            frame = link.codec.push(context.membership.channel_ref, self.topic, event, payload)
        except EncodeError as error:
            error.place = place_of_frame(sys._getframe(1))
            raise
        link.put(frame)

    def broadcast(self, event: str, payload: Any) -> None:
        """Send an event to every client that has joined this topic, this channel's own included, on every node.

        Args:
            event: its name.
            payload: a JSON object, encoded once; do not change it afterwards.

        Raises:
            EncodeError: the payload is no JSON object.

        Works in every thread, as `Endpoint.broadcast` does.
        """
        self._broadcast(event, payload, None)

    def broadcast_from(self, event: str, payload: Any) -> None:
        """Like `broadcast`, leaving out this channel's own client."""
        self._broadcast(event, payload, self._context.pid)

    def _broadcast(self, event: str, payload: Any, sender: Pid | None) -> None:
        context = self._context
        if not context.joined:
            raise NotJoined(self.topic, "broadcast")
        try:
            publish(context.link.pubsub, Broadcast(self.topic, event, payload), sender)
        except EncodeError as error:
            # Behind this one and the public verb, whoever called that.
            error.place = place_of_frame(sys._getframe(2))
            raise

    def socket_ref(self) -> SocketRef:
        """Keep the push that is being handled, to answer it later with `reply_to`.

        Raises:
            NothingToAnswer: outside a handler, or if the client sent the push without a ref and expects no answer.
        """
        context = self._context
        if context.ref is None:
            raise NothingToAnswer(self.topic)
        return SocketRef(context.link, self.topic, context.membership.channel_ref, context.ref)


def place(channel: Channel, link: Link, membership: Membership) -> ChannelContext:
    """Put a new channel into the current process, for one membership of one connection."""
    channel.topic = membership.topic
    channel.assigns = {**link.assigns, **membership.route.assigns}
    channel.endpoint = link.endpoint
    channel._context = ChannelContext(link, membership, current_pid())
    return channel._context


def table_of(channel: type[Channel]) -> HandlerTable:
    """Return the handlers of a channel class."""
    return channel._table
