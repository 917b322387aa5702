"""The cost of durable topics: `make bench-durable`.

    python -m tests.benchmarks.durable [broadcasts] [recovery] [--rounds 5] [--times 1000] [--clients 10000]

- broadcasts: a message to 100 clients, plain and with each storage. Ten clients push, each waits for its reply.
- recovery: clients that come back after the server was killed and started again. Each missed ten messages. The same
  clients on a plain topic, which get nothing, are beside them.

The server is a process of its own, and so is Valkey, whose CPU is not counted. What is compared takes turns in one run,
because a rate depends on the machine and a ratio does not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.benchmarks.durable.crowd import Crowd
from tests.integration.servers import Server, serving
from tests.integration.valkey import valkey

SERVER = "tests.benchmarks.durable.server"
STORAGES = ("plain", "memory", "sqlite", "redis")
PAYLOAD = {"body": "x" * 100}
AUDIENCE, SPEAKERS = 100, 10
TOPICS, MISSED = 100, 10
AT_ONCE = 500
# As SQLite does: each message is on the disk before it is acknowledged.
SAFE = {"appendonly": "yes", "appendfsync": "always"}

_TICKS = os.sysconf("SC_CLK_TCK")
_POSITION = re.compile(rb'"_position":"([^"]+)"')


def cpu(server: Server) -> float:
    """Return the seconds of CPU that the server has used."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak(server: Server) -> float:
    """Return the most memory that the server had at any time, in MB."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1000


def show(title: str, figures: Any) -> None:
    """Print figures as JSON."""
    print(json.dumps({title: figures}, indent=2), flush=True)


# Broadcasts


def broadcasts(server: Server, rounds: int, times: int) -> None:
    """Print the cost of a message to all clients of a topic, for each storage."""
    crowds = {storage: Crowd(server.port) for storage in STORAGES}
    for storage, crowd in crowds.items():
        crowd.enter([(f"{storage}:bench", {})] * AUDIENCE, messages=0, at_once=AUDIENCE)
        crowd.say(times // 10, SPEAKERS, PAYLOAD)
    wall: dict[str, list[float]] = {storage: [] for storage in STORAGES}
    used: dict[str, list[float]] = {storage: [] for storage in STORAGES}
    for _ in range(rounds):
        for storage, crowd in crowds.items():
            before = cpu(server)
            wall[storage].append(crowd.say(times, SPEAKERS, PAYLOAD) / times)
            used[storage].append((cpu(server) - before) / times)
    for storage in STORAGES:
        show(
            f"a message to {AUDIENCE} clients, {storage}",
            {
                "ms": round(statistics.median(wall[storage]) * 1000, 2),
                "ms of CPU": round(statistics.median(used[storage]) * 1000, 2),
                "time beside plain": _ratio(wall[storage], wall["plain"]),
                "CPU beside plain": _ratio(used[storage], used["plain"]),
            },
        )
    for crowd in crowds.values():
        crowd.close()


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 2)


# Recovery


def recovery(server: Server, storage: str, clients: int) -> dict[str, Any]:
    """Return the cost of many clients that come back at once after a kill of the server."""
    topics = [f"{storage}:{number}" for number in range(TOPICS)]
    positions = {}
    for topic in topics:
        with closing(Crowd(server.port)) as crowd:
            crowd.enter([(topic, {})], messages=0, at_once=1)
            found = _POSITION.search(crowd.clients[0].seen)
            positions[topic] = found[1].decode() if found else None
            crowd.say(MISSED, 1, PAYLOAD)
    server.kill()
    server.start()
    joins = [topics[number % TOPICS] for number in range(clients)]
    before = cpu(server)
    with closing(Crowd(server.port)) as crowd:
        start = time.perf_counter()
        crowd.enter(
            [(topic, {"_position": positions[topic]}) for topic in joins],
            messages=0 if storage == "plain" else MISSED,
            at_once=AT_ONCE,
        )
        seconds = time.perf_counter() - start
        return {
            "seconds": round(seconds, 2),
            "seconds of CPU": round(cpu(server) - before, 2),
            "ms of CPU for each client": round((cpu(server) - before) * 1000 / clients, 2),
            "peak memory, MB": round(peak(server)),
        }


def main(server: Server, arguments: argparse.Namespace) -> None:
    """Measure what was asked for."""
    parts = arguments.parts or ["broadcasts", "recovery"]
    if "broadcasts" in parts:
        broadcasts(server, arguments.rounds, arguments.times)
    if "recovery" in parts:
        for storage in ("plain", "sqlite", "redis"):
            title = f"{arguments.clients} clients that come back, {storage}"
            show(title, recovery(server, storage, arguments.clients))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="broadcasts, recovery")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=1000, help="messages in each round")
    parser.add_argument("--clients", type=int, default=10_000)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    load = os.getloadavg()[0]
    show("load of the machine before", round(load, 1))
    with tempfile.TemporaryDirectory() as name, valkey(Path(name) / "valkey", SAFE) as database:
        environment = {"HISTORY": f"{name}/history.db", "REDIS_URL": database.url}
        with serving(SERVER, Path(name), environment) as running:
            main(running, arguments)
