"""The recordings of several processes of the operating system as one trace, in the order of causes.

    lines = merge({"run.1.jsonl": read_lines(one), "run.2.jsonl": read_lines(other)})
    story = tell_story(lines)

*pure*. No clock of one process is compared with a clock of another. The only order between two files comes from ids: an
event with an id in `arrives` comes after the event with the same id in `leaves`. Each file keeps its own order.

**Times.** The times within a file are durations, so the file as a whole can only be moved. Each message between two
files says that one of them cannot be earlier than some moment. Messages in both directions leave an interval, and
`merge` moves the file to the middle of it. The `recording` event of the result has half of the interval for each file:
an event can be so much earlier or later than the trace shows, compared with the events of another file. Events that no
message orders are in the order of these times.

**Killed processes.** A killed process records neither its end nor that of its actors. If other files report the loss of
the process or a later start of its node, and its file ends before an orderly shutdown, `merge` adds a `node_killed`
event at the end of the file. The recorder writes twice a second, so the file of a process that was killed soon after
its start may end before its node had a name. No message orders such a file among the others, so `merge` leaves it out,
and the `recording` event of the result has its name in `left_out`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final, TypeAlias

import msgspec
from attrs import define, field

from actors.declared import declared
from supervision.errors import SupervisionError

__all__ = ["UnrelatedRecordings", "merge"]

_Place: TypeAlias = tuple[int, int]
"""An event: the number of its file, and its position there."""

# A node has its name within these seconds after its recorder has begun, even on a busy machine.
_YOUNG: Final = 5.0

# The fields that have the number of another event.
_REFERENCES: Final = ("cause", "call", "sent", "ended", "fault_event", "message", "crash")
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


@declared("{problem}; {advice}")
class UnrelatedRecordings(SupervisionError, ValueError):
    """Recordings cannot be merged.

    Attributes:
        problem: the reason, with the names of the files.
        advice: files to name instead, for somebody who chooses the files.
    """

    problem: str
    advice: str


@define(eq=False)
class _File:
    """One recording.

    Attributes:
        name: the name of the file.
        events: its events.
        recording: its first event.
        named: the name and the incarnation of its node; None without PubSub between nodes.
        label: the label of its processes; 0 for those of the experiment, which keep their labels.
        offset: the seconds to add to its times.
        doubt: the seconds by which the offset can be wrong.
        numbers: for each event that was written, its number in the merged trace.
    """

    name: str
    events: list[dict[str, Any]]
    recording: dict[str, Any] = field(init=False)
    named: tuple[str, str] | None = None
    label: int | str = 0
    offset: float = 0.0
    doubt: float | None = None
    numbers: dict[int, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if not self.events or self.events[0]["kind"] != "recording":
            raise UnrelatedRecordings(
                f"{self.name} is not a recording of a running program",
                "only files of `ashtree serve --record`, of open_recorder and of live experiments can be merged",
            )
        self.recording = self.events.pop(0)
        start = next((each for each in self.events if each["kind"] == "node_named"), None)
        if start is not None:
            self.named = start["name"], start["incarnation"]

    @property
    def is_experiment(self) -> bool:
        """True for the trace of an experiment, whose clock the result has."""
        why: str = self.recording["why"]
        return why == "experiment"

    @property
    def is_too_short(self) -> bool:
        """True if the process was killed before its node had a name, so that no message joins it with other files."""
        is_first = self.recording["why"] == "continuous" and self.named is None and self.is_cut
        # The later files of a recorder, after the first one was full, have no name either.
        return is_first and all(each["t"] < _YOUNG for each in self.events[-1:])

    @property
    def is_cut(self) -> bool:
        """True if the runtime has not begun to shut down at the end of the file."""
        return not any(
            each["kind"] == "signal" and each["pid"] == 0 and each["exit"] == "shutdown"
            for each in self.events
        )


def merge(recordings: Mapping[str, Iterable[bytes]]) -> list[bytes]:
    """Return the events of several recordings of one run as one trace.

    Args:
        recordings: the lines of each recording, by the name of its file.

    Raises:
        UnrelatedRecordings: a file is no recording, two files are of one process, a file has exchanged nothing with the
            others, or the events of two files contradict each other.
    """
    files = [_File(name, [_decode(line) for line in each]) for name, each in recordings.items()]
    # The experiment comes first, so its clock is that of the result. A file that may be left out comes last.
    files.sort(key=lambda each: (not each.is_experiment, each.is_too_short))
    _label(files)
    sources = _sources(files)
    _add_ends(files, sources)
    left_out = _move(files, sources)
    kept = [each for each in files if each not in left_out]
    merged = {
        str(each.label or "the experiment"): {"file": each.name, "within": each.doubt}
        for each in kept
    }
    has = {name: all(each.recording[name] for each in kept) for name in ("receives", "contents")}
    head = {**files[0].recording, "n": 0, **has, "merged": merged}
    if left_out:
        head["left_out"] = [each.name for each in left_out]
    return [_encode(head), *map(_encode, _ordered(files, sources))]


def _label(files: Sequence[_File]) -> None:
    """Give each file the name of its node. A later start of the same node gets a number too, such as `web#2`."""
    taken: Counter[str] = Counter()
    known: dict[tuple[str, str], _File] = {}
    for each in sorted(files, key=lambda each: each.named or ("", "")):
        if each.is_experiment:
            continue
        if each.named is None:
            name = each.name
        elif each.named in known:
            raise UnrelatedRecordings(
                f"{known[each.named].name} and {each.name} are both recordings of one start of the node "
                f"{each.named[0]}",
                "leave one of them out",
            )
        else:
            known[each.named] = each
            name = each.named[0]
        taken[name] += 1
        each.label = name if taken[name] == 1 else f"{name}#{taken[name]}"


def _sources(files: Sequence[_File]) -> dict[_Place, _Place]:
    """Return the event that sent what arrived, for each arrival from another file."""
    left: dict[str, list[_Place]] = defaultdict(list)
    for number, each in enumerate(files):
        for position, event in enumerate(each.events):
            if "leaves" in event:
                left[event["leaves"]].append((number, position))
    found: dict[_Place, _Place] = {}
    for number, each in enumerate(files):
        # The address of a connection may be used again, so the nth arrival belongs to the nth departure.
        arrived: Counter[str] = Counter()
        for position, event in enumerate(each.events):
            places = left.get(event.get("arrives", ""))
            if places:
                nth = arrived[event["arrives"]]
                arrived[event["arrives"]] += 1
                source = places[min(nth, len(places) - 1)]
                if source[0] != number:
                    found[number, position] = source
    return found


def _add_ends(files: Sequence[_File], sources: dict[_Place, _Place]) -> None:
    """Add a `node_killed` event to each file of a killed process, and let each report about the kill come after it."""
    by_name = {each.named: number for number, each in enumerate(files) if each.named is not None}
    by_label = {each.label: number for number, each in enumerate(files)}
    cut = {number for number, each in enumerate(files) if each.is_cut and each.events}
    ends: dict[int, _Place] = {}
    reports: list[tuple[int, _Place]] = []
    for number, each in enumerate(files):
        for position, event in enumerate(each.events):
            if event["kind"] in ("node_lost", "node_named", "node_up"):
                lost = _lost(event, by_name)
                if lost in cut and lost != number:
                    reports.append((lost, (number, position)))
            elif event["kind"] == "node_killed" and event["node"] in by_label:
                # The experiment has killed it, and knows the moment.
                lost = by_label[event["node"]]
                event["host"] = _host(files[lost])
                ends[lost] = number, position
                sources[number, position] = lost, len(files[lost].events) - 1
    for lost, place in reports:
        if lost not in ends:
            file = files[lost]
            about = {"node": file.label, "host": _host(file), "power": False}
            last = {name: file.events[-1][name] for name in ("n", "t", "round", "task")}
            file.events.append({**last, "kind": "node_killed", "n": last["n"] + 1, **about})
            ends[lost] = lost, len(file.events) - 1
        sources.setdefault(place, ends[lost])


def _lost(event: Mapping[str, Any], by_name: Mapping[tuple[str, str], int]) -> int:
    """Return the file of the start of a node that has ended before an event; -1 if there is none."""
    name, incarnation = event["name"], event["incarnation"]
    if event["kind"] == "node_lost":
        return by_name.get((name, incarnation), -1)
    # A later start shows that the one before it has ended. Incarnations grow.
    earlier = [each for each in by_name if each[0] == name and each[1] < incarnation]
    return by_name[max(earlier)] if earlier else -1


def _host(file: _File) -> str:
    """Return the name that a process shares with the process that replaces it."""
    name = file.named[0] if file.named is not None else str(file.label)
    return str(file.recording.get("place", name))


def _move(files: Sequence[_File], sources: Mapping[_Place, _Place]) -> list[_File]:
    """Choose the offsets of the files, so that each arrival is later than its source.

    Returns:
        The files that no message joins with the others, because they end too early. They have no events any more.
    """
    size = range(len(files))
    # `limit[a][b]`: the offset of b is at most that of a plus this.
    limit = [[0.0 if a == b else math.inf for b in size] for a in size]
    for (a, here), (b, there) in sources.items():
        seconds = files[a].events[here]["t"] - files[b].events[there]["t"]
        limit[a][b] = min(limit[a][b], seconds)
    for via in size:
        for a in size:
            for b in size:
                limit[a][b] = min(limit[a][b], limit[a][via] + limit[via][b])
    placed, missing = [0], list(size[1:])
    while missing:
        # A message between two files limits the offset of one of them on one side at least.
        for number in missing:
            most = min(files[each].offset + limit[each][number] for each in placed)
            least = max(files[each].offset - limit[number][each] for each in placed)
            known = [each for each in (least, most) if math.isfinite(each)]
            if known:
                break
        else:
            is_cluster = any(files[number].named for number in placed)
            if is_cluster and all(files[number].is_too_short for number in missing):
                break
            names = ", ".join(files[number].name for number in missing)
            raise UnrelatedRecordings(
                f"{names} and {files[0].name} do not belong together: no message of one was received in the other",
                "name the files of one run, and of workers or nodes that exchange messages",
            )
        placed.append(number)
        missing.remove(number)
        files[number].offset = sum(known) / len(known)
        if len(known) == 2:
            # Clocks drift, so after a long time the limits can contradict each other by a little.
            files[number].doubt = round(abs(most - least) / 2, 6)
    left_out = [files[number] for number in missing]
    for each in left_out:
        each.events = []
    earliest = min(each.events[0]["t"] + each.offset for each in files if each.events)
    for each in files:
        each.offset -= min(0.0, earliest)
    return left_out


def _ordered(files: Sequence[_File], sources: Mapping[_Place, _Place]) -> Iterator[dict[str, Any]]:
    """Yield the events: no event before its source, and otherwise the earliest first."""
    numbers, seconds = count(1), -math.inf
    written: dict[_Place, int] = {}
    # For each event that has not been written, the next events of the files that wait for it.
    waiting: dict[_Place, list[_Place]] = defaultdict(list)
    needed = set(sources.values())

    heads: list[tuple[float, int, int]] = []

    def push(number: int, position: int) -> None:
        if position < len(files[number].events):
            t = files[number].events[position]["t"] + files[number].offset
            heappush(heads, (t, number, position))

    for number in range(len(files)):
        push(number, 0)
    left = sum(len(each.events) for each in files)
    while heads:
        t, number, position = heappop(heads)
        source = sources.get((number, position))
        if source is not None and source not in written:
            waiting[source].append((number, position))
            continue
        seconds = max(seconds, t)
        event = _renumbered(files[number], position, next(numbers), round(seconds, 6))
        if source is not None and event["kind"] != "node_killed":
            event["cause"] = written[source]
        yield event
        left -= 1
        if (number, position) in needed:
            written[number, position] = event["n"]
            for later in waiting.pop((number, position), ()):
                push(*later)
        push(number, position + 1)
    if left:
        names = ", ".join(files[number].name for each in waiting.values() for number, _ in each)
        raise UnrelatedRecordings(
            f"the events of {names} contradict each other: each waits for a message of another that was sent later",
            "they are of different runs, or a file was changed",
        )


def _renumbered(file: _File, position: int, number: int, t: float) -> dict[str, Any]:
    """Return an event with its number and time in the merged trace."""
    event = file.events[position]
    file.numbers[event["n"]] = number
    found = {**event, "n": number, "t": t}
    for name in _REFERENCES:
        if type(found.get(name)) is int:
            found[name] = file.numbers.get(found[name])
            if found[name] is None and name in ("cause", "message", "fault_event"):
                del found[name]
    for unread in found.get("unread", ()):
        unread["sent"] = file.numbers.get(unread["sent"])
    if not file.is_experiment:
        found["node"] = file.label
        if event["kind"] == "spawned":
            found["host"] = _host(file)
    return found
