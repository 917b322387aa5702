"""The interface of a client's transports.

A `Link` is one open connection. A failed attempt to open a link raises `LinkFailed`. The end of an open link raises
`LinkLost`.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import trio
from attrs import frozen

from actors.declared import declared
from actors.errors import InvalidOption
from channels.client.wire import Address, Frame, TransportName, address_of

__all__ = [
    "Connect",
    "Link",
    "LinkFailed",
    "LinkLost",
    "Opening",
    "Options",
    "Params",
    "dial",
    "refused",
]

# A server whose sockets are beside an ASGI application answers 403, and not 404, at a path without a socket.
_CHECK_PATH = "check that the server has a socket at the URL's path {path!r}"
_HINTS = {
    403: f"{_CHECK_PATH}, then the params, the auth_token and the origin",
    404: _CHECK_PATH,
}

Connect: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens a stream to a host and a port, like `trio.open_tcp_stream`. It raises OSError if it cannot."""

Params: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None
"""Parameters, or a function that returns them. The client calls it at every connect."""


@declared("{cause}")
class LinkFailed(Exception):
    """A connection could not be opened.

    Attributes:
        cause: the cause, in words.
        status: the HTTP status of a refusal; None if there was no answer.
    """

    cause: str
    status: int | None = None


def refused(what: str, status: int, address: Address) -> LinkFailed:
    """Return the error for an answer of the server with an unexpected HTTP status."""
    # Without the query, which may hold secrets, and without the transport, which the client has added.
    path = address.target.partition("?")[0].rpartition("/")[0] or "/"
    hint = f"; {_HINTS[status].format(path=path)}" if status in _HINTS else ""
    return LinkFailed(f"the server refused {what} with the status {status}{hint}", status)


@declared()
class LinkLost(Exception):
    """An open connection has ended.

    Attributes:
        code: the close code; 1006 if there was none.
        reason: in words, or empty.
    """

    code: int
    reason: str = ""


class Link(Protocol):
    """One open connection. One task sends, and one receives."""

    async def send(self, frames: Sequence[Frame]) -> None:
        """Write frames in order.

        Raises:
            LinkLost: the connection has ended. `receive` raises this too.
        """
        ...

    async def receive(self) -> Frame:
        """Return the next frame of the server.

        Raises:
            LinkLost: the connection has ended.
        """
        ...

    async def aclose(self, code: int, reason: str) -> None:
        """Close the connection in good order. The caller bounds the time."""
        ...


@frozen(kw_only=True)
class Options:
    """The address and the options of the connections of a socket. `open_socket` describes them."""

    url: str
    params: Params
    auth_token: str | Callable[[], str] | None
    connect: Connect
    ssl_context: ssl.SSLContext | None
    headers: tuple[tuple[str, str], ...]
    connect_timeout: float
    poll_timeout: float
    max_message_bytes: int

    def opening(self, transport: TransportName) -> Opening:
        """Call the functions among the options, for one attempt to connect.

        Raises:
            InvalidOption: a function has returned an invalid value.
        """
        params = self.params() if callable(self.params) else self.params
        token = self.auth_token() if callable(self.auth_token) else self.auth_token
        if not isinstance(params, Mapping | None):
            raise InvalidOption(
                "open_socket", "params", params, "a dict, or a function that returns one"
            )
        if token is not None and not (isinstance(token, str) and token.isprintable()):
            # Do not show the value: it may be most of a secret.
            raise InvalidOption("open_socket", "auth_token", ..., "text without control characters")
        return Opening(address_of(self.url, params, transport), token, self)


@frozen
class Opening:
    """The arguments for opening one connection.

    Attributes:
        address: the address of the socket, with the parameters of this connection.
        auth_token: the token of phoenix.js's `authToken`, or None.
        options: the options of all connections.
    """

    address: Address
    auth_token: str | None
    options: Options


async def dial(opening: Opening) -> trio.abc.Stream:
    """Open a stream, with TLS if the URL asks for it.

    Raises:
        LinkFailed: there is no server, or its certificate is not valid.
    """
    address, options = opening.address, opening.options
    try:
        stream = await options.connect(address.host, address.port)
    except OSError as error:
        raise LinkFailed(_cause_of(error)) from error
    if not address.is_tls:
        return stream
    context = options.ssl_context or ssl.create_default_context()
    secure = trio.SSLStream(stream, context, server_hostname=address.host, https_compatible=True)
    try:
        await secure.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        raise LinkFailed(f"the TLS handshake failed: {_tls_cause_of(error)}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secure


def _cause_of(error: OSError) -> str:
    """Return the cause in words, such as "Connection refused"."""
    # Trio tries each address of a name. The group of all failures is the cause of the error.
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup) and isinstance(cause.exceptions[0], OSError):
        error = cause.exceptions[0]
    elif isinstance(cause, OSError):
        error = cause
    return error.strerror or str(error)


def _tls_cause_of(error: trio.BrokenResourceError) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {cause.verify_message}; pass an ssl_context that trusts it"
    if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
        return "the server does not speak TLS; write ws:// or http://"
    return str(cause or error)
