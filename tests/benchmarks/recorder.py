"""The cost of the recorder: the CPU time of servers with no recorder, with a closed recorder, and with running ones.

    python -m tests.benchmarks.recorder [--rounds 40] [--seconds 0.15] [--modes echo1 echo8 fanout]

Each kind of server runs in a separate process on the first core. This program has the clients, and runs on the last
core. The clients use plain sockets and ready-made frames, because slow clients would hide the cost of the server. The
servers take turns in short rounds, and the program prints ratios of their costs. A ratio depends less on the machine
than a rate. Two servers have no recorder, so their ratio shows the noise.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import trio

from actors import open_runtime
from channels.cli.serve import tune_collector
from channels.recording import open_recorder
from examples.conformance import endpoint
from tests.benchmarks.channels.interpreter import build_of
from tests.integration.servers import Server

CLIENTS: Final = 100
BODY: Final = "x" * 32
WARM_UP: Final = 5
"""The number of rounds at the beginning that do not count."""


class Kind(NamedTuple):
    """A kind of server: the state of its recorder, and the options of the recorder."""

    recorder: str
    options: Mapping[str, Any] = MappingProxyType({})


KINDS: Final = {
    "no recorder": Kind("none"),
    "no recorder, again": Kind("none"),
    "off (opened and closed)": Kind("off"),
    "ring on": Kind("on"),
    "ring without frames": Kind("on", {"frames": False}),
    "ring without both": Kind("on", {"messages": False, "frames": False}),
    "ring and file": Kind("file"),
}


class Mode(NamedTuple):
    """A load: the event of a push, the number of pushing clients, and the pushes in flight at each of these clients."""

    event: str
    in_flight: int
    pushing: int


MODES: Final = {
    "echo1": Mode("echo", 1, CLIENTS),
    "echo8": Mode("echo", 8, CLIENTS),
    "fanout": Mode("new_msg", 4, 1),
}


@asynccontextmanager
async def recorder(kind: Kind) -> AsyncIterator[None]:
    """Run the recorder of one kind of server."""
    if kind.recorder == "off":
        async with open_recorder():
            pass
    if kind.recorder in ("none", "off"):
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.jsonl" if kind.recorder == "file" else None
        async with open_recorder(file=file, **kind.options):
            yield


async def serve(name: str, port: int) -> None:
    """Serve the example for load generators."""
    async with open_runtime(log=False), recorder(KINDS[name]):
        await endpoint.start_link(port=port)
        # As `ashtree serve` does.
        tune_collector()
        print(f"Serving on http://127.0.0.1:{port}", flush=True)
        await trio.sleep_forever()


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that all threads of a process have used. The resolution is a nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def pin(pid: int, core: int) -> None:
    """Keep a process on a core, if the system allows it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {core})


def frame(text: str) -> bytes:
    """Return a text frame of a client. The mask is zero, so masking does not change the payload."""
    data = text.encode()
    head = bytes((0x81, 0x80 | len(data))) if len(data) < 126 else bytes((0x81, 0xFE))
    size = b"" if len(data) < 126 else len(data).to_bytes(2, "big")
    return head + size + bytes(4) + data


class Client:
    """One client of a server. It counts the bytes that it gets."""

    def __init__(self, port: int, topic: str, push: bytes) -> None:
        self.push = push
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(
            b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        self._expect(b"\r\n\r\n")
        self.socket.sendall(frame(f'["1","1","{topic}","phx_join",{{}}]'))
        self._expect(b"phx_reply", b"}]")
        # All answers have the same size, so the number of bytes gives the number of answers.
        self.socket.sendall(push)
        self.size = len(self._expect(BODY.encode(), b"]"))
        self.got = 0

    def _expect(self, *parts: bytes) -> bytes:
        """Read until the data contain the parts."""
        data = b""
        while not all(part in data for part in parts):
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionError(f"the server ended the connection after {data!r}")
            data += piece
        return data


HEARTBEAT: Final = frame('[null,"3","phoenix","heartbeat",{}]')
"""The server closes the connection of a client that sends nothing for a minute."""


def received(client: Client, size: int) -> int:
    """Read what has arrived, and return its size. Raises BlockingIOError if there is nothing."""
    data = client.socket.recv(size)
    if not data:
        raise ConnectionError("the server closed the connection of a client during a round")
    return len(data)


class Load:
    """The clients of one server in one mode. They stay connected for all rounds."""

    def __init__(self, server: Server, mode: Mode, name: str) -> None:
        self._server, self._mode = server, mode
        self._selector = selectors.DefaultSelector()
        self.clients = [self._connect(name, number) for number in range(CLIENTS)]
        # Early clients have also got the first messages of later clients.
        self._drain()
        for client in self.clients:
            client.socket.setblocking(False)
            self._selector.register(client.socket, selectors.EVENT_READ, client)

    def _connect(self, name: str, number: int) -> Client:
        mode = self._mode
        topic = f"room:{name}" if mode.pushing < CLIENTS else f"room:{name}{number}"
        push = frame(f'["1","2","{topic}","{mode.event}",{{"x":"{BODY}"}}]')
        return Client(self._server.port, topic, push)

    def _drain(self) -> None:
        for client in self.clients:
            client.socket.settimeout(0.02)
            try:
                while client.socket.recv(1 << 20):
                    pass
            except TimeoutError:
                pass

    def round(self, seconds: float) -> float:
        """Return the CPU seconds of the server for one answer. The clients push in a closed loop."""
        mode, clients = self._mode, self.clients
        pushing, others = clients[: mode.pushing], clients[mode.pushing :]
        self._discard(others)
        before = cpu_of(self._server.pid)
        for client in pushing:
            client.socket.send(client.push * mode.in_flight)
        if mode.pushing < CLIENTS:
            answers = self._fan_out(seconds, pushing[0])
        else:
            answers = self._echo(seconds)
        cost = (cpu_of(self._server.pid) - before) / answers
        for client in others:
            client.socket.send(HEARTBEAT)
        return cost

    def _discard(self, clients: Sequence[Client]) -> None:
        """Read the answers to the heartbeats of the last round. Other servers have had their rounds since."""
        for client in clients:
            with suppress(BlockingIOError):
                received(client, 65536)

    def _echo(self, seconds: float) -> int:
        answers, open_ = 0, CLIENTS * self._mode.in_flight
        end = time.perf_counter() + seconds
        while open_:
            is_over = time.perf_counter() > end
            for client in self._ready():
                client.got += received(client, 65536)
                count, client.got = divmod(client.got, client.size)
                answers += count
                if is_over:
                    open_ -= count
                elif count:
                    client.socket.send(client.push * count)
        return answers

    def _fan_out(self, seconds: float, pushing: Client) -> int:
        """Push the next message when all clients have got the oldest message in flight. Return the number of frames."""
        size, waiting = pushing.size, CLIENTS * self._mode.in_flight
        got = done = 0
        sent = self._mode.in_flight
        end = time.perf_counter() + seconds
        while got < waiting * size:
            for client in self._ready():
                got += received(client, 1 << 18)
            done = got // (CLIENTS * size)
            if time.perf_counter() <= end and done + self._mode.in_flight > sent:
                more = done + self._mode.in_flight - sent
                pushing.socket.send(pushing.push * more)
                sent += more
                waiting += CLIENTS * more
        return sent * CLIENTS

    def _ready(self) -> list[Client]:
        found = self._selector.select(10)
        if not found:
            raise TimeoutError("the server did not answer within 10 s")
        return [key.data for key, _ in found]


def compare(
    servers: Mapping[str, Server], mode: str, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Measure the servers in turn, in short rounds. Return the cost of an answer, by server and round."""
    taken: dict[str, list[float]] = {name: [] for name in servers}
    loads = {name: Load(server, MODES[mode], mode) for name, server in servers.items()}
    names = list(loads)
    for number in range(rounds + WARM_UP):
        # Change the order in each round, because a server starts with the caches that the previous server left.
        for name in (*names[number % len(names) :], *names[: number % len(names)]):
            cost = loads[name].round(seconds)
            if number >= WARM_UP:
                taken[name].append(cost)
    for load in loads.values():
        for client in load.clients:
            client.socket.close()
    return taken


def tell(taken: Mapping[str, list[float]], write: Callable[[str], object] = print) -> None:
    """Write the costs, and their ratios to the first server.

    `median` is the median of the ratios within each round, because the machine changes between rounds. `quiet` is the
    cost in a cheap round, at the tenth percentile, and the ratio of these costs. Other programs on the machine can only
    add to a cost, so `quiet` is close to the cost of the code itself.
    """
    base = next(iter(taken.values()))
    for name, seconds in taken.items():
        ratios = sorted(mine / bare for mine, bare in zip(seconds, base, strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        write(
            f"  {name:<26} {statistics.median(seconds) * 1e6:7.2f} us   median "
            f"{statistics.median(ratios):.3f} (half of the rounds: {low:.3f} to {high:.3f})   "
            f"quiet {_cheapest(seconds) * 1e6:.2f} us, {_cheapest(seconds) / _cheapest(base):.3f}"
        )


def _cheapest(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) // 10]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.15, help="of one round")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        trio.run(serve, options.serve, options.port)
        return
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    with tempfile.TemporaryDirectory() as folder:
        servers = {
            name: Server(
                "tests.benchmarks.recorder",
                log=Path(folder) / f"{number}.log",
                arguments=["--serve", name],
            )
            for number, name in enumerate(options.kinds)
        }
        try:
            for server in servers.values():
                server.start()
                pin(server.pid, cores[0])
            pin(0, cores[-1])
            print(f"{build_of()}, {CLIENTS} clients, {options.rounds} rounds")
            for mode in options.modes:
                print(f"{mode}: CPU of the server for each frame that a client gets")
                tell(compare(servers, mode, options.rounds, options.seconds))
        finally:
            for server in servers.values():
                if server.is_running:
                    server.kill()


if __name__ == "__main__":
    main()
