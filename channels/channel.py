"""Channels: one process for each client and topic.

    class RoomChannel(Channel):
        async def join(self, topic, payload):
            if topic != "room:lobby":
                raise JoinRefused({"reason": "unauthorized"})

        @handle_in("new_msg")
        async def new_msg(self, payload):
            self.broadcast("new_msg", {"body": payload["body"]})

When a client joins, Ashtree starts a process with an instance of the channel. The process runs one callback at a time.
An exception in a callback ends the process, and the state of the instance is lost. The client gets `phx_error`,
rejoins, and gets a new instance. Other clients do not notice.

Source: Phoenix.Channel. docs/topics/differences.md lists the differences and the reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias

from actors.arguments import check_seconds
from actors.errors import InvalidOperation, InvalidOption
from actors.exits import ExitReason
from actors.places import place_of_caller
from actors.process import current_pid
from actors.refs import Pid
from actors.runtime import current_runtime
from actors.servers.gen_server import Sender
from actors.servers.results import Continue, NoReply, Reply, Stop, Within
from actors.text import brief
from channels.errors import ChannelsError, EncodeError
from channels.handlers import Declarations, check_names, check_types, names_of
from channels.messages import MAX_KEY, Broadcast, PushReply
from channels.protocol.link import Broadcaster, Link
from channels.protocol.session import Membership
from channels.telemetry import CHANNEL_UNHANDLED_INFO

__all__ = [
    "Channel",
    "ChannelContext",
    "LogLevelName",
    "SocketRef",
    "UnhandledEvent",
    "check_endpoint",
    "connection_of",
    "not_joined",
    "place",
    "reply_to",
    "server_of",
]


LogLevelName: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]


# The maximum number of events in the text of an `UnhandledEvent`.
_MAX_EVENTS = 20


class UnhandledEvent(ChannelsError):
    """A client pushed an event that its channel has no handler for. The channel crashes, as in Phoenix.

    Attributes:
        channel: the class.
        event: the event from the client.
    """

    def __init__(self, channel: type, event: object) -> None:
        handled = ", ".join(islice(map(repr, names_of(channel, "in")), _MAX_EVENTS))
        super().__init__(
            f"{channel.__name__} has no handler for the event {brief(event)}"
            f"{f', only for {handled}' if handled else ''}; add one with "
            '@handle_in("..."), or override handle_in(event, payload) to handle all other events'
        )
        self.channel = channel
        self.event = event


class ChannelContext:
    """The state that Ashtree keeps for one channel: its connection, its membership and its process.

    Attributes:
        link: the link to the connection.
        membership: the client's membership in the topic.
        pid: the channel's process.
        joined: True after the channel accepted the join.
        ref: the ref of the current push; None outside a handler and for a push that expects no reply.
        push: the current push if it has a key, else None. Only pushes to durable topics have keys.
        declarations: the checks of what the channel sends; None in production.
    """

    __slots__ = ("declarations", "joined", "link", "membership", "pid", "push", "ref")

    def __init__(self, link: Link, membership: Membership, pid: Pid) -> None:
        self.declarations: Declarations | None = membership.route.table.declarations
        self.link = link
        self.membership = membership
        self.pid = pid
        self.joined = False
        self.ref: Any = None
        self.push: Any = None


class SocketRef:
    """A reference to a push, for `reply_to`. Any process may use the reference, at any time."""

    __slots__ = ("_join_ref", "_link", "_ref", "_topic")

    def __init__(self, link: Link, topic: str, join_ref: Any, ref: Any) -> None:
        self._link = link
        self._topic = topic
        self._join_ref = join_ref
        self._ref = ref

    def parts(self) -> tuple[Link, str, Any, Any]:
        """Return the link, the topic, the join_ref and the ref."""
        return self._link, self._topic, self._join_ref, self._ref

    def encode(self, reply: PushReply) -> bytes:
        """Return the frame of a reply to the push."""
        return self._link.codec.reply(
            self._join_ref, self._ref, self._topic, reply.status, reply.payload
        )


def reply_to(socket_ref: SocketRef, reply: PushReply) -> None:
    """Reply to a push later, from any process and any thread.

        ref = self.socket_ref()               # in the handler
        ...
        reply_to(ref, PushReply({"total": 3}))

    A client uses the first reply to a push. It ignores later replies. After a rejoin, it ignores replies to pushes from
    before the rejoin.

    Args:
        socket_ref: the result of `socket_ref` in the handler of the push.
        reply: the reply.

    Raises:
        InvalidOption: `reply` is not a `channels.PushReply`.
    """
    if not isinstance(reply, PushReply):
        raise InvalidOption("reply_to", "reply", reply, "channels.PushReply(payload)")
    socket_ref._link.put(socket_ref.encode(reply))


class Channel:
    """Base class of channels. Subclass it, override `join`, and add handlers with `handle_in` and `handle_out`.

    Attributes:
        topic: the joined topic.
        assigns: a copy of the assigns of the socket and of the route, for this channel alone.
        endpoint: the endpoint of the client, for `self.endpoint.broadcast(topic, event, payload)`.
        log_join: the level of log lines about joins; None turns them off. Phoenix has the same option.
        log_handle_in: the level of log lines about handled pushes; None turns them off. Phoenix has the same option.
        slow_join: seconds. If `join` takes longer, the server logs a warning with the stack of `join`. None turns the
            warning off. The default is 10, because phoenix.js waits 10 seconds for the reply.
        pushes: the payload types of the events that the channel pushes or broadcasts, for `ashtree gen types`. None
            declares nothing. In tests and development, a push that does not fit raises `DeclarationMismatch`.
        replies: the types of the replies to events, for `ashtree gen types`. A value is the type of the reply with
            status `ok`, or a dict from statuses to types. The event `phx_join` means the join. In tests and
            development, a reply that does not fit raises `DeclarationMismatch`.

    You may set other attributes. Your `__init__` must not take arguments.
    """

    topic: str
    assigns: dict[str, Any]
    endpoint: Broadcaster

    log_join: ClassVar[LogLevelName | None] = "info"
    log_handle_in: ClassVar[LogLevelName | None] = "debug"
    slow_join: ClassVar[float | None] = 10.0
    pushes: ClassVar[Mapping[str, Any] | None] = None
    replies: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    lives_in_process: ClassVar[bool] = True
    """True makes `spawn` refuse methods of the instance, because the instance must not outlive its process."""
    _server: ClassVar[Callable[..., Any] | None] = None

    @classmethod
    def _check_endpoint(cls, endpoint: Any) -> None:
        """Check what this class needs of an endpoint. `check_endpoint` calls it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_names(cls, Channel)
        check_types(cls, Channel)

    _context: ChannelContext

    # Callbacks

    async def join(self, topic: str, payload: Any, /) -> Any:
        """Accept or refuse the client. A client can send any topic and any payload, so check both.

        Args:
            topic: the requested topic, `self.topic`.
            payload: the payload of the join, an object by convention. A client can send any JSON value or a `Binary`.

        Returns:
            The response for the client: a dict, a record that encodes as a JSON object, or a `Binary`. None is an empty
            response. Any other value is a mistake, and Ashtree then refuses the client.

        Raises:
            JoinRefused: raise it to refuse the client. The client gets its payload with status `error`. After any other
                exception the client gets `{"reason": "join crashed"}`.

        The channel cannot push or broadcast in `join`, because Ashtree subscribes it to the topic after `join` returns.
        The client's messages for this topic wait until then. Its other topics do not wait. After 10 seconds phoenix.js
        gives up and joins again: see `slow_join`.

        To push the first data, call `send(current_pid(), message)` in `join`, and push in `handle_info`. The channel
        handles the messages that `join` has sent to it before the next message of the client.

        When the client joins the topic again, an unfinished `join` gets five more seconds. If it returns in time, the
        client gets its reply. If it does not, Ashtree kills the channel, and the client gets `join crashed`. Then a new
        channel handles the new join.
        """
        return None

    async def handle_in(self, event: str, payload: Any, /) -> PushReply | Stop | None:
        """Handle an event that has no `@handle_in` method. If you do not override this, it raises UnhandledEvent.

        Args:
            event: the name of the event.
            payload: the payload, decoded from JSON; bytes for a binary push.

        Returns:
            None for no reply, a `PushReply`, or `actors.Stop(reason)`.
        """
        raise UnhandledEvent(type(self), event)

    async def handle_info(self, message: Any, /) -> NoReply | Continue | Within | Stop | None:
        """Handle a message of another process, or a broadcast on a topic that the channel passed to `PubSub.subscribe`.

        By default, the channel emits the event `("phoenix", "channel_unhandled_info")` and drops the message.

        Args:
            message: the message.

        Returns:
            None, or a result as from `GenServer.handle_info`.
        """
        current_runtime().telemetry.execute(
            CHANNEL_UNHANDLED_INFO,
            {},
            {"endpoint": self.endpoint, "channel": self, "message": message},
        )
        return None

    async def handle_continue(self, argument: Any, /) -> NoReply | Continue | Within | Stop | None:
        """Handle a `Continue(argument)` that a callback returned, before the next message.

        Args:
            argument: the argument of the `Continue`.

        Returns:
            None, or a result as from `GenServer.handle_continue`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} returned Continue({argument!r}) but has no handle_continue; add one"
        )

    async def handle_call(self, request: Any, sender: Sender, /) -> Reply | NoReply | Stop:
        """Answer a `call` to this process, as a GenServer does.

        Args:
            request: the request of the caller.
            sender: the caller, for `actors.reply`.

        Returns:
            `Reply(value)`, `NoReply()` or `Stop(...)`, as from `GenServer.handle_call`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} received the call {request!r} but has no handle_call; add one, or use send()"
        )

    async def handle_cast(self, message: Any, /) -> NoReply | Continue | Within | Stop | None:
        """Handle a `cast` to this process, as a GenServer does.

        Args:
            message: the message of the sender.

        Returns:
            None, or a result as from `GenServer.handle_cast`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} received the cast {message!r} but has no handle_cast; add one"
        )

    async def terminate(self, reason: ExitReason, /) -> None:
        """Clean up after a leave, a stop, a crash, or the end of the connection.

        Ashtree does not call this if the process is killed, or if `join` raised anything except `JoinRefused`. See
        `GenServer.terminate`.

        Args:
            reason: the exit reason of the channel.
        """

    # Verbs. Any thread can call them, so that work in a thread can report its progress.

    def push(self, event: str, payload: Any) -> None:
        """Send an event to this channel's client, from any thread. The client does not acknowledge it.

        In the runtime's thread, this never blocks. In another thread, it waits as `Endpoint.broadcast` does.
        """
        context = self._context
        if not context.joined:
            raise not_joined(self.topic, "push")
        if context.declarations is not None:
            context.declarations.check(event, payload)
        link = context.link
        try:
            frame = link.codec.push(context.membership.channel_ref, self.topic, event, payload)
        except EncodeError as error:
            error.place = place_of_caller()
            raise
        link.put(frame)

    def push_latest(self, event: str, payload: Any, *, key: str) -> None:
        """Send a value that may be dropped to this channel's client, from any thread.

            self.push_latest("position", {"bus": 7, "x": x, "y": y}, key="bus 7")

        The value waits and is replaced as one of `broadcast_latest`.

        Args:
            event: the name of the event.
            payload: a JSON object or a `Binary`.
            key: text of at most 255 characters that names the thing which has this value.

        Raises:
            InvalidOperation: the join has not been accepted yet.
            InvalidOption: the key is not such a text.
            EncodeError: the payload is not a JSON object or a `Binary`.
        """
        context = self._context
        if not context.joined:
            raise not_joined(self.topic, "push_latest")
        if not isinstance(key, str) or len(key) > MAX_KEY:
            expected = f'text of at most {MAX_KEY} characters, such as "bus 7"'
            raise InvalidOption("push_latest", "key", key, expected)
        if context.declarations is not None:
            context.declarations.check(event, payload)
        link = context.link
        try:
            frame = link.codec.push(context.membership.channel_ref, self.topic, event, payload)
        except EncodeError as error:
            error.place = place_of_caller()
            raise
        link.put_latest((self.topic, event, key), frame)

    def broadcast(self, event: str, payload: Any) -> None:
        """Send an event to every client that has joined this topic, including this channel's own client.

        Args:
            event: the name of the event.
            payload: a JSON object. Do not change it afterwards.

        Raises:
            EncodeError: the payload is not a JSON object.

        Any thread can call this, as with `Endpoint.broadcast`.
        """
        self._broadcast(event, payload, None)

    def broadcast_from(self, event: str, payload: Any) -> None:
        """Broadcast to all clients of the topic except this channel's own.

        Args:
            event: the name of the event.
            payload: a value with the JSON form of an object, or a `Binary`.
        """
        self._broadcast(event, payload, self._context.pid)

    def broadcast_latest(self, event: str, payload: Any, *, key: str) -> None:
        """Broadcast a value that may be dropped, such as a position, a cursor or a price.

            self.broadcast_latest("position", {"bus": 7, "x": x, "y": y}, key="bus 7")

        A client that keeps up gets every value. For a client that is behind, only the newest value of each topic, event
        and key waits, and the server never closes it because of such values. Clients get messages and values in the
        order of sending, except for the values that newer ones replaced.

        Args:
            event: the name of the event.
            payload: a JSON object or a `Binary`. Do not change it afterwards. It is the whole state of the key, because
                a client may miss every earlier value.
            key: text of at most 255 characters that names the thing which has this value, such as the id of a vehicle.
                The client does not get it.

        Raises:
            EncodeError: the payload is not a JSON object or a `Binary`, or the key is not such a text.

        A channel that handles the event with `handle_out` gets every value, and can call `push_latest`.
        """
        self._broadcast(event, payload, None, key)

    def broadcast_latest_from(self, event: str, payload: Any, *, key: str) -> None:
        """Broadcast a value, as `broadcast_latest` does, to all clients of the topic except this channel's own.

        Args:
            event: the name of the event.
            payload: a JSON object or a `Binary`.
            key: the name of the thing which has this value.
        """
        self._broadcast(event, payload, self._context.pid, key)

    def _broadcast(
        self, event: str, payload: Any, sender: Pid | None, key: str | None = None
    ) -> None:
        context = self._context
        if not context.joined:
            raise not_joined(self.topic, "broadcast")
        if context.declarations is not None:
            context.declarations.check(event, payload)
        try:
            message = Broadcast(self.topic, event, payload, key)
            context.link.pubsub.broadcast(self.topic, message, sender=sender)
        except EncodeError as error:
            error.place = place_of_caller()
            raise

    def expire_connection_after(self, seconds: float) -> None:
        """Set a new deadline for the connection of this channel, from any thread. `math.inf` removes the deadline.

            @handle_in("renew")
            async def renew(self, payload: Renewal) -> PushReply:
                verified = verify_with_lifetime(SECRET, "user socket", payload.token, max_age=3600)
                self.expire_connection_after(verified.seconds_left)
                return PushReply()

        All channels of the connection share this deadline. `Socket.expire_connection_after` describes its effects.

        Args:
            seconds: seconds on Trio's clock, from 0.

        Raises:
            InvalidOption: `seconds` is not a number, 0 or more.
        """
        check_seconds("expire_connection_after", "seconds", seconds)
        self._context.link.expire_after(seconds)

    def socket_ref(self) -> SocketRef:
        """Return a reference to the current push, to reply later with `reply_to`.

        Raises:
            InvalidOperation: no handler of a push is running, or the push has no ref and so expects no reply.
        """
        context = self._context
        if context.ref is None:
            raise InvalidOperation(
                "socket_ref",
                f"the channel for {brief(self.topic)} called socket_ref() while it was not handling a push that "
                "expects a reply; call socket_ref() in the handler of the push, and keep its result for reply_to",
            )
        ref = SocketRef(context.link, self.topic, context.membership.channel_ref, context.ref)
        return ref if context.declarations is None else context.declarations.ref(ref)


def not_joined(topic: str, verb: str) -> InvalidOperation:
    """Return the error of a channel that pushes or broadcasts before its `join` has returned."""
    return InvalidOperation(
        verb,
        f"the channel for {brief(topic)} called {verb} before its join was accepted; return the first data "
        "from join, or send() a message to current_pid() and push from handle_info",
    )


def place(channel: Channel, link: Link, membership: Membership) -> ChannelContext:
    """Set up a new channel for a membership. The channel runs in the current process."""
    channel.topic = membership.topic
    channel.assigns = {**link.assigns, **membership.route.assigns}
    channel.endpoint = link.endpoint
    channel._context = ChannelContext(link, membership, current_pid())
    return channel._context


def connection_of(channel: Channel) -> Pid:
    """Return the process of the connection of a channel."""
    return channel._context.link.connection


def check_endpoint(channel: type[Channel], endpoint: Any) -> None:
    """Raise ChannelsError if an endpoint lacks something that a channel of its routes needs, such as a history."""
    channel._check_endpoint(endpoint)


def server_of(channel: type[Channel]) -> Callable[..., Any] | None:
    """Return the function that starts the process of a channel; None for the usual `ChannelServer`."""
    return channel._server
