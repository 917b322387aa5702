"""The options of long polling, for clients behind a proxy that breaks WebSockets."""

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
        path: appended to the path of the mount. It may have variables, too.
        window: seconds that the server holds a poll while no message waits, and seconds to process a message of the
            client. The server ends a session that was not polled for one and a half windows. It checks once per such
            time, so a session ends after 15 to 30 seconds by default.
        pubsub_timeout: seconds for a session to answer a request. A session that does not answer counts as gone.
        max_age: seconds until the token of a session expires, even if the session still runs.
        max_body_bytes: bytes of one request, for all its messages. A larger one gets 400.
        body_timeout: seconds for a client to send a request. A slower one gets 408.

    The defaults are those of Phoenix, and those of Plug for the size of bodies. `body_timeout` is ours.

    Raises:
        InvalidOption: a number is not above 0, or the path does not begin with a slash.
    """

    path: str = field(default="/longpoll", validator=_path)
    window: float = field(default=10.0, validator=positive)
    pubsub_timeout: float = field(default=2.0, validator=positive)
    max_age: float = field(default=1_209_600, validator=positive)
    max_body_bytes: int = field(default=8_000_000, validator=whole)
    body_timeout: float = field(default=30.0, validator=positive)
