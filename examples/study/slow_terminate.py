"""A slow terminate. Four servers clean up when they stop. How long does the stop take, and which servers finish?"""

from __future__ import annotations

from typing import Any

import trio
from attrs import frozen

from actors import SHUTDOWN, GenServer, stop, trap_exits
from examples.study.lab import Life, Lives, show, virtual
from examples.study.picture import timelines
from supervision import ChildSpec, DynamicSupervisor, Supervisor

CLEANING = {"quick": 1.0, "slow": 3.0, "stuck": 60.0, "deaf": 1.0}
"""Seconds of clean-up. By default, a child has 5 seconds to stop. `deaf` does not trap exits."""

cleaned: list[str] = []


class Cleaner(GenServer[Any]):
    async def init(self, name: str) -> None:
        if name != "deaf":
            trap_exits()
        self.state = name

    async def terminate(self, reason: Any) -> None:
        await trio.sleep(CLEANING[self.state])
        cleaned.append(self.state)


@frozen
class Run:
    seconds: float
    cleaned: tuple[str, ...]
    lives: list[Life]

    def __str__(self) -> str:
        return f"stops in {self.seconds:.0f} s; finished: {', '.join(self.cleaned)}"


async def run(*, at_once: bool) -> Run:
    cleaned.clear()
    lives = Lives(tuple(CLEANING))
    specs = [
        ChildSpec(name, Cleaner.start_link, (name,), kwargs={"name": name}) for name in CLEANING
    ]
    if at_once:
        top = await DynamicSupervisor.start()
        for spec in specs:
            await DynamicSupervisor.start_child(top, spec)
    else:
        top = await Supervisor.start(specs)
    began = trio.current_time()
    await stop(top, SHUTDOWN)
    return Run(trio.current_time() - began, tuple(cleaned), lives.lives)


def experiment() -> dict[str, Run]:
    return {
        "Supervisor": virtual(run, at_once=False),
        "DynamicSupervisor": virtual(run, at_once=True),
    }


def picture(runs: dict[str, Run]) -> str:
    panels = {f"{name}: {run.seconds:.0f} s": run.lives for name, run in runs.items()}
    return timelines("From the order to stop to the last end", panels, 10)


if __name__ == "__main__":
    show(experiment, picture)
