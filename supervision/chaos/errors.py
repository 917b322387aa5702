"""What can be wrong with a plan of faults, and what can be found."""

from __future__ import annotations

from supervision.errors import SupervisionError

__all__ = [
    "BadFault",
    "ChaosFailed",
    "InjectedCrash",
    "InvariantViolated",
    "NotReached",
]


class BadFault(SupervisionError, ValueError):
    """A fault, a moment or a plan cannot be, as it is written.

    Attributes:
        kind: the class that was to be made: `Slow`.
        field: which part of it is wrong.
        value: what was written.
        advice: what to write instead.
    """

    def __init__(self, kind: str, field: str, value: object, advice: str) -> None:
        super().__init__(kind, field, value, advice)
        self.kind = kind
        self.field = field
        self.value = value
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.kind}({self.field}={self.value!r}) cannot be; {self.advice}"


class InjectedCrash(Exception):
    """A callback was made to crash, by a fault and not by a mistake of the program.

    Attributes:
        fault: the fault, in words.
    """

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


class InvariantViolated(SupervisionError):
    """Something that must always hold did not.

    Attributes:
        invariant: its name.
        seconds: when, on the clock of the run.
        problem: what was seen.
    """

    def __init__(self, invariant: str, seconds: float, problem: str) -> None:
        super().__init__(invariant, seconds, problem)
        self.invariant = invariant
        self.seconds = seconds
        self.problem = problem

    def __str__(self) -> str:
        return f"invariant {self.invariant!r} does not hold at {self.seconds:g} s: {self.problem}"


class NotReached(SupervisionError):
    """Something that should have come about did not.

    Attributes:
        name: what should have.
        within: seconds that it had.
        seconds: when they were over, on the clock of the run.
        last: what the condition said last.
    """

    def __init__(self, name: str, within: float, seconds: float, last: str) -> None:
        super().__init__(name, within, seconds, last)
        self.name = name
        self.within = within
        self.seconds = seconds
        self.last = last

    def __str__(self) -> str:
        return (
            f"{self.name!r} did not come about within {self.within:g} s, by {self.seconds:g} s; "
            f"its condition was {self.last} at last"
        )


class ChaosFailed(SupervisionError):
    """An experiment on a live system has found something.

    Attributes:
        scenario: which, as `module:function`.
        seed: of the run.
        problems: one sentence for each thing that went wrong.
    """

    def __init__(self, scenario: str, seed: int, problems: tuple[str, ...]) -> None:
        super().__init__(scenario, seed, problems)
        self.scenario = scenario
        self.seed = seed
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(
            [f"{self.scenario} with seed {self.seed}:", *(f"  {each}" for each in self.problems)]
        )
