"""Many clients on plain sockets in one loop. They count what they get, and decode nothing."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections import deque
from typing import Any

from tests.channels.transports.frames import TEXT, client_frame
from tests.patience import PATIENCE

__all__ = ["Crowd"]

_UPGRADE = (
    b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_END_OF_HEAD = b"\r\n\r\n"
_REPLY = b'"phx_reply"'
_MESSAGE = b'"said"'
_TAIL = max(len(_REPLY), len(_MESSAGE), len(_END_OF_HEAD)) - 1


def _frame(*message: Any) -> bytes:
    return client_frame(TEXT, json.dumps(message).encode())


class _Client:
    """One client of one topic."""

    def __init__(self, sock: socket.socket, topic: str, params: dict[str, Any]) -> None:
        self.sock = sock
        self.topic = topic
        self.join = _frame("1", "1", topic, "phx_join", params)
        self.is_upgraded = False
        self.replies = 0
        self.messages = 0
        self.seen = b""
        self._tail = b""

    def read(self) -> None:
        """Count what has come."""
        data = self.sock.recv(1 << 20)
        if not data:
            raise ConnectionError(f"the server closed a client of {self.topic}")
        data = self._tail + data
        if not self.is_upgraded:
            self._tail = data
            if _END_OF_HEAD in data:
                self.is_upgraded, self._tail = True, b""
                self.sock.sendall(self.join)
            return
        if not self.replies:
            self.seen = data[:1000]
        self.replies += _count(data, _REPLY, self._tail)
        self.messages += _count(data, _MESSAGE, self._tail)
        self._tail = data[-_TAIL:]


def _count(data: bytes, mark: bytes, tail: bytes) -> int:
    """Count a mark in the data, without those that are whole in its beginning, which was counted before."""
    return data.count(mark) - tail.count(mark)


class Crowd:
    """Clients of one server.

    Args:
        port: the port of the server.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self.clients: list[_Client] = []

    def close(self) -> None:
        """Close all connections."""
        for client in self.clients:
            client.sock.close()
        self._selector.close()

    def enter(self, joins: list[tuple[str, dict[str, Any]]], messages: int, at_once: int) -> None:
        """Connect one client for each topic and join params, and wait until each has joined and got its messages.

        At most `at_once` of them are on their way at the same time.
        """
        waiting = deque(joins)
        coming: set[_Client] = set()
        while waiting or coming:
            while waiting and len(coming) < at_once:
                coming.add(self._open(*waiting.popleft()))
            for client in self._read():
                if client.replies == 1 and client.messages >= messages:
                    coming.discard(client)
        assert all(client.messages == messages for client in self.clients)

    def _open(self, topic: str, params: dict[str, Any]) -> _Client:
        sock = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(_UPGRADE)
        sock.setblocking(False)
        client = _Client(sock, topic, params)
        self.clients.append(client)
        self._selector.register(sock, selectors.EVENT_READ, client)
        return client

    def _read(self) -> list[_Client]:
        """Wait until some clients have got something, and return them."""
        ready = self._selector.select(PATIENCE)
        assert ready, "nothing came from the server"
        for key, _ in ready:
            key.data.read()
        return [key.data for key, _ in ready]

    def say(self, times: int, speakers: int, payload: dict[str, Any]) -> float:
        """Push messages, and wait until all clients have all of them. Return the seconds that this took.

        The first `speakers` clients push in turn. Each waits for its reply before it pushes again.
        """
        clients = self.clients
        before = sum(client.messages for client in clients)
        answered = sum(client.replies for client in clients)
        goal = before + times * len(clients)
        ref = 1
        start = time.perf_counter()

        def push(client: _Client) -> None:
            nonlocal ref
            ref += 1
            client.sock.sendall(_frame("1", str(ref), client.topic, "say", payload))

        pushed = min(speakers, times)
        for client in clients[:pushed]:
            push(client)
        replies = {client: client.replies for client in clients[:speakers]}
        while True:
            for client in self._read():
                if client.replies > replies.get(client, client.replies):
                    replies[client] = client.replies
                    if pushed < times:
                        pushed += 1
                        push(client)
            if pushed < times:
                continue
            if sum(client.messages for client in clients) >= goal:
                break
        seconds = time.perf_counter() - start
        while sum(client.replies for client in clients) < answered + times:
            self._read()
        return seconds
