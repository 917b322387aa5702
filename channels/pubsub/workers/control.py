"""The messages between a parent and a worker: lines of JSON on a socket pair between the two processes.

The first line is the `Setup` that the parent sends before it starts the worker. Later the parent asks for a report or
tells the worker to stop. The worker reports its state and its figures:

    {"type": "report"}                             parent: send a report
    {"type": "stop", "signal": 15}                 parent: stop together with all other workers
    {"type": "ready", "stop_seconds": 60.0}        worker: it accepts connections
    {"type": "problem", "text": "..."}             worker: the application cannot be loaded; the parent tells the others
    {"type": "stopping"}                           worker: it accepts no more connections
    {"type": "report", "connections": 7, ...}      worker: its figures
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import trio

__all__ = ["ControlLine", "Setup", "read_setup"]

_MAX_LINE = 64 * 1024
_encode = msgspec.json.Encoder().encode


class Setup(msgspec.Struct, kw_only=True, frozen=True):
    """The data that a worker needs to start.

    Attributes:
        id: the id of the worker.
        place: the number of the worker's place.
        host: the host of the server, as the user wrote it.
        port: the port of the server.
        listening: the file descriptors of the listening sockets of the worker's place.
        hub: the file descriptor of the worker's socket to the hub.
        secret: the secret that signs tokens if the endpoint has no secret. All workers get the same secret.
        options: further values for the program of the worker.
        replaces: True if another worker serves the place until this worker is ready.
    """

    id: int
    place: int
    host: str
    port: int
    listening: list[int]
    hub: int
    secret: bytes
    options: dict[str, Any]
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

    def send(self, message: Mapping[str, Any] | Setup) -> bool:
        """Send a message, or the setup. Return False if the other side has ended or does not read. Never blocks."""
        data = _encode(message) + b"\n"
        try:
            # A line is far smaller than the buffer of the socket. If the socket takes only a part, the line is broken.
            if self._socket.send(data) == len(data):
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
                chunk = self._socket.recv(_MAX_LINE)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                return
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

    def close(self) -> None:
        """Close this end. May be called twice."""
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
