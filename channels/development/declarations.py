"""Checks of what channels send against their declarations `pushes` and `replies`, in tests and during development.

A subclass of the application's channel carries out the checks. A server in production does not load this module:

    router_of(socket, checks=True) ──▶ checked_class ──▶ subclass: push, broadcast, append, join, socket_ref
                                   ──▶ checked_handler ──▶ the results of the handlers

A value fits a declared type if msgspec can decode the JSON form of the value as that type. The value may have fields
that the type does not declare, as payloads of clients may. The checks skip a value without a JSON form, because sending
it raises an `EncodeError`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import cache, wraps
from types import FrameType
from typing import Any, Final, cast

import msgspec

from actors.places import place_of_frame, place_of_method
from actors.servers.results import Stop
from channels.channel import Channel, SocketRef, server_of
from channels.errors import ChannelsError, EncodeError
from channels.handlers import Handler, InvalidHandler, names_of
from channels.messages import Binary, JoinRefused, PushReply
from channels.payloads import explain, result_type
from channels.serializers.json_values import NOT_ENCODABLE

__all__ = ["DeclarationMismatch", "checked_class", "checked_handler"]

# Ashtree sends these events for a `Presence`. They need no declaration.
_OF_PRESENCE: Final = ("presence_state", "presence_diff")
# While a handler runs, the event of its push. `socket_ref` needs the event, to check the reply of `reply_to`.
_handling: ContextVar[str | None] = ContextVar("_handling", default=None)


class DeclarationMismatch(ChannelsError):
    """A channel sent a payload that its `pushes` or `replies` do not declare. Only tests and development raise it.

    Attributes:
        channel: the class.
        event: the event; `phx_join` for the answer to the join.
        status: the status of a reply; None for a push or a broadcast.
        problem: the mistake.
        place: the method with its file and line.
    """

    def __init__(
        self, channel: type, event: str, status: str | None, problem: str, place: str
    ) -> None:
        did = f'sent "{event}"' if status is None else f'answered "{event}" with status "{status}"'
        super().__init__(f"{channel.__name__} {did} ({place}), but {problem}")
        self.channel = channel
        self.event = event
        self.status = status
        self.problem = problem
        self.place = place


def checked_class(channel: type[Channel]) -> type[Channel]:
    """Return a subclass that checks what the channel sends. If the channel declares nothing, return the channel."""
    joined = _joined(channel)
    declares_join = "phx_join" in channel.replies or _is_checkable(joined)
    if channel.pushes is None and not channel.replies and not declares_join:
        return channel
    # The subclass has the name of the given class, because logs and errors show it.
    names: dict[str, Any] = {
        "__module__": channel.__module__,
        "__qualname__": channel.__qualname__,
        "__doc__": channel.__doc__,
    }
    if declares_join:
        names["join"] = _checked_join(channel, joined)
    if channel.handle_in is not Channel.handle_in:
        names["handle_in"] = _checked_handle_in(channel)
    # The methods with the checks come after the application's methods, because the application may override `push` and
    # change the payload. Only channels of durable topics have their own server.
    checks = _Checked if server_of(channel) is None else _checked_durable()
    return type(channel.__name__, (_Hidden, channel, checks), names)


def checked_handler(channel: type[Channel], event: str, handler: Handler) -> Handler:
    """Wrap the handler of an event to check its replies. Return `handler` itself if `replies` lacks the event."""
    declared = channel.replies.get(event)
    if event not in channel.replies:
        return handler
    place = place_of_method(channel, names_of(channel, "in")[event])

    @wraps(handler)
    async def handle(instance: Channel, payload: Any) -> Any:
        token = _handling.set(event)
        try:
            result = await handler(instance, payload)
        finally:
            _handling.reset(token)
        _check_result(channel, event, declared, result, place)
        return result

    return handle


def _joined(channel: type[Channel]) -> Any:
    """Return the type of the response in the annotation of `join`; Any if there is no annotation, or if it is None."""
    try:
        declared = result_type(channel, "join")
    except InvalidHandler:
        # The program imports the type only for type checkers. This is allowed, so there is nothing to check.
        return Any
    return Any if declared is None or declared is type(None) else declared


class _Hidden:
    """The first base of a checked class. It hides the class from the application's `__init_subclass__`."""

    def __init_subclass__(cls) -> None:
        # The application's `__init_subclass__` may need arguments, or may register each class only once.
        super(_Checked, cast("type[_Checked]", cls)).__init_subclass__()


class _Checked(Channel):
    """The methods with the checks. They run after the methods of the application's class."""

    def push(self, event: str, payload: Any) -> None:
        self._send(super().push, event, payload, sys._getframe(1))

    def broadcast(self, event: str, payload: Any) -> None:
        self._send(super().broadcast, event, payload, sys._getframe(1))

    def broadcast_from(self, event: str, payload: Any) -> None:
        self._send(super().broadcast_from, event, payload, sys._getframe(1))

    def socket_ref(self) -> SocketRef:
        ref, event = super().socket_ref(), _handling.get()
        return ref if event is None else _CheckedRef(ref, type(self), event)

    def _send(
        self, send: Callable[[str, Any], None], event: str, payload: Any, caller: FrameType
    ) -> None:
        _check_push(type(self), event, payload, caller)
        try:
            send(event, payload)
        except EncodeError as error:
            # The error names the caller of the method, which is `_send`. Name the application's line instead.
            error.place = place_of_frame(caller)
            raise


class _CheckedRef(SocketRef):
    """A reference to a push, which checks the reply of `reply_to`."""

    __slots__ = ("_channel", "_event")

    def __init__(self, ref: SocketRef, channel: type[Channel], event: str) -> None:
        super().__init__(*ref.parts())
        self._channel = channel
        self._event = event

    def encode(self, reply: PushReply) -> bytes:
        channel, event = self._channel, self._event
        place = place_of_frame(sys._getframe(2))
        _check_reply(channel, event, channel.replies[event], reply.status, reply.payload, place)
        return super().encode(reply)


def _checked_join(channel: type[Channel], joined: Any) -> Callable[..., Any]:
    declared = channel.replies.get("phx_join", {})
    answers = dict(declared) if isinstance(declared, Mapping) else {"ok": declared}
    if "phx_join" not in channel.replies:
        answers["error"] = Any
    # The annotation of `join` declares the response if `replies` does not.
    answers.setdefault("ok", joined)
    place = place_of_method(channel, "join")

    @wraps(channel.join)
    async def join(self: Channel, topic: str, payload: Any) -> Any:
        try:
            response = await channel.join(self, topic, payload)
        except JoinRefused as refusal:
            _check_reply(channel, "phx_join", answers, "error", refusal.payload, place)
            raise
        if response is not None or not _accepts_none(answers["ok"]):
            sent = {} if response is None else response
            _check_reply(channel, "phx_join", answers, "ok", sent, place)
        return response

    return join


def _checked_handle_in(channel: type[Channel]) -> Callable[..., Any]:
    place = place_of_method(channel, "handle_in")

    @wraps(channel.handle_in)
    async def handle_in(self: Channel, event: str, payload: Any) -> Any:
        # A client can send any JSON value as the event, even one that cannot be a key of a dict.
        is_declared = isinstance(event, str) and event in channel.replies
        token = _handling.set(event if is_declared else None)
        try:
            result = await channel.handle_in(self, event, payload)
        finally:
            _handling.reset(token)
        if is_declared:
            _check_result(channel, event, channel.replies[event], result, place)
        return result

    return handle_in


@cache
def _checked_durable() -> type[Channel]:
    """Return the form of `_Checked` for channels of durable topics, which have the method `append`."""
    # Imported here, so that only programs with durable topics load this package.
    from channels.durable.channel import DurableChannel  # noqa: PLC0415

    class CheckedDurable(_Checked, DurableChannel):
        async def append(self, event: str, payload: Any) -> str:
            caller = sys._getframe(1)
            _check_push(type(self), event, payload, caller)
            try:
                return await super().append(event, payload)
            except EncodeError as error:
                error.place = place_of_frame(caller)
                raise

    return CheckedDurable


# The checks


def _check_push(channel: type[Channel], event: str, payload: Any, caller: FrameType) -> None:
    pushes = channel.pushes
    if pushes is None or event in _OF_PRESENCE:
        return
    if event not in pushes:
        problem = f"its pushes do not declare this event; add the event, or send {_any_of(pushes)}"
    else:
        problem = _mismatch(payload, pushes[event], f'pushes["{event}"]')
    if problem:
        raise DeclarationMismatch(channel, event, None, problem, place_of_frame(caller))


def _check_result(
    channel: type[Channel], event: str, declared: Any, result: Any, place: str
) -> None:
    """Check the result of a handler, if it contains a reply."""
    reply = result.reply if type(result) is Stop else result
    if type(reply) is PushReply:
        _check_reply(channel, event, declared, reply.status, reply.payload, place)


def _check_reply(  # noqa: PLR0917 - a reply, its declaration and its place
    channel: type[Channel], event: str, declared: Any, status: str, payload: Any, place: str
) -> None:
    statuses = declared if isinstance(declared, Mapping) else {"ok": declared}
    if status not in statuses:
        problem = (
            f"its replies do not declare this status; add the status, or use {_any_of(statuses)}"
        )
    else:
        problem = _mismatch(payload, statuses[status], f'replies["{event}"]["{status}"]')
    if problem:
        raise DeclarationMismatch(channel, event, status, problem, place)


def _any_of(names: Iterable[str]) -> str:
    return " or ".join(f'"{name}"' for name in names) or "nothing"


def _mismatch(value: Any, declared: Any, where: str) -> str:
    """Return the problem if a value does not fit a declared type; else an empty text."""
    problem = _problem(value, declared)
    if not problem:
        return ""
    shown = "an empty object" if declared is None else getattr(declared, "__name__", declared)
    return (
        f"the payload does not fit {where}, which is {shown}: {problem}; send a payload of this type, or "
        "declare another type"
    )


def _problem(value: Any, declared: Any) -> str:
    if declared is Binary or isinstance(value, Binary):
        is_open = declared is not None and not _is_checkable(declared)
        fits = isinstance(value, Binary) and is_open
        expected = "Binary" if declared is Binary else "JSON"
        return "" if fits else f"expected {expected}, got {type(value).__name__}"
    if declared is not None and not _is_checkable(declared):
        return ""
    try:
        data = msgspec.json.encode(value)
    except NOT_ENCODABLE:
        return ""
    if declared is None:
        return "" if data == b"{}" else "it has fields"
    try:
        msgspec.json.decode(data, type=declared)
    except msgspec.ValidationError as error:
        return str(explain(error))
    return ""


def _is_checkable(declared: Any) -> bool:
    """Return True if msgspec can decode a type, and the type excludes some values."""
    if declared is None or declared is Any or declared is object or declared is Binary:
        return False
    try:
        msgspec.json.schema(declared)
    except (TypeError, NameError):
        return False
    return True


def _accepts_none(declared: Any) -> bool:
    return declared is None or not _problem(None, declared)
