"""The faults of a soak: their times, and what the soak measured about each of them. *pure*."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from attrs import define, frozen

__all__ = ["Fault", "FaultKind", "Planned", "count_outside", "plan"]

LONGEST_INTERVAL = 60.0
SHORTEST_INTERVAL = 24.0
_IN_A_RUN = 30


class FaultKind(Enum):
    """The kinds of faults."""

    KILL_WORKER = "kill -9 of a worker"
    KILL_PARENT = "kill -9 of the parent"
    KILL_VALKEY = "kill -9 of Valkey"
    RESTART_VALKEY = "restart of Valkey"
    REPLACE = "replacement of the workers"


_ONCE: Sequence[tuple[float, FaultKind]] = (
    (0.05, FaultKind.REPLACE),
    (0.15, FaultKind.KILL_PARENT),
    (0.25, FaultKind.REPLACE),
    (0.35, FaultKind.KILL_PARENT),
    (0.45, FaultKind.REPLACE),
    (0.5, FaultKind.REPLACE),
    (0.6, FaultKind.KILL_VALKEY),
    (0.75, FaultKind.RESTART_VALKEY),
)
"""The faults beside the kills of workers, and their times as fractions of the run.

After the middle, one worker lives on until the end, so that a leak has time to show in its memory.
"""


@frozen
class Planned:
    """A fault, and the seconds from the start of the clients until then."""

    seconds: float
    kind: FaultKind


def plan(seconds: float) -> list[Planned]:
    """Return the faults of a run. A run of half an hour or more kills a worker each minute.

    >>> faults = plan(1800)
    >>> [each.kind.name for each in faults[:5]]
    ['KILL_WORKER', 'REPLACE', 'KILL_WORKER', 'KILL_WORKER', 'KILL_WORKER']
    >>> sum(each.kind is FaultKind.KILL_WORKER for each in faults)
    29
    """
    interval = max(SHORTEST_INTERVAL, min(LONGEST_INTERVAL, seconds / _IN_A_RUN))
    kills = [interval * number for number in range(1, int(seconds / interval))]
    # The other faults come halfway between two kills.
    others = [
        Planned((int(part * seconds / interval) + 0.5) * interval, kind) for part, kind in _ONCE
    ]
    found = [Planned(each, FaultKind.KILL_WORKER) for each in kills] + others
    return sorted(found, key=lambda each: each.seconds)


@define
class Fault:
    """A fault that has happened. All times are those of Trio's clock.

    Attributes:
        kind: its kind.
        began: the time before it.
        served: seconds until all servers served again.
        attempts: the attempts to start the parent again.
        joined: seconds until all members were joined again, or None if they were not in time.
        agreed: seconds from then until all members saw the same presences, or None if they did not in time.
        ended: the time after which no further consequence is expected.
        note: an observation for the report, such as workers that outlived their parent.
    """

    kind: FaultKind
    began: float
    served: float | None = None
    attempts: int = 0
    joined: float | None = None
    agreed: float | None = None
    ended: float = float("inf")
    note: str = ""


def count_outside(
    times: Sequence[float], faults: Sequence[Fault], kinds: Sequence[FaultKind]
) -> int:
    """Return the number of times that are in none of the faults of these kinds."""
    spans = [(each.began, each.ended) for each in faults if each.kind in kinds]
    return sum(not any(began <= each <= ended for began, ended in spans) for each in times)
