"""The errors of fault plans, and the problems that a run finds."""

from __future__ import annotations

from actors.declared import declared
from supervision.errors import SupervisionError

__all__ = [
    "ChaosFailed",
    "InjectedCrash",
    "InvalidFault",
    "InvariantViolated",
    "NotReached",
    "unwrapped",
]


@declared("{kind}({field}={value!r}) is invalid; {advice}")
class InvalidFault(SupervisionError, ValueError):
    """A fault, a moment or a plan has an invalid value.

    Attributes:
        kind: the name of the class, such as "Slow".
        field: the name of the field.
        value: the value.
        advice: the correction, as text.
    """

    kind: str
    field: str
    value: object
    advice: str


@declared("{fault}")
class InjectedCrash(Exception):
    """The exception that the fault `Raise` raises in a callback.

    Attributes:
        fault: the fault, in words.
    """

    fault: str


@declared("invariant {invariant!r} does not hold at {seconds:g} s: {problem}")
class InvariantViolated(SupervisionError):
    """An invariant did not hold.

    Attributes:
        invariant: the name of the invariant.
        seconds: the time of the violation, in seconds of the run.
        problem: the problem, as text.
    """

    invariant: str
    seconds: float
    problem: str


@declared(
    "{name!r} did not become true within {within:g} s, by {seconds:g} s; "
    "its condition last returned {last}"
)
class NotReached(SupervisionError):
    """A condition did not become true in time.

    Attributes:
        name: the name of the condition.
        within: the time limit in seconds.
        seconds: the time of the run when the limit was reached.
        last: the last result of the condition, as text.
    """

    name: str
    within: float
    seconds: float
    last: str


@declared()
class ChaosFailed(SupervisionError):
    """An experiment on a live system found problems.

    Attributes:
        scenario: the scenario, as `module:function`.
        seed: the seed of the run.
        problems: one sentence for each problem.
    """

    scenario: str
    seed: int
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(
            [f"{self.scenario} with seed {self.seed}:", *(f"  {each}" for each in self.problems)]
        )


def unwrapped(error: BaseException) -> BaseException:
    """Return the member of an exception group with one member, at any depth. Return any other exception unchanged."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
