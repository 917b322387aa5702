"""A proxy that breaks WebSockets, as some between a browser and a server do; everything else passes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Literal

Mode = Literal["refuse", "swallow"]

_REFUSAL = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class UpgradeBreaker:
    """A proxy to a port that refuses connections whose first request asks for a WebSocket.

    - `mode`: refuse such a request, or never answer it.

    Attribute: `broken`, how many there were.
    """

    def __init__(self, port: int, mode: Mode) -> None:
        self.broken = 0
        self._target = port
        self._mode = mode
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}/socket"

    def close(self) -> None:
        """End everything that is open."""
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _start(self, function: object, *arguments: socket.socket) -> None:
        threading.Thread(target=function, args=arguments, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            if b"upgrade: websocket" in head.lower():
                self.broken += 1
                if self._mode == "refuse":
                    client.sendall(_REFUSAL)
                    client.close()
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open.append(server)
            server.sendall(head)
            self._start(self._pass_on, server, client)
            self._pass_on(client, server)

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def breaking_upgrades(port: int, mode: Mode) -> Iterator[UpgradeBreaker]:
    """A proxy before a port, for as long as the block runs."""
    proxy = UpgradeBreaker(port, mode)
    try:
        yield proxy
    finally:
        proxy.close()
