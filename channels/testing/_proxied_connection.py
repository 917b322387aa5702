"""One connection of an experiment: two tasks between a client's socket and the endpoint's, which can be told to fail.

    client ── outside ──▶ LiveConnection ◀── inside ── endpoint

The endpoint gets one end of a pair of plain sockets and serves it as it serves every socket. What it sees as the
address of the client is therefore one of this machine.
"""

from __future__ import annotations

import socket
import struct

import trio

from actors.refs import Pid

__all__ = ["LiveConnection", "socket_pair"]

_SIZE = 65536
# On, and for no time: closing the socket breaks the connection (TCP's RST), and drops what was not sent.
_LINGER = struct.pack("ii", 1, 0)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection within this machine.

    Not `socket.socketpair`: its sockets have no addresses, of which servers make use, and cannot be told apart from
    others that have none.

    Raises:
        OSError: there are no files, or no ports, left.
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        one = socket.socket()
        try:
            # Blocking, for no time: the system answers for a listener in its own backlog.
            one.connect(listening.getsockname())
            while True:
                other, address = listening.accept()
                if address == one.getsockname():
                    break
                # A stranger was faster.
                other.close()
        except BaseException:
            one.close()
            raise
    for end in (one, other):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setblocking(False)
    return one, other


class LiveConnection:
    """A connection that is led through here. Made by `LiveNetwork`.

    Attributes:
        inside: the socket for the endpoint.
        peer: the address of the client.
        source: the name of the client's host: what it has called itself, or its address.
        target: the host that was connected to.
        number: which connection between the two this is, from 1.
        pid: the process that serves it, as soon as there is one.
    """

    def __init__(self, outside: socket.socket, target: str) -> None:
        self.peer = outside.getpeername()
        self.source = str(self.peer[0])
        self.target = target
        self.number = 0
        self.pid: Pid | None = None
        here, self.inside = socket_pair()
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
        """`phone->server#2`: the second that the host `phone` has made to the host `server`."""
        return f"{self.source}->{self.target}#{self.number}"

    # What can be done to it. None of this waits.

    def reset(self) -> None:
        """Break it: what is on its way is lost, and both ends are told."""
        self._broken = True
        self._scope.cancel()

    def hold(self) -> None:
        """Let nothing pass, until `release`: neither side is read, so the senders' windows fill."""
        self._held = True

    def release(self) -> None:
        """End a `hold`."""
        self._held = False
        self._change()

    def delay(self, seconds: float) -> None:
        """Let what passes take so many seconds longer, piece by piece; less, if it is negative."""
        self._latency = max(0.0, self._latency + seconds)

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass from one host to another, if this connection is between them; until `mend`."""
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

    # The work

    async def main(self) -> None:
        """Carry bytes both ways until both sides have ended, or one has broken."""
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
        """Give both sockets back. May be called twice."""
        self._outside.close()
        self._here.close()

    async def _carry(
        self, source: trio.socket.SocketType, to: trio.socket.SocketType, way: str
    ) -> None:
        try:
            while True:
                await self._may_pass(way)
                data = await source.recv(_SIZE)
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
            # One side is gone, so the other side is reset.
            self.reset()

    async def _may_pass(self, way: str) -> None:
        # Bounded by the run, which heals what it has broken and ends every connection when it ends.
        while self._held or way in self._cut:
            await self._changed.wait()
