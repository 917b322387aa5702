"""The place of every process of a runtime in its tree.

    places = Places(runtime)
    places.find("/top/room:*")              # the newest living process at such a path

The *path* of a process is the path of its parent and one more part. If a supervisor started the process under a child
id, the part is that id. Otherwise it is the name or the label of the process. The *incarnation* is the number of
processes that have had this path, including this one. Paths and incarnations are the same in every run of a seed. Pids
may differ, because a pid depends on the number of processes that started before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from attrs import define

from actors.exits import ExitReason
from actors.instrumentation.instrument import Instrument
from actors.refs import Address, Pid
from actors.runtime import Runtime
from supervision.events import CHILD_STARTING
from supervision.recording.describe import describe, without_addresses

__all__ = ["Place", "Places", "UnobservedPlaces", "component_of", "fits"]

REMEMBERED = 10_000
"""The number of ended processes whose places stay known."""


@define(eq=False)
class Place:
    """The place of a process in its tree.

    Attributes:
        path: the path of the process, such as `/top/room:lobby`.
        incarnation: the number of processes that have had this path, including this one.
        role: the path that a replacement of this process has too. Without a child id, `*` replaces the numbers of
            partitions, because the replacement may run in another partition.
        pattern: the path with `*` in place of the numbers of partitions.
        cause: the number of the last event that reached the process, for a recorder.
        held: the number of faults that now delay a callback of the process.
    """

    path: str
    incarnation: int
    role: str
    pattern: str
    cause: int | None = None
    held: int = 0

    def __str__(self) -> str:
        return f"{self.path}#{self.incarnation}"


class Places(Instrument):
    """Track the path of each process of one runtime. Tracking begins when you create the object.

        Places(runtime).find("/top/store")

    A process that already lives gets a place by its name or label, because no event announces its child id again.

    Patterns work as in `fnmatch`: `*` matches any characters including slashes, `?` matches one, `[ab]` one of several.
    A complete path matches itself.

    Args:
        runtime: the runtime.
        watch: False does not attach this instrument to the runtime. Its owner then calls the methods itself.
        max_paths: the number of paths whose incarnations to count; None is no limit. Beyond this number, the object
            forgets the least recently used path. The incarnations of that path then begin at 1 again.

    Without `max_paths` the memory grows with the number of paths, so a long-lived server needs it.
    """

    def __init__(
        self, runtime: Runtime, *, watch: bool = True, max_paths: int | None = None
    ) -> None:
        self.runtime = runtime
        self._max_paths = max_paths
        self.living: dict[Pid, Place] = {}
        self._ended: dict[Pid, Place] = {}
        self._incarnations: dict[str, int] = {}
        # The id of the child that each supervisor is starting. The entry stays until the process spawns.
        self._starting: dict[Pid, Any] = {}
        for pid in runtime.processes():
            info = runtime.process_info(pid)
            if info is not None:
                self.process_spawned(pid, info["parent"], info["label"])
        self._detach = runtime.telemetry.attach(CHILD_STARTING, self._child_starting)
        self._remove = runtime.add_instrument(self) if watch else None

    def close(self) -> None:
        """Stop observing the runtime."""
        self._detach()
        if self._remove is not None:
            self._remove()

    # Look-ups

    def place_of(self, pid: Pid) -> Place | None:
        """Return the place of a living process; None if it has ended or belongs to another runtime."""
        return self._look().get(pid)

    def was_at(self, pid: Pid) -> Place | None:
        """Return the place of a living process, or of one of the last `REMEMBERED` ended ones."""
        place = self._look().get(pid)
        return self._ended.get(pid) if place is None else place

    def is_held(self, pid: Pid) -> bool:
        """Return True if a fault delays a callback of a living process."""
        place = self._look().get(pid)
        return place is not None and place.held > 0

    def find(self, pattern: str) -> Pid | None:
        """Return the newest living process whose path matches."""
        living = self._look()
        return next((pid for pid in reversed(living) if fits(living[pid].path, pattern)), None)

    def each(self) -> Iterable[tuple[Pid, Place]]:
        """Return the living processes with their places, the oldest first."""
        return self._look().items()

    def _look(self) -> dict[Pid, Place]:
        """Return the living processes, the oldest first."""
        return self.living

    # The instrument

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        above = self.living.get(parent)
        has_id = parent in self._starting
        id = self._starting.pop(parent) if has_id else None
        # The label of a child whose id is an address in a registry has the key, and the class too.
        has_id = has_id and not isinstance(id, Address)
        component = component_of(id) if has_id else self._name_or_label(pid, label)
        path = f"{'' if above is None else above.path}/{component}"
        # Only partitions have numbers as ids.
        pattern = (
            f"{'' if above is None else above.pattern}/{'*' if type(id) is int else component}"
        )
        # Move the path to the end, so that the least recently used path is the first.
        incarnation = self._incarnations[path] = self._incarnations.pop(path, 0) + 1
        if self._max_paths is not None and len(self._incarnations) > self._max_paths:
            del self._incarnations[next(iter(self._incarnations))]
        self.living[pid] = Place(path, incarnation, path if has_id else pattern, pattern)

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._ended_now(pid)

    def _ended_now(self, pid: Pid) -> None:
        self._starting.pop(pid, None)
        place = self.living.pop(pid, None)
        if place is not None:
            ended = self._ended
            ended[pid] = place
            if len(ended) > REMEMBERED:
                del ended[next(iter(ended))]

    def _name_or_label(self, pid: Pid, label: str) -> str:
        info = self.runtime.process_info(pid)
        name = None if info is None else info["name"]
        return name if isinstance(name, str) else without_addresses(label)

    def _child_starting(
        self, event: tuple[str, ...], measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        self._starting[metadata["supervisor"]] = metadata["id"]


class UnobservedPlaces(Places):
    """The places of processes in a runtime without instruments.

    Without instruments, no event announces a new process. So each look-up first asks the runtime for its processes,
    which takes longer. Telemetry still announces the ids of children. A process that starts and ends between two
    look-ups gets no place.

    Args:
        runtime: the runtime.
    """

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime, watch=False)

    def _child_starting(
        self, event: tuple[str, ...], measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        # This event replaces the id that the supervisor announced before. So first give the earlier child its place.
        self._look()
        super()._child_starting(event, measurements, metadata)

    def _look(self) -> dict[Pid, Place]:
        living = dict.fromkeys(self.runtime.processes())
        for pid in [pid for pid in self.living if pid not in living]:
            self._ended_now(pid)
        for pid in living:
            info = None if pid in self.living else self.runtime.process_info(pid)
            if info is not None:
                self.process_spawned(pid, info["parent"], info["label"])
        return self.living


def fits(path: str, pattern: str) -> bool:
    """Return True if a path equals a pattern or matches it."""
    return path == pattern or fnmatchcase(path, pattern)


def component_of(id: object) -> str:
    """Return the path component for a child id. The key stands for an address such as `registry.via(42)`."""
    if isinstance(id, Address):
        id = getattr(id, "key", id)
    return id if isinstance(id, str) else describe(id)
