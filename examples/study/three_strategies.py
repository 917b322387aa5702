"""A comparison of restart strategies. The database crashes. Which parts must restart before pages work again?"""

from __future__ import annotations

from typing import Any, Literal

import trio
from attrs import frozen

from actors import CallExit, GenServer, Reply, call, cast, whereis
from examples.study.lab import Life, Lives, show, virtual
from examples.study.picture import timelines
from supervision import Supervisor, child_spec

NAMES = ("cache", "database", "web")
Strategy = Literal["one_for_one", "rest_for_one", "one_for_all"]
STRATEGIES: tuple[Strategy, ...] = ("one_for_one", "rest_for_one", "one_for_all")


class Part(GenServer[Any]):
    """A part that needs 0.3 s to start.

    It keeps the database process that it found at its start, as a connection does.
    """

    async def init(self) -> None:
        await trio.sleep(0.3)
        self.state = whereis("database")

    async def handle_cast(self, message: Any) -> None:
        raise RuntimeError("the disk is full")

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        if request == "row":
            return Reply("a row")
        try:
            return Reply(await call(self.state, "row"))
        except CallExit:
            return Reply(None)  # 500 Internal Server Error


@frozen
class Run:
    pages: int
    restarted: tuple[str, ...]
    order: tuple[str, ...]
    lives: list[Life]

    def __str__(self) -> str:
        return f"{self.pages:2} of 10 pages work; restarted {', '.join(self.restarted)}"


async def run(strategy: Strategy) -> Run:
    lives = Lives(NAMES)
    parts = [child_spec(Part, id=name, kwargs={"name": name}) for name in NAMES]
    await Supervisor.start_link(parts, strategy=strategy)
    await trio.sleep(1)
    started = len(lives.order)
    cast("database", "write")
    await trio.sleep(2)
    pages = [await call("web", "page") for _ in range(10)]
    order = tuple(lives.order[started:])
    restarted = tuple(each.removeprefix("start ") for each in order if each.startswith("start"))
    return Run(len(pages) - pages.count(None), restarted, order, lives.lives)


def experiment() -> dict[str, Run]:
    return {strategy: virtual(run, strategy) for strategy in STRATEGIES}


def picture(runs: dict[str, Run]) -> str:
    panels = {f"{name}: {run.pages} of 10 pages": run.lives for name, run in runs.items()}
    return timelines("The database crashes 1.9 s after the first start", panels, 4)


if __name__ == "__main__":
    show(experiment, picture)
