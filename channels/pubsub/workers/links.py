"""Links: one socket between each two workers of a machine.

Workers send their envelopes to each other without a third process between them. The parent makes the sockets
(`channels.pubsub.workers.parent`), and the adapter of a worker reads and writes its own ends.

Each link has its own bounded queue, so a worker that does not read costs only the messages for itself.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

import trio

from channels.pubsub.workers.frames import BrokenFrame, cut, unframe

__all__ = ["Link"]

_CHUNK = 64 * 1024
# Messages between two checkpoints. Each goes to all subscribers of its topic.
_TURN = 64


class Link:
    """One end of the socket between two workers. Takes ownership of the socket.

    Attributes:
        lane: the lane that the other worker has declared; empty before it has.
        waiting_bytes: bytes that wait to be sent.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.lane = ""
        self.waiting_bytes = 0
        self._socket = sock
        self._waiting: deque[bytes] = deque()
        # The bytes of the next frame that have arrived.
        self._rest = b""

    def put(self, data: bytes) -> None:
        """Let a frame wait for the next `flush`."""
        self._waiting.append(data)
        self.waiting_bytes += len(data)

    def flush(self) -> bool:
        """Send as much as the socket takes. Return True if nothing waits now. Never blocks."""
        while self._waiting:
            pieces, size = [], 0
            while self._waiting and size < _CHUNK:
                pieces.append(self._waiting.popleft())
                size += len(pieces[-1])
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                # The other worker has ended. `read` takes its last frames, and notices the end.
                self._waiting.clear()
                self.waiting_bytes = 0
                return True
            self.waiting_bytes -= sent
            if sent < size:
                self._waiting.appendleft(data[sent:])
                return False
        return True

    async def catch_up(self) -> None:
        """Send what waits, as fast as the other worker reads."""
        while not self.flush():
            try:
                await trio.lowlevel.wait_writable(self._socket)
            except (OSError, trio.ClosedResourceError):
                return

    async def read(self, receive: Callable[[Link, str, bytes], None]) -> None:
        """Pass arriving envelopes on, until the other worker ends or sends bytes that are no frame. Then close.

        Args:
            receive: gets this link, and the lane and the bytes of an envelope.
        """
        while True:
            try:
                await trio.lowlevel.wait_readable(self._socket)
                chunk = self._socket.recv(_CHUNK)
            except BlockingIOError:
                continue
            except OSError:
                break
            if not chunk:
                break
            data = self._rest + chunk if self._rest else chunk
            try:
                ends = cut(data)
            except BrokenFrame:
                break
            # Set this before the delivery: if the delivery fails, only these messages are lost.
            self._rest = data[ends[-1] :] if ends else data
            for number, (lane, envelope) in enumerate(unframe(data, ends), 1):
                receive(self, lane, envelope)
                if number % _TURN == 0:
                    await trio.lowlevel.checkpoint()
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        self._waiting.clear()
        self.waiting_bytes = 0
