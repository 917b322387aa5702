"""Checks of what channels send against their declarations `pushes` and `replies`, in tests and during development.

A server in production does not load this module. The handler table of a route has the checks:

    router_of(socket, declarations_of=) ──▶ table_of ──▶ join, handlers: the results are checked
                                                    └──▶ ChannelContext ──▶ push, broadcast, append, socket_ref

A value fits a declared type if msgspec can decode the JSON form of the value as that type. The value may have fields
that the type does not declare, as payloads of clients may. The checks skip a value without a JSON form, because sending
it raises an `EncodeError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final

import msgspec

from actors.places import place_of_caller, place_of_method
from actors.servers.results import Stop
from channels.channel import Channel, SocketRef
from channels.errors import ChannelsError
from channels.handlers import Handler, InvalidHandler, names_of
from channels.messages import Binary, JoinRefused, PushReply
from channels.payloads import explain, result_type
from channels.serializers.json_values import NOT_ENCODABLE

__all__ = ["DeclarationMismatch", "DeclaredTypes", "declarations_of"]

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


def declarations_of(channel: type[Channel]) -> DeclaredTypes | None:
    """Return the checks of what a channel class sends; None if the class declares nothing."""
    joined = _joined(channel)
    declares_join = "phx_join" in channel.replies or _is_checkable(joined)
    if channel.pushes is None and not channel.replies and not declares_join:
        return None
    return DeclaredTypes(channel, joined, declares_join=declares_join)


class DeclaredTypes:
    """The declared types of one channel class, and the checks of what it sends."""

    def __init__(self, channel: type[Channel], joined: Any, *, declares_join: bool) -> None:
        self._channel = channel
        self._joined = joined
        self._declares_join = declares_join

    def check(self, event: str, payload: Any) -> None:
        """Raise DeclarationMismatch if the class does not declare this push or broadcast."""
        pushes = self._channel.pushes
        if pushes is None or event in _OF_PRESENCE:
            return
        if event not in pushes:
            problem = (
                f"its pushes do not declare this event; add the event, or send {_any_of(pushes)}"
            )
        else:
            problem = _mismatch(payload, pushes[event], f'pushes["{event}"]')
        if problem:
            raise DeclarationMismatch(self._channel, event, None, problem, place_of_caller())

    def check_reply(self, event: str, reply: PushReply, place: str | None = None) -> None:
        """Raise DeclarationMismatch if the class does not declare this reply. `place` is the place of the handler."""
        self._check_answer(event, self._channel.replies[event], reply.status, reply.payload, place)

    def handler(self, event: str, handler: Handler) -> Handler:
        """Wrap the handler of an event to check its replies. Return `handler` itself if `replies` lacks the event."""
        if event not in self._channel.replies:
            return handler
        place = place_of_method(self._channel, names_of(self._channel, "in")[event])

        @wraps(handler)
        async def handle(instance: Channel, payload: Any) -> Any:
            token = _handling.set(event)
            try:
                result = await handler(instance, payload)
            finally:
                _handling.reset(token)
            self._check_result(event, result, place)
            return result

        return handle

    def handle_in(self, handler: Handler) -> Handler:
        """Wrap the handler of all other events to check its replies."""
        if handler is Channel.handle_in:
            return handler
        place = place_of_method(self._channel, "handle_in")

        @wraps(handler)
        async def handle(instance: Channel, event: str, payload: Any) -> Any:
            # A client can send any JSON value as the event, even one that cannot be a key of a dict.
            is_declared = isinstance(event, str) and event in self._channel.replies
            token = _handling.set(event if is_declared else None)
            try:
                result = await handler(instance, event, payload)
            finally:
                _handling.reset(token)
            if is_declared:
                self._check_result(event, result, place)
            return result

        return handle

    def join(self, join: Handler) -> Handler:
        """Wrap `join` to check its response. Return `join` itself if the class does not declare the response."""
        if not self._declares_join:
            return join
        declared = self._channel.replies.get("phx_join", {})
        answers = dict(declared) if isinstance(declared, Mapping) else {"ok": declared}
        if "phx_join" not in self._channel.replies:
            answers["error"] = Any
        # The annotation of `join` declares the response if `replies` does not.
        answers.setdefault("ok", self._joined)
        place = place_of_method(self._channel, "join")

        @wraps(join)
        async def checked(instance: Channel, topic: str, payload: Any) -> Any:
            try:
                response = await join(instance, topic, payload)
            except JoinRefused as refusal:
                self._check_answer("phx_join", answers, "error", refusal.payload, place)
                raise
            if response is not None or not _accepts_none(answers["ok"]):
                sent = {} if response is None else response
                self._check_answer("phx_join", answers, "ok", sent, place)
            return response

        return checked

    def ref(self, ref: SocketRef) -> SocketRef:
        """Return a reference that checks the reply of `reply_to`."""
        event = _handling.get()
        return ref if event is None else _CheckedRef(ref, self, event)

    def _check_result(self, event: str, result: Any, place: str) -> None:
        """Check the result of a handler, if it contains a reply."""
        reply = result.reply if type(result) is Stop else result
        if type(reply) is PushReply:
            self.check_reply(event, reply, place)

    def _check_answer(
        self, event: str, declared: Any, status: str, payload: Any, place: str | None
    ) -> None:
        statuses = declared if isinstance(declared, Mapping) else {"ok": declared}
        if status not in statuses:
            known = _any_of(statuses)
            problem = f"its replies do not declare this status; add the status, or use {known}"
        else:
            problem = _mismatch(payload, statuses[status], f'replies["{event}"]["{status}"]')
        if problem:
            place = place_of_caller() if place is None else place
            raise DeclarationMismatch(self._channel, event, status, problem, place)


class _CheckedRef(SocketRef):
    """A reference to a push, which checks the reply of `reply_to`."""

    __slots__ = ("_declared", "_event")

    def __init__(self, ref: SocketRef, declared: DeclaredTypes, event: str) -> None:
        super().__init__(*ref.parts())
        self._declared = declared
        self._event = event

    def encode(self, reply: PushReply) -> bytes:
        self._declared.check_reply(self._event, reply)
        return super().encode(reply)


def _joined(channel: type[Channel]) -> Any:
    """Return the type of the response in the annotation of `join`; Any if there is no annotation, or if it is None."""
    try:
        declared = result_type(channel, "join")
    except InvalidHandler:
        # The program imports the type only for type checkers. This is allowed, so there is nothing to check.
        return Any
    return Any if declared is None or declared is type(None) else declared


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
