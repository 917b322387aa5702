"""Three nodes as three programs, on a real Valkey server that has accidents.

Every broadcast reaches every client at most once. What a node reports as lost is exactly what its clients miss.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio_websocket import WebSocketConnection

from tests.integration.redis_node import OPTIONS
from tests.integration.servers import Server
from tests.integration.valkey import Valkey, valkey
from tests.patience import PATIENCE, until
from tests.websockets import open_websocket

NAMES = ("a", "b", "c")
NODE_TIMEOUT = 3.0
HEARTBEAT = 0.25
PAUSE = 0.01
# The types of clients for CLIENT KILL: subscribers and publishers.
KINDS = ("pubsub", "normal")

# Short, so that a frozen server is noticed within a test. Real systems need the defaults.
TIMES = {
    "heartbeat": HEARTBEAT,
    "node_timeout": NODE_TIMEOUT,
    "server": {"connect_timeout": 1.0, "ping_interval": 0.3, "ping_timeout": 1.0},
}


class Client:
    """A client of a node, with everything that it has heard.

    Attributes:
        heard: the number of times that each message has come, by its speaker and its number.
        said: messages of this client that its node has broadcast.
    """

    def __init__(self, node: str, number: int) -> None:
        self.node = node
        self.name = f"{node}{number}"
        self.heard: dict[tuple[str, int], int] = {}
        self.said = 0
        self._connection: WebSocketConnection | None = None
        self._answers: dict[str, trio.MemorySendChannel[Any]] = {}
        self._refs = 0

    async def main(self, port: int, joined: Callable[[], None]) -> None:
        """Join the rooms, and listen."""
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream, trio.open_nursery() as nursery:
            self._connection = connection = await open_websocket(
                nursery, stream, f"127.0.0.1:{port}", timeout=PATIENCE
            )
            nursery.start_soon(self._join, joined)
            while True:
                self._take(json.loads(await connection.get_message()))

    async def _join(self, joined: Callable[[], None]) -> None:
        for topic in ("room:lobby", "room:crowd"):
            await self.push("phx_join", {}, topic=topic)
        joined()

    def _take(self, frame: Any) -> None:
        _, ref, _, event, payload = frame
        if event == "said":
            key = payload["by"], payload["n"]
            self.heard[key] = self.heard.get(key, 0) + 1
        elif event == "phx_reply":
            self._answers.pop(ref).send_nowait(payload)

    async def push(self, event: str, payload: Any, *, topic: str = "room:lobby") -> Any:
        """Push an event, and return the response."""
        assert self._connection is not None
        self._refs += 1
        ref = str(self._refs)
        self._answers[ref], answers = trio.open_memory_channel[Any](1)
        await self._connection.send_message(json.dumps([topic, ref, topic, event, payload]))
        with trio.fail_after(PATIENCE):
            answer = await answers.receive()
        assert answer["status"] == "ok", answer
        return answer["response"]

    async def statistics(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.push("statistics", {})
        return found

    async def talk(self, until_set: trio.Event) -> None:
        while not until_set.is_set():
            await self.push("say", {"by": self.name, "n": self.said})
            self.said += 1
            await trio.sleep(PAUSE)


class Cluster:
    """A server and its nodes."""

    def __init__(self, server: Valkey, nodes: dict[str, Server]) -> None:
        self.server = server
        self.nodes = nodes

    def log(self) -> str:
        return "\n".join(f"{name}: {node.output()}" for name, node in self.nodes.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("nodes")
    with valkey(folder / "valkey") as server:
        nodes = {}
        # The system buffers little for a Unix socket, so the server soon notices that node b does not read.
        urls = {"a": server.url, "b": f"unix://{server.path}", "c": server.url}
        for name in NAMES:
            options = json.dumps({"url": urls[name], "node_name": name, **TIMES})
            nodes[name] = Server(
                "tests.integration.redis_node",
                log=folder / f"{name}.log",
                environment={OPTIONS: options},
            )
        with ThreadPoolExecutor() as pool:
            list(pool.map(Server.start, nodes.values()))
        try:
            yield Cluster(server, nodes)
        finally:
            with ThreadPoolExecutor() as pool:
                list(pool.map(Server.stop, nodes.values()))


@pytest.fixture
def cluster(whole: Cluster) -> Cluster:
    """All nodes run, whatever the test before has done to them."""
    for node in whole.nodes.values():
        if not node.is_running:
            node.start()
    return whole


class Talk:
    """Two clients on each node, of which one talks.

    Attributes:
        clients: by the name of their node.
    """

    def __init__(self, cluster: Cluster, nursery: trio.Nursery) -> None:
        self.cluster = cluster
        self.clients = {name: [Client(name, n) for n in range(2)] for name in NAMES}
        self._nursery = nursery
        self._enough = trio.Event()
        self._before: dict[str, dict[str, Any]] = {}
        self._crowd = 0
        self._talking = 0

    async def begin(self) -> None:
        joined: list[None] = []
        for name, clients in self.clients.items():
            for client in clients:
                port = self.cluster.nodes[name].port
                self._nursery.start_soon(client.main, port, lambda: joined.append(None))
        await until(lambda: len(joined) == 6, self.cluster.log)
        await self.all_up()
        self._before = await self.statistics()
        for clients in self.clients.values():
            self._nursery.start_soon(self._talk, clients[0])

    async def _talk(self, client: Client) -> None:
        self._talking += 1
        await client.talk(self._enough)
        self._talking -= 1

    async def statistics(self) -> dict[str, dict[str, Any]]:
        return {name: await clients[1].statistics() for name, clients in self.clients.items()}

    async def all_up(self) -> None:
        """Wait until all nodes are connected, and know each other."""
        with trio.fail_after(PATIENCE):
            while True:
                found = [each["adapter"] for each in (await self.statistics()).values()]
                if all(each["connected"] and each["nodes"] == 2 for each in found):
                    return
                await trio.sleep(0.05)

    async def disconnects(self, count: int = 1, nodes: tuple[str, ...] = NAMES) -> None:
        """Wait until these nodes have lost that many connections since the beginning."""
        with trio.fail_after(PATIENCE):
            while True:
                now = await self.statistics()
                lost = [
                    now[name]["adapter"]["disconnects"]
                    - self._before[name]["adapter"]["disconnects"]
                    for name in nodes
                ]
                if min(lost) >= count:
                    return
                await trio.sleep(0.05)

    async def more(self) -> None:
        """Wait until every talker has said more, and every client has heard it from every node."""
        marks = {clients[0].name: clients[0].said for clients in self.clients.values()}

        def heard() -> bool:
            return all(
                any((name, n) in client.heard for n in range(mark, mark + 10_000))
                for clients in self.clients.values()
                for client in clients
                for name, mark in marks.items()
            )

        await until(heard, self.cluster.log)

    async def crowd(self, node: str, *, count: int, size: int) -> None:
        """Send large messages from one node, to the clients of all."""
        self._crowd += count
        payload = {"by": f"crowd-{node}", "count": count, "size": size}
        await self.clients[node][1].push("crowd", payload)

    async def end(self) -> dict[str, int]:
        """Stop to talk. Compare the losses that nodes count and that clients miss, and return them for each node."""
        self._enough.set()
        await until(lambda: self._talking == 0)
        said = {name: clients[0].said for name, clients in self.clients.items()}
        crowd = {"a": self._crowd, "b": 0, "c": 0}
        with trio.fail_after(PATIENCE):
            while True:
                now = await self.statistics()
                counted = {name: self._counted(name, now) for name in NAMES}
                expected = {
                    name: sum(said[other] + crowd[other] for other in NAMES if other != name)
                    for name in NAMES
                }
                # A heartbeat tells the others what they have lost at the end.
                if all(sum(counted[name]) == expected[name] for name in NAMES):
                    break
                await trio.sleep(0.05)
        await self._check_clients(said, crowd, {name: lost for name, (lost, _) in counted.items()})
        return {name: lost for name, (lost, _) in counted.items()}

    def _counted(self, name: str, now: dict[str, dict[str, Any]]) -> tuple[int, int]:
        """Return how many messages a node has lost and received since the beginning."""
        after, before = now[name]["adapter"], self._before[name]["adapter"]
        return after["lost"] - before["lost"], after["received"] - before["received"]

    async def _check_clients(
        self, said: dict[str, int], crowd: dict[str, int], lost: dict[str, int]
    ) -> None:
        for name, clients in self.clients.items():
            messages = {(f"{other}0", n) for other in NAMES for n in range(said[other])}
            messages |= {(f"crowd-{other}", n) for other in NAMES for n in range(crowd[other])}
            for client in clients:
                # What the node has received may still be on its way to the client.
                await until(lambda: len(client.heard) >= len(messages) - lost[name])  # noqa: B023
                assert set(client.heard) <= messages
                assert max(client.heard.values()) == 1, "a message came twice"
                missing = messages - set(client.heard)
                assert len(missing) == lost[name]
                assert not any(speaker == f"{name}0" for speaker, _ in missing), "a local loss"


@asynccontextmanager
async def talking(cluster: Cluster) -> AsyncIterator[Talk]:
    async with trio.open_nursery() as nursery:
        talk = Talk(cluster, nursery)
        await talk.begin()
        await talk.more()
        yield talk
        nursery.cancel_scope.cancel()


async def test_every_broadcast_reaches_every_client_once(cluster: Cluster) -> None:
    async with talking(cluster) as talk:
        for _ in range(5):
            await talk.more()
        assert await talk.end() == {"a": 0, "b": 0, "c": 0}


async def test_a_server_that_is_killed_and_started_again_under_load(cluster: Cluster) -> None:
    async with talking(cluster) as talk:
        await trio.to_thread.run_sync(cluster.server.kill)
        await talk.disconnects(2)
        # Longer than messages may wait.
        await trio.sleep(1.2)
        await trio.to_thread.run_sync(cluster.server.start)
        await talk.all_up()
        await talk.more()
        lost = await talk.end()
    assert min(lost.values()) > 0


async def test_a_server_that_is_frozen_under_load(cluster: Cluster) -> None:
    async with talking(cluster) as talk:
        cluster.server.stop()
        try:
            await talk.disconnects(2)
        finally:
            cluster.server.cont()
        await talk.all_up()
        await talk.more()
        await talk.end()


async def test_a_pause_of_the_server_that_nobody_notices(cluster: Cluster) -> None:
    async with talking(cluster) as talk:
        cluster.server.command("CLIENT", "PAUSE", 200, "ALL")
        await talk.more()
        assert await talk.end() == {"a": 0, "b": 0, "c": 0}


async def test_a_server_that_closes_a_node_that_does_not_read(cluster: Cluster) -> None:
    cluster.server.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 0")
    async with talking(cluster) as talk:
        slow = cluster.nodes["b"].pid
        os.kill(slow, signal.SIGSTOP)
        try:
            await talk.crowd("a", count=500, size=10_000)
        finally:
            os.kill(slow, signal.SIGCONT)
        await talk.disconnects(1, ("b",))
        await talk.all_up()
        await talk.more()
        lost = await talk.end()
    # The others may miss what the slow node had said and not sent before it was frozen.
    assert lost["b"] > 100 > max(lost["a"], lost["c"])


async def test_a_password_that_is_changed_and_changed_back(cluster: Cluster) -> None:
    server = cluster.server
    async with talking(cluster) as talk:
        change = ("ACL", "SETUSER", "default", "resetpass", ">secret")
        # On one connection, which stays authenticated.
        server.commands([change, *(("CLIENT", "KILL", "TYPE", each) for each in KINDS)])
        await talk.disconnects(2)
        await until(lambda: "NOAUTH" in cluster.log())
        back = ("ACL", "SETUSER", "default", "resetpass", "nopass")
        server.commands([("AUTH", "secret"), back])
        await talk.all_up()
        await talk.more()
        await talk.end()
    assert "secret" not in cluster.log()


async def test_a_server_whose_disk_is_full(cluster: Cluster) -> None:
    server = cluster.server
    gone = server.folder / "gone"
    gone.mkdir()
    server.command("CONFIG", "SET", "dir", str(gone), "save", "3600 1")
    gone.rmdir()
    async with talking(cluster) as talk:
        server.command("BGSAVE")
        await until(lambda: "MISCONF" in str(server.command("PING")))
        await talk.more()
        # Connections that are made now work as well, although the server answers their PING with an error.
        server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await talk.disconnects(1)
        await talk.all_up()
        await talk.more()
        await talk.end()
    server.command("CONFIG", "SET", "dir", str(server.folder), "save", "")


async def test_a_node_that_is_killed_is_dropped_after_the_timeout_and_not_before(
    cluster: Cluster,
) -> None:
    async with trio.open_nursery() as nursery:
        watcher = Client("a", 9)
        joined = trio.Event()
        nursery.start_soon(watcher.main, cluster.nodes["a"].port, joined.set)
        await joined.wait()

        async def known(count: int) -> float:
            """Wait until node a knows this number of others, and return the time."""
            while True:
                statistics = await watcher.statistics()
                if statistics["adapter"]["nodes"] == count:
                    return time.monotonic()
                await trio.sleep(0.02)

        await known(2)
        start = time.monotonic()
        cluster.nodes["c"].kill()
        took = await known(1) - start
        nursery.cancel_scope.cancel()
    # Its last heartbeat came some time before its end. The tests on a virtual clock are exact.
    assert took >= NODE_TIMEOUT / 2


async def test_a_node_that_stops_says_goodbye(cluster: Cluster) -> None:
    async with talking(cluster):
        pass
    before = cluster.nodes["a"].output()
    await trio.to_thread.run_sync(cluster.nodes["c"].stop)
    await until(lambda: "Node 'c' has stopped" in cluster.nodes["a"].output()[len(before) :])
