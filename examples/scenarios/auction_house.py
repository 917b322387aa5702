"""Bidders in one auction. Faults end its process and the channels of bidders. The highest bid that was answered wins.

    ashtree simulate examples.scenarios.auction_house:evening --seeds 1-100

The server is that of `examples/auction`, with a history in memory. Bidders and the scheduler are real clients.
"""

from __future__ import annotations

from functools import partial
from random import Random

import trio

from channels import sign
from channels.client import ClientChannel, PushTimeout, Refused, open_socket
from channels.durable import MemoryStorage
from channels.testing import JoinsAnswered
from examples.auction import server
from examples.auction.auction import history
from examples.auction.schedule import open_auction
from supervision import Supervisor
from supervision.chaos import Storm
from supervision.simulation import World, scenario

__all__ = ["evening"]

SECRET = 48 * "s"  # the same in every run
SECONDS = 15.0
AUCTION = "/house/endpoint/children/entities auctions/entities/*"
CHANNEL = "/house/endpoint/UserSocket channels/*/*"
TARGETS = (AUCTION, AUCTION, CHANNEL)


class Bidder:
    """A client that raises the price now and then.

    Attributes:
        confirmed: the bids that were answered with ok.
        tried: the bids that may count, because no answer came.
        end: the leader and the price at the end, as this client saw them.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.random: Random = world.random("bidder", name)
        self.confirmed: list[int] = []
        self.tried: list[int] = []
        self.end: tuple[str | None, int] | None = None
        self.price = 0

    async def main(self, key: str) -> None:
        """Bid until the auction is over."""
        token = sign(SECRET, "user socket", self.name)
        line = partial(self.world.network.connect, source=self.name)
        async with (
            open_socket("ws://house:4000/socket", auth_token=token, connect=line) as socket,
            trio.open_nursery() as nursery,
            socket.channel(f"auction:{key}", wait=False, durable=True, timeout=3.0) as auction,
        ):
            nursery.start_soon(self.bid, auction)
            async for message in auction:
                if message.event in ("lot", "opened", "bid", "sold"):
                    lot = message.payload
                    self.price = max(self.price, lot["price"])
                    if lot["sold"]:
                        self.end = (lot["leader"], lot["price"])
                        nursery.cancel_scope.cancel()

    async def bid(self, auction: ClientChannel) -> None:
        for _ in range(self.world.params["bids"]):
            await trio.sleep(self.random.uniform(0.0, 4.0))
            amount = self.price + self.random.randint(1, 20)
            try:
                await auction.push("bid", {"amount": amount})
                self.confirmed.append(amount)
                self.world.note(f"{self.name} leads with {amount}")
            except Refused:
                pass
            except PushTimeout:
                self.tried.append(amount)


async def open_one(world: World) -> str:
    """Open the auction from outside the server, and return its key."""
    line = partial(world.network.connect, source="scheduler")
    token = sign(SECRET, "scheduler", "")
    async with (
        open_socket("ws://house:4000/scheduler", auth_token=token, connect=line) as socket,
        socket.channel("auctions") as hall,
    ):
        return await open_auction(hall, "A bell", 10, SECONDS)


@scenario(
    faults=Storm(TARGETS, count=4, after=0.5, within=15.0),
    invariants=("all", JoinsAnswered),
    params={"bidders": 3, "bids": 4},
)
async def evening(world: World) -> None:
    """All bidders see the same winner, who has the highest bid that was answered or that may have counted."""
    history.storage, server.SECRET = MemoryStorage(), SECRET
    server.endpoint.listen = world.network.open
    house = server.endpoint.child_spec(host="house", port=4000)
    await Supervisor.start_link([house], label="house")
    key = await open_one(world)
    bidders = [Bidder(world, f"bidder {number}") for number in range(world.params["bidders"])]
    async with trio.open_nursery() as nursery:
        for bidder in bidders:
            nursery.start_soon(bidder.main, key)
    (end, *others) = [bidder.end for bidder in bidders]
    world.check(all(other == end for other in others), f"the bidders saw {end} and {others}")
    assert end is not None
    leader, price = end
    highest = max((amount for each in bidders for amount in each.confirmed), default=10)
    world.check(price >= highest, f"{leader} won with {price}, but {highest} was confirmed")
    world.sometimes("a bid was not answered", any(each.tried for each in bidders))
    world.sometimes("a late bid extended the auction", world.seconds > SECONDS + 1.0)
    for each in bidders:
        known = each.confirmed + each.tried
        world.check(each.name != leader or price in known, f"{leader} never bid {price}")
