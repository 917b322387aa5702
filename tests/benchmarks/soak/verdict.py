"""The verdict of a soak, from its counters and samples. *pure*."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from attrs import frozen

__all__ = ["Check", "Sample", "checks", "parse_metrics", "rss_near"]

MOST_GROWTH = 0.05
"""The share by which the memory at the end may exceed the memory at the beginning."""

GONE = ("ashtree_connections", "ashtree_channels", "ashtree_pubsub_subscriptions")
"""Figures that must be 0 after all clients have gone."""

IDLE = ("ashtree_processes", "soak_tasks", "process_open_fds")
"""Figures that must be the same after the last client as before the first."""

_LINE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$")
_WORKER = re.compile(r'worker="(\d+)"')
_MEDIAN_OF = 15
_SPARE_FILES = 2  # the scrape's own connection, and a connection that has just ended


@frozen
class Sample:
    """The server's memory in bytes, at `seconds` after the start of the clients."""

    seconds: float
    rss: int


@frozen
class Check:
    """One line of the verdict: the checked property, the figures in words, and the result."""

    what: str
    figures: str
    passed: bool


def parse_metrics(text: str) -> dict[str, dict[str, float]]:
    """Parse a scrape. For each worker's id, return the sums of its figures by name."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for line in text.splitlines():
        match = _LINE.match(line)
        # Leave out the scrape's own HTTP request.
        if match is not None and 'transport="http"' not in line:
            worker = _WORKER.search(match[2] or "")
            found[worker[1] if worker else ""][match[1]] += float(match[3])
    return {worker: dict(figures) for worker, figures in found.items() if worker}


def rss_near(samples: Sequence[Sample], seconds: float) -> float:
    """Return the median memory of the last samples up to this time."""
    found = [each.rss for each in samples if each.seconds <= seconds]
    return statistics.median(found[-_MEDIAN_OF:]) if found else 0.0


def checks(
    *,
    counts: Mapping[str, int],
    at_base: float,
    at_end: float,
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]],
    processes: int,
    left_over: int,
    exit_code: int,
    unexpected: Sequence[str],
) -> list[Check]:
    """Return all checks of a run.

    Args:
        counts: the counters of the clients, such as `lost_replies`, `lost_broadcasts`, `failed_rejoins`, `refused`,
            `cut` and `replacements`.
        at_base: the memory in bytes after the first part of the run.
        at_end: the memory in bytes at the end, under the same load.
        before: the figures of each worker before the first client.
        after: the figures of each worker after the last client.
        processes: the number of the server's processes after the last client. The parent counts.
        left_over: the number of processes that outlived the server.
        exit_code: the exit code of the server.
        unexpected: log lines that no client caused on purpose.
    """
    growth = at_end / at_base - 1 if at_base else 1.0
    found = [
        _none("no reply is lost", counts, "lost_replies"),
        _none("no client misses its own broadcast", counts, "lost_broadcasts"),
        _none("every crashed channel is joined again", counts, "failed_rejoins"),
        _none("no connection is refused", counts, "refused"),
        _none("no connection ends without a closing frame", counts, "cut"),
        Check(
            "every kind of client was at work",
            ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()),
            all(counts[name] for name in ("answered", "crashes", "vanished", "slow", "rubbish")),
        ),
        Check("workers were replaced", str(counts["replacements"]), counts["replacements"] > 0),
        Check(
            "the memory does not grow",
            f"{at_base / 1e6:.1f} MB, at the end {at_end / 1e6:.1f} MB ({growth:+.1%})",
            growth <= MOST_GROWTH,
        ),
    ]
    overflows = sum(each.get("ashtree_out_buffer_overflows_total", 0.0) for each in after.values())
    found.append(
        Check("the server closes clients that read too slowly", f"{overflows:g}", overflows > 0)
    )
    for name in GONE:
        values = [figures.get(name, 0.0) for figures in after.values()]
        words = ", ".join(f"{value:g}" for value in values)
        found.append(Check(f"{name} is 0", words, bool(values) and not any(values)))
    found += [_as_before(name, before, after) for name in IDLE]
    workers = len(before)
    found += [
        Check("one process for each worker", f"{processes - 1}", processes == workers + 1),
        Check("no process outlives the server", str(left_over), left_over == 0),
        Check("the server ends in order", f"exit code {exit_code}", exit_code == 0),
        Check(
            "the log has only the crashes that clients asked for",
            unexpected[0] if unexpected else "yes",
            not unexpected,
        ),
    ]
    return found


def _none(what: str, counts: Mapping[str, int], name: str) -> Check:
    return Check(what, str(counts[name]), counts[name] == 0)


def _as_before(
    name: str, before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]
) -> Check:
    most_before = max((figures.get(name, 0.0) for figures in before.values()), default=0.0)
    most_after = max((figures.get(name, 0.0) for figures in after.values()), default=0.0)
    spare = _SPARE_FILES if name == "process_open_fds" else 0
    words = f"{most_before:g} before, {most_after:g} after"
    passed = bool(after) and most_after <= most_before + spare
    return Check(f"{name} of a worker is as before", words, passed)
