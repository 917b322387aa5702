"""The world that a scenario runs in.

    async def scenario(world):
        top = await Supervisor.start_link([Counter])
        await trio.sleep(60)                              # a minute that takes no time
        world.check(await call("counter", "get") >= 0, "the counter never goes below zero")

Inside, everything is as it always is, except that time is virtual and chance comes from the seed. A runtime is open
already, and is closed in the ordered way when the scenario returns.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

import trio

from actors.environment import Environment
from actors.refs import Pid
from actors.runtime import Runtime
from supervision.recording.describe import describe
from supervision.recording.recorder import Recorder
from supervision.recording.trace import Trace
from supervision.simulation.clock import VirtualClock
from supervision.simulation.entropy import Streams
from supervision.simulation.errors import InvariantViolated
from supervision.simulation.knobs import Knobs
from supervision.simulation.network import Network

__all__ = ["World"]


class World:
    """What a scenario is given. Made by `simulate`.

    Attributes:
        seed: of this run.
        knobs: its settings.
        params: what `simulate` was given for the scenario.
        runtime: the runtime that is open for the scenario.
        network: listeners and connections.
        trace: what has happened so far.
    """

    runtime: Runtime

    def __init__(
        self,
        *,
        seed: int,
        knobs: Knobs,
        params: dict[str, Any],
        streams: Streams,
        clock: VirtualClock,
        trace: Trace,
    ) -> None:
        self.seed = seed
        self.knobs = knobs
        self.params = params
        self.trace = trace
        self.network = Network(knobs, streams, trace)
        self.recorders: list[Recorder] = []
        self.environment = _SimulatedEnvironment(self, streams)
        self.always: list[tuple[str, Callable[[], str | None]]] = []
        self._clock = clock
        self._streams = streams
        self._settling: list[trio.lowlevel.Task] = []

    # For scenarios

    @property
    def seconds(self) -> float:
        """The virtual time since the beginning, as `trio.current_time()` gives it."""
        return self._clock.now

    def random(self, *purpose: object) -> Random:
        """A stream of random numbers of the scenario's own, for one purpose.

            delay = world.random("crashes", "room:lobby").expovariate(1)

        What one purpose draws changes nothing for another.
        """
        return self._streams.stream("scenario", *purpose)

    def note(self, text: str, **fields: Any) -> None:
        """Add a line of the scenario's own to the trace.

        world.note("everybody has joined", clients=5)
        """
        self.trace.add("note", {"text": text, **{k: describe(v) for k, v in fields.items()}})

    def check(self, holds: object, problem: str) -> None:
        """Fail the run if something does not hold that should.

        Raises:
            InvariantViolated: named "check".
        """
        if not holds:
            raise InvariantViolated("check", self.seconds, problem)

    def invariant(self, name: str, check: Callable[[], str | None]) -> None:
        """Check something between any two rounds of the scheduler, from now on.

            world.invariant("one leader", lambda: None if leaders <= 1 else f"{leaders} leaders")

        Args:
            name: of the invariant, for reports; a shrunk run has to break the same one.
            check: answers what is wrong, or None. It must not wait, and must change nothing.
        """
        self.always.append((name, check))

    async def settle(self) -> None:
        """Wait until nobody can go on without time passing."""
        task = trio.lowlevel.current_task()
        self._settling.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._settling.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def stall(self, seconds: float) -> None:
        """Let time pass while nobody can run, as when a program holds up its loop."""
        self._clock.stall(seconds)

    def path_of(self, pid: Pid) -> str | None:
        """Where a living process is in its tree, as the trace names it: `/top/worker`."""
        for recorder in self.recorders:
            place = recorder.place_of(pid)
            if place is not None:
                return place.path
        return None

    def find(self, path: str) -> Pid | None:
        """The living process at a path; the newest, if there are several, and None if there is none."""
        for recorder in self.recorders:
            pid = recorder.find(path)
            if pid is not None:
                return pid
        return None

    # For the run

    @property
    def runtimes(self) -> list[Runtime]:
        """Every runtime that was opened in this world."""
        return [recorder.runtime for recorder in self.recorders]

    def wake_settled(self) -> bool:
        """Let those go on who wait in `settle`; answers whether there are any."""
        waiting, self._settling = self._settling, []
        for task in waiting:
            trio.lowlevel.reschedule(task)
        return bool(waiting)


class _SimulatedEnvironment(Environment):
    """Chance, identifiers and the time of day of a world."""

    def __init__(self, world: World, streams: Streams) -> None:
        self._world = world
        self._streams = streams

    def opened(self, runtime: Runtime) -> None:
        world = self._world
        world.recorders.append(
            Recorder(runtime, world.trace, len(world.recorders), messages=world.knobs.messages)
        )

    def random(self, process: Pid | None) -> Random:
        return self._stream("random", process)

    def uuid(self, process: Pid | None) -> UUID:
        bits = self._stream("uuid", process).getrandbits(128)
        return UUID(int=bits, version=4)

    def now(self) -> float:
        return self._world.knobs.epoch + self._world.seconds

    def _stream(self, purpose: str, process: Pid | None) -> Random:
        """The stream of a process: of its path and incarnation, whatever its pid is."""
        if process is not None:
            for recorder in self._world.recorders:
                place = recorder.place_of(process)
                if place is not None:
                    node = recorder.node
                    return self._streams.stream(purpose, node, place.path, place.incarnation)
        return self._streams.stream(purpose)
