"""A program clears a cache before it writes a new price. So a reader fills the cache with the old price again."""

from __future__ import annotations

from typing import Any

import trio

from actors import GenServer, Reply, Sender, call, cast
from supervision import Supervisor, child_spec
from supervision.simulation import World, scenario

__all__ = ["prices_change"]


class Prices(GenServer[dict[str, int]]):
    """The prices, as in a database."""

    async def init(self) -> None:
        self.state = {"rose": 1, "lily": 1}

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        match request:
            case ("get", flower):
                return Reply(self.state[flower])
            case ("set", flower, price):
                self.state[flower] = price
                return Reply("written")
        raise ValueError(request)


class Cache(GenServer[dict[str, int]]):
    """A cache in front of the prices."""

    async def init(self) -> None:
        self.state = {}

    async def handle_call(self, flower: str, sender: Sender) -> Reply:
        if flower not in self.state:
            self.state[flower] = await call("prices", ("get", flower))
        return Reply(self.state[flower])

    async def handle_cast(self, message: Any) -> None:
        _, flower = message
        self.state.pop(flower, None)


async def change(world: World) -> None:
    """Change prices. The bug: this function clears the cache before it writes the new price."""
    stream = world.random("changes")
    for price in range(2, world.params["changes"] + 2):
        await trio.sleep(stream.random())
        flower = stream.choice(("rose", "lily"))
        cast("cache", ("forget", flower))
        await trio.sleep(0.2)
        await call("prices", ("set", flower, price))


async def read(world: World) -> None:
    """Read prices as a customer."""
    stream = world.random("reads")
    for _ in range(world.params["reads"]):
        await trio.sleep(stream.random() / 4)
        await call("cache", stream.choice(("rose", "lily")))


@scenario(params={"changes": 4, "reads": 16})
async def prices_change(world: World) -> None:
    """Prices change while customers read them. At the end, the cache must have the right prices."""
    prices = child_spec(Prices, id="prices", kwargs={"name": "prices"})
    cache = child_spec(Cache, id="cache", kwargs={"name": "cache"})
    await Supervisor.start_link([prices, cache], label="shop")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(change, world)
        nursery.start_soon(read, world)
    for flower in ("rose", "lily"):
        shown, price = await call("cache", flower), await call("prices", ("get", flower))
        world.check(
            shown == price, f"the shop shows {shown} for a {flower}, but its price is {price}"
        )
