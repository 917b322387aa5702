"""Tables, ratios and verdicts. *pure*: it is given numbers and gives text."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from attrs import frozen

from tests.benchmarks.actors.fleet import Samples

__all__ = ["Goal", "goal_lines", "grid", "in_micros", "median_of", "quantile", "ratio"]


@frozen
class Goal:
    """Something to be reached, and how far it was.

    - `what`: in words;
    - `figure`: what was measured, in words;
    - `reached`: whether it was.
    """

    what: str
    figure: str
    reached: bool


def median_of(rounds: Sequence[Sequence[float]]) -> float:
    """The median of all that was measured."""
    return statistics.median(value for values in rounds for value in values)


def quantile(rounds: Sequence[Sequence[float]], share: float) -> float:
    """The value that a share of all that was measured does not exceed."""
    values = sorted(value for values in rounds for value in values)
    return values[min(len(values) - 1, int(share * len(values)))]


def ratio(samples: Samples, case: str, slower: str, faster: str) -> float | None:
    """Return the median ratio of the times of `slower` and `faster` within each round."""
    one, other = samples.get((case, slower)), samples.get((case, faster))
    if not one or not other:
        return None
    return statistics.median(
        statistics.median(a) / statistics.median(b) for a, b in zip(one, other, strict=False)
    )


def in_micros(seconds: float) -> str:
    """Seconds as microseconds, with as many digits as mean something."""
    micros = seconds * 1e6
    return f"{micros:.2f}" if micros < 10 else f"{micros:.1f}" if micros < 100 else f"{micros:,.0f}"


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells under each other: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def goal_lines(goals: Sequence[Goal]) -> str:
    """One line for each goal."""
    verdict: Mapping[bool, str] = {True: "PASS", False: "short of it"}
    return grid(
        [("goal", "measured", ""), *((g.what, g.figure, verdict[g.reached]) for g in goals)]
    )
