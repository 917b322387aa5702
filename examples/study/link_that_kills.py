"""A link that kills. Nine processes are linked in a chain. One process ends. Which others end too?"""

from __future__ import annotations

from typing import Any

import trio
from attrs import frozen

from actors import Down, Pid, is_alive, kill, link, monitor, receive, send, spawn, trap_exits
from examples.study.lab import show, virtual
from examples.study.picture import squares

CASES: dict[str, dict[str, Any]] = {
    "1 returns": {"end": "return"},
    "1 crashes": {"end": "crash"},
    "1 crashes, 5 traps exits": {"end": "crash", "traps": True},
    "1 is killed, 5 traps exits": {"end": "kill", "traps": True},
    "5 is killed, 5 traps exits": {"end": "kill", "traps": True, "victim": 5},
    "1 crashes, 5 monitors 4": {"end": "crash", "monitors": True},
}


@frozen
class Run:
    alive: list[int]
    got: str

    def __str__(self) -> str:
        return f"alive: {' '.join(map(str, self.alive)) or '-':17} 5 got: {self.got}"


async def run(*, end: str, traps: bool = False, monitors: bool = False, victim: int = 1) -> Run:
    got: list[Any] = []

    async def member(number: int, before: Pid | None) -> None:
        if number == 5 and traps:
            trap_exits()
        if before is not None:
            (monitor if number == 5 and monitors else link)(before)
        while (message := await receive()) != "return":
            if message == "crash":
                raise RuntimeError("on purpose")
            got.append(message)

    chain: list[Pid] = []
    for number in range(1, 10):
        chain.append(spawn(member, number, chain[-1] if chain else None))
        await trio.testing.wait_all_tasks_blocked()
    if end == "kill":
        kill(chain[victim - 1])
    else:
        send(chain[victim - 1], end)
    await trio.testing.wait_all_tasks_blocked()
    alive = [number for number, pid in enumerate(chain, 1) if is_alive(pid)]
    for pid in chain:
        kill(pid)
    kinds = [f"{'Down' if type(each) is Down else 'Exit'}, {each.reason}" for each in got]
    return Run(alive, "; ".join(kinds) or "nothing")


def experiment() -> dict[str, Run]:
    return {name: virtual(run, **case) for name, case in CASES.items()}


def picture(runs: dict[str, Run]) -> str:
    rows = {
        name: [(str(n), "untouched" if n in run.alive else "crashed") for n in range(1, 10)]
        for name, run in runs.items()
    }
    return squares("Nine linked processes", rows, "green: alive; red: dead")


if __name__ == "__main__":
    show(experiment, picture)
