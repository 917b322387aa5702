"""An entity decides who gets a seat, and a history keeps its decisions."""

from __future__ import annotations

import os
from typing import Any

import msgspec
from msgspec import Struct

from actors import CallExit, Reply, Sender, call
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.durable import History, SQLiteStorage
from channels.entities import Entity, EntitySupervisor

# The history of an entity must keep everything that its `init` reads.
YEARS = 10 * 365 * 24 * 3600.0
storage = SQLiteStorage(os.environ.get("SEATS", "seats.db"))
history = History(storage, max_messages=10_000, max_age=YEARS)


class Order(Struct, tag=True, frozen=True):
    """The payload of `order`, and the request to the hall."""

    seat: int
    buyer: str


class Hall(Entity):
    """One hall. It lives on one worker, and handles one order at a time."""

    requests = Order
    answers = bool

    async def init(self, key: str, state: Any = None) -> None:
        self.topic = f"hall:{key}"
        await history.claim(self.topic, self.fence)
        entries = (await history.read(self.topic)).entries
        self.sold = {msgspec.json.decode(entry.body)["seat"] for entry in entries}

    async def handle_call(self, request: Order, sender: Sender) -> Reply:
        if request.seat in self.sold:
            return Reply(False)
        await history.append(self.topic, "sold", msgspec.to_builtins(request), fence=self.fence)
        self.sold.add(request.seat)
        return Reply(True)


halls = EntitySupervisor("halls", Hall)


class HallChannel(Channel):
    """One buyer."""

    @handle_in("order")
    async def order(self, payload: Order) -> PushReply:
        try:
            is_sold = await call(halls.via("main"), payload, timeout=5)
        except CallExit as error:
            reason = "unknown" if error.may_have_run else "try again"
            return PushReply({"reason": reason}, status="error")
        if not is_sold:
            return PushReply({"reason": "sold"}, status="error")
        self.broadcast("sold", {"seat": payload.seat, "buyer": payload.buyer})
        return PushReply()


class UserSocket(Socket):
    """The socket of a buyer."""

    channels = {"hall": HallChannel}


endpoint = Endpoint(sockets={"/socket": UserSocket}, histories=[history], children=[halls])
