"""The facts that the reader of a trace finds: processes, messages, planned faults, and incidents.

*pure*. `supervision.recording.reader.history` fills these records. An *incident* is a planned fault, or a process that
ended unusually by itself, with everything that it caused. All times are seconds on the clock of the trace. An attribute
named `event` or `..._event` has the number of an event of the trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
from attrs import define, field

from supervision.recording.schema import CLEAN_EXITS

__all__ = [
    "ClientRecord",
    "DecisionRecord",
    "Event",
    "FaultRecord",
    "History",
    "IncidentRecord",
    "Key",
    "LinkRecord",
    "LossRecord",
    "MessageRecord",
    "Phase",
    "ProcessRecord",
    "Recovery",
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
        host: the name of its node; None outside of nodes.
        path: its path in the tree. Several processes may have the same path, one after another or at the same time.
        role: the path that the process shares with its replacement, such as `/pool/*/Room` if the replacement may start
            in another partition.
        title: the class and the topic of a channel, such as `RoomChannel room:lobby`; empty for other processes.
        client: for a connection or a channel, the name of its client in the scenario, or else the id of its socket;
            empty if the trace has neither.
        is_named: True if `client` is the name of one client in the scenario. Several clients may share the id of their
            sockets.
        connection: for a channel, the process of its connection.
        joined: for a channel, the `joined` event of its client.
        shown_path: its path for people, with the class of each channel instead of `ChannelServer`.
        incarnation: the number of processes that have had this path, including this one.
        parent: the key of the process that started it; number 0 if no process did.
        born, ended: the times of its start and its end; `ended` is None if the end is not in the trace.
        born_event, ended_event: the numbers of these events.
        reason: its exit reason, as text.
        exit: its exit class, see `supervision.recording.schema.exit_class`; "node_killed" if its node was killed.
        crash: the `crash` or `zombie` event about its end.
        handled: the message that it took last, if the trace shows which messages were received.
        incident: the incident in which it ended; None for a process that lives or ended in order.
        why: the reason for its end in the incident, see `supervision.story.model.Death`.
        by: the process that caused its end; None if no process did.
        back: its replacement: a later process with the same role and, for a channel, the same topic and client.
        is_certain: False if `back` may serve another client, because the socket has no id.
        restarted: True if a supervisor started it in the place of another process.
        restart_type: "permanent", "transient" or "temporary", if its supervisor reported its end.
    """

    index: int
    key: Key
    host: str | None = None
    path: str
    role: str
    title: str = ""
    client: str = ""
    is_named: bool = False
    connection: ProcessRecord | None = None
    joined: Event | None = None
    shown_path: str
    incarnation: int
    parent: Key
    born: float
    born_event: int
    ended: float | None = None
    ended_event: int | None = None
    reason: str | None = None
    exit: str | None = None
    crash: Event | None = None
    handled: MessageRecord | None = None
    incident: IncidentRecord | None = None
    why: str = ""
    by: ProcessRecord | None = None
    back: ProcessRecord | None = None
    is_certain: bool = True
    restarted: bool = False
    restart_type: str | None = None

    @property
    def fault(self) -> FaultRecord | None:
        """The planned fault that ended the process."""
        return None if self.incident is None else self.incident.fault

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
        incident: the incident that began with the fault; None if the fault was not applied.
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
    incident: IncidentRecord | None = None

    @property
    def ended(self) -> list[ProcessRecord]:
        """The processes that ended because of the fault, in order."""
        return [] if self.incident is None else self.incident.deaths


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


@define(eq=False, kw_only=True)
class LinkRecord:
    """A process that got the exit signal of the linked process `to` at the time `t`."""

    t: float
    process: ProcessRecord
    to: ProcessRecord


@define(eq=False, kw_only=True)
class DecisionRecord:
    """One decision of a supervisor.

    Attributes:
        event: the event of the supervisor about its child.
        supervisor: the supervisor.
        action: see `supervision.story.model.Decision`.
        process: the new process of a restart, or the child that was stopped or left; None if there is none.
    """

    event: Event
    supervisor: ProcessRecord
    action: str
    process: ProcessRecord | None


@define(eq=False, kw_only=True)
class LossRecord:
    """A message or an answer that an incident lost. `supervision.story.model.Loss` describes the attributes."""

    t: float
    event: int
    what: str
    process: ProcessRecord
    sender: ProcessRecord | None = None
    kind: str
    size: int | None = None
    content: str | None = None
    how: str | None = None
    late: float | None = None


@define(eq=False, kw_only=True)
class ClientRecord:
    """A client that an incident affected.

    Attributes:
        event: the event that shows what the client saw.
        saw: see `supervision.story.model.ClientStory`.
        connection: the process of its connection; None if the trace does not have it.
        channel: the process of its channel; None for a connection without topics.
        topic: the topic; None for the whole connection.
        unanswered: the pushes of this client that got no answer.
    """

    event: Event
    saw: str
    connection: ProcessRecord | None
    channel: ProcessRecord | None
    topic: str | None
    unanswered: int = 0

    @property
    def rejoined(self) -> Event | None:
        """The event of the join with which the client came back to the topic; None if it did not."""
        back = None if self.channel is None else self.channel.back
        return None if back is None else back.joined

    def away(self, began: float) -> float | None:
        """Return the seconds from the fault at the time `began` until the client came back; None if it did not."""
        rejoined = self.rejoined
        return None if rejoined is None else max(0.0, round(rejoined["t"] - began, 6))


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one incident.

    Attributes:
        restarted_after: seconds from the fault until the last process that ended had a replacement; None if no process
            was replaced.
        not_back: the number of processes that ended and were not replaced, although their supervisor restarts them.
        rejoined_after: seconds from the fault until the last client was joined again; None without clients.
        not_rejoined: the number of clients that were not joined again.
        messages_lost: the number of messages that were lost.
        answers_lost: the number of calls whose answer never came.
        restarts: the number of restarts of each child, by its path.
    """

    restarted_after: float | None = None
    not_back: int = 0
    rejoined_after: float | None = None
    not_rejoined: int = 0
    messages_lost: int = 0
    answers_lost: int = 0
    restarts: dict[str, int] = {}


@define(eq=False, kw_only=True)
class IncidentRecord:
    """One fault with its consequences.

    Attributes:
        t: the time of the fault.
        event: the number of its event.
        kind: see `supervision.story.model.FaultStory`.
        process: the affected process; None for a fault outside of processes.
        reason: the exit reason, or the text of the planned fault.
        fault: the planned fault; None for any other kind.
        deaths: the processes that ended because of it, in order.
        links: the processes that were linked to one of these processes.
        decisions: what supervisors did.
        losses: the messages and answers that were lost.
        clients: what each client of a channel saw.
    """

    t: float
    event: int
    kind: str
    process: ProcessRecord | None
    reason: str
    fault: FaultRecord | None = None
    deaths: list[ProcessRecord] = field(factory=list)
    links: list[LinkRecord] = field(factory=list)
    decisions: list[DecisionRecord] = field(factory=list)
    losses: list[LossRecord] = field(factory=list)
    clients: list[ClientRecord] = field(factory=list)

    @property
    def lost_messages(self) -> list[LossRecord]:
        """The losses without the lost answers."""
        return [loss for loss in self.losses if loss.what != "answer"]

    @property
    def away(self) -> list[float]:
        """For each client that came back, the seconds from the fault until it was joined again."""
        found = (client.away(self.t) for client in self.clients)
        return [away for away in found if away is not None]

    def recovery(self) -> Recovery:
        """Compute the figures of the incident."""
        supervised = [death for death in self.deaths if death.restart_type != "temporary"]
        back = [death.back.born for death in supervised if death.back is not None]
        expected = [
            death
            for death in supervised
            if death.back is None and death.restart_type is not None and death.why != "start"
        ]
        away = self.away
        lost = len(self.lost_messages)
        restarts = Counter(
            each.process.path
            for each in self.decisions
            if each.action == "restarted" and each.process is not None
        )
        return Recovery(
            restarted_after=max(0.0, round(max(back) - self.t, 6)) if back else None,
            not_back=len(expected),
            rejoined_after=max(away, default=None),
            not_rejoined=sum(
                each.topic is not None and each.rejoined is None for each in self.clients
            ),
            messages_lost=lost,
            answers_lost=len(self.losses) - lost,
            restarts=dict(sorted(restarts.items())),
        )


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
    incidents: list[IncidentRecord] = field(factory=list)
    phases: list[Phase] = field(factory=list)
    closing: float | None = None
    seconds: float = 0.0
    recording: Event | None = None
    omitted: int = 0
    discarded: int = 0

    @property
    def has_receives(self) -> bool:
        """True if the trace shows which messages were received. A recording of a program may not show this."""
        return self.recording is None or bool(self.recording.get("receives"))

    def is_closing(self, seconds: float) -> bool:
        """Return True if the run was shutting down at that time."""
        return self.closing is not None and seconds >= self.closing
