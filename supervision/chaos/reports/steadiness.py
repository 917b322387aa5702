"""How steady a system was, from the `steady` and `invariant` events of its trace. *pure*."""

from __future__ import annotations

import msgspec
from attrs import define

from supervision.chaos.reports.history import History

__all__ = ["Broken", "SteadyMeasure", "broken_invariants", "steadiness"]


class SteadyMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """One steady-state check: for which share of the time it held.

    `availability` is of all the time from the first answer on, `availability_during` of the phase with the faults;
    `outages` is how often it ceased to hold, `longest_outage` and `outage_seconds` are how long it then took.
    `problem` is what it last had to say, `holds_at_end` whether it held when the run was closed.
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
    """An invariant that did not hold."""

    name: str
    seconds: float
    problem: str


@define
class _Span:
    """A time in which a check gave one answer."""

    begin: float
    end: float
    holds: bool
    problem: str | None

    def overlap(self, begin: float, end: float) -> float:
        return max(0.0, min(self.end, end) - max(self.begin, begin))


def steadiness(history: History) -> list[SteadyMeasure]:
    """What each check of the steady state has answered over time."""
    end = history.seconds if history.closing is None else history.closing
    spans: dict[str, list[_Span]] = {}
    for event in history.events:
        if event["kind"] != "steady" or event["t"] > end:
            continue
        of_check = spans.setdefault(event["name"], [])
        if of_check:
            of_check[-1].end = event["t"]
        of_check.append(_Span(event["t"], end, event["holds"], event.get("problem")))
    during = next((phase for phase in history.phases if phase.name == "during"), None)
    return [
        _measure(name, of_check, None if during is None else (during.begin, during.end))
        for name, of_check in spans.items()
    ]


def _measure(name: str, spans: list[_Span], during: tuple[float, float] | None) -> SteadyMeasure:
    # What did not hold before it held for the first time is the boot, and no outage.
    first = next((number for number, span in enumerate(spans) if span.holds), None)
    counted = spans if first is None else spans[first:]
    outages = [span for span in counted if not span.holds]
    lengths = [span.end - span.begin for span in outages]
    problems = [span.problem for span in counted if span.problem is not None]
    return SteadyMeasure(
        name=name,
        availability=_share(counted, counted[0].begin, counted[-1].end),
        availability_during=None if during is None else _share(counted, *during),
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
    """The invariants that broke, in the order in which they did."""
    return [
        Broken(name=event["name"], seconds=event["t"], problem=event["problem"])
        for event in history.events
        if event["kind"] == "invariant"
    ]
