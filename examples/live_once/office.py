"""A separate program decides who gets a seat: `python -m examples.live_once.office ws://127.0.0.1:4000/socket`.

It is a client of the server, and the only one that joins `office`. A real server would check a token there.
"""

from __future__ import annotations

import sys

import trio
from msgspec import Struct

from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.client import open_socket


class Order(Struct):
    """The payload of `order`, and of `sold`."""

    seat: int
    buyer: str


class HallChannel(Channel):
    """One buyer, who learns from `sold` who got the seat."""

    @handle_in("order")
    async def order(self, payload: Order) -> PushReply:
        order = {"seat": payload.seat, "buyer": payload.buyer}
        self.endpoint.broadcast("office", "order", order)
        return PushReply()


class OfficeChannel(Channel):
    """The office, on whichever worker its connection is."""

    @handle_in("sold")
    async def sold(self, payload: Order) -> None:
        self.endpoint.broadcast("hall", "sold", {"seat": payload.seat, "buyer": payload.buyer})


class UserSocket(Socket):
    """The socket of buyers, and of the office."""

    channels = {"hall": HallChannel, "office": OfficeChannel}


endpoint = Endpoint(sockets={"/socket": UserSocket})


async def decide(url: str) -> None:
    """Sell each seat to the buyer of its first order."""
    sold: dict[int, str] = {}
    async with open_socket(url) as socket, socket.channel("office") as office:
        async for order in office.on("order"):
            buyer = sold.setdefault(order["seat"], order["buyer"])
            office.push_nowait("sold", {"seat": order["seat"], "buyer": buyer})


if __name__ == "__main__":
    trio.run(decide, sys.argv[1])
