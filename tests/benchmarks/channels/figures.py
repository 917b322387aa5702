"""Statistics of a run: percentiles, medians, spread, and ratios within rounds. *pure*."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from attrs import frozen

__all__ = ["Latencies", "Spread", "latencies", "percentile", "ratios", "spread"]


@frozen
class Latencies:
    """Latencies in milliseconds."""

    p50: float
    p99: float
    mean: float
    most: float


@frozen
class Spread:
    """The median, the minimum and the maximum of the rounds."""

    median: float
    least: float
    most: float
    rounds: int


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile. The values are in ascending order, and `share` is between 0 and 1."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def latencies(seconds: Sequence[float]) -> Latencies | None:
    """Return the latencies in milliseconds, or None if there are none."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return Latencies(
        p50=percentile(ordered, 0.5) * 1e3,
        p99=percentile(ordered, 0.99) * 1e3,
        mean=sum(ordered) / len(ordered) * 1e3,
        most=ordered[-1] * 1e3,
    )


def spread(values: Sequence[float]) -> Spread | None:
    """Return the median and the range, or None if there are no values."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


def ratios(of: Mapping[int, float], to: Mapping[int, float]) -> list[float]:
    """Return the ratio of each round that has both values. Skip rounds whose divisor is 0."""
    return [value / to[round_] for round_, value in sorted(of.items()) if to.get(round_)]
