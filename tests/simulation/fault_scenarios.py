"""Scenarios with faults, in a module, so that their runs can be saved and repeated."""

from __future__ import annotations

import itertools
from typing import Any

import trio

from actors import (
    CallExit,
    GenServer,
    Reply,
    Sender,
    call,
    cast,
    current_pid,
    current_runtime,
    send_after,
    whereis,
)
from supervision import Supervisor, child_spec
from supervision.laboratory.chaos.faults.kinds import Kill
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.chaos.faults.plan import Storm
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.world.nodes import Node
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario

KINDS = (
    *("kill", "crash", "exit_with", "slow", "swallow_cancellation", "fill_mailbox"),
    *("drop_message", "delay_message", "duplicate_message", "reorder_message", "stall_loop"),
)
STORM = Storm(["/top/w*", "/top"], count=8, within=8.0, kinds=KINDS)


class Worker(GenServer[int]):
    async def init(self) -> None:
        self.state = 0
        send_after(current_pid(), "tick", 0.3)

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        return Reply(self.state)

    async def handle_cast(self, message: Any) -> None:
        self.state += 1
        await trio.sleep(current_runtime().random.uniform(0, 0.05))

    async def handle_info(self, message: Any) -> None:
        if message == "tick":
            send_after(current_pid(), "tick", 0.3)


@scenario(faults=STORM, params={"workers": 4}, knobs=Knobs(kill_grace=1.0))
async def busy(world: World) -> None:
    """Some workers under one supervisor, for ten seconds."""
    workers = [
        child_spec(Worker, id=f"w{number}", kwargs={"name": f"w{number}"})
        for number in range(world.params["workers"])
    ]
    load = world.random("load")
    try:
        await Supervisor.start(workers, name="top", max_restarts=10_000)
        while world.seconds < 10:
            await trio.sleep(load.uniform(0.01, 0.2))
            name = f"w{load.randrange(world.params['workers'])}"
            if whereis(name) is None:
                continue
            cast(name, "count")
            try:
                await call(name, "total", timeout=0.5)
            except CallExit:
                world.sometimes("a call failed")
    finally:
        world.note("done")


@scenario(faults=[Kill(target="/nobody", when=At(1.0))])
async def unharmed(world: World) -> None:
    """A scenario whose plan of faults has no target."""
    await trio.sleep(2)


async def echo(world: World) -> None:
    """A client and a server that exchange a message every 0.1 s for ten seconds, and note the durations."""
    listener = world.network.listen("server", 7)

    async def serve() -> None:
        while True:
            nursery.start_soon(answer, await listener.accept())

    async def answer(stream: Any) -> None:
        try:
            while data := await stream.receive_some():
                await stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    async def ask() -> None:
        while True:
            stream = await world.network.connect("server", 7, source="phone")
            try:
                while True:
                    began = world.seconds
                    await stream.send_all(b"hello")
                    await stream.receive_some()
                    world.note("echo", took=round(world.seconds - began, 3))
                    await trio.sleep(0.1)
            except trio.BrokenResourceError:
                world.note("broken")

    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            nursery.start_soon(ask)


async def island(node: Node) -> None:
    """Run one worker on a node, and write the times of its boots to its disk."""
    await Supervisor.start(
        [child_spec(Worker, id="w", kwargs={"name": "w"})], name="top", max_restarts=100
    )
    while True:
        node.disk.setdefault("up", []).append(round(trio.current_time(), 1))
        node.disk["ahead"] = round(current_runtime().now() - trio.current_time(), 1)
        await trio.sleep(0.1)


async def islands(world: World) -> None:
    """Two nodes, for five seconds."""
    world.nodes.start("a", island)
    world.nodes.start("b", island)
    await trio.sleep(5)
    for name in "ab":
        disk = world.nodes.disk(name)
        down = max(later - sooner for sooner, later in itertools.pairwise(disk["up"]))
        world.note("disk", node=name, down=round(down, 1), ahead=disk["ahead"])
