"""The process of a joined durable topic: it replays the missed messages to its client, then sends each message once.

    follow the topic (new messages wait in the mailbox), read the history, answer the join, replay, go live

Each message carries the join_ref of the current join. So a client drops the late messages of an earlier join. The
position of its latest join does not include them.

For a push with a key, the handler runs once, and the history remembers its answer:

    recall the answer ──none──▶ handler ──▶ keep the answer ──▶ reply
                      ──found─▶ reply
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.process import current_pid
from actors.servers.results import MISSING, Continue, NoReply, Stop, Within
from channels.checks import invalid
from channels.connection.channel_server import ChannelServer
from channels.durable.answers import (
    KEY,
    MAX_KEY,
    Answer,
    KeyedPush,
    mark_push,
    name_push,
    take_key,
)
from channels.durable.history import End, History
from channels.durable.storage import HistoryError, HistoryLost
from channels.durable.stream import Cursor, Entry, Position, Recovery, take_position
from channels.messages import Binary, Message, PushReply
from channels.protocol.link import Link
from channels.protocol.session import Membership
from channels.protocol.work_budget import COST_SHIFT

__all__ = ["DurableChannelServer", "no_history"]

_ANOTHER = PushReply({"reason": f"another push had this {KEY}"}, status="error")
_RESULTS = (type(None), PushReply, Stop, NoReply, Continue, Within)
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def no_history(channel: type, history: History | None) -> HistoryError:
    """Return the error for a durable channel whose history does not run in its endpoint."""
    return HistoryError(
        f"{channel.__name__} is a DurableChannel, and its history is {history!r}, which does not run in this endpoint; "
        "set `history = History(...)` in the class, and pass it to Endpoint(histories=[...])"
    )


class DurableChannelServer(ChannelServer):
    """The process of one channel of a durable topic."""

    has_positions = True
    """True if the payloads for the client contain their positions."""

    async def init(self, link: Link, membership: Membership, payload: Any) -> Continue:
        self.position, params = take_position(payload)
        return await super().init(link, membership, params)

    async def _accept(self, response: Any) -> None:
        channel: Any = self.channel
        history: History | None = channel.history
        topic = channel.topic
        if history is None or not history.is_running_on(self.link.pubsub):
            raise no_history(type(channel), history)
        self.history = history
        self.lane = history.lane(topic)
        history.follow(topic)
        recovery = await history.recover(topic, self.position)
        self.cursor = Cursor(recovery.start, history.limits.mode)
        super()._accept(_with_recovery(type(channel), response, recovery))
        if self.membership.is_replaced:
            # The client has joined again, and reads the history again.
            return
        await self._replay(recovery.entries)
        await channel.on_recovered(recovery)

    async def handle_info(self, message: Any) -> Stop | NoReply | Continue | Within | None:
        kind = type(message)
        if kind is Message and type(message.payload) is dict and KEY in message.payload:
            return await self._handle_once(message)
        if kind is Entry:
            await self._take(message)
        elif kind is End:
            if self.cursor.look(message.position) != "duplicate":
                await self._catch_up(message.position)
        elif kind is list and message and message[0] == self.lane:
            entry = _from_other_node(message)
            if entry is not None:
                await self._take(entry)
        else:
            return await super().handle_info(message)
        return None

    async def _handle_once(self, message: Message) -> Stop | NoReply | Continue | Within | None:
        """Handle a push with a key, or repeat its first answer."""
        self._unload(message)
        key, payload = take_key(message.payload)
        if message.event == "phx_leave":
            return self._leave(message)
        if key is None:
            problem = f"{KEY} must be text of 1 to {MAX_KEY} characters"
            self._reply(message, PushReply({"reason": problem}, status="error"))
            return None
        topic, me = self.membership.topic, current_pid()
        name, mark = name_push(self.link.id, topic, key), mark_push(message.event, payload)
        push = KeyedPush(topic, str(message.event), name, mark)
        try:
            earlier = await self.history.begin(push, me)
            if earlier is not None:
                self._repeat(message, push, Answer.decode(earlier))
                return None
            context = self.context
            context.push = push
            try:
                result = await self._handling(message, payload)
            finally:
                context.push = None
            context.ref = None
            return self._respond(message, await self._keep(message, push, result))
        finally:
            self.history.end(me)

    def _repeat(self, message: Message, push: KeyedPush, answer: Answer) -> None:
        """Repeat the first answer to a push."""
        if answer.mark != push.mark:
            self._reply(message, _ANOTHER)
        elif answer.reply is not None:
            self._reply(message, answer.reply)

    async def _keep(self, message: Message, push: KeyedPush, result: Any) -> Any:
        """Remember the answer in the result of a handler. Return the result with the first answer for this key."""
        kind = type(result)
        reply = result if kind is PushReply else None
        if kind is Stop and result.reply is not MISSING:
            reply = result.reply
        is_valid = kind in _RESULTS and (reply is None or type(reply) is PushReply)
        if push.is_deferred or not is_valid:
            # The answer comes later, or the channel is about to crash.
            return result
        if reply is not None:
            # Encode now, to raise before the storage keeps anything.
            self._encoded_reply(message, reply)
        mine = Answer(push.mark, reply).encode()
        first = await self.history.keep_answer(push, mine)
        if first == mine:
            return result
        # Another node has handled the same push meanwhile, and kept its answer first.
        answer = Answer.decode(first)
        reply = answer.reply if answer.mark == push.mark else _ANOTHER
        if kind is Stop:
            return Stop(result.reason, reply=MISSING if reply is None else reply)
        return reply if kind is PushReply else result

    async def _take(self, entry: Entry) -> None:
        at = Position(entry.epoch, entry.offset)
        verdict = self.cursor.look(at)
        if verdict == "deliver":
            await self._pass_on(entry)
        elif verdict != "duplicate":
            await self._catch_up(at)

    async def _catch_up(self, end: Position) -> None:
        """Read the messages that did not arrive."""
        topic, position = self.channel.topic, self.cursor.position
        self.history.note_gap(topic, position, end)
        recovery = await self.history.recover(topic, position)
        if not recovery.recovered:
            reason = recovery.reason or "new"
            self.history.note_lost(topic, position, reason)
            raise HistoryLost(topic, str(position), reason)
        await self._replay(recovery.entries)

    async def _replay(self, entries: Sequence[Entry]) -> None:
        """Send the missed messages over several scheduler turns: thousands of clients may return at once."""
        take = self.link.budget.take
        for entry in entries:
            await take(1 + (len(entry.body) >> COST_SHIFT))
            await self._pass_on(entry)

    async def _pass_on(self, entry: Entry) -> None:
        """Send a message to the client, or to the method that intercepts its event."""
        self.cursor.move(Position(entry.epoch, entry.offset))
        link, membership, event = self.link, self.membership, entry.event
        body = entry.payload if self.has_positions else entry.body
        interceptor = self.table.outgoing.get(event)
        if interceptor is not None:
            result = await interceptor(self.channel, _decode(body))
            if result is not None:
                raise self._invalid(
                    "handle_out", result, event, advice="on a durable topic, return None"
                )
            return
        codec = link.codec
        payload = msgspec.Raw(body) if codec.copies_json else _decode(body)
        link.out.put(codec.push(membership.channel_ref, membership.topic, event, payload))


def _with_recovery(channel: type, response: Any, recovery: Recovery) -> dict[str, Any]:
    if type(response) is Binary:
        advice = "Binary has no room for the position of a durable topic; return a dict"
        raise invalid(channel, "join", response, ("None", "a dict"), advice=advice)
    if not isinstance(response, dict):
        # The response is a record. `join_response` accepts it because it encodes as an object.
        response = _decode(_encode(response))
    return {**response, **recovery.response()}


def _from_other_node(message: list[Any]) -> Entry | None:
    """Read a message from another node. Return None for a malformed one: the next check finds the message."""
    match message:
        case [_, str(epoch), int(offset), str(event), str(body)]:
            return Entry(epoch, offset, event, body.encode())
    return None
