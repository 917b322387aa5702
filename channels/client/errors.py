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

import trio

from actors.declared import declared
from channels.errors import ChannelsError

__all__ = [
    "BufferFull",
    "ChannelClosed",
    "MessagesDropped",
    "NotConnected",
    "PushTimeout",
    "Refused",
]


@declared("the server refused {event!b} on {topic!b} with the status {status!b}: {payload!b}")
class Refused(ChannelsError):
    """The server answered a join or a push with a status other than ok.

    Attributes:
        topic: the topic.
        event: the event that was pushed; `phx_join` for a join.
        status: the status, "error" by convention.
        payload: the response, such as `{"reason": "unauthorized"}`.
    """

    topic: str
    event: str
    status: str
    payload: Any


@declared("no answer to {event!b} on {topic!b} within {timeout:g} seconds")
class PushTimeout(ChannelsError, trio.TooSlowError):
    """The server did not answer a push in time. But it may have handled the push.

    Attributes:
        topic: the topic.
        event: the event that was pushed.
        timeout: the seconds that the client waited.
    """

    topic: str
    event: str
    timeout: float


@declared("the channel {topic!b} is closed: {cause}; join the topic again")
class ChannelClosed(ChannelsError):
    """The channel was left, or closed by the server, or its socket has ended.

    Attributes:
        topic: the topic.
        cause: the reason why the channel is closed, in words.
    """

    topic: str
    cause: str


@declared("no connection to {url}: {cause}")
class NotConnected(ChannelsError):
    """A socket could not be opened, or has ended for good.

    Attributes:
        url: the URL of the socket, without its parameters.
        cause: the cause of the last failure, in words.
        status: the HTTP status of the server's refusal, such as 403; None if there was no answer.
    """

    url: str
    cause: str
    status: int | None = None


@declared(
    "cannot push {event!b} to {topic!b}: {limit} messages wait already; "
    "push less while the connection is down, or set max_buffered of open_socket"
)
class BufferFull(ChannelsError):
    """Too many pushes of a channel wait for its join, or too many messages wait to be written.

    Attributes:
        topic: the topic.
        event: the event of the push.
        limit: the option `max_buffered`.
    """

    topic: str
    event: str
    limit: int


@declared(
    "{count} messages of {topic!b} were dropped, because the program did not read them; "
    "read faster, or set max_messages of the channel"
)
class MessagesDropped(ChannelsError):
    """The program read the messages of a channel too slowly, so the client dropped the oldest.

    Iterate again to go on with the remaining messages.

    Attributes:
        topic: the topic.
        count: the number of dropped messages.
    """

    topic: str
    count: int
