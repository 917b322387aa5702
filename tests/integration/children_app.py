"""An endpoint with a process of its own, for tests of the ways to serve it."""

from __future__ import annotations

import os
import sys
from typing import Any

from actors import GenServer, Reply, Sender, call, current_pid, trap_exits
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.presence import Presence
from supervision import child_spec


class Auction(GenServer[int]):
    """A process of the application."""

    async def init(self) -> None:
        trap_exits()
        self.state = 0

    async def handle_call(self, request: int, sender: Sender) -> Reply:
        self.state += request
        return Reply({"total": self.state, "program": os.getpid(), "pid": current_pid().number})

    async def terminate(self, reason: Any) -> None:
        print(f"auction stopped at {self.state}", file=sys.stderr, flush=True)


class Bids(Channel):
    """A channel that calls the process from its join to its end."""

    async def join(self, topic: str, payload: Any) -> Any:
        trap_exits()
        return await call("auction", 1)

    @handle_in("bid")
    async def bid(self, payload: int) -> PushReply:
        return PushReply(await call("auction", payload))

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        await call("auction", "a word in place of a number")

    async def terminate(self, reason: Any) -> None:
        await call("auction", 1000)


class UserSocket(Socket):
    """Anybody."""

    channels = {"auction:*": Bids}
    log = None


endpoint = Endpoint(
    sockets={"/socket": UserSocket},
    # It starts before the children, so a page must move it behind them.
    presences=[Presence()],
    children=[child_spec(Auction, kwargs={"name": "auction"})],
)
