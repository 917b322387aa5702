"""A crash is contained. One of twelve rooms crashes. How many rooms stop?"""

from __future__ import annotations

import trio
from attrs import Factory, frozen

from actors import register
from examples.study.lab import Life, Lives, show, virtual
from examples.study.picture import timelines
from supervision import Supervisor, process_spec

ROOMS = [f"room {number}" for number in range(1, 13)]


@frozen
class Run:
    ticks: int
    stopped: int
    lives: list[Life] = Factory(list)

    def __str__(self) -> str:
        return f"{self.stopped:2} of 12 rooms stop; {self.ticks:3} of 120 ticks"


class Building:
    """Twelve rooms that tick once a second. The lamp of room 5 falls over after 3.5 seconds, once."""

    def __init__(self) -> None:
        self.ticks = 0
        self.lamp_stands = True

    async def room(self, name: str) -> None:
        for second in range(1, 1000):
            if name == "room 5" and second == 4 and self.lamp_stands:
                self.lamp_stands = False
                await trio.sleep(0.5)
                raise RuntimeError("the lamp fell over")
            await trio.sleep(1)
            self.ticks += 1


async def in_a_nursery() -> Run:
    building, stopped = Building(), 0
    with trio.move_on_after(10.25):
        try:
            async with trio.open_nursery() as nursery:
                for name in ROOMS:
                    nursery.start_soon(building.room, name)
        except* RuntimeError:
            stopped = 12
    return Run(building.ticks, stopped)


async def under_a_supervisor() -> Run:
    building, lives = Building(), Lives(ROOMS)

    async def process(name: str) -> None:
        register(name)
        await building.room(name)

    await Supervisor.start_link([process_spec(process, name, id=name) for name in ROOMS])
    await trio.sleep(10.25)
    return Run(building.ticks, sum(life.how != "alive" for life in lives.lives), lives.lives)


def experiment() -> dict[str, Run]:
    return {
        "one nursery": virtual(in_a_nursery),
        "one supervisor": virtual(under_a_supervisor),
    }


def picture(runs: dict[str, Run]) -> str:
    lives = {"one supervisor": runs["one supervisor"].lives}
    return timelines("The lamp in room 5 falls over after 3.5 s", lives, 10)


if __name__ == "__main__":
    show(experiment, picture)
