"""The transport of a plain socket: read by the poller, written by the flusher, no task of its own.

Keeps the contract of `channels.transports.contract`.
"""

from __future__ import annotations

import socket
from typing import TypeAlias

import trio

from channels.transports.contract import Reader, Signal, Spawn, Tell, Transport
from channels.transports.flusher import Flusher
from channels.transports.out_buffer import DEFAULT_MAX_BYTES, DEFAULT_MAX_MESSAGES, OutBuffer
from channels.transports.poller import Poller
from channels.transports.stream_transport import (
    Pump,
    StreamTransport,
    StreamWriter,
    socket_source,
    stream_source,
)

__all__ = ["ByteStream", "SocketTransport", "Transports"]


class SocketTransport:
    """One connected, non-blocking socket. Made by `Transports.attach`.

    - `sock`: becomes this object's, which closes it;
    - `out`: written by a flusher, with `sock` as its target;
    - `reader`: delivers to `tell`.
    """

    __slots__ = ("_half_closed", "_reader", "_socket", "_tell", "out")

    def __init__(self, sock: socket.socket, out: OutBuffer, reader: Reader, tell: Tell) -> None:
        self._socket = sock
        self.out = out
        self._reader = reader
        self._tell: Tell | None = tell
        self._half_closed = False

    def pause(self) -> None:
        """Leave what the peer sends in the kernel until `resume`."""
        self._reader.pause()

    def resume(self) -> None:
        """Go on reading after `pause`."""
        self._reader.resume()

    def finish(self, frame: bytes = b"") -> None:
        """Write `frame` as the last one, shut the socket for writing, read it to its end.

        `tell(Signal.FINISHED)` follows, and nothing else. Not bounded in time.
        """
        self._reader.redirect(self._drop)
        self._reader.resume()
        self.out.finish(frame, self._shut_for_writing)

    def _drop(self, data: bytes | OSError) -> None:
        if not data or isinstance(data, OSError):
            self._finish_if_done()

    def _shut_for_writing(self) -> None:
        self._half_closed = True
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            # The peer is gone, which the reader finds out as well.
            pass
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._half_closed and self._reader.ended:
            tell, self._tell = self._tell, None
            if tell is not None:
                tell(Signal.FINISHED)

    def close(self) -> None:
        """Close the socket, after everything that uses it has let go of it."""
        self._tell = None
        self._reader.stop()
        self.out.close()
        self._socket.close()


ByteStream: TypeAlias = socket.socket | trio.abc.Stream
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

    def attach(self, stream: ByteStream, tell: Tell) -> Transport:
        """Start to read `stream`, and answer what to write to.

        - `stream`: a connected, non-blocking socket or a Trio stream; becomes the transport's;
        - `tell`: hears everything that happens, see `channels.transports.contract`.

        Raises `OSError` if the kernel will not watch the socket, which is then still the caller's.
        """
        if isinstance(stream, socket.socket):
            return self._attach_socket(stream, tell)
        writer = StreamWriter(stream)
        out = OutBuffer(
            writer.mark,
            tell=tell,
            max_messages=self._max_messages,
            max_bytes=self._max_bytes,
        )
        pump = Pump(stream_source(stream), tell)
        transport = StreamTransport(stream, out, pump, writer, tell)
        self._spawn(transport.main)
        return transport

    def _attach_socket(self, sock: socket.socket, tell: Tell) -> Transport:
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
            max_messages=self._max_messages,
            max_bytes=self._max_bytes,
        )
        return SocketTransport(sock, out, reader, tell)

    def close(self) -> None:
        """Give the poller's resources back, once its loop has ended."""
        if self.poller is not None:
            self.poller.close()
