"""Costs of several nodes: `make bench-nodes`.

    python -m tests.benchmarks.nodes [workers] [broadcasts] [presences] [latency] [--rounds 5]

- workers: CPU of the server for each frame that a client gets, with one worker and with two. The parent counts too. Two
  servers with one worker each, which get the same pushes, show what two processes cost on this machine without a link.
- broadcasts: CPU of one broadcast for four nodes together, by the number of nodes with members, of topics and of
  subscribers of other topics.
- presences: joins, diffs and memory of many presences on three nodes.
- latency: the time until a node and its clients see a join on another node, through Valkey.

Both sides of a comparison take turns in one run, because a rate depends on the machine and a ratio does not.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import selectors
import socket
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio
import trio.testing

from actors import Pid, open_runtime, receive, spawn
from channels import Broadcast, PubSub
from channels.presence import Presence
from channels.pubsub.local import Fastlane
from channels.pubsub.redis import RedisAdapter
from channels.serializers.serializer import Codec
from channels.serializers.v2 import V2
from channels.testing import JoinedNodes
from supervision import Supervisor
from tests.channels.transports.frames import TEXT, client_frame
from tests.integration.valkey import valkey
from tests.integration.worker_servers import WorkersServer

_UPGRADE = (
    b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_PAYLOAD = {"body": "x" * 100}


# Workers


class Clients:
    """Clients of one room on plain sockets, which only count the bytes that they get.

    Args:
        ports: the ports of the servers, which take turns. Without links, each server has a room of its own.
        count: the number of clients.
    """

    def __init__(self, ports: Sequence[int], count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._buffer = bytearray(1 << 18)
        self.rooms: list[list[socket.socket]] = [[] for _ in ports]
        for number in range(count):
            room = number % len(ports)
            self.rooms[room].append(self._open(ports[room]))

    def _open(self, port: int) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(_UPGRADE)
        while not sock.recv(4096).endswith(b"\r\n\r\n"):
            pass
        sock.sendall(client_frame(TEXT, b'["1","1","room:bench","phx_join",{}]'))
        sock.recv(4096)
        self._selector.register(sock, selectors.EVENT_READ)
        return sock

    def broadcast(self, bursts: int, *, length: int) -> int:
        """Broadcast bursts of messages. Return the number of frames that the clients got.

        A client sends a burst with one call, and everybody gets all of it before another client sends the next. So one
        worker and two join the same number of frames into one write. If each broadcast that has arrived let another
        client send the next, the broadcasts would spread over the workers, and two workers would need two to three
        times as many writes: that is the cost of smaller writes, and not the cost of the way between workers.

        Args:
            bursts: the number of bursts.
            length: the number of broadcasts in a burst.
        """
        push = client_frame(
            TEXT, json.dumps(["1", None, "room:bench", "new_msg", _PAYLOAD]).encode()
        )
        # The frame of a broadcast: two bytes of header and two of length, and the JSON without spaces.
        body = json.dumps([None, None, "room:bench", "new_msg", _PAYLOAD], separators=(",", ":"))
        frame = len(body) + (4 if len(body) > 125 else 2)
        frames = length * sum(map(len, self.rooms))
        for burst in range(bursts):
            for room in self.rooms:
                room[burst % len(room)].sendall(push * length)
            missing = frames * frame
            while missing:
                for key, _ in self._selector.select(timeout=30):
                    missing -= key.fileobj.recv_into(self._buffer)  # type: ignore[union-attr]
        return bursts * frames

    def close(self) -> None:
        for room in self.rooms:
            for sock in room:
                sock.close()
        self._selector.close()


def cpu_of(pids: Sequence[int]) -> float:
    """Return the seconds of CPU that processes have used. The counters of `/proc/PID/stat` only grow in hundredths."""
    threads = [path for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(path.read_text().split()[0]) for path in threads) / 1e9


def compare_workers(rounds: int, clients: int, frames: int) -> None:
    """Print the CPU of a frame with one worker and with two, with one and with twenty broadcasts under way."""
    with ExitStack() as stack:
        sides: dict[str, tuple[list[int], Clients]] = {}
        for name, counts in {"one worker": [1], "two workers": [2], "two servers": [1, 1]}.items():
            pids, ports = [], []
            for count in counts:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                server = WorkersServer(folder, count, target="examples.conformance:endpoint")
                server.serve()
                stack.callback(server.close)
                pids += [server.pid, *(each.pid for each in server.workers() if each.pid)]
                ports.append(server.port)
            sides[name] = pids, Clients(ports, clients)
            stack.callback(sides[name][1].close)
        print(f"CPU for each delivered frame, {clients} clients in one room, parent included")
        for length in (1, 20):
            figures: dict[str, list[float]] = {name: [] for name in sides}
            for _ in range(rounds + 1):
                for name, (pids, room) in sides.items():
                    before = cpu_of(pids)
                    got = room.broadcast(frames // clients // length, length=length)
                    figures[name].append((cpu_of(pids) - before) / got * 1e6)
            print(f"  broadcasts under way: {length}")
            for name, (_, *values) in figures.items():
                ratio = statistics.median(
                    value / one
                    for value, one in zip(values, figures["one worker"][1:], strict=True)
                )
                print(
                    f"    {name:14}{statistics.median(values):6.2f} us   {spread(values)}   ratio {ratio:.2f}"
                )
            print("    the goal for two workers is a ratio of at most 1.15")


# Broadcasts


class _Sink:
    """An out-buffer that forgets what is put into it."""

    def __init__(self) -> None:
        self.frames = 0

    def put(self, frame: bytes) -> None:
        self.frames += 1


class Node:
    """A node without an endpoint: a PubSub, and a process that has subscribed for clients."""

    def __init__(self, network: JoinedNodes, name: str) -> None:
        self.pubsub = PubSub(network.adapter(name))
        self.sink = _Sink()
        self._codec = Codec(V2(), lambda data: data)

    async def start(self) -> None:
        await Supervisor.start_link([self.pubsub.child_spec()])

    async def subscribe(self, topics: Sequence[str], each: int = 1) -> Pid:
        done = trio.Event()

        async def client() -> None:
            lane = Fastlane(self.sink, self._codec, frozenset())  # type: ignore[arg-type]
            for topic in topics:
                for _ in range(each):
                    self.pubsub.subscribe(topic, metadata=lane)
            done.set()
            await receive()

        pid = spawn(client)
        await done.wait()
        return pid


async def cost_of_a_broadcast(
    *, members_on: int, other_topics: int = 0, others_on_each: int = 0, times: int = 3_000
) -> float:
    """Return the microseconds of CPU of a broadcast for four nodes together."""
    async with open_runtime():
        network = JoinedNodes(heartbeat=3600.0)
        nodes = [Node(network, name) for name in "abcd"]
        for number, node in enumerate(nodes):
            await node.start()
            if number < members_on:
                await node.subscribe(["room:bench"])
            if other_topics:
                topics = [f"other:{n}" for n in range(other_topics)]
                await node.subscribe(topics, others_on_each)
        # The sender is a node of its own, so that members on each node are alike.
        sender = PubSub(network.adapter("sender"))
        await Supervisor.start_link([sender.child_spec()])
        message = Broadcast("room:bench", "new_msg", _PAYLOAD)
        gc.collect()
        start = time.process_time()
        for n in range(times):
            sender.broadcast("room:bench", message)
            if n % 100 == 99:
                await trio.testing.wait_all_tasks_blocked()
        while sum(node.sink.frames for node in nodes) < times * members_on:
            await trio.testing.wait_all_tasks_blocked()
        return (time.process_time() - start) / times * 1e6


def compare_broadcasts(rounds: int) -> None:
    cases: dict[str, dict[str, int]] = {
        "members on no node": {"members_on": 0},
        "on one of four": {"members_on": 1},
        "on two": {"members_on": 2},
        "on all four": {"members_on": 4},
        "on all four, 10,000 other topics": {
            "members_on": 4,
            "other_topics": 10_000,
            "others_on_each": 1,
        },
        "on all four, 100 other topics with 100 subscribers each": {
            "members_on": 4,
            "other_topics": 100,
            "others_on_each": 100,
        },
    }
    figures: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            figures[name].append(trio.run(partial(cost_of_a_broadcast, **case)))
    print("CPU of one broadcast for four nodes and the sender together")
    for name, values in figures.items():
        print(f"  {name:58} {statistics.median(values):6.2f} us   {spread(values)}")


# Presences


async def measure_presences(count: int) -> None:
    """Track many presences on three nodes, and print what it costs."""
    async with open_runtime():
        network = JoinedNodes()
        nodes: list[tuple[PubSub, Presence]] = []
        for name in "abc":
            pubsub, presence = PubSub(network.adapter(name)), Presence(max_calls_per_second=1e9)
            await Supervisor.start_link([pubsub.child_spec(), presence.child_spec(pubsub)])
            nodes.append((pubsub, presence))
        await trio.sleep(3.0)
        gc.collect()
        memory, start = resident(), time.process_time()
        joins: list[float] = []
        owner = spawn(trio.sleep_forever)
        for n in range(count):
            presence = nodes[n % 3][1]
            begun = time.perf_counter()
            presence.track(
                f"room:{n % 200}", f"user {n}", {"status": "here", "device": "phone"}, pid=owner
            )
            joins.append(time.perf_counter() - begun)
            if n % 50 == 49:
                await trio.sleep(0.01)
        # The other nodes have no event for it.
        while any(each.statistics()["presences"] < count for _, each in nodes):  # noqa: ASYNC110
            await trio.sleep(0.1)
        used = time.process_time() - start
        gc.collect()
        each = (resident() - memory) / count / 3
        joins.sort()
        print(f"{count} presences in 200 topics on three nodes in one process")
        middle, late = (joins[int(count * part)] * 1e6 for part in (0.5, 0.99))
        print(f"  a call of track           {middle:6.0f} us, p99 {late:.0f} us")
        print(
            f"  CPU of a join for all     {used / count * 1e6:6.0f} us, with its diffs and the exchange"
        )
        print(f"  memory on each node       {each:6.0f} bytes for a presence")
        start = time.process_time()
        for n in range(1_000):
            nodes[n % 3][1].update(f"room:{n % 200}", f"user {n}", {"status": "away"}, pid=owner)
            if n % 50 == 49:
                await trio.sleep(0.01)
        await trio.sleep(1.0)
        used = time.process_time() - start
        print(f"  CPU of an update for all  {used / 1_000 * 1e6:6.0f} us")


async def measure_latency(joins: int, url: str) -> None:
    """Print the time from a join on one node until another node sees it. The nodes meet at Valkey.

    New presences come at random times, 20 in a second, so that some wait for the interval of the presence.
    """
    async with open_runtime():
        nodes: list[tuple[PubSub, Presence]] = []
        for name in "ab":
            pubsub, presence = PubSub(RedisAdapter(url, node_name=name)), Presence()
            await Supervisor.start_link([pubsub.child_spec(), presence.child_spec(pubsub)])
            nodes.append((pubsub, presence))
        (_, here), (there, other) = nodes
        begun: dict[str, float] = {}
        seen: dict[str, float] = {}
        told: dict[str, float] = {}

        async def client() -> None:
            there.subscribe("room:1")
            while True:
                message = await receive()
                now = time.perf_counter()
                told.update((key, now - begun[key]) for key in message.payload["joins"])

        async def reader() -> None:
            while True:
                await trio.sleep(0.0005)
                now = time.perf_counter()
                for key in begun.keys() - seen.keys():
                    if key in other.snapshot("room:1"):
                        seen[key] = now - begun[key]

        spawn(client)
        spawn(reader)
        await trio.sleep(4.0)
        owner, chance = spawn(trio.sleep_forever), random.Random(1)
        for n in range(joins):
            await trio.sleep(chance.expovariate(20.0))
            begun[f"user {n}"] = time.perf_counter()
            here.track("room:1", f"user {n}", {"status": "here"}, pid=owner)
        await trio.sleep(1.0)
        print(f"{joins} joins on one node, 20 in a second, seen on another one through Valkey")
        for who, times in (("its presences", seen), ("its clients", told)):
            middle, late = (
                sorted(times.values())[int(len(times) * part)] * 1e3 for part in (0.5, 0.99)
            )
            print(
                f"  {who:14} {len(times)}, p50 {middle:.1f} ms, p99 {late:.1f} ms,"
                f" highest {max(times.values()) * 1e3:.1f} ms"
            )


def resident() -> int:
    """Return the bytes of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def spread(values: Sequence[float]) -> str:
    return f"({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    kinds = ["workers", "broadcasts", "presences", "latency"]
    parser.add_argument("kinds", nargs="*", choices=kinds)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, nargs="+", default=[200, 1_000])
    parser.add_argument("--frames", type=int, default=400_000)
    parser.add_argument("--presences", type=int, default=20_000)
    parser.add_argument("--joins", type=int, default=1_000)
    options = parser.parse_args()
    kinds = options.kinds or kinds
    if "workers" in kinds:
        for clients in options.clients:
            compare_workers(options.rounds, clients, options.frames)
    if "broadcasts" in kinds:
        compare_broadcasts(options.rounds)
    if "presences" in kinds:
        trio.run(measure_presences, options.presences)
    if "latency" in kinds:
        with tempfile.TemporaryDirectory() as folder, valkey(Path(folder)) as server:
            trio.run(measure_latency, options.joins, server.url)


if __name__ == "__main__":
    main()
