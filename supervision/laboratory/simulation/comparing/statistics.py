"""Paired differences: their mean with a bootstrap interval, their median, and the sign test. *pure*.

The same numbers always give the same result. This includes the interval, which comes from random resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from statistics import fmean, median

from attrs import frozen

__all__ = ["Paired", "paired", "sign_test"]

_RESAMPLES = 2000
_SHARE = 0.95


@frozen(kw_only=True)
class Paired:
    """The differences of pairs.

    Attributes:
        pairs: the number of pairs.
        mean: the mean of the differences.
        low, high: the 95 % confidence interval of the mean, by the bootstrap.
        median: the median of the differences.
        less, same, more: the numbers of pairs whose second value is less than the first, equal, and more.
        p: the probability that chance alone makes the signs at least this uneven.
    """

    pairs: int
    mean: float
    low: float
    high: float
    median: float
    less: int
    same: int
    more: int
    p: float

    @property
    def differs(self) -> bool:
        """True if the interval excludes 0."""
        return self.low > 0 or self.high < 0


def paired(first: Sequence[float], second: Sequence[float]) -> Paired | None:
    """Compare values pair by pair; None if there are no values.

        paired([1.0, 2.0, 3.0], [2.0, 2.5, 3.5])

    Args:
        first: the first value of each pair.
        second: the second value of each pair.
    """
    differences = [b - a for a, b in zip(first, second, strict=True)]
    if not differences:
        return None
    low, high = _interval(differences)
    less = sum(each < 0 for each in differences)
    more = sum(each > 0 for each in differences)
    return Paired(
        pairs=len(differences),
        mean=fmean(differences),
        low=low,
        high=high,
        median=median(differences),
        less=less,
        same=len(differences) - less - more,
        more=more,
        p=sign_test(less, more),
    )


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the interval that contains the means of 95 % of the resamples."""
    stream = Random(len(values))
    count = len(values)
    means = sorted(fmean(stream.choices(values, k=count)) for _ in range(_RESAMPLES))
    tail = round(_RESAMPLES * (1 - _SHARE) / 2)
    return means[tail], means[-1 - tail]


def sign_test(less: int, more: int) -> float:
    """Return the probability that a fair coin gives signs at least this uneven. Equal pairs do not count."""
    count = less + more
    if not count:
        return 1.0
    tail = sum(math.comb(count, k) for k in range(min(less, more) + 1))
    return float(min(1.0, 2 * tail / 2**count))
