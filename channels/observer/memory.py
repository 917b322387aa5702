"""The memory of an observer: the last events, crashes and figures, each with a bound.

*pure*. The memory belongs to the `Observer` and not to a process, so it stays when a branch of the tree ends, even the
branch of the observer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from supervision.recording.reader.words import ordinal

__all__ = ["MAX_CRASHES", "MAX_EVENTS", "MAX_POINTS", "Memory", "Record", "sentence"]

MAX_EVENTS: Final = 500
MAX_CRASHES: Final = 100
MAX_POINTS: Final = 600
MAX_REPLACED: Final = 1000

Record: TypeAlias = dict[str, Any]
"""An event in JSON types: `n`, its number; `t`, in seconds since the epoch; `kind`; `pid`, in some kinds; `text`, a
sentence for people; and the fields of its kind."""


class Memory:
    """The last events, crashes and figures of one observer.

    Attributes:
        events: the last events, oldest first.
        crashes: the last crashes by the number of their pid, oldest first.
        points: the last figures, oldest first.
        replaced: for each process that a supervisor restarted last, by number, the number of its replacement.
        last: the number of the last event.
        program: the time of the first event. It distinguishes two runs of a program.
    """

    def __init__(self) -> None:
        self.events: deque[Record] = deque(maxlen=MAX_EVENTS)
        self.crashes: dict[int, Record] = {}
        self.points: deque[Record] = deque(maxlen=MAX_POINTS)
        self.replaced: dict[int, int] = {}
        self.last = 0
        self.program = 0.0
        self.totals = {"crashes": 0, "restarts": 0, "gave_up": 0}

    def add(self, now: float, kind: str, **fields: Any) -> Record:
        """Add an event, and return it with its number and its sentence."""
        if not self.last:
            self.program = now
        self.last += 1
        record = {"n": self.last, "t": round(now, 3), "kind": kind, **fields}
        record["text"] = sentence(record)
        self.events.append(record)
        return record

    def add_crash(self, pid: int, record: Record) -> None:
        """Keep the last crash of a process."""
        self.crashes.pop(pid, None)
        self.crashes[pid] = record
        if len(self.crashes) > MAX_CRASHES:
            del self.crashes[next(iter(self.crashes))]

    def add_replacement(self, ended: int, pid: int) -> None:
        """Keep the replacement of a process."""
        self.replaced[ended] = pid
        if len(self.replaced) > MAX_REPLACED:
            del self.replaced[next(iter(self.replaced))]

    def ended(self, pid: int) -> Record:
        """Return the facts about a process that has ended: `ended`, and the number of its newest `replacement`."""
        newest = pid
        # A replacement has a greater number than the process that it replaces.
        while newest in self.replaced:
            newest = self.replaced[newest]
        return {"ended": True} if newest == pid else {"ended": True, "replacement": newest}

    def since(self, number: int) -> list[Record]:
        """Return the events with a greater number, oldest first."""
        if number >= self.last:
            return []
        return [event for event in self.events if event["n"] > number]


def sentence(event: Mapping[str, Any]) -> str:
    """Describe an event in one sentence."""
    match event["kind"]:
        case "terminated":
            return _termination(event)
        case "restarted":
            return f"{event['supervisor']} started {event['child']} again{_arithmetic(event)}"
        case "gave_up":
            return (
                f"{event['supervisor']} gave up because of {event['child']}{_arithmetic(event)}. It stops its other "
                "children and itself, and its own supervisor decides next"
            )
        case "control":
            by = f" on {event['by']}" if event.get("by") else ""
            return f"An observer page{by} asked for {event['action']} of {event['who']}"
        case "started":
            return (
                "The observer has started" if event["first"] else "The observer was started again"
            )
        case str(kind) if kind in _SENTENCES:
            return _SENTENCES[kind].format_map(event)
    return str(event["kind"])


_SENTENCES: Final = {
    "crash": "{who} crashed: {error}",
    "start_failed": "{supervisor} could not start {child}: {reason}",
    "stop_failed": "{child} did not stop in order: {reason}",
    "zombie": "{who} was killed and does not end; its task still runs",
    "returned": "A client has joined {topic} again, {seconds:.2f} s after its channel {channel} ended",
    "level": "An observer page set the log level of {logger} to {level}",
    "elsewhere": "{node}: {words}",
}


def _termination(event: Mapping[str, Any]) -> str:
    if event["stopped"]:
        below = event.get("below", 0)
        more = f" and the {below} processes below it" if below > 1 else ""
        if below == 1:
            more = " and the process below it"
        return f"{event['supervisor']} stopped {event['child']}{more}"
    if event["reason"] == "KILLED":
        return f"{event['child']}, a child of {event['supervisor']}, was killed"
    return f"{event['child']}, a child of {event['supervisor']}, ended: {event['reason']}"


def _arithmetic(event: Mapping[str, Any]) -> str:
    allowed, seconds = event.get("max_restarts"), event.get("max_seconds")
    if allowed is None or seconds is None:
        return ""
    strategy = f"{event['strategy']}, " if event.get("strategy") else ""
    return (
        f" ({strategy}{ordinal(event['restarts'])} restart in {seconds:g} s, {allowed:g} allowed)"
    )
