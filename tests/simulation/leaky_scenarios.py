"""What must not be done in a simulation, in several ways: the order of a set is decided by no seed."""

from typing import Any

from actors import GenServer, Pid, cast, receive, send, spawn
from supervision.simulation.world.world import World

runs = 0


async def idle() -> None:
    """Wait for one message."""
    await receive()


class Group(GenServer[None]):
    """Keeps its members in a set, and tells them all."""

    async def init(self) -> None:
        self.members = {spawn(idle, label=f"member {number}") for number in range(30)}

    async def handle_cast(self, message: Any) -> None:
        for member in list(self.members):
            tell(member, message)


def tell(member: Pid, message: Any) -> None:
    """Send, a function further down than the loop."""
    send(member, message)


async def group_in_a_server(world: World) -> None:
    """The set is an attribute, the loop in a callback."""
    cast(await Group.start(), "stop")
    await world.settle()


async def sorted_first(world: World) -> None:
    """What may be done: put it in order."""
    names = {f"member {number}" for number in range(30)}
    for name in sorted(names):
        spawn(idle, label=name)


async def names_of_a_set(world: World) -> None:
    """The loop is a comprehension over a set that is made on the spot."""
    names = [f"member {number}" for number in range(30)]
    world.params["pids"] = len([spawn(idle, label=name) for name in set(names)])


async def what_another_run_left(world: World) -> None:
    """A module that remembers how many runs there were."""
    global runs  # noqa: PLW0603 # what is shown here
    runs += 1
    world.note("so many runs", runs=runs)


async def hashes(world: World) -> None:
    """Something of which no loop is to blame."""
    world.note("a hash", number=hash("a text") % 1000)
