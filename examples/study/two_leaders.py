"""Two leaders. The holder of a lock pauses for longer than its lease. Which confirmed writes does the storage lose?

The lock is a model of the one in "How to do distributed locking" by Martin Kleppmann (2016), as HBase once used it.
"""

from __future__ import annotations

from functools import partial

import trio
from attrs import define, field

from examples.study.lab import Life, show
from examples.study.picture import timelines
from supervision.chaos import Storm
from supervision.simulation import Node, World, simulate

PAUSES = Storm(nodes=("one", "two"), kinds=("pause_node",), count=2, within=4.0, longest=3.0)


@define
class Lock:
    """A service that gives a lock for some time. It cannot know that the holder is paused."""

    until: float = 0.0
    holders: list[Life] = field(factory=list)

    def acquire(self, name: str) -> int | None:
        if trio.current_time() < self.until:
            return None
        self.until = trio.current_time() + 1.0  # the lease
        self.holders.append(Life(name, trio.current_time()))
        return len(self.holders)  # the fence, which grows

    def release(self, fence: int) -> None:
        self.holders[fence - 1].end = trio.current_time()
        if fence == len(self.holders):
            self.until = 0.0


@define
class Storage:
    """A number. It may check the fence of each request."""

    kind: str
    number: int = 0
    newest: int = 0
    confirmed: int = 0

    def allows(self, fence: int) -> bool:
        self.newest = max(self.newest, fence)
        return self.kind == "no fence" or fence == self.newest


async def client(node: Node, lock: Lock, storage: Storage) -> None:
    random = node.random("work")
    for _ in range(8):
        while (fence := lock.acquire(node.name)) is None:  # noqa: ASYNC110 - a lock service is asked again and again
            await trio.sleep(0.05)
        if storage.kind != "claim, then read" or storage.allows(fence):
            number = storage.number
            await trio.sleep(random.uniform(0.1, 0.6))
            if storage.allows(fence):
                storage.number, storage.confirmed = number + 1, storage.confirmed + 1
        lock.release(fence)
        await trio.sleep(random.uniform(0.0, 0.2))


async def race(world: World, lock: Lock, storage: Storage) -> None:
    for name in ("one", "two"):
        world.nodes.start(name, client, lock, storage)
    await trio.sleep(20)


@define
class Sweep:
    failed: dict[int, list[Life]] = field(factory=dict)

    def __str__(self) -> str:
        return f"{len(self.failed):2} of 100 seeds lose a confirmed write: {list(self.failed)[:3]}"


def experiment() -> dict[str, Sweep]:
    sweeps = {kind: Sweep() for kind in ("no fence", "fenced writes", "claim, then read")}
    for kind, sweep in sweeps.items():
        for seed in range(1, 101):
            lock, storage = Lock(), Storage(kind)
            simulate(partial(race, lock=lock, storage=storage), seed, faults=PAUSES).check()
            sweep.failed |= {seed: lock.holders} if storage.confirmed > storage.number else {}
    return sweeps


def picture(sweeps: dict[str, Sweep]) -> str:
    first = {kind: next(iter(sweep.failed.items()), (0, [])) for kind, sweep in sweeps.items()}
    panels = {f"{kind}, seed {seed}": lives for kind, (seed, lives) in first.items() if lives}
    return timelines("Two leaders: from acquire to release", panels, 9.0)


if __name__ == "__main__":
    show(experiment, picture)
