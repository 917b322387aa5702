"""The errors of channels, and the checks of numeric options.

    ChannelsError
    ├── DecodeError          the client sent something that is not a message
    ├── EncodeError          the application handed over something that cannot be sent
    ├── InvalidRoute         the application declared a channel route that cannot work
    ├── InvalidOption        the application gave an option an invalid value
    ├── InvalidResult        a callback of the application returned an invalid result
    └── InvalidRequirement   the application declared a protocol version that is not one

An error of one module alone, such as a port in use, is defined beside the code that raises it. It is a `ChannelsError`
too.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

from actors.errors import InvalidReturn
from channels.excerpts import brief

__all__ = [
    "ChannelsError",
    "DecodeError",
    "EncodeError",
    "InvalidOption",
    "InvalidRequirement",
    "InvalidResult",
    "InvalidRoute",
    "check_positive",
    "check_whole",
    "positive",
    "whole",
]

# For results of callbacks: long enough for the author to recognize the value.
_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 120


class ChannelsError(Exception):
    """The base class of all errors of channels."""


class DecodeError(ChannelsError):
    """A client sent a frame that is not a message of the protocol it asked for.

    The client is at fault. Applications rarely meet this one: a connection that gets such a frame
    is closed (with code 1011, as Phoenix does) and nothing else notices.

    Fields: `vsn`, the protocol version that was spoken; `problem`, what is wrong with the frame.
    The frame itself is not kept, for it may be megabytes of somebody's secrets.
    """

    def __init__(self, problem: str, *, vsn: str) -> None:
        super().__init__(f"a client sent a frame that is not a message of vsn {vsn}: {problem}")
        self.problem = problem
        self.vsn = vsn


class EncodeError(ChannelsError):
    """A push, reply or broadcast cannot be written in the protocol of the client.

    The application is at fault: a payload holds something that JSON has no form for, or is not an
    object where one is needed, or a name is too long for a binary frame.

    Fields: `kind` (`"push"`, `"reply"` or `"broadcast"`), `topic` and `event` (of a reply, its
    status) as they were handed over; `problem`, what is wrong and what to write instead; and
    `place`, the method of the channel with its file and line, None where no channel was involved.
    """

    def __init__(self, problem: str, *, kind: str, topic: object, event: object) -> None:
        super().__init__(problem)
        self.problem = problem
        self.kind = kind
        self.topic = topic
        self.event = event
        self.place: str | None = None

    def __str__(self) -> str:
        where = "" if self.place is None else f" ({self.place})"
        return (
            f"cannot encode the {self.kind} {brief(self.event)} "
            f"on topic {brief(self.topic)}{where}: {self.problem}"
        )


class InvalidRoute(ChannelsError, ValueError):
    """A channel route has a pattern that cannot work.

    Field: `pattern`, as it was declared.
    """

    def __init__(self, message: str, *, pattern: object) -> None:
        super().__init__(message)
        self.pattern = pattern


class InvalidOption(ChannelsError, ValueError):
    """An option has an invalid value.

    Fields: `option`, its name; `value`, as it was given.
    """

    def __init__(self, owner: str, option: str, value: object, expected: str) -> None:
        super().__init__(f"{owner} got {option}={brief(value)}; write {expected}")
        self.option = option
        self.value = value


class InvalidRequirement(ChannelsError, ValueError):
    """A serializer was offered for a protocol version that is not written like `~> 2.0.0`.

    Field: `requirement`, as it was declared.
    """

    def __init__(self, message: str, *, requirement: object) -> None:
        super().__init__(message)
        self.requirement = requirement


class InvalidResult(ChannelsError, InvalidReturn):
    """A callback of a socket, a channel or a mount returned an invalid result.

    If the callback decides about a client, the client is refused.

    Fields: those of `actors.InvalidReturn`; `event`, of a push or a broadcast; `place`, the file and
    line at which the callback is defined, None if it is not known; `advice`, what to write instead.
    """

    def __init__(
        self,
        callback: str,
        got: object,
        expected: Sequence[str],
        *,
        event: str | None = None,
        place: str | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(callback, got, expected)
        self.event = event
        self.place = place
        self.advice = advice

    def __str__(self) -> str:
        who = self.callback
        if self.event is not None:
            # The client's choice, where handle_in takes every event.
            who = f"{who}({brief(self.event)})"
        where = "" if self.place is None else f" ({self.place})"
        got = "a coroutine that was not awaited" if self.forgot_await else _shown.repr(self.got)
        advice = self.advice
        if advice is None:
            advice = f"it may return {', '.join(self.expected)}"
            if self.forgot_await:
                advice = "write `await` before the call"
        return f"{who} returned {got}{where}; {advice}"


def check_positive(owner: str, option: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is a number above 0; infinity is one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN is refused by the comparison.
    if not is_number or not value > 0:
        raise InvalidOption(owner, option, value, "a number above 0")


def check_whole(owner: str, option: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is a whole number from 1; infinity, as a float, is not."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOption(owner, option, value, "a whole number from 1")


def positive(instance: Any, attribute: Any, value: Any) -> None:
    """Validate a number above 0."""
    check_positive(type(instance).__name__, attribute.name, value)


def whole(instance: Any, attribute: Any, value: Any) -> None:
    """Validate a whole number from 1."""
    check_whole(type(instance).__name__, attribute.name, value)
