"""Channels of durable topics: a client that returns gets the messages that it missed.

history = History(SQLiteStorage("history.db"))

class DocumentChannel(DurableChannel):
    history = history

    @handle_in("edit")
    async def edit(self, payload):
        await self.append("edited", payload)
        return PushReply()

endpoint = Endpoint(sockets={"/socket": UserSocket}, histories=[history])

A route can make the topics of any channel durable: `Route("document:*", DocumentChannel, history=history)`.
"""

from __future__ import annotations

from threading import get_ident
from typing import Any, ClassVar

from actors.errors import InvalidOption, NotAProcess
from actors.places import place_of_caller
from actors.process import current_pid
from actors.refs import Pid
from channels.channel import Channel, SocketRef, not_joined
from channels.durable.answers import KeyedPush
from channels.durable.history import History
from channels.durable.server import DurableChannelServer, no_history
from channels.durable.storage import HistoryError
from channels.durable.stream import Recovery
from channels.errors import EncodeError

__all__ = ["DurableChannel", "durable_class"]


class DurableChannel(Channel):
    """Base class of channels whose topics keep their messages for a while.

    Attributes:
        history: the history that keeps the messages. The endpoint runs it: `Endpoint(histories=[history])`.

    A client sends its last position in the join params, as `_position`. It then gets each message after that position
    once, in order. Or it gets `"_recovered": false` with a reason in the join reply. Everything else is as in
    `Channel`.

    Messages pass through the channel's process, so a slow handler delays the messages to its own client. Plain
    broadcasts of the endpoint to the topic, such as presence diffs, do not pass through it. These broadcasts have no
    position, and the history does not keep them.

    A client may put a key into the payload of a push, as `_key`, and repeat the push with this key. The handler gets
    the payload without the key. The history remembers the reply for a while: a repeated push gets the first reply, and
    the handler does not run again. If the channel crashed before the history kept the reply, the handler runs again.
    The history does not keep the messages of its first run twice.

    A method of `handle_out` must return None. It also gets replayed messages. The payload has the position in
    `_position`. Keep it in the payload that you push, because the client needs it.
    """

    history: ClassVar[History | None] = None

    _server = DurableChannelServer.spawn_link

    @classmethod
    def _check_endpoint(cls, endpoint: Any) -> None:
        history = cls.history
        # A program may also start the history itself, before the endpoint.
        runs = history is not None and history.is_running_on(endpoint.pubsub)
        if not runs and history not in endpoint.histories:
            raise no_history(cls, history)

    async def on_recovered(self, recovery: Recovery, /) -> None:
        """Run after the join of a client. Override this to send the client a snapshot.

            async def on_recovered(self, recovery):
                if not recovery.recovered:
                    self.push("snapshot", {"text": await load(self.topic)})

        Args:
            recovery: `recovered` is True if the client gets every message that it missed. If not, `reason` is new,
                epoch_changed, too_old or too_many.

        The client has its join reply and the replayed messages. New messages wait until this returns. A snapshot that
        you read here may already contain some of the new messages.
        """

    async def append(self, event: str, payload: Any) -> str:
        """Keep a message, and send it to every client of this topic. Return its position when it is kept.

        The client of this channel gets it too, after this handler has returned. Call this in a handler, and reply
        afterwards. Then the sender knows that no client will miss the message.

        Args:
            event: the name of the event.
            payload: a JSON object without the key `_position`. Do not change it afterwards.

        Raises:
            EncodeError: the payload is not such an object.
            AppendFailed: the storage did not keep the message, or may not have kept it. If the handler does not catch
                the error, the channel crashes, and its client rejoins.
            FenceRefused: a process owns the topic, see `History.claim`. Call this process.
        """
        try:
            history = self._running("append", event, payload)
            return await history.append(self.topic, event, payload, push=self._push())
        except EncodeError as error:
            error.place = place_of_caller()
            raise

    def broadcast(self, event: str, payload: Any) -> None:
        """Keep a message and send it to every client of this topic, without waiting. Any thread can call this.

        This raises no error if the storage fails later; `append` does.

        Args:
            event: the name of the event.
            payload: a JSON object.

        Raises:
            EncodeError: the payload is not a JSON object, or has the key `_position`.
            AppendFailed: too many messages wait, or this message is too large.
        """
        try:
            history = self._running("broadcast", event, payload)
            history.append_nowait(self.topic, event, payload, push=self._push())
        except EncodeError as error:
            error.place = place_of_caller()
            raise

    def socket_ref(self) -> SocketRef:
        """Return a reference to the current push, to reply later with `reply_to`.

        The history does not remember a reply through `reply_to`. If the client repeats the push, the handler runs
        again.

        Raises:
            InvalidOperation: no handler of a push is running, or the push has no ref and so expects no reply.
        """
        ref = super().socket_ref()
        push = self._context.push
        if push is not None:
            push.is_deferred = True
        return ref

    def _push(self) -> KeyedPush | None:
        """Return the push with a key whose handler is the caller, or None."""
        context = self._context
        push: KeyedPush | None = context.push
        if push is None or get_ident() != context.link.runtime.thread:
            return None
        try:
            caller = current_pid()
        except NotAProcess:
            return None
        # Messages of other processes have no key: if the handler runs again, these processes may append at another
        # point.
        return push if caller == context.pid else None

    def _broadcast(
        self, event: str, payload: Any, sender: Pid | None, key: str | None = None
    ) -> None:
        verb = "broadcast_from" if key is None else "broadcast_latest"
        raise HistoryError(
            f"{type(self).__name__} called {verb}({event!r}, ...) on a durable topic, whose messages every "
            "client gets; call append or broadcast, and let the sender's client ignore its own messages"
        )

    def _running(self, verb: str, event: str, payload: Any) -> History:
        """Return the history for a message. If the channel may not send the message, raise the error."""
        if not self._context.joined or self.history is None:
            raise not_joined(self.topic, verb)
        if self._context.declarations is not None:
            self._context.declarations.check(event, payload)
        return self.history


def durable_class(channel: type[Channel], history: object) -> type[Channel]:
    """Return a subclass of a channel class whose topics are durable, for a route with a history.

    Raises:
        InvalidOption: `history` is not a `History`.
    """
    if not isinstance(history, History):
        raise InvalidOption("Route", "history", history, "a channels.durable.History")
    bases = (channel,) if issubclass(channel, DurableChannel) else (channel, DurableChannel)
    # The subclass has the name of the given class, because logs and errors show it.
    names = {"__module__": channel.__module__, "__qualname__": channel.__qualname__}
    return type(channel.__name__, bases, {**names, "history": history})
