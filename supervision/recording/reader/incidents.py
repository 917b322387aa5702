"""The analysis of a recording: each fault with the events that it caused.

*pure*: the only input is the lines of a trace, from a recording or from a simulated run.

    story = tell_story(read_lines(Path("run.jsonl")))
    story.incidents[0].fault.text           # "/shop/store crashed with KeyError('apple')"

An incident begins with a planned fault, or with a process that ended unusually by itself. These later events belong to
the incident:

- the end of a process that was linked to a process of the incident, or that a supervisor stopped because of the
  incident, or whose call got no answer because of the incident;
- the decisions of the supervisors of these processes;
- the events about messages, calls and clients of these processes.

The reader needs no messages in the trace, but finds more losses with them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from supervision.recording.reader.clients import Clients, client_story
from supervision.recording.reader.model import (
    Death,
    Decision,
    FaultStory,
    Incident,
    Linked,
    Loss,
    ProcessName,
    StoryModel,
)
from supervision.recording.reader.names import Names
from supervision.recording.reader.sentences import with_steps
from supervision.recording.reader.states import Event, IncidentState, Key, ProcessState
from supervision.recording.schema import CLEAN_EXITS

__all__ = ["tell_story"]

ACTIVE_SECONDS = 30.0
"""Seconds without an action after which a supervisor is no longer busy with an incident."""

_RUNTIME_MESSAGES = frozenset(("Exit", "Down"))
_CLEAN_FAULTS = frozenset(("reset_connection", "half_open", "exit_with", "partition"))
_SERVER_CLOSES = frozenset((1002, 1007, 1008, 1009, 1011, 1013))


def tell_story(lines: Iterable[bytes], *, damaged: bool = False) -> StoryModel:
    """Tell the story of a recording.

    Args:
        lines: the lines of a trace, such as the result of `read_recording`.
        damaged: True if the file was cut off.

    Returns:
        The story, with its incidents in the order of their faults.
    """
    decode = msgspec.json.Decoder(Event).decode
    reader = _Reader([decode(line) for line in lines])
    for event in reader.events:
        reader.take(event)
    return reader.story(damaged)


class _Reader:
    """A reader that takes each event of a trace once, in the order of the trace."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.names = Names(events)
        self.by_number = {event["n"]: event for event in events}
        self.incidents: list[IncidentState] = []
        self.processes: dict[Key, ProcessState] = {}
        self.closing = False
        self.recording: Event | None = None
        self.omitted = 0
        # For each supervisor, the incident that it is busy with, and the time of its last action.
        self.busy: dict[Key, tuple[IncidentState, float]] = {}
        # If an incident makes a supervisor stop a process: the incident, by the key of that process.
        self.stopping: dict[Key, IncidentState] = {}
        self.faults: dict[int, IncidentState] = {}
        self.faulty: dict[Key, tuple[IncidentState, str]] = {}
        self.crashes: dict[Key, Event] = {}
        self.missing: dict[str, deque[ProcessState]] = {}
        # For each process, the time when its last unanswered call ended, and the incident of the call.
        self.failed_calls: dict[Key, tuple[float, IncidentState]] = {}
        # For each call without an answer: its incident, by the number of the event that ended the call.
        self.lost_answers: dict[int, IncidentState] = {}
        self.clients = Clients()
        # For each receiver, the messages that it has not received yet.
        self.unread: dict[Key, dict[int, Event]] = {}
        self.in_hand: dict[Key, Event] = {}
        self.takers: dict[str, Callable[[Event], None]] = {
            name: getattr(self, f"take_{name}") for name in _KINDS
        }
        for event in events:
            # The report of a crash comes after the end of its process. The end needs the report, so look ahead.
            if event["kind"] in ("crash", "zombie"):
                self.crashes[self.key(event)] = event

    def take(self, event: Event) -> None:
        taker = self.takers.get(event["kind"])
        if taker is not None and (not self.closing or event["kind"] == "omitted"):
            taker(event)

    # Names

    def key(self, event: Event, name: str = "pid") -> Key:
        return event.get("node", 0), event.get(name) or 0

    def process(self, event: Event, name: str = "pid") -> ProcessState | None:
        return None if event.get(name) is None else self.processes.get(self.key(event, name))

    def name(self, event: Event, name: str = "pid") -> ProcessName | None:
        found = self.process(event, name)
        return None if found is None else found.name

    def cause(self, event: Event) -> Event | None:
        return self.by_number.get(event.get("cause", -1))

    # Processes

    def take_recording(self, event: Event) -> None:
        self.recording = event

    def take_omitted(self, event: Event) -> None:
        self.omitted += event["omitted"]

    def take_phase(self, event: Event) -> None:
        self.closing = self.closing or event["phase"] == "closing"

    def take_spawned(self, event: Event) -> None:
        key, parent = self.key(event), self.key(event, "parent")
        name = ProcessName(
            node=key[0],
            pid=key[1],
            path=event["path"],
            incarnation=event["inc"],
            label=self.names.label(key),
        )
        process = ProcessState(key, name, event["role"], parent, event["t"])
        self.processes[key] = process
        process.starting_in = self.busy_with(parent, event["t"])
        missing = self.missing.get(process.role)
        if missing and not event.get("before"):
            missing.popleft().back = process

    def take_signal(self, event: Event) -> None:
        # At the end of the program, the runtime asks the top processes to stop.
        from_runtime = self.key(event)[1] == 0 and event["exit"] == "shutdown"
        if from_runtime and not event["linked"] and event.get("cause") is None:
            self.closing = True
            return
        sender, receiver = self.process(event), self.process(event, "to")
        if sender is not None and receiver is not None and receiver.parent == sender.key:
            incident = self.busy_with(sender.key, event["t"])
            if incident is not None and not event["linked"]:
                self.stopping[receiver.key] = incident
        if sender is None or receiver is None or sender.incident is None or not event["linked"]:
            return
        if sender.ended is not None and receiver.ended is None:
            linked = Linked(t=event["t"], process=receiver.name, to=sender.name, died=False)
            sender.incident.linked.append(linked)

    def take_exited(self, event: Event) -> None:
        process = self.processes.get(self.key(event))
        if process is None or process.ended is not None:
            return
        process.ended = event
        incident, why, by = self.reason_for_end(process, event)
        if incident is None:
            self.forget_messages(process)
            return
        self.note_death(process, event, incident, why, by)

    def reason_for_end(
        self, process: ProcessState, event: Event
    ) -> tuple[IncidentState | None, str, ProcessName | None]:
        """Return the incident in which a process ended, the reason, and the process that caused the end."""
        gave_up = self.busy_with(process.key, event["t"])
        if gave_up is not None and any(
            decision.action == "gave_up" and decision.supervisor == process.name
            for decision in gave_up.decisions
        ):
            return gave_up, "gave_up", None
        signal = self.cause(event)
        if signal is not None and signal["kind"] == "signal":
            sender = self.process(signal)
            if sender is not None and signal["linked"] and sender.incident is not None:
                return sender.incident, "link", sender.name
            if sender is not None and not signal["linked"] and sender.key == process.parent:
                return self.busy_with(sender.key, event["t"]), "supervisor", sender.name
            fault = self.fault_behind(signal)
            if fault is not None:
                return fault, "fault", None if sender is None else sender.name
        by_fault = self.fault_behind(event) or self.fault_on(process, event)
        if by_fault is not None:
            return by_fault, "fault", None
        orphan = self.clients.orphans.get(process.key)
        if orphan is not None:
            return orphan[0], "connection", orphan[1].name
        call = self.failed_calls.get(process.key)
        if call is not None and call[0] == event["t"] and event["exit"] == "crash":
            return call[1], "call", None
        if event["exit"] in CLEAN_EXITS:
            return None, "", None
        if process.starting_in is not None:
            return process.starting_in, "start", None
        return self.new_incident(process, event), "fault", None

    def fault_behind(self, event: Event) -> IncidentState | None:
        """Return the incident of the nearest planned fault among the last four causes of an event, if any."""
        cause = self.cause(event)
        for _ in range(4):
            if cause is None or cause["kind"] == "spawned":
                return None
            if cause["n"] in self.faults:
                return self.faults[cause["n"]]
            cause = self.cause(cause)
        return None

    def fault_on(self, process: ProcessState, event: Event) -> IncidentState | None:
        found = self.faulty.get(process.key)
        if found is None or (event["exit"] in CLEAN_EXITS and found[1] not in _CLEAN_FAULTS):
            return None
        return found[0]

    def new_incident(self, process: ProcessState, event: Event) -> IncidentState:
        crash = self.crashes.get(process.key, {})
        kind = {"crash": "crash", "killed": "killed"}.get(event["exit"], "exit")
        if crash.get("kind") == "zombie":
            kind = "zombie"
        return self.begin(kind, event, process, event["reason"])

    def crash_fields(self, process: ProcessState) -> dict[str, Any]:
        """Return the facts about the crash of a process."""
        crash = self.crashes.get(process.key)
        if crash is None:
            return {}
        handled = self.in_hand.get(process.key)
        kind = crash.get("message_kind")
        if kind is None and handled is not None:
            kind = handled["message_kind"]
        return {
            "error": crash["error"] if crash["exception"] is not None else None,
            "exception": crash["exception"],
            "traceback": crash.get("traceback", []),
            "message_kind": kind,
            "message": None if handled is None else handled.get("message"),
        }

    def begin(
        self, kind: str, event: Event, process: ProcessState | None, reason: str
    ) -> IncidentState:
        """Begin an incident."""
        fault = FaultStory(
            t=event["t"],
            event=event["n"],
            kind=kind,
            process=None if process is None else process.name,
            label=None if process is None else self.clients.labels.get(process.key),
            text="",
            reason=reason,
            fault_type=event["type"] if kind == "fault" else None,
            **({} if process is None or process.ended is not event else self.crash_fields(process)),
        )
        incident = IncidentState(fault)
        self.incidents.append(incident)
        return incident

    def note_death(
        self,
        process: ProcessState,
        event: Event,
        incident: IncidentState,
        why: str,
        by: ProcessName | None,
    ) -> None:
        process.incident, process.why, process.by = incident, why, by
        incident.deaths.append(process)
        self.missing.setdefault(process.role, deque()).append(process)
        incident.linked = [
            msgspec.structs.replace(each, died=True)
            if each.process == process.name and why == "link"
            else each
            for each in incident.linked
        ]
        self.busy[process.parent] = incident, event["t"]
        self.lose_messages(process, event, incident)
        if process.key in self.clients.topics:
            self.clients.lost(process, event, incident)

    # Supervisors

    def busy_with(self, supervisor: Key, now: float) -> IncidentState | None:
        found = self.busy.get(supervisor)
        if found is None:
            return None
        if now - found[1] > ACTIVE_SECONDS:
            del self.busy[supervisor]
            return None
        return found[0]

    def decide(self, event: Event, action: str, process: ProcessState | None) -> None:
        """Add a decision of a supervisor to the incident that the supervisor is busy with."""
        key = self.key(event)
        incident = None
        if action in ("left", "stopped", "stop_failed"):
            incident = None if process is None else process.incident
        if incident is None:
            incident = self.busy_with(key, event["t"])
        supervisor = self.processes.get(key)
        if incident is None or supervisor is None:
            return
        self.busy[key] = incident, event["t"]
        incident.decisions.append(
            Decision(
                t=event["t"],
                event=event["n"],
                supervisor=supervisor.name,
                action=action,
                child=event["component"],
                process=None if process is None else process.name,
                strategy=event.get("strategy"),
                restart_type=event.get("restart_type"),
                restarts=event.get("restarts"),
                max_restarts=event.get("max_restarts"),
                max_seconds=event.get("max_seconds"),
                reason=event.get("reason"),
                exit=event.get("exit"),
                again=event.get("restart"),
            )
        )

    def take_child_terminated(self, event: Event) -> None:
        process = self.process(event, "child")
        if process is None:
            return
        process.restart_type = event.get("restart_type")
        if event.get("stopped"):
            self.decide(event, "stopped", process)
        elif process.incident is not None:
            self.busy[self.key(event)] = process.incident, event["t"]
            clean = event["exit"] in CLEAN_EXITS
            kind = process.restart_type
            if kind == "temporary" or (kind == "transient" and clean):
                self.decide(event, "left", process)

    def take_child_restarted(self, event: Event) -> None:
        process = self.process(event, "child")
        if process is not None:
            process.starting_in = None
        self.decide(event, "restarted", process)

    def take_child_started(self, event: Event) -> None:
        process = self.process(event, "child")
        if process is not None:
            process.starting_in = None
        # A start on request: the supervisor is no longer busy with an incident.
        self.busy.pop(self.key(event), None)

    def take_child_start_failed(self, event: Event) -> None:
        supervisor = self.processes.get(self.key(event))
        if self.busy_with(self.key(event), event["t"]) is None and supervisor is not None:
            incident = self.begin("start_failed", event, supervisor, event["reason"])
            self.busy[supervisor.key] = incident, event["t"]
        self.decide(event, "start_failed", None)

    def take_child_stop_failed(self, event: Event) -> None:
        self.decide(event, "stop_failed", self.process(event, "child"))

    def take_gave_up(self, event: Event) -> None:
        self.decide(event, "gave_up", self.process(event, "child"))

    # Messages and calls

    def take_sent(self, event: Event) -> None:
        self.unread.setdefault(self.key(event, "to"), {})[event["n"]] = event

    def take_received(self, event: Event) -> None:
        key = self.key(event)
        sent = self.unread.get(key, {}).pop(event.get("cause", -1), None)
        if sent is not None:
            self.in_hand[key] = sent
        else:
            self.in_hand.pop(key, None)

    def forget_messages(self, process: ProcessState) -> None:
        self.unread.pop(process.key, None)
        self.in_hand.pop(process.key, None)

    def lose_messages(self, process: ProcessState, event: Event, incident: IncidentState) -> None:
        sent = self.unread.pop(process.key, {})
        handled = self.in_hand.pop(process.key, None)
        if "unread" in event:
            for each in event["unread"]:
                if each["message_kind"] not in _RUNTIME_MESSAGES:
                    message = self.by_number.get(
                        each["sent"], {**each, "n": event["n"], "kind": ""}
                    )
                    incident.losses.append(self.loss("unread", message, process, event))
        elif self.recording is None or self.recording.get("receives"):
            for message in sent.values():
                if message["via"] not in ("exit", "down", "system"):
                    incident.losses.append(self.loss("unread", message, process, event))
        crash = self.crashes.get(process.key)
        if crash is None or crash["exception"] is None or crash["kind"] != "crash":
            return
        if handled is not None:
            incident.losses.append(self.loss("in_hand", handled, process, event))
        elif "message_kind" in crash:
            kind = crash["message_kind"]
            # If the trace has no `received` events, take the newest message that was not left unread.
            unread = {each["sent"] for each in event.get("unread", ())}
            newest = (each for each in reversed(sent.values()) if each["n"] not in unread)
            found = next((each for each in newest if each["message_kind"] == kind), crash)
            incident.losses.append(self.loss("in_hand", found, process, event))

    def loss(self, what: str, message: Event, process: ProcessState, event: Event) -> Loss:
        is_sent = message["kind"] == "sent"
        return Loss(
            t=event["t"],
            event=message["n"],
            what=what,
            process=process.name,
            sender=self.name(message) if is_sent else None,
            kind=message["message_kind"],
            size=message.get("size"),
            text=message.get("message"),
        )

    def take_dead_letter(self, event: Event) -> None:
        process = self.process(event, "to_pid")
        if process is not None and process.incident is not None:
            loss = Loss(
                t=event["t"],
                event=event["n"],
                what="dead_letter",
                process=process.name,
                sender=None,
                kind=event["message_kind"],
                text=event.get("message"),
            )
            process.incident.losses.append(loss)

    def take_call_ended(self, event: Event) -> None:
        how, server = event["how"], self.process(event, "to")
        if how not in ("server_ended", "timeout") or server is None:
            return
        incident = server.incident
        if incident is None and server.key in self.faulty:
            incident = self.faulty[server.key][0]
        if incident is None:
            if how == "server_ended":
                return
            incident = self.begin("timeout", event, server, "timeout")
        incident.losses.append(
            Loss(
                t=event["t"],
                event=event["n"],
                what="answer",
                process=server.name,
                sender=self.name(event),
                kind="call",
                how=how,
            )
        )
        self.failed_calls[self.key(event)] = event["t"], incident
        self.lost_answers[event["n"]] = incident

    def take_late_answer(self, event: Event) -> None:
        """Record that the answer to a call came after the call had ended.

        If the trace has no end of this call, add the lost answer to an incident first.
        """
        ended, server = event.get("ended"), self.process(event)
        incident = self.lost_answers.pop(ended, None) if ended is not None else None
        if incident is not None:
            for place, loss in enumerate(incident.losses):
                if loss.what == "answer" and loss.event == ended:
                    incident.losses[place] = msgspec.structs.replace(loss, late=event["seconds"])
            return
        if server is None or event["how"] != "timeout":
            return
        began = {**event, "t": round(event["t"] - event["seconds"], 6)}
        incident = server.incident or self.begin("timeout", began, server, "timeout")
        incident.losses.append(
            Loss(
                t=began["t"],
                event=event["n"],
                what="answer",
                process=server.name,
                sender=self.name(event, "to"),
                kind="call",
                how="timeout",
                late=event["seconds"],
            )
        )

    def take_mailbox_alarm(self, event: Event) -> None:
        process = self.processes.get(self.key(event))
        if process is None or process.key in self.faulty:
            return
        incident = self.begin("mailbox", event, process, str(event["length"]))
        # The end of this process and its next alarms belong to the same incident.
        self.faulty[process.key] = incident, "mailbox"

    def take_fault(self, event: Event) -> None:
        if event["status"] != "applied":
            return
        process = self.process(event)
        incident = self.faults[event["n"]] = self.begin("fault", event, process, event["fault"])
        if process is not None:
            self.faulty[process.key] = incident, event["type"]

    # Clients

    def take_client_connected(self, event: Event) -> None:
        self.clients.connected(event, self.key(event))

    def take_joined(self, event: Event) -> None:
        self.clients.joined(event, self.key(event), self.key(event, "connection_pid"))

    def take_client_told(self, event: Event) -> None:
        channel = self.process(event, "channel")
        if channel is not None:
            self.clients.told(event, channel, self.process(event), self.key(event))

    def take_client_closed(self, event: Event) -> None:
        key, process = self.key(event), self.process(event)
        above = None if process is None else self.stopped_above(process)
        if process is not None and above is not None:
            # The connection closed because a supervisor stops a process above it, such as the endpoint.
            self.clients.lost(process, event, above)
        elif process is not None and event["code"] in _SERVER_CLOSES:
            incident = self.begin("client_closed", event, process, event["why"])
            self.clients.lost(process, event, incident)
        self.clients.topics.pop(key, None)

    def stopped_above(self, process: ProcessState) -> IncidentState | None:
        """Return the incident that makes a supervisor stop this process or one of its ancestors, if any."""
        above: ProcessState | None = process
        while above is not None:
            if above.key in self.stopping:
                return self.stopping[above.key]
            above = self.processes.get(above.parent)
        return None

    # The end

    def story(self, damaged: bool) -> StoryModel:
        incidents = [
            with_steps(self.finished(number, incident))
            for number, incident in enumerate(self.incidents, 1)
        ]
        recording = self.recording
        return StoryModel(
            seconds=max((event["t"] for event in self.events), default=0.0),
            recording=recording,
            omitted=self.omitted,
            damaged=damaged,
            incidents=incidents,
        )

    def finished(self, number: int, incident: IncidentState) -> Incident:
        return Incident(
            number=number,
            fault=incident.fault,
            deaths=[_death(each, self.crashes.get(each.key)) for each in incident.deaths],
            linked=incident.linked,
            decisions=incident.decisions,
            losses=incident.losses,
            clients=[client_story(client, incident.fault.t) for client in incident.clients],
        )


_KINDS = (
    "recording", "omitted", "phase", "spawned", "signal", "exited", "child_terminated", "child_restarted",
    "child_started", "child_start_failed", "child_stop_failed", "gave_up", "sent", "received", "dead_letter",
    "call_ended", "late_answer", "mailbox_alarm", "fault", "client_connected", "joined", "client_told", "client_closed",
)  # fmt: skip


def _death(process: ProcessState, crash: Event | None) -> Death:
    event = process.ended
    assert event is not None  # only processes that ended are in `deaths`
    back = process.back
    return Death(
        t=event["t"],
        event=event["n"],
        process=process.name,
        exit=event["exit"],
        reason=event["reason"],
        error=None if crash is None or crash["exception"] is None else crash["error"],
        why=process.why,
        by=process.by,
        restart_type=process.restart_type,
        back=None if back is None else back.name,
        back_after=None if back is None else round(back.born - event["t"], 6),
    )
