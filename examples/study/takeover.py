"""The owner of an auction dies in the countdown. What does each bidder see, and when does the auction go on?"""

from __future__ import annotations

from functools import partial
from typing import Any

import trio
from attrs import frozen

from channels.testing import SimulatedRedis
from examples.study.auction_nodes import bid, serve
from examples.study.lab import Life, show
from examples.study.picture import timelines
from supervision.recording.flight import FlightRecorder
from supervision.recording.reader.history import read_history
from supervision.recording.reader.merging import merge
from supervision.simulation import World, simulate
from supervision.story import tell_story, write_text


@frozen
class Run:
    text: str
    lives: list[Life]

    def __str__(self) -> str:
        return self.text


def recording() -> tuple[dict[str, list[str]], list[bytes]]:
    """Return the figures that each bidder saw, and the merged recordings of both nodes."""
    heard: dict[str, list[str]] = {}
    files: dict[str, list[bytes]] = {}
    simulate(partial(evening, heard=heard, files=files), 1).check()
    return heard, merge(files)


async def evening(world: World, heard: dict[str, list[str]], files: dict[str, list[bytes]]) -> None:
    recorders: dict[str, FlightRecorder] = {}
    shared: tuple[Any, ...] = world.network.open, recorders, {}
    world.nodes.start("redis", SimulatedRedis().main)
    world.nodes.start("a", serve, *shared)
    world.nodes.start("b", serve, *shared)
    async with trio.open_nursery() as nursery:
        for second, name, home in ((3.0, "ann", "a"), (3.5, "bob", "b")):
            await trio.sleep(second - world.seconds)
            nursery.start_soon(bid, world, name, home, heard)
        await trio.sleep(3)
        world.nodes.kill("a")
        await trio.sleep(8)
        nursery.cancel_scope.cancel()
    files |= {f"{name}.jsonl": each.lines() for name, each in recorders.items()}


def experiment() -> dict[str, Run]:
    heard, merged = recording()
    found = [each for each in read_history(merged).processes if each.client or each.title]
    lives: dict[str, list[Life]] = {"ann": [], "bob": [], "the story": []}
    for each in found:
        if not each.title.startswith("AuctionChannel"):
            how = {"node_killed": "killed", None: "alive"}.get(each.exit, "stopped")
            name = f"owner on {each.key[0]}" if each.title else f"{each.client} on {each.key[0]}"
            lives[each.client or "the story"].append(Life(name, each.born, each.ended, how))
    told = "\n" + write_text(tell_story(merged)).partition("\n\n")[2]
    texts = {name: " ".join(each) for name, each in heard.items()} | {"the story": told}
    return {name: Run(text, lives[name]) for name, text in texts.items()}


def picture(runs: dict[str, Run]) -> str:
    return timelines("Takeover", {name: run.lives for name, run in runs.items()}, 15.0)


if __name__ == "__main__":
    show(experiment, picture)
