"""Sockets: who is connected, and which channel serves which topic.

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

        async def connect(self, params, connect_info):
            if params.get("token") != "secret":
                raise ConnectRefused
            self.assigns["user"] = "ann"

One instance is made for each connection. `router_of` finds the mistakes in a class before anybody connects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, TypeAlias

from attrs import field, frozen

from channels.channel import Channel, LogLevelName
from channels.checks import check_sources
from channels.connect_info import ConnectInfo
from channels.connection.link import Broadcaster
from channels.errors import ChannelsError, InvalidOption
from channels.handlers import LOG_LEVELS, InvalidHandler, check, check_callback, check_constructor
from channels.payloads import use_types
from channels.topics import Route, Router

__all__ = ["ConnectRefused", "ErrorHandler", "Refusal", "Socket", "router_of"]


_STATUSES = frozenset(HTTPStatus)


def _status(refusal: Refusal, attribute: Any, status: Any) -> None:
    if not isinstance(status, int) or status not in _STATUSES or status < 400:
        raise InvalidOption("Refusal", "status", status, "a status of an error, 400 to 599")


def _headers(refusal: Refusal, attribute: Any, headers: Any) -> None:
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
                'pairs of name and value, on one line each: (("www-authenticate", "Bearer"),)',
            )


def _text(refusal: Refusal, attribute: Any, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidOption("Refusal", attribute.name, value, "text")


class ConnectRefused(ChannelsError):
    """Raise it in `connect` to refuse a client, which gets HTTP 403 and no reason.

        raise ConnectRefused("no such token")

    With a reason, the `error_handler` of the `Mount`, if there is one, makes the answer. Field: `reason`, for that, and
    for telemetry and logs.
    """

    def __init__(self, reason: Any = None) -> None:
        super().__init__(reason)
        self.reason = reason


@frozen
class Refusal:
    """The HTTP answer to a client that may not connect.

        Refusal(401, "your token has expired", headers=(("www-authenticate", "Bearer"),))

    Args:
        status: of HTTP, 400 to 599.
        body: text, which most clients do not show anybody; phoenix.js does not see it at all.
        headers: more of them, pairs of name and value. The length and the type of the body are added.

    Raises:
        InvalidOption: the status is none of an error, the body is no text, or a header is no pair or would be two.
    """

    status: int = field(default=403, validator=_status)
    body: str = field(default="", validator=_text)
    headers: Sequence[tuple[str, str]] = field(default=(), validator=_headers)


ErrorHandler: TypeAlias = Callable[[Any, ConnectInfo], Refusal]
"""Makes the answer to a client that was refused with a reason: `handler(reason, connect_info)`."""


class Socket:
    """A connection's identity, and its routing table. Subclass it and mount it in an `Endpoint`.

    Attributes:
        channels: patterns to channel classes (or `Route`s, which can carry assigns), tried in their order. A pattern
            is a topic, or a beginning of topics followed by `*`.
        assigns: starts empty; `connect` fills it, and every channel of the connection gets a copy.
        endpoint: the endpoint that the client connected to.

    One instance is made for each connection, in the connection's process.
    """

    channels: ClassVar[Mapping[str, type[Channel] | Route]] = {}
    max_channels: ClassVar[int] = 100
    """How many topics one connection may join. Phoenix's max_channels_per_transport."""
    log: ClassVar[LogLevelName | None] = "info"
    """At which level of Python's `logging` connections are logged; None, not at all. Phoenix's `log`."""

    assigns: dict[str, Any]
    endpoint: Broadcaster

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        """Decide whether a client may connect, and note who it is. Untrusted input.

        Args:
            params: the query parameters of the request, `vsn` among them.
            connect_info: what else is known of the request.

        Raises:
            ConnectRefused: it may not. A `TokenError` that is left to pass is a refusal too, with itself as the
                reason. Anything else raised here is answered with HTTP 500.
        """

    def id(self) -> str | None:
        """The topic on which this user's connections can be closed, all at once; None if there is none.

        endpoint.broadcast("user:7", "disconnect", {})
        """
        return None


def router_of(socket: type[Socket]) -> Router:
    """Make the routing table of a socket class, and check its callbacks and every channel in it.

    Raises:
        InvalidRoute: a pattern that cannot work.
        InvalidHandler: a callback or a channel's handler that cannot be called, or whose source shows a mistake; or
            something that is no channel.
    """
    check_callback(socket, "connect", socket.connect, ("params", "connect_info"))
    check_callback(socket, "id", socket.id, (), is_async=False)
    check_constructor(socket, "connect")
    check_sources(socket, Socket)
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
        channel = target.channel if isinstance(target, Route) else target
        if not isinstance(channel, type) or not issubclass(channel, Channel):
            raise InvalidHandler(
                f"{socket.__name__}.channels routes {pattern!r} to {channel!r}, which is no subclass of Channel; "
                "write the class itself",
                channel=socket,
                handler="channels",
            )
        check(channel)
        check_sources(channel, Channel)
        use_types(channel)
        routes.append(Route(pattern, channel, target.assigns if isinstance(target, Route) else {}))
    return Router(routes)
