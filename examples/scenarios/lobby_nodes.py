"""A lobby on three nodes that share a Redis server. Nodes crash and are replaced, and connections to Redis break.

    ashtree simulate examples.scenarios.lobby_nodes:a_week --seeds 1-50

Each node has its own endpoint and presence, as on separate machines. Guests are real clients, and a load balancer
chooses a node for each connection. The network and Redis are simulated; everything else is the real program.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import trio

from actors import current_pid, send
from channels import Channel, Endpoint, PubSub, Socket, handle_in
from channels.client import PresenceView, RetryTable, open_socket
from channels.presence import Presence
from channels.pubsub.redis.adapter import RedisAdapter
from channels.pubsub.redis.server import RedisServer
from channels.testing import (
    BroadcastsArrive,
    JoinsAnswered,
    PresenceDiffsFit,
    PresencesAgree,
    SimulatedRedis,
)
from supervision import Supervisor
from supervision.simulation import Node, World, scenario

__all__ = ["a_week"]

NAMES = ("one", "two", "three")
PORT = 4000
SOON = RetryTable(steps=(), then=0.3, jitter=0.67)


def lobby(node: Node, world: World) -> Endpoint:
    """Return the endpoint of one node, with a presence of its own."""
    presence = Presence(name="guests", heartbeat=1.0, down_period=8.0)

    class Lobby(Channel):
        async def join(self, topic: str, payload: Any) -> None:
            self.guest = payload["name"]
            send(current_pid(), "after join")

        async def handle_info(self, message: Any) -> None:
            presence.track(self, self.guest, {"node": node.name})
            await presence.push_state(self)

        @handle_in("say")
        async def say(self, payload: Any) -> None:
            self.broadcast("said", payload)

        @handle_in("away")
        async def away(self, payload: Any) -> None:
            presence.update(self, self.guest, {"node": node.name, "away": payload["away"]})

        @handle_in("trip")
        async def trip(self, payload: Any) -> None:
            raise RuntimeError("over the carpet")

    class UserSocket(Socket):
        channels = {"lobby": Lobby}

    adapter = RedisAdapter(
        RedisServer(
            "redis://redis",
            connect=world.network.connect,
            connect_timeout=2.0,
            ping_interval=1.0,
            ping_timeout=2.0,
        ),
        node_name=node.name,
        heartbeat=1.0,
        node_timeout=8.0,
    )
    return Endpoint(
        sockets={"/socket": UserSocket},
        pubsub=PubSub(adapter),
        presences=[presence],
        listen=world.network.open,
    )


async def server(node: Node, world: World) -> None:
    """Run one node, as `ashtree serve` would."""
    endpoint = lobby(node, world)
    await Supervisor.start_link([endpoint.child_spec(host=node.name, port=PORT)], label="top")
    await trio.sleep_forever()


class Guest:
    """A client that stays in the lobby, on any node, and acts now and then."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.random: Random = world.random("guest", name)
        self.is_still = False
        self.sees: PresenceView | None = None

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Connect to a node that the load balancer has chosen."""
        chosen = self.random.choice(NAMES)
        return await self.world.network.connect(chosen, port, source=self.name)

    async def main(self) -> None:
        async with open_socket(
            f"ws://lobby:{PORT}/socket",
            connect=self.connect,
            wait=False,
            reconnect=SOON,
            rejoin=SOON,
            heartbeat_interval=3.0,
            random=self.random.random,
        ) as socket:
            channel = socket.channel("lobby", {"name": self.name}, wait=False, timeout=3.0)
            self.sees = PresenceView(channel)
            async with channel:
                while True:
                    await trio.sleep(self.random.uniform(0.1, 1.0))
                    what = self.random.choice(["say", "say", "away", "away", "trip"])
                    if channel.state == "joined" and not self.is_still:
                        channel.push_nowait(what, {"away": self.random.random() < 0.5})

    @property
    def seen(self) -> list[str]:
        """The names that this guest sees."""
        return [] if self.sees is None else sorted(self.sees.state)


async def trouble(world: World, redis: SimulatedRedis) -> None:
    """Inject one fault into the nodes, the network or Redis, and undo it."""
    chance = world.random("trouble")
    name = chance.choice(NAMES)
    what = chance.choice(["deploy", "crash", "netsplit", "redis restarts", "redis hangs"])
    world.note(what, node=name)
    if what == "deploy":
        world.nodes.stop(name)
        await trio.sleep(chance.uniform(2.0, 4.0))
        if not world.nodes.is_up(name):
            world.nodes.boot(name)
    elif what == "crash":
        world.nodes.kill(name, power=chance.random() < 0.5)
        await trio.sleep(chance.uniform(0.0, 8.0))
        world.nodes.boot(name)
    elif what == "netsplit":
        world.network.partition(name, "redis")
        await trio.sleep(chance.uniform(0.0, 8.0))
        world.network.heal(name, "redis")
    elif what == "redis restarts":
        world.nodes.kill("redis", power=chance.random() < 0.5)
        await trio.sleep(chance.uniform(0.0, 4.0))
        world.nodes.boot("redis")
    else:
        redis.pause()
        await trio.sleep(chance.uniform(0.0, 5.0))
        redis.resume()


@scenario(
    invariants=(
        "all",
        JoinsAnswered,
        BroadcastsArrive,
        partial(PresencesAgree, within=7.0),
        PresenceDiffsFit,
    ),
    params={"guests": 5, "troubles": 4},
)
async def a_week(world: World) -> None:
    """Guests return after each fault. In the end, every guest sees all guests, on every node."""
    redis = SimulatedRedis()
    world.nodes.start("redis", redis.main)
    for name in NAMES:
        world.nodes.start(name, server, world)
    guests = [Guest(world, f"guest {number}") for number in range(world.params["guests"])]
    names = sorted(guest.name for guest in guests)
    async with trio.open_nursery() as nursery:
        for guest in guests:
            nursery.start_soon(guest.main)
        await trio.sleep(2.0)
        for _ in range(world.params["troubles"]):
            await trio.sleep(world.random("pauses").uniform(0.0, 2.0))
            await trouble(world, redis)
        # A guest notices only after a heartbeat that its node lost its power.
        await world.recovered(
            "everybody sees everybody",
            lambda: all(guest.seen == names for guest in guests),
            within=40.0,
        )
        await trio.sleep(8.0)
        for guest in guests:
            guest.is_still = True
        await world.eventually(
            "all nodes agree", lambda: PresencesAgree.problem() is None, within=7.0
        )
        nursery.cancel_scope.cancel()
