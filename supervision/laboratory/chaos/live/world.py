"""The world of an experiment on a live system, with real time and real sockets."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import trio

from actors.refs import Pid
from actors.runtime import Environment, Runtime
from supervision.laboratory.chaos.expectations import Expectations
from supervision.laboratory.chaos.injection.surroundings import Connections
from supervision.laboratory.chaos.scenario_world import ScenarioWorld
from supervision.laboratory.entropy import Streams
from supervision.recording.places import Place
from supervision.recording.recorder import Recorder, place_among
from supervision.recording.trace import Trace

__all__ = ["LiveEnvironment", "LiveWorld", "Network"]


class Network(Connections, Protocol):
    """A network for a run, such as `channels.laboratory.live_network.LiveNetwork`."""

    async def open(self, host: str, port: int) -> Any:
        """Open a listener. `world.listen` calls this."""

    async def connect(self, host: str, port: int, *, source: str | None = None) -> trio.abc.Stream:
        """Connect to a listener. `world.connect` calls this."""

    async def main(self, attached: Callable[[], object]) -> None:
        """Run until cancelled, and call `attached` when ready."""

    def watch(self, runtime: Runtime, trace: Trace) -> None:
        """Observe a runtime to find the process that serves each connection."""


class LiveWorld(ScenarioWorld):
    """The argument of a live scenario.

    It has the interface of a simulated `World`, but no `network` with hosts, no `settle`, no `stall` and no `nodes`.

    Attributes:
        listen: the argument for `Endpoint(..., listen=world.listen)`, so that connection faults affect the endpoint's
            connections. It is None without a network; the endpoint then uses its ordinary listener.
        over: set when the scenario should end; see `until_over`.
        network: the network of the run; None without one.
        recordings: the recordings of other processes, by their names. At its end, the run merges them with its trace.
        judges: functions that get the lines of the merged trace, and return a sentence for each problem.
    """

    def __init__(
        self,
        *,
        seed: int,
        params: dict[str, Any],
        trace: Trace,
        streams: Streams,
        network: Network | None,
        now: Callable[[], float],
        heal: Callable[[], None],
    ) -> None:
        super().__init__(
            seed=seed,
            params=params,
            streams=streams,
            trace=trace,
            expectations=Expectations(now=now, heal=heal, every=0.05),
            now=now,
        )
        self.over = trio.Event()
        self.listen = None if network is None else network.open
        self.network = network
        self.recordings: dict[str, list[bytes]] = {}
        self.judges: list[Callable[[list[bytes]], list[str]]] = []

    async def until_over(self) -> None:
        """Wait until the experiment is over. A scenario calls this last.

        A scenario that returns earlier ends the experiment. If the scenario has not returned `Phases.finish_within`
        seconds after the experiment, the run cancels it.
        """
        await self.over.wait()

    async def connect(self, host: str, port: int, *, source: str | None = None) -> trio.abc.Stream:
        """Connect to a listener.

        Args:
            host: the host of the listener.
            port: the port of the listener.
            source: the connecting host in the names of connections. Without a network it has no effect.

        Returns:
            The stream.

        Raises:
            OSError: the connection failed.
        """
        if self.network is None:
            return await trio.open_tcp_stream(host, port)
        return await self.network.connect(host, port, source=source)


class LiveEnvironment(Environment):
    """The real environment, with random numbers from the seed."""

    def __init__(self, world: LiveWorld, streams: Streams, *, messages: bool) -> None:
        self._world = world
        self._streams = streams
        self._messages = messages
        # Weak keys, because a long run has many processes. The stream of a process is freed with its place.
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
