"""Costs of hostile clients for a server and its other clients: `make bench-hostile`.

For each attack a server of its own, the attackers in another process, and here a client that means well: it has joined
a room, sends an echo every 20 ms, and measures how long the answer takes. The server measures for how long its loop was
blocked at most.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from attrs import Factory, define

from tests.benchmarks.hostile.attacks import ATTACKS
from tests.benchmarks.hostile.room import NAME, measure_room
from tests.channels.transports.frames import TEXT, client_frame
from tests.integration.servers import ROOT, Server, serving

_UPGRADE = (
    b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_ECHO = client_frame(TEXT, b'["1","2","room:friends","echo",{}]')


@define
class Figures:
    """Measurements of a server under an attack."""

    latencies: list[float] = Factory(list)  # milliseconds
    memory: list[float] = Factory(list)  # megabytes
    files: list[int] = Factory(list)

    def look(self, server: Server, friend: Friend) -> None:
        self.latencies.append(friend.echo() * 1000)
        status = Path(f"/proc/{server.pid}/status").read_text()
        self.memory.append(int(status.partition("VmRSS:")[2].split()[0]) / 1024)
        self.files.append(len(list(Path(f"/proc/{server.pid}/fd").iterdir())))

    def look_for(self, seconds: float, server: Server, friend: Friend) -> Figures:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look(server, friend)
            time.sleep(0.02)
        return self

    def percentile(self, part: float) -> float:
        return sorted(self.latencies)[int(len(self.latencies) * part)]


class Friend:
    """A client that does nothing wrong."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(_UPGRADE)
        while not self._socket.recv(4096).endswith(b"\r\n\r\n"):
            pass
        self._socket.sendall(client_frame(TEXT, b'["1","1","room:friends","phx_join",{}]'))
        self._read()

    def echo(self) -> float:
        """Send one, and return the seconds until the answer."""
        begun = time.perf_counter()
        self._socket.sendall(_ECHO)
        self._read()
        return time.perf_counter() - begun

    def _read(self) -> None:
        size = self._socket.recv(2, socket.MSG_WAITALL)[1]
        if size == 126:
            (size,) = struct.unpack("!H", self._socket.recv(2, socket.MSG_WAITALL))
        assert b'"ok"' in self._socket.recv(size, socket.MSG_WAITALL)

    def close(self) -> None:
        self._socket.close()


def blocked(server: Server) -> list[str]:
    """Ask how long the loop was blocked at most: milliseconds by the clock, and of processor time."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/blocked") as answer:
        return str(answer.read().decode()).split()[:2]


def measure(name: str, strangers: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("tests.benchmarks.hostile.victim", Path(folder)) as server,
    ):
        friend = Friend(server)
        before = Figures().look_for(2, server, friend)
        blocked(server)
        command = [sys.executable, "-m", "tests.benchmarks.hostile.attacks"]
        command += [name, str(server.port), str(strangers)]
        attackers = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        during = Figures()
        while attackers.poll() is None:
            during.look_for(0.1, server, friend)
        longest = ", ".join(blocked(server))
        time.sleep(1)
        after = Figures().look_for(1, server, friend)
        assert attackers.stdout is not None
        result = json.loads(attackers.stdout.read())
        friend.close()
    ends = ", ".join(f"{count:,} {end}" for end, count in sorted(result["ends"].items()))
    memory = " / ".join(
        f"{each:.0f}" for each in (before.memory[-1], max(during.memory), after.memory[-1])
    )
    files = " / ".join(map(str, (before.files[-1], max(during.files), after.files[-1])))
    print(
        f"| {strangers:,} × {name} | {ends} | {result['seconds']:.1f} | {memory} | {files} "
        f"| {statistics.median(before.latencies):.1f}, {before.percentile(0.99):.1f} "
        f"| {statistics.median(during.latencies):.1f}, {during.percentile(0.99):.1f}, "
        f"{max(during.latencies):.0f} | {longest} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="attacks whose name contains this")
    parser.add_argument(
        "--strangers", type=int, default=0, help="how many; each attack has its own"
    )
    options = parser.parse_args()
    print(
        "| attack | they got | s | RSS in MB before / most / after | files before / most / after "
        "| echo before in ms: median, p99 | echo meanwhile: median, p99, most "
        "| loop blocked at most, in ms: by the clock, of processor time |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name, (_, counts) in ATTACKS.items():
        for strangers in (options.strangers,) if options.strangers else counts:
            if options.only in name:
                measure(name, strangers)
    if options.only in NAME:
        measure_room()


if __name__ == "__main__":
    main()
