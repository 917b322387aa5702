"""Where a connection gets its transport: sockets share a reader and a flusher, streams do not.

An endpoint has one `Transports`. It is two loops that have to run somewhere, and `attach`:

    transports = Transports(spawn=spawn_link)
    spawn_link(transports.flusher.main)
    if transports.poller is not None:
        spawn_link(transports.poller.main)
    ...
    transport = transports.attach(sock, tell)      # see channels.transports.contract

Both loops keep their state in the object, so a supervisor may start either again.
"""

from __future__ import annotations

import socket
from typing import Any, TypeAlias

import trio

from channels.transports.contract import Reader, Transport
from channels.transports.events import Spawn, Tell
from channels.transports.flusher import Flusher
from channels.transports.out_buffer import DEFAULT_MAX_BYTES, DEFAULT_MAX_MESSAGES, OutBuffer
from channels.transports.poller import Poller
from channels.transports.pump import Pump, socket_source, stream_source
from channels.transports.socket_transport import SocketTransport
from channels.transports.stream_transport import StreamTransport
from channels.transports.stream_writer import StreamWriter

__all__ = ["Carrier", "Transports"]

Carrier: TypeAlias = socket.socket | trio.abc.Stream
"""What bytes travel on: a connected, non-blocking socket, or a Trio stream.

A TLS stream has to have shaken hands (reading its first request does that): Trio has whoever waits
for a handshake that somebody else has begun wait for ever, if it fails.
"""


class Transports:
    """Makes transports out of sockets and streams.

        >>> async def example(nursery: trio.Nursery, sock: socket.socket) -> None:
        ...     transports = Transports(spawn=nursery.start_soon)
        ...     nursery.start_soon(transports.flusher.main)
        ...     if transports.poller is not None:
        ...         nursery.start_soon(transports.poller.main)
        ...     transport = transports.attach(sock, print)
        ...     transport.out.put(b"hello")

    - `spawn`: starts a task. Called by `attach` for a stream (and for a socket where there is no
      poller), so in the task of the connection; called by the flusher for a full socket.
    - `use_poller`: False reads sockets with a task each, as where the platform has no epoll.
    - `max_messages`, `max_bytes`: the bounds of each out-buffer.

    Fields: `flusher`, and `poller`, which is None where it is not used.
    """

    def __init__(
        self,
        *,
        spawn: Spawn,
        use_poller: bool = True,
        max_messages: int = DEFAULT_MAX_MESSAGES,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self._spawn = spawn
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self.flusher = Flusher(spawn=spawn)
        self._mark = self.flusher.mark  # bound once, not once for each connection
        self.poller = Poller() if use_poller and Poller.is_supported() else None

    def attach(self, carrier: Carrier, tell: Tell, *, codec: Any = None) -> Transport:
        """Start to read `carrier`, and answer what to write to.

        - `carrier`: a connected, non-blocking socket or a Trio stream; becomes the transport's;
        - `tell`: hears everything that happens, see `channels.transports.events`;
        - `codec`: kept as `out.codec`.

        Raises `OSError` if the kernel will not watch the socket, which is then still the caller's.
        """
        if isinstance(carrier, socket.socket):
            return self._attach_socket(carrier, tell, codec)
        writer = StreamWriter(carrier)
        out = OutBuffer(
            writer.mark,
            tell=tell,
            codec=codec,
            max_messages=self._max_messages,
            max_bytes=self._max_bytes,
        )
        pump = Pump(stream_source(carrier), tell)
        transport = StreamTransport(carrier, out, pump, writer, tell)
        self._spawn(transport.main)
        return transport

    def _attach_socket(self, sock: socket.socket, tell: Tell, codec: Any) -> Transport:
        reader: Reader
        if self.poller is not None:
            reader = self.poller.register(sock, tell)
        else:
            pump = reader = Pump(socket_source(sock), tell)
            self._spawn(pump.main)
        out = OutBuffer(
            self._mark,
            tell=tell,
            target=sock,
            codec=codec,
            max_messages=self._max_messages,
            max_bytes=self._max_bytes,
        )
        return SocketTransport(sock, out, reader, tell)

    def close(self) -> None:
        """Give the poller's resources back, once its loop has ended."""
        if self.poller is not None:
            self.poller.close()
