"""The listener, which accepts connections on one address.

    listener = await Listener.open("127.0.0.1", 4000)
    spawn_link(listener.main, on_connection)      # calls on_connection(sock) for each connection
    listener.port                                 # 4000; for port 0, the port that the system chose
    listener.close()                              # main returns; connections stay open

After a restart of a server, many clients reconnect together. So the listener accepts up to 128 waiting connections
before other tasks run. If the process or the system runs out of files or memory, the listener pauses for a tenth of a
second, so that connections can end.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import trio

from channels.errors import ChannelsError

__all__ = [
    "Listen",
    "ListenError",
    "Listener",
    "Listening",
    "OnConnection",
    "connections_that_fit",
    "inherited",
    "inherited_socket",
    "listening_sockets",
    "unix_socket",
]

OnConnection = Callable[[socket.socket], object]
"""A function that takes over a connected, non-blocking socket, and must close it. It must not block."""

_TURN = 128
_PAUSE = 0.1
_OUT_OF_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_BACKLOG = 4096
_LINUX = sys.platform == "linux"


def connections_that_fit(most: int = 100_000) -> int:
    """Return the number of connections for which the process has file descriptors, up to `most`.

    The result leaves a tenth of the descriptors, and at least 64 descriptors, for other files.
    """
    try:
        # Some systems do not have this module.
        import resource  # noqa: PLC0415
    except ImportError:
        return most
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return most
    return max(1, min(most, limit - max(64, limit // 10)))


class Listening(Protocol):
    """The part of a listener that an endpoint uses.

    Connections are connected, non-blocking sockets, or Trio streams with a `close` that does not wait.
    """

    host: str
    port: int

    async def main(self, on_connection: Callable[[Any], object]) -> None:
        """Pass connections to `on_connection`, until `close`."""

    def close(self) -> None:
        """Accept no more connections."""


Listen = Callable[[str, int], Awaitable[Listening]]
"""A function that opens a listener for a host and a port. It raises `ListenError`, or `OSError`."""


class ListenError(ChannelsError):
    """A server cannot listen on an address.

    Attributes:
        host: the host.
        port: the port.
        problem: the problem and its solution.
    """

    def __init__(self, problem: str, *, host: str, port: int) -> None:
        super().__init__(f"cannot listen on {_address(host, port)}: {problem}")
        self.problem = problem
        self.host = host
        self.port = port


def _address(host: str, port: int) -> str:
    if host.startswith(("unix:", "fd:")):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Listener:
    """A listener on one host and port. Use `Listener.open`.

        >>> async def example(nursery: trio.Nursery) -> None:
        ...     listener = await Listener.open("127.0.0.1", 0)
        ...     nursery.start_soon(listener.main, print)
        ...     print(listener.host, listener.port)

    Attributes:
        host: the numeric address of the first socket, or `unix:` and the path of a Unix socket.
        port: the port of the first socket, never 0. A Unix socket has the port 0.
    """

    host: str
    port: int

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets
        name = sockets[0].getsockname()
        self.host, self.port = (f"unix:{name}", 0) if isinstance(name, str) else name[:2]

    @classmethod
    async def open(cls, host: str, port: int, *, backlog: int = _BACKLOG) -> Listener:
        """Bind and listen.

        Args:
            host: a name, or an IPv4 or IPv6 address without brackets. If a name has several addresses, such as
                `localhost`, the listener uses each address that this machine has. `::` is each IPv6 address and each
                IPv4 address of this machine, `0.0.0.0` each IPv4 address.
            port: 0 to 65535. With 0, the system chooses a port.
            backlog: connections that may wait to be accepted; the system may allow fewer.

        Raises:
            ListenError: the port is out of range, the host name is unknown, or the system refuses the address.
        """
        return cls(await listening_sockets(host, port, backlog=backlog))

    def close(self) -> None:
        """Stop accepting, so that `main` returns. You may call it twice."""
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            trio.lowlevel.notify_closing(sock.fileno())
            sock.close()

    async def main(self, on_connection: OnConnection) -> None:
        """Accept connections until `close`. Exceptions of `on_connection` pass through.

        On cancellation, `main` passes the connections that the system has established to `on_connection`, and then
        closes the listening sockets.
        """
        if len(self._sockets) == 1:
            await self._serve(self._sockets[0], on_connection)
            return
        async with trio.open_nursery() as nursery:
            for sock in self._sockets:
                nursery.start_soon(self._serve, sock, on_connection)

    async def _serve(self, listening: socket.socket, on_connection: OnConnection) -> None:
        while True:
            try:
                await trio.lowlevel.wait_readable(listening.fileno())
            except trio.ClosedResourceError:
                return
            except trio.Cancelled:
                # Closing the socket resets the connections in its queue. So close it immediately after the queue was
                # empty, because new connections arrive all the time.
                try:
                    self._accept_waiting(listening, on_connection, most=_BACKLOG)
                finally:
                    if listening in self._sockets:
                        self._sockets.remove(listening)
                    listening.close()
                raise
            if not self._accept_waiting(listening, on_connection):
                await trio.sleep(_PAUSE)
            if listening.fileno() < 0:
                return

    def _accept_waiting(
        self, listening: socket.socket, on_connection: OnConnection, *, most: int = _TURN
    ) -> bool:
        """Accept waiting connections, up to a maximum. Return False if the system ran out of files or memory."""
        for _ in range(most):
            try:
                sock, _address = listening.accept()
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    return False
                if listening.fileno() < 0:
                    return True  # an earlier connection led to `close`
                # The connection has ended (see accept(2), error handling). The next one may work. If the listening
                # socket is broken, the bound on the loop still lets other tasks run.
                continue
            try:
                sock.setblocking(False)
                if not _LINUX:  # other systems do not inherit the option from the listening socket
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                # Some systems refuse this once the peer has reset the connection.
                sock.close()
                continue
            try:
                on_connection(sock)
            except BaseException:
                sock.close()
                raise
        return True


async def listening_sockets(
    host: str, port: int, *, backlog: int | None = _BACKLOG, is_shared: bool = False
) -> list[socket.socket]:
    """Bind and listen, as `Listener.open` does, and return a socket for each address of the host.

    Args:
        host: as for `Listener.open`.
        port: as for `Listener.open`.
        backlog: as for `Listener.open`. None binds the sockets without letting them listen.
        is_shared: allow further sockets of this user on the same port (SO_REUSEPORT). Linux distributes new connections
            among these sockets.

    Raises:
        ListenError: as for `Listener.open`.
    """
    if not 0 <= port <= 65535:
        raise ListenError(
            "the port is out of range; use a number from 0 to 65535",
            host=host,
            port=port,
        )
    try:
        found = await trio.socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise ListenError(
            f"the host name {host!r} is unknown; use an address of this machine, such as "
            f"127.0.0.1, or 0.0.0.0 for all of them",
            host=host,
            port=port,
        ) from error
    # The resolver may return an address more than once.
    addresses = list(dict.fromkeys((family, address) for family, *_, address in found))
    if host == "::":
        addresses.append((socket.AF_INET, ("0.0.0.0", port)))  # noqa: S104 # the user asked for all addresses
    return _listen_on_all(addresses, host, port, backlog, is_shared)


def unix_socket(path: Path) -> socket.socket:
    """Listen on a Unix socket, and return it. A server that was killed may have left its socket file behind.

    The file gets the permissions that the umask of the process allows.

    Raises:
        ListenError: another server uses the socket, or the system refuses the path.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        if path.is_socket() and sock.connect_ex(str(path)) == errno.ECONNREFUSED:
            path.unlink()
        sock.close()
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        sock.bind(str(path))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        problem = (
            "a file or another server is there; stop that server, or choose another path"
            if error.errno == errno.EADDRINUSE
            else f"the system reported {error.strerror or error}"
        )
        raise ListenError(problem, host=f"unix:{path}", port=0) from error
    return sock


def inherited_socket(number: int) -> socket.socket:
    """Return a listening socket that this process has inherited, such as the socket 3 of a systemd unit.

    Raises:
        ListenError: the descriptor is no listening stream socket.
    """
    try:
        sock = socket.socket(fileno=number)
        listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        )
    except OSError:
        listens = False
    if not listens:
        raise ListenError(
            "it is no listening socket; give the number of an inherited one, such as 3 in a unit with a systemd socket",
            host=f"fd:{number}",
            port=0,
        )
    # Programs that this one starts do not inherit it again.
    sock.set_inheritable(False)
    return sock


def inherited(sockets: Sequence[socket.socket]) -> Listen:
    """Return a function that opens a listener on the given sockets, which are already listening.

        await endpoint.start_link(host=host, port=port, listen=inherited(sockets))

    Each listener uses duplicates of the sockets, and the caller keeps the sockets open. So after a restart, the new
    listener accepts the waiting connections. If another process also accepts from the sockets, no connection is lost
    when this listener stops.
    """
    for sock in sockets:
        # Python takes the descriptor of a new socket object for a blocking one. Then `dup` would make it blocking, in
        # all processes.
        sock.setblocking(False)

    async def listen(host: str, port: int) -> Listening:
        await trio.lowlevel.checkpoint()
        return Listener([sock.dup() for sock in sockets])

    return listen


def _listen_on_all(
    addresses: Sequence[tuple[socket.AddressFamily, tuple[Any, ...]]],
    host: str,
    port: int,
    backlog: int | None,
    is_shared: bool,
) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in addresses:
            # With port 0, the system chooses the port for the first address. All other addresses use the same port.
            chosen = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(
                    _listen(family, (address[0], chosen, *address[2:]), backlog, is_shared)
                )
            except OSError as error:
                if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    raise
                # `localhost` may have an IPv6 address on machines without IPv6.
                missing = error
        if not sockets:
            assert missing is not None  # getaddrinfo never returns an empty list
            raise missing
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise ListenError(_problem(error, host, port), host=host, port=port) from error
    return sockets


def _listen(
    family: socket.AddressFamily, address: tuple[Any, ...], backlog: int | None, is_shared: bool
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if os.name != "nt":  # on Windows this would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # Keep 0.0.0.0 and :: apart on every system.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(address)
        if backlog is not None:
            sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _problem(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop the program that uses it, or choose another port"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return (
            "permission was denied; ports below 1024 are often reserved for the system, "
            "so choose one from 1024 upwards"
        )
    if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
        return (
            f"{host} is not an address of this machine; use one of this machine, such as 127.0.0.1, "
            f"or 0.0.0.0 for all of them"
        )
    return f"the system reported {error.strerror or error}"
