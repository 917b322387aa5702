"""The channel of supabase's clients: broadcasts, presences, private topics, replay, and changes of tables.

    class RoomChannel(SupabaseChannel):
        presence = presence

        @classmethod
        async def authorize(cls, action, topic, claims):
            return claims["role"] == "authenticated"

    class UserSocket(SupabaseSocket):
        secret = SECRET
        channels = {"realtime:*": RoomChannel}

Source: `lib/realtime_web/channels/realtime_channel.ex` of supabase/realtime. `docs/topics/differences.md` lists the
differences.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Sequence
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
import trio

from actors.errors import InvalidOption
from actors.exits import NORMAL
from actors.process import current_pid, send
from actors.refs import TimerRef
from actors.runtime import current_runtime
from actors.servers.results import Continue, NoReply, Stop, Within
from actors.timers import cancel_timer, send_after
from channels.channel import Channel
from channels.connection.channel_server import ChannelServer
from channels.durable.history import History
from channels.durable.server import DurableChannelServer
from channels.durable.storage import AppendFailed
from channels.durable.stream import Cursor, Entry, Position
from channels.errors import ChannelsError, EncodeError
from channels.handlers import handle_in
from channels.messages import Binary, JoinRefused, Message, PushReply
from channels.presence.presence import Presence
from channels.presence.roster import TooManyCalls
from channels.presence.state import NotTracked
from channels.presence.wire import MAX_TEXT
from channels.protocol.session import BURST, TokenBucket
from channels.pubsub.envelope import MessageTooLarge
from channels.supabase.access import Access, Action, Claims, is_key, problem_of
from channels.supabase.changes import Change, Changes, Subscription
from channels.supabase.serializers import PRIVATE, raw_broadcast
from channels.telemetry import SOCKET_RATE_LIMITED
from channels.tokens.token import TokenError

__all__ = [
    "NOT_STORED",
    "PREFIX",
    "TOO_LARGE",
    "JoinConfig",
    "JoinPayload",
    "SupabaseChannel",
    "broadcast_of",
    "stored_broadcast",
]

PREFIX = "realtime:"
"""The prefix that the clients put before each topic."""

# The texts of errors for clients. The text of an `AppendFailed` is for logs, and names the storage.
TOO_LARGE = "payload_size_exceeded"
NOT_STORED = "the message may not have been stored"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class ReplayConfig(msgspec.Struct):
    """The stored messages that a client wants: the newest `limit` of those since a time in milliseconds."""

    since: float
    limit: int = 25


class BroadcastConfig(msgspec.Struct, rename={"to_self": "self"}):
    """The options of broadcasts."""

    to_self: bool = False
    ack: bool = False
    replay: ReplayConfig | None = None


class PresenceConfig(msgspec.Struct):
    """The options of presences."""

    key: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] = ""
    enabled: bool = False


class JoinConfig(msgspec.Struct):
    """The options of a join. The clients send null for some of them."""

    broadcast: BroadcastConfig | None = None
    presence: PresenceConfig | None = None
    private: bool | None = None
    postgres_changes: Annotated[list[Subscription], msgspec.Meta(max_length=100)] | None = None


class JoinPayload(msgspec.Struct):
    """The payload of a join."""

    config: JoinConfig | None = None
    access_token: str | None = None


_JOINED = object()
"""A channel's message to itself: its join was accepted."""

_EXPIRED = object()
"""The message of a timer: a token of the client has expired."""


class SupabaseServer(DurableChannelServer):
    """The process of one `SupabaseChannel`.

    A private topic with a history is durable: its stored messages pass through this process, so a client gets each of
    them once, either replayed after the join or live. All other broadcasts bypass the process.
    """

    has_positions = False
    # No message equals this. A durable topic has a lane of its own.
    lane: Any = object()

    def _accept(self, response: Any) -> Awaitable[None] | None:  # type: ignore[override] # only some channels wait
        channel: Any = self.channel
        if channel.private and channel.messages is not None:
            return self._accept_durably(response)
        return ChannelServer._accept(self, response)

    async def _accept_durably(self, response: Any) -> None:
        channel: Any = self.channel
        history = self.history = channel.messages
        self.lane = history.lane(channel.topic)
        history.follow(channel.topic)
        found = await history.read(channel.topic)
        self.cursor = Cursor(found.end, history.limits.mode)
        ChannelServer._accept(self, response)
        if not self.membership.is_replaced:
            await self._replay(channel._replayed(found.entries))
            self.cursor.move(found.end)

    async def handle_info(self, message: Any) -> Stop | NoReply | Continue | Within | None:
        channel: Any = self.channel
        if type(message) is Message:
            return await ChannelServer.handle_info(self, message)
        if message is _JOINED:
            await channel._on_joined()
        elif message is _EXPIRED:
            return self._checked(channel._on_expired(), "handle_info")
        elif type(message) is list and channel.changes and message[:1] == [channel.changes.topic]:
            channel._on_change(msgspec.convert(message[1], Change))
        else:
            return await super().handle_info(message)
        return None

    async def _pass_on(self, entry: Entry) -> None:
        own = self.channel._own  # type: ignore[attr-defined]
        at = Position(entry.epoch, entry.offset)
        if own and str(at) in own:
            own.discard(str(at))
            self.cursor.move(at)
        else:
            await super()._pass_on(entry)


class SupabaseChannel(Channel):
    """Base class of channels for supabase's clients. It works without a subclass, for public topics without presences.

    Attributes:
        presence: tracks the presences. Pass it to `Endpoint(presences=)`. None refuses `track`.
        messages: keeps the messages of private topics that a client stores with `persist`, for replay. Pass it to
            `Endpoint(histories=)`. None keeps none.
        changes: the source of changes for `postgres_changes`. None refuses joins that ask for changes.
        private_only: True refuses public channels.
        max_messages_per_second: the broadcasts that a client may send on average. Further ones close the channel.
        max_payload_bytes: the largest payload of a broadcast. A larger one is dropped.
        max_replay: the most messages that a client can replay.
        refusal_delay: seconds before the refusal of a join, because the clients join again at once.
        room: the topic without `realtime:`.
        private: True in a private channel.
        claims: the content of the client's token.
    """

    presence: ClassVar[Presence | None] = None
    messages: ClassVar[History | None] = None
    changes: ClassVar[Changes | None] = None
    private_only: ClassVar[bool] = False
    max_messages_per_second: ClassVar[float] = 100.0
    max_payload_bytes: ClassVar[int] = 3_000_000
    max_replay: ClassVar[int] = 25
    refusal_delay: ClassVar[float] = 5.0

    room: str
    private: bool = False
    claims: Claims

    _server = SupabaseServer.spawn_link
    _token: str
    _expiry: TimerRef | None = None
    # The result of `authorize("write", ...)`; None before the first write with this token.
    _may_write: bool | None = None
    _is_limited = False

    @classmethod
    def _check_endpoint(cls, endpoint: Any) -> None:
        for option, service, running in (
            ("presences", cls.presence, endpoint.presences),
            ("histories", cls.messages, endpoint.histories),
        ):
            if service is not None and service not in running:
                expected = f"a list with the one of {cls.__name__}, {service!r}"
                raise InvalidOption("Endpoint", option, running, expected)

    @classmethod
    async def authorize(cls, action: Action, topic: str, claims: Claims, /) -> bool:
        """Decide about a private topic. Only True is a yes. By default, the server refuses all private topics.

        Args:
            action: `read` before the join and after each new token; `write` before the first broadcast or presence.
            topic: the topic without `realtime:`.
            claims: the content of the client's token.

        Returns:
            True if the client may do this.
        """
        return False

    # Joining

    async def join(self, topic: str, payload: JoinPayload) -> Any:
        """Accept a client whose token is valid, and who may read the topic.

        If you override this, call it first, and return its result or raise `JoinRefused`:

            async def join(self, topic: str, payload: JoinPayload) -> Any:
                response = await super().join(topic, payload)
                if self.claims["sub"] in BANNED:
                    raise JoinRefused({"reason": "Unauthorized: banned"})
                return response

        Args:
            topic: the requested topic, with `realtime:`.
            payload: the options of the client, and its token.

        Returns:
            The response for the client.

        Raises:
            JoinRefused: the client may not join.
        """
        try:
            return await self._join(topic, payload)
        except JoinRefused:
            await trio.sleep(self.refusal_delay)
            raise

    async def _join(self, topic: str, payload: JoinPayload) -> Any:
        config = payload.config or JoinConfig()
        self._broadcasts = config.broadcast or BroadcastConfig()
        self._presences = config.presence or PresenceConfig()
        self._key = self._presences.key or current_runtime().uuid().hex
        self.room = topic.removeprefix(PREFIX)
        self.private = config.private is True
        if not self.room or not topic.startswith(PREFIX):
            raise _refused("TopicNameRequired", "You must provide a topic name")
        if self.private_only and not self.private:
            raise _refused("PrivateOnly", "This project only allows private channels")
        access = self.assigns.get("access")
        if not isinstance(access, Access):
            raise ChannelsError(
                f"{type(self).__name__} needs a SupabaseSocket, whose connect() sets assigns['access']; an override of "
                "connect() must call super().connect()"
            )
        token = payload.access_token
        try:
            self._accept_token(access.apikey if token is None or is_key(token) else token)
        except TokenError as error:
            raise _refused(*problem_of(error)) from None
        if self.private:
            _make_private(self)
            if not await self._may("read"):
                problem = (
                    f"You do not have permissions to read from this Channel topic: {self.room}"
                )
                raise _refused("Unauthorized", problem)
        elif self._broadcasts.replay is not None:
            raise _refused("UnableToReplayMessages", "Replay is not allowed for public channels")
        self._subscriptions = config.postgres_changes or []
        self._bucket = TokenBucket(
            rate=self.max_messages_per_second,
            burst=max(1.0, BURST * self.max_messages_per_second),
            now=trio.current_time(),
        )
        # The positions of the client's own stored messages that it must not get, and that have not arrived yet.
        self._own: set[str] = set()
        send(current_pid(), _JOINED)
        return {"postgres_changes": self._subscribe()}

    def _subscribe(self) -> list[dict[str, Any]]:
        """Subscribe to changes. Return the entries of the join with their ids."""
        for each in self._subscriptions:
            problem = each.problem()
            if self.changes is None:
                problem = "this server has no source of Postgres changes"
            if problem is not None:
                raise _refused("UnableToSubscribeToPostgres", problem)
        if self._subscriptions and self.changes is not None:
            self.endpoint.pubsub.subscribe(self.changes.topic)
        entries = enumerate(map(msgspec.to_builtins, self._subscriptions), 1)
        return [{**entry, "id": number} for number, entry in entries]

    async def _on_joined(self) -> None:
        """Send the presences. This runs after the client has its join reply and the replayed messages."""
        if self.presence is not None and self._presences.enabled:
            await self.presence.push_state(self)
        if self._subscriptions:
            self._push_system("postgres_changes", "ok", "Subscribed to PostgreSQL")

    # Tokens

    def _accept_token(self, token: str) -> None:
        verified = self.assigns["access"].verify(token)
        if self._expiry is not None:
            cancel_timer(self._expiry)
        self._token, self.claims, self._may_write = token, verified.data, None
        self._expires_at = trio.current_time() + verified.seconds_left
        if self._expires_at < math.inf:
            self._expiry = send_after(current_pid(), _EXPIRED, verified.seconds_left)

    async def _may(self, action: Action) -> bool:
        return await self.authorize(action, self.room, self.claims) is True

    async def _may_send(self) -> bool:
        if self.private and self._may_write is None:
            self._may_write = await self._may("write")
        return self._may_write is not False

    @handle_in("access_token")
    async def _on_access_token(self, payload: Any) -> Stop | None:
        """Use a new token of the client. If the client may not read the topic with it, close the channel."""
        token = payload.get("access_token") if isinstance(payload, dict) else None
        if not isinstance(token, str) or is_key(token) or token == self._token:
            return None
        try:
            self._accept_token(token)
        except TokenError as error:
            return self._shut_down(problem_of(error)[1])
        if self.private and not await self._may("read"):
            problem = f"You no longer have permission to read from this Channel topic: {self.room}"
            return self._shut_down(problem)
        return None

    def _on_expired(self) -> Stop | None:
        """Close the channel at the end of its token, unless the client has sent another one."""
        ago = trio.current_time() - self._expires_at
        return self._shut_down(f"Token has expired {ago:.0f} seconds ago") if ago >= 0 else None

    # Broadcasts

    @handle_in("broadcast")
    async def _on_broadcast(self, payload: Any) -> PushReply | Stop | None:
        self._bucket.refill(trio.current_time())
        if not self._bucket.take():
            self._report("max_messages_per_second")
            return self._shut_down("Too many messages per second")
        if not await self._may_send():
            return None
        answer = await self._send(payload)
        return answer if self._broadcasts.ack else None

    async def _send(self, payload: Any) -> PushReply:
        event = payload.get("event") if isinstance(payload, dict) else None
        if not isinstance(event, str):
            return _error("a broadcast needs the name of an event")
        body = payload.get("payload")
        size = len(body.data if type(body) is Binary else _encode(body))
        if size > self.max_payload_bytes:
            self._report("max_payload_bytes")
            return _error(TOO_LARGE)
        if payload.get("persist") and self.private and self.messages is not None:
            return await self._store(self.messages, event, body)
        send_to = self.broadcast if self._broadcasts.to_self else self.broadcast_from
        try:
            send_to("broadcast", broadcast_of(self.topic, event, body))
        except MessageTooLarge:
            return _error(TOO_LARGE)
        return PushReply()

    def _report(self, limit: str) -> None:
        """Count a broadcast above a limit, and emit `SOCKET_RATE_LIMITED` once for this channel."""
        link = self._context.link
        link.count(("socket", limit))
        if not self._is_limited:
            self._is_limited = True
            about = {"endpoint": self.endpoint, "pid": link.connection, "limit": limit}
            link.runtime.telemetry.execute(SOCKET_RATE_LIMITED, {}, about)

    async def _store(self, history: History, event: str, body: Any) -> PushReply:
        if type(body) is Binary:
            return _error("only JSON payloads can be stored")
        try:
            position = await history.append(self.topic, "broadcast", stored_broadcast(event, body))
        except AppendFailed as error:
            return _error(TOO_LARGE if error.is_too_large else NOT_STORED)
        if not self._broadcasts.to_self:
            # The message itself arrives after this handler.
            self._own.add(position)
        return PushReply()

    def _replayed(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the stored messages that the client asks for, oldest first."""
        replay, found = self._broadcasts.replay, list[Entry]()
        limit = 0 if replay is None else min(replay.limit, self.max_replay)
        # From the newest one, so that a join decodes few of thousands of messages.
        for entry in reversed(entries):
            if replay is None or len(found) >= limit:
                break
            message = _decode(entry.body)
            time = _stored_at(message)
            if time is None:
                continue
            if time < replay.since:
                break
            message["meta"]["replayed"] = True
            found.append(Entry(entry.epoch, entry.offset, entry.event, _encode(message)))
        return found[::-1]

    # Presences

    @handle_in("presence")
    async def _on_presence(self, payload: Any) -> PushReply | Stop | None:
        event = str(payload.get("event")).lower() if isinstance(payload, dict) else ""
        if self.presence is None:
            return _error("this server tracks no presences")
        if event == "untrack":
            self.presence.untrack(self, self._key)
            return PushReply()
        if event != "track" or not await self._may_send():
            return PushReply(status="error")
        meta = payload.get("payload", {})
        if not isinstance(meta, dict):
            return PushReply({"reason": "Presence track payload must be a map"}, status="error")
        try:
            try:
                self.presence.update(self, self._key, meta)
            except NotTracked:
                self.presence.track(self, self._key, meta)
        except TooManyCalls:
            return self._shut_down("Client presence rate limit exceeded")
        except EncodeError:
            return self._shut_down("Track message size exceeded")
        return PushReply()

    # Changes of tables

    def _on_change(self, change: Change) -> None:
        """Send a change to the client if the client asks for it and may see it."""
        assert self.changes is not None  # otherwise the channel has no subscriptions
        ids = [id for id, each in enumerate(self._subscriptions, 1) if each.wants(change)]
        if ids and self.changes.may_select(change, self.claims) is True:
            self.push("postgres_changes", {"ids": ids, "data": change.data()})

    # System messages

    def _shut_down(self, text: str) -> Stop:
        """Send a system message with an error, and return the result that closes the channel. The clients stay out."""
        self._push_system("system", "error", text)
        return Stop(NORMAL)

    def _push_system(self, extension: str, status: str, text: str) -> None:
        message = {"extension": extension, "status": status, "message": text, "channel": self.room}
        self.push("system", message)

    # Other events. This method comes last, because it hides the decorator of the same name.

    async def handle_in(self, event: str, payload: Any, /) -> PushReply | Stop | None:
        """Ignore an event that has no handler, as supabase's server does.

        Args:
            event: the name of the event.
            payload: the payload.

        Returns:
            None, so that the client gets no reply.
        """
        return None


def broadcast_of(topic: str, event: str, body: Any) -> Any:
    """Return the payload of the event `broadcast`, from a JSON value or a `Binary`."""
    if type(body) is Binary:
        return raw_broadcast(topic, event, body.data)
    return {"type": "broadcast", "event": event, "payload": body}


def stored_broadcast(event: str, body: Any) -> dict[str, Any]:
    """Return the payload of a broadcast for a history. Its id is a UUID of version 7, which has the time."""
    runtime = current_runtime()
    time, chance = int(runtime.now() * 1000), runtime.random.getrandbits(74)
    bits = time << 80 | 7 << 76 | (chance >> 62) << 64 | 2 << 62 | chance & 2**62 - 1
    return {
        "type": "broadcast",
        "event": event,
        "payload": body,
        "meta": {"id": str(UUID(int=bits))},
    }


def _stored_at(message: Any) -> int | None:
    """Return the time of a stored broadcast in milliseconds since 1970; None for a message of another form."""
    try:
        return UUID(message["meta"]["id"]).int >> 80
    except (LookupError, TypeError, ValueError, AttributeError):
        # The application has appended it to the history.
        return None


def _make_private(channel: Channel) -> None:
    # In `join`, because a subclass may go on in its own `join`, and track a presence there.
    channel.topic = PRIVATE + channel.topic


def _refused(code: str, text: str) -> JoinRefused:
    return JoinRefused({"reason": f"{code}: {text}"})


def _error(text: str) -> PushReply:
    return PushReply({"error": text}, status="error")
