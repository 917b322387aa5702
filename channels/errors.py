"""What channels raises, sorted by who is at fault.

    ChannelsError
    ├── DecodeError          the client sent something that is not a message
    ├── EncodeError          the application handed over something that cannot be sent
    ├── InvalidRoute         the application declared a channel route that cannot work
    ├── InvalidOption        the application gave an option a value that cannot be
    └── InvalidRequirement   the application declared a protocol version that is not one

Errors of one module only (a port that is taken, say) live beside the code that raises them and
inherit from `ChannelsError` all the same.
"""

from __future__ import annotations

from channels.excerpts import brief

__all__ = [
    "ChannelsError",
    "DecodeError",
    "EncodeError",
    "InvalidOption",
    "InvalidRequirement",
    "InvalidRoute",
]


class ChannelsError(Exception):
    """The base of everything that channels raises on purpose."""


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
    status) as they were handed over, and `problem`, what is wrong and what to write instead.
    """

    def __init__(self, problem: str, *, kind: str, topic: object, event: object) -> None:
        super().__init__(
            f"cannot encode the {kind} {brief(event)} on topic {brief(topic)}: {problem}"
        )
        self.problem = problem
        self.kind = kind
        self.topic = topic
        self.event = event


class InvalidRoute(ChannelsError, ValueError):
    """A channel route has a pattern that cannot work.

    Field: `pattern`, as it was declared.
    """

    def __init__(self, message: str, *, pattern: object) -> None:
        super().__init__(message)
        self.pattern = pattern


class InvalidOption(ChannelsError, ValueError):
    """An option has a value that cannot be.

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
