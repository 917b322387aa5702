"""The healthy programs into which the tests plant bugs: servers, and a supervision tree of these servers."""

from __future__ import annotations

import math
from typing import Any

import trio

from actors import (
    CallExit,
    GenServer,
    NoReply,
    Reply,
    Sender,
    call,
    reply,
    stop,
    trap_exits,
)
from supervision import ChildSpec, Supervisor, child_spec
from supervision.child_spec import RestartType
from supervision.laboratory.simulation.world.world import World
from supervision.strategy import Strategy

__all__ = ["Worker", "busy", "grow", "worker"]


class Worker(GenServer[list[Sender]]):
    """A server that answers at once or on request, and terminates properly."""

    async def init(self, pause: float = 0.0) -> None:
        trap_exits()
        self.state = []
        self.pause = pause
        await trio.sleep(pause)

    async def handle_call(self, request: Any, sender: Sender) -> Reply | NoReply:
        if request == "later":
            self.state.append(sender)
            return NoReply()
        return Reply(request)

    async def handle_cast(self, message: Any) -> None:
        for sender in self.state:
            reply(sender, message)
        self.state = []

    async def terminate(self, reason: Any) -> None:
        await trio.sleep(self.pause)

    async def handle_info(self, message: Any) -> None:
        """Ignore other messages."""


def worker(
    id: str, *, restart: RestartType = "permanent", pause: float = 0.0, named: bool = True
) -> ChildSpec:
    """Return the child spec of a worker. The name is also the id."""
    return child_spec(Worker, pause, id=id, restart=restart, kwargs={"name": id} if named else {})


async def grow(
    *children: ChildSpec,
    strategy: Strategy = "one_for_one",
    max_restarts: float = 100,
    max_seconds: float = 5.0,
) -> Any:
    """Start a supervisor named top, without a link to it."""
    return await Supervisor.start(
        children,
        strategy=strategy,
        max_restarts=max_restarts,
        max_seconds=max_seconds,
        name="top",
    )


async def busy(world: World, names: tuple[str, ...], seconds: float) -> None:
    """Send requests to workers for some time. Then stop the tree if it still runs."""
    chance = world.random("questions")

    async def ask() -> None:
        while world.seconds < seconds:
            try:
                await call(chance.choice(names), "question", timeout=1)
            except CallExit:
                world.sometimes("a call failed")
            await trio.sleep(chance.random() / 2)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(ask)
    try:
        await stop("top", timeout=math.inf)
    except CallExit:
        world.sometimes("the top was gone before")
