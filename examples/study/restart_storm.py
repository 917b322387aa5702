"""A restart storm and backoff.

The database is away for 20 seconds. Which workers return, and after how many attempts?
"""

from __future__ import annotations

import math
from typing import Any

import trio
from attrs import frozen

from actors import is_alive
from examples.study.lab import show, virtual
from examples.study.picture import curves
from supervision import Backoff, Supervisor, process_spec

WORKERS, DOWN, UP, SECONDS = 5, 5.0, 25.0, 40
POLICIES: dict[str, dict[str, Any]] = {
    "3 restarts in 5 s": {},
    "no limit": {"max_restarts": math.inf},
    "no limit, backoff": {"max_restarts": math.inf, "backoff": Backoff(0.1, 5.0)},
}


@frozen
class Run:
    """Attempts to connect in each second, connected workers at the end, and seconds until all returned."""

    attempts: list[int]
    connected: int
    back_after: float | None

    def __str__(self) -> str:
        back = "never" if self.back_after is None else f"{self.back_after:.1f} s after the database"
        return (
            f"{sum(self.attempts):5} attempts; {self.connected} of {WORKERS} workers back, {back}"
        )


async def run(policy: dict[str, Any]) -> Run:
    began, attempts, connected, backs = trio.current_time(), [0] * SECONDS, set[int](), []

    def now() -> float:
        return trio.current_time() - began

    async def worker(number: int) -> None:
        attempts[int(now())] += 1
        await trio.sleep(0.1)
        if DOWN <= now() < UP:
            raise ConnectionRefusedError
        connected.add(number)
        backs.append(now())
        if now() < DOWN:
            await trio.sleep(DOWN - now() + number / 1000)
            connected.discard(number)
            raise ConnectionResetError
        await trio.sleep_forever()

    workers = [process_spec(worker, number, id=number) for number in range(WORKERS)]
    top = await Supervisor.start(workers, **policy)
    await trio.sleep(SECONDS - 0.5)
    alive = len(connected) if is_alive(top) else 0
    return Run(attempts, alive, max(backs) - UP if alive else None)


def experiment() -> dict[str, Run]:
    return {name: virtual(run, policy) for name, policy in POLICIES.items()}


def picture(runs: dict[str, Run]) -> str:
    panels = {name: {"attempts": run.attempts} for name, run in runs.items()}
    title = "Attempts to connect in each second"
    return curves(title, panels, "seconds", {"away": DOWN, "back": UP})


if __name__ == "__main__":
    show(experiment, picture)
