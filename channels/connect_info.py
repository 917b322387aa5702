"""Facts about a request, besides its parameters, for a socket's `connect`.

*pure*. Ashtree does not check these facts. A client can send any value, and a proxy forwards it unless you configure
the proxy.

Source: `connect_info` of Phoenix.Socket.Transport. In Phoenix you must declare each fact. In Ashtree all facts of the
request are available, because `ConnectInfo` computes a fact only when you read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from attrs import field, frozen

__all__ = ["REQUEST_KEYS", "ConnectInfo", "PeerData", "Uri"]

REQUEST_KEYS = (
    "peer_data",
    "trace_context_headers",
    "x_headers",
    "sec_websocket_headers",
    "uri",
    "user_agent",
    "auth_token",
    "session",
)
"""The names that `Mount(connect_info=[...])` accepts. Phoenix uses the same names."""

_TRACE_CONTEXT = ("traceparent", "tracestate")


# The facts of each request are structs, because msgspec builds a struct in a fraction of the time of a frozen class.


class PeerData(msgspec.Struct, frozen=True, kw_only=True):
    """The network address of a client. Behind a proxy, it is the address of the proxy.

    Attributes:
        address: the IP address.
        port: the port.
        ssl_cert: the client's TLS certificate in DER; None if the client sent none.
    """

    address: str
    port: int
    ssl_cert: bytes | None = None

    def __repr__(self) -> str:
        return f"PeerData(address={self.address!r}, port={self.port!r})"


@frozen(kw_only=True)
class Uri:
    """The URL that the client requested, in its parts. The scheme is `http` or `https`, for WebSockets too.

        >>> str(
        ...     Uri(
        ...         scheme="https",
        ...         host="example.org",
        ...         port=443,
        ...         path="/socket/websocket",
        ...         query="vsn=2.0.0",
        ...     )
        ... )
        'https://example.org/socket/websocket?vsn=2.0.0'

    `host` and `port` come from the `Host` header. `query` is not decoded.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = field(default="", repr=False)  # may contain tokens

    def __str__(self) -> str:
        usual = {"http": 80, "https": 443}[self.scheme] == self.port
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if usual else f":{self.port}"
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{host}{port}{self.path}{query}"


class ConnectInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about the request that opened a connection, besides its parameters. Do not trust them.

        async def connect(self, params, connect_info):
            self.assigns["ip"] = connect_info.peer_data.address
            self.assigns["trace"] = connect_info.trace_context_headers

    Args:
        peer_data: the network address of the client; None on a network without addresses.
        scheme: `http` or `https`.
        path: the path of the request, undecoded.
        query: the query of the request, undecoded.
        headers: pairs of lower-case name and value, in order.
        auth_token: the `authToken` of phoenix.js, if the mount has `auth_token=True`.
        session: the return value of the mount's `session` function. It is None if the mount has no such function, or if
            the CSRF token is missing or wrong.
        own: the pairs in `Mount(connect_info=[("region", "eu")])`.
        declared: the names in `Mount(connect_info=[...])`.

    You can also read the names in `Mount(connect_info=...)` as keys: `connect_info["x_headers"]`,
    `connect_info["region"]`.
    """

    peer_data: PeerData | None = None
    scheme: str = "http"
    path: str = "/"
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    auth_token: str | None = None
    session: Any = None
    own: Mapping[str, Any] = msgspec.field(default_factory=dict)
    declared: tuple[str, ...] = ()

    def __repr__(self) -> str:
        # The other facts contain secrets.
        return (
            f"ConnectInfo(peer_data={self.peer_data!r}, scheme={self.scheme!r}, path={self.path!r})"
        )

    def header(self, name: str) -> str | None:
        """Return the first value of the header with this lower-case name; None if the client did not send it.

        Args:
            name: the name of the header, in lower case.
        """
        for key, value in self.headers:
            if key == name:
                return value
        return None

    @property
    def user_agent(self) -> str | None:
        """The value of the `User-Agent` header."""
        return self.header("user-agent")

    @property
    def uri(self) -> Uri:
        """The URL that the client requested."""
        try:
            here = urlsplit(f"{self.scheme}://{self.header('host') or ''}")
            host, port = here.hostname or "", here.port
        except ValueError:
            # A malformed Host header.
            host, port = "", None
        if port is None:
            port = 443 if self.scheme == "https" else 80
        return Uri(scheme=self.scheme, host=host, port=port, path=self.path, query=self.query)

    @property
    def x_headers(self) -> tuple[tuple[str, str], ...]:
        """Headers that begin with `x-`, such as `x-forwarded-for`. Proxies and clients can set them."""
        return tuple(pair for pair in self.headers if pair[0].startswith("x-"))

    @property
    def sec_websocket_headers(self) -> tuple[tuple[str, str], ...]:
        """Headers that begin with `sec-websocket-`."""
        return tuple(pair for pair in self.headers if pair[0].startswith("sec-websocket-"))

    @property
    def trace_context_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers of W3C Trace Context, `traceparent` and `tracestate`."""
        return tuple(pair for pair in self.headers if pair[0] in _TRACE_CONTEXT)

    def __getitem__(self, key: str) -> Any:
        if key in self.own:
            return self.own[key]
        if key not in self.declared:
            raise KeyError(
                f"{key!r} is not declared; write Mount(..., connect_info=[{key!r}]), or add a pair ({key!r}, value)"
            )
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in self.own or key in self.declared
