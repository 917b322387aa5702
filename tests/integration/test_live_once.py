"""The programs of the page "State that must live once", each with two workers."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from channels.client import ClientChannel, Refused, open_socket
from examples.live_once.office import decide
from tests.integration.worker_servers import WorkersServer
from tests.patience import PATIENCE

SEATS = range(20)
# Workers need Linux, so these tests are not collected elsewhere.
PROGRAMS = (
    ["examples.live_once.database", "examples.live_once.entity", "examples.live_once.office"]
    if sys.platform == "linux"
    else []
)


class Buyer:
    """A client that orders all seats, and hears who got each of them."""

    def __init__(self, name: str, hall: ClientChannel) -> None:
        self.name = name
        self.hall = hall
        self.got: dict[int, str] = {}
        hall.listen("sold", self.hear)

    def hear(self, sold: Any, join_ref: str | None) -> None:
        buyer = self.got.setdefault(sold["seat"], sold["buyer"])
        assert buyer == sold["buyer"], f"seat {sold['seat']} was sold twice"

    async def order(self) -> None:
        # An order that the office did not hear, because it had not joined yet, is repeated.
        while missing := [seat for seat in SEATS if seat not in self.got]:
            for seat in missing:
                with suppress(Refused):
                    await self.hall.push("order", {"seat": seat, "buyer": self.name})
            await trio.sleep(0.05)


async def buyers_on_two_workers(server: WorkersServer, stack: AsyncExitStack) -> list[Buyer]:
    """Connect buyers until both workers have some, because the system chooses the workers at random."""
    buyers: list[Buyer] = []
    while len(buyers) < 4 or not all(each.connections for each in server.workers()):
        url = f"ws://127.0.0.1:{server.port}/socket"
        socket = await stack.enter_async_context(open_socket(url))
        hall = await stack.enter_async_context(socket.channel("hall"))
        buyers.append(Buyer(f"buyer {len(buyers)}", hall))
    return buyers


@pytest.mark.parametrize("program", PROGRAMS)
async def test_no_seat_is_sold_twice_on_two_workers(tmp_path: Path, program: str) -> None:
    environment = {"SEATS": str(tmp_path / "seats.db")}
    server = WorkersServer(tmp_path, 2, target=f"{program}:endpoint", environment=environment)
    try:
        server.serve()
        async with trio.open_nursery() as nursery:
            if program.endswith("office"):
                nursery.start_soon(decide, f"ws://127.0.0.1:{server.port}/socket")
            async with AsyncExitStack() as stack:
                buyers = await buyers_on_two_workers(server, stack)
                with trio.fail_after(PATIENCE):
                    async with trio.open_nursery() as ordering:
                        for buyer in buyers:
                            ordering.start_soon(buyer.order)
            nursery.cancel_scope.cancel()
        assert all(each.got == buyers[0].got for each in buyers)
    finally:
        server.close()
