"""The two ends of virtual connections, and where they are accepted. See `supervision.simulation.world.network`."""

from __future__ import annotations

import operator
import socket as sockets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from zlib import crc32

import trio

from supervision.simulation.world.pipes import Pipe

if TYPE_CHECKING:
    from supervision.simulation.world.network import Connection, Network

__all__ = ["VirtualListener", "VirtualStream"]


class VirtualStream(trio.abc.HalfCloseableStream):
    """One end of a connection: a Trio stream. Made by `Network.connect` and by listeners.

    Attributes:
        connection: the whole of it.
        socket: answers `family`, `getpeername()` and `getsockname()`, as servers ask of a socket.
        closed: whether this end was closed.
    """

    def __init__(
        self,
        connection: Connection,
        side: str,
        pipes: tuple[Pipe, Pipe],
        own: tuple[str, int],
        peer: tuple[str, int],
    ) -> None:
        self.connection = connection
        self.socket = _SocketLike(own, peer)
        self.closed = False
        self._side = side
        self._incoming, self._outgoing = pipes
        self._sending = self._receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; returns when they are on their way, which takes room in the window."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self.closed:
            raise trio.ClosedResourceError("this stream was closed")
        connection = self.connection
        if connection.network.records_data and data:
            fields = {"side": self._side, "size": len(data), "crc": f"{crc32(data):08x}"}
            connection.network.record("data", {"connection": connection.number, **fields})
        self._sending = True
        try:
            await self._outgoing.write(data)
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room in the window."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self.closed:
            raise trio.ClosedResourceError("this stream was closed")
        self._sending = True
        try:
            await self._outgoing.writable()
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """Say that nothing follows."""
        if self.closed:
            raise trio.ClosedResourceError("this stream was closed")
        await trio.lowlevel.checkpoint()
        self._outgoing.finish()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Take what has arrived; `b""` is the peer's end."""
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes is {max_bytes!r}; write a number from 1, or None")
        if self._side == "target":
            self.connection.read_by_server()
        self._receiving = True
        try:
            return await self._incoming.read(max_bytes, lambda: self.closed)
        finally:
            self._receiving = False

    async def aclose(self) -> None:
        """Close both ways. What was sent before still arrives."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """The same, at once."""
        if not self.closed:
            self.closed = True
            self._outgoing.finish()
            self._outgoing.wake()
            self._incoming.reader_gone()
            self.connection.closed()


class _SocketLike:
    """What servers ask the socket of a stream for."""

    family = sockets.AF_INET

    def __init__(self, own: tuple[str, int], peer: tuple[str, int]) -> None:
        self._own = own
        self._peer = peer

    def getsockname(self) -> tuple[str, int]:
        """The address of this end."""
        return self._own

    def getpeername(self) -> tuple[str, int]:
        """The address of the other end."""
        return self._peer


class VirtualListener(trio.abc.Listener[VirtualStream]):
    """Accepts virtual connections: a Trio listener, and the listener of an endpoint. Made by `Network.listen`.

    Attributes:
        host: as it was given.
        port: the number, also if 0 was given.
    """

    def __init__(self, network: Network, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._network = network
        self._waiting: list[VirtualStream] = []
        self._lot = trio.lowlevel.ParkingLot()
        self._closed = False

    def offer(self, stream: VirtualStream) -> None:
        """A connection has come in."""
        self._waiting.append(stream)
        self._lot.unpark(count=1)

    async def accept(self) -> VirtualStream:
        """Wait for a connection."""
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError("this listener was closed")
            if self._waiting:
                return self._waiting.pop(0)
            await self._lot.park()

    async def main(self, on_connection: Callable[[Any], object]) -> None:
        """Hand over every connection, until the listener is closed; what an endpoint calls."""
        while not self._closed:
            try:
                stream = await self.accept()
            except trio.ClosedResourceError:
                return
            on_connection(stream)

    def close(self) -> None:
        """Accept no more; what has not been accepted is reset."""
        if not self._closed:
            self._closed = True
            self._network.forget_listener(self)
            for stream in self._waiting:
                stream.connection.reset()
            self._lot.unpark_all()

    async def aclose(self) -> None:
        """Close, as Trio's listeners are closed."""
        self.close()
        await trio.lowlevel.checkpoint()
