"""A key-value store with a write-ahead journal, on a machine that loses its power at any moment.

    ashtree simulate examples.scenarios.journal:power_failures --seeds 1-200

A `put` is safe once it returns. The store writes each put to its journal. From time to time it writes all its values to
a new file, renames that file, and empties the journal. The order of its syncs decides whether a value can be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from zlib import crc32

import trio
from msgspec import DecodeError, json

from supervision.chaos import Storm
from supervision.simulation import Disk, Node, World, scenario

__all__ = ["Store", "power_failures"]

JOURNAL, STATE, NEW_STATE = "data/journal", "data/state", "data/state.new"
# The number of puts after which the store empties its journal.
_MOST: Final = 4


class Store:
    """A dict on a disk. Its methods block, so call them in a thread.

    Args:
        disk: the disk.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.values: dict[str, int] = {}
        self.changes = 0
        self.open()

    def open(self) -> None:
        """Read the state and the journal, as they were left."""
        if self.disk.exists(STATE):
            self.values = json.decode(self.disk.open(STATE).read())
        self.journal = self.disk.open(JOURNAL, "a")
        end = 0
        for line in self.journal.read().splitlines(keepends=True):
            record = decoded(line)
            if record is None:
                # The power failed before the last put returned.
                break
            self.values |= record
            end += len(line)
        self.journal.truncate(end)
        self.journal.fsync()
        self.sync_names()

    def sync_names(self) -> None:
        """Sync the name of the journal, which may be new."""
        self.disk.sync_directory("data")

    def put(self, key: str, value: int) -> None:
        """Set a value. No power failure can undo this once it has returned."""
        body = json.encode({key: value})
        self.journal.write(b"%08x %b\n" % (crc32(body), body))
        self.sync_journal()
        self.values[key] = value
        self.changes += 1
        if self.changes % _MOST == 0:
            self.empty_journal()

    def sync_journal(self) -> None:
        """Sync the latest record."""
        self.journal.fsync()

    def empty_journal(self) -> None:
        """Write all values to the state, so that the journal is no longer necessary."""
        self.write_state()
        self.disk.rename(NEW_STATE, STATE)
        self.disk.sync_directory("data")
        self.journal.truncate()
        # Otherwise a power failure may keep an old record where the next one begins, and `open` would replay it.
        self.sync_journal()

    def write_state(self) -> None:
        """Write all values to a new file."""
        file = self.disk.open(NEW_STATE, "w")
        file.write(json.encode(self.values))
        file.fsync()


def decoded(line: bytes) -> dict[str, int] | None:
    """Return the record of a line of the journal, or None if the line is damaged."""
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % crc32(body):
        return None
    try:
        record: dict[str, int] = json.decode(body)
    except DecodeError:
        return None
    return record


class Attempts:
    """The puts of a run, for its checks.

    Attributes:
        done: the last acknowledged value of each key.
        begun: the values of each key since then.
    """

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.begun: dict[str, list[int]] = {}
        self.number = 0

    def problems(self, values: dict[str, int]) -> list[str]:
        """Compare the values of a store with the acknowledged ones."""
        return [
            f"{key} is {values.get(key)}, and {done} was acknowledged"
            for key, done in self.done.items()
            if values.get(key) not in (done, *self.begun.get(key, ()))
        ]


async def machine(node: Node, world: World, make: Callable[[Disk], Store], tried: Attempts) -> None:
    """Open the store after each boot, check it, and put values into it."""
    store = await trio.to_thread.run_sync(make, node.disk)
    problems = tried.problems(store.values)
    world.check(not problems, f"after boot {node.incarnation}: {', '.join(problems)}")
    world.sometimes("a put survives without an answer", store.values != tried.done)
    random = world.random("keys")
    while tried.number < world.params["puts"]:
        key, value = random.choice("abc"), tried.number
        tried.number += 1
        tried.begun.setdefault(key, []).append(value)
        await trio.to_thread.run_sync(store.put, key, value)
        tried.done[key] = value
        tried.begun[key] = []
    await trio.sleep_forever()


async def lose_power(world: World, make: Callable[[Disk], Store]) -> None:
    """Run a machine with a store until the end of the faults, and check it once more."""
    tried = Attempts()
    node = world.nodes.start("a", machine, world, make, tried)
    # A file system may keep the order of its changes, or not.
    node.disk.mode = world.random("disk").choice(("ordered", "any"))
    await trio.sleep(world.params["seconds"])
    world.faults.heal()
    if not node.up:
        world.nodes.boot("a")
    puts = world.params["puts"]
    await world.eventually("all values are put", lambda: tried.number == puts, within=30.0)


FAULTS = Storm(
    kinds=["kill_node"], nodes=["a"], files=["a/*"], count=4, within=2.0, longest=0.5, callbacks=0.8
)


@scenario(faults=FAULTS, params={"puts": 20, "seconds": 4.0})
async def power_failures(world: World) -> None:
    """Lose the power in the middle of puts, and lose no acknowledged value."""
    await lose_power(world, Store)
