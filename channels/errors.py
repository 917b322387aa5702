"""The errors of channels.

    ChannelsError
    ├── MissingLibrary       a feature needs a library that is not installed
    ├── DecodeError          a client sent a malformed frame
    ├── EncodeError          a client's wire format cannot express a payload of the application
    └── InvalidResult        a callback of the application returned an invalid result

An option with an invalid value raises `InvalidOption` of `actors`. An error that only one module raises is defined in
that module, such as `ListenError`. It is a `ChannelsError` too.
"""

from __future__ import annotations

import reprlib
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final

from actors.declared import declared
from actors.errors import InvalidArgument, InvalidOperation, InvalidOption, InvalidReturn
from actors.text import brief
from supervision.errors import InvalidChildSpec

__all__ = [
    "MISTAKES",
    "ChannelsError",
    "DecodeError",
    "EncodeError",
    "InvalidResult",
    "MissingLibrary",
]

# The texts of callback results. Longer than `brief`, so that the author recognizes the value.
_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 120


class ChannelsError(Exception):
    """The base class of all errors of channels."""


MISTAKES: Final = (
    ChannelsError,
    InvalidOption,
    InvalidArgument,
    InvalidOperation,
    InvalidChildSpec,
)
"""The errors whose text explains a mistake to its author, so that commands show the text without a traceback."""


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


@declared("a client sent a frame that is not a message of vsn {vsn}: {problem}")
class DecodeError(ChannelsError):
    """A client sent a frame that is not a message of its protocol version.

    The server closes the client's connection with 1011, as Phoenix does. Applications see this error only in telemetry.

    Attributes:
        vsn: the protocol version of the connection.
        problem: the mistake. It does not contain the frame, which may be large or secret.
    """

    problem: str
    vsn: str


@declared()
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

    problem: str
    kind: str
    topic: object
    event: object
    place: str | None = None

    def __str__(self) -> str:
        where = "" if self.place is None else f" ({self.place})"
        return (
            f"cannot encode the {self.kind} {brief(self.event)} "
            f"on topic {brief(self.topic)}{where}: {self.problem}"
        )


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
