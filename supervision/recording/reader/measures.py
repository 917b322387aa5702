"""The figures of a run: faults, ended processes, restarts, recovery times, lost messages, blast radius, availability.

    measures = measure(read_history(lines))
    print(measures.recovery.median, "s until an ended process was replaced")
    Path("report.json").write_bytes(measures.to_json())

*pure*: the only input is the history of a run. docs/reference/chaos.md defines each figure.
"""

from __future__ import annotations

from collections import Counter

import msgspec
from attrs import define

from supervision.recording.reader.figures import Histogram, percentile
from supervision.recording.reader.model import Recovery
from supervision.recording.reader.records import FaultRecord, History, Phase, ProcessRecord
from supervision.recording.reader.service import (
    LoopMeasures,
    MachineMeasures,
    RequestMeasures,
    loop_of,
    machine_of,
    requests_of,
)
from supervision.recording.reader.words import counted

__all__ = [
    "Broken",
    "Bucket",
    "FaultMeasure",
    "Measures",
    "MessageMeasures",
    "PathMeasure",
    "ProcessMeasures",
    "RecoveryMeasures",
    "SteadyMeasure",
    "measure",
    "measure_fault",
]

_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_MANY = 20


class FaultMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """One planned fault and its effects. `event` is the number of the trace event that records the fault.

    `took_along` lists the paths of the other processes that ended because of the fault: its blast radius. `target_back`
    is the time until the first ended process had a replacement. `all_back` is the time until every ended process had a
    replacement. `target_back` is None if the first ended process has no replacement, and `all_back` is None if any
    ended process has none. If no process ended, both times are None.
    """

    event: int
    seconds: float
    fault: str
    type: str
    status: str
    why: str | None
    path: str | None
    ended: int
    took_along: list[str]
    target_back: float | None
    all_back: float | None
    not_back: int


class ProcessMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """Processes that started or ended before the run closed.

    `ended_by_faults` counts the ends that a planned fault caused, and `troubled` the ends in other incidents, such as
    a crash and the ends that it caused. In any incident, `crashed` counts the ends by an exception, and `killed` the
    ends by a kill. `restarted` counts restarts by supervisors, and `gave_up` the supervisors that reached their limit.
    """

    started: int
    ended: int
    ended_by_faults: int
    crashed: int
    killed: int
    troubled: int
    restarted: int
    failed_starts: int
    gave_up: int
    zombies: int


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of a histogram. It counts durations up to `up_to` seconds that no lower bar counts. None is no limit."""

    up_to: float | None
    count: int


class RecoveryMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from the end of a process in an incident to the start of its replacement.

    `count` processes have a replacement, and `not_back` processes have none. Of these, `missing` are those that their
    supervisor should have restarted. `not_rejoined` counts the clients that did not join their topic again.
    """

    count: int
    not_back: int
    missing: int
    not_rejoined: int
    median: float | None
    p99: float | None
    longest: float | None
    histogram: list[Bucket]


class MessageMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """Messages between processes.

    An incident loses a message in one of four ways: its receiver had ended in the incident (`to_the_dead`), its
    receiver ended without reading the message (`in_mailboxes`), its receiver ended while handling the message
    (`in_hand`), or a fault dropped the message (`dropped`). `by_kind` counts the lost messages by kind. `discarded`
    counts the messages that no incident lost: their receiver ended in order, or no process had the name. `omitted`
    counts the events that a full trace left out. `answers_lost` counts the calls whose answer an incident lost.
    """

    sent: int
    received: int
    lost: int
    answers_lost: int
    to_the_dead: int
    in_mailboxes: int
    in_hand: int
    dropped: int
    discarded: int
    by_kind: dict[str, int]
    omitted: int


class PathMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """A path whose processes ended in incidents, and the time without a process at this path.

    The partitions of a pool share one path, with `*` for their number.
    """

    path: str
    ended: int
    ended_by_faults: int
    restarted: int
    median_back: float | None
    longest_back: float | None
    missing_seconds: float


class SteadyMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """One steady-state check, and the share of the time for which it held.

    `availability` is the share since the check first held. `availability_during` is the share in the phase with the
    faults. `outages` is the number of times that the check stopped holding. `outage_seconds` is the total duration of
    the outages, and `longest_outage` is the longest duration. `problem` is the last problem. `holds_at_end` is True if
    the check held when the run closed.
    """

    name: str
    availability: float
    availability_during: float | None
    outages: int
    outage_seconds: float
    longest_outage: float
    holds_at_end: bool
    problem: str | None


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """An invariant that was violated."""

    name: str
    seconds: float
    problem: str


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one run.

        measures = measure(read_history(outcome.trace))
        print(measures.recovery.median, "s until an ended process was replaced")

    Attributes:
        format: the version of this format, which is 1.
        seconds: the length of the run in seconds.
        phases: the phases of the experiment.
        faults: the planned faults and their effects.
        applied: the number of faults that the injector applied.
        masked: the number of faults whose effect something else already caused or prevented.
        not_applicable: the number of faults whose moment never came, or whose target did not exist.
        processes: the numbers of started and ended processes.
        recovery: the times until ended processes had a replacement.
        messages: the numbers of sent, received and lost messages.
        blast_median: the median number of processes that a fault took along; None if no fault ended a process.
        blast_largest: the largest number of processes that a fault took along.
        takeovers: for each entity that ended in an incident, the seconds until it ran again; None if it did not.
        steady: the checks of the steady state.
        loop: the lag of the event loop; None if no probe ran, as in a simulated run.
        machine: the load of the machine; None if the run did not measure it.
        requests: the requests of the clients.
        invariants: the violated invariants.
        paths: the paths whose processes ended.
        problems: one sentence for each problem; empty if the run went well.
        unrecovered: a text for each thing that did not recover, such as "1 supervisor gave up".
    """

    format: int
    seconds: float
    phases: list[Phase]
    faults: list[FaultMeasure]
    applied: int
    masked: int
    not_applicable: int
    processes: ProcessMeasures
    recovery: RecoveryMeasures
    messages: MessageMeasures
    blast_median: float | None
    blast_largest: int
    takeovers: list[float | None]
    steady: list[SteadyMeasure]
    loop: LoopMeasures | None
    machine: MachineMeasures | None
    requests: list[RequestMeasures]
    invariants: list[Broken]
    paths: list[PathMeasure]
    problems: list[str]
    unrecovered: list[str]

    def to_json(self) -> bytes:
        """Return the figures as a JSON object with one field for each attribute."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def measure(history: History) -> Measures:
    """Compute the figures of a run.

        measures = measure(read_history(outcome.trace))

    Args:
        history: the history of the run, from `read_history`.

    Returns:
        The figures.
    """
    processes = [process for process in history.processes if not history.is_closing(process.born)]
    ends = [
        process
        for process in processes
        if process.ended is not None and not history.is_closing(process.ended)
    ]
    deaths = history.deaths
    faults = [measure_fault(mark) for mark in history.faults]
    status = Counter(fault.status for fault in faults)
    counts = _processes(history, processes, ends, deaths)
    total = sum((incident.recovery for incident in history.incidents), Recovery())
    recovery = _recovery(deaths, total)
    blasts = [float(len(fault.took_along)) for fault in faults if fault.ended]
    steady = steadiness(history)
    broken = broken_invariants(history)
    return Measures(
        format=1,
        seconds=history.seconds,
        phases=history.phases,
        faults=faults,
        applied=status["applied"],
        masked=status["masked"],
        not_applicable=status["not_applicable"],
        processes=counts,
        recovery=recovery,
        messages=_messages(history, total),
        blast_median=percentile(blasts, 0.5),
        blast_largest=int(max(blasts, default=0)),
        takeovers=[process.recovered_after for process in deaths if process.is_entity],
        steady=steady,
        loop=loop_of(history),
        machine=machine_of(history),
        requests=requests_of(history),
        invariants=broken,
        paths=_paths(deaths),
        problems=_problems(history, steady, broken),
        unrecovered=_unrecovered(counts, recovery),
    )


def measure_fault(mark: FaultRecord) -> FaultMeasure:
    """Compute the figures of one fault."""
    first = mark.ended[0] if mark.ended else None
    times = _times(mark.ended)
    others = [process.path for process in mark.ended if process is not first]
    return FaultMeasure(
        event=mark.event,
        seconds=mark.seconds,
        fault=mark.text,
        type=mark.type,
        status=mark.status,
        why=mark.why,
        path=mark.path,
        ended=len(mark.ended),
        took_along=others,
        target_back=None if first is None else first.recovered_after,
        all_back=max(times) if times and len(times) == len(mark.ended) else None,
        not_back=len(mark.ended) - len(times),
    )


def _processes(
    history: History,
    processes: list[ProcessRecord],
    ends: list[ProcessRecord],
    deaths: list[ProcessRecord],
) -> ProcessMeasures:
    kinds = Counter(e["kind"] for e in history.events if not history.is_closing(e["t"]))
    exits = Counter(process.exit for process in deaths)
    return ProcessMeasures(
        started=len(processes),
        ended=len(ends),
        ended_by_faults=sum(process.fault is not None for process in deaths),
        crashed=exits["crash"],
        killed=exits["killed"],
        troubled=sum(process.fault is None for process in deaths),
        restarted=kinds["child_restarted"],
        failed_starts=kinds["child_start_failed"],
        gave_up=kinds["gave_up"],
        zombies=kinds["zombie"],
    )


def _recovery(deaths: list[ProcessRecord], total: Recovery) -> RecoveryMeasures:
    times = _times(deaths)
    bars = Histogram(times, _BOUNDS).bars()
    return RecoveryMeasures(
        count=len(times),
        not_back=len(deaths) - len(times),
        missing=total.not_back,
        not_rejoined=total.not_rejoined,
        median=percentile(times, 0.5),
        p99=percentile(times, 0.99),
        longest=max(times, default=None),
        histogram=[Bucket(up_to=bound, count=count) for bound, count in bars],
    )


def _unrecovered(processes: ProcessMeasures, recovery: RecoveryMeasures) -> list[str]:
    found = (
        (processes.gave_up, "supervisor", "supervisors", "gave up"),
        (recovery.missing, "process", "processes", "not back"),
        (recovery.not_rejoined, "client", "clients", "not joined again"),
    )
    return [f"{counted(count, one, many)} {what}" for count, one, many, what in found if count]


def _times(processes: list[ProcessRecord]) -> list[float]:
    return [after for process in processes if (after := process.recovered_after) is not None]


def _messages(history: History, total: Recovery) -> MessageMeasures:
    ways: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for loss in (loss for incident in history.incidents for loss in incident.losses):
        ways[loss.what] += loss.count
        if loss.what != "answer":
            kinds[loss.kind] += loss.count
    return MessageMeasures(
        sent=len(history.messages),
        received=sum(each.received is not None for each in history.messages),
        lost=total.messages_lost,
        answers_lost=total.answers_lost,
        to_the_dead=ways["dead_letter"],
        in_mailboxes=ways["unread"],
        in_hand=ways["in_hand"],
        dropped=ways["dropped"],
        discarded=history.discarded,
        by_kind=dict(kinds.most_common(_MANY)),
        omitted=history.omitted,
    )


def _paths(deaths: list[ProcessRecord]) -> list[PathMeasure]:
    by_role: dict[str, list[ProcessRecord]] = {}
    for process in deaths:
        by_role.setdefault(process.role, []).append(process)
    found = [
        PathMeasure(
            path=path,
            ended=len(processes),
            ended_by_faults=sum(process.fault is not None for process in processes),
            median_back=percentile(_times(processes), 0.5),
            longest_back=max(_times(processes), default=None),
            restarted=sum(
                process.back is not None and process.back.restarted for process in processes
            ),
            missing_seconds=sum(process.recovered_after or 0.0 for process in processes),
        )
        for path, processes in by_role.items()
    ]
    return sorted(found, key=lambda measure: (-measure.ended, measure.path))[:_MANY]


def _problems(history: History, steady: list[SteadyMeasure], broken: list[Broken]) -> list[str]:
    # A live run has phases, and adds its own problem if the steady state did not come back.
    problems = [
        f"the steady state {each.name!r} did not hold at the end: {each.problem}"
        for each in steady
        if not each.holds_at_end and not history.phases
    ]
    problems += [
        f"the invariant {each.name!r} was broken at {each.seconds:g} s: {each.problem}"
        for each in broken
    ]
    problems += [event["problem"] for event in history.events if event["kind"] == "problem"]
    return list(dict.fromkeys(problems))


# The steady state


@define
class _Span:
    """A span of time in which the result of a check did not change."""

    begin: float
    end: float
    holds: bool
    problem: str | None

    def overlap(self, begin: float, end: float) -> float:
        return max(0.0, min(self.end, end) - max(self.begin, begin))


def steadiness(history: History) -> list[SteadyMeasure]:
    """Compute the availability of each steady-state check."""
    end = history.seconds if history.closing is None else history.closing
    spans: dict[str, list[_Span]] = {}
    for event in history.events:
        if event["kind"] != "steady" or event["t"] > end:
            continue
        of_check = spans.setdefault(event["name"], [])
        if of_check:
            of_check[-1].end = event["t"]
        of_check.append(_Span(event["t"], end, event["holds"], event.get("problem")))
    return [_measure(name, of_check, history.during) for name, of_check in spans.items()]


def _measure(name: str, spans: list[_Span], during: Phase | None) -> SteadyMeasure:
    # Until a check first holds, the system is starting. That is not an outage.
    first = next((number for number, span in enumerate(spans) if span.holds), None)
    counted = spans if first is None else spans[first:]
    outages = [span for span in counted if not span.holds]
    lengths = [span.end - span.begin for span in outages]
    problems = [span.problem for span in counted if span.problem is not None]
    return SteadyMeasure(
        name=name,
        availability=_share(counted, counted[0].begin, counted[-1].end),
        availability_during=None if during is None else _share(counted, during.begin, during.end),
        outages=len(outages),
        outage_seconds=sum(lengths),
        longest_outage=max(lengths, default=0.0),
        holds_at_end=counted[-1].holds,
        problem=problems[-1] if problems else None,
    )


def _share(spans: list[_Span], begin: float, end: float) -> float:
    known = sum(span.overlap(begin, end) for span in spans)
    held = sum(span.overlap(begin, end) for span in spans if span.holds)
    if known == 0.0:
        return 1.0 if spans[-1].holds else 0.0
    return held / known


def broken_invariants(history: History) -> list[Broken]:
    """Return the violated invariants, the earliest violation first."""
    return [
        Broken(name=event["name"], seconds=event["t"], problem=event["problem"])
        for event in history.events
        if event["kind"] == "invariant"
    ]
