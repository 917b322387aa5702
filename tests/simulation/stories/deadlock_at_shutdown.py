"""A worker, a spooler and a supervisor wait for each other while the supervisor stops."""

from __future__ import annotations

from math import inf
from typing import Any

import trio

from actors import ExitReason, GenServer, Reply, Sender, call, trap_exits, whereis
from supervision import Supervisor, child_spec
from supervision.simulation import World, scenario

__all__ = ["a_clean_stop"]


class Spooler(GenServer[list[str]]):
    """The spooler, which lists the printers. The bug: it calls their supervisor even while the supervisor stops."""

    async def init(self) -> None:
        self.state = []

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        children = await Supervisor.which_children("printers")
        self.state = [str(child.id) for child in children]
        return Reply(len(self.state))


class Printer(GenServer[int]):
    """A printer, which tells the spooler when it stops."""

    async def init(self) -> None:
        self.state = 0
        trap_exits()

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        self.state += 1
        return Reply("printed")

    async def terminate(self, reason: ExitReason) -> None:
        if self.state:
            await call("spooler", "a printer stops", timeout=inf)


@scenario(params={"printers": 3, "pages": 2})
async def a_clean_stop(world: World) -> None:
    """The printers print some pages. Then they stop."""
    names = [f"printer {number}" for number in range(world.params["printers"])]
    printers = Supervisor.child_spec(
        [child_spec(Printer, id=name, kwargs={"name": name}, shutdown=inf) for name in names],
        id="printers",
        name="printers",
    )
    spooler = child_spec(Spooler, id="spooler", kwargs={"name": "spooler"})
    office = await Supervisor.start_link([spooler, printers], label="office")
    for _ in range(world.params["pages"]):
        await trio.sleep(0.5)
        await call(world.random("pages").choice(names), "print a page")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Supervisor.terminate_child, office, "printers")
        await world.eventually(
            "the printers have stopped", lambda: whereis("printers") is None, within=2
        )
