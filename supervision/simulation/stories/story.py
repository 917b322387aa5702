"""A failed run in the words of its actors: the faults, the order that mattered, what followed, and what broke.

    tests.simulation.test_shrink:lobby fails with seed 3, rooms=1
    kill /top/room:lobby at 0.5 s; the supervisor /top ran before /registry
      0.5 s     /top/room:lobby was killed
      0.5 s     the supervisor /top started room:lobby again, as /top/room:lobby#2
      0.5 s     /registry learned that /top/room:lobby had ended
      0.5 s     invariant 'registry' does not hold: room:lobby is not registered

Everything in it comes from the trace and its causes, so that it is the same text for the same run. A process is called
by its path; `#2` is the second that had it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from supervision.chaos.faults.moments import At
from supervision.chaos.faults.report import FaultReport
from supervision.simulation.errors import InvariantViolated, SimulationError
from supervision.simulation.outcome import Outcome
from supervision.simulation.scheduling.deviations import Deviation
from supervision.simulation.stories.sentences import Happenings, without_first

__all__ = ["tell"]

_LINES = 12
_LAST = 5
_MORE = 6


def tell(outcome: Outcome, *, lines: int = _LINES) -> str:
    """Tell what happened in a run that failed.

        print(tell(shrink(outcome).outcome))

    Args:
        outcome: with its trace, and with `named` deviations, if the order of tasks is to be told.
        lines: at most so many of what followed; the middle is left out.

    Returns:
        Several lines, without an end of line.
    """
    happenings = Happenings(outcome.trace, outcome.failed_at)
    told = [_head(outcome)]
    reasons = [*_faults(outcome), *_orders(outcome, happenings)]
    if reasons:
        told.append("; ".join(reasons))
    told += [f"  {when:<9} {what}" for when, what in _followed(outcome, happenings, lines)]
    told.append(f"  {_when(outcome):<9} {_broke(outcome.error)}")
    return "\n".join(told)


def _head(outcome: Outcome) -> str:
    params = "".join(f", {name}={value!r}" for name, value in outcome.params.items())
    verb = "passes" if outcome.error is None else "fails"
    return f"{outcome.scenario} {verb} with seed {outcome.seed}{params}"


def _when(outcome: Outcome) -> str:
    seconds = outcome.seconds if outcome.failed_at is None else outcome.failed_at[1]
    return _seconds(seconds)


def _seconds(seconds: float) -> str:
    return f"{round(seconds, 3)} s".replace(".0 s", " s")


# Why


def _faults(outcome: Outcome) -> list[str]:
    return [_fault(report) for report in outcome.fault_reports]


def _fault(report: FaultReport) -> str:
    """A fault, with what a pattern or a condition has left open."""
    told = report.text
    where = None if report.where is None else without_first(report.where)
    open_questions = []
    if where is not None and where != getattr(report.fault, "target", where):
        open_questions.append(where)
    if report.seconds is not None and not isinstance(report.fault.when, At):
        open_questions.append(f"at {_seconds(report.seconds)}")
    if report.status != "applied":
        open_questions.append(report.status.replace("_", " "))
    return f"{told} ({', '.join(open_questions)})" if open_questions else told


def _orders(outcome: Outcome, happenings: Happenings) -> list[str]:
    """The order that mattered, if there is not too much of it."""
    if outcome.knobs.policy == "seeded":
        # Hardly any round is in order then, and nobody knows which of them matter.
        return []
    told = [_order(deviation, happenings) for deviation in outcome.named[:3]]
    if len(outcome.named) > 3:
        told.append(f"and {len(outcome.named) - 3} more orders")
    return told


def _order(deviation: Deviation, happenings: Happenings) -> str:
    tasks = [happenings.called(task) for task in deviation.tasks]
    when = "" if deviation.seconds is None else f" at {_seconds(deviation.seconds)}"
    if len(tasks) == 2:
        return f"{tasks[0]} ran before {tasks[1]}{when}"
    if len(tasks) > 6:
        tasks[5:] = [f"{len(tasks) - 5} more"]
    return f"{', then '.join(tasks)} ran in this order{when}"


# What followed


def _followed(outcome: Outcome, happenings: Happenings, lines: int) -> Iterable[tuple[str, str]]:
    seeded = outcome.knobs.policy == "seeded"
    rounds = {} if seeded else {each.round: set(each.tasks) for each in outcome.named}
    begin = _begin(outcome, happenings, rounds)
    told: list[tuple[str, str]] = []
    for event in happenings.events[begin:]:
        what = happenings.sentence(event, whole=_is_in(event, rounds, happenings))
        if what is not None:
            told.append((_seconds(event["t"]), what))
    if not told:
        told = _last_messages(happenings)
    return _shortened(told, lines)


def _begin(outcome: Outcome, happenings: Happenings, rounds: dict[int, set[str]]) -> int:
    """The first event that has to do with a fault, or with an order that mattered."""
    starts = [report.event for report in outcome.fault_reports if report.event is not None]
    for event in happenings.events:
        if event["round"] in rounds:
            # What it was that they both were about to learn of.
            starts += [event["n"], *happenings.causes(event)]
            break
    return min(starts, default=0)


def _is_in(event: dict[str, Any], rounds: dict[int, set[str]], happenings: Happenings) -> bool:
    """Whether one of those whose order mattered did something then."""
    tasks = rounds.get(event["round"])
    return tasks is not None and happenings.label(event) in tasks


def _last_messages(happenings: Happenings) -> list[tuple[str, str]]:
    """What went to and fro at the end, for a run in which nobody ended."""
    told = []
    for event in happenings.events[-4 * _LAST :]:
        what = happenings.sentence(event, whole=True)
        if what is not None:
            told.append((_seconds(event["t"]), what))
    return told[-_LAST:]


def _shortened(told: Sequence[tuple[str, str]], lines: int) -> Sequence[tuple[str, str]]:
    once = [line for index, line in enumerate(told) if line not in told[max(0, index - 1) : index]]
    if len(once) <= lines:
        return once
    first = lines // 2
    last = lines - first - 1
    left_out = len(once) - first - last
    return [*once[:first], ("", f"... {left_out} more ..."), *once[len(once) - last :]]


# What broke


def _broke(error: BaseException | None) -> str:
    if error is None:
        return "nothing broke"
    if isinstance(error, InvariantViolated):
        return f"invariant {error.invariant!r} does not hold: {error.problem}"
    name = "" if isinstance(error, SimulationError) else type(error).__qualname__
    first, *rest = ": ".join(filter(None, (name, str(error)))).splitlines()
    if len(rest) > _MORE:
        rest[_MORE:] = ["..."]
    return "\n".join([first, *(f"            {line.strip()}" for line in rest)])
