"""A client repeats a payment after a crash of its channel, and the bank charges the order twice."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from actors import GenServer, Reply, Sender, call
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.client import ChannelClosed, PushTimeout, open_socket
from supervision import Supervisor, child_spec
from supervision.chaos import Storm
from supervision.simulation import World, scenario

__all__ = ["an_evening_of_orders"]


class Bank(GenServer[list[int]]):
    """The bank. The list represents its books. The bug: the bank charges a repeated order again."""

    async def init(self, charged: list[int]) -> None:
        self.state = charged

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        _, order = request
        self.state.append(order)
        return Reply("charged")


class Checkout(Channel):
    """A checkout, which charges an order and then prints a receipt."""

    async def join(self, topic: str, payload: Any) -> None:
        return None

    @handle_in("pay")
    async def pay(self, payload: Any) -> PushReply:
        await call("bank", ("charge", payload["order"]))
        await trio.sleep(0.3)
        return PushReply({"receipt": payload["order"]})


class Customers(Socket):
    """The socket of all customers."""

    channels = {"checkout:*": Checkout}


@scenario(
    faults=Storm(
        ["/shop/endpoint/Customers channels/*"],
        count=2,
        after=0.2,
        within=4.0,
        kinds=["kill"],
        callbacks=0.0,
    ),
    params={"orders": 4},
)
async def an_evening_of_orders(world: World) -> None:
    """A customer pays orders, and pays again without an answer. The bank must charge each order once."""
    charged: list[int] = []
    endpoint = Endpoint(sockets={"/socket": Customers}, listen=world.network.open)
    bank = child_spec(Bank, charged, id="bank", kwargs={"name": "bank"})
    await Supervisor.start_link([bank, endpoint.child_spec(host="shop", port=80)], label="shop")
    stream = world.random("orders")
    line = partial(world.network.connect, source="ann's phone")
    async with (
        open_socket("ws://shop/socket", connect=line) as socket,
        socket.channel("checkout:ann") as phone,
    ):
        for order in range(1, world.params["orders"] + 1):
            await trio.sleep(stream.random())
            paid = False
            while not paid:
                try:
                    await phone.push("pay", {"order": order}, timeout=3)
                    paid = True
                except (ChannelClosed, PushTimeout):
                    await phone.wait_joined()
            times = charged.count(order)
            world.check(times == 1, f"order {order} was charged {times} times")
