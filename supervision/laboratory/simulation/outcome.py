"""The outcome of a simulated run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from actors.errors import CallExit
from actors.exits import Crash, Reason
from supervision.laboratory.chaos.expectations import CHECK, failures_in, problem_of
from supervision.laboratory.chaos.faults.kinds import Fault
from supervision.laboratory.chaos.faults.report import FaultReport
from supervision.laboratory.simulation.draws import Draw
from supervision.laboratory.simulation.errors import (
    BudgetSpent,
    Deadlock,
    InvariantViolated,
    NotReached,
    SimulationFailed,
)
from supervision.laboratory.simulation.forks import Fork
from supervision.laboratory.simulation.frames import raised_in
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.scheduling.deviations import Deviation, Deviations
from supervision.laboratory.simulation.scheduling.tasks import SCENARIO
from supervision.recording.trace import Events

__all__ = ["Outcome", "failures_in", "identify", "problem_of", "reason_of"]

_NAMED = 3  # the most failures of a group to name in its kind


@frozen(kw_only=True)
class Outcome:
    """The outcome of one run of one seed.

    Attributes:
        scenario: `module:function`.
        seed: the seed.
        knobs: the settings of the world.
        params: the parameters of the scenario.
        error: the failure; None if the run passed.
        seconds: the virtual seconds of the run.
        rounds: the number of rounds of the scheduler.
        choices: the number of rounds in which the scheduler had a choice.
        steps: the number of steps of tasks.
        events: the number of events of the trace.
        recorded: the events of the trace. Only `trace` and `digest` turn the events into text, which takes time.
        digest_without_trace: the SHA-256 of the trace, if the run did not keep the trace.
        ran: the numbers of the tasks that ran, in order; 0 ends a round.
        steps_digest: the SHA-256 of the numbers of the tasks that ran, in order, and of the times at which they ran.
        deviations: the deviations from the canonical schedule.
        named: the deviations with the names of tasks, for a run with `label_tasks`.
        forks: the moments at which the run began to use other random numbers.
        drawn: the calls of `world.random`, for a run with `label_tasks` or with draws.
        faults: the fault plan of the run.
        fault_reports: the report of each fault.
        sometimes: for each name that the scenario passed to `world.sometimes`, True if the condition was ever true.
        failed_at: the number of events and the virtual seconds when the run failed; None if it passed. Later events
            come from the clean-up of the run.
        returned_at: the same numbers when the scenario returned; None if it did not return.
        tasks: the names of the tasks in the trace, by number.
    """

    scenario: str
    seed: int
    knobs: Knobs
    params: dict[str, Any]
    error: BaseException | None
    seconds: float
    rounds: int
    choices: int
    steps: int
    events: int
    recorded: Events = field(repr=False, eq=Events.digest)
    digest_without_trace: str | None = field(default=None, repr=False)
    ran: Sequence[int] = field(default=(), repr=False, eq=False)
    steps_digest: str
    deviations: Deviations = field(repr=False)
    named: tuple[Deviation, ...] = field(default=(), repr=False)
    forks: tuple[Fork, ...] = ()
    drawn: tuple[Draw, ...] = field(default=(), repr=False)
    faults: tuple[Fault, ...] = ()
    fault_reports: tuple[FaultReport, ...] = field(default=(), repr=False)
    sometimes: dict[str, bool] = field(factory=dict)
    failed_at: tuple[int, float] | None = None
    returned_at: tuple[int, float] | None = None
    tasks: dict[int, str] = field(factory=dict, repr=False)

    @property
    def trace(self) -> list[bytes]:
        """The events as lines. Each line is a JSON object."""
        return self.recorded.lines

    @property
    def digest(self) -> str:
        """The SHA-256 of the trace."""
        return self.digest_without_trace or self.recorded.digest()

    @property
    def draws(self) -> tuple[Draw, ...]:
        """The calls of `world.random` whose values replaced values of the seed."""
        return tuple(each for each in self.drawn if each.value != each.own)

    @property
    def bare(self) -> bool:
        """True if the run had no instruments: see `Knobs.bare`."""
        return self.knobs.bare

    @property
    def passed(self) -> bool:
        """True if the scenario ended without a failure."""
        return self.error is None

    def check(self) -> Outcome:
        """Return this outcome if the run passed.

        Raises:
            SimulationFailed: the run failed. The error has the seed, and its `__cause__` is the failure.
        """
        if self.error is not None:
            problem = problem_of(self.error)
            raise SimulationFailed(self.scenario, self.seed, problem) from self.error
        return self


def identify(error: BaseException | None) -> str | None:
    """Return the kind of a failure; None for no error. Two runs fail alike if their failures have the same kind.

    The kind of a named condition is `invariant NAME` or `eventually NAME`. For any other exception, the kind is its
    type and the line of the program that raised it: `KeyError in line 3 of Room.handle_call`. A failure of
    `World.check` has no name either, so its kind also contains a line. If a helper of the program calls `check`, the
    kind also contains the line that called the helper:
    `invariant check in line 2 of must_answer, called in line 9 of evening`.

    The kind of a group of exceptions joins the kinds of its failures, in alphabetical order: `KeyError in ... and ...`.
    """
    if error is None:
        return None
    kinds = sorted({_kind(each) for each in failures_in(error)})
    more = [f"{len(kinds) - _NAMED} more"] if len(kinds) > _NAMED else []
    return " and ".join([*kinds[:_NAMED], *more])


def reason_of(error: BaseException) -> tuple[str, ...]:
    """Return the reason of a failure. Shrinking keeps it, because one kind of failure may have several reasons.

    The reason adds the following to the kind of each failure: the exit reason in an error of a call, with the kind of
    the exception if the server crashed; the exceptions that led to this one; and the line at which the scenario waits
    in a deadlock.
    """
    return tuple(sorted({_reason(each) for each in failures_in(error)}))


def _reason(error: BaseException) -> str:
    found = [_kind(error)]
    if isinstance(error, Deadlock):
        found += [
            each.rpartition(", at ")[2] for each in error.waiting if each.startswith(SCENARIO)
        ]
    reason = error.reason if isinstance(error, CallExit) else None
    behind = [error.__cause__, reason.exception if isinstance(reason, Crash) else None]
    found += [_reason(each) for each in behind if each is not None]
    # The value of another reason may contain a number that shrinking lowers.
    return f"{found} {reason if isinstance(reason, Reason | str) else type(reason)}"


def _kind(error: BaseException) -> str:
    if isinstance(error, NotReached):
        return f"eventually {error.name}"
    kind = type(error).__qualname__
    if isinstance(error, BudgetSpent):
        return f"{kind} of {error.what}"
    callers = 0
    if isinstance(error, InvariantViolated):
        kind = f"invariant {error.invariant}"
        if error.invariant != CHECK:
            return kind
        callers = 1
    where = raised_in(error.__traceback__, callers=callers)
    return kind if where is None else f"{kind} in {where}"
