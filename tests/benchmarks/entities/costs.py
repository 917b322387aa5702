"""Costs of entities: `make bench-entities`.

    python -m tests.benchmarks.entities.costs [local] [remote] [memory] [many] [handover]

- local: the CPU of a call to an entity of the same node, next to a plain call.
- remote: the CPU of a call to another worker, of all processes together, next to an echo of a channel on that server.
- memory: the memory of an idle entity, next to a plain GenServer.
- many: 100,000 entities on two workers.
- handover: a new node that takes over a third of 30,000 entities: the time, and the longest pause of each loop.

All figures are CPU times, except where the text says otherwise. Both sides of a comparison take turns in one run.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import trio

from actors import GenServer, Pid, Reply, Sender, call, open_runtime, spawn
from channels import PubSub
from channels.entities import EntitySupervisor
from supervision import Supervisor
from tests.benchmarks.channels.proc import cpu_seconds, resident
from tests.benchmarks.entities.costs_app import Add, Sum, Total
from tests.channels.transports.frames import TEXT, client_frame
from tests.integration.servers import Server
from tests.integration.valkey import valkey
from tests.integration.worker_servers import WorkersServer

APP = "tests.benchmarks.entities.costs_app"

_UPGRADE = (
    b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class PlainSum(GenServer[None]):
    """The same as `Sum`, without a key."""

    async def init(self) -> None:
        self.total = 0

    async def handle_call(self, request: Add, sender: Sender) -> Reply:
        self.total += request.amount
        return Reply(Total(self.total))


class Client:
    """A client on a plain blocking socket."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=600)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(_UPGRADE)
        self._file = self._socket.makefile("rb")
        while self._file.readline() != b"\r\n":
            pass
        self.push("phx_join", {})
        self.who = self.push("who", {})

    def send(self, event: str, payload: Any) -> None:
        """Push an event, without a wait for the reply."""
        message = json.dumps(["1", "1", "bench:1", event, payload]).encode()
        self._socket.sendall(client_frame(TEXT, message))

    def reply(self) -> Any:
        """Return the next reply."""
        size = self._file.read(2)[1]
        if size >= 126:
            size = int.from_bytes(self._file.read(2 if size == 126 else 8), "big")
        frame = json.loads(self._file.read(size))
        assert frame[4]["status"] == "ok", frame
        return frame[4]["response"]

    def push(self, event: str, payload: Any) -> Any:
        """Push an event, and return the reply."""
        self.send(event, payload)
        return self.reply()

    def close(self) -> None:
        self._file.close()
        self._socket.close()


async def in_a_process(work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` in a process, and wait for its end."""
    done = trio.Event()

    async def process() -> None:
        await work()
        done.set()

    spawn(process)
    await done.wait()


def both(name: str, base: Sequence[float], other: Sequence[float], goal: str) -> None:
    """Print a comparison. Each pair of figures is from one round."""
    ratio = statistics.median(b / a for a, b in zip(base, other, strict=True))
    print(
        f"  {name}: {statistics.median(other):.1f} us, next to {statistics.median(base):.1f} us; "
        f"ratio {ratio:.2f}, the goal is {goal}",
        flush=True,
    )


# A call on the same node


async def _local(rounds: int, calls: int) -> tuple[list[float], list[float]]:
    plain: list[float] = []
    entity: list[float] = []
    async with open_runtime(log=False):
        pubsub, sums = PubSub(), EntitySupervisor("sums", Sum)
        await Supervisor.start_link([pubsub.child_spec(), sums.child_spec(pubsub)])
        pid, address, request = await PlainSum.start_link(), sums.via("a"), Add(1)

        async def work() -> None:
            for number in range(rounds + 1):
                for found, server in ((plain, pid), (entity, address)):
                    start = time.thread_time()
                    for _ in range(calls):
                        await call(server, request)
                    if number:  # the first round warms up
                        found.append((time.thread_time() - start) / calls * 1e6)

        await in_a_process(work)
    return plain, entity


def compare_local(rounds: int) -> None:
    print("A call of an entity on the same node, next to a plain call")
    both("one after the other", *trio.run(_local, rounds, 2_000), "at most 1.3")


# A call to another worker


def compare_remote(rounds: int, calls: int = 2_000) -> None:
    print(
        "A call to another worker, CPU of all processes together, next to an echo of a channel there"
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = WorkersServer(folder, 2, target=f"{APP}:endpoint")
        stack.callback(server.close)
        server.serve()
        time.sleep(1.0)  # the workers have met
        pids = [server.pid, *(each.pid for each in server.workers() if each.pid is not None)]
        clients = [Client(server.port) for _ in range(20)]
        first = clients[0]
        keys = (str(number) for number in range(1000))
        owners = ((key, first.push("owner", {"key": key})["node"]) for key in keys)
        key = next(key for key, node in owners if node != first.who["node"])
        for callers in (1, 20):
            echoes, entity = [], []
            for number in range(rounds + 1):
                start = cpu_seconds(pids)
                for _ in range(calls // callers):
                    for client in clients[:callers]:
                        client.send("echo", {"amount": 1})
                    for client in clients[:callers]:
                        client.reply()
                middle = cpu_seconds(pids)
                first.push("calls", {"key": key, "each": calls // callers, "callers": callers})
                end = cpu_seconds(pids)
                if number:
                    echoes.append((middle - start) / calls * 1e6)
                    entity.append((end - middle) / calls * 1e6)
            both(f"{callers} at a time", echoes, entity, "at most 4")
        for client in clients:
            client.close()


# Memory


def _memory(kind: str, count: int, result: Any) -> None:
    async def main() -> None:
        async with open_runtime(log=False):
            pubsub, sums = PubSub(), EntitySupervisor("sums", Sum)
            await Supervisor.start_link([pubsub.child_spec(), sums.child_spec(pubsub)])

            async def work() -> None:
                kept: list[Pid] = []
                for number in range(count + 1000):
                    if number == 1000:
                        gc.collect()
                        before = resident([os.getpid()])
                    if kind == "entity":
                        await call(sums.via(f"key{number}"), Add(1))
                    else:
                        pid = await PlainSum.start_link()
                        await call(pid, Add(1))
                        kept.append(pid)
                gc.collect()
                result.send((resident([os.getpid()]) - before) / count)
                # Without the orderly end of tens of thousands of processes, which nobody measures.
                os._exit(0)

            await in_a_process(work)

    trio.run(main)


def compare_memory(count: int = 20_000) -> None:
    print(f"The memory of an idle entity, next to a plain GenServer; {count:,} of each")
    context = multiprocessing.get_context("spawn")
    found = {}
    for kind in ("plain", "entity"):
        ours, theirs = context.Pipe()
        process = context.Process(target=_memory, args=(kind, count, theirs))
        process.start()
        found[kind] = ours.recv()
        process.join()
    ratio = found["entity"] / found["plain"]
    print(
        f"  {found['entity']:,.0f} bytes, next to {found['plain']:,.0f} bytes; ratio {ratio:.2f}",
        flush=True,
    )


# Many entities


def measure_many(count: int = 100_000) -> None:
    print(f"{count:,} entities on two workers")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = WorkersServer(folder, 2, target=f"{APP}:endpoint")
        stack.callback(server.close)
        server.serve()
        time.sleep(1.0)
        pids = [server.pid, *(each.pid for each in server.workers() if each.pid is not None)]
        client = Client(server.port)
        nodes = _client_of_each(server.port, len(pids) - 1)
        for each in nodes:
            each.push("meter", {})
        memory = {pid: resident([pid]) for pid in pids}
        cpu, start = cpu_seconds(pids), time.monotonic()
        client.push("start", {"prefix": "k", "first": 0, "after": count, "callers": 100})
        spent = cpu_seconds(pids) - cpu
        print(
            f"  first call of each: {time.monotonic() - start:.1f} s, {spent / count * 1e6:.0f} us of CPU each"
        )
        for each in nodes:
            _print_pause(each, each.who["node"], "during the starts")
        sizes = [each.push("statistics", {})["entities"] for each in nodes]
        print(f"  entities of each worker: {', '.join(f'{size:,}' for size in sizes)}")
        growth = [resident([pid]) - memory[pid] for pid in pids]
        print(
            f"  memory: parent {growth[0] / 1e6:.0f} MB more, workers "
            f"{', '.join(f'{each / 1e6:.0f} MB' for each in growth[1:])} more; {sum(growth) / count:,.0f} bytes each"
        )
        cpu, start = cpu_seconds(pids), time.monotonic()
        client.push("start", {"prefix": "k", "first": 0, "after": count, "callers": 100})
        spent = cpu_seconds(pids) - cpu
        print(
            f"  second call of each: {time.monotonic() - start:.1f} s, {spent / count * 1e6:.0f} us of CPU each"
        )
        cpu = cpu_seconds(pids)
        time.sleep(10.0)
        spent = cpu_seconds(pids) - cpu
        print(f"  idle: {spent / 10:.1%} of a core", flush=True)
        for each in nodes:
            _print_pause(each, each.who["node"], "since then")
            each.close()
        client.close()


def _client_of_each(port: int, count: int) -> list[Client]:
    """Return one client on each worker."""
    found: dict[str, Client] = {}
    while len(found) < count:
        client = Client(port)
        if client.who["node"] in found:
            client.close()
        else:
            found[client.who["node"]] = client
    return [found[node] for node in sorted(found)]


def _print_pause(client: Client, node: str, when: str) -> None:
    pause = client.push("meter", {})
    print(
        f"  longest pause of the loop of {node} {when}: {pause['cpu'] * 1e3:.1f} ms of CPU "
        f"({pause['wall'] * 1e3:.1f} ms by the clock)",
        flush=True,
    )


# A new node


def measure_handover(count: int = 30_000) -> None:
    print(f"A third node takes over a third of {count:,} entities, on Valkey")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(valkey(folder / "valkey", {"maxmemory-policy": "noeviction"}))
        servers = [
            Server(
                APP,
                log=folder / f"node{number}.log",
                environment={"REDIS_URL": redis.url, "NODE_NAME": f"node{number}"},
            )
            for number in range(3)
        ]
        for server in servers[:2]:
            server.start()
            stack.callback(server.kill)
        clients = [Client(server.port) for server in servers[:2]]
        for client in clients:
            client.push("owner", {"key": "first"})
        start = time.monotonic()
        clients[0].push("start", {"prefix": "k", "first": 0, "after": count, "callers": 200})
        print(f"  first call of each: {time.monotonic() - start:.1f} s")
        for client in clients:
            client.push("meter", {})
        pids = [server.pid for server in servers[:2]]
        cpu = cpu_seconds(pids)
        servers[2].start()
        stack.callback(servers[2].kill)
        clients.append(Client(servers[2].port))
        clients[2].push("meter", {})
        began = time.monotonic()
        sizes, before = [0, 0, 0], [0]
        while sum(sizes) <= count or sizes[2] < count / 4 or sizes != before:
            before = sizes
            time.sleep(0.5)
            sizes = [each.push("statistics", {})["entities"] for each in clients]
        spent = cpu_seconds([*pids, servers[2].pid]) - cpu
        print(
            f"  entities of each node: {', '.join(f'{size:,}' for size in sizes)} after "
            f"{time.monotonic() - began:.1f} s; {spent / sizes[2] * 1e6:.0f} us of CPU for each move, start of the "
            "new node included"
        )
        for number, client in enumerate(clients):
            _print_pause(client, f"node{number}", "during the moves")
        clients[0].push("start", {"prefix": "k", "first": 0, "after": count, "callers": 200})
        for client in clients:
            client.close()


PARTS: dict[str, Callable[[int], None]] = {
    "local": compare_local,
    "remote": compare_remote,
    "memory": lambda _: compare_memory(),
    "many": lambda _: measure_many(),
    "handover": lambda _: measure_handover(),
}


def main() -> None:
    """Run the parts that the command line names, or all."""
    parser = argparse.ArgumentParser(
        prog="make bench-entities", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    for part in options.parts or PARTS:
        PARTS[part](options.rounds)


if __name__ == "__main__":
    main()
