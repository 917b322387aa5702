"""Clusters of nodes with arbiters, for the contract suite and for the tests of single arbiters."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio
import trio.testing

from actors import Pid, open_runtime, stop
from actors.runtime import Environment, current_environment
from channels.entities.arbiter import Arbiter, Owned
from channels.entities.arbiters.local import LocalArbiter
from channels.entities.arbiters.redis import RedisArbiter
from channels.entities.arbiters.workers import WorkersArbiter
from channels.pubsub.adapter import Node
from channels.pubsub.redis.server import RedisServer
from channels.pubsub.workers.grant_line import GrantClient, GrantLink
from channels.pubsub.workers.grants import Grants
from supervision import Backoff, Supervisor
from tests.channels.pubsub.redis.resp_server import RespServer
from tests.channels.support import settle

EPOCH = 1_767_225_600.0


class VirtualEnvironment(Environment):
    """An environment whose clocks follow Trio's clock.

    Attributes:
        seconds_suspended: seconds that only the clock since the boot has counted.
        seconds_ahead: seconds by which the time of day was set forward.
    """

    def __init__(self) -> None:
        self.seconds_suspended = 0.0
        self.seconds_ahead = 0.0

    def now(self) -> float:
        return EPOCH + trio.current_time() + self.seconds_ahead

    def since_boot(self) -> float:
        return trio.current_time() + self.seconds_suspended


@contextmanager
def virtual_environment() -> Iterator[VirtualEnvironment]:
    """Make the runtimes that are opened in the block follow Trio's clock."""
    environment = VirtualEnvironment()
    token = current_environment.set(environment)
    try:
        yield environment
    finally:
        current_environment.reset(token)


class Cluster:
    """Nodes whose arbiters share one place.

    Args:
        make: returns the arbiter of one more node.
        died: tells the place that the process of a node has ended, and returns when its keys are free.

    Attributes:
        lost: the nodes of whose end each node was told.
    """

    def __init__(
        self, make: Callable[[str], Arbiter], died: Callable[[str], Awaitable[object]]
    ) -> None:
        self._make = make
        self._died = died
        self._supervisors: dict[str, Pid] = {}
        self.lost: dict[str, list[Node]] = {}

    async def start(self, name: str, *, supervisor: str = "auctions") -> Arbiter:
        """Start the arbiter of a node, and open its first session."""
        arbiter = self._make(name)
        # Let its connections begin.
        await trio.testing.wait_all_tasks_blocked()
        lost = self.lost[name] = []
        children = arbiter.start(supervisor, on_node_lost=lost.append)
        self._supervisors[name] = await Supervisor.start_link(children, label=name)
        await arbiter.open_session(Node(name, "i1"))
        return arbiter

    async def kill(self, name: str) -> None:
        """End a node, which does not release its keys, and wait until they are free."""
        await stop(self._supervisors[name])
        await self._died(name)


@asynccontextmanager
async def local_cluster() -> AsyncIterator[Cluster]:
    """Nodes that share a table in this program."""
    grants, holders = Grants(), dict[str, int]()

    def make(name: str) -> Arbiter:
        holders[name] = len(holders)
        return LocalArbiter(grants=grants, holder=holders[name])

    async def died(name: str) -> None:
        grants.free(holders[name])

    async with open_runtime(log=False):
        yield Cluster(make, died)


def redis_arbiter(server: RespServer, name: str, **options: Any) -> RedisArbiter:
    """Return the arbiter of a node on a server in memory. The host that it connects to is the name of the node."""
    there = RedisServer(f"redis://{name}", connect=server.connect, backoff=Backoff(0.1, 0.1))
    return RedisArbiter(there, **options)


@asynccontextmanager
async def redis_cluster() -> AsyncIterator[Cluster]:
    """Nodes that share a server in memory."""

    async def died(name: str) -> None:
        await trio.sleep(10.1)

    async with trio.open_nursery() as nursery:
        server = RespServer(nursery)
        # The first script on a new server begins the time in which it grants nothing.
        async with open_runtime(log=False):
            cluster = Cluster(lambda name: redis_arbiter(server, "db"), died)
            await cluster.start("first")
            await trio.sleep(10.1)
            yield cluster
        nursery.cancel_scope.cancel()


async def owned(arbiter: Arbiter, key: str, *, at_least: int = 0) -> int:
    """Acquire a key, and return its fence."""
    answer = await arbiter.acquire(key, at_least=at_least)
    assert isinstance(answer, Owned)
    return answer.fence


@asynccontextmanager
async def workers_cluster() -> AsyncIterator[Cluster]:
    """Workers, with their lines to one parent."""
    grants = Grants()
    links, scopes = dict[str, GrantLink](), dict[str, trio.CancelScope]()

    async def run(client: GrantClient, sock: socket.socket, scope: trio.CancelScope) -> None:
        with scope, sock:
            await client.main()

    async with trio.open_nursery() as nursery:

        def make(name: str) -> Arbiter:
            ours, theirs = socket.socketpair()
            links[name] = link = GrantLink(ours, grants, len(links), now=lambda: EPOCH)
            scopes[name] = scope = trio.CancelScope()
            client = GrantClient(theirs)
            nursery.start_soon(link.main)
            nursery.start_soon(run, client, theirs, scope)
            return WorkersArbiter(client)

        async def died(name: str) -> None:
            scopes[name].cancel()
            await settle()
            lost = grants.free(list(links).index(name))
            for other, link in links.items():
                if other != name:
                    link.tell_lost(lost)
            await settle()

        async with open_runtime(log=False):
            yield Cluster(make, died)
        nursery.cancel_scope.cancel()
