"""A database decides who gets a seat."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from msgspec import Struct

from actors import run_in_thread
from channels import Channel, Endpoint, PushReply, Socket, handle_in

FILE = os.environ.get("SEATS", "seats.db")


class Order(Struct):
    """The payload of `order`."""

    seat: int
    buyer: str


def sell(seat: int, buyer: str) -> bool:
    """Sell a seat, and return True if it was free."""
    with closing(sqlite3.connect(FILE, isolation_level=None)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS sold (seat INTEGER PRIMARY KEY, buyer TEXT)")
        added = database.execute("INSERT OR IGNORE INTO sold VALUES (?, ?)", (seat, buyer))
        return added.rowcount == 1


class HallChannel(Channel):
    """One buyer."""

    @handle_in("order")
    async def order(self, payload: Order) -> PushReply:
        if not await run_in_thread(sell, payload.seat, payload.buyer):
            return PushReply({"reason": "sold"}, status="error")
        self.broadcast("sold", {"seat": payload.seat, "buyer": payload.buyer})
        return PushReply()


class UserSocket(Socket):
    """The socket of a buyer."""

    channels = {"hall": HallChannel}


endpoint = Endpoint(sockets={"/socket": UserSocket})
