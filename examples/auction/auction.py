"""One auction: an entity, its messages, and the history that outlives it.

Each event of the history has the whole state after it, so the last event is the state. The entity appends first and
answers afterwards, so an answered bid outlives the process.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from actors import Reply, Sender, current_pid, current_runtime, send_after
from channels import Broadcast, PubSub
from channels.durable import History, RedisStorage, SQLiteStorage
from channels.entities import Entity, EntitySupervisor
from channels.pubsub.redis import RedisAdapter

EXTENSION = 10.0  # an auction goes on for at least these seconds after a bid

# The workers of one machine share a file. The nodes of several machines share a Redis or Valkey server.
redis = os.environ.get("REDIS_URL")
pubsub = PubSub(RedisAdapter(redis, node_name=os.environ.get("NODE_NAME")) if redis else None)
file = os.environ.get("AUCTIONS", "auctions.db")
storage = RedisStorage(redis, key="auctions") if redis else SQLiteStorage(file)
history = History(storage, max_age=14 * 24 * 3600.0)

Price: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]


class Open(Struct, tag=True, frozen=True):
    """Open an auction for some seconds. An auction that was opened before stays as it is."""

    title: Annotated[str, Meta(min_length=1, max_length=60)]
    price: Price
    seconds: Annotated[float, Meta(gt=0, le=24 * 3600)]


class Bid(Struct, tag=True, frozen=True):
    """Bid an amount. A bid that leads already stays as it is, so a bidder may repeat it."""

    bidder: str
    amount: Price


class Look(Struct, tag=True, frozen=True):
    """Ask for the state."""


class Lot(Struct, tag=True, frozen=True):
    """The state of an auction. `ends_at` is a time of day."""

    title: str
    price: int
    ends_at: float
    leader: str | None = None
    sold: bool = False


class Refused(Struct, tag=True, frozen=True):
    """The auction refused the request for this reason."""

    reason: str


class Auction(Entity):
    """One auction. Whichever node it lives on, there is one process of it, and it handles one bid at a time."""

    requests = Open | Bid | Look
    answers = Lot | Refused

    async def init(self, key: str, state: Any = None) -> None:
        self.topic = f"auction:{key}"
        # From now on, the history refuses the events of an earlier owner. So what we read is the last word.
        await history.claim(self.topic, self.fence)
        entries = (await history.read(self.topic)).entries
        self.lot = msgspec.json.decode(entries[-1].body, type=Lot) if entries else None
        self.count_down()

    async def handle_call(self, request: Open | Bid | Look, sender: Sender) -> Reply:
        match request:
            case Open(title, price, seconds) if self.lot is None:
                ends_at = current_runtime().now() + seconds
                # First the alarm: without an auction it does nothing, but an auction needs an end.
                await self.set_alarm(ends_at)
                await self.keep("opened", Lot(title, price, ends_at))
                self.count_down()
            case Bid(bidder, amount) if self.lot is not None:
                return Reply(await self.bid(self.lot, bidder, amount))
        return Reply(Refused("there is no such auction") if self.lot is None else self.lot)

    async def bid(self, lot: Lot, bidder: str, amount: int) -> Lot | Refused:
        now = current_runtime().now()
        if (bidder, amount) == (lot.leader, lot.price):
            return lot
        if lot.sold or now >= lot.ends_at:
            return Refused("the auction is over")
        if amount <= lot.price:
            return Refused(f"the price is {lot.price} already")
        ends_at = max(lot.ends_at, now + EXTENSION)
        return await self.keep("bid", Lot(lot.title, amount, ends_at, leader=bidder))

    async def handle_info(self, message: Any) -> None:
        """Tell the bidders each second how much time is left."""
        if (lot := await self.sell_in_time()) is not None:
            seconds = round(lot.ends_at - current_runtime().now())
            countdown = {"seconds": seconds, "node": pubsub.node_name}
            pubsub.broadcast(self.topic, Broadcast(self.topic, "countdown", countdown))
            self.count_down()

    async def handle_alarm(self, at: float) -> None:
        """Sell even if no bidder is left. The alarm starts the process if it does not run, and may come twice."""
        if (lot := await self.sell_in_time()) is not None:
            await self.set_alarm(lot.ends_at)  # a late bid has moved the end

    def count_down(self) -> None:
        if self.lot is not None and not self.lot.sold:
            send_after(current_pid(), "a second later", 1.0)

    async def sell_in_time(self) -> Lot | None:
        """Sell if the time is over. Return the state if the auction goes on."""
        if self.lot is None or self.lot.sold:
            return None
        if current_runtime().now() < self.lot.ends_at:
            return self.lot
        await self.keep("sold", replace(self.lot, sold=True))
        return None

    async def keep(self, event: str, lot: Lot) -> Lot:
        """Append an event, which also tells all bidders, and then believe it."""
        await history.append(self.topic, event, msgspec.to_builtins(lot), fence=self.fence)
        self.lot = lot
        return lot


auctions = EntitySupervisor("auctions", Auction, idle_timeout=300)
