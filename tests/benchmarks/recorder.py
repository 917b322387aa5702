"""The cost of the recorder: the CPU of a server for an echo, without a recorder, beside one that is off, and on.

    python -m tests.benchmarks.recorder [--pushes 400] [--rounds 60]

Each kind of server is a process of its own. They take turns in one run, because a rate depends on the machine and a
ratio does not. Two servers have no recorder, so their ratio shows the noise.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from actors import open_runtime
from channels.cli.serve import tune_collector
from channels.client import ClientChannel, open_socket
from channels.recording import open_recorder
from examples.conformance import endpoint
from tests.integration.servers import Server
from tests.patience import PATIENCE

KINDS = {
    "no recorder": "none",
    "no recorder, again": "none",
    "off (opened and closed)": "off",
    "ring on": "ring",
    "ring and file": "file",
}
CLIENTS = 20
PAYLOAD = {"body": "hello", "numbers": [1, 2, 3]}


@asynccontextmanager
async def recorder(kind: str) -> AsyncIterator[None]:
    """Run the recorder of one kind of server."""
    if kind == "off":
        async with open_recorder():
            pass
    if kind in ("none", "off"):
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.jsonl" if kind == "file" else None
        async with open_recorder(file=file):
            yield


async def serve(kind: str, port: int) -> None:
    """Serve the examples' echo."""
    async with open_runtime(log=False), recorder(kind):
        await endpoint.start_link(port=port)
        # As `ashtree serve` does.
        tune_collector()
        print(f"Serving on http://127.0.0.1:{port}", flush=True)
        await trio.sleep_forever()


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that all threads of a process have used, with nanoseconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


async def join_all(stack: AsyncExitStack, server: Server) -> list[ClientChannel]:
    """Connect the clients of a server, which stay for all rounds."""
    channels = []
    for _ in range(CLIENTS):
        socket = await stack.enter_async_context(
            open_socket(server.socket_url, connect_timeout=PATIENCE, timeout=PATIENCE)
        )
        channels.append(await stack.enter_async_context(socket.channel("room:bench")))
    return channels


async def echo(server: Server, channels: list[ClientChannel], pushes: int) -> float:
    """Return the seconds of CPU of the server for one push with its reply."""
    before = cpu_of(server.pid)

    async def push_all(channel: ClientChannel) -> None:
        for _ in range(pushes // CLIENTS):
            await channel.push("echo", PAYLOAD, timeout=PATIENCE)

    async with trio.open_nursery() as nursery:
        for channel in channels:
            nursery.start_soon(push_all, channel)
    return (cpu_of(server.pid) - before) / pushes


async def compare(servers: dict[str, Server], rounds: int, pushes: int) -> dict[str, list[float]]:
    """Let the servers take turns, in short rounds, and return the seconds of each round."""
    taken: dict[str, list[float]] = {name: [] for name in servers}
    async with AsyncExitStack() as stack:
        channels = {name: await join_all(stack, server) for name, server in servers.items()}
        for number in range(rounds + 3):
            for name, server in servers.items():
                seconds = await echo(server, channels[name], pushes)
                # The first rounds only warm up.
                if number >= 3:
                    taken[name].append(seconds)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pushes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        trio.run(serve, options.serve, options.port)
        return
    with tempfile.TemporaryDirectory() as folder:
        servers = {
            name: Server(
                "tests.benchmarks.recorder",
                log=Path(folder) / f"{number}.log",
                arguments=["--serve", kind],
            )
            for number, (name, kind) in enumerate(KINDS.items())
        }
        try:
            for server in servers.values():
                server.start()
            taken = trio.run(compare, servers, options.rounds, options.pushes)
        finally:
            for server in servers.values():
                if server.is_running:
                    server.kill()
    print(f"Python {sys.version.split()[0]}, {options.rounds} rounds of {options.pushes} pushes")
    base = taken["no recorder"]
    for name, seconds in taken.items():
        # The ratio within each round, because the machine changes between rounds.
        ratios = sorted(mine / bare for mine, bare in zip(seconds, base, strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        print(
            f"{name:<26} {statistics.median(seconds) * 1e6:7.1f} us   ratio "
            f"{statistics.median(ratios):.3f} (half of the rounds: {low:.3f} to {high:.3f})"
        )


if __name__ == "__main__":
    main()
