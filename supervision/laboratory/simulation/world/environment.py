"""Random numbers, identifiers, the time of day and the time since the boot of a world, and of each node in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random
from uuid import UUID

from actors.refs import Pid
from actors.runtime import Environment, Runtime
from supervision.laboratory.entropy import Streams
from supervision.recording.recorder import Recorder, place_among

__all__ = ["SimulatedEnvironment"]


class SimulatedEnvironment(Environment):
    """The environment of the runtimes of a world, or of one incarnation of a node.

    Args:
        name: the label of the node, `a` or `a#2`; empty for the runtimes outside of nodes.
        streams: the random streams of the run.
        now: returns the time of day, in seconds since the epoch.
        since_boot: returns the seconds since the boot, including those in which the machine was suspended.
        record: starts to record a runtime under a label.

    Attributes:
        recorders: the recorders of the runtimes in this environment.
        is_over: True once its node has ended or was killed.
    """

    def __init__(
        self,
        name: str,
        streams: Streams,
        now: Callable[[], float],
        since_boot: Callable[[], float],
        record: Callable[[Runtime, str | int], Recorder],
    ) -> None:
        self.recorders: list[Recorder] = []
        self.is_over = False
        self._name = name
        self._streams = streams
        self._now = now
        self._since_boot = since_boot
        self._record = record
        self._numbers = itertools.count()

    def opened(self, runtime: Runtime) -> None:
        number = next(self._numbers)
        label: str | int = number
        if self._name:
            label = f"{self._name}.{number + 1}" if number else self._name
        self.recorders.append(self._record(runtime, label))

    def random(self, process: Pid | None) -> Random:
        return self._stream("random", process)

    def uuid(self, process: Pid | None) -> UUID:
        bits = self._stream("uuid", process).getrandbits(128)
        return UUID(int=bits, version=4)

    def now(self) -> float:
        return self._now()

    def since_boot(self) -> float:
        return self._since_boot()

    def _stream(self, purpose: str, process: Pid | None) -> Random:
        """Return the stream of a process, which depends on its path and incarnation, not on its pid."""
        known = None if process is None else place_among(self.recorders, process)
        if known is not None:
            recorder, place = known
            return self._streams.stream(purpose, recorder.node, place.path, place.incarnation)
        return self._streams.stream(purpose, *([self._name] if self._name else []))
