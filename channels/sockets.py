"""Sockets: who is connected, and which channel serves which topic.

class UserSocket(Socket):
    channels = {"room:*": RoomChannel}

    async def connect(self, params, connect_info):
        if params.get("token") != "secret":
            raise ConnectRefused
        self.assigns["user"] = "ann"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from attrs import field, frozen

from channels.channel import Channel
from channels.errors import ChannelsError
from channels.handlers import InvalidHandler, check, check_callback
from channels.payloads import use_types
from channels.topics import Route, Router

__all__ = ["ConnectInfo", "ConnectRefused", "Socket", "router_of"]


class ConnectRefused(ChannelsError):
    """Raise it in `connect` to refuse a client, which gets HTTP 403 and no reason.

        raise ConnectRefused("no such token")

    Field: `reason`, for telemetry and logs.
    """

    def __init__(self, reason: Any = None) -> None:
        super().__init__(reason)
        self.reason = reason


@frozen(kw_only=True)
class ConnectInfo:
    """What is known of the request that opened a connection, besides its parameters.

    - `peer`: address and port of the client, as the network sees it; None if it has none;
    - `uri`: the request target, path and query;
    - `headers`: pairs of lower-case name and value, in order. Untrusted, like everything a client sends.
    """

    peer: tuple[str, int] | None = None
    uri: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def header(self, name: str) -> str | None:
        """The first value of a header, by its lower-case name; None if it was not sent."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    @property
    def user_agent(self) -> str | None:
        """What the client says it is."""
        return self.header("user-agent")


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

    assigns: dict[str, Any]
    endpoint: Any

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        """Decide whether a client may connect, and note who it is. Untrusted input.

        Args:
            params: the query parameters of the request, `vsn` among them.
            connect_info: what else is known of the request.

        Raises:
            ConnectRefused: it may not. Anything else raised here is answered with HTTP 500.
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
        InvalidHandler: a callback or a channel's handler that cannot be called, or something that is no channel.
    """
    check_callback(socket, "connect", socket.connect, ("params", "connect_info"))
    check_callback(socket, "id", socket.id, (), is_async=False)
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
        use_types(channel)
        routes.append(Route(pattern, channel, target.assigns if isinstance(target, Route) else {}))
    return Router(routes)
