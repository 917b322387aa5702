"""Three nodes on a server of RESP3, in a world that kills the server, cuts networks and resets connections."""

from __future__ import annotations

from typing import Any

import trio

from actors import receive, spawn
from channels import PubSub
from channels.pubsub.redis import RedisAdapter
from channels.pubsub.redis.server import RedisServer
from supervision import Supervisor
from supervision.simulation import Node, World
from tests.channels.pubsub.redis.resp_server import RespServer
from tests.simulation.sweeps.bounds import small_bounds

NAMES = ("a", "b", "c")


class Tally:
    """The messages that nodes have sent and received.

    Attributes:
        said: the number of messages of each node.
        heard: for each node the messages of others, as pairs of the speaker and the number.
        pubsubs: the PubSub of each node.
        enough: set when nodes stop to talk.
    """

    def __init__(self) -> None:
        self.said = dict.fromkeys(NAMES, 0)
        self.heard: dict[str, list[tuple[str, int]]] = {name: [] for name in NAMES}
        self.pubsubs: dict[str, PubSub] = {}
        self.enough = trio.Event()

    def check(self) -> None:
        """Compare what each node has heard with what it counts as lost.

        Raises:
            AssertionError: a message came twice or out of order, or was lost without being counted.
        """
        for name, heard in self.heard.items():
            for other in NAMES:
                numbers = [n for speaker, n in heard if speaker == other]
                assert numbers == sorted(set(numbers)), (name, other, numbers)
            others = sum(said for other, said in self.said.items() if other != name)
            lost = self.pubsubs[name].statistics()["lost"]
            assert len(heard) + lost == others, (name, len(heard), lost, others)


async def serve_resp(node: Node) -> None:
    """Run the server."""
    async with trio.open_nursery() as nursery:
        await trio.serve_listeners(RespServer(nursery).serve, [node.listen(6379)])


async def member(node: Node, world: World, tally: Tally) -> None:
    """Say something now and then, and hear the others."""
    name = node.name
    adapter = RedisAdapter(
        RedisServer("redis://redis", connect=node.connect),
        node_name=name,
    )
    pubsub = tally.pubsubs[name] = PubSub(adapter)
    await Supervisor.start_link([pubsub.child_spec()], label="top")

    async def listen() -> None:
        pubsub.subscribe("t")
        while True:
            speaker, number = await receive()
            if speaker != name:
                tally.heard[name].append((speaker, number))

    spawn(listen)
    # By then all have heard of each other. Losses of unknown nodes are not counted.
    await trio.sleep(4.5)
    assert len(pubsub.nodes()) == len(NAMES) - 1
    stream = node.random("talk")
    while not tally.enough.is_set():
        pubsub.broadcast("t", [name, tally.said[name]])
        tally.said[name] += 1
        await trio.sleep(stream.random() * 2)
    await trio.sleep_forever()


@small_bounds
async def nodes_under_faults(world: World) -> dict[str, Any]:
    """Run the nodes, and break one thing after the other. At the end, every loss was counted."""
    tally = Tally()
    world.nodes.start("redis", serve_resp)
    for name in NAMES:
        world.nodes.start(name, member, world, tally)
    await trio.sleep(5.0)
    stream = world.random("faults")
    for _ in range(world.params.get("turns", 6)):
        await _break_something(world, stream)
        await trio.sleep(stream.random() * 5)
    if not world.nodes.is_up("redis"):
        world.nodes.boot("redis")
    world.network.heal()
    await trio.sleep(30.0)
    tally.enough.set()
    await trio.sleep(30.0)
    tally.check()
    counters = {name: pubsub.statistics() for name, pubsub in tally.pubsubs.items()}
    assert all(each["adapter"]["connected"] for each in counters.values())
    lost = sum(each["lost"] for each in counters.values())
    world.sometimes("a message was lost", lost > 0)
    return {"said": tally.said, "lost": lost}


async def _break_something(world: World, stream: Any) -> None:
    fault = stream.choice(["kill", "power", "cut", "reset", "hold"])
    if fault in ("kill", "power"):
        world.nodes.kill("redis", power=fault == "power")
        await trio.sleep(stream.random() * 20)
        world.nodes.boot("redis")
    elif fault == "cut":
        world.network.partition("redis", stream.choice(NAMES))
        await trio.sleep(stream.random() * 40)
        world.network.heal()
    elif world.network.connections:
        connection = stream.choice(world.network.connections)
        if fault == "reset":
            connection.reset()
        else:
            connection.hold()
            await trio.sleep(stream.random() * 20)
            connection.release()
