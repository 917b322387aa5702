"""What a run has cost: faults, ends, restarts, times to recover, lost messages, blast radius, availability.

    measures = measure(read_history(lines))
    print(measures.recovery.median, "s until what had ended was back")
    Path("report.json").write_bytes(measures.to_json())

*pure*, over the history of a trace, whether the run was a simulated or a live one. docs/reference/chaos.md says what
each figure means and how it is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from supervision.chaos.reports.history import FaultMark, History, Letter, Life, kind_of_text
from supervision.chaos.reports.steadiness import (
    Broken,
    SteadyMeasure,
    broken_invariants,
    steadiness,
)

__all__ = [
    "Bucket",
    "FaultMeasure",
    "Measures",
    "MessageMeasures",
    "PathMeasure",
    "PhaseMeasure",
    "ProcessMeasures",
    "RecoveryMeasures",
    "measure",
    "percentile",
]

_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_MANY = 20
_HOLDING = frozenset(("hang", "slow", "swallow_cancellation"))


class PhaseMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """A phase of the experiment, with when it began and ended."""

    name: str
    begin: float
    end: float


class FaultMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """One planned fault and what came of it.

    `took_along` has the paths of the other processes that ended because of it: its blast radius. `target_back` is how
    long it took until the first that ended was back, `all_back` until all were; None if nothing ended, or not all
    came back.
    """

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
    """Processes that started and ended before the run was closed.

    `ended_by_faults` are those whose end goes back to a fault; `crashed` ended by an exception, `killed` by a kill,
    whether or not a fault was behind it; `troubled` crashed or were killed without one. `restarted` counts restarts by
    supervisors, `gave_up` supervisors that reached their limit.
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
    """How many took at most `up_to` seconds (None: any time) and more than the bucket before."""

    up_to: float | None
    count: int


class RecoveryMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from an end, by a fault or a crash, to the start of the process that took its place."""

    count: int
    not_back: int
    median: float | None
    p99: float | None
    longest: float | None
    histogram: list[Bucket]


class MessageMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """Messages between processes.

    Lost are: those `to_the_dead`, sent to a process that had ended; `in_mailboxes` of processes when these ended;
    `in_hand`, being handled by a process that crashed of them or over them; and `dropped` by a fault. `by_kind` has
    the lost ones by their kinds. `omitted` were not recorded, since the trace was full.
    """

    sent: int
    received: int
    lost: int
    to_the_dead: int
    in_mailboxes: int
    in_hand: int
    dropped: int
    by_kind: dict[str, int]
    omitted: int


class PathMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the tree that had trouble: how often a process ended there, and how long it was missing.

    The partitions of a pool are one place, written as `*`.
    """

    path: str
    ended: int
    ended_by_faults: int
    restarted: int
    median_back: float | None
    longest_back: float | None
    missing_seconds: float


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one run. `problems` is empty if it went well: one sentence for each thing that did not."""

    format: int
    seconds: float
    phases: list[PhaseMeasure]
    faults: list[FaultMeasure]
    applied: int
    masked: int
    not_applicable: int
    processes: ProcessMeasures
    recovery: RecoveryMeasures
    messages: MessageMeasures
    blast_median: float | None
    blast_largest: int
    steady: list[SteadyMeasure]
    invariants: list[Broken]
    paths: list[PathMeasure]
    problems: list[str]

    def to_json(self) -> bytes:
        """The figures as a JSON object, one field for each attribute."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def measure(history: History) -> Measures:
    """Count.

    Args:
        history: of the run; from `read_history`.
    """
    lives = [life for life in history.lives if not history.is_closing(life.born)]
    ends = [life for life in lives if life.ended is not None and not history.is_closing(life.ended)]
    faults = [_fault(mark, history) for mark in history.faults]
    status = Counter(fault.status for fault in faults)
    blasts = [float(len(fault.took_along)) for fault in faults if fault.ended]
    steady = steadiness(history)
    broken = broken_invariants(history)
    return Measures(
        format=1,
        seconds=history.seconds,
        phases=[PhaseMeasure(name=p.name, begin=p.begin, end=p.end) for p in history.phases],
        faults=faults,
        applied=status["applied"],
        masked=status["masked"],
        not_applicable=status["not_applicable"],
        processes=_processes(history, lives, ends),
        recovery=_recovery([life for life in ends if _is_trouble(life)]),
        messages=_messages(history, ends),
        blast_median=percentile(blasts, 0.5),
        blast_largest=int(max(blasts, default=0)),
        steady=steady,
        invariants=broken,
        paths=_paths(ends),
        problems=_problems(history, steady, broken),
    )


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest of the values that at least that share of them does not exceed; None of none.

        percentile([1, 2, 3, 4], 0.5)      # 2

    Args:
        values: in any order.
        share: 0.5 for the median.
    """
    ordered = sorted(values)
    if not ordered:
        return None
    position = -int(-share * len(ordered) // 1)
    return ordered[max(position, 1) - 1]


def _is_trouble(life: Life) -> bool:
    return life.fault is not None or life.crashed or life.reason == "Reason.KILLED"


def _fault(mark: FaultMark, history: History) -> FaultMeasure:
    first = mark.ended[0] if mark.ended else None
    times = [
        life.back.born - life.ended
        for life in mark.ended
        if life.back is not None and life.ended is not None
    ]
    others = [life.path for life in mark.ended if life is not first]
    return FaultMeasure(
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


def _processes(history: History, lives: list[Life], ends: list[Life]) -> ProcessMeasures:
    kinds = Counter(e["kind"] for e in history.events if not history.is_closing(e["t"]))
    return ProcessMeasures(
        started=len(lives),
        ended=len(ends),
        ended_by_faults=sum(life.fault is not None for life in ends),
        crashed=sum(life.crashed for life in ends),
        killed=sum(life.reason == "Reason.KILLED" for life in ends),
        troubled=sum(life.fault is None and _is_trouble(life) for life in ends),
        restarted=kinds["child_restarted"],
        failed_starts=kinds["child_start_failed"],
        gave_up=kinds["gave_up"],
        zombies=kinds["zombie"],
    )


def _recovery(troubles: list[Life]) -> RecoveryMeasures:
    times = _times(troubles)
    bounds = (*_BOUNDS, None)
    counts = [0] * len(bounds)
    for time in times:
        counts[sum(time > bound for bound in _BOUNDS)] += 1
    return RecoveryMeasures(
        count=len(times),
        not_back=len(troubles) - len(times),
        median=percentile(times, 0.5),
        p99=percentile(times, 0.99),
        longest=max(times, default=None),
        histogram=[Bucket(up_to=b, count=c) for b, c in zip(bounds, counts, strict=True)],
    )


def _times(lives: list[Life]) -> list[float]:
    return [after for life in lives if (after := life.recovered_after) is not None]


def _messages(history: History, ends: list[Life]) -> MessageMeasures:
    dead = [
        kind_of_text(event["message"])
        for event in history.events
        if event["kind"] == "dead_letter" and not history.is_closing(event["t"])
    ]
    unread = [
        letter.kind
        for letter in history.letters
        if letter.received is None and not letter.dropped and _ended_unread(letter, history)
    ]
    in_hand = _in_hand(history, ends)
    dropped = [letter.kind for letter in history.letters if letter.dropped]
    kinds = Counter([*dead, *unread, *in_hand, *dropped])
    return MessageMeasures(
        sent=len(history.letters),
        received=sum(letter.received is not None for letter in history.letters),
        lost=kinds.total(),
        to_the_dead=len(dead),
        in_mailboxes=len(unread),
        in_hand=len(in_hand),
        dropped=len(dropped),
        by_kind=dict(kinds.most_common(_MANY)),
        omitted=sum(event.get("omitted", 0) for event in history.events),
    )


def _ended_unread(letter: Letter, history: History) -> bool:
    receiver = letter.receiver
    return (
        receiver is not None
        and receiver.ended is not None
        and not history.is_closing(receiver.ended)
    )


def _in_hand(history: History, ends: list[Life]) -> list[str]:
    """Messages that a process was handling when it ended: those that led to its crash, or that a fault held up."""
    events = {event["n"]: event for event in history.events}
    letters = {letter.received_event: letter for letter in history.letters}
    cut_short = {(e["pid"], e["fault"]) for e in history.events if e["kind"] == "fault_over"}
    kinds = []
    for life in ends:
        if life.ended_event is None:
            continue
        handling = life.crashed
        event = events.get(events[life.ended_event].get("cause", -1))
        while event is not None and event["kind"] in {"exited", "fault", "fault_over", "signal"}:
            if event.get("type") in _HOLDING:
                is_hung = event["type"] == "hang"
                handling = handling or is_hung or (event["pid"], event["fault"]) in cut_short
            event = events.get(event.get("cause", -1))
        if event is not None and event["kind"] == "received" and event["pid"] == life.key[1]:
            letter = letters.get(event["n"])
            if handling and letter is not None:
                kinds.append(letter.kind)
    return kinds


def _paths(ends: list[Life]) -> list[PathMeasure]:
    troubles: dict[str, list[Life]] = {}
    for life in ends:
        if _is_trouble(life):
            troubles.setdefault(life.role, []).append(life)
    found = [
        PathMeasure(
            path=path,
            ended=len(lives),
            ended_by_faults=sum(life.fault is not None for life in lives),
            median_back=percentile(_times(lives), 0.5),
            longest_back=max(_times(lives), default=None),
            restarted=sum(life.back is not None and life.back.restarted for life in lives),
            missing_seconds=sum(life.recovered_after or 0.0 for life in lives),
        )
        for path, lives in troubles.items()
    ]
    return sorted(found, key=lambda measure: (-measure.ended, measure.path))[:_MANY]


def _problems(history: History, steady: list[SteadyMeasure], broken: list[Broken]) -> list[str]:
    # A live run says itself whether the steady state came back, and how long it had.
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
