r"""Says something to a connection that has no transport yet, waits until it was read, and is done with it.

    await say_last(carrier, b"HTTP/1.1 408 Request Timeout\r\n...")

It takes no file of its own: strangers who are turned away by the thousand cost as many files as they have connections.
"""

from __future__ import annotations

import socket

import trio

from channels.transports.pump import socket_source
from channels.transports.transports import Carrier

__all__ = ["say_last"]

_GRACE = 5.0


async def say_last(carrier: Carrier, data: bytes) -> None:
    r"""Write `data`, and wait for the peer to have read it.

        >>> async def example(sock: socket.socket) -> None:
        ...     await say_last(sock, b"HTTP/1.1 400 Bad Request\r\n\r\n")
        ...     sock.close()

    - `carrier`: a connected, non-blocking socket, which stays the caller's, or a Trio stream, which is closed.

    Takes five seconds at most: a peer that reads nothing is left alone with what it has. Raises nothing if it has gone.
    """
    try:
        with trio.move_on_after(_GRACE):
            if isinstance(carrier, socket.socket):
                await _say(carrier, data)
            else:
                await carrier.send_all(data)
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        # It went without waiting for the answer.
        pass
    finally:
        if not isinstance(carrier, socket.socket):
            await trio.aclose_forcefully(carrier)


async def _say(sock: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock.fileno())
    sock.shutdown(socket.SHUT_WR)
    # Unread bytes at a close would reset the connection, and the answer might be lost with it.
    read = socket_source(sock)
    while await read():
        pass
