"""Sockets, which identify a client and route its topics to channels.

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

        async def connect(self, params, connect_info):
            if params.get("token") != "secret":
                raise ConnectRefused
            self.assigns["user"] = "ann"

Ashtree makes one instance for each connection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, TypeAlias

import msgspec
import trio

from actors.arguments import check_positive, check_seconds, check_whole
from actors.errors import InvalidOption
from channels.channel import Channel, LogLevelName
from channels.checks import check_sources
from channels.connect_info import ConnectInfo
from channels.handlers import (
    LOG_LEVELS,
    Declarations,
    InvalidHandler,
    check,
    check_callback,
    check_constructor,
)
from channels.payloads import table_of
from channels.protocol.link import Broadcaster, Link
from channels.topics import Route, Router

__all__ = ["Durable", "ErrorHandler", "Refusal", "Socket", "bind", "router_of"]


_STATUSES = frozenset(HTTPStatus)


def _check_status(status: Any) -> None:
    if not isinstance(status, int) or status not in _STATUSES or status < 400:
        raise InvalidOption("Refusal", "status", status, "an error status, 400 to 599")


def _check_headers(headers: Any) -> None:
    for pair in headers:
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if (
            not (is_pair and all(isinstance(text, str) for text in pair))
            or not pair[0]
            or any(character in "".join(pair) for character in "\r\n\0")
        ):
            raise InvalidOption(
                "Refusal",
                "headers",
                pair,
                'pairs of name and value without line breaks: (("www-authenticate", "Bearer"),)',
            )


class Refusal(msgspec.Struct, frozen=True):
    """The HTTP response to a refused client.

        Refusal(401, "your token has expired", headers=(("www-authenticate", "Bearer"),))

    Args:
        status: the HTTP status, 400 to 599.
        body: the text of the response. Most clients do not show it, and phoenix.js cannot read it.
        headers: more headers, as pairs of name and value. Ashtree adds the length and the type of the body.

    Raises:
        InvalidOption: the status is not an error status, the body is not text, or a header is malformed.
    """

    status: int = 403
    body: str = ""
    headers: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        _check_status(self.status)
        if not isinstance(self.body, str):
            raise InvalidOption("Refusal", "body", self.body, "text")
        _check_headers(self.headers)


ErrorHandler: TypeAlias = Callable[[Any, ConnectInfo], Refusal]
"""A function that builds the response to a refused client: `handler(reason, connect_info)`."""


Durable: TypeAlias = Callable[[type[Channel], object], type[Channel]]
"""A function that returns a channel class whose topics are durable, from a channel class and a history."""


class Socket:
    """Base class of sockets. Subclass it, and mount it in an `Endpoint`.

    Attributes:
        channels: a dict from patterns to channel classes, or to `Route`s with assigns or a history. A pattern is a
            topic, or a prefix of topics followed by `*`. The first matching pattern counts.
        assigns: a dict with data about the client. Fill it in `connect`. Every channel of the connection gets a copy.
        endpoint: the endpoint of the connection.

    Ashtree makes one instance for each connection, in the connection's process.
    """

    channels: ClassVar[Mapping[str, type[Channel] | Route]] = {}
    max_channels: ClassVar[int] = 100
    """The number of topics that one connection may join. Phoenix calls it max_channels_per_transport."""
    max_joining: ClassVar[int | None] = None
    """The number of joins of one connection that may wait for their answers. A further join gets the error
    `too many joins in progress`. None means `max_channels`, but at least 100. Phoenix has no limit of this kind."""
    max_messages_per_second: ClassVar[float] = math.inf
    """The number of messages to channels that one connection may send per second, on average. A further push gets the
    error `rate limited`. A client may send the messages of ten seconds at once. Joins, leaves and heartbeats do not
    count. Phoenix has no limit of this kind."""
    max_joins_per_second: ClassVar[float] = math.inf
    """The number of joins that one connection may send per second, on average. A further join gets the error
    `rate limited`. A client may send the joins of ten seconds at once, and at least `max_channels` joins. Phoenix has
    no limit of this kind."""
    log: ClassVar[LogLevelName | None] = "info"
    """The level of log lines about connections; None turns them off. Phoenix also calls it `log`."""

    assigns: dict[str, Any]
    endpoint: Broadcaster

    # `connect` can set the deadline. Once the connection has begun, the socket passes new deadlines to the link.
    _deadline: float = math.inf
    _link: Link | None = None

    @classmethod
    def check(cls) -> None:
        """Check what this socket needs, such as a secret in the environment. The endpoint calls it when it starts.

        Raises:
            ChannelsError: raise it to refuse the start. `ashtree serve` prints its text as one sentence.
        """

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo, /) -> None:
        """Accept or refuse a client, and identify it. A client can send any parameters, so check them.

        Args:
            params: the query parameters of the request, including `vsn`.
            connect_info: other facts about the request.

        Raises:
            ConnectRefused: raise it to refuse the client. A `TokenError` also refuses the client, and becomes the
                reason. After any other exception the client gets HTTP 500.
        """

    def id(self) -> str | None:
        """Return the topic for `disconnect` broadcasts, or None.

        For example, this broadcast closes all connections whose `id` returned `user:7`:

            endpoint.broadcast("user:7", "disconnect", {})
        """
        return None

    def expire_connection_after(self, seconds: float) -> None:
        """Close the connection after some seconds. Then the client must connect again, with a valid token.

            verified = verify_with_lifetime(SECRET, "user socket", params.get("token"), max_age=3600)
            self.assigns["user"] = verified.data
            self.expire_connection_after(verified.seconds_left)

        Without a call, a connection never expires. Each call replaces the deadline of earlier calls. To give the client
        more time, call the method of the same name in a channel.

        The server closes an expired connection with the code 3000. phoenix.js and the Python client then connect again.
        If `params` is a function, they call it for each connection. A polling client gets 410 and starts a new session.

        Args:
            seconds: seconds on Trio's clock, from 0. `math.inf` removes the deadline.

        Raises:
            InvalidOption: `seconds` is not a number, 0 or more.

        Any thread can call this after `connect` has returned. During `connect`, threads of `run_in_thread` and
        `trio.to_thread` can call it too. The server does not interrupt a handler that runs at the deadline. Phoenix has
        no method of this kind.
        """
        check_seconds("expire_connection_after", "seconds", seconds)
        if self._link is None:
            self._deadline = _now() + seconds
        else:
            self._link.expire_after(seconds)


def _now() -> float:
    """Return the time of Trio's clock, also in a thread that Trio has started."""
    if trio.lowlevel.in_trio_run():
        return trio.current_time()
    return trio.from_thread.run_sync(trio.current_time)


def bind(socket: Socket, link: Link) -> float:
    """Give a socket the link to its new connection. Return the deadline that `connect` has set."""
    socket._link = link
    return socket._deadline


def router_of(
    socket: type[Socket],
    *,
    durable: Durable | None = None,
    declarations_of: Callable[[type[Channel]], Declarations | None] | None = None,
) -> Router:
    """Return the routing table of a socket class, after a check of the class and of every channel in the table.

    Args:
        socket: the socket class.
        durable: the function that returns the channel class of a route with a history; None leaves the class as it is.
        declarations_of: the function that returns the checks of what a channel class sends. With None, the channels
            send without checks.

    Raises:
        InvalidArgument: a pattern is invalid.
        InvalidHandler: Ashtree cannot call a callback or a handler, the source of a method shows a mistake, or the
            target of a route is not a channel class.
        InvalidOption: a limit of the class is not a number above 0.
    """
    check_callback(socket, "connect", socket.connect, ("params", "connect_info"))
    check_callback(socket, "id", socket.id, (), is_async=False)
    check_constructor(socket, "connect")
    check_sources(socket, Socket)
    _check_limits(socket)
    if socket.log not in LOG_LEVELS:
        raise InvalidHandler(
            f"{socket.__name__}.log is {socket.log!r}; write one of {', '.join(map(repr, LOG_LEVELS))}",
            channel=socket,
            handler="log",
        )
    if not isinstance(socket.channels, Mapping):
        raise InvalidHandler(
            f"{socket.__name__}.channels is {socket.channels!r}; write a dict of patterns to channels",
            channel=socket,
            handler="channels",
        )
    routes = []
    for pattern, target in socket.channels.items():
        route = target if isinstance(target, Route) else Route(pattern, target)
        channel = route.channel
        if not isinstance(channel, type) or not issubclass(channel, Channel):
            raise InvalidHandler(
                f"{socket.__name__}.channels routes {pattern!r} to {channel!r}, which is not a subclass of Channel; "
                "write the class itself",
                channel=socket,
                handler="channels",
            )
        check(channel)
        check_sources(channel, Channel)
        if route.history is not None and durable is not None:
            channel = durable(channel, route.history)
        declarations = None if declarations_of is None else declarations_of(channel)
        table = table_of(channel, declarations)
        routes.append(Route(pattern, channel, route.assigns, table=table))
    return Router(routes)


def _check_limits(socket: type[Socket]) -> None:
    owner = socket.__name__
    check_whole(owner, "max_channels", socket.max_channels)
    if socket.max_joining is not None:
        check_whole(owner, "max_joining", socket.max_joining)
    check_positive(owner, "max_messages_per_second", socket.max_messages_per_second)
    check_positive(owner, "max_joins_per_second", socket.max_joins_per_second)
