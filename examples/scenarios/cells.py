"""A key-value channel whose history is checked: could a correct register have given all these answers?

ashtree simulate examples.scenarios.cells:busy_clients
ashtree chaos examples.scenarios.cells:busy_clients --for 3
"""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from actors import GenServer, Sender, call
from actors import Reply as Answer
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.client import ClientChannel, PushTimeout, Refused, open_socket
from supervision import Supervisor, child_spec
from supervision.chaos import Storm
from supervision.histories import OperationHistory, Register, check_linearizable
from supervision.simulation import World, scenario

__all__ = ["CellChannel", "Cells", "busy_clients", "check_cells"]


class Cells(GenServer[dict[str, Any]]):
    """The values by topic."""

    async def init(self) -> None:
        self.state = {}

    async def handle_call(self, request: Any, sender: Sender) -> Answer:
        match request:
            case ("read", key):
                return Answer(self.state.get(key))
            case ("write", key, value):
                self.state[key] = value
                return Answer(None)
            case ("compare_and_set", key, old, new):
                matches = self.state.get(key) == old
                if matches:
                    self.state[key] = new
                return Answer(matches)
        raise ValueError(f"cells know nothing of {request!r}")


class CellChannel(Channel):
    """One value, which clients read and change."""

    @handle_in("read")
    async def read(self, payload: Any) -> PushReply:
        return PushReply({"value": await call("cells", ("read", self.topic))})

    @handle_in("write")
    async def write(self, payload: Any) -> PushReply:
        await call("cells", ("write", self.topic, payload["value"]))
        return PushReply({})

    @handle_in("compare_and_set")
    async def compare_and_set(self, payload: Any) -> PushReply:
        request = ("compare_and_set", self.topic, payload["old"], payload["new"])
        return PushReply({"done": await call("cells", request)})


async def use(world: World, url: str, name: str) -> None:
    """Read and change two cells at random. A push without an answer may have had its effect or not."""
    stream = world.random("client", name)
    line = partial(world.connect, source=name)
    async with (
        open_socket(url, connect=line) as socket,
        socket.channel("cell:a", wait=False) as one,
        socket.channel("cell:b", wait=False) as other,
    ):
        for _ in range(world.params["pushes"]):
            await trio.sleep(stream.random() * 0.2)
            try:
                await push(stream.choice([one, other]), stream)
            except (PushTimeout, Refused) as error:
                world.sometimes("a push has no answer", isinstance(error, PushTimeout))


async def push(cell: ClientChannel, stream: Any) -> None:
    """Push one random operation."""
    match stream.randrange(4):
        case 0:
            await cell.push("write", {"value": stream.randrange(5)}, timeout=1)
        case 1:
            change = {"old": stream.randrange(5), "new": stream.randrange(5)}
            await cell.push("compare_and_set", change, timeout=1)
        case _:
            await cell.push("read", timeout=1)


async def check_cells(
    world: World, channel: type[Channel] = CellChannel, cells: type[Cells] = Cells
) -> None:
    """Let clients use the channel, record their pushes, and check that each cell was one register."""

    class CellSocket(Socket):
        channels = {"cell:*": channel}

    endpoint = Endpoint(sockets={"/socket": CellSocket}, listen=world.listen)
    store = child_spec(cells, kwargs={"name": "cells"})
    server = endpoint.child_spec(host="127.0.0.1", port=0)
    await Supervisor.start_link([store, server], label="server")
    host, port = endpoint.address
    history = OperationHistory()
    with history.recording("cell:*"):
        async with trio.open_nursery() as nursery:
            for number in range(world.params["clients"]):
                nursery.start_soon(use, world, f"ws://{host}:{port}/socket", f"client {number}")
    await world.until_over()
    world.sometimes("a client changed a cell", any(each.result is True for each in history))
    check_linearizable(history, Register()).require()


@scenario(
    faults=Storm(
        ["/server/endpoint/CellSocket channels/*/CellChannel"],
        connections=["client *"],
        count=3,
        within=1.0,
        kinds=["kill", "reset_connection", "slow_connection"],
    ),
    params={"clients": 4, "pushes": 8, "seconds": 3},
)
async def busy_clients(world: World) -> None:
    """Clients use the cells, while channels and connections end. Each cell stays one register."""
    await check_cells(world)
