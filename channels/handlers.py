"""Handlers of events: their decorators, their table in a channel class, and their checks.

A decorator only marks a method. Ashtree collects the marks when Python creates the class. It checks the handlers when
the endpoint starts.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec

from actors.arguments import is_number
from actors.declared import declared
from actors.places import place_of
from channels.errors import ChannelsError

__all__ = [
    "Declarations",
    "Handler",
    "HandlerTable",
    "InvalidHandler",
    "check",
    "check_callback",
    "check_constructor",
    "check_names",
    "check_types",
    "handle_in",
    "handle_out",
    "method_of",
    "names_of",
]

Handler: TypeAlias = Callable[..., Awaitable[Any]]

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

_IN = "_ashtree_handle_in"
_OUT = "_ashtree_handle_out"


@declared("{message}")
class InvalidHandler(ChannelsError, TypeError):
    """A channel or a socket has a handler, a callback or a setting that Ashtree cannot use.

    Attributes:
        message: the text.
        channel: the class; None if Python is still creating it.
        handler: the name of the method or setting.
    """

    message: str
    channel: type | None
    handler: str


def handle_in(*events: str) -> Callable[[F], F]:
    """Handle the client's pushes of these events.

        @handle_in("new_msg")
        async def new_msg(self, payload):
            self.broadcast("new_msg", payload)

    The method takes the payload and returns None, a `PushReply`, or `actors.Stop(reason)`. With `Stop(reason,
    reply=PushReply(...))`, the channel replies before it stops. An exception crashes the channel. Then the client gets
    phx_error and rejoins.

    Args:
        *events: the names of one or more events.

    Returns:
        A decorator for an async method of a channel.
    """
    return _marker(_IN, events)


def handle_out(*events: str) -> Callable[[F], F]:
    """Intercept broadcasts of these events to the channel's topic, before this client gets them.

        @handle_out("user_joined")
        async def user_joined(self, payload):
            if payload["id"] not in self.ignored:
                self.push("user_joined", payload)

    The client gets only the events that the method pushes. The method runs once for each recipient, so keep it cheap.

    Args:
        *events: the names of one or more events.

    Returns:
        A decorator for an async method of a channel.
    """
    return _marker(_OUT, events)


def _marker(mark: str, events: tuple[str, ...]) -> Callable[[F], F]:
    name = "handle_in" if mark == _IN else "handle_out"
    if not events or not all(isinstance(event, str) for event in events):
        method = getattr(events[0], "__name__", "") if events else ""
        raise InvalidHandler(
            f'{name} takes the names of events: write @{name}("new_msg"), not @{name}'
            + (f", above {method}" if method else ""),
            channel=None,
            handler=method,
        )

    def decorate(function: F) -> F:
        # In a class body, a second method replaces an earlier one with the same name. The events of the earlier method
        # would then have no handler.
        body = sys._getframe(1).f_locals
        earlier = body.get(function.__name__) if "__qualname__" in body else None
        lost = () if earlier is function else getattr(earlier, mark, ())
        if lost:
            raise InvalidHandler(
                f"{body['__qualname__']} defines {function.__name__} for {lost[0]!r} ({place_of(earlier)}) and again "
                f"for {events[0]!r} ({place_of(function)}), which replaces the first; give each method its own name",
                channel=None,
                handler=function.__name__,
            )
        setattr(function, mark, (*getattr(function, mark, ()), *events))
        return function

    return decorate


class Declarations(Protocol):
    """The checks of what one channel class sends. `channels.development.declarations` implements them."""

    def check(self, event: str, payload: Any) -> None:
        """Raise an error if the class does not declare this push or broadcast."""

    def handler(self, event: str, handler: Handler) -> Handler:
        """Return the handler of an event with a check of its replies."""

    def handle_in(self, handler: Handler) -> Handler:
        """Return the handler of all other events with a check of its replies."""

    def join(self, join: Handler) -> Handler:
        """Return `join` with a check of its response."""

    def ref(self, ref: Any) -> Any:
        """Return a `SocketRef` with a check of the reply of `reply_to`."""


class HandlerTable(msgspec.Struct, frozen=True, kw_only=True):
    """The handlers of the channel of one route.

    Attributes:
        join: the handler of the join.
        decode_join: the function that converts the payload for `join`; None if the payload needs no conversion.
        incoming: a dict from events to handlers, for pushes of clients.
        handle_in: the handler of all other pushes.
        outgoing: a dict from events to handlers, for broadcasts that the class intercepts.
        intercepts: the events in `outgoing`.
        declarations: the checks of what the channel sends; None in production.
    """

    join: Handler
    decode_join: Callable[[Any], Any] | None
    incoming: dict[str, Handler]
    handle_in: Handler
    outgoing: dict[str, Handler]
    intercepts: frozenset[str]
    declarations: Declarations | None = None


def names_of(channel: type, direction: str) -> dict[str, str]:
    """Return the name of the method for each event. `direction` is `"in"` or `"out"`."""
    mark = _IN if direction == "in" else _OUT
    names: dict[str, str] = {}
    for base in reversed(channel.__mro__):
        for name, member in vars(base).items():
            # A static or class method wraps the marked function. `check` refuses it later.
            for event in getattr(getattr(member, "__func__", member), mark, ()):
                names[event] = name
    return names


def check_names(channel: type, base: type) -> None:
    """Raise InvalidHandler if a handler hides a name of `Channel`, or if two handlers have the same event.

    Args:
        channel: the new class.
        base: `Channel`.
    """
    taken = {*vars(base), *base.__annotations__}
    for direction in ("in", "out"):
        mark = _IN if direction == "in" else _OUT
        for event, name in names_of(channel, direction).items():
            if name in taken:
                raise InvalidHandler(
                    f"{channel.__name__}.{name} ({place_of(getattr(channel, name))}) is declared for "
                    f'handle_{direction}("{event}") and hides Channel.{name}; give the method another name, such as '
                    f"on_{name.lstrip('_')}",
                    channel=channel,
                    handler=name,
                )
        handlers: dict[str, str] = {}
        for name, member in vars(channel).items():
            function = getattr(member, "__func__", member)
            for event in getattr(function, mark, ()):
                first = handlers.setdefault(event, name)
                if first != name:
                    raise InvalidHandler(
                        f'{channel.__name__} has two methods for handle_{direction}("{event}"): '
                        f"{first} ({place_of(getattr(channel, first))}) and {name} ({place_of(function)}); "
                        "keep one of them, or give them different events",
                        channel=channel,
                        handler=name,
                    )


def check_types(channel: type, base: type) -> None:
    """Raise InvalidHandler if `pushes` or `replies` of a channel class are not dicts from events to types.

    Args:
        channel: the new class.
        base: `Channel`.
    """
    pushes, replies = (vars(channel).get(name) for name in ("pushes", "replies"))
    if pushes is not None:
        _check_events(channel, "pushes", pushes)
        for event, declared in pushes.items():
            _check_type(channel, f"pushes[{event!r}]", "pushes", declared)
    if replies is None:
        return
    _check_events(channel, "replies", replies)
    handled = {"phx_join", *names_of(channel, "in")}
    handles_all = getattr(channel, "handle_in", None) is not getattr(base, "handle_in", None)
    for event, declared in replies.items():
        if event not in handled and not handles_all:
            raise _wrong_types(
                channel,
                "replies",
                f"has the event {event!r}, which {channel.__name__} does not handle; write one of "
                f"{', '.join(map(repr, sorted(handled)))}",
            )
        statuses = declared if isinstance(declared, Mapping) else {"ok": declared}
        for status, each in statuses.items():
            if not isinstance(status, str):
                raise _wrong_types(
                    channel,
                    "replies",
                    f'has the status {status!r} for {event!r}; write text such as "ok" or "error"',
                )
            _check_type(channel, f"replies[{event!r}]", "replies", each)


def _check_events(channel: type, name: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(event, str) for event in value):
        raise _wrong_types(
            channel,
            name,
            f'is {value!r}; write a dict from events to types, such as {{"moved": Position}}',
        )


def _check_type(channel: type, where: str, name: str, declared: Any) -> None:
    if (
        declared is None
        or declared is Any
        or isinstance(declared, type | typing.NewType)
        or typing.get_origin(declared) is not None
    ):
        return
    raise InvalidHandler(
        f"{channel.__name__}.{where} is {declared!r}, which is not a type; write a class or Any",
        channel=channel,
        handler=name,
    )


def _wrong_types(channel: type, name: str, problem: str) -> InvalidHandler:
    return InvalidHandler(f"{channel.__name__}.{name} {problem}", channel=channel, handler=name)


def check_constructor(owner: type, callback: str) -> None:
    """Raise InvalidHandler if `__init__` is async or requires arguments.

    Args:
        owner: the class of a channel or a socket.
        callback: the callback that can set values which depend on the client: `join` or `connect`.
    """
    constructor: Any = owner.__init__  # type: ignore[misc] # only inspected, not called
    try:
        inspect.signature(constructor).bind(None)
    except TypeError:
        pass
    else:
        if not inspect.iscoroutinefunction(constructor):
            return
    raise InvalidHandler(
        f"{owner.__name__}.__init__ ({place_of(constructor)}) must take no arguments and must not be async; "
        f"write `def __init__(self)`, and set the values that depend on the client in {callback}",
        channel=owner,
        handler="__init__",
    )


def method_of(channel: type, callback: str, event: object = None) -> str:
    """Return the name of the method that handles an event. If no method handles it, return `callback`."""
    if callback in ("handle_in", "handle_out") and isinstance(event, str):
        return names_of(channel, callback.removeprefix("handle_")).get(event, callback)
    return callback


_CALLBACKS = {
    "join": ("topic", "payload"),
    "handle_in": ("event", "payload"),
    "handle_info": ("message",),
    "handle_call": ("request", "sender"),
    "handle_cast": ("message",),
    "handle_continue": ("argument",),
    "terminate": ("reason",),
}


# Callbacks of Phoenix that Ashtree does not have, with their replacements.
_PHOENIX = {
    "handle_out": '@handle_out("event") above a method that takes the payload',
    "intercept": '@handle_out("event") above a method for each event, and nothing else',
}

LOG_LEVELS = ("debug", "info", "warning", "error", "critical", None)


def check(channel: type) -> None:
    """Raise InvalidHandler for the first invalid handler, callback or setting of a channel class."""
    for direction in ("in", "out"):
        for event, name in names_of(channel, direction).items():
            role = f'handle_{direction}("{event}")'
            check_callback(channel, name, getattr(channel, name), ("payload",), role=role)
    for name, instead in _PHOENIX.items():
        if hasattr(channel, name) and name not in names_of(channel, "out").values():
            raise InvalidHandler(
                f"{channel.__name__}.{name} has no effect; write {instead}",
                channel=channel,
                handler=name,
            )
    for name, parameters in _CALLBACKS.items():
        check_callback(channel, name, getattr(channel, name), parameters)
    check_constructor(channel, "join")
    for name in ("log_join", "log_handle_in"):
        level = getattr(channel, name)
        if level not in LOG_LEVELS:
            raise InvalidHandler(
                f"{channel.__name__}.{name} is {level!r}; write one of {', '.join(map(repr, LOG_LEVELS))}",
                channel=channel,
                handler=name,
            )
    seconds = channel.slow_join  # type: ignore[attr-defined] # a Channel, which imports this module
    if seconds is not None and not is_number(seconds, above=0, finite=True):
        raise InvalidHandler(
            f"{channel.__name__}.slow_join is {seconds!r}; write seconds above 0, or None for no warning",
            channel=channel,
            handler="slow_join",
        )


def check_callback(
    owner: type,
    name: str,
    function: Any,
    parameters: tuple[str, ...],
    *,
    role: str | None = None,
    is_async: bool = True,
) -> None:
    """Raise InvalidHandler if a method has the wrong parameters, or if `is_async` does not hold for it.

    Args:
        owner: the class of a channel or a socket.
        name: the name of the method.
        function: the method.
        parameters: the names of its parameters, for the message.
        role: the event of the method, for the message; None if the name of the method is enough.
        is_async: True if the method must be async, False if it must not.
    """
    where = f"{owner.__name__}.{name}"
    subject = where if role is None else f"{where} is declared for {role} but"
    define = "async def" if is_async else "def"
    wanted = f"{define} {name}({', '.join(('self', *parameters))})"
    if not callable(function) or inspect.iscoroutinefunction(function) is not is_async:
        problem = "is not async" if callable(function) and is_async else "is async"
        if not callable(function):
            problem = f"is {function!r}"
        raise InvalidHandler(f"{subject} {problem}; write `{wanted}`", channel=owner, handler=name)
    signature = inspect.signature(function)
    try:
        signature.bind(None, *parameters)
    except TypeError:
        bare = [
            each.replace(annotation=inspect.Parameter.empty)
            for each in signature.parameters.values()
        ]
        got = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
        raise InvalidHandler(
            f"{subject} cannot be called with ({', '.join(parameters)}); "
            f"it is `{define} {name}{got}`, write `{wanted}`",
            channel=owner,
            handler=name,
        ) from None
