"""Two clerks read the stock before either writes the new number, so one sale is lost."""

from __future__ import annotations

from typing import Any

import trio

from actors import GenServer, Reply, Sender, call
from supervision import Supervisor, child_spec
from supervision.simulation import World, scenario

__all__ = ["market_day"]

APPLES = 20


class Stock(GenServer[int]):
    """The number of apples."""

    async def init(self) -> None:
        self.state = APPLES

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        match request:
            case "count":
                return Reply(self.state)
            case ("set", count):
                self.state = count
                return Reply("done")
        raise ValueError(request)


class Clerk(GenServer[None]):
    """A clerk who sells apples. The bug: the clerk reads and writes the stock with two separate requests."""

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        left = await call("stock", "count")
        await call("stock", ("set", left - 1))
        return Reply("sold")


async def buy(world: World, number: int, sales: list[str]) -> None:
    """Buy apples as a customer."""
    stream = world.random("customer", number)
    for _ in range(world.params["apples"]):
        await trio.sleep(stream.random())
        sales.append(await call(stream.choice(("ann", "ben")), "sell an apple"))


@scenario(params={"customers": 4, "apples": 3})
async def market_day(world: World) -> None:
    """Customers buy apples from two clerks."""
    clerks = [child_spec(Clerk, id=name, kwargs={"name": name}) for name in ("ann", "ben")]
    stock = child_spec(Stock, id="stock", kwargs={"name": "stock"})
    await Supervisor.start_link([stock, *clerks], label="market")
    sales: list[str] = []
    async with trio.open_nursery() as nursery:
        for number in range(world.params["customers"]):
            nursery.start_soon(buy, world, number, sales)
    left = await call("stock", "count")
    world.check(
        left == APPLES - len(sales),
        f"{len(sales)} of {APPLES} apples were sold, but {left} are left",
    )
