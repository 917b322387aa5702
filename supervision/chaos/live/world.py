"""The world of an experiment on a live system, which its scenario gets: real time and real sockets."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import trio

from actors.refs import Pid
from actors.runtime import Environment, Runtime
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
    """A network for a run, such as `channels.testing.live_network.LiveNetwork`."""

    async def open(self, host: str, port: int) -> Any:
        """Listen, for `world.listen`."""

    async def connect(self, host: str, port: int, *, source: str | None = None) -> trio.abc.Stream:
        """Connect to a listener, for `world.connect`."""

    async def main(self, attached: Callable[[], object]) -> None:
        """Run until cancelled, and call `attached` when ready."""

    def watch(self, runtime: Runtime, trace: Trace) -> None:
        """Observe a runtime, to learn which process serves which connection."""


class LiveWorld:
    """The argument of a live scenario. It has the interface of a simulated `World`, except for what needs a simulation.

    It has no `network` with hosts, no `settle`, no `stall` and no `nodes`.

    Attributes:
        seed: the seed of this run.
        params: the parameters of the scenario.
        runtime: the open runtime.
        trace: the events so far.
        faults: the injector, which carries out the plan during its phase.
        listen: for `Endpoint(..., listen=world.listen)`, so that connection faults reach its connections. None is the
            ordinary listener.
        over: set when the scenario should end; see `until_over`.
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

    # Time, random numbers, notes

    @property
    def seconds(self) -> float:
        """The seconds since the start of the run."""
        return self._now()

    def random(self, *purpose: object) -> Random:
        """Return a random stream for one purpose of the scenario, as in a simulation of this seed."""
        return self._streams.stream("scenario", *purpose)

    def note(self, text: str, **fields: Any) -> None:
        """Add a note to the trace and to the page."""
        self.trace.add("note", {"text": text, **{k: describe(v) for k, v in fields.items()}})

    def measure(self, name: str, value: float) -> None:
        """Record a figure of the scenario."""
        self.trace.add("measure", {"name": name, "value": float(value)})

    # Expectations

    def steady(self, name: str, check: SteadyCheck) -> None:
        """Describe the steady state of the system. The experiment begins when all of these checks hold.

            world.steady("everybody is in the room", lambda: None if here == 50 else f"{here} of 50")

        A check must hold before the faults and again soon after them. During the faults it is checked for the report.
        Add it as soon as it can be checked, because no fault is applied before that.

        Args:
            name: the name for the report.
            check: returns a problem or None, and is called every 50 ms. It may be async, and then has five seconds.
        """
        self._steadiness.add(name, check)

    def check(self, holds: object, problem: str) -> None:
        """Fail the run unless something holds; see `Expectations.check`."""
        self.expectations.check(holds, problem)

    def invariant(self, name: str, check: Callable[[], str | None]) -> None:
        """Check something every 50 ms from now on. A problem fails the run, which goes on."""
        self.expectations.invariant(name, check)

    def sometimes(self, name: str, condition: object = True) -> None:
        """Record that something happened; see `Expectations.sometimes`."""
        self.expectations.sometimes(name, condition)

    async def eventually(self, name: str, holds: Callable[[], Any], *, within: float) -> Any:
        """Wait until something holds; see `Expectations.eventually`."""
        return await self.expectations.eventually(name, holds, within=within)

    async def recovered(self, name: str, holds: Callable[[], Any], *, within: float) -> Any:
        """End the phase of the faults, undo them, and wait until something holds."""
        return await self.expectations.recovered(name, holds, within=within)

    async def until_over(self) -> None:
        """Wait until the experiment is over. A scenario calls this last.

        A scenario that returns earlier ends the experiment. A scenario that does not return soon after the end of the
        experiment is cancelled.
        """
        await self.over.wait()

    # The system

    async def connect(self, host: str, port: int, *, source: str | None = None) -> trio.abc.Stream:
        """Connect to a listener. `source` is the connecting host in the names of connections."""
        if self._network is None:
            return await trio.open_tcp_stream(host, port)
        return await self._network.connect(host, port, source=source)

    def path_of(self, pid: Pid) -> str | None:
        """Return the path of a living process, such as `/top/worker`."""
        known = place_among(self.recorders, pid)
        return None if known is None else known[1].path

    def find(self, path: str) -> Pid | None:
        """Return the newest living process at a path or at a path that a pattern matches."""
        return find_process(self.recorders, path)


class LiveEnvironment(Environment):
    """The real environment, with the random numbers of the seed, as in a simulation."""

    def __init__(self, world: LiveWorld, streams: Streams, *, messages: bool) -> None:
        self._world = world
        self._streams = streams
        self._messages = messages
        # Weak, so that the stream of a process goes with it. A long run has any number of processes.
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
