"""The samples of a run, and the figures and goals computed from them. *pure*."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import Factory, define

from tests.benchmarks.channels.figures import Spread, ratios, spread
from tests.benchmarks.channels.rows import ROWS

__all__ = ["Goal", "Results", "goals", "joined"]

LIMIT = 0.95
"""If the generator used at least this share of a core, it may have limited the figures."""


@define
class Results:
    """All samples of a run.

    Attributes:
        machine: the properties of the machine by name.
        titles: the titles of the servers by name, in the order of the table.
        samples: dicts with the keys `row`, `subject`, `round`, and either `figures` or `error`. If the limit of open
            files was too low for the row, the key `connections` has the number of connections that were possible.
    """

    machine: dict[str, str] = Factory(dict)
    titles: dict[str, str] = Factory(dict)
    samples: list[dict[str, Any]] = Factory(list)

    def rows(self) -> list[str]:
        """Return the names of the rows that were measured."""
        measured = {sample["row"] for sample in self.samples}
        return [name for name in ROWS if name in measured]

    def subjects(self, row: str) -> list[str]:
        """Return the names of the servers that were measured in a row."""
        measured = {sample["subject"] for sample in self.samples if sample["row"] == row}
        return [name for name in self.titles if name in measured]

    def values(self, row: str, subject: str, key: str) -> dict[int, float]:
        """Return the values of one figure by round."""
        return {
            sample["round"]: sample["figures"][key]
            for sample in self._of(row, subject)
            if sample.get("figures", {}).get(key) is not None
        }

    def figure(self, row: str, subject: str, key: str) -> Spread | None:
        """Return the median and the range of a figure, or None without measurements."""
        return spread(list(self.values(row, subject, key).values()))

    def ratio(self, row: str, of: str, to: str, key: str) -> Spread | None:
        """Return the median of the ratios within rounds."""
        return spread(ratios(self.values(row, of, key), self.values(row, to, key)))

    def errors(self) -> list[str]:
        """Return a line for each sample that failed, lost answers or got wrong answers."""
        lines = []
        for sample in self.samples:
            where = f"{sample['row']}, {sample['subject']}, round {sample['round']}"
            figures = sample.get("figures", {})
            if "error" in sample:
                lines.append(f"{where}: {sample['error']}")
            if figures.get("lost") or figures.get("wrong"):
                lines.append(f"{where}: {figures['lost']} lost, {figures['wrong']} wrong answers")
        return lines

    def reduced(self) -> list[str]:
        """Return a line for each row and server that got fewer connections because of the limit of open files."""
        found = {
            f"{sample['row']}, {sample['subject']}: {sample['connections']:,} connections"
            for sample in self.samples
            if "connections" in sample
        }
        return sorted(found)

    def saturated(self) -> list[str]:
        """Return a line for each row and server in which the generator used nearly a whole core."""
        return [
            f"{row}, {subject}: {share.median:.2f} of a core"
            for row in self.rows()
            for subject in self.subjects(row)
            if (share := self.figure(row, subject, "generator_share")) and share.median > LIMIT
        ]

    def _of(self, row: str, subject: str) -> Iterator[dict[str, Any]]:
        for sample in self.samples:
            if (sample["row"], sample["subject"]) == (row, subject):
                yield sample


def joined(runs: Sequence[Results]) -> Results:
    """Return one run with the rows of all runs. If two runs measured a row, use the later run.

    Each row comes from one run only, so its ratios never compare different runs.
    """
    latest = {row: run for run in runs for row in run.rows()}
    found = Results(dict(runs[-1].machine))
    for run in runs:
        found.titles.update(run.titles)
        found.samples += [each for each in run.samples if latest[each["row"]] is run]
    return found


@define
class Goal:
    """A figure that Ashtree should reach.

    Attributes:
        row: the name of the row.
        what: a description.
        value: the measured value.
        limit: the highest value that meets the goal; None if the figure is only for information.
    """

    row: str
    what: str
    value: float
    limit: float | None = None

    @property
    def verdict(self) -> str:
        """The verdict in words. Empty if the goal has no limit."""
        if self.limit is None:
            return ""
        return "met" if self.value <= self.limit else "missed"


_TO_FLOOR = {
    "echo-100x1": 0.75,
    "echo-100x8": 0.75,
    "echo-1000x1": 0.75,
    "fanout-100": 1.15,
    "fanout-1000": 1.15,
    "join": 1.0,
    "crash": 1.35,
}
_COMPARED = ("echo-100x1", "echo-1000x1", "fanout-100", "fanout-1000")
_LIMITS = (
    ("flat-echo", "all_to_alone", "CPU of an echo to that with 100 connections", 1.3),
    ("flat-fanout", "all_to_alone", "CPU of a frame to that in a room of 100", 1.3),
    ("heartbeats", "core_percent", "% of a core", 3.0),
    ("half", "p99_ms", "p99 latency in ms", 4.0),
    ("pauses", "pause_ms", "longest pause in ms", 25.0),
    ("never", "not_closed", "rounds in which the slow client was not closed", 0.0),
    ("never", "growth_mb", "growth of memory in MB", 8.0),
    ("never", "p99_to_alone", "p99 latency to that without the slow client", 1.5),
)
# A median would hide a single long pause in many rounds.
_WORST = ("pause_ms", "not_closed")


def goals(results: Results, own: str = "ashtree", floor: str = "floor") -> list[Goal]:
    """Return all goals that the run has figures for."""
    found = [
        Goal(row, "CPU to the bare server's", ratio.median, limit)
        for row, limit in _TO_FLOOR.items()
        if (ratio := results.ratio(row, own, floor, "us_per_op"))
    ]
    found += _logged(results, own)
    found += _fair(results, own)
    for row in _COMPARED:
        for subject in results.subjects(row):
            limit = _limit_to(subject)
            ratio = results.ratio(row, own, subject, "us_per_op")
            if ratio is not None and subject not in (own, floor):
                found.append(Goal(row, f"CPU to that of {subject}", ratio.median, limit))
    memory = results.figure("idle", own, "bytes_per_connection")
    if memory is not None:
        found.append(Goal("idle", "KB per connection", memory.median / 1024, 14.0))
    for row, key, what, limit in _LIMITS:
        figure = results.figure(row, own, key)
        if figure is not None:
            value = figure.most if key in _WORST else figure.median
            found.append(Goal(row, what, value, limit))
    return found


def _logged(results: Results, own: str) -> Sequence[Goal]:
    logged = results.figure("crash-logged", own, "us_per_op")
    plain = results.figure("crash", own, "us_per_op")
    if logged is None or plain is None:
        return []
    return [Goal("crash-logged", "CPU to that of crash", logged.median / plain.median, 1.3)]


def _fair(results: Results, own: str) -> Iterator[Goal]:
    for row in ("echo-1000x1", "echo-9000x1"):
        p99, mean = (results.values(row, own, f"{name}_ms") for name in ("p99", "mean"))
        fair = spread(ratios(p99, mean))
        if fair is not None:
            yield Goal(row, "p99 latency to the mean", fair.median, 1.6)


def _limit_to(subject: str) -> float | None:
    if subject.startswith("django") or subject == "socketio":
        return 0.2
    return 1.0 if subject in ("starlette", "websockets-trio") else None
