"""Scenarios that fail with some seeds. Other processes import them too."""

import os
import signal
from pathlib import Path

import trio

from supervision.laboratory.simulation.scenario import scenario
from supervision.laboratory.simulation.world.world import World


class Answers:
    """The behaviour of `changeable`, which a test can change in this process."""

    problem: BaseException | None = RuntimeError("as it was")
    spared: frozenset[int] = frozenset()


async def rarely_fails(world: World) -> None:
    """Fail with about every fifth seed, in one of two ways."""
    await trio.sleep(1)
    chance = world.random("chance").random()
    if chance > world.params.get("most", 0.9):
        raise ValueError(f"{chance:.3f} is too much")
    world.check(chance > 0.1, f"{chance:.3f} is too little")


FAILURES = {"ValueError in line 6 of rarely_fails", "invariant check in line 7 of rarely_fails"}
"""The kinds of failures of `rarely_fails`, as `identify` names them."""


async def changeable(world: World) -> None:
    """Fail with `Answers.problem`, except for some seeds."""
    world.note("changeable")
    if Answers.problem is not None and world.seed not in Answers.spared:
        raise Answers.problem


async def ends_its_process(world: World) -> None:
    """End the process with some seeds, and hang with others."""
    await trio.sleep(1)
    match world.seed % 10:
        case 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        case 5:
            while True:
                pass
        case 7:
            os._exit(4)


async def terminates_the_search(world: World) -> None:
    """Send SIGTERM to the process of the sweep, and never end."""
    Path(world.params["file"]).write_text(str(os.getpid()))  # noqa: ASYNC240 # time stands still
    os.kill(os.getppid(), signal.SIGTERM)
    while True:
        pass


async def checks_at_every_seed(world: World) -> None:
    """Print, and fail with every seed."""
    print("what a scenario prints is not shown in a sweep")
    world.check(False, "it never holds")


@scenario(params={"visitors": 4}, bounds={"visitors": (2, 9)})
async def counts_visitors(world: World) -> None:
    """Count the visitors, and fail with every number but 0."""
    for number in range(world.params["visitors"]):
        await trio.sleep(1)
        world.note("a visitor", number=number)
    world.check(world.params["visitors"] == 0, f"ends at {world.params['visitors']}")
