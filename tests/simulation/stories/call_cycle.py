"""Each of two servers calls the other during a request, so neither can answer."""

from __future__ import annotations

from typing import Any

import trio

from actors import GenServer, Reply, Sender, call
from supervision import Supervisor, child_spec
from supervision.simulation import World, scenario

__all__ = ["orders_come_in"]


class Orders(GenServer[list[str]]):
    """The orders. Each order reserves its goods in the warehouse."""

    async def init(self) -> None:
        self.state = []

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        match request:
            case ("order", article):
                self.state.append(article)
                return Reply(await call("warehouse", ("reserve", article)))
            case ("count", article):
                return Reply(self.state.count(article))
        raise ValueError(request)


class Warehouse(GenServer[dict[str, int]]):
    """The warehouse. The bug: it calls the orders server, which waits for the answer of the warehouse."""

    async def init(self) -> None:
        self.state = {"tea": 2, "salt": 9}

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        _, article = request
        if self.state[article] == 0:
            missing = await call("orders", ("count", article))
            return Reply(f"out of stock, number {missing} on the list")
        self.state[article] -= 1
        return Reply("reserved")


@scenario(params={"orders": 8})
async def orders_come_in(world: World) -> None:
    """Customers order tea and salt."""
    orders = child_spec(Orders, id="orders", kwargs={"name": "orders"})
    warehouse = child_spec(Warehouse, id="warehouse", kwargs={"name": "warehouse"})
    await Supervisor.start_link([orders, warehouse], label="trade")
    stream = world.random("orders")
    for _ in range(world.params["orders"]):
        await trio.sleep(stream.random())
        await call("orders", ("order", stream.choice(("tea", "salt"))), timeout=4)
