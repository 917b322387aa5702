"""A proxied connection of a live experiment. Faults act on the proxy.

Two tasks carry data between the socket of the client and the socket of the endpoint:

    client ── outside ──▶ LiveConnection ◀── inside ── endpoint

The endpoint serves one end of a pair of plain sockets. So it sees a local address for the client. If the server is
another process, `here` is instead a connection to that process.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import trio

from actors.refs import Pid

__all__ = ["LiveConnection", "socket_pair"]

_SIZE = 65536
# The option SO_LINGER with 0 seconds: closing the socket resets the connection and discards unsent data.
_LINGER = struct.pack("ii", 1, 0)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection within this machine.

    Unlike the sockets of `socket.socketpair`, these have addresses, which servers use.

    Raises:
        OSError: the system has no file descriptors or no ports left.
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        one = socket.socket()
        try:
            # This does not wait, because the system accepts into the backlog of the listener.
            one.connect(listening.getsockname())
            while True:
                other, address = listening.accept()
                if address == one.getsockname():
                    break
                # Another program connected first.
                other.close()
        except BaseException:
            one.close()
            raise
    for end in (one, other):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setblocking(False)
    return one, other


class LiveConnection:
    """A connection through the proxy. `LiveNetwork` makes it.

    Attributes:
        inside: the socket for the endpoint; None if the server is another process.
        peer: the address of the client.
        source: the name of the client's host, which the client chooses; by default its address.
        target: the host that the client connected to.
        number: the number of this connection between the two hosts, from 1.
        pid: the process that serves the connection; None before it starts.
    """

    def __init__(
        self,
        outside: socket.socket,
        target: str,
        *,
        here: socket.socket | None = None,
        heard: Callable[[], object] | None = None,
    ) -> None:
        """Make the connection.

        Args:
            outside: the socket of the client.
            target: the host that the client connected to.
            here: a connection to the server, if this is another process.
            heard: called when the first data of the server arrives.
        """
        self.peer = outside.getpeername()
        self.source = str(self.peer[0])
        self.target = target
        self.number = 0
        self.pid: Pid | None = None
        self.inside: socket.socket | None = None
        if here is None:
            here, self.inside = socket_pair()
        self._heard = heard
        self._outside = trio.socket.from_stdlib_socket(outside)
        self._here = trio.socket.from_stdlib_socket(here)
        self._changed = trio.Event()
        self._held = False
        self._cut: set[str] = set()
        self._latency = 0.0
        self._scope = trio.CancelScope()
        self._broken = False

    @property
    def name(self) -> str:
        """The name in traces.

        For example, `phone->server#2` is the second connection from host `phone` to host `server`.
        """
        return f"{self.source}->{self.target}#{self.number}"

    # Faults. None of these methods waits.

    def reset(self) -> None:
        """Reset the connection. Data in transit is lost, and both ends get an error."""
        self._broken = True
        self._scope.cancel()

    def hold(self) -> None:
        """Stop all data until `release`. The proxy does not read, so the send windows of both sides fill."""
        self._held = True

    def release(self) -> None:
        """End a `hold`."""
        self._held = False
        self._change()

    def delay(self, seconds: float) -> None:
        """Add seconds to the latency of each piece of data. A negative number reduces it."""
        self._latency = max(0.0, self._latency + seconds)

    def cut(self, source: str, target: str) -> None:
        """Stop data from one host to another until `mend`, if this connection is between them."""
        if (source, target) == (self.source, self.target):
            self._cut.add("in")
        elif (target, source) == (self.source, self.target):
            self._cut.add("out")

    def mend(self) -> None:
        """End every `cut`."""
        self._cut.clear()
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # Carrying data

    async def main(self) -> None:
        """Carry data both ways until both sides have ended, or until one side fails."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry, self._outside, self._here, "in")
                    nursery.start_soon(self._carry, self._here, self._outside, "out")
        finally:
            if self._broken:
                self._outside.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
            self.close()

    def close(self) -> None:
        """Close both sockets. A second call does nothing."""
        self._outside.close()
        self._here.close()

    async def _carry(
        self, source: trio.socket.SocketType, to: trio.socket.SocketType, way: str
    ) -> None:
        try:
            while True:
                await self._may_pass(way)
                data = await source.recv(_SIZE)
                if data and way == "out" and self._heard is not None:
                    self._heard()
                    self._heard = None
                if self._latency:
                    await trio.sleep(self._latency)
                await self._may_pass(way)
                if not data:
                    to.shutdown(socket.SHUT_WR)
                    return
                rest = memoryview(data)
                while rest:
                    rest = rest[await to.send(rest) :]
        except OSError:
            # One side is gone, so reset the other side.
            self.reset()

    async def _may_pass(self, way: str) -> None:
        # This wait needs no limit: the run heals its faults, and closes every connection when it ends.
        while self._held or way in self._cut:
            await self._changed.wait()
