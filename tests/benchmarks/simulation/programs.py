"""The measured programs. They run in a simulated world, and some under plain Trio, too."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

import trio

from actors import (
    GenServer,
    Reply,
    cast,
    current_pid,
    current_runtime,
    receive,
    send,
    send_after,
    spawn,
    wait_exit,
)
from channels import Channel, Endpoint, Socket, handle_in
from channels.client import open_socket
from supervision import Supervisor, child_spec
from supervision.laboratory.chaos.faults.plan import Storm
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario

GROUPS = 10
SERVERS = 20
SECONDS = 10


class Worker(GenServer[int]):
    """A server that counts slowly, and crashes by chance."""

    async def init(self) -> None:
        self.state = 0

    async def handle_cast(self, message: Any) -> None:
        chance = current_runtime().random
        await trio.sleep(chance.uniform(0, 0.05))
        if chance.random() < 0.01:
            raise RuntimeError("crashed by chance")
        self.state += message["amount"]

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(self.state)


async def work(stream: Random) -> None:
    """Give work to two hundred servers under ten supervisors. The servers crash by chance."""
    for group in range(GROUPS):
        specs = [child_spec(Worker, id=number) for number in range(SERVERS)]
        await Supervisor.start_link(specs, label=f"group {group}", max_restarts=1000, name=group)
    for _ in range(SECONDS * 10):
        await trio.sleep(0.1)
        for group in range(GROUPS):
            children = await Supervisor.which_children(group)
            for child in stream.sample(children, 5):
                cast(child.pid, {"amount": 1})


async def ring(stream: Random) -> None:
    """Pass a token round among a hundred processes. Each pass is one message and one step."""

    async def member(following: Any) -> None:
        while True:
            token = await receive()
            send(following, token - 1)
            if token <= 0:
                return

    async def first() -> None:
        following = current_pid()
        for _ in range(99):
            following = spawn(member, following)
        # With this number of passes, the token ends in this process.
        send(following, 19_999)
        await member(following)

    await wait_exit(spawn(first))
    # The other processes end one after the other.
    await trio.sleep(1)


class Counter(GenServer[int]):
    """A server that counts its casts."""

    async def init(self) -> None:
        self.state = 0

    async def handle_cast(self, message: Any) -> None:
        self.state += message["amount"]


async def sleep_for_a_day(world: World) -> None:
    """Wake once a second, for a day."""
    for _ in range(86_400):
        await trio.sleep(1)


class Heart(GenServer[int]):
    """A server that beats once a second."""

    async def init(self) -> None:
        self.state = 0
        self.beat()

    def beat(self) -> None:
        """Once more, in a second."""
        send_after(current_pid(), "beat", 1)

    async def handle_info(self, message: Any) -> None:
        self.state += 1
        self.beat()


async def beat_for_a_day(world: World) -> None:
    """A server that sends itself a heartbeat once a second."""
    await Heart.start_link()
    await trio.sleep(86_400)


@scenario(
    faults=Storm(["/top/counter *"], kinds=("kill", "crash"), count=30, after=0.5, within=18.0)
)
async def stormy(world: World) -> None:
    """Twenty actors for twenty seconds, and thirty faults."""
    names = [f"counter {number}" for number in range(20)]
    children = [child_spec(Counter, id=name, kwargs={"name": name}) for name in names]
    await Supervisor.start_link(children, label="top", max_restarts=100)
    stream = world.random("work")
    for _ in range(200):
        await trio.sleep(0.1)
        cast(stream.choice(names), {"amount": 1})


class Room(Channel):
    """A channel that broadcasts every message."""

    async def join(self, topic: str, payload: Any) -> None:
        return None

    @handle_in("say")
    async def say(self, payload: Any) -> None:
        cast(payload["counter"], {"amount": 1})
        self.broadcast("said", payload)


class RoomSocket(Socket):
    """A socket that allows every room."""

    channels = {"room:*": Room}


async def talk(world: World, number: int) -> None:
    """Join a room, and send a message once a second on average."""
    stream = world.random("client", number)
    connect = partial(world.network.connect, source=f"client {number}")
    async with (
        open_socket("ws://server:4000/socket", connect=connect, wait=False) as socket,
        socket.channel("room:lobby", wait=False) as channel,
    ):
        while True:
            await trio.sleep(stream.random() * 2)
            channel.push_nowait("say", {"counter": f"counter {stream.randrange(20)}"})


@scenario(
    faults=Storm(
        ["/top/counter *", "/endpoint/*"], kinds=("kill", "crash"), count=30, after=0.5, within=18.0
    )
)
async def attended(world: World) -> None:
    """The stormy program, and an endpoint with five clients."""
    endpoint = Endpoint(sockets={"/socket": RoomSocket}, listen=world.network.open)
    await endpoint.start_link(host="server", port=4000)
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(talk, world, number)
        await stormy(world)
        nursery.cancel_scope.cancel()
