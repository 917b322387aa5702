"""The history of a run: its processes, messages and faults, read from a trace.

    history = read_history(outcome.trace)
    history.processes[0].path             # "/top"
    history.faults[0].ended               # the processes that ended because of this fault

*pure*: the only input is the trace of a simulated or a live run.

The reader attributes the end of a process to a fault if a chain of causes in the trace leads from the end back to the
fault. The chain stops at the start of another process, because a restarted process acts on its own. There is one
exception: if the restarted process ended before it received a message, the chain continues. The reader attributes an
end without a chain to an earlier fault of the same process, unless the process ended cleanly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from itertools import pairwise
from typing import Any, TypeAlias

import msgspec
from attrs import define, field

from supervision.recording.schema import CLEAN_EXITS

__all__ = [
    "Event",
    "FaultRecord",
    "History",
    "HistoryReader",
    "Key",
    "MessageRecord",
    "Phase",
    "ProcessRecord",
    "read_history",
]

Event: TypeAlias = Mapping[str, Any]
"""A decoded line of a trace."""

Key: TypeAlias = tuple[int | str, int]
"""A process: the label of its runtime, and its number there."""

# These faults end a process in a way that looks clean.
_CLEAN_FAULTS = frozenset(("reset_connection", "half_open", "exit_with", "partition"))


@define(eq=False, kw_only=True)
class ProcessRecord:
    """One process, from its start to its end.

    Attributes:
        index: its position in `History.processes`.
        key: the label of its runtime, and its number there.
        host: the name of its node; None outside of nodes.
        path: its path in the tree. Several processes may have the same path, one after another or at the same time.
        role: the path that the process shares with its replacement, such as `/pool/*/Room` if the replacement may start
            in another partition.
        title: the class and the topic of a channel, such as `RoomChannel room:lobby`; empty for other processes.
        client: the named client of a connection or a channel; empty for other processes.
        shown_path: its path for people, with the class of each channel instead of `ChannelServer`.
        incarnation: the number of processes that have had this path, including this one.
        parent: the key of the process that started it; number 0 if no process did.
        born, ended: the times of its start and its end in seconds; `ended` is None if the end is not in the trace.
        born_event, ended_event: the numbers of these events.
        reason: its exit reason, as text.
        exit: its exit class, see `supervision.recording.schema.exit_class`; "node_killed" if its node was killed.
        fault: the fault that ended it.
        back: its replacement, which is a later process with the same role.
        restarted: True if a supervisor started it in the place of another process.
    """

    index: int
    key: Key
    host: str | None = None
    path: str
    role: str
    title: str = ""
    client: str = ""
    shown_path: str
    incarnation: int
    parent: Key
    born: float
    born_event: int
    ended: float | None = None
    ended_event: int | None = None
    reason: str | None = None
    exit: str | None = None
    fault: FaultRecord | None = None
    back: ProcessRecord | None = None
    restarted: bool = False

    @property
    def crashed(self) -> bool:
        """True if an exception in the process ended it."""
        return self.exit == "crash"

    @property
    def killed(self) -> bool:
        """True if the process was killed."""
        return self.exit == "killed"

    @property
    def ended_cleanly(self) -> bool:
        """True if the process ended normally or by a shutdown."""
        return self.exit in CLEAN_EXITS

    @property
    def in_trouble(self) -> bool:
        """True if the process ended by a fault, a crash or a kill."""
        return self.fault is not None or self.crashed or self.killed

    @property
    def recovered_after(self) -> float | None:
        """Seconds from the end of the process to the start of its replacement; None without a replacement."""
        if self.back is None or self.ended is None:
            return None
        # A client may have joined again before the server noticed that its old connection was lost.
        return max(0.0, self.back.born - self.ended)


@define(eq=False, kw_only=True)
class FaultRecord:
    """One planned fault.

    Attributes:
        index: its position in `History.faults`.
        event: the number of the trace event that records the fault.
        seconds: the time of that event.
        text: the fault in words.
        type: the tag of its class, such as "kill".
        status: "applied", "masked" or "not_applicable".
        why: the reason for any status but "applied".
        target: the affected process; None for another target.
        path: the path of the process, or the name of the connection or node.
        ended: the processes that ended because of the fault, in order.
        cut_short: True if the process ended while the fault delayed it.
    """

    index: int
    event: int
    seconds: float
    text: str
    type: str
    status: str
    why: str | None
    target: Key | None
    path: str | None
    ended: list[ProcessRecord] = field(factory=list)
    cut_short: bool = False


@define(eq=False, kw_only=True)
class MessageRecord:
    """One message.

    Attributes:
        event: the number of its `sent` event.
        sent, received: times in seconds; `received` is None if no process received it.
        received_event: the number of its `received` event.
        sender: the sending process; None for a task outside of processes.
        receiver: the receiving process; None if it had ended before.
        kind: its kind, see `supervision.recording.schema.kind_of`.
        text: its content.
        dropped: True if a fault dropped it.
    """

    event: int
    sent: float
    sender: ProcessRecord | None
    receiver: ProcessRecord | None
    kind: str
    text: str
    received: float | None = None
    received_event: int | None = None
    dropped: bool = False


@define(kw_only=True)
class Phase:
    """A phase of an experiment. `begin` and `end` are times in seconds."""

    name: str
    begin: float
    end: float


@define(eq=False, kw_only=True)
class History:
    """The history of one run.

    Attributes:
        events: the events, in order.
        processes: the processes, in the order of their starts.
        messages: the messages, in the order in which they were sent.
        faults: the faults, in the order in which they were applied.
        phases: before, during and after; empty for a simulated run.
        closing: the time when the orderly shutdown of the run began. Later ends of processes do not count.
        seconds: the time of the last event.
        has_receives: True if the trace shows which messages were received. A recording of a program may not show this.
    """

    events: list[Event] = field(factory=list)
    processes: list[ProcessRecord] = field(factory=list)
    messages: list[MessageRecord] = field(factory=list)
    faults: list[FaultRecord] = field(factory=list)
    phases: list[Phase] = field(factory=list)
    closing: float | None = None
    seconds: float = 0.0
    has_receives: bool = True

    def is_closing(self, seconds: float) -> bool:
        """Return True if the run was shutting down at that time."""
        return self.closing is not None and seconds >= self.closing

    def was_left_unread(self, message: MessageRecord) -> bool:
        """Return True if a message was still in the mailbox when its receiver ended."""
        ended = None if message.receiver is None else message.receiver.ended
        return (
            self.has_receives
            and message.received is None
            and not message.dropped
            and ended is not None
            and not self.is_closing(ended)
        )


def read_history(lines: Iterable[bytes], *, contents: bool = True) -> History:
    """Read the history of a run from its trace.

        history = read_history(outcome.trace)

    Args:
        lines: `Trace.lines`, or the result of `read_lines`. The numbers of events may have gaps, because a full live
            trace omits messages.
        contents: read the contents of messages, if the trace has them. Otherwise the text of a message is its kind.

    Returns:
        The history, for `measure`.

    Raises:
        msgspec.DecodeError: a line is not JSON.
    """
    decode = msgspec.json.Decoder().decode
    reader = HistoryReader(contents=contents)
    for line in lines:
        reader.take(decode(line))
    return reader.finish()


class HistoryReader:
    """A reader that takes each event of a trace once, in the order of the trace.

        reader = HistoryReader()
        reader.take(event)
        reader.history.processes

    Args:
        contents: read the contents of messages, if the trace has them. Otherwise the text of a message is its kind.

    Attributes:
        history: the history so far.
        changed: the processes that have changed since the owner emptied this dictionary, by their index.
        changed_faults: the changed faults, in the same way.
    """

    def __init__(self, *, contents: bool = True) -> None:
        self.history = History()
        self.changed: dict[int, ProcessRecord] = {}
        self.changed_faults: dict[int, FaultRecord] = {}
        self._contents = contents
        self.living: dict[Key, ProcessRecord] = {}
        self.known: dict[Key, ProcessRecord] = {}
        # For each event, by number, the applied fault that caused it, and the process that it started.
        self.fault_of: dict[int, FaultRecord] = {}
        self.births: dict[int, ProcessRecord] = {}
        self.applied: dict[Key, FaultRecord] = {}
        # For each process, the last signal to it.
        self.signals: dict[Key, int] = {}
        # For each role and title, the processes without a replacement so far.
        self.missing: dict[str, deque[ProcessRecord]] = {}
        self.sent: dict[int, MessageRecord] = {}
        # For each connection, by name, the process that serves it.
        self.servers: dict[str, Key] = {}
        self.faults: dict[int, FaultRecord] = {}
        self.takers = {
            "spawned": self.spawned,
            "exited": self.exited,
            "sent": self.message_sent,
            "received": self.message_received,
            "signal": self.signal,
            "child_restarted": self.child_restarted,
            "node_killed": self.node_killed,
            "serves": self.serves,
            "fault": self.fault,
            "fault_over": self.fault_over,
            "phase": self.phase,
            "recording": self.recording,
            "joined": self.joined,
        }

    def take(self, event: Event) -> None:
        """Read the next event."""
        self.history.events.append(event)
        self.history.seconds = max(self.history.seconds, event["t"])
        self._inherit_fault(event)
        taker = self.takers.get(event["kind"])
        if taker is not None:
            taker(event)

    def finish(self) -> History:
        """Return the history of a trace that has ended."""
        phases = self.history.phases
        for phase, following in pairwise(phases):
            phase.end = following.begin
        if phases:
            closing = self.history.closing
            phases[-1].end = self.history.seconds if closing is None else closing
        self._find_rejoined()
        return self.history

    def _find_rejoined(self) -> None:
        """Find a replacement for each connection and channel whose client came back.

        Replacements are matched in order. That fails if a client came back before the server noticed the lost
        connection, or if it came back once for two ended processes.
        """
        of_client: dict[tuple[str, str, str], list[ProcessRecord]] = {}
        for process in self.history.processes:
            if process.client:
                key = process.role, process.title, process.client
                of_client.setdefault(key, []).append(process)
        for own in of_client.values():
            for position, process in enumerate(own):
                later = own[position + 1 :]
                if process.in_trouble and process.back is None and process.ended and later:
                    after = (each for each in later if each.born >= (process.ended or 0.0))
                    process.back = next(after, later[-1])
                    self._note_change(process)

    # Causes

    def _inherit_fault(self, event: Event) -> None:
        cause: int = event.get("cause", -1)
        if cause < 0 and event["kind"] == "received" and event.get("via") == "exit":
            # An Exit message from a living process, such as a supervisor that stops a child. The signal caused it.
            cause = self.signals.get(self._key(event), -1)
        fault = self.fault_of.get(cause)
        if fault is None:
            return
        if cause in self.births and event["kind"] != "exited":
            return
        self.fault_of[event["n"]] = fault

    def _key(self, event: Event, name: str = "pid") -> Key:
        return event.get("node", 0), event.get(name) or 0

    # Processes

    def spawned(self, event: Event) -> None:
        key, parent = self._key(event), self._key(event, "parent")
        process = ProcessRecord(
            index=len(self.history.processes),
            key=key,
            host=event.get("host"),
            path=event["path"],
            shown_path=self._named(parent, event["path"]),
            role=event["role"],
            incarnation=event["inc"],
            parent=parent,
            born=event["t"],
            born_event=event["n"],
        )
        self.history.processes.append(process)
        self.living[key] = self.known[key] = self.births[event["n"]] = process
        self.changed[process.index] = process
        self._replace_missing(process)

    def _replace_missing(self, process: ProcessRecord) -> None:
        missing = self.missing.get(f"{process.role}\n{process.title}")
        if missing:
            replaced = missing.popleft()
            replaced.back = process
            self._note_change(replaced)

    def _note_change(self, process: ProcessRecord) -> None:
        self.changed[process.index] = process
        if process.fault is not None:
            self.changed_faults[process.fault.index] = process.fault

    def _named(self, parent: Key, path: str) -> str:
        """Return the path of a process with the names of the channels above it."""
        above = self.known.get(parent)
        if above is None or not path.startswith(f"{above.path}/"):
            return path
        return f"{above.shown_path}{path[len(above.path) :]}"

    def joined(self, event: Event) -> None:
        """Name a channel by its class and its topic. Its replacement is the next channel with the same topic."""
        process = self.known.get(self._key(event))
        if process is None or process.title:
            return
        name = event["channel"]
        process.title = f"{name} {event['topic']}"
        connection = self.known.get(self._key(event, "connection_pid"))
        process.client = "" if connection is None else connection.client
        process.shown_path = f"{process.shown_path.rpartition('/')[0]}/{name}"
        self.changed[process.index] = process
        self._replace_missing(process)

    def exited(self, event: Event) -> None:
        process = self.living.pop(self._key(event), None)
        if process is not None:
            self._end(process, event, event["reason"], event["exit"])

    def _end(self, process: ProcessRecord, event: Event, reason: str, exit: str) -> None:
        process.ended, process.ended_event = event["t"], event["n"]
        process.reason, process.exit = reason, exit
        self.changed[process.index] = process
        if self.history.closing is not None:
            return
        fault = self.fault_of.get(event["n"]) or self._applied_to(process)
        if fault is not None:
            self.fault_of[event["n"]] = process.fault = fault
            fault.ended.append(process)
            self.changed_faults[fault.index] = fault
        if fault is not None or not process.ended_cleanly:
            key = f"{process.role}\n{process.title}"
            self.missing.setdefault(key, deque()).append(process)

    def node_killed(self, event: Event) -> None:
        # The processes of a killed node have no `exited` events, because no code of the node runs any more.
        host = event["host"]
        for key in [key for key, process in self.living.items() if process.host == host]:
            self._end(self.living.pop(key), event, "the node was killed", "node_killed")

    def _applied_to(self, process: ProcessRecord) -> FaultRecord | None:
        fault = self.applied.get(process.key)
        if fault is not None and (fault.type in _CLEAN_FAULTS or not process.ended_cleanly):
            return fault
        return None

    def child_restarted(self, event: Event) -> None:
        process = self.known.get(self._key(event, "child"))
        if process is not None:
            process.restarted = True
            self.changed[process.index] = process

    def signal(self, event: Event) -> None:
        self.signals[self._key(event, "to")] = event["n"]
        # At the end of the `open_runtime` block, the runtime asks the top processes to stop.
        asked = self._key(event)[1] == 0 and event["exit"] == "shutdown"
        if asked and event.get("cause") is None and not event["linked"]:
            self._close(event["t"])

    def _close(self, seconds: float) -> None:
        if self.history.closing is None:
            self.history.closing = seconds

    # Messages

    def message_sent(self, event: Event) -> None:
        is_from_process, kind = event.get("pid") is not None, event["message_kind"]
        message = MessageRecord(
            event=event["n"],
            sent=event["t"],
            sender=self.known.get(self._key(event)) if is_from_process else None,
            receiver=self.living.get(self._key(event, "to")),
            kind=kind,
            text=event.get("message", kind) if self._contents else kind,
        )
        self.history.messages.append(message)
        self.sent[event["n"]] = message

    def message_received(self, event: Event) -> None:
        message = self.sent.get(event.get("cause", -1))
        if message is not None:
            message.received, message.received_event = event["t"], event["n"]

    # The experiment

    def recording(self, event: Event) -> None:
        self.history.has_receives = event["receives"]

    def serves(self, event: Event) -> None:
        self.servers[event["connection"]] = key = self._key(event)
        process, source = self.known.get(key), str(event["connection"]).partition("->")[0]
        if process is not None and not _is_address(source):
            process.client = source

    def fault(self, event: Event) -> None:
        target = self.servers.get(event["path"]) if event.get("pid") is None else self._key(event)
        fault = FaultRecord(
            index=len(self.history.faults),
            event=event["n"],
            seconds=event["t"],
            text=event["fault"],
            type=event["type"],
            status=event["status"],
            why=event.get("why"),
            target=target,
            path=event.get("path"),
        )
        self.history.faults.append(fault)
        self.changed_faults[fault.index] = fault
        self.faults[fault.event] = fault
        if fault.status == "applied":
            self.fault_of[event["n"]] = fault
            if fault.target is not None:
                self.applied[fault.target] = fault
            dropped = self.sent.get(event.get("message", -1))
            if dropped is not None and fault.type == "drop_message":
                dropped.dropped = True

    def fault_over(self, event: Event) -> None:
        # The injector applied the fault, but the fault had no effect.
        fault = self.faults.get(event["fault_event"])
        if fault is not None:
            fault.status, fault.why, fault.cut_short = event["status"], event.get("why"), True
            self.changed_faults[fault.index] = fault

    def phase(self, event: Event) -> None:
        if event["phase"] == "closing":
            self._close(event["t"])
            return
        begin = event["t"]
        self.history.phases.append(Phase(name=event["phase"], begin=begin, end=begin))


def _is_address(source: str) -> bool:
    """Return True if a connection has no named client, only an address that several clients may share."""
    try:
        ip_address(source)
    except ValueError:
        return source.isdigit()
    return True
