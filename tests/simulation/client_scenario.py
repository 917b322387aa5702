"""Clients and a server in one world, while connections break, channels crash, and the server is killed and started."""

from collections import Counter
from functools import partial
from typing import Any

import trio

from actors import current_runtime
from channels import Channel, Endpoint, LongPoll, Mount, PushReply, Socket, handle_in
from channels.client import (
    ChannelClosed,
    ChannelLost,
    ClientChannel,
    ClientPush,
    ClientSocket,
    Lost,
    PushTimeout,
    Refused,
    Rejoined,
    open_socket,
)
from supervision.chaos import Storm
from supervision.simulation import Node, World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds

handled: Counter[str] = Counter()
"""The number of times that a server has handled each push. It outlives the servers, as a database does."""


class Room(Channel):
    """A channel that counts what it handles, and crashes now and then."""

    async def join(self, topic: str, payload: Any) -> None:
        await trio.sleep(current_runtime().random.uniform(0, 0.2))

    @handle_in("count")
    async def count(self, payload: Any) -> PushReply:
        handled[payload["id"]] += 1
        chance = current_runtime().random.random()
        if chance < 0.02:
            raise RuntimeError("crashed by chance")
        if chance < 0.1:
            return PushReply({"id": payload["id"]}, status="error")
        return PushReply({"id": payload["id"]})


class UserSocket(Socket):
    """A socket that allows every room."""

    channels = {"room:*": Room}


async def serve(node: Node, world: World) -> None:
    """Serve until the node is killed."""
    endpoint = Endpoint(
        sockets={"/socket": Mount(UserSocket, longpoll=LongPoll(window=4.0))},
        listen=world.network.open,
    )
    await endpoint.start_link(host="server", port=4000)
    await trio.sleep_forever()


class Talker:
    """A client that pushes, and the result of each of its pushes."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"client {number}"
        self.random = world.random("client", number)
        self.results: dict[str, str] = {}
        self.open: set[str] = set()
        self.is_stopping = False
        self.socket: ClientSocket | None = None
        self.channel: ClientChannel | None = None
        self.transport: Any = "longpoll" if number % 3 == 2 else "websocket"

    @property
    def is_joined(self) -> bool:
        return self.channel is not None and self.channel.state == "joined"

    async def main(self) -> None:
        connect = partial(self.world.network.connect, source=self.name)
        async with (
            open_socket(
                "ws://server:4000/socket",
                connect=connect,
                wait=False,
                transport=self.transport,
                heartbeat_interval=3.0,
                connect_timeout=3.0,
                poll_timeout=8.0,
            ) as self.socket,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self.watch)
            async with self.socket.channel("room:a", {"name": self.name}, wait=False) as channel:
                self.channel = channel
                for number in range(10_000):
                    await trio.sleep(self.random.random() * 0.7)
                    if not self.is_stopping:
                        self.push(channel, f"{self.name} {number}", nursery)

    def push(self, channel: ClientChannel, name: str, nursery: trio.Nursery) -> None:
        self.open.add(name)
        nursery.start_soon(self.settle, name, channel.push_nowait("count", {"id": name}, timeout=5))

    async def settle(self, name: str, push: ClientPush) -> None:
        try:
            answer = await push.wait()
            self.world.check(answer == {"id": name}, f"{name} got the answer of {answer}")
            result = "answered"
        except Refused as refused:
            answer = refused.payload
            is_own = answer in ({"id": name}, {"reason": "unmatched topic"})
            self.world.check(is_own, f"{name} got the refusal of {answer}")
            result = "refused"
        except PushTimeout:
            result = "timeout"
        except ChannelClosed:
            result = "closed"
        self.world.check(name in self.open, f"{name} got a second result")
        self.open.discard(name)
        self.results[name] = result

    async def watch(self) -> None:
        assert self.socket is not None
        async for event in self.socket.events():
            self.world.sometimes("a connection is lost", isinstance(event, Lost))
            self.world.sometimes(
                "a channel crashes", isinstance(event, ChannelLost) and event.is_crash
            )
            self.world.sometimes("a channel is back", isinstance(event, Rejoined))


@scenario(
    faults=Storm(
        count=8,
        within=20.0,
        after=1.0,
        kinds=["reset_connection", "hold_connection", "partition", "kill_node"],
        connections=["client *"],
        hosts=["client 0", "client 1", "client 2", "server"],
        nodes=["server"],
    ),
    params={"clients": 4, "seconds": 22.0},
)
@small_bounds
async def clients_come_back(world: World) -> None:
    """After the faults every client is joined, and every push has one result, which the server agrees with."""
    handled.clear()
    world.nodes.start("server", serve, world)
    talkers = [Talker(world, number) for number in range(world.params["clients"])]
    async with trio.open_nursery() as nursery:
        for talker in talkers:
            nursery.start_soon(talker.main)
        await trio.sleep(world.params["seconds"])
        world.sometimes(
            "somebody is out when the faults end", not all(t.is_joined for t in talkers)
        )
        await world.recovered(
            "every client is joined", lambda: all(t.is_joined for t in talkers), within=30.0
        )
        for talker in talkers:
            talker.is_stopping = True
        await world.eventually(
            "every push has a result", lambda: not any(t.open for t in talkers), within=20.0
        )
        nursery.cancel_scope.cancel()
    results = {name: result for talker in talkers for name, result in talker.results.items()}
    for name, result in results.items():
        world.check(handled[name] <= 1, f"{name} was handled {handled[name]} times")
        world.check(result != "answered" or handled[name] == 1, f"{name} was answered by nobody")
    counts = Counter(results.values())
    # The faults last for half of the time, so a healthy run answers far more than a quarter of the pushes.
    enough = counts["answered"] * 4 > counts.total()
    world.check(enough, f"at least a quarter of the pushes must be answered, but here: {counts}")
    world.sometimes("a push times out", counts["timeout"])
    world.sometimes("a push is refused", counts["refused"])
    world.note("results", **counts)
