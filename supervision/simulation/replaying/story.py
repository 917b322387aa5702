"""A failed run as a story: the faults, the reordered tasks, the consequences, and the failure.

    tests.simulation.test_shrink:lobby fails with seed 3, rooms=1
    kill /top/room:lobby at 0.5 s; the supervisor /top ran before /registry
      0.5 s     /top/room:lobby was killed
      0.5 s     the supervisor /top started room:lobby again, as /top/room:lobby#2
      0.5 s     /registry learned that /top/room:lobby had ended
      0.5 s     invariant 'registry' does not hold: room:lobby is not registered

A story depends only on the trace, so the same run has the same story. It names a process by its path; `#2` is the
second process at that path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import msgspec

from supervision.chaos.faults.moments import At
from supervision.chaos.faults.report import FaultReport
from supervision.simulation.errors import InvariantViolated, SimulationError
from supervision.simulation.outcome import Outcome
from supervision.simulation.scheduling.deviations import Deviation
from supervision.story.words import how_it_ended, in_seconds, restarted_as, short, shortened

__all__ = ["Story", "tell"]

_LINES = 12
_LAST = 5
_MORE = 6
_decode = msgspec.json.Decoder(dict[str, Any]).decode

Event: TypeAlias = dict[str, Any]


def tell(outcome: Outcome, *, lines: int = _LINES) -> str:
    """Tell the story of a run that failed.

        print(tell(shrink(outcome).outcome))

    Args:
        outcome: the outcome, with its trace. The story shows reordered tasks only if the outcome has `named`
            deviations.
        lines: the most lines after the faults. A longer story omits its middle.

    Returns:
        Several lines, without a line end.
    """
    story = Story(outcome.trace, outcome.failed_at)
    told = [_head(outcome)]
    reasons = [
        *(_fault(report, story) for report in outcome.fault_reports),
        *_orders(outcome, story),
    ]
    if reasons:
        told.append("; ".join(reasons))
    told += [f"  {when:<9} {what}" for when, what in _followed(outcome, story, lines)]
    seconds = outcome.seconds if outcome.failed_at is None else outcome.failed_at[1]
    told.append(f"  {in_seconds(seconds):<9} {_broke(outcome.error)}")
    return "\n".join(told)


class Story:
    """The events of a run as sentences.

    Args:
        lines: the lines of the trace.
        failed_at: the number of events before the failure, and its time; None to use all events.

    Attributes:
        events: the events before the failure.
    """

    def __init__(self, lines: Iterable[bytes], failed_at: tuple[int, float] | None) -> None:
        everything = [_decode(line) for line in lines]
        self._all = everything
        self.events = everything if failed_at is None else everything[: failed_at[0]]
        # For each node and process number, the label of the process.
        self._labels: dict[tuple[Any, Any], str] = {}
        self._names: dict[str, str] = {}
        self._supervisors: set[str] = set()
        self._crashed: set[tuple[Any, Any]] = set()
        for event in everything:
            kind, key = event["kind"], _key(event)
            if kind == "spawned":
                self._add_process(key, event["path"], event["inc"])
            elif kind == "child_started":
                self._supervisors.add(self._labels.get(key, ""))
            elif kind == "crash":
                self._crashed.add(key)

    def _add_process(self, key: tuple[Any, Any], path: str, incarnation: int) -> None:
        node = key[0] if isinstance(key[0], str) else ""
        label = self._labels[key] = f"{node}{path}#{incarnation}"
        self._names[label] = f"{node}{path}" if incarnation == 1 else label

    # Names

    def label(self, event: Event) -> str | None:
        """Return the label of the acting process: its path and its incarnation."""
        return self._labels.get(_key(event))

    def name(self, label: str) -> str:
        """Return the label of a process, but only the path for the first incarnation."""
        return self._names.get(label, label)

    def subject(self, label: str) -> str:
        """Return the name of a task as the subject of a sentence."""
        name = self.name(label)
        return f"the supervisor {name}" if label in self._supervisors else name

    def _who(self, event: Event) -> str:
        label = self.label(event)
        return "the scenario" if label is None else self.subject(label)

    def _other(self, event: Event, field: str) -> str:
        number = event[field]
        label = self._labels.get((event.get("node"), number))
        return f"process {number}" if label is None else self.name(label)

    def causes(self, event: Event, most: int = 4) -> list[int]:
        """Return the numbers of the causes of an event, the nearest first, as long as they have the same time."""
        found: list[int] = []
        cause = self._cause(event)
        while cause is not None and len(found) < most and cause["t"] == event["t"]:
            found.append(cause["n"])
            cause = self._cause(cause)
        return found

    # Sentences

    def sentence(self, event: Event, *, whole: bool = False) -> str | None:
        """Return an event as a sentence; None if a story omits its kind. With `whole`, do not omit messages."""
        write = _SENTENCES.get(event["kind"])
        if write is None and whole:
            write = _MESSAGES.get(event["kind"])
        return None if write is None else write(self, event)

    def _exited(self, event: Event) -> str | None:
        if _key(event) in self._crashed:
            # The sentence of the `crash` event has the error.
            return None
        return f"{self._who(event)} {_ended(event)}{self._because(event)}"

    def _because(self, event: Event) -> str:
        """Name the linked process whose end caused the end of this process; empty without a link."""
        cause = self._cause(event)
        if cause is None or cause["kind"] != "signal" or not cause["linked"] or not cause["pid"]:
            return ""
        return f", linked to {self._other(cause, 'pid')}"

    def _crash(self, event: Event) -> str:
        if event["exception"] is None:
            # The process exited with an unusual reason, but without an exception.
            return f"{self._who(event)} {_ended(event)}"
        told = f"{self._who(event)} crashed with {event['error']}"
        key = _key(event)
        for before in reversed(self._all[: event["n"]]):
            if before["kind"] == "received" and _key(before) == key:
                return f"{told}, after {self._message(before)}"
        return told

    def _restarted(self, event: Event) -> str:
        new = self._other(event, "child")
        return f"{self._who(event)} {restarted_as(event['component'], new)}"

    def _start_failed(self, event: Event) -> str:
        return f"{self._who(event)} could not start {event['component']}: {event['reason']}"

    def _stop_failed(self, event: Event) -> str:
        return f"{self._who(event)} could not stop {event['component']}: {event['reason']}"

    def _gave_up(self, event: Event) -> str:
        return f"{self._who(event)} gave up on {event['component']}"

    def _zombie(self, event: Event) -> str:
        return f"{self._who(event)} did not end when it was killed, and was declared dead"

    def _dead_letter(self, event: Event) -> str:
        to = event["to"] if event["to_pid"] is None else self._other(event, "to_pid")
        return f"{self._text(event)} for {to} found no process"

    def _note(self, event: Event) -> str:
        known = {"n", "t", "round", "task", "kind", "node", "text", "pid", "cause"}
        fields = ", ".join(f"{name} {value}" for name, value in event.items() if name not in known)
        return f"noted: {event['text']}{f' ({fields})' if fields else ''}"

    def _received(self, event: Event) -> str:
        cause = self._cause(event)
        if cause is not None and cause["kind"] == "exited":
            return f"{self._who(event)} learned that {self.name(self.label(cause) or '')} had ended"
        return f"{self._who(event)} took {self._message(event)}"

    def _sent(self, event: Event) -> str:
        return f"{self._who(event)} sent {self._text(event)} to {self._other(event, 'to')}"

    def _message(self, event: Event) -> str:
        """Describe the message that a process received, and its sender."""
        cause = self._cause(event)
        if cause is None:
            return self._text(event) if "message" in event else "a message"
        if cause["kind"] == "exited":
            return f"the end of {self.name(self.label(cause) or '')}"
        if cause["kind"] == "sent":
            return f"{self._text(cause)} from {self._who(cause)}"
        return "a message"

    def _text(self, event: Event) -> str:
        """Return the message of an event, with the names of processes in place of their pids."""
        text = short(event["message"] if "message" in event else event["message_kind"])
        if "<pid " in text:
            for (node, number), label in self._labels.items():
                if node == event.get("node"):
                    text = text.replace(f"<pid {number}>", self.name(label))
        return text

    def _cause(self, event: Event) -> Event | None:
        number = event.get("cause")
        return None if number is None else self._all[number]


def _key(event: Event) -> tuple[Any, Any]:
    return event.get("node"), event.get("pid")


def _ended(event: Event) -> str:
    return how_it_ended(event["exit"], event["reason"])


_SENTENCES: dict[str, Callable[[Story, Event], str | None]] = {
    "exited": Story._exited,
    "crash": Story._crash,
    "child_restarted": Story._restarted,
    "child_start_failed": Story._start_failed,
    "child_stop_failed": Story._stop_failed,
    "gave_up": Story._gave_up,
    "zombie": Story._zombie,
    "dead_letter": Story._dead_letter,
    "note": Story._note,
}

_MESSAGES: dict[str, Callable[[Story, Event], str | None]] = {
    "received": Story._received,
    "sent": Story._sent,
}


# The head, the faults and the order of tasks


def _head(outcome: Outcome) -> str:
    params = "".join(f", {name}={value!r}" for name, value in outcome.params.items())
    verb = "passes" if outcome.error is None else "fails"
    return f"{outcome.scenario} {verb} with seed {outcome.seed}{params}"


def _fault(report: FaultReport, story: Story) -> str:
    """Describe a fault. Add the process that a pattern matched, and the time of a fault that waited for a callback."""
    where = None if report.where is None else story.name(report.where)
    found = []
    if where is not None and where != getattr(report.fault, "target", where):
        found.append(where)
    if report.seconds is not None and not isinstance(report.fault.when, At):
        found.append(f"at {in_seconds(report.seconds)}")
    if report.status != "applied":
        found.append(report.status.replace("_", " "))
    return f"{report.text} ({', '.join(found)})" if found else report.text


def _orders(outcome: Outcome, story: Story) -> list[str]:
    """Describe the first reordered rounds."""
    if outcome.knobs.policy == "seeded":
        # Nearly every round is out of order, and the trace does not show which rounds matter.
        return []
    told = [_order(deviation, story) for deviation in outcome.named[:3]]
    if len(outcome.named) > 3:
        told.append(f"and {len(outcome.named) - 3} more orders")
    return told


def _order(deviation: Deviation, story: Story) -> str:
    tasks = [story.subject(task) for task in deviation.tasks]
    when = "" if deviation.seconds is None else f" at {in_seconds(deviation.seconds)}"
    if len(tasks) == 2:
        return f"{tasks[0]} ran before {tasks[1]}{when}"
    if len(tasks) > 6:
        tasks[5:] = [f"{len(tasks) - 5} more"]
    return f"{', then '.join(tasks)} ran in this order{when}"


# Consequences


def _followed(outcome: Outcome, story: Story, lines: int) -> Iterable[tuple[str, str]]:
    seeded = outcome.knobs.policy == "seeded"
    rounds = {} if seeded else {each.round: set(each.tasks) for each in outcome.named}
    told: list[tuple[str, str]] = []
    for event in story.events[_begin(outcome, story, rounds) :]:
        # Include messages only in a reordered round, and only the messages of the reordered tasks.
        whole = story.label(event) in rounds.get(event["round"], ())
        what = story.sentence(event, whole=whole)
        if what is not None:
            told.append((in_seconds(event["t"]), what))
    return shortened(told or _last_messages(story), lines)


def _begin(outcome: Outcome, story: Story, rounds: dict[int, set[str]]) -> int:
    """Return the number of the first event that belongs to a fault or to a reordered round."""
    starts = [report.event for report in outcome.fault_reports if report.event is not None]
    for event in story.events:
        if event["round"] in rounds:
            # Include the causes of this event, which the tasks of this round had not received yet.
            starts += [event["n"], *story.causes(event)]
            break
    return min(starts, default=0)


def _last_messages(story: Story) -> list[tuple[str, str]]:
    """Return the last messages, for a run without other events."""
    told = []
    for event in story.events[-4 * _LAST :]:
        what = story.sentence(event, whole=True)
        if what is not None:
            told.append((in_seconds(event["t"]), what))
    return told[-_LAST:]


# The failure


def _broke(error: BaseException | None) -> str:
    if error is None:
        return "nothing broke"
    if isinstance(error, InvariantViolated):
        return f"invariant {error.invariant!r} does not hold: {error.problem}"
    name = "" if isinstance(error, SimulationError) else type(error).__qualname__
    first, *rest = ": ".join(filter(None, (name, str(error)))).splitlines()
    if len(rest) > _MORE:
        rest[_MORE:] = ["..."]
    return "\n".join([first, *(f"            {line.strip()}" for line in rest)])
