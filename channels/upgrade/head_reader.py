"""Reads the head of a connection's first request, before anybody is attached to its bytes.

Who serves a connection is only known once its first request is. So its process reads that request
here, and then either attaches a transport or hands over to the HTTP server:

    with trio.move_on_after(10):
        result = await read_head(carrier)
    # Head -> Transports.attach(carrier, ...) or HttpHandover.serve(carrier, head.received)
    # BadRequest -> answer it; None -> the peer has gone without a word
"""

from __future__ import annotations

import socket

import trio

from channels.transports.pump import socket_source, stream_source
from channels.transports.transports import Carrier
from channels.upgrade.request import HeadParser, ParsedHead

__all__ = ["read_head"]


async def read_head(carrier: Carrier, parser: HeadParser | None = None) -> ParsedHead | None:
    """Read from `carrier` until a head is complete, or clearly none.

    >>> async def example(sock: socket.socket) -> None:
    ...     with trio.fail_after(10):
    ...         print(await read_head(sock))

    - `carrier`: a connected, non-blocking socket or a Trio stream; nobody else may read from it;
    - `parser`: takes the bytes; a new one if None. `parser.begun` tells after a cancellation whether the peer has sent
      a part of its head.

    Returns None if the peer closed or broke the connection first. Not limited in time. What was
    read is in the `received` of the `Head`, and lost in any other case, cancellation included.
    """
    parser = HeadParser() if parser is None else parser
    read = socket_source(carrier) if isinstance(carrier, socket.socket) else stream_source(carrier)
    while True:
        try:
            data = await read()
        except (OSError, trio.ClosedResourceError):
            return None
        if not data:
            return None
        result = parser.feed(data)
        if result is not None:
            return result
