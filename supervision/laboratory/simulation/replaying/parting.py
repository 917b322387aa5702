"""The difference between a failed run and a run that passes: the first event at which the two runs part.

    parting(failed, passed)           # "the runs agree for 26 events; then, at 0.5 s, ..."

Two runs agree as long as the lines of their traces are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.replaying.story import Story
from supervision.recording.reader.words import in_seconds

__all__ = ["agreement", "first_difference", "parting"]


def first_difference(first: Sequence[object], second: Sequence[object]) -> int:
    """Return the number of items at which two sequences begin to differ."""
    pairs = zip(first, second, strict=False)
    differing = (number for number, pair in enumerate(pairs) if pair[0] != pair[1])
    return next(differing, min(len(first), len(second)))


def agreement(failed: Outcome, passed: Outcome) -> int:
    """Return the number of events for which two runs agree."""
    return first_difference(failed.trace, passed.trace)


def parting(failed: Outcome, passed: Outcome) -> str:
    """Describe the first difference between a failed run and a run that passes, in a few lines."""
    step = agreement(failed, passed)
    here, there = _told(failed), _told(passed)
    at = first_difference(here, there)
    agreed = f"the runs agree for {step} {'event' if step == 1 else 'events'}"
    if at == len(here) - 1 == len(there) - 1:
        return f"{agreed}, and their stories do not differ"
    return f"{agreed}; then\n  this run: {here[at]}\n  the other: {there[at]}"


def _told(outcome: Outcome) -> list[str]:
    story = Story(outcome.trace, outcome.failed_at or outcome.returned_at, outcome.tasks)
    told = [f"{line.text}, at {in_seconds(line.t)}" for line in story.lines()]
    return [*told, f"nothing more before it {'passes' if outcome.passed else 'fails'}"]
