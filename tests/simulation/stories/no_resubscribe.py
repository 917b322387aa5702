"""A news agency restarts without its subscribers, and its subscribers do not subscribe again."""

from __future__ import annotations

from typing import Any

import trio

from actors import GenServer, Pid, Reply, Sender, call, cast, current_pid, send
from supervision import Supervisor, child_spec
from supervision.chaos import Storm
from supervision.simulation import World, scenario

__all__ = ["a_day_of_news"]


class Agency(GenServer[list[Pid]]):
    """The agency, which knows its subscribers only in memory."""

    async def init(self) -> None:
        self.state = []

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        match request:
            case ("subscribe", pid):
                self.state.append(pid)
                return Reply("subscribed")
        raise ValueError(request)

    async def handle_cast(self, message: Any) -> None:
        for pid in self.state:
            send(pid, message)


class Paper(GenServer[list[Any]]):
    """A newspaper. The bug: it subscribes only at its start, and does not notice the end of the agency."""

    async def init(self) -> None:
        self.state = []
        await call("agency", ("subscribe", current_pid()))

    async def handle_info(self, message: Any) -> None:
        self.state.append(message)

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        return Reply(list(self.state))


@scenario(
    faults=Storm(["/press/agency"], count=1, after=0.5, within=3.0, kinds=["kill"], callbacks=0.0),
    params={"headlines": 4},
)
async def a_day_of_news(world: World) -> None:
    """The agency reports a headline each second, also after its restart. The last news must reach the paper."""
    agency = child_spec(Agency, id="agency", kwargs={"name": "agency"})
    paper = child_spec(Paper, id="paper", kwargs={"name": "paper"})
    await Supervisor.start_link([agency, paper], label="press")
    for number in range(world.params["headlines"]):
        await trio.sleep(1)
        cast("agency", ("headline", f"news {number}"))
    # The faults are over, and the agency has had the time to restart.
    await trio.sleep(4)
    cast("agency", ("headline", "the last news"))
    await trio.sleep(1)
    printed = await call("paper", "print")
    last = ("headline", "the last news")
    world.check(last in printed, "the paper was printed without the last news")
