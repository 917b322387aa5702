"""Transports for connections: sockets share two pollers and a flusher, and each stream has its own tasks.

An endpoint has one `Transports` object, and runs the loops of this object:

    transports = Transports(spawn=spawn_link)
    spawn_link(transports.flusher.main)
    for poller in transports.pollers.values():
        spawn_link(poller.main)
    ...
    transport = transports.attach(sock, tell)      # see channels.transports.contract

The object keeps the state of the loops, so a supervisor may restart each loop.
"""

from __future__ import annotations

import math
import socket
from typing import Any, TypeAlias

import trio

from channels.transports.contract import Reader, Signal, Spawn, Tell, Transport
from channels.transports.out_buffer import (
    DEFAULT_MAX_BYTES,
    DEFAULT_MAX_LATEST_BYTES,
    DEFAULT_MAX_LATEST_VALUES,
    DEFAULT_MAX_MESSAGES,
    DEFAULT_MAX_TOTAL_BYTES,
    Flusher,
    OutBuffer,
)
from channels.transports.poller import DEFAULT_LONGEST_REST, Poller
from channels.transports.stream_transport import (
    Pump,
    StreamTransport,
    StreamWriter,
    socket_source,
    stream_source,
)

__all__ = [
    "DEFAULT_MAX_INCOMING_BYTES",
    "NO_STATISTICS",
    "ByteStream",
    "SocketTransport",
    "Transports",
]

DEFAULT_MAX_INCOMING_BYTES = 256 * 1024 * 1024
"""The maximum number of bytes of the incomplete messages of all clients: 26 messages of the maximum size."""

NO_STATISTICS = dict.fromkeys(
    ("flusher", "backlog", "latest", "incoming", "poller", "quiet_poller")
)
"""The statistics of transports that do not exist."""


class SocketTransport:
    """The transport of one socket, with or without TLS. Use `Transports.attach`.

    Args:
        sock: a connected, non-blocking socket. This object closes it.
        out: the buffer that a flusher writes, with `sock` as its target.
        reader: the reader that delivers to `tell`.
        tell: the function for the events of this transport.
    """

    __slots__ = ("_half_closed", "_reader", "_socket", "_tell", "out")

    def __init__(self, sock: socket.socket, out: OutBuffer, reader: Reader, tell: Tell) -> None:
        self._socket = sock
        self.out = out
        self._reader = reader
        self._tell: Tell | None = tell
        self._half_closed = False

    def pause(self) -> None:
        """Stop reading from the peer until `resume`."""
        self._reader.pause()

    def resume(self) -> None:
        """Read again after `pause`."""
        self._reader.resume()

    def finish(self, frame: bytes = b"") -> None:
        """Write the last frame, shut the socket for writing, and read it to its end.

        Afterwards, the transport calls only `tell(Signal.FINISHED)`. There is no time limit.
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
            # The peer is gone. The reader will also notice that.
            pass
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._half_closed and self._reader.ended:
            tell, self._tell = self._tell, None
            if tell is not None:
                tell(Signal.FINISHED)

    def close(self) -> None:
        """Stop the reader and the buffer, and close the socket."""
        self._tell = None
        self._reader.stop()
        self.out.close()
        self._socket.close()


ByteStream: TypeAlias = socket.socket | trio.abc.Stream
"""A connected, non-blocking socket, such as a `TlsSocket`, or a Trio stream.

Complete the handshake of TLS before `attach`, for example by reading the first request. Otherwise the transport
would shake hands while it reads and writes, without a time limit.
"""


class Transports:
    """Make transports from sockets and streams.

        >>> async def example(nursery: trio.Nursery, sock: socket.socket) -> None:
        ...     transports = Transports(spawn=nursery.start_soon)
        ...     nursery.start_soon(transports.flusher.main)
        ...     for poller in transports.pollers.values():
        ...         nursery.start_soon(poller.main)
        ...     transport = transports.attach(sock, print)
        ...     transport.out.put(b"hello")

    Args:
        spawn: a function that starts a task. `attach` calls it for each stream, and for each socket if there is no
            poller. The flusher calls it for each full socket.
        use_poller: False reads each socket in its own task, as on platforms without epoll.
        quiet_delay: the longest time in seconds that data of a quiet client may wait; see `channels.transports.poller`.
            0 reads all clients immediately.
        max_messages: frames that may wait in each out-buffer.
        max_bytes: bytes that may wait in each out-buffer.
        max_total_bytes: bytes that may wait in all out-buffers together. See `Backlog`.
        max_latest_values: values that may wait in each out-buffer until a newer value replaces them.
        max_latest_bytes: the bytes of these values.
        max_incoming_bytes: bytes that the incomplete messages of all clients may have together.

    Attributes:
        backlog: the total of the bytes that wait in all out-buffers, and its limit.
        latest: the bounds on the values that newer values replace, and their counters.
        incoming: the total of the bytes of the incomplete messages of all clients, and its limit.
        starved_at: the time at which a poller last had too little memory for a read; minus infinity if never.
        flusher: the loop that writes.
        pollers: the loops that read, by name: `poller`, and `quiet_poller` for quiet clients. Empty without epoll.
    """

    def __init__(
        self,
        *,
        spawn: Spawn,
        use_poller: bool = True,
        quiet_delay: float = DEFAULT_LONGEST_REST,
        max_messages: int = DEFAULT_MAX_MESSAGES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_total_bytes: int = DEFAULT_MAX_TOTAL_BYTES,
        max_latest_values: int = DEFAULT_MAX_LATEST_VALUES,
        max_latest_bytes: int = DEFAULT_MAX_LATEST_BYTES,
        max_incoming_bytes: int = DEFAULT_MAX_INCOMING_BYTES,
    ) -> None:
        self._spawn = spawn
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        # Import here, so that `import channels` loads fewer modules.
        from channels.transports.backlog import Backlog  # noqa: PLC0415
        from channels.transports.latest import LatestTotals  # noqa: PLC0415

        self.backlog = Backlog(max_bytes=max_total_bytes)
        self.latest = LatestTotals(max_values=max_latest_values, max_bytes=max_latest_bytes)
        self.incoming = Backlog(max_bytes=max_incoming_bytes)
        self.starved_at = -math.inf
        self.flusher = Flusher(spawn=spawn)
        self.pollers: dict[str, Poller] = {}
        if use_poller and Poller.is_supported():
            quiet = Poller(longest_rest=quiet_delay) if quiet_delay > 0 else None
            self.pollers["poller"] = Poller(quiet=quiet)
            if quiet is not None:
                self.pollers["quiet_poller"] = quiet

    @property
    def loops(self) -> tuple[Flusher | Poller, ...]:
        """The flusher and the pollers."""
        return self.flusher, *self.pollers.values()

    def attach(self, stream: ByteStream, tell: Tell) -> Transport:
        """Start to read `stream`, and return its transport.

        Args:
            stream: a connected, non-blocking socket or a Trio stream. The transport closes it.
            tell: the function for all events; see `channels.transports.contract`.

        Raises:
            OSError: the kernel cannot watch the socket. The caller must close it.
        """
        if isinstance(stream, socket.socket):
            return self._attach_socket(stream, tell)
        writer = StreamWriter(stream)
        out = OutBuffer(
            writer,
            tell=tell,
            max_messages=self._max_messages,
            max_bytes=self._max_bytes,
            backlog=self.backlog,
            latest=self.latest,
        )
        pump = Pump(stream_source(stream), tell)
        transport = StreamTransport(stream, out, pump, writer, tell)
        self._spawn(transport.main)
        return transport

    def _attach_socket(self, sock: socket.socket, tell: Tell) -> Transport:
        reader: Reader
        poller = self.pollers.get("poller")
        if poller is not None:
            reader = poller.register(sock, tell)
        else:
            pump = reader = Pump(socket_source(sock), tell)
            self._spawn(pump.main)
        out = OutBuffer(
            self.flusher,
            tell=tell,
            target=sock,
            max_messages=self._max_messages,
            max_bytes=self._max_bytes,
            backlog=self.backlog,
            latest=self.latest,
        )
        return SocketTransport(sock, out, reader, tell)

    def statistics(self) -> dict[str, Any]:
        """Return snapshots of the loops and of the two backlogs by name; None for a poller that is not used."""
        pollers = {name: poller.statistics() for name, poller in self.pollers.items()}
        return {
            **NO_STATISTICS,
            "flusher": self.flusher.statistics(),
            "backlog": self.backlog.statistics(),
            "latest": self.latest.statistics(),
            "incoming": self.incoming.statistics(),
            **pollers,
        }

    def close(self) -> None:
        """Release the resources of the pollers. Their loops must have ended."""
        for poller in self.pollers.values():
            poller.close()
