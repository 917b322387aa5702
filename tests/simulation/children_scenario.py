"""An endpoint with processes of its own, whose faults hit these processes and the channels that call them."""

from __future__ import annotations

from typing import Any

import trio

from actors import GenServer, Reply, call
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.client import ChannelClosed, PushTimeout, open_socket
from supervision import Supervisor, child_spec
from supervision.chaos import Storm
from supervision.simulation import World, scenario

COUNTER = "/top/endpoint/children/counter"


class Counter(GenServer[int]):
    async def init(self) -> None:
        self.state = 0

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        self.state += 1
        return Reply(self.state)


class CountChannel(Channel):
    async def join(self, topic: str, payload: Any) -> dict[str, Any]:
        return {"count": await call("counter", "add")}

    @handle_in("add")
    async def add(self, payload: Any) -> PushReply:
        return PushReply({"count": await call("counter", "add")})


class UserSocket(Socket):
    channels = {"count:*": CountChannel}


@scenario(faults=Storm([COUNTER], count=4, within=20.0, after=1.0, kinds=["kill", "crash"]))
async def counting(world: World) -> None:
    """A client counts through a channel while the counter is killed, and counts again in the end."""
    endpoint = Endpoint(
        sockets={"/socket": UserSocket},
        listen=world.network.open,
        children=[child_spec(Counter, kwargs={"name": "counter"})],
        children_max_restarts=100,
    )
    await Supervisor.start_link([endpoint.child_spec(host="server", port=4000)], label="top")
    async with (
        open_socket("ws://server:4000/socket", connect=world.network.connect) as socket,
        socket.channel("count:all") as channel,
    ):
        while trio.current_time() < 25.0:
            await trio.sleep(0.1)
            if channel.state == "joined":
                try:
                    await channel.push("add")
                except (ChannelClosed, PushTimeout):
                    world.sometimes("a push fails together with the counter", True)
        await channel.wait_joined()
        assert (await channel.push("add"))["count"] > 0
