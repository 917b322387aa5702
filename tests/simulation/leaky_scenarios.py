"""Scenarios that depend on something that no seed decides, such as the order of a set."""

import os
import resource
from typing import Any

import trio

from actors import GenServer, Pid, cast, receive, send, spawn
from supervision.laboratory.simulation.world.world import World

runs = 0


async def idle() -> None:
    """Wait for one message."""
    await receive()


class Group(GenServer[None]):
    """A server that keeps its members in a set, and sends to all of them."""

    async def init(self) -> None:
        self.members = {spawn(idle, label=f"member {number}") for number in range(30)}

    async def handle_cast(self, message: Any) -> None:
        for member in list(self.members):
            tell(member, message)


def tell(member: Pid, message: Any) -> None:
    """Send a message, in a function below the loop."""
    send(member, message)


async def group_in_a_server(world: World) -> None:
    """The set is an attribute, the loop in a callback."""
    cast(await Group.start(), "stop")
    await world.settle()


async def sorted_first(world: World) -> None:
    """The set is sorted, which is allowed."""
    names = {f"member {number}" for number in range(30)}
    for name in sorted(names):
        spawn(idle, label=name)


async def names_of_a_set(world: World) -> None:
    """The loop is a comprehension over a new set."""
    names = [f"member {number}" for number in range(30)]
    world.params["pids"] = len([spawn(idle, label=name) for name in set(names)])


async def what_another_run_left(world: World) -> None:
    """A module global counts the runs."""
    global runs  # noqa: PLW0603 # what is shown here
    runs += 1
    world.note("so many runs", runs=runs)


async def hashes(world: World) -> None:
    """The difference does not come from a loop."""
    world.note("a hash", number=hash("a text") % 1000)


async def sleeps_of_a_set(world: World) -> None:
    """The loop only sleeps, so no event shows its order."""
    names = {"x" * number for number in range(1, 9)}
    for name in names:
        await trio.sleep(len(name))


async def addresses(world: World) -> None:
    """The scenario reads a memory address."""
    world.note("an address", number=id(object()) // 16)


async def cpu_times(world: World) -> None:
    """The scenario reads the CPU time of the process."""
    # In full, because two processes can have the same hundredths of a second.
    world.note("the CPU time", seconds=resource.getrusage(resource.RUSAGE_SELF).ru_utime * 1e6)


async def environment(world: World) -> None:
    """The scenario reads all environment variables."""
    world.note("the variables", names=list(os.environ))


async def listings(world: World) -> None:
    """The scenario reads the names in a folder, which `world.params` has."""
    folder = world.params["folder"]
    with os.scandir(folder) as entries:
        scanned = [entry.name for entry in entries]
    listed = os.listdir(folder)  # noqa: PTH208 - a simulation replaces this function
    world.note("the names", listed=listed, scanned=scanned)
