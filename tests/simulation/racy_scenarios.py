"""A registry with a race: it removes by name, so a late exit of the old process removes the new one."""

from typing import Any

import trio

from actors import GenServer, Pid, cast, kill, monitor, receive, set_label, spawn_link
from supervision import ChildSpec, Supervisor
from supervision.laboratory.chaos.faults.plan import Storm
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario


class Registry(GenServer[dict[str, Pid]]):
    """A server with a table that other processes write to."""

    async def init(self, table: dict[str, Pid]) -> None:
        self.state = table
        self.names: dict[Any, str] = {}

    async def handle_cast(self, message: tuple[Pid, str]) -> None:
        pid, name = message
        self.names[monitor(pid)] = name

    async def handle_info(self, message: Any) -> None:
        # The bug: by now, the successor may be registered.
        self.state.pop(self.names.pop(message.ref), None)


async def room(name: str) -> None:
    """Waits for a message."""
    set_label(name)
    await receive()


async def open_room(table: dict[str, Pid], name: str) -> Pid:
    """Start a room and register it, in one step."""
    pid = table[name] = spawn_link(room, name, label=name)
    cast("registry", (pid, name))
    return pid


async def open_rooms(count: int) -> tuple[Pid, dict[str, Pid]]:
    """Start a registry and a supervisor with rooms. Return the supervisor and the table."""
    table: dict[str, Pid] = {}
    await Registry.start_link(table, name="registry")
    names = [f"room:{number}" for number in range(count)]
    children = [ChildSpec(id=name, start=open_room, args=(table, name)) for name in names]
    return await Supervisor.start_link(children, max_restarts=1000, label="top"), table


def check_rooms(world: World, table: dict[str, Pid], count: int) -> None:
    """Fail if a room is not registered."""
    names = [f"room:{number}" for number in range(count)]
    missing = [name for name in names if name not in table]
    world.check(not missing, f"not registered: {', '.join(missing)}")


async def lobby(world: World) -> None:
    """Kill rooms now and then. They must be registered whenever no task can run."""
    rooms, kills = world.params.get("rooms", 12), world.params.get("kills", 20)
    top, table = await open_rooms(rooms)
    stream = world.random("kills")
    for _ in range(kills):
        await trio.sleep(stream.random())
        victim = stream.choice(await Supervisor.which_children(top)).pid
        if isinstance(victim, Pid):
            kill(victim)
        await world.settle()
        check_rooms(world, table, rooms)


@scenario(
    faults=Storm(["/top/room:*"], kinds=["kill", "slow"], count=30, within=8.0),
    params={"rooms": 12, "seconds": 10},
)
async def lobby_in_a_storm(world: World) -> None:
    """The same rooms, and faults from outside."""
    _, table = await open_rooms(world.params["rooms"])
    while world.seconds < world.params["seconds"]:
        await trio.sleep(0.1)
        await world.settle()
        check_rooms(world, table, world.params["rooms"])
