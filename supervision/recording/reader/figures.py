"""The recovery figures of a story: times, losses, and restarts of each child.

*pure*.

    figures = figures_of(story)
    figures.restarted.median            # seconds from a fault to the restart
    figures.to_csv()
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from supervision.recording.reader.model import Incident, StoryModel
from supervision.recording.reader.service import percentile

__all__ = [
    "BOUNDS",
    "PREFIX",
    "Durations",
    "Histogram",
    "IncidentRow",
    "RecoveryFigures",
    "figures_of",
    "recovery_metrics",
]

BOUNDS = (0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""The upper bounds of the bars of a histogram, in seconds. The last bar has no bound."""

PREFIX = "ashtree_recovery_"
"""The start of the names of all metrics of recovery."""

Metric = tuple[str, dict[str, str], float]


class Histogram:
    """The number of durations in each bar, and the sum of all durations.

    Args:
        values: the first durations, in seconds.
    """

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0
        for value in values:
            self.add(value)

    def add(self, value: float) -> None:
        """Count a duration."""
        self._counts[sum(value > bound for bound in BOUNDS)] += 1
        self._sum += value

    def bars(self) -> list[tuple[float | None, int]]:
        """Return the upper bound and the count of each bar. The last bound is None."""
        return list(zip((*BOUNDS, None), self._counts, strict=True))

    def metrics(self, name: str) -> Iterator[Metric]:
        """Yield the cumulative buckets, the sum and the count, in the conventions of Prometheus."""
        total = 0
        for bound, count in self.bars():
            total += count
            yield f"{name}_bucket", {"le": "+Inf" if bound is None else f"{bound:g}"}, float(total)
        yield f"{name}_sum", {}, self._sum
        yield f"{name}_count", {}, float(total)


def recovery_metrics(
    *,
    incidents: int,
    messages_lost: int,
    answers_lost: int,
    restarts: Mapping[str, int],
    restarted: Histogram,
    rejoined: Histogram,
) -> Iterator[Metric]:
    """Yield name, labels and value of each figure, in the conventions of Prometheus.

        ("ashtree_recovery_restarts_total", {"child": "/shop/store"}, 3.0)

    A histogram yields its cumulative buckets, its sum and its count.
    """
    yield f"{PREFIX}incidents_total", {}, float(incidents)
    yield f"{PREFIX}messages_lost_total", {}, float(messages_lost)
    yield f"{PREFIX}answers_lost_total", {}, float(answers_lost)
    for child, count in restarts.items():
        yield f"{PREFIX}restarts_total", {"child": child}, float(count)
    yield from restarted.metrics(f"{PREFIX}restarted_seconds")
    yield from rejoined.metrics(f"{PREFIX}rejoined_seconds")


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds.

    Attributes:
        values: all times, in the order of their incidents.
        median: by the nearest-rank method; None without values.
        p99: the 99th percentile.
        longest: the longest time.
    """

    values: list[float]
    median: float | None
    p99: float | None
    longest: float | None

    def histogram(self) -> list[tuple[float | None, int]]:
        """Return the upper bound and the count of each bar. The last bound is None."""
        return Histogram(self.values).bars()


class IncidentRow(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one incident, with one type for each column, as Parquet needs it.

    Attributes:
        number: the number of the incident.
        t: the time of the fault in seconds.
        kind: the kind of the fault.
        path: the path of the process with the fault; empty for a fault outside of processes.
        text: the fault in words.
        ended: the number of processes that ended.
        restarted_after: seconds from the fault to the last restart; None without a restart.
        rejoined_after: seconds from the fault until the last client was joined again; None if no client was.
        not_back: the number of processes that were not replaced.
        not_rejoined: the number of clients that were not joined again.
        messages_lost: the number of messages that were lost.
        answers_lost: the number of answers that never came.
        restarts: the number of restarts of all children.
    """

    number: int
    t: float
    kind: str
    path: str
    text: str
    ended: int
    restarted_after: float | None
    rejoined_after: float | None
    not_back: int
    not_rejoined: int
    messages_lost: int
    answers_lost: int
    restarts: int


class RecoveryFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a story.

    Attributes:
        rows: the figures of each incident.
        restarted: seconds from each fault to the last restart that it caused.
        rejoined: for each client, seconds from the fault until the client was joined again.
        messages_lost: the number of messages that were lost.
        answers_lost: the number of answers that never came.
        restarts: the number of restarts of each child, by its path.
    """

    rows: list[IncidentRow]
    restarted: Durations
    rejoined: Durations
    messages_lost: int
    answers_lost: int
    restarts: dict[str, int]

    def to_csv(self) -> str:
        """Return one line for each incident, after a line with the names of the columns."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(IncidentRow.__struct_fields__)
        for row in self.rows:
            writer.writerow(
                ["" if value is None else value for value in msgspec.structs.astuple(row)]
            )
        return out.getvalue()

    def to_json_lines(self) -> bytes:
        """Return one JSON object for each incident. Every object has all fields, so Parquet tools can read them."""
        return b"".join(msgspec.json.encode(row) + b"\n" for row in self.rows)

    def table(self) -> str:
        """Return the figures as a table of text."""
        titles = ("", "count", "median", "p99", "longest")
        rows = [
            ("fault to restarted", *_durations(self.restarted)),
            ("fault to joined again", *_durations(self.rejoined)),
        ]
        widths = [max(len(row[place]) for row in (titles, *rows)) for place in range(len(titles))]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (titles, *rows)
        ]
        lines += [f"messages lost: {self.messages_lost}", f"answers lost: {self.answers_lost}"]
        lines += [f"restarts of {path}: {count}" for path, count in self.restarts.items()]
        return "\n".join(lines)

    def metrics(self) -> Iterator[Metric]:
        """Yield name, labels and value of each figure, as `recovery_metrics` does."""
        return recovery_metrics(
            incidents=len(self.rows),
            messages_lost=self.messages_lost,
            answers_lost=self.answers_lost,
            restarts=self.restarts,
            restarted=Histogram(self.restarted.values),
            rejoined=Histogram(self.rejoined.values),
        )


def figures_of(story: StoryModel) -> RecoveryFigures:
    """Compute the figures of a story.

    Args:
        story: the result of `tell_story`.

    Returns:
        The figures.
    """
    incidents = story.incidents
    restarts: Counter[str] = Counter()
    for incident in incidents:
        restarts.update(incident.recovery.restarts)
    return RecoveryFigures(
        rows=[_row(incident) for incident in incidents],
        restarted=_measured(incident.recovery.restarted_after for incident in incidents),
        rejoined=_measured(client.away for incident in incidents for client in incident.clients),
        messages_lost=sum(incident.recovery.messages_lost for incident in incidents),
        answers_lost=sum(incident.recovery.answers_lost for incident in incidents),
        restarts=dict(restarts.most_common()),
    )


def _row(incident: Incident) -> IncidentRow:
    fault, recovery = incident.fault, incident.recovery
    return IncidentRow(
        number=incident.number,
        t=fault.t,
        kind=fault.kind,
        path="" if fault.process is None else fault.process.path,
        text=fault.text,
        ended=len(incident.deaths),
        restarted_after=recovery.restarted_after,
        rejoined_after=recovery.rejoined_after,
        not_back=recovery.not_back,
        not_rejoined=recovery.not_rejoined,
        messages_lost=recovery.messages_lost,
        answers_lost=recovery.answers_lost,
        restarts=sum(recovery.restarts.values()),
    )


def _measured(times: Iterable[float | None]) -> Durations:
    values = [time for time in times if time is not None]
    return Durations(
        values=values,
        median=percentile(values, 0.5),
        p99=percentile(values, 0.99),
        longest=max(values, default=None),
    )


def _durations(durations: Durations) -> list[str]:
    times = (durations.median, durations.p99, durations.longest)
    return [
        str(len(durations.values)),
        *("-" if each is None else f"{each:.3f} s" for each in times),
    ]
