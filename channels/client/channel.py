"""A channel of a client: join a topic, push, read its messages, leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

import trio

from actors.arguments import check_positive
from actors.errors import InvalidOption
from channels.client.errors import ChannelClosed, PushTimeout, Refused
from channels.client.events import Joined, JoinRejected, Lifecycle, Rejoined
from channels.client.feed import Change, Feed
from channels.client.records import (
    ChannelRecord,
    ChannelState,
    PositionTracker,
    PushRecord,
)
from channels.messages import Message

__all__ = ["ClientChannel", "ClientPush", "Listener", "SocketOfChannel"]

Listener = Callable[[Any, str | None], object]
"""A function that takes the payload of a message, and the join_ref of the channel's membership."""


class SocketOfChannel(Protocol):
    """The methods of a socket that its channels call."""

    def join(self, record: ChannelRecord) -> None:
        """Send the first join."""
        ...

    def push(
        self,
        record: ChannelRecord,
        event: str,
        payload: Any,
        timeout: float | None,
        *,
        is_repeatable: bool,
    ) -> PushRecord:
        """Send an event."""
        ...

    def cancel(self, record: PushRecord) -> None:
        """Forget a push."""
        ...

    def leave(self, record: ChannelRecord) -> None:
        """Leave the topic."""
        ...


class ClientPush:
    """A push that may still wait for its reply. `ClientChannel.push_nowait` makes it.

    Attributes:
        event: the event.
        status: the status of the reply; "timeout" or "closed" if no reply came; None while the push waits for it.
        response: the response in the reply.
    """

    __slots__ = ("_done", "_record", "response", "status")

    def __init__(self, record: PushRecord) -> None:
        self.status: str | None = None
        self.response: Any = None
        self._record = record
        self._done: trio.Event | None = None
        record.waiter = self

    @property
    def event(self) -> str:
        """The event."""
        return self._record.event

    async def wait(self) -> Any:
        """Wait for the reply, and return its payload.

        Raises:
            Refused: the status of the reply is not ok.
            PushTimeout: no reply came in time.
            ChannelClosed: the channel was closed before the reply.
        """
        if self.status is None:
            if self._done is None:
                self._done = trio.Event()
            await self._done.wait()
        else:
            await trio.lowlevel.checkpoint()
        topic = self._record.channel.topic
        match self.status:
            case "ok":
                return self.response
            case "timeout" if self.response is None:
                raise PushTimeout(topic, self.event, self._record.timeout)
            case "closed" if isinstance(self.response, _Cause):
                raise ChannelClosed(topic, self.response)
            case status:
                raise Refused(topic, self.event, str(status), self.response)

    def settle(self, status: str, response: Any) -> None:
        """Set the result. Only the socket calls this."""
        self.status = status
        self.response = _Cause(response) if status == "closed" else response
        if self._done is not None:
            self._done.set()


class _Cause(str):
    """The cause of an end. Its type distinguishes it from the response of a server that replies "closed"."""

    __slots__ = ()


class ClientChannel:
    """A topic that the client joins, and joins again after a loss. `ClientSocket.channel` makes it.

        async with socket.channel("room:lobby", {"name": "ann"}) as channel:
            await channel.push("new_msg", {"body": "hello"})
            async for message in channel:
                print(message.event, message.payload)

    The channel joins the topic when the block begins, and leaves it when the block ends. Inside the block, the client
    joins again if the channel crashes on the server or the connection is lost. Until the rejoin, pushes wait. The
    client misses the messages of that time, unless the topic is durable: see `ClientSocket.channel`.

    The iteration yields every message of the topic as a `Message`, and ends when the channel is closed: by `leave`, by
    the server, or with the socket. The channel keeps a bounded number of unread messages; see `Feed`.

    Attributes:
        topic: the topic.
        record: the channel's part of the protocol. Only the socket uses it.
        max_messages: messages that each feed of the channel keeps.
    """

    __slots__ = (
        "_changed",
        "_ending",
        "_error",
        "_feeds",
        "_left",
        "_listeners",
        "_messages",
        "_rejection",
        "_socket",
        "_tracker",
        "_wait",
        "max_messages",
        "record",
        "topic",
    )

    def __init__(
        self,
        socket: SocketOfChannel,
        record: ChannelRecord,
        *,
        wait: bool,
        max_messages: int,
        tracker: PositionTracker | None = None,
    ) -> None:
        self.topic = record.topic
        self.record = record
        self.max_messages = max_messages
        self._socket = socket
        self._wait = wait
        self._tracker = tracker
        self._messages: Feed[Message] = Feed(record.topic, max_messages)
        self._feeds: dict[str, list[Feed[Any]]] = {}
        self._listeners: dict[str, tuple[Listener, ...]] = {}
        self._changed = Change()
        self._rejection: JoinRejected | None = None
        self._left = False
        self._error: ChannelClosed | None = None
        self._ending: list[Feed[Any]] = []

    def __repr__(self) -> str:
        return f"<client channel {self.topic!r} {self.state}>"

    @property
    def state(self) -> ChannelState:
        """One of closed, joining, joined, errored (waiting to join again) and leaving."""
        return self.record.state

    @property
    def cause(self) -> str | None:
        """The reason why the channel is closed, in words; None while it is not closed."""
        return self.record.cause

    @property
    def response(self) -> Any:
        """The response of the last join."""
        return self.record.response

    @property
    def dropped(self) -> int:
        """The number of messages that the channel dropped, because the program did not read them."""
        feeds = [self._messages, *(feed for each in self._feeds.values() for feed in each)]
        return sum(feed.dropped for feed in feeds)

    # Joining and leaving

    async def __aenter__(self) -> Self:
        self._socket.join(self.record)
        if self._wait:
            try:
                await self._first_answer()
            except BaseException:
                # Otherwise no code would leave the topic.
                self._socket.leave(self.record)
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def _first_answer(self) -> None:
        record = self.record
        await trio.lowlevel.checkpoint()
        while not record.was_joined:
            if self._rejection is not None:
                rejected = self._rejection
                raise Refused(self.topic, "phx_join", rejected.status, rejected.response)
            if record.state == "closed":
                raise ChannelClosed(self.topic, record.cause or "it was not joined")
            await self._changed.wait()

    async def wait_joined(self) -> Any:
        """Wait until the channel is joined, and return the response of the join.

        Raises:
            ChannelClosed: the channel was closed.
        """
        await trio.lowlevel.checkpoint()
        while self.record.state != "joined":
            if self.record.state == "closed":
                raise ChannelClosed(self.topic, self.record.cause or "it was not joined")
            await self._changed.wait()
        return self.record.response

    async def leave(self) -> None:
        """Leave the topic, and wait for the server's answer.

        The channel closes before the wait: pushes fail, and iterations end after the messages that arrived before. The
        wait ends with the answer, with the end of the connection, or after the channel's timeout. A second call does
        nothing.
        """
        if self.record.state == "closed":
            await trio.lowlevel.checkpoint()
            return
        self._socket.leave(self.record)
        await trio.lowlevel.checkpoint()
        while not self._left:
            await self._changed.wait()

    # Pushing

    async def push(self, event: str, payload: Any = None, *, timeout: float | None = None) -> Any:
        """Push an event, wait for the reply, and return its payload.

            reply = await channel.push("new_msg", {"body": "hello"}, timeout=5)

        While the channel is not joined, the push waits. After the join, the client sends it, and its timeout starts
        again. If the connection is lost after the client has sent the push, the client does not send it again, because
        the server may have handled it. A durable channel does send it again. Its pushes have keys, and a server with
        durable topics answers a repeated push with the first answer. The timeout then covers all attempts.

        Args:
            event: the event.
            payload: any value that JSON can express, or a `Binary`; an empty object by default.
            timeout: seconds for the reply; by default the timeout of the channel, which is 10 unless you change it.

        Raises:
            Refused: the server replied with a status other than ok.
            PushTimeout: no reply came in time. The server may have handled the push.
            ChannelClosed: the channel is closed.
            EncodeError: the payload cannot be encoded.
            BufferFull: too many pushes wait.
            InvalidOption: the event is not text, or the timeout is not a positive number.

        If the calling task is cancelled, the client ignores the reply. It never sends a push that still waits.
        """
        record = self._push(event, payload, timeout)
        try:
            return await ClientPush(record).wait()
        except trio.Cancelled:
            # This does nothing if the push has its result.
            self._socket.cancel(record)
            raise

    def push_nowait(
        self, event: str, payload: Any = None, *, timeout: float | None = None
    ) -> ClientPush:
        """Push an event without waiting for the reply. Await `wait()` of the result to get the reply.

            push = channel.push_nowait("new_msg", {"body": "hello"})
            reply = await push.wait()

        Args:
            event: the name of the event.
            payload: a JSON value; None is an empty object.
            timeout: the seconds to wait for the reply. None takes the time limit of the socket.

        Returns:
            The push, whose `wait()` returns the reply.

        Raises:
            ChannelClosed: the channel is closed.
            EncodeError: the payload cannot be encoded.
            BufferFull: too many pushes wait.
            InvalidOption: the event is not text, or the timeout is not a positive number.
        """
        return ClientPush(self._push(event, payload, timeout))

    def _push(self, event: str, payload: Any, timeout: float | None) -> PushRecord:
        if not isinstance(event, str):
            raise InvalidOption("push", "event", event, 'text, such as "new_msg"')
        if timeout is not None:
            check_positive("push", "timeout", timeout)
        is_repeatable = False
        if self._tracker is not None:
            payload = self._tracker.keyed(payload)
            is_repeatable = type(payload) is dict
        return self._socket.push(self.record, event, payload, timeout, is_repeatable=is_repeatable)

    # Messages

    def __aiter__(self) -> Feed[Message]:
        return self._messages

    def on(self, event: str) -> Feed[Any]:
        """Return a feed of the payloads of one event that arrive after this call.

            with channel.on("new_msg") as messages:
                async for payload in messages:
                    print(payload["body"])

        The iteration over the channel gets these messages too.

        Args:
            event: the name of the event.
        """
        feeds = self._feeds.setdefault(event, [])
        feed = self.new_feed(self.max_messages, feeds.remove)
        feeds.append(feed)
        return feed

    def listen(self, event: str, listener: Listener) -> Callable[[], None]:
        """Call a function with each message of one event, before any task reads it.

            detach = channel.listen("presence_diff", lambda diff, join_ref: print(diff))

        The function must be quick. If it raises, the error leaves the block of `open_socket`.

        Args:
            event: the name of the event.
            listener: a function of the payload and the ref of the join.

        Returns:
            A function that removes the listener.
        """
        self._listeners[event] = (*self._listeners.get(event, ()), listener)

        def detach() -> None:
            rest = tuple(each for each in self._listeners[event] if each is not listener)
            self._listeners[event] = rest

        return detach

    def new_feed(self, limit: int, detach: Callable[[Feed[Any]], object]) -> Feed[Any]:
        """Make a feed that ends with the channel, in the same way as the iteration over the channel.

        Args:
            limit: the number of items that the feed keeps.
            detach: called with the feed when the program closes it.
        """

        def closed(feed: Feed[Any]) -> None:
            self._ending.remove(feed)
            detach(feed)

        feed: Feed[Any] = Feed(self.topic, limit, on_close=closed)
        if self.record.state == "closed" and self.record.joined_once:
            feed.end(self._error)
        self._ending.append(feed)
        return feed

    # For the socket

    def arrived(self, message: Message) -> bool:
        """Pass on a message. Return True if a feed dropped a message for the first time since its last read."""
        event = message.event
        if self._tracker is not None:
            self._tracker.note(message.payload)
        if self._listeners or self._feeds:
            if type(event) is not str:
                return self._messages.put(message)
            for listener in self._listeners.get(event, ()):
                listener(message.payload, self.record.join_ref)
            for feed in self._feeds.get(event, ()):
                feed.put(message.payload)
        return self._messages.put(message)

    def told(self, event: Lifecycle) -> None:
        """Note an event in the life of the channel."""
        if isinstance(event, JoinRejected):
            self._rejection = event
        elif isinstance(event, Joined | Rejoined):
            self._rejection = None
            if self._tracker is not None:
                self._tracker.note(event.response)
        self._changed.notify()

    def left(self) -> None:
        """Note that the server has confirmed the leave."""
        self._left = True
        self._changed.notify()

    def ended(self, *, is_clean: bool) -> None:
        """End the iterations."""
        if not is_clean:
            self._error = ChannelClosed(self.topic, self.record.cause or "the socket has ended")
        self._messages.end(self._error)
        for feed in self._ending:
            feed.end(self._error)
        self._changed.notify()
