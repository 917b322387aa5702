"""Percentiles and histograms of durations, and the metrics of recovery.

*pure*.

    restarted = Histogram([0.5])
    list(restarted.metrics("ashtree_recovery_restarted_seconds"))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

__all__ = ["BOUNDS", "PREFIX", "Histogram", "Metric", "percentile", "recovery_metrics"]

BOUNDS = (0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""The upper bounds of the bars of a histogram, in seconds. The last bar has no bound."""

PREFIX = "ashtree_recovery_"
"""The start of the names of all metrics of recovery."""

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
