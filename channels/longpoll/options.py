"""How a socket is served to clients that poll, because something between them and the server breaks WebSockets."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from channels.errors import InvalidOption, positive, whole

__all__ = ["LongPoll"]


def _path(options: LongPoll, attribute: Any, value: Any) -> None:
    if not isinstance(value, str) or not value.startswith("/"):
        raise InvalidOption(
            "LongPoll", "path", value, 'a path that begins with a slash: "/longpoll"'
        )


@frozen(kw_only=True)
class LongPoll:
    """Options of long polling, for `Mount(UserSocket, longpoll=LongPoll(window=20.0))`.

    Args:
        path: what is added to the mount's path. Like that, it may have variables.
        window: seconds that a poll is held while there is nothing to hand out, and that a message of the client may
            take to be dealt with. A session that is not polled for one and a half times that long is looked at, and
            ends when its last poll is as long ago: after 15 to 30 seconds by default.
        pubsub_timeout: seconds in which a session has to answer that it is there. One that does not counts as gone.
        max_age: seconds after which the token of a session is not accepted any more, even if it still runs.
        max_body_bytes: bytes of one request, all messages in it together; a larger one is answered 400.
        body_timeout: seconds that a client has to send a request; then it is answered 408.

    Defaults are Phoenix's, and Plug's for the size of bodies. That for the time is ours.

    Raises:
        InvalidOption: a number is none, or is not above 0, or the path cannot be one.
    """

    path: str = field(default="/longpoll", validator=_path)
    window: float = field(default=10.0, validator=positive)
    pubsub_timeout: float = field(default=2.0, validator=positive)
    max_age: float = field(default=1_209_600, validator=positive)
    max_body_bytes: int = field(default=8_000_000, validator=whole)
    body_timeout: float = field(default=30.0, validator=positive)
