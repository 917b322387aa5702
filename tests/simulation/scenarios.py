"""Scenarios that tests also run in other processes."""

import trio

from actors import GenServer, cast, current_runtime, receive, send, spawn
from supervision import Supervisor, child_spec
from supervision.laboratory.simulation.world.world import World


class Worker(GenServer[int]):
    """A server that counts, and crashes at random."""

    async def init(self, chance: float) -> None:
        self.chance = chance
        self.state = 0

    async def handle_cast(self, message: object) -> None:
        runtime = current_runtime()
        await trio.sleep(runtime.random.uniform(0, 0.05))
        if runtime.random.random() < self.chance:
            raise RuntimeError(f"crash {runtime.uuid()}")
        self.state += 1


async def crashing_tree(world: World) -> None:
    """Supervisors with workers that crash, under a supervisor that never gives up."""
    groups, each = world.params.get("groups", 10), world.params.get("workers", 20)
    chance = world.random("chance").choice((0.002, 0.01, 0.05))
    top = await Supervisor.start_link(
        [
            Supervisor.child_spec(
                [child_spec(Worker, chance, id=number) for number in range(each)],
                id=f"group {group}",
                label=f"group {group}",
            )
            for group in range(groups)
        ],
        max_restarts=1000,
        label="top",
    )
    stream = world.random("work")
    for _ in range(world.params.get("rounds", 20)):
        await trio.sleep(stream.random() / 5)
        for info in await Supervisor.which_children(top):
            if not isinstance(info.pid, str) and info.pid is not None:
                try:
                    children = await Supervisor.which_children(info.pid)
                except Exception:
                    # The supervisor of the group has given up.
                    continue
                for child in stream.sample(children, k=min(5, len(children))):
                    cast(child.pid, "work")


async def clients(world: World) -> None:
    """Echo over the virtual network, with a connection that breaks now and then."""
    listener = world.network.listen("server", 80)

    async def serve(stream: trio.abc.Stream) -> None:
        try:
            async with stream:
                while data := await stream.receive_some():
                    await stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    async def client(number: int) -> None:
        stream = world.random("client", number)
        while True:
            connection = await world.network.connect("server", 80, source=f"client {number}")
            try:
                for _ in range(stream.randrange(10)):
                    await connection.send_all(stream.randbytes(stream.randrange(1, 5000)))
                    await connection.receive_some()
            except trio.BrokenResourceError:
                pass
            connection.close()
            await trio.sleep(stream.random())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        for number in range(5):
            nursery.start_soon(client, number)
        stream = world.random("resets")
        for _ in range(10):
            await trio.sleep(stream.random())
            if world.network.connections:
                stream.choice(world.network.connections).reset()
        nursery.cancel_scope.cancel()


async def tree_and_clients(world: World) -> None:
    """Both scenarios at once."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crashing_tree, world)
        nursery.start_soon(clients, world)


async def iterates_over_a_set(world: World) -> None:
    """A program that depends on the order of a set, which no seed decides."""

    async def idle() -> None:
        await receive()

    waiting = {spawn(idle, label=f"idle {number}") for number in range(50)}
    for pid in waiting:
        send(pid, "stop")
