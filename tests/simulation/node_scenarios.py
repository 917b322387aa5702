"""Nodes that exchange heartbeats, in a module, so that other processes can run them."""

from typing import Any

import trio

from actors import GenServer, cast, current_runtime
from supervision import Supervisor, child_spec
from supervision.simulation import Node, World

NAMES = ("a", "b", "c", "d", "e")

clean_ups: list[str] = []
"""The incarnations whose main ran its `finally` block. A killed one must not be among them."""


class Peers(GenServer[dict[str, int]]):
    """A server that counts heartbeats by their sender."""

    async def init(self) -> None:
        self.state = {}

    async def handle_cast(self, message: Any) -> None:
        self.state[message] = self.state.get(message, 0) + 1


async def member(node: Node, world: World) -> None:
    """Send a heartbeat to every other node twice a second, and note lost nodes."""
    life = node.label
    node.disk["boots"] = node.disk.get("boots", 0) + 1
    try:
        await Supervisor.start_link([child_spec(Peers, kwargs={"name": "peers"})], label="top")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, _hear(world, life), [node.listen(7000)])
            for name in NAMES:
                if name != node.name:
                    nursery.start_soon(_tell, world, node, name)
    finally:
        clean_ups.append(life)


def _hear(world: World, life: str) -> Any:
    async def serve(stream: trio.abc.Stream) -> None:
        try:
            async with stream:
                while data := await stream.receive_some():
                    cast("peers", data.decode()[0])
        except trio.BrokenResourceError:
            world.note("a peer was lost", by=life)
        finally:
            world.note("hears no more", by=life)

    return serve


async def _tell(world: World, node: Node, peer: str) -> None:
    life = node.label
    try:
        while True:
            try:
                async with await node.connect(peer, 7000) as stream:
                    while True:
                        await stream.send_all(node.name.encode())
                        await trio.sleep(0.4 + current_runtime().random.random() / 5)
            except OSError as error:
                world.note("no answer", by=life, peer=peer, error=type(error).__name__)
                await trio.sleep(node.random("retry").random())
            except trio.BrokenResourceError:
                world.note("a connection broke", by=life, peer=peer)
    finally:
        world.note("tells no more", by=life, peer=peer)


async def heartbeats(world: World) -> None:
    """Run five nodes. Every few seconds one of them is killed, or booted again if it is down."""
    for name in NAMES:
        world.nodes.start(name, member, world)
    stream = world.random("kills")
    for _ in range(world.params.get("turns", 12)):
        await trio.sleep(stream.random() * 4)
        name = stream.choice(NAMES)
        if world.nodes.is_up(name):
            world.nodes.kill(name, power=stream.random() < 0.5)
        else:
            world.nodes.boot(name)
    world.note("boots", **{name: world.nodes.disk(name)["boots"] for name in NAMES})
