"""The cost of a client: CPU of a push with its reply, beside the same frames over bare trio-websocket, and memory.

    python -m tests.benchmarks.client [--pushes 20000] [--clients 10000]

The server is a process of its own, so the figures are those of the client alone. Both measurements of CPU take turns in
one run, because a rate depends on the machine and a ratio does not.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import trio
from trio_websocket import connect_websocket

from channels.client import open_socket
from tests.integration.servers import Server, serving
from tests.patience import PATIENCE

Measure = Callable[[int], Awaitable[float]]

ROUNDS = 7
PAYLOAD = {"body": "hello", "numbers": [1, 2, 3]}


async def push(server: Server, pushes: int) -> float:
    """Return the seconds of CPU of a push with its reply."""
    async with open_socket(server.socket_url) as socket, socket.channel("room:bench") as channel:
        await channel.push("echo", PAYLOAD)
        start = time.process_time()
        for _ in range(pushes):
            await channel.push("echo", PAYLOAD)
        return (time.process_time() - start) / pushes


async def bare(server: Server, pushes: int) -> float:
    """Return the seconds of CPU of one frame and its answer, encoded and decoded, over bare trio-websocket."""
    async with trio.open_nursery() as nursery:
        connection = await connect_websocket(
            nursery, "127.0.0.1", server.port, "/socket/websocket?vsn=2.0.0", use_ssl=False
        )
        await connection.send_message('["1","1","room:bare","phx_join",{}]')
        await connection.get_message()
        start = time.process_time()
        for ref in range(pushes):
            frame = ("1", str(ref + 2), "room:bare", "echo", PAYLOAD)
            await connection.send_message(msgspec.json.encode(frame).decode())
            msgspec.json.decode(await connection.get_message())
        seconds = (time.process_time() - start) / pushes
        await connection.aclose()
    return seconds


def resident() -> int:
    """Return the memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def memory(server: Server, clients: int) -> None:
    """Print the bytes of a client with one joined channel."""
    async with AsyncExitStack() as stack:
        channels = []

        async def enter(count: int) -> None:
            for _ in range(count):
                opening = open_socket(
                    server.socket_url,
                    connect_timeout=PATIENCE,
                    timeout=PATIENCE,
                    # Just within the idle timeout of the server: ten thousand clients beat 200 times a second.
                    heartbeat_interval=50.0,
                )
                socket = await stack.enter_async_context(opening)
                channel = socket.channel("room:bench")
                await stack.enter_async_context(channel)
                channels.append(channel)

        await enter(50)
        gc.collect()
        before = resident()
        await enter(clients)
        gc.collect()
        size = (resident() - before) / clients
        joined = sum(channel.state == "joined" for channel in channels)
        print(
            json.dumps({"clients": joined, "KB each": round(size / 1000, 1)}, indent=2), flush=True
        )


async def main(server: Server, pushes: int, clients: int) -> None:
    """Print the figures as JSON."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(await bare(server, pushes // ROUNDS))
        ours.append(await push(server, pushes // ROUNDS))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    figures = {
        "push with reply, microseconds of CPU": round(statistics.median(ours) * 1e6, 1),
        "bare trio-websocket, microseconds of CPU": round(statistics.median(theirs) * 1e6, 1),
        "ratio": round(ratio, 2),
    }
    print(json.dumps(figures, indent=2), flush=True)
    if clients:
        await memory(server, clients)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pushes", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=10_000)
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("examples.conformance", Path(folder)) as running,
    ):
        trio.run(main, running, arguments.pushes, arguments.clients)
