"""The process of one joined topic. It runs a `Channel`, writes the frames of the channel, and reports its state.

The process writes to the client's out-buffer itself, so the client gets its frames in the order of its actions:

    join ok        reply, phx_close of the membership that this join replaced; then pushes and replies
    join refused   error reply, phx_close of the membership that this join replaced; ends with SHUTDOWN
    leave          reply ok, phx_close; then the pushes of terminate
    clean stop     [reply], phx_close; then the pushes of terminate
    replaced       ends; if it is still joining, only after its answer. Its phx_close follows the answer to the new join
    other stop     [reply], the pushes of terminate; then the connection writes phx_error
    crash          the pushes of terminate; then the connection writes phx_error, or "join crashed"

The client's messages that arrive during the join wait in the mailbox. After the join, the process first handles the
messages that `join` has sent to it, and then these messages.

The process marks its answer and its last frame in its `Membership`, which it shares with the session of the
connection. So the session knows both at once, and no join and no leave needs a message to the connection.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import islice
from typing import Any

import msgspec
import trio

from actors.exits import (
    NOPROC,
    NORMAL,
    SHUTDOWN,
    Crash,
    ExitReason,
    Shutdown,
    is_normal_exit,
)
from actors.links import monitor, send_exit
from actors.masking import bounded_copy
from actors.messages import Down, Exit
from actors.places import place_of_method
from actors.process import current_pid, send, set_label
from actors.refs import Ref, TimerRef
from actors.servers.gen_server import GenServer, Sender, move_to_back
from actors.servers.results import MISSING, Continue, NoReply, Reply, Stop, Within
from actors.sys import ServerStatus
from actors.text import brief
from channels.channel import Channel, place
from channels.checks import AFTER_CALL, AFTER_MESSAGE, AFTER_PUSH, invalid, join_response
from channels.errors import EncodeError, InvalidResult
from channels.filters import FilterRule, filter_parameters
from channels.handlers import HandlerTable, method_of
from channels.messages import (
    Binary,
    Broadcast,
    ConnectRefused,
    JoinRefused,
    Message,
    PushReply,
)
from channels.payloads import InvalidPayload, refused
from channels.protocol.link import DUPLICATE_JOIN, READ_ON_AT, Gone, Link, ReadOn
from channels.protocol.session import Membership
from channels.pubsub.local import Fastlane
from channels.telemetry import CHANNEL_HANDLED_IN, CHANNEL_JOIN_SLOW, CHANNEL_JOINED

__all__ = ["ChannelServer", "channel_state", "kept_payload", "watch_join"]


class ChannelServer(GenServer[None]):
    """The process of one channel, which the connection starts in the pool of its socket."""

    # Slots, because a dict would take 300 bytes more of each channel. Python shares the keys of dicts only if the first
    # 30 instances set all their attributes early.
    __slots__ = (
        "answered",
        "channel",
        "constructed",
        "context",
        "link",
        "membership",
        "payload",
        "table",
        "telemetry",
        "watching",
    )

    async def init(self, link: Link, membership: Membership, payload: Any) -> Continue:
        self.link = link
        self.membership = membership
        self.answered = False
        self.payload = kept_payload(payload)
        self.telemetry = link.runtime.telemetry
        self.watching: Ref = monitor(link.connection)
        cls: type[Channel] = membership.route.channel
        channel = self.channel = cls.__new__(cls)
        # The topic is cut, because the client chooses it, and the label appears in logs.
        set_label(f"{cls.__name__} {membership.topic[:80]!r}")
        self.context = place(channel, link, membership)
        self.table: HandlerTable = membership.route.table
        # True if the channel's terminate must run. As in Phoenix, terminate does not run after a crash of join.
        self.constructed = False
        return Continue(payload)

    # Joining

    async def handle_continue(self, argument: Any) -> Stop | NoReply | Continue | Within | None:
        # The first Continue comes from init, for the join. All others come from the channel.
        if self.answered:
            return self._checked(await self.channel.handle_continue(argument), "handle_continue")
        self.answered = True
        joining = self._join(argument)
        trace = self.link.trace
        return await (joining if trace is None else trace.join(self.channel, joining))

    async def _join(self, argument: Any) -> Stop | None:
        channel, membership = self.channel, self.membership
        channel.__init__()  # type: ignore[misc]  # here, so that an exception crashes the join
        started = trio.current_time() if self.telemetry.handlers(CHANNEL_JOINED) else None
        try:
            decode = self.table.decode_join
            params = argument if decode is None else self._decoded(decode, argument)
            watch = watch_join(channel, self.link)
            try:
                response = await self.table.join(channel, membership.topic, params)
            finally:
                if watch is not None:
                    self.link.runtime.timers.forget(watch)
        except JoinRefused as refusal:
            if started is not None:
                self._measure_join(started, "error", argument)
            return self._refuse(refusal)
        waiting = self._accept(join_response(type(channel), response))
        if waiting is not None:
            await waiting
        if membership.waiting or self.link.connection.process is None:
            # In Phoenix, the connection waits for the answer before it reads on. So the messages that `join` sent to
            # its own process come before the client's next message. Here, the connection has already passed it on.
            move_to_back(self._is_from_connection)
        if started is not None:
            self._measure_join(started, "ok", argument)
        if membership.is_replaced:
            # A second join of the topic waits for the end of this channel.
            send_exit(current_pid(), DUPLICATE_JOIN)
        return None

    def _is_from_connection(self, message: Any) -> bool:
        kind = type(message)
        return (
            kind is Message
            or kind is Gone
            or (kind is Down and message.ref is self.watching)
            # A channel may trap exits.
            or (kind is Exit and message.pid is self.link.connection)
        )

    def _decoded(self, decode: Callable[[Any], Any], params: Any) -> Any:
        try:
            return decode(params)
        except InvalidPayload as error:
            refused(self.channel, "phx_join", error)
            raise JoinRefused(error.response) from None

    def _accept(self, response: Any) -> Awaitable[None] | None:
        """Subscribe to the topic, and write the answer, without a checkpoint.

        A subclass may wait before this call. Then it returns its coroutine.
        """
        link, membership = self.link, self.membership
        # Encode first. If encoding fails, the join crashes before it has any effect.
        reply = self._encoded_answer("ok", response)
        if not membership.is_replaced:
            link.pubsub.subscribe(
                self.channel.topic, metadata=Fastlane(link.out, link.codec, self.table.intercepts)
            )
        self.constructed = self.context.joined = True
        # No checkpoint since `subscribe`, so that the answer is the first frame of the membership.
        membership.accept(link.out.put, reply)
        return None

    def _refuse(self, refusal: JoinRefused) -> Stop:
        link, membership = self.link, self.membership
        self.constructed = True
        reply = self._encoded_answer("error", refusal.payload)
        membership.refuse(link.out.put, reply)
        return Stop(SHUTDOWN)

    def _encoded_answer(self, status: str, response: Any) -> bytes:
        membership = self.membership
        try:
            return self.link.codec.reply(
                membership.join_ref, membership.ref, membership.topic, status, response
            )
        except EncodeError as error:
            error.place = place_of_method(type(self.channel), "join")
            raise

    # Joined

    async def handle_info(self, message: Any) -> Stop | NoReply | Continue | Within | None:
        channel = self.channel
        if type(message) is Message:
            membership = self.membership
            if membership.loads or membership.waiting > READ_ON_AT:
                self._unload(message)
            else:
                # Few short messages wait, as usual. This runs for each push, so it saves two calls.
                membership.waiting -= 1
            if message.event == "phx_leave":
                return self._leave(message)
            result = await self._handling(message, message.payload)
            self.context.ref = None
            return self._respond(message, result)
        if type(message) is Broadcast and message.topic == channel.topic:
            interceptor = self.table.outgoing.get(message.event)
            if interceptor is not None:
                result = await interceptor(channel, message.payload)
                return self._checked(result, "handle_out", message.event)
        if type(message) is Down and message.ref is self.watching:
            # NOPROC means that the connection ended before the first step of this process.
            reason = message.reason
            gone = reason is NORMAL or reason is NOPROC
            return Stop(Shutdown("closed") if gone else reason)
        if type(message) is Gone:
            return Stop(message.reason)
        return self._checked(await channel.handle_info(message), "handle_info")

    def _unload(self, message: Message) -> None:
        """Count a message of the client as no longer waiting."""
        membership = self.membership
        before = membership.waiting
        membership.unload(message)
        if before > READ_ON_AT >= membership.waiting:
            send(self.link.connection, ReadOn())

    def _handling(self, message: Message, payload: Any) -> Awaitable[Any]:
        """Call the handler of a push, and return its coroutine. After it, the caller sets `context.ref` to None."""
        # This is no async function, because another coroutine for each push would cost more than its work.
        event = message.event
        try:
            handler = self.table.incoming.get(event)
        except TypeError:
            # The event is a JSON array or object, which cannot be a dict key.
            handler = None
        self.context.ref = message.ref
        if handler is not None:
            handling = handler(self.channel, payload)
        else:
            handling = self.table.handle_in(self.channel, event, payload)
        trace = self.link.trace
        if trace is not None:
            handling = trace.handle_in(self.channel, event, handling)
        if self.telemetry.handlers(CHANNEL_HANDLED_IN):
            handling = self._measured(handling, message)
        return handling

    def _respond(self, message: Message, result: Any) -> Stop | NoReply | Continue | Within | None:
        """Act on the result of the handler of a push."""
        if result is None:
            return None
        if type(result) is PushReply:
            self.link.out.put(self._encoded_reply(message, result))
            return None
        return self._finish(message, result)

    async def handle_call(self, request: Any, sender: Sender) -> Any:
        result = await self.channel.handle_call(request, sender)
        if type(result) is Stop:
            if is_normal_exit(result.reason):
                self._close()
        elif type(result) not in (Reply, NoReply):
            raise invalid(type(self.channel), "handle_call", result, AFTER_CALL)
        return result

    async def handle_cast(self, message: Any) -> Stop | NoReply | Continue | Within | None:
        return self._checked(await self.channel.handle_cast(message), "handle_cast")

    async def terminate(self, reason: ExitReason) -> None:
        if isinstance(reason, Crash):
            _add_advice(reason.exception)
        if self.constructed:
            await self.channel.terminate(reason)

    def format_status(self, status: ServerStatus) -> ServerStatus:
        """Put the state of the channel into the status. The endpoint's `filter_parameters` masks secrets in it."""
        message, rule = status.message, self.link.endpoint.filter_parameters
        if isinstance(message, Continue) and not self.constructed:
            status.message = message = self.membership.join_message(message.argument)
        if isinstance(message, Message | Broadcast):
            payload = filter_parameters(message.payload, rule)
            status.message = msgspec.structs.replace(message, payload=payload)
        status.state = channel_state(self.channel, self.payload, rule)
        return status

    def _reply(self, message: Message, reply: PushReply) -> None:
        self.link.out.put(self._encoded_reply(message, reply))

    def _encoded_reply(self, message: Message, reply: PushReply) -> bytes:
        membership = self.membership
        try:
            return self.link.codec.reply(
                membership.channel_ref, message.ref, membership.topic, reply.status, reply.payload
            )
        except EncodeError as error:
            channel = type(self.channel)
            error.place = place_of_method(channel, method_of(channel, "handle_in", message.event))
            raise

    def _leave(self, message: Message) -> Stop:
        self._reply(message, PushReply())
        self._close()
        return Stop(Shutdown("left"))

    def _finish(self, message: Message, result: Any) -> Stop | NoReply | Continue | Within | None:
        if type(result) is Stop and result.reply is not MISSING:
            if type(result.reply) is not PushReply:
                raise self._invalid(
                    "handle_in",
                    result,
                    message.event,
                    advice="write Stop(reason, reply=PushReply(payload)) with channels.PushReply",
                )
            self._reply(message, result.reply)
            result = Stop(result.reason)
        return self._checked(result, "handle_in", message.event)

    def _checked(
        self, result: Any, callback: str, event: str | None = None
    ) -> Stop | NoReply | Continue | Within | None:
        kind = type(result)
        if kind is Stop:
            if is_normal_exit(result.reason):
                self._close()
        elif result is not None and kind not in (NoReply, Continue, Within):
            raise self._invalid(callback, result, event)
        return result  # type: ignore[no-any-return]

    def _invalid(
        self, callback: str, result: Any, event: str | None, advice: str | None = None
    ) -> InvalidResult:
        channel = type(self.channel)
        return invalid(
            channel,
            callback,
            result,
            AFTER_PUSH if callback == "handle_in" else AFTER_MESSAGE,
            event=event,
            method=method_of(channel, callback, event),
            advice=advice,
        )

    def _close(self) -> None:
        link, membership = self.link, self.membership
        if not membership.is_gone and not membership.is_replaced:
            # Encode first. If encoding fails, the channel crashes, and the connection writes the last frame.
            frame = link.codec.close(membership.join_ref, membership.topic)
            membership.end()
            link.out.put(frame)

    # Telemetry

    def _measure_join(self, started: float, result: str, params: Any) -> None:
        self.telemetry.execute(
            CHANNEL_JOINED,
            {"duration": trio.current_time() - started},
            {
                "endpoint": self.link.endpoint,
                "channel": self.channel,
                "params": params,
                "result": result,
                "connection": self.link.connection,
            },
        )

    async def _measured(self, handling: Awaitable[Any], message: Message) -> Any:
        """Await the handler of a push, emit `CHANNEL_HANDLED_IN`, and return its result."""
        started = trio.current_time()
        result = await handling
        self.telemetry.execute(
            CHANNEL_HANDLED_IN,
            {"duration": trio.current_time() - started},
            {
                "endpoint": self.link.endpoint,
                "channel": self.channel,
                "event": message.event,
                "ref": message.ref,
                "params": message.payload,
            },
        )
        return result


def _add_advice(error: BaseException) -> None:
    """Add a note to the refusal of a client that a callback raised in the wrong place."""
    if isinstance(error, JoinRefused):
        error.add_note(
            "JoinRefused refuses a join, so only join can raise it. To answer a push with an error, write "
            f'`return PushReply({brief(error.payload)}, status="error")`'
        )
    elif isinstance(error, ConnectRefused):
        error.add_note(
            "ConnectRefused refuses a connection, so only connect of a socket can raise it. To refuse a join, write "
            "`raise JoinRefused({...})` in join"
        )


# Reports about slow joins, and the state of a channel for crash reports and `sys.get_status`. The endpoint's
# `filter_parameters` masks parts of the state. For an object of an unknown class, a report shows only the name of the
# class, because the filter cannot look inside.

# Limits on the join payload that a process keeps for reports. The client chooses the payload, so it can be large.
_KEPT_VALUES = 100
_KEPT_CHARACTERS = 2_000

_MACHINERY = frozenset(("topic", "assigns", "endpoint", "_context"))


def channel_state(channel: Channel, payload: Any, rule: FilterRule) -> dict[str, Any]:
    """Describe a channel for a report.

    Args:
        channel: the channel.
        payload: the payload of the join, from `kept_payload`.
        rule: the filter rule of the endpoint.
    """
    attributes = {name: each for name, each in vars(channel).items() if name not in _MACHINERY}
    return {
        "topic": channel.topic,
        "assigns": filter_parameters(bounded_copy(channel.assigns), rule),
        "attributes": filter_parameters(bounded_copy(attributes), rule),
        "join payload": filter_parameters(bounded_copy({} if payload is None else payload), rule),
    }


def kept_payload(payload: Any) -> Any:
    """Return the payload of a join for later reports, or a note if it is too large to keep."""
    if not payload and isinstance(payload, dict):
        # Most joins send an empty object. In its place, the process keeps None, which needs no memory.
        return None
    return payload if _is_small(payload) else "<too large to keep>"


def _is_small(payload: Any) -> bool:
    values, characters, todo = 0, 0, [payload]
    while todo:
        each = todo.pop()
        values += 1
        if isinstance(each, dict):
            characters += sum(map(len, islice(each, _KEPT_VALUES)))
            todo.extend(islice(each.values(), _KEPT_VALUES))
        elif isinstance(each, list):
            todo.extend(islice(each, _KEPT_VALUES))
        elif isinstance(each, str):
            characters += len(each)
        elif isinstance(each, Binary):
            characters += len(each.data)
        elif isinstance(each, int):
            characters += each.bit_length() // 8
        if values + len(todo) > _KEPT_VALUES or characters > _KEPT_CHARACTERS:
            return False
    return True


# Slow joins


def watch_join(channel: Channel, link: Link) -> TimerRef | None:
    """Start a timer that reports the current task's join if it takes longer than `channel.slow_join`.

    Args:
        channel: the channel.
        link: the link of its connection.

    Returns:
        The timer, to pass to `runtime.timers.forget` after the join; None if `slow_join` is None.
    """
    seconds = channel.slow_join
    if seconds is None:
        return None
    runtime, task = link.runtime, trio.lowlevel.current_task()
    return runtime.timers.at(
        runtime.current_time() + seconds, partial(_report_slow_join, channel, link, seconds, task)
    )


def _report_slow_join(
    channel: Channel, link: Link, seconds: float, task: trio.lowlevel.Task
) -> None:
    link.count(CHANNEL_JOIN_SLOW)
    telemetry = link.runtime.telemetry
    if telemetry.handlers(CHANNEL_JOIN_SLOW):
        telemetry.execute(
            CHANNEL_JOIN_SLOW,
            {"duration": seconds},
            {
                "endpoint": channel.endpoint,
                "channel": channel,
                "stack": _stack(task, type(channel)),
            },
        )


def _stack(task: trio.lowlevel.Task, channel: type[Channel]) -> list[str]:
    """Return the stack of a waiting task as lines. The first line is about the channel's `join`."""
    frames = list(task.iter_await_frames())
    code = getattr(inspect.unwrap(channel.join), "__code__", None)
    start = next((n for n, (frame, _) in enumerate(frames) if frame.f_code is code), 0)
    return traceback.format_list(traceback.StackSummary.extract(iter(frames[start:])))
