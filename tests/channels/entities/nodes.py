"""Nodes with entities, in one runtime, for tests of the router."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from actors import NoReply, Pid, Reply, Runtime, Sender, Stop, open_runtime, stop
from actors.instrumentation.telemetry import Event
from channels import PubSub
from channels.entities.arbiters.local import LocalArbiter
from channels.entities.entity import Entity
from channels.entities.router import Router
from channels.entities.supervisor import EntitySupervisor
from channels.pubsub.adapter import Adapter
from channels.pubsub.workers.grants import Grants
from channels.testing import JoinedNodes
from supervision import Supervisor
from tests.channels.entities.arbiters import virtual_environment

CLEANUP_FAILED = ("actors", "process", "cleanup_failed")


@asynccontextmanager
async def virtual_runtime(seed: int | None = None) -> AsyncIterator[Runtime]:
    """Open a runtime whose clocks follow Trio's clock, and in which no clean-up of a process may fail."""
    with virtual_environment():
        async with open_runtime(log=False, seed=seed) as runtime:
            failed = listen(runtime, CLEANUP_FAILED)
            yield runtime
            assert failed == []


class Counter(Entity):
    """An entity that counts its calls, and does what a request demands."""

    async def init(self, key: str, state: Any = None) -> None:
        self.count = 0 if state is None else state["count"]
        self.handed_over = state is not None
        self.heard: list[Any] = []
        self.kept: Sender | None = None

    async def handle_call(self, request: Any, sender: Sender) -> Reply | NoReply | Stop:
        match request:
            case "add":
                self.count += 1
                return Reply(self.count)
            case "who":
                return Reply([self.key, self.fence])
            case "heard":
                return Reply(self.heard)
            case "handed over":
                return Reply(self.handed_over)
            case ["sleep", seconds]:
                await trio.sleep(seconds)
                self.count += 1
                return Reply(self.count)
            case ["count", count]:
                self.count = count
            case "crash":
                raise ValueError("asked to crash")
            case "keep":
                self.kept = sender
                return NoReply()
            case "stop":
                return Stop(reply="stopping")
            case "object":
                return Reply(object())
        return Reply(request)

    async def handle_cast(self, message: Any) -> None:
        if message == "crash":
            raise ValueError("asked to crash")
        self.heard.append(["cast", message])

    async def handle_info(self, message: Any) -> None:
        self.heard.append(["send", message])

    async def handle_alarm(self, at: float) -> None:
        self.heard.append(["alarm", at])

    async def handle_handoff(self) -> Any:
        return {"count": self.count}


class Node:
    """A node with its own PubSub and entities."""

    def __init__(
        self, pubsub: PubSub, cls: type[Entity], arbiter: LocalArbiter | None, **options: Any
    ) -> None:
        self.pubsub = pubsub
        self.grants: Grants | None = None
        self.entities = EntitySupervisor("counters", cls, arbiter=arbiter, **options)
        self.via = self.entities.via

    @property
    def router(self) -> Router:
        address = self.via("a")
        return self.entities.running(address, None, 0.0)

    async def start(self) -> None:
        children = [self.pubsub.child_spec(), self.entities.child_spec(self.pubsub)]
        self.supervisor = await Supervisor.start_link(children, label=self.pubsub.node_name)

    def another(self, adapter: Adapter, *, holder: int) -> Node:
        """Return one more node of the cluster."""
        assert self.grants is not None
        arbiter = LocalArbiter(grants=self.grants, holder=holder)
        return Node(PubSub(adapter), Counter, arbiter)

    async def pid_of(self, key: str) -> Pid:
        """The process of a key, which runs on any node of this runtime."""
        place = await self.entities.where(key)
        assert place is not None
        assert isinstance(place.pid, Pid)
        return place.pid

    async def stop(self) -> None:
        await self.entities.drain()
        await stop(self.supervisor)

    async def child(self, name: str) -> Pid:
        """The process of the router with this id."""
        return await child_of(self.supervisor, "entities counters", name)


async def child_of(supervisor: Pid, *path: str) -> Pid:
    """The process at a path of child ids."""
    for name in path:
        children = await Supervisor.which_children(supervisor)
        (found,) = [each.pid for each in children if each.id == name]
        assert isinstance(found, Pid)
        supervisor = found
    return supervisor


async def alone(cls: type[Entity] = Counter, **options: Any) -> Node:
    """Start a node without other nodes."""
    node = Node(PubSub(), cls, None, **options)
    await node.start()
    return node


async def cluster(
    *names: str, cls: type[Entity] = Counter, latency: float = 0.001, **options: Any
) -> tuple[JoinedNodes, list[Node]]:
    """Start nodes that share an arbiter, and wait until they know each other."""
    joined, grants = JoinedNodes(latency=latency), Grants()
    nodes = [
        Node(
            PubSub(joined.adapter(name)), cls, LocalArbiter(grants=grants, holder=number), **options
        )
        for number, name in enumerate(names)
    ]
    for node in nodes:
        node.grants = grants
        await node.start()
    await trio.sleep(0.1)
    return joined, nodes


def listen(runtime: Runtime, event: Event) -> list[dict[str, Any]]:
    """Collect the metadata of an event from now on."""
    heard: list[dict[str, Any]] = []
    runtime.telemetry.attach(event, lambda _, __, about: heard.append(dict(about)))
    return heard


def late(function: Any) -> Any:
    """Return a function that carries out another one half a second later."""

    async def carried_out(*args: Any, **options: Any) -> Any:
        await trio.sleep(0.5)
        return await function(*args, **options)

    return carried_out
