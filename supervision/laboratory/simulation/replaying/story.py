"""A failed run as a story: the faults, the reordered tasks, the messages behind the failure, and the failure.

    tests.simulation.stories.lost_update:two_clerks fails with seed 3, clerks=2
      0.5 s     /stock got 'count' from /clerk 1, and answered 10
      0.5 s     /stock got 'count' from /clerk 2, and answered 10
      0.5 s     /stock got ('set', 9) from /clerk 1, and answered 'done'
      0.5 s     /stock got ('set', 9) from /clerk 2, and answered 'done'
      1 s       the check failed: 2 apples were sold, but 9 of 10 are left

A story depends only on the trace, so the same run has the same story. It shows the messages and their answers in the
order in which processes handled the messages. It also shows the frames of clients, and the ends and restarts of
processes. A long story keeps only the sentences that have most to do with the failure: see `relevance` in this folder.
`supervision.recording.reader.names` describes the names of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec
from attrs import evolve

from supervision.laboratory.chaos.expectations import CHECK
from supervision.laboratory.chaos.faults.kinds import describe_fault
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.chaos.faults.report import FaultReport
from supervision.laboratory.histories.check import NotExplained
from supervision.laboratory.simulation.errors import (
    BudgetSpent,
    Deadlock,
    InvariantViolated,
    Livelock,
    NotReached,
    SimulationError,
)
from supervision.laboratory.simulation.outcome import Outcome, failures_in
from supervision.laboratory.simulation.replaying.causes import causal_past, rare
from supervision.laboratory.simulation.replaying.exchanges import Exchanges, Line, Wait, circle
from supervision.laboratory.simulation.replaying.relevance import chosen, gaps
from supervision.laboratory.simulation.scheduling.deviations import Deviation
from supervision.recording.reader.names import Names
from supervision.recording.reader.records import Event, Key, key_of
from supervision.recording.reader.words import how_it_ended, in_seconds, restarted_as, short

__all__ = ["Story", "fault_text", "tell"]

_LINES = 30
_MORE = 6
_WAITS = 12
_FORGOTTEN = 3
_HINTS = 2
_DRAWS = 3
_decode = msgspec.json.Decoder(dict[str, Any]).decode

# In these failures, something did not happen. So the story shows the processes that wait.
_STUCK: Final = (BudgetSpent, Deadlock, Livelock, NotReached)


def tell(outcome: Outcome, *, lines: int = _LINES) -> str:
    """Tell the story of a run that failed.

        print(tell(shrink(outcome).outcome))

    Args:
        outcome: the outcome, with its trace. The story shows reordered tasks only if the outcome has `named`
            deviations.
        lines: the most sentences between the faults and the failure.

    Returns:
        Several lines, without a line end.
    """
    story = Story(outcome.trace, outcome.failed_at, outcome.tasks)
    told = [_head(outcome)]
    reasons = [
        *(fault_text(report, story) for report in outcome.fault_reports),
        *_orders(outcome, story),
        *_draws(outcome),
    ]
    if reasons:
        told.append("; ".join(reasons))
    told += [_row(when, what) for when, what in _consequences(outcome, story, lines)]
    seconds = outcome.seconds if outcome.failed_at is None else outcome.failed_at[1]
    told.append(_row(in_seconds(seconds), _broke(outcome.error)))
    told += [_row("", what) for what in _hints(outcome, story)]
    return "\n".join(told)


def _row(when: str, what: str) -> str:
    return f"  {when:<9} {what}"


class Story:
    """The events of a run as sentences.

    Args:
        lines: the lines of the trace.
        failed_at: the number of events before the failure, and its time; None to use all events.
        tasks: the names of the tasks, by number.

    Attributes:
        events: the events before the failure.
        names: the names of processes and tasks.
        exchanges: the messages between processes, with their answers.
    """

    def __init__(
        self,
        lines: Iterable[bytes],
        failed_at: tuple[int, float] | None,
        tasks: Mapping[int, str] | None = None,
    ) -> None:
        everything = [_decode(line) for line in lines]
        self._all = everything
        self.events = everything if failed_at is None else everything[: failed_at[0]]
        self.names = Names(self.events, tasks)
        self.exchanges = Exchanges(self.events, self.names)
        # Maps the label of a task, such as `/top/store#1`, to its process.
        self._by_label: dict[str, Key] = {}
        self._labels: dict[Key, str] = {}
        self._parents: dict[Key, Key] = {}
        self._supervisors: set[Key] = set()
        self._crashed: set[Key] = set()
        # The event that each process is handling, while `lines` reads the events.
        self._handled: dict[Key, Event] = {}
        for event in everything:
            kind, key = event["kind"], key_of(event)
            if kind == "spawned":
                node = key[0] if isinstance(key[0], str) else ""
                label = self._labels[key] = f"{node}{event['path']}#{event['inc']}"
                self._by_label[label] = key
                self._parents[key] = key_of(event, "parent")
            elif kind == "child_started":
                self._supervisors.add(key)
            elif kind == "crash":
                self._crashed.add(key)

    # Names

    def name(self, label: str) -> str:
        """Return the name for the label of a task in a schedule or a fault report."""
        key = self._by_label.get(label)
        return label if key is None else self.names.process(key)

    def is_path(self, label: str | None, path: str | None) -> bool:
        """Return True if the label of a task names the first process at `path`."""
        return label is not None and path is not None and label in (path, f"{path}#1")

    def subject(self, label: str) -> str:
        """Return the name of a task as the subject of a sentence."""
        key = self._by_label.get(label)
        name = self.name(label)
        return f"the supervisor {name}" if key in self._supervisors else name

    def _who(self, event: Event) -> str:
        name = self.names.who(event)
        is_supervisor = event.get("pid") is not None and key_of(event) in self._supervisors
        return f"the supervisor {name}" if is_supervisor else name

    # Sentences

    def lines(self, reordered: Mapping[int, Collection[str]] = MappingProxyType({})) -> list[Line]:
        """Return all sentences in the order of their events.

        Args:
            reordered: maps the number of each scheduler round with a changed order to the labels of its tasks. The
                result also has a sentence for each message that these tasks sent.
        """
        found = [*self.exchanges.lines(), *self._happenings()]
        for event in self.events:
            labels = reordered.get(event["round"], ()) if event["kind"] == "sent" else ()
            if labels and not event.get("internal") and self._label(event) in labels:
                line = Line(n=event["n"], t=event["t"], text=self._sent(event), thread=event["n"])
                found.append(line)
        return sorted(found, key=lambda line: line.n)

    def _label(self, event: Event) -> str | None:
        return self._labels.get(key_of(event))

    def _happenings(self) -> Iterator[Line]:
        for event in self.events:
            if event["kind"] == "received":
                self._handled[key_of(event)] = event
            write = _SENTENCES.get(event["kind"])
            text = None if write is None else write(self, event)
            if text is not None:
                handled = self._handled.get(key_of(event))
                thread = event["n"] if handled is None else handled["n"]
                yield Line(
                    n=event["n"],
                    t=event["t"],
                    text=text,
                    weight=self._weight(event),
                    thread=thread,
                )

    def _weight(self, event: Event) -> float:
        if event["kind"] == "exited" and event["exit"] in ("normal", "shutdown", "shutdown_detail"):
            own = self.names.is_connection(key_of(event)) or key_of(event) in self.names.connections
            return 0.0 if own or event["exit"] == "shutdown_detail" else 0.5
        return _WEIGHTS.get(event["kind"], 5.0)

    def sentence(self, event: Event) -> str | None:
        """Describe an event in a sentence; None if the story omits this event."""
        write = _SENTENCES.get(event["kind"]) or _MESSAGES.get(event["kind"])
        return None if write is None else write(self, event)

    def _exited(self, event: Event) -> str | None:
        key = key_of(event)
        if key in self._crashed or self._is_machinery(event):
            # For a crash, the `crash` event already has a sentence.
            return None
        return f"{self._who(event)} {_ended(event)}{self._because(event)}"

    def _is_machinery(self, event: Event) -> bool:
        """Return True for the clean end of a process that Ashtree started for a connection."""
        if event["exit"] not in ("normal", "shutdown", "shutdown_detail"):
            return False
        parent = self._parents.get(key_of(event))
        return parent is not None and self.names.is_connection(parent)

    def _because(self, event: Event) -> str:
        """Name the linked process whose end caused the end of this process; empty without a link."""
        cause = self._cause(event)
        if cause is None or cause["kind"] != "signal" or not cause["linked"] or not cause["pid"]:
            return ""
        return f", linked to {self.names.process(key_of(cause))}"

    def _crash(self, event: Event) -> str:
        if event["exception"] is None:
            # The process exited with an unusual reason, but without an exception.
            return f"{self._who(event)} {_ended(event)}"
        error = short(self.names.text(event["error"], event.get("node", 0)))
        handled = self._handled.get(key_of(event))
        after = "" if handled is None else self._message(handled)
        return f"{self._who(event)} crashed with {error}" + (f", after {after}" if after else "")

    def _restarted(self, event: Event) -> str:
        new = self.names.process(key_of(event, "child"))
        return f"{self._who(event)} {restarted_as(self.names.child(event), new)}"

    def _start_failed(self, event: Event) -> str:
        return f"{self._who(event)} could not start {event['component']}: {self._reason(event)}"

    def _stop_failed(self, event: Event) -> str:
        return f"{self._who(event)} could not stop {self.names.child(event)}: {self._reason(event)}"

    def _reason(self, event: Event) -> str:
        return short(self.names.text(event["reason"], event.get("node", 0)))

    def _gave_up(self, event: Event) -> str:
        return f"{self._who(event)} gave up on {self.names.child(event)}"

    def _zombie(self, event: Event) -> str:
        return f"{self._who(event)} did not end when it was killed, and was declared dead"

    def _fault_applied(self, event: Event) -> str | None:
        if event["status"] != "applied" or event["type"] in ("kill", "raise"):
            # The end of the process has a sentence of its own.
            return None
        return f"a fault: {event['fault']}"

    def _disk(self, event: Event) -> str | None:
        done = _DONE.get(event["operation"])
        to = f" to {event['to']}" if "to" in event else ""
        who = event.get("node", "the scenario")
        return None if done is None else f"{who} {done} {event['path'] or '.'}{to}"

    def _disk_lost(self, event: Event) -> str | None:
        lost = ", ".join(event["lost"])
        return f"the disk of {event['disk'] or 'the scenario'} lost {lost}" if lost else None

    def _note(self, event: Event) -> str:
        known = {"n", "t", "round", "task", "kind", "node", "text", "pid", "cause"}
        fields = ", ".join(f"{name} {value}" for name, value in event.items() if name not in known)
        return f"noted: {event['text']}{f' ({fields})' if fields else ''}"

    def _learned(self, event: Event) -> str | None:
        """Describe the message that told a process about the end of another process; None for internal processes."""
        cause = self._cause(event)
        key = key_of(event)
        if cause is None or cause["kind"] != "exited" or key in self._supervisors:
            return None
        if self.names.is_connection(key):
            return None
        return f"{self._who(event)} learned that {self.names.process(key_of(cause))} had ended"

    def _received(self, event: Event) -> str:
        return (
            self._learned(event) or f"{self._who(event)} took {self._message(event) or 'a message'}"
        )

    def _sent(self, event: Event) -> str:
        to = self.names.process(key_of(event, "to"))
        return f"{self._who(event)} sent {self.exchanges.text(event)} to {to}"

    def _message(self, event: Event) -> str:
        """Describe a message that a process received, and its sender; empty if the trace lacks the message."""
        cause = self._cause(event)
        if cause is None:
            return self.exchanges.text(event) if "message" in event else ""
        if cause["kind"] == "exited":
            return f"the end of {self.names.process(key_of(cause))}"
        if cause["kind"] == "sent":
            return self.exchanges.described(cause)
        return ""

    def _cause(self, event: Event) -> Event | None:
        number = event.get("cause")
        return None if number is None else self._all[number]


def _ended(event: Event) -> str:
    return how_it_ended(event["exit"], event["reason"])


_SENTENCES: Final[dict[str, Callable[[Story, Event], str | None]]] = {
    "exited": Story._exited,
    "crash": Story._crash,
    "child_restarted": Story._restarted,
    "child_start_failed": Story._start_failed,
    "child_stop_failed": Story._stop_failed,
    "gave_up": Story._gave_up,
    "zombie": Story._zombie,
    "fault": Story._fault_applied,
    "disk": Story._disk,
    "disk_lost": Story._disk_lost,
    "note": Story._note,
    "received": Story._learned,
}

_MESSAGES: Final[dict[str, Callable[[Story, Event], str | None]]] = {
    "received": Story._received,
    "sent": Story._sent,
}

# The operations of disks that a story shows.
_DONE: Final = {
    "truncate": "truncated",
    "fsync": "synced",
    "rename": "renamed",
    "unlink": "removed",
    "sync_directory": "synced the directory",
}

_WEIGHTS: Final = {"disk": 1.0, "note": 2.0, "received": 1.0, "child_restarted": 4.0}


# The head, the faults and the order of tasks


def _head(outcome: Outcome) -> str:
    params = "".join(f", {name}={value!r}" for name, value in outcome.params.items())
    verb = "passes" if outcome.error is None else "fails"
    return f"{outcome.scenario} {verb} with seed {outcome.seed}{params}"


def fault_text(report: FaultReport, story: Story) -> str:
    """Describe a fault. Add the process that a pattern matched, and the time of a fault that waited for a callback."""
    where = None if report.where is None else story.name(report.where)
    text, found = report.text, []
    if where is not None and story.is_path(report.where, getattr(report.fault, "target", None)):
        text = describe_fault(msgspec.structs.replace(report.fault, target=where))
    elif where is not None and where != getattr(report.fault, "target", where):
        found.append(where)
    if report.seconds is not None and not isinstance(report.fault.when, At):
        found.append(f"at {in_seconds(report.seconds)}")
    if report.status != "applied":
        found.append(report.status.replace("_", " "))
    return f"{text} ({', '.join(found)})" if found else text


def _orders(outcome: Outcome, story: Story) -> list[str]:
    """Describe the first reordered rounds."""
    if outcome.knobs.policy != "canonical":
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


def _draws(outcome: Outcome) -> list[str]:
    """Describe the first draws of a shrunk run that could not get their simplest values."""
    needed = [str(each) for each in outcome.drawn if outcome.draws and not each.is_simple]
    if len(needed) > _DRAWS:
        needed[_DRAWS:] = [f"and {len(needed) - _DRAWS} more draws"]
    return needed


# The sentences


def _consequences(outcome: Outcome, story: Story, most: int) -> Iterator[tuple[str, str]]:
    canonical = outcome.knobs.policy == "canonical"
    reordered = {} if not canonical else {each.round: each.tasks for each in outcome.named}
    lines = _repeated(story.lines(reordered))
    hints = list(story.exchanges.same_answers())[-_HINTS:]
    pointed = frozenset(number for hint in hints for number in hint.events)
    past = None if _sees_all(outcome.error) else causal_past(story.events)
    kept = rare(story.events, past or frozenset(range(len(story.events))))
    shown = chosen(lines, _about(outcome.error), most, pointed=pointed, kept=kept, past=past)
    left_out = len(lines) - len(shown)
    for before, line in gaps(shown, lines):
        if before and left_out:
            yield "", f"... {before} more ..."
        yield in_seconds(line.t), line.text


def _sees_all(error: BaseException | None) -> bool:
    """Return True if a failure may depend on all events: an invariant looks into all processes."""
    failures = [] if error is None else failures_in(error)
    return not failures or any(
        isinstance(each, _STUCK)
        or (isinstance(each, InvariantViolated) and each.invariant != CHECK)
        for each in failures
    )


def _about(error: BaseException | None) -> str:
    """Return the text of a failure. The story prefers sentences that share words with this text."""
    told = []
    for each in [] if error is None else failures_in(error):
        if isinstance(each, InvariantViolated):
            told.append(each.problem)
        elif isinstance(each, NotReached):
            told.append(f"{each.name} {each.last}")
        else:
            told.append(str(each))
    return " ".join(told)


def _repeated(lines: Sequence[Line]) -> list[Line]:
    """Merge consecutive equal sentences into one sentence that states their number."""
    found: list[tuple[Line, int]] = []
    for line in lines:
        if found and (found[-1][0].t, found[-1][0].text) == (line.t, line.text):
            found[-1] = found[-1][0], found[-1][1] + 1
        else:
            found.append((line, 1))
    return [
        line if times == 1 else evolve(line, text=f"{line.text} ({times} times)")
        for line, times in found
    ]


# The failure


def _broke(error: BaseException | None) -> str:
    if error is None:
        return "nothing broke"
    found = failures_in(error)
    if len(found) == 1:
        return _failure(found[0])
    told = [f"{len(found)} failures at once:"]
    for each in found:
        told += [f"              {line}" for line in _failure(each).splitlines()]
    return "\n".join(told)


def _failure(error: BaseException) -> str:
    if isinstance(error, InvariantViolated):
        if error.invariant == CHECK:
            return f"the check failed: {error.problem}"
        return f"invariant {error.invariant!r} does not hold: {error.problem}"
    name = "" if isinstance(error, SimulationError) else type(error).__qualname__
    first, *rest = ": ".join(filter(None, (name, str(error)))).splitlines() or [name]
    if len(rest) > _MORE and not isinstance(error, NotExplained):
        rest[_MORE:] = ["..."]
    return "\n".join([first, *(f"            {line.strip()}" for line in rest)])


def _hints(outcome: Outcome, story: Story) -> Iterator[str]:
    """Yield hints about lost messages after a restart, about equal answers, and about processes that wait."""
    if outcome.error is None:
        return
    for text in list(story.exchanges.not_told_again())[:_FORGOTTEN]:
        yield f"since its restart, {text}"
    for hint in list(story.exchanges.same_answers())[-_HINTS:]:
        yield hint.text
    if any(isinstance(error, _STUCK) for error in failures_in(outcome.error)):
        yield from _waits(story.exchanges.waits())


def _waits(waits: list[Wait]) -> Iterator[str]:
    for wait in waits[:_WAITS]:
        yield f"{wait.text}, since {in_seconds(wait.since)}"
    if len(waits) > _WAITS:
        yield f"and {len(waits) - _WAITS} more wait"
    around = circle(waits)
    if around:
        yield f"so these wait for each other: {'; '.join(wait.text for wait in around)}"
