"""The invariant that every join gets one reply, and the frames of clients that invariants can observe.

Register it with a scenario: `@scenario(invariants=("all", JoinsAnswered))`. A shared observer wraps the session, the
codec and the out-buffer of each client.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Protocol

from attrs import define, field, frozen

from actors.exits import ExitReason
from actors.process import is_alive
from actors.refs import Pid
from actors.runtime import Runtime
from channels.connection.session_server import SessionServer
from channels.errors import DecodeError
from channels.messages import Message
from channels.protocol.session import Membership
from channels.recording.watched_out import WatchedOut
from channels.serializers.serializer import Codec
from channels.telemetry import SESSION_STARTED
from supervision.laboratory.chaos.invariants.base import Feed, Invariant

__all__ = ["Client", "Frames", "JoinsAnswered", "Listener", "Meaning"]

_REMEMBERED = 1000


@frozen
class Meaning:
    """The meaning of a frame that begins or ends a membership.

    Attributes:
        kind: `"reply"`, `"phx_close"` or `"phx_error"`.
        status: the status of a reply, else the empty string.
    """

    kind: str
    topic: Any
    join_ref: Any
    ref: Any
    status: str = ""


class Listener(Protocol):
    """An invariant about the frames of clients."""

    def started(self, client: Client) -> None: ...
    def asked(self, client: Client, message: Message) -> None: ...
    def starting(self, client: Client, membership: Membership) -> None: ...
    def written(self, client: Client, meaning: Meaning) -> None: ...


@define(eq=False)
class Client:
    """A connected client and the server process of its connection."""

    pid: Pid
    server: SessionServer
    codec: _Codec
    runtime: Runtime

    def is_busy_or_gone(self) -> bool:
        """Return True if the connection is closing or its process is busy. A frame may then come later or never."""
        info = self.runtime.process_info(self.pid)
        if self.server.closing is not None or info is None:
            return True
        return bool(info["queue_length"]) or info["status"] != "waiting"


class Frames(Feed):
    """The messages of all clients, and the frames that begin or end a membership."""

    listeners: list[Listener]

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        # One wrapper for each codec, so that clients with the same codec still share one encoded broadcast.
        self._codecs: dict[Codec, _Codec] = {}
        # No code detaches this handler, because the telemetry ends with the runtime.
        runtime.telemetry.attach(SESSION_STARTED, self._session_started)

    def _session_started(self, _event: object, _measured: object, about: Mapping[str, Any]) -> None:
        server: SessionServer = about["server"]
        codec = self._codecs.get(server.link.codec)
        if codec is None:
            codec = self._codecs[server.link.codec] = _Codec(server.link.codec)
        client = Client(about["pid"], server, codec, self.runtime)
        server.link.codec = server.session.codec = codec
        server.session.owner = _WatchedOwner(server.session.owner, client, self)
        server.session = _WatchedSession(server.session, client, self)  # type: ignore[assignment] # stands in for it
        server.out = server.link.out = WatchedOut(server.out, partial(self.written, client))
        for listener in self.listeners:
            listener.started(client)

    def asked(self, client: Client, message: Message) -> None:
        """Tell the listeners about a message of a client, before the session handles it."""
        for listener in self.listeners:
            listener.asked(client, message)

    def starting(self, client: Client, membership: Membership) -> None:
        """Tell the listeners about the start of a channel."""
        for listener in self.listeners:
            listener.starting(client, membership)

    def written(self, client: Client, frame: bytes) -> None:
        """Tell the listeners the meaning of a frame for a client."""
        meaning = client.codec.meanings.get(frame)
        if meaning is not None:
            for listener in self.listeners:
                listener.written(client, meaning)


class JoinsAnswered(Invariant):
    """Every join gets exactly one reply.

    A channel can wait in `join` without a limit. If the channel ends or does not start, the reply must come before the
    clock advances. A client that has disconnected needs no reply.
    """

    name: ClassVar[str] = "joins_answered"
    feed: ClassVar[type[Feed] | None] = Frames

    def __init__(self) -> None:
        super().__init__()
        self._clients: dict[Pid, _Joins] = {}

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._clients.pop(pid, None)

    def started(self, client: Client) -> None:
        self._clients[client.pid] = _Joins(client)

    def asked(self, client: Client, message: Message) -> None:
        joins = self._clients.get(client.pid)
        if joins is not None:
            joins.asked(message)

    def starting(self, client: Client, membership: Membership) -> None:
        joins = self._clients.get(client.pid)
        if joins is not None:
            joins.starting(membership)

    def written(self, client: Client, meaning: Meaning) -> None:
        joins = self._clients.get(client.pid)
        before = None if joins is None else joins.written(meaning)
        if before is not None:
            self.violated(
                f"{self.who(client.pid)}: the join of {meaning.topic!r} (ref {meaning.ref!r}) gets a reply, but a "
                f"{before} has answered it before"
            )

    def at_rest(self) -> str | None:
        return self.late_twice(
            {
                join: f"{self.who(pid)}: the join of {join.topic!r} (ref {join.ref!r}) got no reply, and its channel "
                "has ended"
                for pid, joins in self._clients.items()
                for join in joins.pending
                if joins.is_over(join) and not joins.client.is_busy_or_gone()
            }
        )


@define(eq=False)
class _Join:
    topic: Any
    ref: Any
    # None before the start of its channel.
    membership: Membership | None = None
    # True if the client has sent another message with the same ref, which may also get a reply.
    is_ambiguous: bool = False


@define(eq=False)
class _Joins:
    """The joins of one client."""

    client: Client
    pending: list[_Join] = field(factory=list)
    # The answered joins, by topic and ref, until the client uses the ref again.
    answered: dict[tuple[str, str], str] = field(factory=dict)
    # The latest membership of each topic.
    latest: dict[str, Membership] = field(factory=dict)

    def starting(self, membership: Membership) -> None:
        """Note the start of a channel."""
        self.latest[membership.topic] = membership
        for join in self.pending:
            is_waiting = join.membership is None
            if is_waiting and (join.topic, join.ref) == (membership.topic, membership.ref):
                join.membership = membership
                return

    def is_over(self, join: _Join) -> bool:
        """Return True if no process can answer the join any more."""
        # Before the start of its channel, a join may wait for the end of the topic's earlier channel.
        membership = join.membership
        if membership is None:
            membership = self.latest.get(join.topic) if isinstance(join.topic, str) else None
        if membership is None:
            return True
        if membership.process is None:
            # The channel has not started yet, or it could not start.
            return membership.status == "gone"
        return not is_alive(membership.process)

    def asked(self, message: Message) -> None:
        """Note a message of the client."""
        self.answered.pop(_key(message.topic, message.ref), None)
        for join in self.pending:
            if (join.topic, join.ref) == (message.topic, message.ref):
                join.is_ambiguous = True
        if message.event == "phx_join":
            self.pending.append(_Join(message.topic, message.ref))

    def written(self, meaning: Meaning) -> str | None:
        """Note a frame for the client. If the frame is a second answer to a join, return the kind of the first."""
        join = next((join for join in self.pending if _answers(meaning, join)), None)
        if join is not None:
            self.pending.remove(join)
            if join.is_ambiguous:
                return None
            self.answered[_key(meaning.topic, join.ref)] = meaning.kind
            if len(self.answered) > _REMEMBERED:
                del self.answered[next(iter(self.answered))]
            return None
        return (
            self.answered.get(_key(meaning.topic, meaning.ref)) if meaning.kind == "reply" else None
        )


def _answers(meaning: Meaning, join: _Join) -> bool:
    return bool(meaning.kind == "reply" and meaning.topic == join.topic and meaning.ref == join.ref)


def _key(topic: Any, ref: Any) -> tuple[str, str]:
    """Return a hashable key, because refs and topics can be any JSON value, such as a list."""
    return repr(topic), repr(ref)


class _Codec(Codec):
    """A codec that remembers the meaning of the frames that begin or end a membership."""

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec.serializer, codec.frame)
        self.meanings: dict[bytes, Meaning] = {}

    def reply(self, join_ref: Any, ref: Any, topic: Any, status: str, response: Any) -> bytes:
        frame = super().reply(join_ref, ref, topic, status, response)
        return self._means(frame, Meaning("reply", topic, join_ref, ref, status))

    def close(self, join_ref: Any, topic: str) -> bytes:
        frame = super().close(join_ref, topic)
        return self._means(frame, Meaning("phx_close", topic, join_ref, None))

    def error(self, join_ref: Any, topic: str) -> bytes:
        frame = super().error(join_ref, topic)
        return self._means(frame, Meaning("phx_error", topic, join_ref, None))

    def _means(self, frame: bytes, meaning: Meaning) -> bytes:
        # A few meanings are enough, because the server writes most frames immediately. Only a `phx_close` may wait,
        # because the server writes it after the answer to the next join. Clients with equal refs get equal frames. So
        # move the meaning of a repeated frame to the end. Otherwise the next frame could remove this meaning too early.
        self.meanings.pop(frame, None)
        self.meanings[frame] = meaning
        if len(self.meanings) > _REMEMBERED:
            del self.meanings[next(iter(self.meanings))]
        return frame


class _WatchedSession:
    """A session that reports the messages of its client."""

    def __init__(self, session: Any, client: Client, frames: Frames) -> None:
        self._session = session
        self._client = client
        self._frames = frames

    def receive(self, data: bytes, *, binary: bool) -> None:
        try:
            message = self._session.codec.serializer.decode(data, binary=binary)
        except DecodeError:
            pass
        else:
            self._frames.asked(self._client, message)
        self._session.receive(data, binary=binary)

    @property
    def owner(self) -> Any:
        """The owner of the wrapped session. A recorder may replace it."""
        return self._session.owner

    @owner.setter
    def owner(self, owner: Any) -> None:
        self._session.owner = owner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class _WatchedOwner:
    """The owner of a session, which reports the start of each channel."""

    def __init__(self, owner: Any, client: Client, frames: Frames) -> None:
        self._owner = owner
        self._client = client
        self._frames = frames

    def start_channel(self, membership: Membership, message: Message, size: int) -> None:
        self._frames.starting(self._client, membership)
        self._owner.start_channel(membership, message, size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._owner, name)
