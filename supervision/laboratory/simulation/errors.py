"""The errors of simulated runs."""

from __future__ import annotations

from actors.declared import declared
from supervision.errors import SupervisionError
from supervision.laboratory.chaos.errors import InvariantViolated, NotReached
from supervision.laboratory.simulation.frames import SourceLine

__all__ = [
    "BudgetSpent",
    "Deadlock",
    "Diverged",
    "Escape",
    "InvariantViolated",
    "Livelock",
    "NotReached",
    "RunFileError",
    "SimulationError",
    "SimulationFailed",
]


class SimulationError(SupervisionError):
    """A simulated run could not start, or it failed."""


@declared("{place} uses {what}, which no seed decides, inside a simulation; {instead}")
class Escape(SimulationError):
    """The program used a function or a resource that the seed does not control.

    Attributes:
        what: the function or the resource, as in source code: `socket.connect`, `time.time()`.
        place: the file, line and function of the program.
        instead: the advice.
    """

    what: str
    place: str
    instead: str


@declared()
class Deadlock(SimulationError):
    """No task can run, no task waits for a time, and the scenario is not over.

    Attributes:
        seconds: the virtual time.
        waiting: a line for each task: its name, and the thing it waits for.
    """

    seconds: float
    waiting: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"deadlock at {self.seconds:g} s: no task can run, and none waits for a time"
            f"{_indented(self.waiting)}"
        )


@declared()
class Livelock(SimulationError):
    """Tasks keep running while the virtual time stands still.

    Attributes:
        seconds: the virtual time.
        rounds: the number of rounds of the scheduler at this time.
        busy: a line for each task that ran in the last round.
    """

    seconds: float
    rounds: int
    busy: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"livelock at {self.seconds:g} s: {self.rounds} rounds of the scheduler, and the time "
            f"stands still; these tasks keep running{_indented(self.busy)}"
        )


@declared()
class BudgetSpent(SimulationError):
    """The scenario was not over when it reached its limit of virtual seconds or of steps.

    Attributes:
        what: "seconds" or "steps".
        limit: the limit.
        waiting: a line for each task: its name, and the thing it waits for.
    """

    what: str
    limit: float
    waiting: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"the scenario is not over after {self.limit:g} {self.what}; let it end, or raise "
            f"max_{self.what} of its Knobs{_indented(self.waiting)}"
        )


@declared("{scenario} failed with seed {seed}: {problem}")
class SimulationFailed(SimulationError):
    """A simulated run failed. The `__cause__` is the error.

    Attributes:
        scenario: the name of the scenario.
        seed: the seed. With the same program and knobs, this seed gives the same run.
        problem: the error as text.
    """

    scenario: str
    seed: int
    problem: str


class Diverged(SimulationError):
    """Two runs of the same seed were different.

    Attributes:
        step: the number of the first different event, from 0.
        first: this event in the first run; None if the run was over.
        second: this event in the second run; None if the run was over.
        before: the last events before the difference. They are the same in both runs.
        said: both events as sentences.
        source_lines: for each run, the line of the program that caused the event, as a `SourceLine`; None if no line of
            the program was running.
        left_behind: the names of the globals and class attributes that a run changed, if a second run in the same
            process then differed from the first; None otherwise.
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
        self.left_behind: tuple[str, ...] | None = None
        self.source_lines: tuple[SourceLine | None, SourceLine | None] = (None, None)

    def __str__(self) -> str:
        before = "".join(f"\n    {line}" for line in self.before)
        (first_said, second_said), (first_line, second_line) = self.said, self.source_lines
        return (
            f"two runs of one seed differ, so the seed does not decide everything in the program: {self._why()}; "
            f"the first difference is event {self.step}:\n"
            f"{_run('one run', self.first, first_said, first_line)}"
            f"{_run('the other', self.second, second_said, second_line)}"
            f"  before it:{before}"
        )

    def _why(self) -> str:
        for line in self.source_lines:
            if line is not None and line.loop is not None:
                return (
                    f"{line.loop}, and the order of a set depends on hashes and memory addresses; "
                    "iterate over sorted(...), or use a dict, which keeps the order of insertion"
                )
        if self.left_behind is not None:
            names = ", ".join(self.left_behind) or "a cache or an object that outlives the run"
            return (
                "an earlier run in the same process left data behind, and a later run reads it: "
                f"{names}; create the data in the scenario, or reset it at its beginning"
            )
        return (
            "perhaps it iterates over a set of processes or of strings (use a dict, or sort), or reads a memory "
            "address, the use of the CPU (os.times, resource), the environment variables, the working directory, or "
            "data from an earlier run"
        )


def _run(name: str, event: str | None, said: str | None, line: SourceLine | None) -> str:
    place = "" if line is None else f"\n    at {line.place}"
    words = "" if said is None else f"{said}\n    "
    return f"  {name}: {words}{event or 'it was over'}{place}\n"


class RunFileError(SimulationError):
    """A run file is invalid, or its scenario does not exist. The text names the file and the reason."""


def _indented(lines: tuple[str, ...]) -> str:
    return "".join(f"\n  {line}" for line in lines)
