"""The verdict of a soak, from its counters and samples. *pure*."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from attrs import frozen

from tests.benchmarks.soak.faults import Fault, FaultKind
from tests.benchmarks.soak.ledger import (
    AWAY,
    COUNTED,
    HEARD,
    NOT_KNOWN,
    NOT_SENT,
    UNCOUNTED,
    Delivery,
)

__all__ = [
    "COUNTERS",
    "Check",
    "Sample",
    "checks",
    "delivery_checks",
    "fault_checks",
    "parse_metrics",
    "rss_near",
]

MOST_GROWTH = 0.05
"""The share by which the memory at the end may exceed the memory at the beginning."""

GONE = ("ashtree_connections", "ashtree_channels")
"""Figures that must be 0 after all clients have gone."""

IDLE = (
    "ashtree_processes",
    "ashtree_pubsub_subscriptions",
    # Not the number of members, which includes hidden presences of killed nodes for `permdown_period`.
    "ashtree_presence_topics",
    "soak_tasks",
    "process_open_fds",
)
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
    memory: Mapping[str, tuple[float, float]],
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]],
    servers: int,
    processes: int,
    left_over: int,
    exit_codes: Sequence[int],
    unexpected: Sequence[str],
) -> list[Check]:
    """Return all checks of a run.

    Args:
        counts: the counters of the clients, such as `lost_replies`, `lost_broadcasts`, `failed_rejoins` and
            `replacements`. `refused`, `not_accepted` and `cut` are those that no kill of a process explains.
        memory: for each process that lives until the end, its memory in bytes once it is warm, and at the end under the
            same load.
        before: the figures of each worker before the first client.
        after: the figures of each worker after the last client.
        servers: the number of servers. Each has a parent.
        processes: the number of the servers' processes after the last client. The parents count.
        left_over: the number of processes that outlived the servers.
        exit_codes: the exit code of each server.
        unexpected: log lines that no client caused on purpose.
    """
    found = [
        _none("no reply is lost", counts, "lost_replies"),
        _none("no client misses its own broadcast", counts, "lost_broadcasts"),
        _none("every crashed channel is joined again", counts, "failed_rejoins"),
        _none("the system refuses no connection while the parent lives", counts, "refused"),
        _none("each upgrade gets its answer, except after a kill", counts, "not_accepted"),
        _none("no connection ends without a closing frame, except by a kill", counts, "cut"),
        _none("no channel of a member crashes, except a durable one", counts, "member_crashes"),
        Check(
            "every kind of client was at work",
            ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()),
            all(counts[name] for name in ("answered", "crashes", "vanished", "slow", "rubbish")),
        ),
        Check("workers were replaced", str(counts["replacements"]), counts["replacements"] > 0),
        *(_memory(name, at_base, at_end) for name, (at_base, at_end) in memory.items()),
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
        Check(
            "one process for each worker", f"{processes - servers}", processes == workers + servers
        ),
        Check("no process outlives the servers", str(left_over), left_over == 0),
        Check(
            "the servers end in order",
            f"exit codes {', '.join(map(str, exit_codes))}",
            len(exit_codes) == servers and not any(exit_codes),
        ),
        Check(
            "the log has only the errors that clients or faults have caused",
            unexpected[0][:300] if unexpected else "yes",
            not unexpected,
        ),
    ]
    return found


COUNTERS = {
    "ashtree_pubsub_lost_messages_total": "lost",
    "ashtree_pubsub_dropped_messages_total": "dropped",
    "ashtree_pubsub_undeliverable_messages_total": "undeliverable",
    "ashtree_pubsub_disconnects_total": "disconnects",
    "ashtree_history_appended_messages_total": "durable appended",
    "ashtree_history_failed_messages_total": "durable failed",
    "ashtree_history_replayed_messages_total": "durable replayed",
    "ashtree_history_gaps_total": "durable gaps",
    "ashtree_history_lost_total": "durable lost",
    "ashtree_history_evicted_topics_total": "durable evicted",
}
"""Counters of the product that the report shows, by their metrics."""


def delivery_checks(delivery: Delivery, counters: Mapping[str, float]) -> list[Check]:
    """Return the checks of the members' messages against the promises and the counters of the product.

    Args:
        delivery: the fates of the messages of the members.
        counters: the sums over all nodes of the counters in `COUNTERS`, by their metrics.
    """
    accounts = delivery.accounts.values()
    missed = sum(each.missed for each in delivery.comparisons)
    counted = sum(each.counted for each in delivery.comparisons)
    fates = (HEARD, AWAY, NOT_KNOWN, NOT_SENT, COUNTED, UNCOUNTED)
    example = "".join(f"; {each}" for each in delivery.examples[:1])
    durable = sum(each.durable for each in accounts)
    lost = sum(each.durable_lost for each in accounts)
    doubled = sum(each.durable_doubled for each in accounts)
    disordered = sum(each.durable_disordered for each in accounts)
    not_recovered = sum(each.not_recovered for each in accounts)
    return [
        Check(
            "members heard each other",
            ", ".join(f"{fate} {delivery.total(fate):,}" for fate in fates),
            delivery.total(HEARD) > 0,
        ),
        Check(
            "the nodes admit each message that a client missed",
            f"nodes missed {missed:,} of members, and counted {counted:,.0f} of all; {UNCOUNTED} "
            f"{delivery.total(UNCOUNTED):,}{example if delivery.total(UNCOUNTED) else ''}",
            delivery.total(UNCOUNTED) == 0,
        ),
        _none_of("no plain message comes twice", sum(each.doubled for each in accounts)),
        _none_of(
            "plain messages of a sender keep their order", sum(each.disordered for each in accounts)
        ),
        Check("members got durable messages", f"{durable:,}", durable > 0),
        Check("no durable message is lost", f"{lost:,}{example if lost else ''}", lost == 0),
        Check(
            "no node counts a lost durable message",
            ", ".join(
                f"{name} {counters.get(metric, 0):,.0f}" for metric, name in COUNTERS.items()
            ),
            not counters.get("ashtree_history_lost_total")
            and not counters.get("ashtree_history_evicted_topics_total"),
        ),
        _none_of("no durable message comes twice", doubled),
        _none_of("durable messages have one order", disordered),
        _none_of("each durable join recovers", not_recovered),
    ]


def fault_checks(
    faults: Sequence[Fault],
    *,
    most_serving: float,
    most_joining: float,
    most_agreeing: Mapping[FaultKind, float],
) -> list[Check]:
    """Return the checks of the faults: each kind happened, and everything was back in time.

    Args:
        faults: all faults of the run.
        most_serving: the seconds within which a server must serve again.
        most_joining: the seconds within which all members must be joined again.
        most_agreeing: for each kind, the seconds from then within which the documentation promises that all nodes show
            the same presences.
    """
    kinds = {each.kind for each in faults}
    late = [each for each in faults if each.served is None or each.served > most_serving]
    away = [each for each in faults if each.joined is None or each.joined > most_joining]
    differ = [
        each for each in faults if each.agreed is None or each.agreed > most_agreeing[each.kind]
    ]
    held = [each for each in faults if each.note]
    return [
        Check("each kind of fault happened", f"{len(faults)} faults", len(kinds) == len(FaultKind)),
        Check(
            f"the servers serve again within {most_serving:g} s",
            _longest([each.served for each in faults]),
            not late,
        ),
        Check(
            f"all members are joined again within {most_joining:g} s",
            _longest([each.joined for each in faults]),
            not away,
        ),
        Check(
            "all clients see exactly the joined clients in the documented time",
            _longest([each.agreed for each in faults]),
            not differ,
        ),
        Check("each fault passes without a remark", held[0].note if held else "yes", not held),
    ]


def _longest(seconds: Sequence[float | None]) -> str:
    """Return the longest time in words; None is a time that did not end."""
    if not seconds or any(each is None for each in seconds):
        return "not in time"
    return f"after {max(each for each in seconds if each is not None):.1f} s at most"


def _memory(name: str, at_base: float, at_end: float) -> Check:
    growth = at_end / at_base - 1 if at_base else 1.0
    return Check(
        f"the memory of {name} does not grow",
        f"{at_base / 1e6:.1f} MB, at the end {at_end / 1e6:.1f} MB ({growth:+.1%})",
        growth <= MOST_GROWTH,
    )


def _none_of(what: str, count: int) -> Check:
    return Check(what, f"{count:,}", count == 0)


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
