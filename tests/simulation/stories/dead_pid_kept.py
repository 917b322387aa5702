"""A shop keeps the pid of its till. After a restart of the till, the shop sends money to the ended process."""

from __future__ import annotations

from typing import Any

import trio

from actors import GenServer, Reply, Sender, call, cast, whereis
from supervision import Supervisor, child_spec
from supervision.chaos import Storm
from supervision.simulation import World, scenario

__all__ = ["a_day_in_the_shop"]


class Till(GenServer[list[int]]):
    """The till. The list represents a file, which outlives the process."""

    async def init(self, money: list[int]) -> None:
        self.state = money

    async def handle_cast(self, message: Any) -> None:
        _, amount = message
        self.state.append(amount)


class Shop(GenServer[Any]):
    """The shop. The bug: it looks up the pid of the till only once."""

    async def init(self) -> None:
        self.state = whereis("till")

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        _, price = request
        cast(self.state, ("take", price))
        return Reply("thank you")


@scenario(
    faults=Storm(["/shop/till"], count=1, after=0.5, within=3.0, kinds=["kill"], callbacks=0.0),
    params={"sales": 4},
)
async def a_day_in_the_shop(world: World) -> None:
    """The shop sells something each second. At the end, the till must take the money of the last sale."""
    money: list[int] = []
    till = child_spec(Till, money, id="till", kwargs={"name": "till"})
    desk = child_spec(Shop, id="desk", kwargs={"name": "desk"})
    await Supervisor.start_link([till, desk], label="shop")
    for number in range(world.params["sales"]):
        await trio.sleep(1)
        await call("desk", ("buy", 10 + number))
    # The faults are over, and the till has had the time to restart.
    await trio.sleep(4)
    await call("desk", ("buy", 99))
    await trio.sleep(1)
    world.check(99 in money, "a customer paid 99, but the till did not take it")
