"""The messages between a parent and a worker: lines of JSON on a socket pair between the two processes.

The first line is the `Setup` that the parent sends before it starts the worker. Later the parent asks for a report or
tells the worker to stop. The worker reports its state and its figures:

    {"type": "report"}                             parent: send a report
    {"type": "stop", "signal": 15}                 parent: stop together with all other workers
    {"type": "peer"}                               parent: another worker starts. The message comes with
                                                   the socket to it
    {"type": "adopt", "sockets": 1, "internal": 0} parent: answer the clients of another place too. The message comes
                                                   with the listening sockets of that place, first the public ones
    {"type": "release"}                            parent: all workers have drained; accept no more, and end
    {"type": "ready", "stop_seconds": 60.0}        worker: it accepts connections
    {"type": "problem", "text": "..."}             worker: the application cannot be loaded; the parent tells the others
    {"type": "stopping"}                           worker: it began to stop
    {"type": "drained"}                            worker: its clients have gone. It answers 503 until the `release`
    {"type": "report", "connections": 7, ...}      worker: its figures
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
import trio

__all__ = ["ControlLine", "Setup", "read_setup"]

_MAX_LINE = 64 * 1024
# The most sockets of one place, which come in one read. A place has one for each address of the host.
_MAX_SOCKETS = 64
_encode = msgspec.json.Encoder().encode


class Setup(msgspec.Struct, kw_only=True, frozen=True):
    """The data that a worker needs to start.

    Attributes:
        id: the id of the worker.
        place: the number of the worker's place.
        host: the host of the server, as the user wrote it.
        port: the port of the server.
        listening: the file descriptors of the listening sockets of the worker's place.
        internal: the file descriptors of the listening sockets of the internal port, if the server has one.
        peers: the file descriptors of the sockets to the workers that were started before.
        grants: the file descriptor of the worker's socket to the table of grants.
        lock: the file descriptor of a locked file. It stays locked until all workers have ended.
        lifeline: the file descriptor of a pipe that ends with the parent.
        secret: the secret that signs tokens if the endpoint has no secret. All workers get the same secret.
        options: further values for the program of the worker.
        starts: the number of processes that have had this id, including this one.
        replaces: True if another worker serves the place until this worker is ready.
    """

    id: int
    place: int
    host: str
    port: int
    listening: list[int]
    internal: list[int] = []
    peers: list[int] = []
    grants: int
    lock: int
    lifeline: int
    secret: bytes
    options: dict[str, Any]
    starts: int = 1
    replaces: bool = False

    def __repr__(self) -> str:
        # Do not show the secret.
        return f"<setup of worker {self.id} at place {self.place}>"


def read_setup(sock: socket.socket) -> Setup:
    """Read the first line of a parent. Blocks.

    Raises:
        ValueError: the line is not a setup.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        # Read byte by byte, because `ControlLine` reads the lines after this one.
        byte = sock.recv(1)
        if not byte or len(line) > _MAX_LINE:
            raise ValueError("there is no setup")
        line += byte
    try:
        return msgspec.json.decode(line, type=Setup)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


class ControlLine:
    """One end of the socket pair. Takes ownership of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._closed = False
        self._descriptors: deque[int] = deque()

    def send(
        self, message: Mapping[str, Any] | Setup, sockets: Sequence[socket.socket] = ()
    ) -> bool:
        """Send a message, or the setup. Return False if the other side has ended or does not read. Never blocks.

        Args:
            message: the message.
            sockets: sockets for the other process. Both processes then have them open.
        """
        data = _encode(message) + b"\n"
        try:
            # A line is far smaller than the buffer of the socket. If the socket takes only a part, the line is broken.
            if socket.send_fds(self._socket, [data], [sock.fileno() for sock in sockets]) == len(
                data
            ):
                return True
        except OSError:
            return False
        self.close()
        return False

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield messages until the other side ends. Ignores lines that are no messages."""
        rest = b""
        while not self._closed:
            try:
                await trio.lowlevel.wait_readable(self._socket)
                chunk, descriptors, _, _ = socket.recv_fds(self._socket, _MAX_LINE, _MAX_SOCKETS)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                return
            for number in descriptors:
                os.set_inheritable(number, False)
            self._descriptors += descriptors
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                try:
                    message = msgspec.json.decode(line)
                except msgspec.MsgspecError:
                    continue
                if isinstance(message, dict):
                    yield message
            if len(rest) > _MAX_LINE:
                return

    def take_sockets(self, count: int) -> list[socket.socket]:
        """Return the sockets that came with a message, oldest first. There may be fewer than `count`."""
        count = min(count, len(self._descriptors))
        return [socket.socket(fileno=self._descriptors.popleft()) for _ in range(count)]

    def close(self) -> None:
        """Close this end. May be called twice."""
        if not self._closed:
            while self._descriptors:
                os.close(self._descriptors.popleft())
            self._closed = True
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
