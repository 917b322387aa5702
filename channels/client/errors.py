"""The errors of a client.

ChannelsError
├── Refused           the server answered a join or a push with another status than ok
├── PushTimeout       the server did not answer in time
├── ChannelClosed     the channel was left or closed before the answer
├── NotConnected      a socket could not be opened
├── BufferFull        too many pushes wait for a connection
└── MessagesDropped   the program read too slowly
"""

from __future__ import annotations

from typing import Any

from actors.text import brief
from channels.errors import ChannelsError

__all__ = [
    "BufferFull",
    "ChannelClosed",
    "MessagesDropped",
    "NotConnected",
    "PushTimeout",
    "Refused",
]


class Refused(ChannelsError):
    """The server answered a join or a push with a status other than ok.

    Attributes:
        topic: the topic.
        event: the event that was pushed; `phx_join` for a join.
        status: the status, "error" by convention.
        payload: the response, such as `{"reason": "unauthorized"}`.
    """

    def __init__(self, topic: str, event: str, status: str, payload: Any) -> None:
        super().__init__(
            f"the server refused {brief(event)} on {brief(topic)} with the status {brief(status)}: {brief(payload)}"
        )
        self.topic = topic
        self.event = event
        self.status = status
        self.payload = payload


class PushTimeout(ChannelsError):
    """The server did not answer a push in time. But it may have handled the push.

    Attributes:
        topic: the topic.
        event: the event that was pushed.
        timeout: the seconds that the client waited.
    """

    def __init__(self, topic: str, event: str, timeout: float) -> None:
        super().__init__(
            f"no answer to {brief(event)} on {brief(topic)} within {timeout:g} seconds"
        )
        self.topic = topic
        self.event = event
        self.timeout = timeout


class ChannelClosed(ChannelsError):
    """The channel was left, or closed by the server, or its socket has ended.

    Attributes:
        topic: the topic.
        cause: the reason why the channel is closed, in words.
    """

    def __init__(self, topic: str, cause: str) -> None:
        super().__init__(f"the channel {brief(topic)} is closed: {cause}; join the topic again")
        self.topic = topic
        self.cause = cause


class NotConnected(ChannelsError):
    """A socket could not be opened, or has ended for good.

    Attributes:
        url: the URL of the socket, without its parameters.
        cause: the cause of the last failure, in words.
        status: the HTTP status of the server's refusal, such as 403; None if there was no answer.
    """

    def __init__(self, url: str, cause: str, status: int | None = None) -> None:
        super().__init__(f"no connection to {url}: {cause}")
        self.url = url
        self.cause = cause
        self.status = status


class BufferFull(ChannelsError):
    """Too many pushes of a channel wait for its join, or too many messages wait to be written.

    Attributes:
        topic: the topic.
        event: the event of the push.
        limit: the option `max_buffered`.
    """

    def __init__(self, topic: str, event: str, limit: int) -> None:
        super().__init__(
            f"cannot push {brief(event)} to {brief(topic)}: {limit} messages wait already; "
            "push less while the connection is down, or set max_buffered of open_socket"
        )
        self.topic = topic
        self.event = event
        self.limit = limit


class MessagesDropped(ChannelsError):
    """The program read the messages of a channel too slowly, so the client dropped the oldest.

    Iterate again to go on with the remaining messages.

    Attributes:
        topic: the topic.
        count: the number of dropped messages.
    """

    def __init__(self, topic: str, count: int) -> None:
        super().__init__(
            f"{count} messages of {brief(topic)} were dropped, because the program did not read them; "
            "read faster, or set max_messages of the channel"
        )
        self.topic = topic
        self.count = count
