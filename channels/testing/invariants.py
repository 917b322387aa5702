"""The invariant that every join gets exactly one reply.

Register it with a scenario: `@scenario(invariants=("all", JoinsAnswered))`. It wraps the session, the codec and the
out-buffer of each client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

from attrs import define, field

from actors.exits import ExitReason
from actors.process import is_alive
from actors.refs import Pid
from actors.runtime import Runtime
from channels.connection.session import Effect, Membership, Start
from channels.connection.session_server import SessionServer
from channels.errors import DecodeError
from channels.messages import Message
from channels.serializers.serializer import Codec
from channels.telemetry import SESSION_STARTED
from supervision.chaos.invariants.base import Invariant, Located

__all__ = ["JoinsAnswered"]

Meaning: TypeAlias = tuple[str, Any, Any, Any]
"""The kind of a frame (`"reply"`, `"phx_close"` or `"phx_error"`), its topic, its join_ref and its ref."""

_REMEMBERED = 1000


class JoinsAnswered(Invariant):
    """Every join gets exactly one reply.

    A channel can wait in `join` without a limit. If the channel ends or does not start, the reply must come before the
    clock advances. A client that has disconnected needs no reply.
    """

    name: ClassVar[str] = "joins_answered"

    def __init__(self) -> None:
        super().__init__()
        self._clients: dict[Pid, _Client] = {}
        # One wrapper for each codec, so that clients with the same codec still share one encoded broadcast.
        self._codecs: dict[Codec, _Codec] = {}

    def attach(self, runtime: Runtime, places: Located | None = None) -> None:
        super().attach(runtime, places)
        # No code detaches this handler, because the telemetry ends with the runtime.
        runtime.telemetry.attach(SESSION_STARTED, self._session_started)

    def _session_started(self, _event: object, _measured: object, about: Mapping[str, Any]) -> None:
        pid: Pid = about["pid"]
        server: SessionServer = about["server"]
        codec = self._codecs.get(server.link.codec)
        if codec is None:
            codec = self._codecs[server.link.codec] = _Codec(server.link.codec)
        client = self._clients[pid] = _Client(self, server, codec)
        server.link.codec = server.session.codec = codec
        server.session = _Session(server.session, client)  # type: ignore[assignment] # stands in for it
        server.out = server.link.out = _Out(server.out, client)

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._clients.pop(pid, None)

    def at_rest(self) -> str | None:
        for pid, client in self._clients.items():
            for join in client.pending:
                if join.is_over() and not client.is_busy_or_gone(pid):
                    return (
                        f"{self.who(pid)}: the join of {join.topic!r} (ref {join.ref!r}) got no reply, and its "
                        "channel has ended"
                    )
        return None


@define(eq=False)
class _Join:
    topic: Any
    ref: Any
    membership: Membership | None
    # True if the client has sent another message with the same ref, which may also get a reply.
    is_ambiguous: bool = False

    def is_over(self) -> bool:
        """Return True if no process can answer the join any more."""
        process = None if self.membership is None else self.membership.process
        return self.membership is None or (process is not None and not is_alive(process))


@define(eq=False)
class _Client:
    """The joins of one client."""

    invariant: JoinsAnswered
    server: SessionServer
    codec: _Codec
    pending: list[_Join] = field(factory=list)
    # The answered joins, by topic and ref, until the client uses the ref again.
    answered: dict[tuple[str, str], str] = field(factory=dict)

    def is_busy_or_gone(self, pid: Pid) -> bool:
        """Return True if the client closes or its process is busy, so that a reply may come later or never."""
        info = self.invariant.runtime.process_info(pid)
        if self.server.closing is not None or info is None:
            return True
        return bool(info["queue_length"]) or info["status"] != "waiting"

    def asked(self, message: Message, effects: list[Effect]) -> None:
        """Note a message of the client."""
        self.answered.pop(_key(message.topic, message.ref), None)
        for join in self.pending:
            if (join.topic, join.ref) == (message.topic, message.ref):
                join.is_ambiguous = True
        if message.event == "phx_join":
            start = next((each for each in effects if isinstance(each, Start)), None)
            membership = None if start is None else start.membership
            self.pending.append(_Join(message.topic, message.ref, membership))

    def written(self, frame: bytes) -> None:
        """Note a frame for the client."""
        meaning = self.codec.meanings.get(frame)
        if meaning is None:
            return
        kind, topic, _, ref = meaning
        join = next((join for join in self.pending if _answers(meaning, join)), None)
        if join is not None:
            self.pending.remove(join)
            if join.is_ambiguous:
                return
            self.answered[_key(topic, join.ref)] = kind
            if len(self.answered) > _REMEMBERED:
                del self.answered[next(iter(self.answered))]
        elif kind == "reply" and _key(topic, ref) in self.answered:
            before = self.answered[_key(topic, ref)]
            self.invariant.violated(
                f"{self.invariant.who(self.server.pid)}: the join of {topic!r} (ref {ref!r}) gets a reply, but a "
                f"{before} has answered it before"
            )


def _answers(meaning: Meaning, join: _Join) -> bool:
    kind, topic, _, ref = meaning
    return bool(kind == "reply" and topic == join.topic and ref == join.ref)


def _key(topic: Any, ref: Any) -> tuple[str, str]:
    """Return a hashable key, because refs and topics can be any JSON value, such as a list."""
    return repr(topic), repr(ref)


class _Codec(Codec):
    """A codec that remembers the meaning of the frames that end a join."""

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec.serializer, codec.frame)
        self.meanings: dict[bytes, Meaning] = {}

    def reply(self, join_ref: Any, ref: Any, topic: Any, status: str, response: Any) -> bytes:
        frame = super().reply(join_ref, ref, topic, status, response)
        return self._means(frame, ("reply", topic, join_ref, ref))

    def close(self, join_ref: Any, topic: str) -> bytes:
        return self._means(super().close(join_ref, topic), ("phx_close", topic, join_ref, None))

    def error(self, join_ref: Any, topic: str) -> bytes:
        return self._means(super().error(join_ref, topic), ("phx_error", topic, join_ref, None))

    def _means(self, frame: bytes, meaning: Meaning) -> bytes:
        # Remember only a few meanings, because the server writes most frames at once. Only a close waits, for the
        # answer to the next join.
        self.meanings[frame] = meaning
        if len(self.meanings) > _REMEMBERED:
            del self.meanings[next(iter(self.meanings))]
        return frame


class _Session:
    """A session that reports its messages to the invariant."""

    def __init__(self, session: Any, client: _Client) -> None:
        self._session = session
        self._client = client

    def receive(self, data: bytes, *, binary: bool) -> list[Effect]:
        effects: list[Effect] = self._session.receive(data, binary=binary)
        try:
            message = self._session.codec.serializer.decode(data, binary=binary)
        except DecodeError:
            return effects
        self._client.asked(message, effects)
        return effects

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class _Out:
    """An out-buffer that reports its frames to the invariant."""

    def __init__(self, out: Any, client: _Client) -> None:
        self._out = out
        self._client = client

    def put(self, frame: bytes) -> None:
        self._client.written(frame)
        self._out.put(frame)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)
