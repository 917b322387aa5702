"""The difference between a failed run and a run that passes: the first event at which the two runs part.

    parting(failed, passed)           # "the runs agree for 26 events; then, at 0.5 s, ..."

Two runs agree as long as their events are the same. The numbers of rounds and tasks do not count, because a fault that
changes nothing may add a round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.replaying.story import Story
from supervision.recording.reader.words import in_seconds

__all__ = ["agreement", "first_difference", "parting"]

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def first_difference(first: Sequence[object], second: Sequence[object]) -> int:
    """Return the number of items at which two sequences begin to differ."""
    pairs = zip(first, second, strict=False)
    differing = (number for number, pair in enumerate(pairs) if pair[0] != pair[1])
    return next(differing, min(len(first), len(second)))


def agreement(failed: Outcome, passed: Outcome) -> int:
    """Return the number of events for which two runs agree."""
    return first_difference(_comparable(failed), _comparable(passed))


def parting(failed: Outcome, passed: Outcome) -> str:
    """Describe the first difference between a failed run and a run that passes, in a few lines."""
    step = agreement(failed, passed)
    here, there = _told(failed), _told(passed)
    at = first_difference(here, there)
    return (
        f"the runs agree for {step} {'event' if step == 1 else 'events'}; then\n"
        f"  this run: {_sentence(here, at)}\n"
        f"  the other: {_sentence(there, at)}"
    )


def _comparable(outcome: Outcome) -> list[dict[str, Any]]:
    events = [_decode(line) for line in outcome.trace]
    for event in events:
        event.pop("round", None)
        event.pop("task", None)
    return events


def _told(outcome: Outcome) -> list[tuple[float, str]]:
    story = Story(outcome.trace, outcome.failed_at or outcome.returned_at, outcome.tasks)
    return [(line.t, line.text) for line in story.lines()]


def _sentence(told: Sequence[tuple[float, str]], at: int) -> str:
    if at == len(told):
        return "nothing more happens before its end"
    seconds, text = told[at]
    return f"{text}, at {in_seconds(seconds)}"
