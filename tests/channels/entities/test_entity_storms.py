"""Random troubles on several nodes, and the properties that entities keep through all of them."""

from __future__ import annotations

import random
from collections import Counter as Count
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest
import trio

from actors import (
    CallExit,
    Reply,
    Runtime,
    Sender,
    as_process,
    call,
    cast,
    kill,
    monitor,
    receive,
    stop,
)
from channels.entities.entity import Entity
from channels.entities.errors import EntityUnavailable, Failure
from channels.entities.ownership import State
from channels.entities.requests import EntityRequest
from channels.pubsub.adapter import Node as NodeName
from channels.telemetry import (
    ENTITY_BEGAN,
    ENTITY_FINISHED,
    ENTITY_REQUEST_ENDED,
    ENTITY_STARTED,
)
from channels.testing import JoinedNodes
from supervision.laboratory.simulation.scheduling.trio_internals import scheduling
from tests.channels.entities.nodes import Node, cluster, virtual_runtime

VIRTUAL_CLOCK = True

KEYS = ("x", "y", "z")


class Worker(Entity):
    """An entity whose callbacks take time, and that remembers what it has handled through handovers."""

    async def init(self, key: str, state: Any = None) -> None:
        await trio.sleep(0.01)
        self.handled = state or []

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        await trio.sleep(0.002)
        self.handled.append(request)
        if request[0] == "crash":
            raise ValueError("asked to crash")
        return Reply(request)

    async def handle_cast(self, message: Any) -> None:
        await trio.sleep(0.001)
        self.handled.append(message)

    async def handle_handoff(self) -> Any:
        await trio.sleep(0.003)
        return self.handled[-20:]


class Watch:
    """The events of all nodes, and the properties that they break."""

    def __init__(self, runtime: Runtime) -> None:
        self.broken: list[str] = []
        self.running: dict[str, tuple[int, int]] = {}
        self.fences: dict[str, int] = defaultdict(int)
        self.begun: Count[tuple[Any, ...]] = Count()
        # The last request of each sender that a key has begun.
        self.order: dict[tuple[str, Any], int] = {}
        self.contents: set[tuple[Any, ...]] = set()
        self.never: set[tuple[Any, ...]] = set()
        self.refused: set[tuple[Any, ...]] = set()
        attach = runtime.telemetry.attach
        attach(ENTITY_STARTED, self._started)
        attach(ENTITY_BEGAN, self._began)
        attach(ENTITY_FINISHED, self._finished)
        attach(ENTITY_REQUEST_ENDED, self._ended)

    def _started(self, _event: object, _measured: object, about: Mapping[str, Any]) -> None:
        key, fence = about["key"], about["fence"]
        if fence <= self.fences[key]:
            self.broken.append(f"{key} started with fence {fence} after {self.fences[key]}")
        self.fences[key] = fence

    def _began(self, _event: object, _measured: object, about: Mapping[str, Any]) -> None:
        key, fence = about["key"], about["fence"]
        if key in self.running:
            self.broken.append(f"{key} began with {fence} during {self.running[key]}")
        self.running[key] = fence, id(about["request"])
        request: EntityRequest | None = about["request"]
        if request is None:
            return
        name = identity(request, about["router"].node)
        self.begun[name] += 1
        if self.begun[name] > 1:
            self.broken.append(f"{request} ran twice")
        if name in self.refused:
            self.broken.append(f"{request} ran after its failure")
        content = tuple(request.content)
        self.contents.add(content)
        if content in self.never:
            self.broken.append(f"{content} ran after its failure")
        sender, number = request.content[1:]
        last = self.order.get((key, sender), 0)
        if number <= last:
            self.broken.append(f"{key} began {request.content} after number {last}")
        self.order[key, sender] = number

    def failed(self, *content: Any) -> None:
        """Take note that a request has not run and never will."""
        self.never.add(content)
        if content in self.contents:
            self.broken.append(f"{content} ran before its failure")

    def _finished(self, _event: object, _measured: object, about: Mapping[str, Any]) -> None:
        self.running.pop(about["key"], None)

    def _ended(self, _event: object, _measured: object, about: Mapping[str, Any]) -> None:
        failure: Failure | None = about["failure"]
        if failure is None or failure.may_have_run:
            return
        request: EntityRequest = about["request"]
        name = identity(request, about["router"].node)
        self.refused.add(name)
        if self.begun[name]:
            self.broken.append(f"{request} ran before {failure}")


def identity(request: EntityRequest, here: NodeName) -> tuple[Any, ...]:
    return request.origin or here, request.number


class Storm:
    """Senders on three nodes, and troubles that a seed decides."""

    def __init__(
        self, seed: int, seconds: float, watch: Watch, joined: JoinedNodes, nodes: list[Node]
    ) -> None:
        self.chance = random.Random(seed)
        self.watch = watch
        self.joined = joined
        self.nodes = nodes
        self.outcomes: Count[str] = Count()
        self.until = trio.current_time() + seconds
        self.troubles: list[Callable[[Node], Awaitable[None]]] = [
            self.move,
            self.move,
            self.move,
            self.kill_entity,
            self.kill_entity,
            self.stop,
            self.lose,
            self.lose_lease,
            self.split,
            self.kill_server,
            self.restart,
            self.crash,
        ]

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for node in self.nodes:
                for number in range(3):
                    nursery.start_soon(self.send, node, f"{node.pubsub.node_name}{number}")
                nursery.start_soon(self.watch_keys, node)
            while trio.current_time() < self.until:
                await trio.sleep(self.chance.random() * 0.6)
                await self.chance.choice(self.troubles)(self.chance.choice(self.nodes))
        self.joined.heal()

    async def send(self, node: Node, name: str) -> None:
        """Send one call or cast after the other, each with a number."""
        number, chance = 0, self.chance
        while trio.current_time() < self.until:
            number += 1
            key = chance.choice(KEYS)
            if chance.random() < 0.4:
                with suppress(EntityUnavailable):
                    cast(node.via(key), ["cast", name, number])
                await trio.sleep(chance.random() * 0.01)
                continue
            kind = "crash" if chance.random() < 0.01 else "call"
            began = trio.current_time()
            try:
                await call(node.via(key), [kind, name, number], timeout=3)
                self.outcomes["answered"] += 1
            except CallExit as error:
                self.outcomes[type(error).__name__] += 1
                if not error.may_have_run:
                    self.watch.failed(kind, name, number)
            if trio.current_time() > began + 3.01:
                self.watch.broken.append(f"a call took {trio.current_time() - began} s")
            await trio.sleep(chance.random() * 0.1)

    async def watch_keys(self, node: Node) -> None:
        """Monitor one entity after the other. Each monitor must fire once, and soon after the end of the entity."""
        async with as_process():
            while trio.current_time() < self.until:
                try:
                    ref = monitor(node.via(self.chance.choice(KEYS)))
                except EntityUnavailable:
                    await trio.sleep(0.1)
                    continue
                try:
                    down = await receive(timeout=self.until - trio.current_time() + 60)
                except trio.TooSlowError:
                    self.watch.broken.append(f"{ref} has not fired")
                    return
                self.outcomes[f"down {down.reason!r}"] += 1
                if down.ref is not ref:
                    self.watch.broken.append(f"{down} came instead of {ref}")
                await trio.sleep(self.chance.random() * 0.1)

    async def move(self, node: Node) -> None:
        record = node.router.records.get(self.chance.choice(KEYS))
        to = self.chance.choice(self.nodes).router.node
        if record is not None and record.state is State.RUNNING:
            node.router.move(record, to)

    async def kill_entity(self, node: Node) -> None:
        record = node.router.records.get(self.chance.choice(KEYS))
        if record is not None and record.process is not None:
            kill(record.process.pid)

    async def stop(self, node: Node) -> None:
        with suppress(CallExit):
            await node.entities.stop(self.chance.choice(KEYS))

    async def lose(self, node: Node) -> None:
        self.joined.loses = lambda *_: self.chance.random() < 0.3
        await trio.sleep(0.05)
        self.joined.loses = lambda *_: False

    async def lose_lease(self, node: Node) -> None:
        node.router.arbiter.lease.lose("the storm")

    async def split(self, node: Node) -> None:
        self.joined.isolate(node.pubsub.node_name)
        await trio.sleep(self.chance.random() * 3)
        self.joined.heal()

    async def kill_server(self, node: Node) -> None:
        kill(await node.child("server"))

    async def restart(self, node: Node) -> None:
        with trio.move_on_after(3):
            await node.entities.drain()
        await stop(node.supervisor)
        await trio.sleep(self.chance.random())
        await node.start()

    async def crash(self, node: Node) -> None:
        kill(node.supervisor)
        await trio.sleep(0.5 + self.chance.random())
        await node.start()


async def check(seed: int, seconds: float = 20.0) -> Count[str]:
    # The seed also decides the order of tasks, so that a failure repeats.
    with scheduling(random.Random(seed)):
        return await _check(seed, seconds)


async def _check(seed: int, seconds: float) -> Count[str]:
    async with virtual_runtime(seed) as runtime:
        latency = random.Random(seed).choice([0.0, 0.002, 0.02])
        joined, nodes = await cluster(
            "a", "b", "c", cls=Worker, latency=latency, idle_timeout=2, max_restarts=5
        )
        watch = Watch(runtime)
        storm = Storm(seed, seconds, watch, joined, nodes)
        await storm.run()
        await trio.sleep(15)
        assert watch.broken == [], (seed, watch.broken[:3])
        for key in KEYS:
            for node in nodes:
                name = node.pubsub.node_name
                assert await call(node.via(key), ["call", f"last {name}", 1]), seed
        await trio.sleep(40)
        # At rest, no entity runs, and no key has an owner.
        for node in nodes:
            assert node.router.records == {}, (seed, node.router.records)
            assert len(node.router.streams) == 0
            for key in KEYS:
                assert await node.router.arbiter.owner(key) is None, (seed, key)
        return storm.outcomes


@pytest.mark.parametrize("seed", range(3))
async def test_a_storm_breaks_no_promise(seed: int) -> None:
    outcomes = await check(seed, 6.0)
    assert outcomes["answered"] > 80
