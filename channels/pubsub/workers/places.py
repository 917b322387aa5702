"""The listening sockets of the places of a server.

Each place has sockets of its own on the same port (SO_REUSEPORT), and the system spreads new connections over the
places. The parent holds the sockets for as long as it lives. While the worker of a place restarts, new connections to
the place wait, and the system resets none of them.

Prototypes lost connections in restarts when each worker opened its own sockets. With one socket for all workers, a few
workers got most connections.
"""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack

from channels.errors import ChannelsError
from channels.transports.listener import listening_sockets

__all__ = ["MAX_WORKERS", "WorkersUnavailable", "check_platform", "open_places"]

MAX_WORKERS = 512
"""The largest number of workers."""


class WorkersUnavailable(ChannelsError):
    """This system cannot serve one port with several workers.

    Attributes:
        platform: the system, as in `sys.platform`.
    """

    def __init__(self, platform: str) -> None:
        super().__init__(
            f"--workers needs Linux, which spreads the connections of a port over several processes, and this is "
            f"{platform}; leave the option out, or start one server for each port behind a proxy"
        )
        self.platform = platform


def check_platform(platform: str = sys.platform) -> None:
    """Raise WorkersUnavailable unless this system spreads connections over sockets with SO_REUSEPORT."""
    # macOS has the option, but gives all connections to one socket.
    if platform != "linux" or not hasattr(socket, "SO_REUSEPORT"):
        raise WorkersUnavailable(platform)


async def open_places(host: str, port: int, count: int) -> list[list[socket.socket]]:
    """Open the sockets of each place: one for each address of the host.

    Args:
        host: as for `Listener.open`.
        port: as for `Listener.open`. With 0, all places get the same free port.
        count: the number of places.

    Raises:
        ListenError: the address cannot be used, or another server uses the port. SO_REUSEPORT would allow a second
            server on the port, but the system would then divide the clients between the two.
        WorkersUnavailable: the system is not Linux, and `count` is above 1.
    """
    if count > 1:
        check_platform()
    with ExitStack() as opened, ExitStack() as probes:
        # The system binds these sockets only if nobody listens on the port. They never listen, so they get no
        # connections.
        bound = await listening_sockets(host, port, backlog=None)
        for sock in bound:
            probes.enter_context(sock)
        port = bound[0].getsockname()[1]
        places: list[list[socket.socket]] = []
        for _ in range(count):
            sockets = await listening_sockets(host, port, is_shared=True)
            for sock in sockets:
                opened.enter_context(sock)
            places.append(sockets)
        opened.pop_all()
        return places
