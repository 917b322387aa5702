"""The causal past of a failed check: the events that may have changed what the check saw.

*pure*: the only input is the events of a trace. An event is in the past of another one if a chain of these steps leads
from it to the other one: the order of the events in one process, a message, an answer, a frame of a client, an exit
signal, or any other cause in the trace. All tasks of a scenario count as one process, because they share variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from supervision.recording.reader.records import Event, key_of

__all__ = ["causal_past", "rare"]

_RARE = 3
"""The largest number of events of one sort that count as rare."""
_TASKS = "tasks"
_NUMBER = re.compile(r"\d+")


def causal_past(events: Sequence[Event]) -> frozenset[int]:
    """Return the numbers of the events in the causal past of a check in the scenario, at the end of the events.

    Args:
        events: the events before the check, in order, without gaps in their numbers.
    """
    # For each event, the last earlier event of each process that takes part in it.
    before: list[list[int]] = []
    last: dict[object, int] = {}
    roots: list[int] = []
    for number, event in enumerate(events):
        parts = list(_parts(event))
        earlier = [last[part] for part in parts if part in last]
        cause = event.get("cause")
        before.append(earlier if cause is None or cause >= number else [*earlier, cause])
        for part in _learning(event, parts):
            last[part] = number
        if _TASKS in parts or event["kind"] == "crash":
            roots.append(number)
    found: set[int] = set()
    waiting = roots
    while waiting:
        number = waiting.pop()
        if number not in found:
            found.add(number)
            waiting += before[number]
    return frozenset(found)


def _parts(event: Event) -> Iterator[object]:
    """Yield the processes whose earlier events may have changed an event. The tasks of the scenario are one of them."""
    if event.get("pid") is not None:
        yield key_of(event)
    elif event["task"]:
        yield _TASKS
    if event["kind"] == "call_ended":
        # The answer depends on the earlier events of the server.
        yield key_of(event, "to")
    elif event["kind"] == "frame":
        yield _TASKS
        if "by" in event:
            # A channel writes to the client of its connection without a message.
            yield event.get("node", 0), event["by"]


def _learning(event: Event, parts: Sequence[object]) -> Sequence[object]:
    """Return the processes whose later events an event may change. The end of a call changes nothing in its server."""
    return parts[:1] if event["kind"] == "call_ended" else parts


def rare(events: Sequence[Event], past: frozenset[int]) -> frozenset[int]:
    """Return the numbers of those events of the past whose sort is rare in the whole run.

    Events have the same sort if they have the same kind, happen to processes with the same role, and are about messages
    of the same kind, or notes with the same text. Numbers in these make no difference.
    """
    roles = {key_of(event): event["role"] for event in events if event["kind"] == "spawned"}
    sorts: dict[object, list[int]] = {}
    for number, event in enumerate(events):
        about = (
            events[event["cause"]] if event["kind"] == "received" and "cause" in event else event
        )
        kind = about.get("message_kind") or about.get("event") or event.get("text")
        sort = event["kind"], roles.get(key_of(event)), about["kind"], _NUMBER.sub("#", str(kind))
        sorts.setdefault(sort, []).append(number)
    few = (number for numbers in sorts.values() if len(numbers) <= _RARE for number in numbers)
    return past.intersection(few)
