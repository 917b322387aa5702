"""The history of a run: its processes, messages and planned faults, and the incidents.

*pure*. `supervision.recording.reader.history` fills these records. All times are seconds on the clock of the trace. An
attribute named `event` or `..._event` has the number of an event of the trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
from attrs import define, field

from supervision.recording.reader.model import ClientStory, Death, Incident, ProcessName
from supervision.recording.schema import CLEAN_EXITS

__all__ = [
    "Event",
    "FaultRecord",
    "History",
    "Key",
    "MessageRecord",
    "Phase",
    "ProcessRecord",
    "key_of",
]

Event: TypeAlias = Mapping[str, Any]
"""A decoded line of a trace."""

Key: TypeAlias = tuple[int | str, int]
"""A process: the label of its runtime, and its number there."""


def key_of(event: Event, name: str = "pid") -> Key:
    """Return the process in a field of an event. Without a process in the field, the number of the key is 0."""
    return event.get("node", 0), event.get(name) or 0


@define(eq=False, kw_only=True)
class ProcessRecord:
    """One process, from its start to its end.

    Attributes:
        index: its position in `History.processes`.
        key: the label of its runtime, and its number there.
        name: its path in the tree and its incarnation. Several processes may have the same path, one after another or
            at the same time.
        host: the name of its node; None outside of nodes.
        role: the path that the process shares with its replacement, such as `/pool/*/Room` if the replacement may start
            in another partition.
        title: the class and the topic of a channel, such as `RoomChannel room:lobby`, or the class and the key of an
            entity; empty for other processes.
        is_entity: True for the process of an entity, which another node may replace.
        client: for a connection or a channel, the name of its client in the scenario, or else the id of its socket;
            empty if the trace has neither.
        is_named: True if `client` is the name of one client in the scenario. Several clients may share the id of their
            sockets.
        connection: for a channel, the process of its connection.
        joined: for a channel, the `joined` event of its client.
        parent: the process that started it; None if no process did, or if the trace does not have that process.
        born, ended: the times of its start and its end; `ended` is None if the end is not in the trace.
        born_event, ended_event: the numbers of these events.
        reason: its exit reason, as text.
        exit: its exit class, see `supervision.recording.schema.exit_class`; "node_killed" if its node was killed.
        handled: the message that it took last, if the trace shows which messages were received.
        incident: the incident in which it ended; None for a process that lives or ended in order.
        fault: the planned fault with which this incident began; None for any other incident.
        death: its end in the incident.
        restart_type: the restart type that its supervisor gave it; None without a supervisor.
        clients: the clients that lost this channel in incidents, each with the time of the fault.
        back: its replacement: a later process with the same role and, for a channel, the same topic and client.
        restarted: True if a supervisor started it in the place of another process.
    """

    index: int
    key: Key
    name: ProcessName
    host: str | None = None
    role: str
    title: str = ""
    is_entity: bool = False
    client: str = ""
    is_named: bool = False
    connection: ProcessRecord | None = None
    joined: Event | None = None
    parent: ProcessRecord | None
    born: float
    born_event: int
    ended: float | None = None
    ended_event: int | None = None
    reason: str | None = None
    exit: str | None = None
    handled: MessageRecord | None = None
    incident: Incident | None = None
    fault: FaultRecord | None = None
    death: Death | None = None
    restart_type: str | None = None
    clients: list[tuple[ClientStory, float]] = field(factory=list)
    back: ProcessRecord | None = None
    restarted: bool = False

    @property
    def path(self) -> str:
        """Its path in the tree."""
        return self.name.path

    @property
    def incarnation(self) -> int:
        """The number of processes that have had this path, including this one."""
        return self.name.incarnation

    @property
    def ended_cleanly(self) -> bool:
        """True if the process ended normally or by a shutdown."""
        return self.exit in CLEAN_EXITS

    @property
    def recovered_after(self) -> float | None:
        """Seconds from the end of the process to the start of its replacement; None without a replacement."""
        if self.back is None or self.ended is None:
            return None
        # A client may have joined again before the server noticed that its old connection was lost.
        return max(0.0, round(self.back.born - self.ended, 6))


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
    """

    index: int
    event: int
    seconds: float
    text: str
    type: str
    status: str
    why: str | None
    target: ProcessRecord | None
    path: str | None
    ended: list[ProcessRecord] = field(factory=list)


@define(eq=False, kw_only=True)
class MessageRecord:
    """One message.

    Attributes:
        event: the number of its `sent` event.
        sent, received: times in seconds; `received` is None if no process received it.
        sender: the sending process; None for a task outside of processes.
        receiver: the receiving process; None if it had ended before.
        via: its transport, see `supervision.recording.schema.transport_of`.
        kind: its kind, see `supervision.recording.schema.kind_of`.
        content: its content as text; None if the trace does not have it.
        size: the estimated size in bytes; None if the trace does not say.
        is_lost: True if an incident lost it.
    """

    event: int
    sent: float
    sender: ProcessRecord | None
    receiver: ProcessRecord | None
    via: str
    kind: str
    content: str | None = None
    size: int | None = None
    received: float | None = None
    is_lost: bool = False

    @property
    def text(self) -> str:
        """Its content, or its kind if the trace does not have the content."""
        return self.kind if self.content is None else self.content


class Phase(msgspec.Struct, kw_only=True):
    """A phase of an experiment. `begin` and `end` are seconds since the start of the run."""

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
        faults: the planned faults, in the order of their events.
        incidents: the planned faults that were applied and the unusual ends of processes, in order, each with its
            consequences.
        phases: before, during and after; empty for a simulated run.
        closing: the time when the orderly shutdown of the run began. Later ends of processes do not count.
        seconds: the time of the last event.
        recording: the `recording` event; None for a simulated run.
        omitted: the number of events that the trace does not have.
        discarded: the number of messages that a process left unread, or that were sent to it later, although it ended
            in order; and of messages to names without a process. No incident lost them.
    """

    events: list[Event] = field(factory=list)
    processes: list[ProcessRecord] = field(factory=list)
    messages: list[MessageRecord] = field(factory=list)
    faults: list[FaultRecord] = field(factory=list)
    incidents: list[Incident] = field(factory=list)
    phases: list[Phase] = field(factory=list)
    closing: float | None = None
    seconds: float = 0.0
    recording: Event | None = None
    omitted: int = 0
    discarded: int = 0

    @property
    def deaths(self) -> list[ProcessRecord]:
        """The processes that ended in incidents, in the order of their starts."""
        return [process for process in self.processes if process.incident is not None]

    @property
    def during(self) -> Phase | None:
        """The phase with the faults; None without phases."""
        return next((phase for phase in self.phases if phase.name == "during"), None)

    @property
    def has_receives(self) -> bool:
        """True if the trace shows which messages were received. A recording of a program may not show this."""
        return self.recording is None or bool(self.recording.get("receives"))

    def is_closing(self, seconds: float) -> bool:
        """Return True if the run was shutting down at that time."""
        return self.closing is not None and seconds >= self.closing
