"""A mailbox that fills. A server can answer 10 calls a second, but gets 12. How many calls does it answer in time?"""

from __future__ import annotations

from typing import Any

import trio
from attrs import frozen

from actors import CallTimeout, GenServer, Pid, Reply, call, current_pid, current_runtime
from examples.study.lab import show, virtual
from examples.study.picture import curves

SECONDS, ARRIVALS, WORK, PATIENCE = 40, 12, 0.099, 2.0  # 0.1 would tie with arrivals
ROOM = 5
"""If this many calls wait, the careful server refuses further calls at once."""


def waiting(pid: Pid) -> int:
    info = current_runtime().process_info(pid)
    return 0 if info is None else int(info["queue_length"])


class Till(GenServer[Any]):
    async def init(self, *, refuses: bool) -> None:
        self.state = refuses

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        if self.state and waiting(current_pid()) > ROOM:
            return Reply("busy")
        await trio.sleep(WORK)
        return Reply("done")


@frozen
class Run:
    """For each second: the calls answered in time, and the messages in the mailbox at the end of the second."""

    answered: list[int]
    mailbox: list[int]

    def __str__(self) -> str:
        first, last = sum(self.answered[:10]), sum(self.answered[20:])
        return f"{first:3} of the first 120 in time; {last:3} of the last 240; waiting: {self.mailbox[-1]}"


async def run(*, refuses: bool) -> Run:
    till = await Till.start(refuses=refuses)
    answered, mailbox = [0] * SECONDS, []

    async def customer(second: int) -> None:
        try:
            if await call(till, "pay", timeout=PATIENCE) == "done":
                answered[second] += 1
        except CallTimeout:
            pass

    async with trio.open_nursery() as nursery:
        for second in range(SECONDS):
            for _ in range(ARRIVALS):
                nursery.start_soon(customer, second)
                await trio.sleep(1 / ARRIVALS)
            mailbox.append(waiting(till))
    return Run(answered, mailbox)


def experiment() -> dict[str, Run]:
    return {
        "takes every call": virtual(run, refuses=False),
        "refuses beyond 5": virtual(run, refuses=True),
    }


def picture(runs: dict[str, Run]) -> str:
    panels = {
        "answered in time, in each second": {name: run.answered for name, run in runs.items()},
        "waiting in the mailbox": {name: run.mailbox for name, run in runs.items()},
    }
    return curves("12 calls a second for a server that can answer 10", panels, "seconds")


if __name__ == "__main__":
    show(experiment, picture)
