"""The story of a recording as data: each fault with its consequences.

*pure*. `supervision.recording.reader.history` finds the incidents, and `supervision.recording.reader.story.tell_story`
makes a `StoryModel` with them. An *incident* is a planned fault, or a process that ended unusually by itself, with
everything that it caused. `to_json` gives one JSON object. Each class below becomes a JSON object with the same field
names. All times are seconds on the clock of the trace (`t`), except where a name says otherwise. A field named `event`
has the number `n` of an event of the trace, so a viewer can jump to that event.

    {
      "format": 1,
      "seconds": 12.5,                       the time of the last event
      "recording": {...} or null,            the fields of the `recording` event; null for a simulated run
      "omitted": 0,                          events that the recorder had to drop
      "damaged": false,                      true if the file was cut off
      "incidents": [
        {
          "number": 1,
          "fault": Fault,                    what went wrong first
          "deaths": [Death, ...],            processes that ended because of it, the first one included
          "linked": [Linked, ...],           processes that were linked to one that ended
          "decisions": [Decision, ...],      what supervisors did, and why
          "losses": [Loss, ...],             messages and answers that were lost
          "clients": [ClientStory, ...],     what each client of a channel saw
          "recovery": Recovery,              how long it took
          "steps": [{"t": 2.5, "event": 17, "text": "..."}]      all of it as sentences, in order
        }
      ]
    }

Later versions may add fields. The number `format` rises when a field changes its meaning.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

__all__ = [
    "STORY_FORMAT",
    "ClientStory",
    "Death",
    "Decision",
    "FaultStory",
    "Incident",
    "Linked",
    "Loss",
    "ProcessName",
    "Recovery",
    "Step",
    "StoryModel",
]


STORY_FORMAT = 1


class ProcessName(msgspec.Struct, kw_only=True, eq=False):
    """A process.

    Attributes:
        node: the label of its runtime; 0 for the first runtime.
        pid: its number in its runtime.
        path: its path in the tree, such as `/top/store`.
        incarnation: the number of processes that have had this path, including this one.
        label: a name in the words of the application, such as "Room 'room:lobby' of ann" for a channel or "the
            connection of ann". None if the path is the best name. See `supervision.recording.reader.names`.
    """

    node: int | str
    pid: int
    path: str
    incarnation: int
    label: str | None = None

    def is_below(self, other: ProcessName) -> bool:
        """Return True if another process is above this one in the tree."""
        return self.node == other.node and self.path.startswith(f"{other.path}/")

    def __str__(self) -> str:
        if self.label is not None:
            return self.label
        return self.path if self.incarnation == 1 else f"{self.path}#{self.incarnation}"


class FaultStory(msgspec.Struct, kw_only=True, eq=False):
    """The beginning of an incident.

    Attributes:
        t: its time.
        event: the number of its event.
        kind: "crash" (an exception), "killed", "exit" (an unusual exit reason), "fault" (a planned one), "zombie",
            "start_failed", "timeout" (a call without an answer in time), "mailbox" (too many waiting messages),
            "client_closed" (the server cut a client off) or "node_killed" (without a planned fault).
        process: the affected process; None for a fault outside of processes.
        label: the class and the topic of a channel, such as "Room room:lobby"; None for any other process.
        text: one sentence.
        reason: the exit reason, or the text of the planned fault.
        fault_type: the tag of the planned fault, such as "kill"; None for any other kind.
        error: the exception as text; None without an exception.
        exception: the class of the exception; None without an exception.
        traceback: frames as objects with `file`, `line`, `function` and `source`, the innermost last.
        message_kind: the kind of the message that the process handled; None if it handled none.
        message: the content of that message, if contents were recorded.
    """

    t: float
    event: int
    kind: str
    process: ProcessName | None
    label: str | None = None
    text: str = ""
    reason: str = ""
    fault_type: str | None = None
    error: str | None = None
    exception: str | None = None
    traceback: list[dict[str, Any]] = []
    message_kind: str | None = None
    message: str | None = None


class Death(msgspec.Struct, kw_only=True, eq=False):
    """The end of a process.

    Attributes:
        t: its time.
        event: the number of its event.
        process: the process.
        exit: its exit class, see `supervision.recording.schema.exit_class`.
        reason: its exit reason, as text.
        error: the exception of a crash, as text; None for any other end.
        why: "fault" for a process that the fault itself ended, "link" if a linked process ended, "supervisor" if its
            supervisor stopped it, "gave_up" for a supervisor that reached its restart limit, "call" if its call got no
            answer, "start" if it ended while it was starting, "connection" for a channel whose connection ended.
        restart_type: "permanent", "transient" or "temporary"; None without a supervisor.
        by: the linked process or the supervisor that caused the end; None if neither did.
        back: the process that took its place; None if no process did.
        back_after: seconds from the end of the process until its replacement started.
    """

    t: float
    event: int
    process: ProcessName
    exit: str
    reason: str
    error: str | None = None
    why: str
    by: ProcessName | None = None
    restart_type: str | None = None
    back: ProcessName | None = None
    back_after: float | None = None


class Linked(msgspec.Struct, kw_only=True, eq=False):
    """A process that got the exit signal of a linked process.

    Attributes:
        t: the time of the signal.
        process: the process.
        to: the linked process, which ended.
        died: True if the signal ended the process. A process that traps exits lives on.
    """

    t: float
    process: ProcessName
    to: ProcessName
    died: bool


class Decision(msgspec.Struct, kw_only=True, eq=False):
    """One decision of a supervisor.

    Attributes:
        t: its time.
        event: the number of its event.
        supervisor: the supervisor.
        action: "restarted", "stopped" (a sibling), "left" (no restart), "gave_up", "start_failed" or "stop_failed".
        child: the id of the child, as text.
        process: the new process of a restart, or the child that was stopped or left; None if there is none.
        strategy: the strategy; None if the trace does not say.
        restart_type: "permanent", "transient" or "temporary"; None if the trace does not say.
        restarts: the restarts within `max_seconds`, this one included; None for other actions.
        max_restarts: the allowed restarts; None without a limit, or if the trace does not say.
        max_seconds: the window of the limit.
        reason: the exit reason of the child, as text.
        exit: the exit class of the child.
        again: for "start_failed": True if the supervisor tries the start again.
        why: the reason for the decision, in words.
    """

    t: float
    event: int
    supervisor: ProcessName
    action: str
    child: str
    process: ProcessName | None = None
    strategy: str | None = None
    restart_type: str | None = None
    restarts: int | None = None
    max_restarts: float | None = None
    max_seconds: float | None = None
    reason: str | None = None
    exit: str | None = None
    again: bool | None = None
    why: str = ""


class Loss(msgspec.Struct, kw_only=True, eq=False):
    """A message or an answer that was lost.

    Attributes:
        t: the time of the loss.
        event: the number of the event of the message or the call.
        what: "unread" (in the mailbox of a process that ended), "in_hand" (that process was handling the message),
            "dead_letter" (sent after the end), "dropped" (by a planned fault), or "answer" (of a call).
        process: the receiver, or the server of a call.
        sender: the sender, or the caller; None for a task outside of processes.
        kind: the kind of the message; "call" for an answer; "other" for the messages beyond the first 50 that a process
            had not read, which a recording only counts.
        count: the number of messages; 1 unless the kind is "other".
        size: the estimated size in bytes; None if the trace does not say.
        text: the content, if contents were recorded.
        how: for an answer: "server_ended", "timeout" or "cancelled".
        late: the seconds between the end of the call and its late answer. None if no answer came.
    """

    t: float
    event: int
    what: str
    process: ProcessName | None
    sender: ProcessName | None
    kind: str
    count: int = 1
    size: int | None = None
    text: str | None = None
    how: str | None = None
    late: float | None = None


class ClientStory(msgspec.Struct, kw_only=True, eq=False):
    """One client of a channel in an incident.

    Attributes:
        client: the id of its socket; without an id, a text with the path of its connection.
        connection: the process of its connection; None if the trace does not have it.
        topic: the topic; None for the whole connection.
        saw: "phx_error" (its channel ended), "join crashed", "phx_close", or "closed" (its connection ended).
        t: the time when the server wrote the frame, or when the connection ended.
        event: the number of the event at that time.
        code: the close code, for "closed".
        why: the reason of a closed connection.
        unanswered: the pushes of this client that got no answer.
        rejoined: the time when the client was joined to the topic again; None if it was not.
        rejoined_event: the number of the event of that join.
        away: seconds from the fault until that join.
        certain: False if the join may be another client's, because the socket has no id.
    """

    client: str
    connection: ProcessName | None
    topic: str | None
    saw: str
    t: float
    event: int
    code: int | None = None
    why: str | None = None
    unanswered: int = 0
    rejoined: float | None = None
    rejoined_event: int | None = None
    away: float | None = None
    certain: bool = True


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

    def __add__(self, other: Recovery) -> Recovery:
        """Return the figures of two incidents together: the sums of the numbers, and the longer times."""
        mine, theirs = msgspec.structs.asdict(self), msgspec.structs.asdict(other)
        both: dict[str, Any] = {name: mine[name] + theirs[name] for name in _SUMS}
        for name in ("restarted_after", "rejoined_after"):
            known = [each for each in (mine[name], theirs[name]) if each is not None]
            both[name] = max(known, default=None)
        return Recovery(**both, restarts=dict(Counter(self.restarts) + Counter(other.restarts)))


_SUMS = ("not_back", "not_rejoined", "messages_lost", "answers_lost")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence of a story.

    Attributes:
        t: its time.
        event: the number of its event.
        text: the sentence, without a full stop.
    """

    t: float
    event: int
    text: str


class Incident(msgspec.Struct, kw_only=True, eq=False):
    """One fault with its consequences.

    The reader fills everything but the sentences, which the story adds: `FaultStory.text`, `Decision.why` and `steps`.
    """

    number: int
    fault: FaultStory
    deaths: list[Death] = []
    linked: list[Linked] = []
    decisions: list[Decision] = []
    losses: list[Loss] = []
    clients: list[ClientStory] = []
    recovery: Recovery = Recovery()
    steps: list[Step] = []

    @property
    def away(self) -> list[float]:
        """For each client that came back, the seconds from the fault until it was joined again."""
        return [client.away for client in self.clients if client.away is not None]

    def count_recovery(self) -> None:
        """Compute `recovery` from the other fields."""
        # Another node may take over the temporary processes of a killed node, such as entities and channels.
        supervised = [
            death
            for death in self.deaths
            if death.restart_type != "temporary" or death.exit == "node_killed"
        ]
        back = [death.t + death.back_after for death in supervised if death.back_after is not None]
        expected = [
            death
            for death in supervised
            if death.back is None
            and death.restart_type not in (None, "temporary")
            and death.why != "start"
        ]
        restarts = Counter(
            each.process.path
            for each in self.decisions
            if each.action == "restarted" and each.process is not None
        )
        answers = sum(loss.what == "answer" for loss in self.losses)
        self.recovery = Recovery(
            restarted_after=round(max(back) - self.fault.t, 6) if back else None,
            not_back=len(expected),
            rejoined_after=max(self.away, default=None),
            not_rejoined=sum(
                each.topic is not None and each.rejoined is None for each in self.clients
            ),
            messages_lost=sum(loss.count for loss in self.losses) - answers,
            answers_lost=answers,
            restarts=dict(sorted(restarts.items())),
        )


class StoryModel(msgspec.Struct, frozen=True, kw_only=True):
    """The story of a recording.

    Attributes:
        format: the version of this format.
        seconds: the time of the last event.
        recording: the fields of the `recording` event; None for a simulated run.
        omitted: the number of events that the recorder had to drop.
        damaged: True if the file was cut off.
        incidents: the incidents, in the order of their faults.
    """

    format: int = STORY_FORMAT
    seconds: float = 0.0
    recording: dict[str, Any] | None = None
    omitted: int = 0
    damaged: bool = False
    incidents: list[Incident] = []

    def to_json(self) -> bytes:
        """Return the story as a JSON object."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)
