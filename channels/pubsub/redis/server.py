"""The Redis or Valkey server that several parts of a node connect to: its address, time-outs and TLS."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, TypeAlias

import trio
from attrs import field, frozen

from actors.arguments import positive
from actors.errors import InvalidOption
from channels.pubsub.redis.url import RedisUrl
from supervision.backoff import Backoff

__all__ = ["Connect", "RedisServer"]

Connect: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Open a stream to a host and a port. Raises `OSError`."""


def _parsed(url: str | RedisUrl) -> RedisUrl:
    return url if isinstance(url, RedisUrl) else RedisUrl.parse(url)


@frozen
class RedisServer:
    """A Redis or Valkey server, and how a node connects to it.

        server = RedisServer("rediss://:secret@db.example", ssl_context=context)
        endpoint = Endpoint(sockets={"/socket": UserSocket}, pubsub=PubSub(RedisAdapter(server)))
        history = History(RedisStorage(server))

    Everything that takes a `RedisServer` also takes a URL alone, which means `RedisServer(url)`.

    Args:
        url: `redis://user:password@host:port/database?prefix=ashtree`, `rediss://` for TLS, `unix:///path`; or
            `valkey://` and `valkeys://`. The server is Redis 6, Valkey 7, or later.
        connect_timeout: seconds to connect, and to subscribe.
        ping_interval: seconds of silence of the server after which the node sends it a PING.
        ping_timeout: seconds for the answer. With less than 10, the node may treat a busy server as dead.
        backoff: the waits between attempts to connect. Each wait is shortened by up to half at random, so that the
            nodes do not all connect at once.
        ssl_context: the trusted certificates for `rediss://`; None trusts the certificates of the system.
        connect: opens a stream to a host and a port; None opens TCP connections. A scenario passes
            `world.network.connect`.

    Raises:
        InvalidArgument: the URL has another form.
        InvalidOption: an option has an invalid value.
    """

    url: RedisUrl = field(converter=_parsed)
    connect_timeout: float = field(default=5.0, validator=positive, kw_only=True)
    ping_interval: float = field(default=5.0, validator=positive, kw_only=True)
    ping_timeout: float = field(default=10.0, validator=positive, kw_only=True)
    backoff: Backoff = field(default=Backoff(0.05, 5.0), kw_only=True)
    ssl_context: ssl.SSLContext | None = field(default=None, kw_only=True)
    connect: Connect | None = field(default=None, kw_only=True)

    @classmethod
    def of(cls, server: RedisServer | str) -> RedisServer:
        """Return the server itself, or the server with this URL.

        Args:
            server: a server, or a URL.
        """
        return server if isinstance(server, RedisServer) else cls(server)

    @backoff.validator
    def _check_backoff(self, _: Any, value: object) -> None:
        if not isinstance(value, Backoff):
            raise InvalidOption("RedisServer", "backoff", value, "Backoff(...)")

    @ssl_context.validator
    def _check_ssl_context(self, _: Any, value: object) -> None:
        if value is not None and not isinstance(value, ssl.SSLContext):
            raise InvalidOption("RedisServer", "ssl_context", value, "an SSLContext, or None")
        if value is not None and not self.url.tls:
            # Without this, the user would believe that the connection is encrypted.
            expected = "None, or a URL that begins with rediss://"
            raise InvalidOption("RedisServer", "ssl_context", value, expected)

    @connect.validator
    def _check_connect(self, _: Any, value: object) -> None:
        if value is not None and not callable(value):
            raise InvalidOption("RedisServer", "connect", value, "an async function, or None")
        if value is not None and self.url.path is not None:
            expected = "None, or a URL with a host and a port"
            raise InvalidOption("RedisServer", "connect", value, expected)

    @cached_property
    def tls(self) -> ssl.SSLContext | None:
        """The context for TLS, made once because it reads all certificates of the system; None without TLS."""
        if not self.url.tls:
            return None
        return self.ssl_context or ssl.create_default_context()

    async def open(self) -> trio.abc.Stream:
        """Open a stream to the server.

        Returns:
            The stream, with TLS if the URL asks for it.

        Raises:
            OSError: the server cannot be reached.
            UnicodeError: the host is a name that cannot be looked up.
            ValueError: TLS cannot check the host.
        """
        url = self.url
        if url.path is not None:
            return await trio.open_unix_socket(url.path)
        connect: Connect = self.connect or trio.open_tcp_stream
        stream = await connect(url.host, url.port)
        if self.tls is None:
            return stream
        try:
            return trio.SSLStream(stream, self.tls, server_hostname=url.host)
        except ValueError:
            await trio.aclose_forcefully(stream)
            raise
