"""The world of an experiment on a live system: what a scenario is given, with real time and real sockets behind it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import trio

from actors.instrumentation.environment import Environment
from actors.refs import Pid
from actors.runtime import Runtime
from supervision.chaos.expectations import Expectations
from supervision.chaos.injection.injector import Injector
from supervision.chaos.injection.surroundings import Connections
from supervision.chaos.steady_state import SteadyCheck, SteadyState
from supervision.recording.describe import describe
from supervision.recording.entropy import Streams
from supervision.recording.places import Place
from supervision.recording.recorder import Recorder, find_process, place_among
from supervision.recording.trace import Trace

__all__ = ["LiveEnvironment", "LiveWorld", "Network"]


class Network(Connections, Protocol):
    """What a run needs of a network: `channels.testing.live_network.LiveNetwork`, for one."""

    async def open(self, host: str, port: int) -> Any:
        """Listen: `world.listen`."""

    async def connect(self, host: str, port: int, *, source: str | None = None) -> trio.abc.Stream:
        """Connect to somebody who listens: `world.connect`."""

    async def main(self, attached: Callable[[], object]) -> None:
        """Do its work until cancelled; calls `attached` when it is ready."""

    def watch(self, runtime: Runtime, trace: Trace) -> None:
        """Follow a runtime, to know which process serves which connection."""


class LiveWorld:
    """What a scenario is given by `run_live`: what `World` has in a simulation, as far as it can be had.

    There is no `network` that can be asked for hosts, no `settle`, no `stall` and no `nodes`.

    Attributes:
        seed: of this run.
        params: what `run_live` was given for the scenario.
        runtime: the runtime that is open for the scenario.
        trace: what has happened so far.
        faults: carries out the plan, during its phase.
        listen: for `Endpoint(..., listen=world.listen)`, so that connection faults reach its connections; None is the
            ordinary listener.
        over: set when the scenario should come to its end; see `until_over`.
    """

    runtime: Runtime
    faults: Injector

    def __init__(
        self,
        *,
        seed: int,
        params: dict[str, Any],
        trace: Trace,
        streams: Streams,
        steadiness: SteadyState,
        network: Network | None,
        now: Callable[[], float],
        heal: Callable[[], None],
    ) -> None:
        self.seed = seed
        self.params = params
        self.trace = trace
        self.over = trio.Event()
        self.listen = None if network is None else network.open
        self.recorders: list[Recorder] = []
        self.expectations = Expectations(now=now, heal=heal, every=0.05)
        self._steadiness = steadiness
        self._network = network
        self._streams = streams
        self._now = now

    # Time, chance, words

    @property
    def seconds(self) -> float:
        """The time since the beginning of the run."""
        return self._now()

    def random(self, *purpose: object) -> Random:
        """A stream of random numbers of the scenario's own, for one purpose, as in a simulation of this seed."""
        return self._streams.stream("scenario", *purpose)

    def note(self, text: str, **fields: Any) -> None:
        """Add a line of the scenario's own to the trace, and to the page."""
        self.trace.add("note", {"text": text, **{k: describe(v) for k, v in fields.items()}})

    def measure(self, name: str, value: float) -> None:
        """Note a figure of the scenario's own."""
        self.trace.add("measure", {"name": name, "value": float(value)})

    # What is expected

    def steady(self, name: str, check: SteadyCheck) -> None:
        """Say what the system does when it does its work. The experiment begins when all that is said so holds.

            world.steady("everybody is in the room", lambda: None if here == 50 else f"{here} of 50")

        It has to hold before the faults; it is looked at while there are faults, for the report; and it has to hold
        again soon after them. Say it as early as it can be asked: before that, nothing is broken.

        Args:
            name: for the report.
            check: answers what is wrong, or None; it may be async, and then has five seconds. Asked every 50 ms.
        """
        self._steadiness.add(name, check)

    def check(self, holds: object, problem: str) -> None:
        """Fail the run if something does not hold that should; see `Expectations.check`."""
        self.expectations.check(holds, problem)

    def invariant(self, name: str, check: Callable[[], str | None]) -> None:
        """Check something every 50 ms from now on. That it did not hold makes the run a failed one, and goes on."""
        self.expectations.invariant(name, check)

    def sometimes(self, name: str, condition: object = True) -> None:
        """Note whether something was the case; see `Expectations.sometimes`."""
        self.expectations.sometimes(name, condition)

    async def eventually(self, name: str, holds: Callable[[], Any], *, within: float) -> Any:
        """Wait until something holds; see `Expectations.eventually`."""
        return await self.expectations.eventually(name, holds, within=within)

    async def recovered(self, name: str, holds: Callable[[], Any], *, within: float) -> Any:
        """Stop the faults, undo what they did, and wait until something holds. Ends the phase of the faults."""
        return await self.expectations.recovered(name, holds, within=within)

    async def until_over(self) -> None:
        """Wait until the experiment is over: steady before, faults, steady after. The last thing that a scenario does.

        A scenario that returns earlier ends the experiment; one that does not return soon afterwards is cancelled.
        """
        await self.over.wait()

    # The system

    async def connect(self, host: str, port: int, *, source: str | None = None) -> trio.abc.Stream:
        """Connect to a listener; `source` is how the connecting host is called in the names of connections."""
        if self._network is None:
            return await trio.open_tcp_stream(host, port)
        return await self._network.connect(host, port, source=source)

    def path_of(self, pid: Pid) -> str | None:
        """Where a living process is in its tree: `/top/worker`."""
        known = place_among(self.recorders, pid)
        return None if known is None else known[1].path

    def find(self, path: str) -> Pid | None:
        """The living process at a path, or at one that such a pattern matches; the newest, if there are several."""
        return find_process(self.recorders, path)


class LiveEnvironment(Environment):
    """The real world, but with the seed's chance: processes draw what they draw in a simulation."""

    def __init__(self, world: LiveWorld, streams: Streams, *, messages: bool) -> None:
        self._world = world
        self._streams = streams
        self._messages = messages
        # A process takes its stream with it: there may be any number of them in a long run.
        self._drawn: WeakKeyDictionary[Place, Random] = WeakKeyDictionary()

    def opened(self, runtime: Runtime) -> None:
        recorders = self._world.recorders
        recorders.append(
            Recorder(runtime, self._world.trace, len(recorders), messages=self._messages)
        )

    def random(self, process: Pid | None) -> Random:
        known = None if process is None else place_among(self._world.recorders, process)
        if known is None:
            return self._streams.stream("random")
        recorder, place = known
        stream = self._drawn.get(place)
        if stream is None:
            name = recorder.node, place.path, place.incarnation
            stream = self._drawn[place] = self._streams.fresh("random", *name)
        return stream
