"""One client that never reads, in a room of 1,000: `make bench-hostile ARGS='--only never'`.

The first member sends messages as fast as the others receive them. At most two messages are on their way at a time.
Rounds without the slow client alternate with rounds that include it. A round with the slow client ends shortly after
the server has closed the slow client. A round without the slow client has as many messages as the round before it.
"""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

from attrs import Factory, define

from tests.channels.transports.frames import PONG, TEXT, client_frame
from tests.integration.servers import serving

__all__ = ["NAME", "Room", "measure_room"]

NAME = "a client that never reads, in a room of 1,000"

MEMBERS = 1000
ROUNDS = 5
_CHUNK = 100  # messages between two requests for the server's figures
_AFTERWARDS = 2  # chunks after the close of the slow client
_MOST_CHUNKS = 100
_WINDOW = 2  # messages that may be on their way at a time
_SAMPLED = 20  # measure the latency of one member in 20
_PAYLOAD = {"text": "x" * 8000}  # long, so that the limit on bytes applies first
_UPGRADE = (
    b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_JOIN = client_frame(TEXT, b'["1","1","room:crowd","phx_join",{}]')
_TALK = client_frame(
    TEXT, json.dumps(["1", None, "room:crowd", "new_msg", _PAYLOAD], separators=(",", ":")).encode()
)

_PONG = client_frame(PONG, b"")  # the server closes clients that send nothing for a minute


def _member(port: int, *, buffer: int | None = None) -> socket.socket:
    """Connect and join. `buffer` limits the bytes that the kernel keeps for a client that does not read."""
    sock = socket.socket()
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.connect(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(_UPGRADE + _JOIN)
    got = b""
    while b'"ok"' not in got:
        got += sock.recv(4096)
    return sock


@define
class Round:
    """The figures of one round.

    Attributes:
        latencies: milliseconds from the push of a message until a member has it.
        chunks: the number of chunks of messages in the round.
        closed_after: the number of messages until the server closed the slow client. None without a slow client.
        memory: the peak memory of the server in megabytes.
    """

    latencies: list[float] = Factory(list)
    chunks: int = 0
    closed_after: int | None = None
    memory: float = 0.0

    @property
    def messages(self) -> int:
        return self.chunks * _CHUNK

    @property
    def p99(self) -> float:
        return sorted(self.latencies)[int(len(self.latencies) * 0.99)]


class Room:
    """The members of a room. The first member sends all messages.

    Attributes:
        size: the number of bytes of a message that a member receives.
    """

    def __init__(self, port: int, pid: int, *, members: int = MEMBERS) -> None:
        self._port, self._pid, self._members = port, pid, members
        self._poll = select.epoll()
        self._sockets = {sock.fileno(): sock for sock in (self._join() for _ in range(members))}
        self._talker = next(iter(self._sockets.values()))
        self._sampled = set(list(self._sockets)[::_SAMPLED])
        self.size = self._size_of_a_message()

    def _join(self) -> socket.socket:
        sock = _member(self._port)
        sock.setblocking(False)
        self._poll.register(sock, select.EPOLLIN)
        return sock

    def _size_of_a_message(self) -> int:
        """Send one message, and return the bytes that each member gets. All messages have the same size."""
        self._talker.sendall(_TALK)
        got = dict.fromkeys(self._sockets, 0)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            for fd, _ in self._poll.poll(0.1):
                got[fd] += len(self._sockets[fd].recv(65536))
        (size,) = set(got.values())
        return size

    def chunk(self, latencies: list[float]) -> None:
        """Send `_CHUNK` messages, and wait until every member has them."""
        size, sampled, sockets = self.size, self._sampled, self._sockets
        got = dict.fromkeys(sockets, 0)
        have_it = [0] * (_CHUNK + 1)  # the number of members by their least number of messages
        sent: list[float] = []
        everyone_has = 0
        while everyone_has < _CHUNK:
            while len(sent) < _CHUNK and len(sent) - everyone_has < _WINDOW:
                sent.append(time.perf_counter())
                self._talker.sendall(_TALK)
            for fd, _ in self._poll.poll():
                before, data = got[fd], sockets[fd].recv(65536)
                if not data:
                    raise RuntimeError("the server closed a member that reads")
                got[fd] = now = before + len(data)
                for number in range(before // size, now // size):
                    have_it[number + 1] += 1
                    if fd in sampled:
                        latencies.append((time.perf_counter() - sent[number]) * 1000)
            while everyone_has < _CHUNK and have_it[everyone_has + 1] == self._members:
                everyone_has += 1

    def memory(self) -> float:
        status = Path(f"/proc/{self._pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def overflows(self) -> int:
        """Return the number of clients that the server has closed because they read too slowly."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/overflows") as answer:
            return int(answer.read())

    def alone(self, chunks: int) -> Round:
        """Send messages without a slow client in the room."""
        figures = Round()
        for _ in range(chunks):
            self._talk(figures)
        return figures

    def with_slow_client(self) -> Round:
        """Send messages until the server has closed a client that never reads. Then send two chunks more."""
        figures = Round()
        before = self.overflows()
        slow = _member(self._port, buffer=4096)
        left = _AFTERWARDS
        while left and figures.chunks < _MOST_CHUNKS:
            with contextlib.suppress(OSError):  # the server has closed the slow client
                slow.sendall(_PONG)
            self._talk(figures)
            if figures.closed_after is not None:
                left -= 1
            elif self.overflows() > before:
                figures.closed_after = figures.chunks * _CHUNK
        slow.close()
        return figures

    def _talk(self, figures: Round) -> None:
        for sock in self._sockets.values():
            sock.sendall(_PONG)
        self.chunk(figures.latencies)
        figures.chunks += 1
        figures.memory = max(figures.memory, self.memory())


def measure_room() -> None:
    """Run all rounds, and print their figures and the medians of the ratios."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    print(
        f"\n{NAME}\n\n| round | messages | closed after messages | p99 alone, ms | p99 with it, ms | ratio "
        "| most RSS alone, MB | most RSS with it, MB |\n|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("tests.benchmarks.hostile.victim", Path(folder)) as server,
    ):
        room = Room(server.port, server.pid)
        # This round warms the server up, and determines the number of messages for the next round.
        chunks = room.with_slow_client().chunks
        ratios, growths = [], []
        for number in range(1, ROUNDS + 1):
            alone, crowded = room.alone(chunks), room.with_slow_client()
            chunks = crowded.chunks
            ratios.append(crowded.p99 / alone.p99)
            growths.append(crowded.memory - alone.memory)
            print(
                f"| {number} | {crowded.messages:,} | {crowded.closed_after} | {alone.p99:.1f} "
                f"| {crowded.p99:.1f} | {ratios[-1]:.2f} | {alone.memory:.0f} | {crowded.memory:.0f} |",
                flush=True,
            )
    print(
        f"\nMedian ratio of p99: {statistics.median(ratios):.2f}. Median growth of RSS: "
        f"{statistics.median(growths):.1f} MB, most {max(growths):.1f} MB.",
        flush=True,
    )
