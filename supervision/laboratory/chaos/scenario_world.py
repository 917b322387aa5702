"""The part of a world that a simulated run and an experiment on a live system share."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from actors.refs import Pid
from actors.runtime import Runtime
from supervision.laboratory.chaos.expectations import Expectations
from supervision.laboratory.chaos.injection.injector import Injector
from supervision.laboratory.chaos.requests import OpenRequest, RequestLog
from supervision.laboratory.chaos.steady_state import SteadyCheck, SteadyState
from supervision.laboratory.entropy import Streams
from supervision.recording.describe import describe
from supervision.recording.recorder import Recorder, find_process, place_among
from supervision.recording.trace import Trace

__all__ = ["ScenarioWorld"]


class ScenarioWorld:
    """The argument of a scenario.

    Attributes:
        seed: the seed of this run.
        params: the parameters of the scenario.
        runtime: the open runtime of the scenario.
        faults: the injector, which applies the fault plan of the run.
        trace: the events so far.
        expectations: the conditions that the scenario has named.
        steadiness: the checks of the steady state.
        requests: the requests of the clients.
        recorders: the recorders of the runtimes.
    """

    runtime: Runtime
    faults: Injector

    def __init__(
        self,
        *,
        seed: int,
        params: dict[str, Any],
        streams: Streams,
        trace: Trace,
        expectations: Expectations,
        now: Callable[[], float],
    ) -> None:
        self.seed = seed
        self.params = params
        self.trace = trace
        self.expectations = expectations
        self.steadiness = SteadyState(trace)
        self.requests = RequestLog(trace, now)
        self.recorders: list[Recorder] = []
        self._streams = streams
        self._now = now

    # Time, random numbers, notes

    @property
    def seconds(self) -> float:
        """The seconds since the start of the run."""
        return self._now()

    def random(self, *purpose: object) -> Random:
        """Return the scenario's random stream for one purpose. It depends only on the seed and the purpose.

            delay = world.random("crashes", "room:lobby").expovariate(1)

        Drawing from one stream does not change the numbers of another.
        """
        return self._streams.stream("scenario", *purpose)

    def note(self, text: str, **fields: Any) -> None:
        """Add a note to the trace and to the page, as `world.note("everybody has joined", clients=5)`."""
        self.trace.add("note", {"text": text, **{k: describe(v) for k, v in fields.items()}})

    def measure(self, name: str, value: float) -> None:
        """Record a figure of the scenario.

            world.measure("seconds until the answer", world.seconds - asked)

        `compare` uses the mean of all values that a run records under one name.
        """
        self.trace.add("measure", {"name": name, "value": float(value)})

    # Expectations

    def steady(self, name: str, check: SteadyCheck) -> None:
        """Add a check to the steady state of the system.

            world.steady("everybody is in the room", lambda: None if here == 50 else f"{here} of 50")

        All checks must hold before the faults and again soon after them. A live experiment applies no fault before they
        hold, so add them before the first `await` of the scenario. A scenario that is slow to start would otherwise get
        faults before it works. During the faults, the world only records results for the report.

        Args:
            name: the name for the report.
            check: returns a problem or None. The world calls it every 50 ms. It may be async, and must then return
                within five seconds.
        """
        self.steadiness.add(name, check)

    def request(
        self, name: str, *, client: object = None, within: float | None = None
    ) -> OpenRequest:
        """Begin a request of a client. The report shows how many requests were answered in time.

            with world.request("say hello", client=7):
                await channel.push("new_msg", {"body": "hello"})

        If the block ends without an exception, the request counts as answered; otherwise as unanswered. Without a
        `with` block, call `answered` or `unanswered` of the returned object.

        Args:
            name: the name of this kind of request. The report has one line for each name.
            client: the name or the number of the client. The report also counts the clients with answers in time.
            within: the time limit in seconds for the answer; None takes `ServiceLimits.answer_within`.
        """
        return self.requests.begin(name, client, within)

    def check(self, holds: object, problem: str) -> None:
        """Fail the run unless a condition holds; see `Expectations.check`."""
        self.expectations.check(holds, problem)

    def invariant(self, name: str, check: Callable[[], str | None]) -> None:
        """Check an invariant for the rest of the run; see `Expectations.invariant`."""
        self.expectations.invariant(name, check)

    def sometimes(self, name: str, condition: object = True) -> None:
        """Record a condition that at least one run of a sweep must reach; see `Expectations.sometimes`."""
        self.expectations.sometimes(name, condition)

    async def eventually(self, name: str, holds: Callable[[], Any], *, within: float) -> Any:
        """Wait until a condition holds; see `Expectations.eventually`."""
        return await self.expectations.eventually(name, holds, within=within)

    async def recovered(self, name: str, holds: Callable[[], Any], *, within: float) -> Any:
        """Stop the faults, undo them, and wait until a condition holds; see `Expectations.recovered`."""
        return await self.expectations.recovered(name, holds, within=within)

    # The system

    def path_of(self, pid: Pid) -> str | None:
        """Return the path of a living process, such as `/top/worker`."""
        known = place_among(self.recorders, pid)
        return None if known is None else known[1].path

    def find(self, path: str) -> Pid | None:
        """Return the newest living process at a path, or at a path that matches a pattern."""
        return find_process(self.recorders, path)
