"""Which method of a channel handles which event: the decorators, the tables, and what they insist on.

The decorators only leave a mark; a class's marks are collected when it is defined and checked when its socket is
mounted, so that one place reports every mistake in the words of whoever made it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from channels.errors import ChannelsError

__all__ = ["InvalidHandler", "check", "collect", "handle_in", "handle_out"]

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

_IN = "_ashtree_handle_in"
_OUT = "_ashtree_handle_out"


class InvalidHandler(ChannelsError, TypeError):
    """A channel declares a handler that cannot be called as handlers are.

    Fields: `channel`, the class; `handler`, the method's name.
    """

    def __init__(self, message: str, *, channel: type, handler: str) -> None:
        super().__init__(message)
        self.channel = channel
        self.handler = handler


def handle_in(*events: str) -> Callable[[F], F]:
    """Handle what the client pushes as one of `events`.

        @handle_in("new_msg")
        async def new_msg(self, payload):
            self.broadcast("new_msg", payload)

    The method takes the payload and returns None, a `Reply`, or `Stop(reason)` of `actors`, with `reply=Reply(...)`
    if the client shall get one. What it raises crashes the channel: its client gets phx_error, and rejoins.
    """
    return _marker(_IN, events)


def handle_out(*events: str) -> Callable[[F], F]:
    """Intercept `events` that are broadcast to the channel's topic, before this client gets them.

        @handle_out("user_joined")
        async def user_joined(self, payload):
            if payload["id"] not in self.ignored:
                self.push("user_joined", payload)

    The client gets only what the method pushes. It runs once for every recipient, so it must be cheap.
    """
    return _marker(_OUT, events)


def _marker(mark: str, events: tuple[str, ...]) -> Callable[[F], F]:
    name = "handle_in" if mark == _IN else "handle_out"
    if not events or not all(isinstance(event, str) for event in events):
        raise TypeError(f'{name} takes the names of events: write @{name}("new_msg"), not @{name}')

    def decorate(function: F) -> F:
        setattr(function, mark, (*getattr(function, mark, ()), *events))
        return function

    return decorate


def collect(channel: type, direction: str) -> dict[str, Callable[..., Awaitable[Any]]]:
    """The table of a channel class, event to function; `direction` is `"in"` or `"out"`.

    A subclass inherits handlers, and overriding a method overrides it under its events, as one expects of methods.
    """
    mark = _IN if direction == "in" else _OUT
    names: dict[str, str] = {}
    for base in reversed(channel.__mro__):
        for name, member in vars(base).items():
            for event in getattr(member, mark, ()):
                names[event] = name
    return {event: getattr(channel, name) for event, name in names.items()}


def check(channel: type) -> None:
    """Raise InvalidHandler for the first handler or callback of a channel class that has a wrong shape."""
    for direction in ("in", "out"):
        for event, function in collect(channel, direction).items():
            _check_shape(channel, function, f'handle_{direction}("{event}")', ("payload",))
    for name, parameters in (("join", ("topic", "payload")), ("handle_in", ("event", "payload"))):
        _check_shape(channel, getattr(channel, name), name, parameters)


def _check_shape(channel: type, function: Any, role: str, parameters: tuple[str, ...]) -> None:
    name = function.__name__
    wanted = f"async def {name}(self, {', '.join(parameters)})"
    where = f"{channel.__name__}.{name}"
    if not inspect.iscoroutinefunction(function):
        raise InvalidHandler(
            f"{where} is declared for {role} but is not async; write `{wanted}`",
            channel=channel,
            handler=name,
        )
    try:
        inspect.signature(function).bind(None, *parameters)
    except TypeError:
        got = f"async def {name}{inspect.signature(function)}"
        raise InvalidHandler(
            f"{where} is declared for {role} but cannot be called with ({', '.join(parameters)}); "
            f"it is `{got}`, write `{wanted}`",
            channel=channel,
            handler=name,
        ) from None
