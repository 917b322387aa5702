"""The recovery figures of a program with a recorder, as metrics.

If there was a crash, a kill or a fault since the last scrape, a scrape analyses the newest records of the recorder in a
thread. Each incident counts once: 5 s after its fault if everything is back, else 60 s after its fault. So the counters
only rise, although the recorder forgets old records.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any, Final, NamedTuple

import trio

from channels.operations.metric_table import Figure
from supervision.recording.conversion import Snapshot
from supervision.recording.flight import FlightRecorder
from supervision.recording.reader.figures import Histogram
from supervision.recording.reader.history import read_history
from supervision.recording.reader.model import Recovery
from supervision.recording.schema import CLEAN_EXITS

__all__ = ["PREFIX", "Found", "RecordedRecovery", "Totals", "incidents_of"]

PREFIX: Final = "ashtree_recovery_"
"""The start of the names of all metrics of recovery."""

SETTLED_SECONDS: Final = 5.0
"""Seconds from a fault until its incident counts, if everything is back."""

GIVEN_UP_SECONDS: Final = 60.0
"""Seconds from a fault until its incident counts in any case."""

MAX_CHILDREN: Final = 100
"""The largest number of children with separate counters. Further children count as "other"."""

# The snapshot omits messages. Of the calls, it has only those without an answer, as `call_ended`.
_TROUBLE: Final = frozenset(
    ("crash", "zombie", "gave_up", "fault", "child_start_failed", "call_ended", "mailbox_alarm")
)
_NORMAL_CLOSES: Final = (None, 1000, 1001, 3000)
_number = itemgetter(0)


class Found(NamedTuple):
    """An incident of a recorder.

    Attributes:
        number: the number of its first record.
        t: the time of the fault.
        recovery: its figures.
        away: for each client that came back, the seconds from the fault until it was joined again.
    """

    number: int
    t: float
    recovery: Recovery
    away: list[float]


class Totals:
    """The figures of all incidents so far. *pure*."""

    def __init__(self) -> None:
        self._counted_until = -1
        self._incidents = self._messages = self._answers = 0
        self._restarts: Counter[str] = Counter()
        self._restarted = Histogram()
        self._rejoined = Histogram()

    def begin_recorder(self) -> None:
        """Prepare for the incidents of another recorder, which numbers its records from 0 again."""
        self._counted_until = -1

    def take(self, incidents: Iterable[Found], now: float) -> bool:
        """Count the settled incidents. Return True if an incident is not settled yet.

        Args:
            incidents: the incidents of the recorder, in the order of their numbers.
            now: the present time of the recorder, in seconds.
        """
        for incident in incidents:
            # Two incidents may begin at the same time, so the number of the record identifies an incident.
            if incident.number <= self._counted_until:
                continue
            found = incident.recovery
            is_back = not found.not_back and not found.not_rejoined
            if now - incident.t < (SETTLED_SECONDS if is_back else GIVEN_UP_SECONDS):
                # Count incidents in order, so that `_counted_until` tells which ones have counted.
                return True
            self._counted_until = incident.number
            self._count(incident)
        return False

    def _count(self, incident: Found) -> None:
        found = incident.recovery
        self._incidents += 1
        self._messages += found.messages_lost
        self._answers += found.answers_lost
        for child, count in found.restarts.items():
            known = child in self._restarts or len(self._restarts) < MAX_CHILDREN
            self._restarts[child if known else "other"] += count
        if found.restarted_after is not None:
            self._restarted.add(found.restarted_after)
        for seconds in incident.away:
            self._rejoined.add(seconds)

    def figures(self) -> Iterator[Figure]:
        """Yield name, labels and value of each figure, in the conventions of Prometheus.

            ("ashtree_recovery_restarts_total", {"child": "/shop/store"}, 3.0)

        A histogram yields its cumulative buckets, its sum and its count.
        """
        yield f"{PREFIX}incidents_total", {}, float(self._incidents)
        yield f"{PREFIX}messages_lost_total", {}, float(self._messages)
        yield f"{PREFIX}answers_lost_total", {}, float(self._answers)
        for child, count in self._restarts.items():
            yield f"{PREFIX}restarts_total", {"child": child}, float(count)
        yield from self._restarted.metrics(f"{PREFIX}restarted_seconds")
        yield from self._rejoined.metrics(f"{PREFIX}rejoined_seconds")


class RecordedRecovery:
    """The recovery figures of the recorder of one runtime."""

    def __init__(self) -> None:
        self._totals = Totals()
        self._recorder: FlightRecorder | None = None
        self._read_until = -1
        self._waits = False
        # Two scrapes at the same time must not count an incident twice.
        self._lock = trio.Lock()

    async def figures(self, recorder: FlightRecorder) -> list[Figure]:
        """Update the figures with the newest records, and return them."""
        async with self._lock:
            if recorder is not self._recorder:
                self._recorder, self._read_until = recorder, -1
                self._totals.begin_recorder()
            taken = recorder.snapshot(messages=False)
            first = bisect_right(taken.records, self._read_until, key=_number)
            if self._waits or any(map(_is_trouble, taken.records[first:])):
                # A full recorder takes about a second, so a thread reads a copy of the records.
                incidents = await trio.to_thread.run_sync(incidents_of, taken)
                self._waits = self._totals.take(incidents, recorder.elapsed)
            self._read_until = taken.following - 1
            return list(self._totals.figures())


def incidents_of(taken: Snapshot) -> list[Found]:
    """Return the incidents of a snapshot without messages."""
    conversion, lines = taken.begin()
    # Each of these records becomes one event. The first one becomes the event after the lines so far.
    offset = len(lines) - taken.records[0][0] if taken.records else 0
    lines += conversion.convert(taken.records)
    return [
        Found(each.fault.event - offset, each.fault.t, each.recovery, each.away)
        for each in read_history(lines).incidents
    ]


def _is_trouble(record: Any) -> bool:
    kind = record[2]
    if kind == "exited":
        return record[4]["exit"] not in CLEAN_EXITS
    if kind == "client_closed":
        return record[4]["code"] not in _NORMAL_CLOSES
    return kind in _TROUBLE
