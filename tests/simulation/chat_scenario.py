"""An endpoint in a world, with Hypercorn behind it, and WebSocket clients that come back."""

from functools import partial
from typing import Any

import trio

from actors import current_runtime
from channels import Channel, Endpoint, Socket, handle_in
from channels.client import ChannelLost, Feed, Lifecycle, Lost, open_socket
from supervision.simulation import World
from tests.simulation.scenarios import crashing_tree
from tests.simulation.sweeps.bounds import small_bounds


class Room(Channel):
    """A channel that broadcasts every message, and crashes at random."""

    async def join(self, topic: str, payload: Any) -> None:
        await trio.sleep(current_runtime().random.uniform(0, 0.1))

    @handle_in("say")
    async def say(self, payload: Any) -> None:
        if current_runtime().random.random() < 0.05:
            raise RuntimeError("crashed by chance")
        self.broadcast("said", payload)


class UserSocket(Socket):
    """A socket that allows every room."""

    channels = {"room:*": Room}


async def talk(world: World, number: int) -> None:
    """Join, sometimes send a message, and connect again when the connection breaks."""
    stream = world.random("client", number)
    connect = partial(world.network.connect, source=f"client {number}")
    async with (
        open_socket("ws://server:4000/socket", connect=connect, wait=False) as socket,
        socket.channel("room:lobby", wait=False) as channel,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(note, world, number, socket.events())
        while True:
            body = {"body": stream.choice(["hello", "how are you", "x" * 3000])}
            channel.push_nowait("say", body)
            await trio.sleep(stream.random())


async def note(world: World, number: int, events: Feed[Lifecycle]) -> None:
    """Note what a client loses."""
    async for event in events:
        if isinstance(event, Lost | ChannelLost):
            what = "connection" if isinstance(event, Lost) else "channel"
            world.note(f"a client lost its {what}", number=number)


async def chat(world: World) -> None:
    """Five clients of one endpoint, for some seconds, with resets and a partition."""
    endpoint = Endpoint(sockets={"/socket": UserSocket}, listen=world.network.open)
    await endpoint.start_link(host="server", port=4000)
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(talk, world, number)
        stream = world.random("faults")
        for _ in range(world.params.get("faults", 5)):
            await trio.sleep(stream.random() * 2)
            if world.network.connections:
                stream.choice(world.network.connections).reset()
            one = f"client {stream.randrange(5)}"
            world.network.partition(one, "server")
            await trio.sleep(stream.random())
            world.network.heal()
        page = await fetch(world)
        world.check(b" 404 " in page and b"Thu, 01 Jan 2026 00:00:" in page, f"{page!r}")
        nursery.cancel_scope.cancel()


async def fetch(world: World) -> bytes:
    """Request a page from Hypercorn that does not exist."""
    async with await world.network.connect("server", 4000, source="browser") as stream:
        await stream.send_all(b"GET /nowhere HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n")
        return b"".join([data async for data in stream])


@small_bounds
async def chat_and_tree(world: World) -> None:
    """The chat, next to two hundred actors that crash."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crashing_tree, world)
        nursery.start_soon(chat, world)
