"""The intensity limit. A supervisor allows 3 restarts in 5 seconds. How often may a child crash?"""

from __future__ import annotations

import trio
from attrs import frozen

from actors import current_runtime, wait_exit
from examples.study.lab import show, virtual
from examples.study.picture import bars
from supervision import Supervisor, process_spec
from supervision.events import CHILD_RESTARTED

PERIODS = (0.5, 1.0, 1.5, 1.6, 1.7, 2.0, 3.0)
LIMIT = 600.0


@frozen
class Life:
    """The life of a supervisor. `end` is None if the supervisor still ran after ten minutes."""

    restarts: int
    end: float | None

    def __str__(self) -> str:
        end = "never gives up" if self.end is None else f"gives up after {self.end:.1f} s"
        return f"{self.restarts:3} restarts, {end}"


async def live(period: float) -> Life:
    restarts = []
    current_runtime().telemetry.attach(CHILD_RESTARTED, lambda *event: restarts.append(event))

    async def clumsy() -> None:
        await trio.sleep(period)
        raise RuntimeError("fell over the bucket")

    top = await Supervisor.start([process_spec(clumsy)], max_restarts=3, max_seconds=5.0)
    began = trio.current_time()
    with trio.move_on_after(LIMIT) as limit:
        await wait_exit(top)
    return Life(len(restarts), None if limit.cancelled_caught else trio.current_time() - began)


def experiment() -> dict[str, Life]:
    return {f"every {period:.1f} s": virtual(live, period) for period in PERIODS}


def picture(lives: dict[str, Life]) -> str:
    rows = [(each, life.end or LIMIT, str(life)) for each, life in lives.items()]
    return bars("A supervisor whose child keeps crashing", rows, 10, "seconds; red: for ever")


if __name__ == "__main__":
    show(experiment, picture)
