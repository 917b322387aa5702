"""The errors of fault plans, and the problems that a run finds."""

from __future__ import annotations

from supervision.errors import SupervisionError

__all__ = [
    "BadFault",
    "ChaosFailed",
    "InjectedCrash",
    "InvariantViolated",
    "NotReached",
    "unwrapped",
]


class BadFault(SupervisionError, ValueError):
    """A fault, a moment or a plan has an invalid value.

    Attributes:
        kind: the name of the class, such as "Slow".
        field: the name of the field.
        value: the value.
        advice: the correction, as text.
    """

    def __init__(self, kind: str, field: str, value: object, advice: str) -> None:
        super().__init__(kind, field, value, advice)
        self.kind = kind
        self.field = field
        self.value = value
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.kind}({self.field}={self.value!r}) is invalid; {self.advice}"


class InjectedCrash(Exception):
    """The exception that the fault `Raise` raises in a callback.

    Attributes:
        fault: the fault, in words.
    """

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


class InvariantViolated(SupervisionError):
    """An invariant did not hold.

    Attributes:
        invariant: the name of the invariant.
        seconds: the time of the violation, in seconds of the run.
        problem: the problem, as text.
    """

    def __init__(self, invariant: str, seconds: float, problem: str) -> None:
        super().__init__(invariant, seconds, problem)
        self.invariant = invariant
        self.seconds = seconds
        self.problem = problem

    def __str__(self) -> str:
        return f"invariant {self.invariant!r} does not hold at {self.seconds:g} s: {self.problem}"


class NotReached(SupervisionError):
    """A condition did not become true in time.

    Attributes:
        name: the name of the condition.
        within: the time limit in seconds.
        seconds: the time of the run when the limit was reached.
        last: the last result of the condition, as text.
    """

    def __init__(self, name: str, within: float, seconds: float, last: str) -> None:
        super().__init__(name, within, seconds, last)
        self.name = name
        self.within = within
        self.seconds = seconds
        self.last = last

    def __str__(self) -> str:
        return (
            f"{self.name!r} did not become true within {self.within:g} s, by {self.seconds:g} s; "
            f"its condition last returned {self.last}"
        )


class ChaosFailed(SupervisionError):
    """An experiment on a live system found problems.

    Attributes:
        scenario: the scenario, as `module:function`.
        seed: the seed of the run.
        problems: one sentence for each problem.
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


def unwrapped(error: BaseException) -> BaseException:
    """Return the member of an exception group with one member, at any depth. Return any other exception unchanged."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
