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
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from supervision.recording.reader.model import Incident, Recovery, StoryModel

__all__ = [
    "BOUNDS",
    "Durations",
    "Histogram",
    "Metric",
    "RecoveryFigures",
    "figures_of",
    "percentile",
]

BOUNDS = (0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""The upper bounds of the bars of a histogram, in seconds. The last bar has no bound."""

_COLUMNS = ("number", "t", "kind", "path", "text", "ended", *Recovery.__struct_fields__)

Metric: TypeAlias = tuple[str, dict[str, str], float]
"""A name, labels and a value."""


def percentile(values: Iterable[float], share: float) -> float | None:
    """Return a percentile by the nearest-rank method; None without values.

        percentile([1, 2, 3, 4], 0.5)      # 2

    Args:
        values: the values, in any order.
        share: the share, such as 0.5 for the median.
    """
    ordered = sorted(values)
    if not ordered:
        return None
    position = -int(-share * len(ordered) // 1)
    return ordered[max(position, 1) - 1]


class Histogram:
    """The number of durations in each bar, and the sum of all durations.

    Args:
        values: the first durations, in seconds.
        bounds: the upper bounds of the bars. The last bar has no bound.
    """

    def __init__(self, values: Iterable[float] = (), bounds: Sequence[float] = BOUNDS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        for value in values:
            self.add(value)

    def add(self, value: float) -> None:
        """Count a duration."""
        self._counts[sum(value > bound for bound in self._bounds)] += 1
        self._sum += value

    def bars(self) -> list[tuple[float | None, int]]:
        """Return the upper bound and the count of each bar. The last bound is None."""
        return list(zip((*self._bounds, None), self._counts, strict=True))

    def metrics(self, name: str) -> Iterator[Metric]:
        """Yield the cumulative buckets, the sum and the count, in the conventions of Prometheus."""
        total = 0
        for bound, count in self.bars():
            total += count
            yield f"{name}_bucket", {"le": "+Inf" if bound is None else f"{bound:g}"}, float(total)
        yield f"{name}_sum", {}, self._sum
        yield f"{name}_count", {}, float(total)


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


class RecoveryFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a story.

    Attributes:
        rows: the figures of each incident, with one type for each column, as Parquet needs it: `number`, `t`, `kind`,
            `path` and `text` of the fault; `ended`, the number of processes that ended; the fields of `Recovery`, where
            `restarts` is the sum for all children.
        restarted: seconds from each fault to the last restart that it caused.
        rejoined: for each client, seconds from the fault until the client was joined again.
        messages_lost: the number of messages that were lost.
        answers_lost: the number of answers that never came.
        restarts: the number of restarts of each child, by its path.
    """

    rows: list[dict[str, Any]]
    restarted: Durations
    rejoined: Durations
    messages_lost: int
    answers_lost: int
    restarts: dict[str, int]

    def to_csv(self) -> str:
        """Return one line for each incident, after a line with the names of the columns."""
        out = io.StringIO()
        writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
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


def figures_of(story: StoryModel) -> RecoveryFigures:
    """Compute the figures of a story.

    Args:
        story: the result of `tell_story`.

    Returns:
        The figures.
    """
    incidents = story.incidents
    total = sum((incident.recovery for incident in incidents), Recovery())
    return RecoveryFigures(
        rows=[_row(incident) for incident in incidents],
        restarted=_measured(incident.recovery.restarted_after for incident in incidents),
        rejoined=_measured(away for incident in incidents for away in incident.away),
        messages_lost=total.messages_lost,
        answers_lost=total.answers_lost,
        restarts=dict(Counter(total.restarts).most_common()),
    )


def _row(incident: Incident) -> dict[str, Any]:
    fault, recovery = incident.fault, msgspec.structs.asdict(incident.recovery)
    path = "" if fault.process is None else fault.process.path
    about = (incident.number, fault.t, fault.kind, path, fault.text, len(incident.deaths))
    recovery["restarts"] = sum(recovery["restarts"].values())
    return dict(zip(_COLUMNS, about, strict=False)) | recovery


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
