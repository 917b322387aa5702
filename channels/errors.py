"""The errors of channels, and the checks of numeric options.

    ChannelsError
    ├── MissingLibrary       a feature needs a library that is not installed
    ├── DecodeError          a client sent a malformed frame
    ├── EncodeError          a client's wire format cannot express a payload of the application
    ├── InvalidRoute         the application declared an invalid channel route
    ├── InvalidOption        the application gave an option an invalid value
    ├── InvalidResult        a callback of the application returned an invalid result
    └── InvalidRequirement   the application declared an invalid protocol version

An error that only one module raises is defined in that module, such as `ListenError`. It is a `ChannelsError` too.
"""

from __future__ import annotations

import math
import reprlib
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from actors.errors import InvalidReturn
from actors.text import brief

__all__ = [
    "ChannelsError",
    "DecodeError",
    "EncodeError",
    "InvalidOption",
    "InvalidRequirement",
    "InvalidResult",
    "InvalidRoute",
    "MissingLibrary",
    "check_positive",
    "check_whole",
    "positive",
    "whole",
]

# The texts of callback results. Longer than `brief`, so that the author recognizes the value.
_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 120


class ChannelsError(Exception):
    """The base class of all errors of channels."""


class MissingLibrary(ChannelsError, ImportError):
    """A feature needs a library that is not installed. The text has the command that installs it.

    The command installs the library itself, so it works however Ashtree was installed.

    Attributes:
        feature: the feature, such as `metrics`.
        library: the library's name on PyPI, such as `prometheus-client`.
    """

    def __init__(self, feature: str, library: str) -> None:
        super().__init__(f"{feature} need the library {library}; run `{_pip_install(library)}`")
        self.feature = feature
        self.library = library


def _pip_install(library: str) -> str:
    """Return the command that installs a library for the Python that runs this program."""
    # `pip` alone may be the one of another Python, if this environment is not activated.
    python = sys.executable if shutil.which("python") != sys.executable else "python"
    if find_spec("pip") is None:
        # uv creates environments without pip.
        return shlex.join(["uv", "pip", "install", "--python", sys.executable, library])
    return shlex.join([python, "-m", "pip", "install", library])


class DecodeError(ChannelsError):
    """A client sent a frame that is not a message of its protocol version.

    The server closes the client's connection with 1011, as Phoenix does. Applications see this error only in telemetry.

    Attributes:
        vsn: the protocol version of the connection.
        problem: the mistake. It does not contain the frame, which may be large or secret.
    """

    def __init__(self, problem: str, *, vsn: str) -> None:
        super().__init__(f"a client sent a frame that is not a message of vsn {vsn}: {problem}")
        self.problem = problem
        self.vsn = vsn


class EncodeError(ChannelsError):
    """A client's wire format cannot express a push, a reply or a broadcast of the application.

    There are three causes: the payload is not a JSON object, a value in the payload has no JSON form, or a name is too
    long for a binary frame.

    Attributes:
        kind: `"push"`, `"reply"`, `"broadcast"` or `"presence"`.
        topic: the topic.
        event: the event; for a reply, its status; for a presence, the call.
        problem: the mistake and its correction.
        place: the method of the channel with its file and line; None if no channel sent the message.
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
    """A channel route has an invalid pattern.

    Attributes:
        pattern: the pattern.
    """

    def __init__(self, message: str, *, pattern: object) -> None:
        super().__init__(message)
        self.pattern = pattern


class InvalidOption(ChannelsError, ValueError):
    """An option has an invalid value.

    Attributes:
        option: the name of the option.
        value: the value.
    """

    def __init__(self, owner: str, option: str, value: object, expected: str) -> None:
        # The URL of a server may contain a password.
        has_password = isinstance(value, str) and "://" in value and "@" in value
        shown = "a URL with a password" if has_password else brief(value)
        super().__init__(f"{owner} got {option}={shown}; write {expected}")
        self.option = option
        self.value = value


class InvalidRequirement(ChannelsError, ValueError):
    """The version requirement of a serializer does not have the form `~> 2.0.0`.

    Attributes:
        requirement: the requirement.
    """

    def __init__(self, message: str, *, requirement: object) -> None:
        super().__init__(message)
        self.requirement = requirement


class InvalidResult(ChannelsError, InvalidReturn):
    """A callback of a socket, a channel or a mount returned an invalid result.

    If the callback decides about a client, the server refuses the client. This error also has the attributes of
    `actors.InvalidReturn`.

    Attributes:
        event: the event of a push or a broadcast.
        advice: the correction; None if the message lists the allowed results.
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
        super().__init__(callback, got, expected, place=place)
        self.event = event
        self.advice = advice

    def __str__(self) -> str:
        who = self.callback
        if self.event is not None:
            # Shortened, because a client can send any event to `Channel.handle_in`.
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
    """Raise InvalidOption unless `value` is a number above 0. Infinity is allowed."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # `not value > 0` refuses NaN. `value <= 0` would accept it.
    if not is_number or not value > 0:
        raise InvalidOption(owner, option, value, "a number above 0")


def check_whole(owner: str, option: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is a whole number, 1 or more. A float such as 2.0 is an error."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOption(owner, option, value, "a whole number, 1 or more")


def check_seconds(owner: str, option: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is a number, 0 or more. Infinity is allowed."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # `not value >= 0` refuses NaN. The last condition refuses an int that no float can hold.
    if not is_number or not value >= 0 or math.inf > value > sys.float_info.max:
        raise InvalidOption(owner, option, value, "a number of seconds from 0, or math.inf")


def check_not_negative(owner: str, option: str, value: Any) -> None:
    """Raise InvalidOption unless `value` is a finite number, 0 or more."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise InvalidOption(owner, option, value, "a number, 0 or more")


def positive(instance: Any, attribute: Any, value: Any) -> None:
    """Raise InvalidOption unless an attribute is a number above 0. A validator for attrs."""
    check_positive(type(instance).__name__, attribute.name, value)


def whole(instance: Any, attribute: Any, value: Any) -> None:
    """Raise InvalidOption unless an attribute is a whole number, 1 or more. A validator for attrs."""
    check_whole(type(instance).__name__, attribute.name, value)
