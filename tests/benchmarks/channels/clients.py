"""Many WebSocket clients in one thread, on epoll. Only the load generator uses them.

They use neither tasks nor a WebSocket library, so the generator needs less CPU than the servers that it measures.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from attrs import define, field

from tests.benchmarks.channels.dialects import Dialect
from tests.benchmarks.channels.wire import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    client_frame,
    frames_in,
    only_text_in,
    request,
    response_end,
)

__all__ = ["Client", "Crowd", "TooLate"]

clock = time.perf_counter

_IN, _OUT = select.EPOLLIN, select.EPOLLIN | select.EPOLLOUT
_GONE = select.EPOLLHUP | select.EPOLLERR
_PIECE = 256 * 1024
# The maximum number of ready sockets in a turn. With one turn for all sockets, an answer that just misses the kernel's
# report waits until the clients have served all other sockets. With 1,000 clients and a busy generator, the 99th
# percentile of an echo was then 1.9 times the mean, and 1.2 to 1.5 times with this limit.
_READY = 64
# The maximum number of connections from one local address. An address has about 28,000 ports for connections to the
# port of the server.
_PER_ADDRESS = 20_000


class TooLate(Exception):
    """The server did not answer the generator in time."""


@define(eq=False)
class Client:
    """One connection.

    Attributes:
        topic: the first room that the client joins.
        on_text: called with each text of the server and the time at which the client read it.
        on_lost: called after the server has closed the connection.
        number: the index of the client in its crowd.
        counter: the eight-digit number of the client's next push.
        expected: the number of the next push that the server has to answer.
        waiting: the answers that the client waits for. Each workload chooses the type.
        began: the time at which the client began to connect.
    """

    crowd: Crowd
    number: int
    topic: str
    on_text: Callable[[Client, bytes, float], None]
    on_lost: Callable[[Client], None]
    join_ref: str = "1"
    counter: int = 10_000_000
    expected: int = 10_000_000
    waiting: Any = None
    began: float = 0.0
    is_open: bool = False
    is_down: bool = False
    _socket: socket.socket = field(init=False)
    _rest: bytes = b""
    _unsent: bytes = b""
    # The frames to send after a read of several frames; None outside such a read.
    _held: list[bytes] | None = None

    def connect(self) -> None:
        """Begin to connect."""
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.began = clock()
        if self.crowd.is_local and self.number >= _PER_ADDRESS:
            self._socket.bind((f"127.0.0.{1 + self.number // _PER_ADDRESS}", 0))
        self._socket.connect_ex(self.crowd.address)
        self._unsent = self.crowd.request
        self.crowd.watch(self._socket.fileno(), self)

    def send(self, data: bytes) -> None:
        """Send encoded frames. Keep the bytes that the socket has no room for."""
        if self._held is not None:
            self._held.append(data)
            return
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the next read notices that the connection has ended
        if sent < len(data):
            self._unsent = data[sent:]
            self.crowd.poll.modify(self._socket.fileno(), _OUT)

    def say(self, text: str) -> None:
        """Send one text."""
        self.send(client_frame(TEXT, text.encode()))

    def ready(self, events: int) -> None:
        """Write or read, as far as the socket is ready."""
        if self._unsent and events & select.EPOLLOUT:
            data, self._unsent = self._unsent, b""
            self.crowd.poll.modify(self._socket.fileno(), _IN)
            self.send(data)
        if events & (_IN | _GONE):
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = clock()
        if not data:
            self.drop()
            self.on_lost(self)
            return
        if self._rest:
            data = self._rest + data
        elif self.is_open and (payload := only_text_in(data)) is not None:
            self.on_text(self, payload, now)
            return
        start = 0
        if not self.is_open:
            start = response_end(data)
            if not start:
                self._rest = data
                return
            self.is_open = True
            self.crowd.opened(self)
        # One system call sends all answers to this read. With one call for each answer, the generator reached the limit
        # of its core before Ashtree did, and the server then found fewer messages in each read.
        self._held = []
        for opcode, payload, end in frames_in(data, start):
            start = end
            if opcode == TEXT:
                self.on_text(self, payload, now)
            elif opcode == PING:
                self.send(client_frame(PONG, payload))
            elif opcode == CLOSE:
                self.send(client_frame(CLOSE, payload[:2]))
        self._send_held()
        self._rest = data[start:]

    def _send_held(self) -> None:
        held, self._held = self._held, None
        if held:
            self.send(b"".join(held))

    def close(self) -> None:
        """Send a closing frame, and end the connection without waiting for the answer."""
        if not self.is_down:
            self._send_held()
            self.send(client_frame(CLOSE, (1000).to_bytes(2, "big")))
            self.drop()

    def drop(self) -> None:
        """End the connection at once."""
        if not self.is_down:
            self.is_down = True
            self.crowd.forget(self._socket.fileno())
            self._socket.close()


class Crowd:
    """All clients of a generator, and the loop that serves them.

    Attributes:
        dialect: the protocol that the clients speak.
        is_local: True if the server listens on 127.0.0.1.
        failures: the reasons why clients could not join, at most a hundred.
        lost: the number of clients whose connection the server closed.
    """

    def __init__(self, url: str, dialect: Dialect) -> None:
        parts = urlsplit(url)
        if parts.scheme != "ws" or parts.hostname is None:
            raise ValueError(f"Invalid URL {url!r}; write ws://HOST:PORT/PATH")
        host = socket.gethostbyname(parts.hostname)
        self.address = (host, parts.port or 80)
        self.is_local = host == "127.0.0.1"
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        self.request = request(f"{parts.hostname}:{parts.port or 80}", path)
        self.dialect = dialect
        self.poll = select.epoll()
        self.failures: list[str] = []
        self.lost = 0
        self._clients: dict[int, Client] = {}
        self._joined: dict[Client, Callable[[Client], None]] = {}

    def watch(self, number: int, client: Client) -> None:
        """Watch the socket of a client that is connecting."""
        self._clients[number] = client
        self.poll.register(number, _OUT)

    def forget(self, number: int) -> None:
        """Stop watching a socket."""
        self._clients.pop(number, None)
        self.poll.unregister(number)

    def turn(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for sockets to become ready, and serve them."""
        clients = self._clients
        for number, events in self.poll.poll(timeout, _READY):
            client = clients.get(number)
            if client is not None:
                client.ready(events)

    def run_for(self, seconds: float) -> None:
        """Serve the sockets for the given number of seconds."""
        end = clock() + seconds
        while (left := end - clock()) > 0:
            self.turn(left)

    def run_until(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        """Serve the sockets until `holds()` is true.

        Raises:
            TooLate: `holds()` was still false after the given number of seconds.
        """
        end = clock() + seconds
        while not holds():
            if clock() > end:
                raise TooLate(f"{what} took more than {seconds:g} s; {self.failures[:3]}")
            self.turn(0.05)

    # Joins

    def join(
        self,
        number: int,
        topic: str,
        on_joined: Callable[[Client], None],
        on_lost: Callable[[Client], None] | None = None,
    ) -> Client:
        """Connect a client that joins a topic. After the join, `on_joined` gets the client and sets its `on_text`."""
        client = Client(self, number, topic, self._joining, on_lost or self._was_lost)
        self._joined[client] = on_joined
        client.connect()
        return client

    def opened(self, client: Client) -> None:
        """Send the greeting of the protocol, because the WebSocket is now open."""
        for text in self.dialect.greeting(client.topic, client.join_ref):
            client.say(text)

    def _joining(self, client: Client, text: bytes, now: float) -> None:
        answers, has_joined = self.dialect.joining(text, client.topic, client.join_ref)
        for answer in answers:
            client.say(answer)
        if has_joined:
            self._joined.pop(client)(client)

    def _was_lost(self, client: Client) -> None:
        self.lost += 1
        if self._joined.pop(client, None) is not None and len(self.failures) < 100:
            self.failures.append(f"the server closed the connection of client {client.number}")

    def join_many(
        self,
        topics: Iterable[str],
        concurrency: int,
        on_joined: Callable[[Client], None] | None = None,
        *,
        timeout: float,
    ) -> list[Client]:
        """Join one client to each topic, at most `concurrency` at a time, and return the clients.

        Raises:
            TooLate: some clients had not joined after `timeout` seconds.
            WireError: the server refused an upgrade.
        """
        waiting = enumerate(topics)
        clients: list[Client] = []
        counts = {"open": 0}

        def start() -> bool:
            for number, topic in waiting:
                counts["open"] += 1
                self.join(number, topic, joined)
                return True
            return False

        def joined(client: Client) -> None:
            client.on_text = self.ignore
            clients.append(client)
            counts["open"] -= 1
            if on_joined is not None:
                on_joined(client)
            start()

        for _ in range(concurrency):
            if not start():
                break
        self.run_until(lambda: counts["open"] == 0, timeout, "joining all clients")
        return sorted(clients, key=lambda client: client.number)

    def ignore(self, client: Client, text: bytes, now: float) -> None:
        """Answer only the texts that ask if the client is alive."""
        answer = self.dialect.keep_alive(text)
        if answer is not None:
            client.say(answer)

    def close(self) -> None:
        """Close all connections."""
        for client in list(self._clients.values()):
            client.close()
        self.poll.close()
