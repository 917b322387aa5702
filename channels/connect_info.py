"""Facts about a request, besides its parameters, for a socket's `connect`.

*pure*. Nothing here is checked: a client sends what it likes, and so does a proxy that nobody has told otherwise.

After Phoenix.Socket.Transport's `connect_info`, with one difference: what comes from the request itself need not be
asked for, because looking it up costs nothing before somebody does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

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
"""What `Mount(connect_info=[...])` may name. Phoenix's names."""

_TRACE_CONTEXT = ("traceparent", "tracestate")


@frozen(kw_only=True)
class PeerData:
    """The other end of a connection, as the network sees it. Behind a proxy that is the proxy.

    - `address`, `port`: where it comes from;
    - `ssl_cert`: its certificate in DER, if it gave one (TLS with certificates of clients), else None.
    """

    address: str
    port: int
    ssl_cert: bytes | None = field(default=None, repr=False)


@frozen(kw_only=True)
class Uri:
    """Where a client thinks that it connects to: a URL in its parts, `http` or `https` for WebSockets too.

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

    `host` and `port` are those of the `Host` header; `query` is not decoded.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = field(default="", repr=False)  # tokens travel in it

    def __str__(self) -> str:
        usual = {"http": 80, "https": 443}[self.scheme] == self.port
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if usual else f":{self.port}"
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{host}{port}{self.path}{query}"


@frozen(kw_only=True)
class ConnectInfo:
    """What is known of the request that opened a connection, besides its parameters. Untrusted.

        async def connect(self, params, connect_info):
            self.assigns["ip"] = connect_info.peer_data.address
            self.assigns["trace"] = connect_info.trace_context_headers

    Args:
        peer_data: the client, as the network sees it; None where the network has no addresses.
        scheme: `http` or `https`.
        path: of the request, as it was sent.
        query: of the request, as it was sent.
        headers: pairs of lower-case name and value, in order.
        auth_token: phoenix.js's `authToken`, for a mount with `auth_token=True`.
        session: what the mount's `session` made of the cookies. None without a session, and where the CSRF token is
            missing or wrong.
        own: the pairs of `Mount(connect_info=[("region", "eu")])`.
        declared: the names in `Mount(connect_info=[...])`.

    `connect_info["x_headers"]` and `connect_info["region"]` read what `Mount(connect_info=...)` has declared.
    """

    peer_data: PeerData | None = None
    scheme: str = "http"
    path: str = "/"
    query: str = field(default="", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    auth_token: str | None = field(default=None, repr=False)
    session: Any = field(default=None, repr=False)
    own: Mapping[str, Any] = field(factory=dict, repr=False)
    declared: tuple[str, ...] = field(default=(), repr=False)

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

    @property
    def uri(self) -> Uri:
        """Where the client thinks that it connects to."""
        try:
            here = urlsplit(f"{self.scheme}://{self.header('host') or ''}")
            host, port = here.hostname or "", here.port
        except ValueError:
            # A Host header that is none.
            host, port = "", None
        if port is None:
            port = 443 if self.scheme == "https" else 80
        return Uri(scheme=self.scheme, host=host, port=port, path=self.path, query=self.query)

    @property
    def x_headers(self) -> tuple[tuple[str, str], ...]:
        """Headers that begin with `x-`, `x-forwarded-for` among them: what a proxy says, or anybody else."""
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
                f"{key!r} is not declared; write Mount(..., connect_info=[{key!r}]), or a pair for one of your own"
            )
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in self.own or key in self.declared
