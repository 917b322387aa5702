"""A channel subscribes each time that its client opens a page, and never unsubscribes."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from actors import GenServer, cast
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.client import open_socket
from supervision import Supervisor, child_spec
from supervision.simulation import World, scenario

__all__ = ["a_day_of_prices"]


class Portfolio(Channel):
    """The shares that a client looks at. The bug: `close` does not unsubscribe."""

    async def join(self, topic: str, payload: Any) -> None:
        return None

    @handle_in("open")
    async def open(self, payload: Any) -> PushReply:
        endpoint.pubsub.subscribe(f"prices:{payload['share']}")
        return PushReply()

    @handle_in("close")
    async def close(self, payload: Any) -> PushReply:
        return PushReply()

    async def handle_info(self, message: Any) -> None:
        _, share, price = message
        self.push("price", {"share": share, "price": price})


class Market(GenServer[None]):
    """The market, which publishes prices."""

    async def handle_cast(self, message: Any) -> None:
        _, share, _ = message
        endpoint.pubsub.broadcast(f"prices:{share}", message)


class Clients(Socket):
    """The socket of all clients."""

    channels = {"portfolio:*": Portfolio}


endpoint: Endpoint


@scenario(params={"pages": 5})
async def a_day_of_prices(world: World) -> None:
    """A client opens and closes pages. Each price must arrive once."""
    global endpoint  # noqa: PLW0603 # a new one for each run
    endpoint = Endpoint(sockets={"/socket": Clients}, listen=world.network.open)
    market = child_spec(Market, id="market", kwargs={"name": "market"})
    await Supervisor.start_link([market, endpoint.child_spec(host="bank", port=80)], label="bank")
    stream = world.random("pages")
    line = partial(world.network.connect, source="ann's phone")
    got: list[Any] = []
    async with (
        open_socket("ws://bank/socket", connect=line) as socket,
        socket.channel("portfolio:ann") as phone,
    ):
        phone.listen("price", lambda payload, _: got.append(payload))
        for number in range(world.params["pages"]):
            page = {"share": stream.choice(("tea", "coffee", "cocoa"))}
            await phone.push("open", page)
            got.clear()
            cast("market", ("price", page["share"], 100 + number))
            await trio.sleep(0.2)
            world.check(
                len(got) == 1,
                f"the price of {page['share']}, {100 + number}, came {len(got)} times",
            )
            await phone.push("close", page)
