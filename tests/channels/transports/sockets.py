"""Pairs of connected sockets, for tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import trio

__all__ = ["fill", "local_pair", "read_exactly", "socket_pair"]


@contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected TCP sockets, neither blocking; both are closed in the end."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield ours, theirs


@contextmanager
def local_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets that stay full until the peer reads, neither blocking; both are closed in the end.

    TCP moves data to the buffer of the peer later, which can make room on a busy machine.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setblocking(False)
        yield ours, theirs


def fill(sock: socket.socket) -> int:
    """Write until the socket is full, and say how many bytes it took."""
    count = 0
    while True:
        try:
            count += sock.send(b"\x00" * 65536)
        except BlockingIOError:
            return count


async def read_exactly(sock: socket.socket, count: int) -> bytes:
    """Read `count` bytes, or fewer if the stream ends before."""
    data = bytearray()
    while len(data) < count:
        await trio.lowlevel.wait_readable(sock.fileno())
        piece = sock.recv(count - len(data))
        if not piece:
            break
        data += piece
    return bytes(data)
