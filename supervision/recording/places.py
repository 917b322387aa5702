"""Where in its tree every process of a runtime is.

    places = Places(runtime)
    places.find("/top/room:*")              # the newest living process at such a path

A process's *path* is its parent's path and a component of its own: its id, if a supervisor started it as a child that
has one, otherwise its name or its label. Its *incarnation* says how many processes have had this path, itself included.
Both are the same in every run of a seed, which pids are only as long as nothing else changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from attrs import define

from actors.exits import ExitReason
from actors.instrumentation.instrument import Instrument
from actors.refs import Pid
from actors.runtime import Runtime
from supervision.events import CHILD_STARTING
from supervision.recording.describe import describe, without_addresses

__all__ = ["Place", "Places", "component_of"]

REMEMBERED = 10_000
"""Ended processes whose places are still known."""


@define(eq=False)
class Place:
    """Where a process is, or was.

    Attributes:
        path: the path of the process, such as `/top/room:lobby`.
        incarnation: the number of processes that have had this path, including this one.
        role: the path that a replacement of this process has. For a process without a child id it has `*` in place of
            the numbers of partitions, because the replacement may run in another partition.
        pattern: the path with `*` in place of the numbers of partitions.
        cause: the number of the last event that reached the process, for a recorder.
        held: the number of faults that now hold up a callback of the process.
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
    """The places of one runtime's processes, from now on.

        Places(runtime).find("/top/store")

    Those that live already are given places, too, by their labels: the ids that their supervisors know them by are not
    told a second time.

    Patterns are those of `fnmatch`: `*` stands for any characters, a slash too, `?` for one, `[ab]` for one of several;
    a path that is written out stands for itself.

    Args:
        runtime: whose processes.
        watch: False if whoever made this calls its methods, because they have to be called in between of other things.

    Not guaranteed: room. Every path that there ever was is counted, so it is for runs and experiments, not for the life
    of a server.
    """

    def __init__(self, runtime: Runtime, *, watch: bool = True) -> None:
        self.runtime = runtime
        self.living: dict[Pid, Place] = {}
        self._ended: dict[Pid, Place] = {}
        self._incarnations: dict[str, int] = {}
        # For supervisors that are starting a child: its id, until the process is there.
        self._starting: dict[Pid, Any] = {}
        for pid in runtime.processes():
            info = runtime.process_info(pid)
            if info is not None:
                self.process_spawned(pid, info["parent"], info["label"])
        self._detach = runtime.telemetry.attach(CHILD_STARTING, self._child_starting)
        self._remove = runtime.add_instrument(self) if watch else None

    def close(self) -> None:
        """Follow the runtime no longer."""
        self._detach()
        if self._remove is not None:
            self._remove()

    # Questions

    def place_of(self, pid: Pid) -> Place | None:
        """Where a living process is; None for one that has ended, or is not of this runtime."""
        return self.living.get(pid)

    def was_at(self, pid: Pid) -> Place | None:
        """Where a process is, or was when it ended, if it is one of the last ten thousand that have."""
        place = self.living.get(pid)
        return self._ended.get(pid) if place is None else place

    def is_held(self, pid: Pid) -> bool:
        """Whether a fault holds up a living process, which can do nothing for that long."""
        place = self.living.get(pid)
        return place is not None and place.held > 0

    def find(self, pattern: str) -> Pid | None:
        """The living process at such a path; the newest, if there are several."""
        for pid in reversed(self.living):
            path = self.living[pid].path
            if path == pattern or fnmatchcase(path, pattern):
                return pid
        return None

    def matching(self, pattern: str) -> list[Pid]:
        """The living processes at such paths, in the order in which they were spawned."""
        return [
            pid
            for pid, place in self.living.items()
            if place.path == pattern or fnmatchcase(place.path, pattern)
        ]

    # What happens

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        above = self.living.get(parent)
        has_id = parent in self._starting
        id = self._starting.pop(parent) if has_id else None
        component = component_of(id) if has_id else self._name_or_label(pid, label)
        path = f"{'' if above is None else above.path}/{component}"
        # Only partitions have numbers as ids.
        pattern = (
            f"{'' if above is None else above.pattern}/{'*' if type(id) is int else component}"
        )
        incarnation = self._incarnations[path] = self._incarnations.get(path, 0) + 1
        self.living[pid] = Place(path, incarnation, path if has_id else pattern, pattern)

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
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


def component_of(id: object) -> str:
    """Return the part of a path that stands for a child id."""
    return id if isinstance(id, str) else describe(id)
