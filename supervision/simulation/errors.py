"""What can be wrong with a simulated run, besides the scenario's own exceptions."""

from __future__ import annotations

from typing import Any

from supervision.chaos.errors import InvariantViolated, NotReached
from supervision.errors import SupervisionError

__all__ = [
    "BudgetSpent",
    "Deadlock",
    "Diverged",
    "Escape",
    "InvariantViolated",
    "Livelock",
    "NodeError",
    "NotReached",
    "RunFileError",
    "SimulationError",
    "SimulationFailed",
]


class SimulationError(SupervisionError):
    """A simulated run cannot be made, went wrong, or found something."""


class Escape(SimulationError):
    """The program reached for something that a seed does not decide, and was stopped.

    Attributes:
        what: what it used, as one would write it: `socket.connect`, `time.time()`.
        place: the file, line and function of the program that did it.
        instead: what to write there.
    """

    def __init__(self, what: str, place: str, instead: str) -> None:
        super().__init__(what, place, instead)
        self.what = what
        self.place = place
        self.instead = instead

    def __str__(self) -> str:
        return (
            f"{self.place} uses {self.what}, which no seed decides, inside a simulation; "
            f"{self.instead}"
        )


class Deadlock(SimulationError):
    """Nothing can run, nothing waits for a time, and the scenario is not over.

    Attributes:
        seconds: when that was, on the virtual clock.
        waiting: a line for each task: who it is, and what it waits for.
    """

    def __init__(self, seconds: float, waiting: tuple[str, ...]) -> None:
        super().__init__(seconds, waiting)
        self.seconds = seconds
        self.waiting = waiting

    def __str__(self) -> str:
        lines = "".join(f"\n  {line}" for line in self.waiting)
        return (
            f"deadlock at {self.seconds:g} s: nobody can go on, and nobody waits for a time{lines}"
        )


class Livelock(SimulationError):
    """Tasks run and run, and the time does not advance.

    Attributes:
        seconds: the moment that does not pass.
        rounds: how many rounds of the scheduler it has taken so far.
        busy: a line for each task that ran in the last round.
    """

    def __init__(self, seconds: float, rounds: int, busy: tuple[str, ...]) -> None:
        super().__init__(seconds, rounds, busy)
        self.seconds = seconds
        self.rounds = rounds
        self.busy = busy

    def __str__(self) -> str:
        lines = "".join(f"\n  {line}" for line in self.busy)
        return (
            f"livelock at {self.seconds:g} s: {self.rounds} rounds of the scheduler, and the time "
            f"stands still; these keep running{lines}"
        )


class BudgetSpent(SimulationError):
    """The scenario was not over when its time or its steps were used up.

    Attributes:
        what: "seconds" or "steps".
        limit: how many it had.
        waiting: a line for each task: who it is, and what it waits for.
    """

    def __init__(self, what: str, limit: float, waiting: tuple[str, ...]) -> None:
        super().__init__(what, limit, waiting)
        self.what = what
        self.limit = limit
        self.waiting = waiting

    def __str__(self) -> str:
        lines = "".join(f"\n  {line}" for line in self.waiting)
        return (
            f"the scenario is not over after {self.limit:g} {self.what}; let it end, or raise "
            f"max_{self.what} of its Knobs{lines}"
        )


class SimulationFailed(SimulationError):
    """A simulated run failed; the cause is the `__cause__`.

    Attributes:
        seed: what replays it, with the same program and the same knobs.
        scenario: the scenario's name.
    """

    def __init__(self, scenario: str, seed: int, problem: str) -> None:
        super().__init__(scenario, seed, problem)
        self.scenario = scenario
        self.seed = seed
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.scenario} failed with seed {self.seed}: {self.problem}"


class Diverged(SimulationError):
    """Two runs of the same seed were not the same run.

    Attributes:
        step: the number of the first event that differs, counted from 0.
        first: that event in one run; None if that run was over.
        second: that event in the other.
        before: the last events that both had.
        said: both events in words.
        spots: for both the line of the program that did it, where one was running when the run was repeated, as
            `place`, and in `loop` what it iterates over that has no order.
    """

    def __init__(
        self,
        step: int,
        first: str | None,
        second: str | None,
        before: tuple[str, ...],
        said: tuple[str | None, str | None] = (None, None),
    ) -> None:
        super().__init__(step, first, second, before, said)
        self.step = step
        self.first = first
        self.second = second
        self.before = before
        self.said = said
        self.spots: tuple[Any, Any] = (None, None)

    def __str__(self) -> str:
        before = "".join(f"\n    {line}" for line in self.before)
        runs = [
            self._run(name, *about)
            for name, *about in zip(
                ("one run", "the other"),
                (self.first, self.second),
                self.said,
                self.spots,
                strict=True,
            )
        ]
        return (
            f"two runs of one seed differ, so something in the program is decided by no seed: {self._why()}; "
            f"the first difference is event {self.step}:\n{''.join(runs)}  before it:{before}"
        )

    def _run(self, name: str, event: str | None, said: str | None, spot: Any) -> str:
        place = "" if spot is None else f"\n    at {spot.place}"
        words = "" if said is None else f"{said}\n    "
        return f"  {name}: {words}{event or 'it was over'}{place}\n"

    def _why(self) -> str:
        for spot in self.spots:
            if spot is not None and spot.loop is not None:
                return (
                    f"{spot.loop}, and the order of a set depends on hashes and memory addresses; "
                    "iterate over sorted(...), or keep them in a dict, which has the order in which they were put in"
                )
        return (
            "perhaps it iterates over a set of processes or of strings (use a dict, or sort), or reads a memory "
            "address, an environment variable, or what another run has left behind"
        )


class NodeError(SimulationError):
    """A node cannot do what was asked of it.

    Attributes:
        node: its name.
        problem: what is in the way, and what to write instead.
    """

    def __init__(self, node: str, problem: str) -> None:
        super().__init__(node, problem)
        self.node = node
        self.problem = problem

    def __str__(self) -> str:
        return f"node {self.node!r}: {self.problem}"


class RunFileError(SimulationError):
    """A run file cannot be read, or what it names cannot be found. The text says which and why."""
