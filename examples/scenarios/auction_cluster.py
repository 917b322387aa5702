"""Chaos on the auctions, which run in processes of their own: on two workers, or on two nodes that meet at Redis.

    ashtree chaos examples.scenarios.auction_cluster:on_workers --for 20 --html report.html
    ashtree chaos examples.scenarios.auction_cluster:on_nodes --for 25 --params redis=redis://127.0.0.1:6379

Each fault hits the process that runs the auction at that moment. The report, its page and its story have one history of
the experiment and of all servers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from channels import sign
from channels.client import PushTimeout, Refused, open_socket
from channels.testing import LiveCluster, open_cluster
from supervision.chaos import At, DrainNode, KillNode, LiveWorld, Partition, PauseNode
from supervision.simulation import scenario

__all__ = ["on_nodes", "on_workers"]

SECRET = 48 * "s"
OWNER = "owner of auctions/bell"


FAULTS = (
    KillNode(node=OWNER, reboot_after=2.0, when=At(1.0)),
    PauseNode(node=OWNER, seconds=2.0, when=At(7.0)),
    DrainNode(node=OWNER, when=At(13.0)),
)
CUT = Partition(one="node1", other="redis", seconds=1.5, when=At(19.0))


@scenario(faults=FAULTS, params={"bidders": 2, "workers": 2})
async def on_workers(world: LiveWorld) -> None:
    """Hold an auction on two workers."""
    await evening(world)


@scenario(faults=(*FAULTS, CUT), params={"bidders": 2, "nodes": 2})
async def on_nodes(world: LiveWorld) -> None:
    """Hold an auction on two nodes, one of which loses Redis for a while."""
    await evening(world)


async def evening(world: LiveWorld) -> None:
    """Let the bidders outbid each other until the experiment is over."""
    environment = {"SECRET_KEY_BASE": SECRET, "AUCTIONS": world.params.get("file", "auctions.db")}
    endpoint = "examples.auction.server:endpoint"
    async with (
        open_cluster(world, endpoint, environment=environment) as cluster,
        trio.open_nursery() as nursery,
    ):
        prices: dict[str, int] = {}
        # First the check, because no fault comes before it holds.
        world.steady(
            "all bidders know the price",
            lambda: None if len(prices) == world.params["bidders"] else f"{prices}",
        )
        await open_auction(world, cluster)
        for number in range(world.params["bidders"]):
            nursery.start_soon(bid, world, cluster, f"bidder {number}", prices)
        await world.until_over()
        nursery.cancel_scope.cancel()


async def open_auction(world: LiveWorld, cluster: LiveCluster) -> None:
    """Open the auction from outside the servers, and repeat this until it is open."""
    auction = {"key": "bell", "auction": {"title": "A bell", "price": 10, "seconds": 3600}}
    token = sign(SECRET, "scheduler", "")
    line = partial(world.connect, source="scheduler")
    async with (
        open_socket(f"{cluster.url}/scheduler", auth_token=token, connect=line) as socket,
        socket.channel("auctions") as hall,
    ):
        while True:
            try:
                await hall.push("open", auction)
                return
            except (PushTimeout, Refused):
                # Redis grants no key before the leases of its former life have ended.
                await trio.sleep(0.5)


async def bid(world: LiveWorld, cluster: LiveCluster, name: str, prices: dict[str, int]) -> None:
    """Take part in the auction: bid now and then, and keep the latest price."""
    token = sign(SECRET, "user socket", name)
    line = partial(world.connect, source=name)
    async with (
        open_socket(
            f"{cluster.url}/socket", auth_token=token, connect=line, timeout=3.0, wait=False
        ) as socket,
        socket.channel("auction:bell", wait=False, durable=True) as auction,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(raise_price, world, auction, name, prices)
        async for message in auction:
            if message.event in ("lot", "opened", "bid", "sold"):
                prices[name] = message.payload["price"]


async def raise_price(world: LiveWorld, auction: Any, name: str, prices: dict[str, int]) -> None:
    """Bid more than the price twice a second."""
    random = world.random("bidder", name)
    while True:
        await trio.sleep(random.uniform(0.3, 0.7))
        amount = max(prices.values(), default=10) + random.randint(1, 5)
        try:
            with world.request("bid", client=name, within=1.0):
                await auction.push("bid", {"amount": amount})
        except (Refused, PushTimeout):
            # Somebody else has bid more, or the answer was lost. The next event tells the price.
            pass
