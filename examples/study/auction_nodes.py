"""A node of the experiment "Takeover": an auction that counts down, and a bidder who looks for another node."""

from __future__ import annotations

from typing import Any

import trio

from actors import CallExit, Reply, call, current_pid, current_runtime, send_after
from channels import Broadcast, Channel, Endpoint, JoinRefused, PubSub, Socket
from channels.client import open_socket
from channels.entities import Entity, EntitySupervisor, RedisArbiter
from channels.pubsub.redis import RedisAdapter
from channels.pubsub.redis.server import RedisServer
from channels.recording import record_channels
from supervision import Supervisor
from supervision.recording.flight import FlightRecorder
from supervision.simulation import Node, World

__all__ = ["bid", "serve"]

TOPIC = "auction:bell"


async def serve(
    node: Node, listen: Any, recorders: dict[str, FlightRecorder], ends: dict[str, float]
) -> None:
    recorder = recorders[node.name] = FlightRecorder(node.runtime)
    record_channels(recorder)
    redis = RedisAdapter(
        RedisServer("redis://redis", connect=node.connect),
        node_name=node.name,
    )
    pubsub = PubSub(redis)

    class Auction(Entity):
        async def init(self, key: str, state: Any = None) -> None:
            # `ends` stands for a database: it has the end of the auction, and outlives each owner.
            self.end = ends.setdefault(key, current_runtime().now() + 10)
            send_after(current_pid(), "tick", 0.0)

        async def handle_call(self, request: Any, sender: Any) -> Reply:
            return Reply(None)

        async def handle_info(self, message: Any) -> None:
            left = round(self.end - current_runtime().now())
            pubsub.broadcast(TOPIC, Broadcast(TOPIC, "countdown", {"left": left, "by": node.name}))
            if left > 0:
                send_after(current_pid(), "tick", 1.0)

    arbiter = RedisArbiter(redis.server, lease=2.0, renew_interval=0.5, margin=0.5)
    auctions = EntitySupervisor("auctions", Auction, arbiter=arbiter)

    class AuctionChannel(Channel):
        async def join(self, topic: str, payload: Any) -> None:
            try:
                await call(auctions.via("bell"), "are you there?", timeout=5)  # this may start it
            except CallExit:
                raise JoinRefused({"reason": "the owner is gone"}) from None

    class Bidders(Socket):
        channels = {TOPIC: AuctionChannel}

        async def connect(self, params: Any, connect_info: Any) -> None:
            self.assigns["name"] = params["name"]

        def id(self) -> str:
            return str(self.assigns["name"])

    endpoint = Endpoint(
        sockets={"/socket": Bidders}, pubsub=pubsub, children=[auctions], listen=listen
    )
    await Supervisor.start_link([endpoint.child_spec(host=node.name, port=4000)])
    await trio.sleep_forever()


async def bid(world: World, name: str, home: str, heard: dict[str, list[str]]) -> None:
    async def dial(host: str, port: int) -> trio.abc.Stream:
        up = home if world.nodes.is_up(home) else "b"
        return await world.network.connect(up, port, source=name)

    url = f"ws://{home}:4000/socket"
    async with (
        open_socket(url, params={"name": name}, connect=dial, wait=False) as socket,
        socket.channel(TOPIC, wait=False) as channel,
    ):
        async for message in channel:
            heard.setdefault(name, []).append("{left}{by}".format(**message.payload))
