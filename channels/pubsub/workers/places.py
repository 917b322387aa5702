"""The listening sockets of the places of a server, and the listener of a worker on them.

Each place has sockets of its own on the same port (SO_REUSEPORT), and the system spreads new connections over the
places. The parent holds the sockets for as long as it lives. While the worker of a place restarts, new connections to
the place wait, and the system resets none of them.

Prototypes lost connections in restarts when each worker opened its own sockets. With one socket for all workers, a few
workers got most connections.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import trio

from channels.errors import ChannelsError
from channels.transports.listener import Listener, Listening, listening_sockets

__all__ = ["MAX_WORKERS", "PlaceSockets", "check_platform", "open_places"]

MAX_WORKERS = 512
"""The largest number of workers."""


def check_platform(platform: str = sys.platform) -> None:
    """Raise ChannelsError unless this system spreads connections over sockets with SO_REUSEPORT."""
    # macOS has the option, but gives all connections to one socket.
    if platform != "linux" or not hasattr(socket, "SO_REUSEPORT"):
        raise ChannelsError(
            f"--workers needs Linux, which spreads the connections of a port over several processes, and this is "
            f"{platform}; leave the option out, or start one server for each port behind a proxy"
        )


async def open_places(host: str, port: int, count: int) -> list[list[socket.socket]]:
    """Open the sockets of each place: one for each address of the host.

    Args:
        host: as for `Listener.open`.
        port: as for `Listener.open`. With 0, all places get the same free port.
        count: the number of places.

    Raises:
        ListenError: the address cannot be used, or another server uses the port. SO_REUSEPORT would allow a second
            server on the port, but the system would then divide the clients between the two.
        ChannelsError: the system is not Linux, and `count` is above 1.
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


class PlaceSockets:
    """The listening sockets from which a worker accepts: those of its own place, and of the places that it adopts.

        await endpoint.start_link(host=host, port=port, listen=sockets.listen)

    Args:
        own: the sockets of the place of the worker. This object closes them.
        waits: True to accept nothing before `begin`, because another worker still accepts from the same sockets.
    """

    def __init__(self, own: Sequence[socket.socket], *, waits: bool = False) -> None:
        self._sockets = list(own)
        self._waits = waits
        self._listener: _PlaceListener | None = None
        self._closed = False

    async def listen(self, host: str, port: int) -> Listening:
        """Open a listener on all sockets, for an endpoint. A restarted listener accepts from the same sockets."""
        await trio.lowlevel.checkpoint()
        listeners = [_duplicate(sock) for sock in self._sockets]
        self._listener = _PlaceListener(listeners)
        if not self._waits:
            self._listener.begin()
        return self._listener

    def begin(self) -> None:
        """Accept from now on. Does nothing if this object accepts already."""
        self._waits = False
        if self._listener is not None:
            self._listener.begin()

    def adopt(self, sockets: Sequence[socket.socket]) -> None:
        """Accept from the sockets of another place too. Close them if this object has been closed."""
        if self._closed:
            # The worker ends. An open copy would collect connections that nobody accepts.
            for sock in sockets:
                sock.close()
            return
        self._sockets += sockets
        if self._listener is not None:
            for sock in sockets:
                self._listener.add(_duplicate(sock))

    def close(self) -> None:
        """Leave the sockets to the listener, which closes the last copies of this worker when it ends."""
        self._closed = True
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            sock.close()


def _duplicate(sock: socket.socket) -> Listener:
    """Return a listener on a copy of the socket."""
    # Python takes the descriptor of a new socket object for a blocking one. Then `dup` would make it blocking, in all
    # processes.
    sock.setblocking(False)
    return Listener([sock.dup()])


class _PlaceListener:
    """A listener to which sockets can be added.

    Attributes:
        host: the numeric address of the first socket.
        port: the port of all sockets.
    """

    def __init__(self, listeners: list[Listener]) -> None:
        self.host, self.port = listeners[0].host, listeners[0].port
        self._has_begun = trio.Event()
        self._listeners = listeners
        self._start: Callable[[Listener], object] | None = None

    def begin(self) -> None:
        """Let `main` accept connections."""
        self._has_begun.set()

    def add(self, listener: Listener) -> None:
        """Accept from a further socket. Close it if this listener has been closed."""
        if not self._listeners:
            listener.close()
            return
        self._listeners.append(listener)
        if self._start is not None:
            self._start(listener)

    async def main(self, on_connection: Callable[[Any], object]) -> None:
        """Pass connections to `on_connection`, until `close`. Run it once. When it has ended, this object is closed."""
        await self._has_begun.wait()
        running = 0

        async def run(listener: Listener) -> None:
            nonlocal running
            try:
                await listener.main(on_connection)
            finally:
                running -= 1
                if not running:
                    # After its last task, the nursery accepts no further task.
                    self.close()

        async with trio.open_nursery() as nursery:

            def start(listener: Listener) -> None:
                nonlocal running
                running += 1
                nursery.start_soon(run, listener)

            self._start = start
            for listener in self._listeners:
                start(listener)

    def close(self) -> None:
        """Accept no more connections. May be called twice."""
        # `main` may still wait to begin. It then ends at once.
        self._has_begun.set()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
