"""The reader of a trace. It finds what ended because of what, what was lost, and what came back.

    history = read_history(outcome.trace)
    history.processes[0].path             # "/top"
    history.incidents[0].deaths           # the processes that ended in the first incident

*pure*: the only input is the trace of a simulated run, a live run or a recording. The story, the page, the observer and
the metrics all take their figures from this reader.

**Causes.** An incident begins with a planned fault that was applied, or with a process that ended unusually by itself.
The end of a process belongs to a planned fault if a chain of causes in the trace leads from the end back to the fault.
The chain stops at the start of another process, because a restarted process acts on its own. There is one exception: if
the restarted process ended before it received a message, the chain continues. An end without a chain belongs to an
earlier fault of the same process, unless the process ended cleanly. The end also belongs to an incident if the process

- was linked to a process that ended in the incident,
- was stopped by a supervisor that was busy with the incident, or was this supervisor, and gave up,
- was a channel whose connection ended in the incident,
- crashed because its call got no answer in the incident, or
- ended while a supervisor started it because of the incident.

**Replacements.** A process is back when another process starts with the same role on the same node. A channel is back
when its client is joined to the topic again, and a connection with a known client when that client connects again.

**Losses.** An incident loses the messages that its processes had not read, were handling or got after their ends, and
the messages that its fault dropped. A message for a process that ended in order is not lost, because this process had
decided to read no more. The messages of links and monitors, `Exit` and `Down`, do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from itertools import pairwise
from typing import Any, Final, TypeAlias

import msgspec

from supervision.recording.reader.model import (
    ClientStory,
    Death,
    Decision,
    FaultStory,
    Incident,
    Linked,
    Loss,
    ProcessName,
)
from supervision.recording.reader.records import (
    Event,
    FaultRecord,
    History,
    Key,
    MessageRecord,
    Phase,
    ProcessRecord,
    key_of,
)
from supervision.recording.reader.words import child_name
from supervision.recording.schema import CLEAN_EXITS

__all__ = ["HistoryReader", "read_history"]

ACTIVE_SECONDS: Final = 30.0
"""Seconds without an action after which a supervisor is no longer busy with an incident."""

# These faults end a process in a way that looks clean.
_CLEAN_FAULTS: Final = frozenset(("reset_connection", "half_open", "exit_with", "partition"))
# These faults delay a callback, which may handle a message.
_HOLDING: Final = frozenset(("hang", "slow", "swallow_cancellation"))
_SIGNALS: Final = frozenset(("exit", "down"))
_SIGNAL_KINDS: Final = frozenset(("Exit", "Down"))
# The other events have no consequences while the run closes.
_WHILE_CLOSING: Final = frozenset((
    "spawned", "exited", "node_killed", "sent", "received", "serves", "client_connected", "joined", "fault",
    "fault_over", "omitted",
))  # fmt: skip
_SERVER_CLOSES: Final = frozenset((1002, 1007, 1008, 1009, 1011, 1013))


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
    decode = msgspec.json.Decoder(dict[str, Any]).decode
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
        known: the newest process of each key.
        changed: the processes that have changed since the owner emptied this dictionary, by their index.
        changed_faults: the changed faults, in the same way.
    """

    def __init__(self, *, contents: bool = True) -> None:
        self.history = History()
        self.known: dict[Key, ProcessRecord] = {}
        self.changed: dict[int, ProcessRecord] = {}
        self.changed_faults: dict[int, FaultRecord] = {}
        self._contents = contents
        self._living: dict[Key, ProcessRecord] = {}
        # For each event that a planned fault caused, by number, the incident of the fault, and the time of the event.
        self._planned: dict[int, tuple[Incident, float]] = {}
        # For each event that started a process, by number, the process.
        self._births: dict[int, ProcessRecord] = {}
        # The planned faults by their events, and the last incident that a fault or an alarm began at each process.
        self._faults: dict[int, FaultRecord] = {}
        self._faulty: dict[Key, tuple[Incident, str]] = {}
        # For each process, the last signal to it, and the event with which it took the signal as a message.
        self._signals: dict[Key, Event] = {}
        self._heard: dict[Key, int] = {}
        # For each process, the signals of linked processes that ended in an incident.
        self._links: dict[Key, list[Linked]] = {}
        # For each supervisor, the incident that it is busy with, and the time of its last action.
        self._busy: dict[Key, tuple[Incident, float]] = {}
        # The incident that makes a supervisor stop a process, and the incident in which a supervisor starts one.
        self._stopping: dict[Key, Incident] = {}
        self._starting: dict[Key, Incident] = {}
        # For each process, the time when its last unanswered call ended, and the incident of the call.
        self._failed_calls: dict[Key, tuple[float, Incident]] = {}
        # For each call without an answer, its loss, by the number of the event that ended the call.
        self._lost_answers: dict[int, Loss] = {}
        # The ended processes without a replacement so far.
        self._missing: dict[_Place, dict[int, ProcessRecord]] = {}
        # For each connection of the network, by name, the process that serves it.
        self._servers: dict[str, Key] = {}
        # For each connection with a client, its joined topics with their channels.
        self._topics: dict[Key, dict[str, ProcessRecord]] = {}
        # For each channel whose connection ended, the incident, and the connection.
        self._orphans: dict[Key, tuple[Incident, ProcessRecord]] = {}
        # The messages by their events, and for each process the messages that it has not received yet.
        self._sent: dict[int, MessageRecord] = {}
        self._unread: dict[Key, dict[int, MessageRecord]] = {}
        # For each process, the fault that delays the callback that handles its last message.
        self._held: dict[Key, FaultRecord] = {}
        # For each ended process, the messages that it may have handled, until the report of its crash names their kind.
        self._maybe_handled: dict[Key, list[MessageRecord]] = {}
        # The nodes of a merged trace that shut down in order.
        self._stopped: set[int | str] = set()
        # The incidents with losses that `forget_messages` has not forgotten.
        self._losing: dict[int, Incident] = {}

    @property
    def _is_closing(self) -> bool:
        return self.history.closing is not None

    @property
    def _is_merged(self) -> bool:
        return self.history.recording is not None and "merged" in self.history.recording

    def _is_closing_at(self, key: Key) -> bool:
        """Return True if the run closes, or the node of a process shuts down in order."""
        return self._is_closing or key[0] in self._stopped

    def take(self, event: Event) -> None:
        """Read the next event."""
        self.history.events.append(event)
        self.history.seconds = max(self.history.seconds, event["t"])
        self._inherit_fault(event)
        taker = getattr(self, f"_take_{event['kind']}", None)
        if taker is not None and (
            not self._is_closing_at(key_of(event)) or event["kind"] in _WHILE_CLOSING
        ):
            taker(event)

    def forget_messages(self) -> None:
        """Forget all events, messages and losses. A follower of a running program must bound their number."""
        self.history.events.clear()
        self.history.messages.clear()
        self._sent.clear()
        self._unread.clear()
        self._lost_answers.clear()
        for incident in self._losing.values():
            incident.losses.clear()
        self._losing.clear()

    def finish(self) -> History:
        """Return the history of a trace that has ended."""
        phases = self.history.phases
        for phase, following in pairwise(phases):
            phase.end = following.begin
        if phases:
            closing = self.history.closing
            phases[-1].end = self.history.seconds if closing is None else closing
        self._find_early_returns()
        for incident in self.history.incidents:
            incident.count_recovery()
        return self.history

    # Causes

    def _inherit_fault(self, event: Event) -> None:
        cause: int = event.get("cause", -1)
        if cause < 0 and event["kind"] == "received" and event.get("via") == "exit":
            # An Exit message from a living process, such as a supervisor that stops a child. The signal caused it.
            signal = self._signals.get(key_of(event))
            cause = -1 if signal is None else signal["n"]
            self._heard[key_of(event)] = event["n"]
        found = self._planned.get(cause)
        if found is None or (cause in self._births and event["kind"] != "exited"):
            return
        incident, t = found
        is_exact = self.history.has_receives or event["kind"] == "node_killed"
        if not is_exact and t != event["t"]:
            # Without `received` events, the trace gives an old cause to an act for which a later message is the reason.
            signal = self._signals.get(key_of(event)) if event["kind"] == "exited" else None
            if signal is None or signal["n"] != cause or signal["exit"] != event["exit"]:
                return
        self._planned[event["n"]] = incident, event["t"]

    def _signal_behind(self, event: Event) -> Event | None:
        """Return the signal that ended a process, for the event of its end; None if it ended without a signal."""
        key = key_of(event)
        signal, cause = self._signals.get(key), event.get("cause", -1)
        ended = signal is not None and cause in (signal["n"], self._heard.get(key, -1))
        return signal if ended else None

    def _reason_for_end(
        self, process: ProcessRecord, event: Event, exit: str
    ) -> tuple[Incident | None, str, ProcessRecord | None]:
        """Return the incident in which a process ended, the reason, and the process that caused the end."""
        gave_up = self._busy_with(process.key, event["t"])
        if gave_up is not None and any(
            each.action == "gave_up" and each.supervisor is process.name
            for each in gave_up.decisions
        ):
            return gave_up, "gave_up", None
        planned, _ = self._planned.get(event["n"], (None, 0.0))
        signal = self._signal_behind(event)
        sender = None if signal is None else self._process(signal)
        if process.key in self._stopping:
            incident = planned or self._stopping[process.key]
            return incident, "supervisor", process.parent
        if signal is not None and sender is not None:
            if signal["linked"] and sender.incident is not None:
                return sender.incident, "link", sender
            if not signal["linked"] and sender is process.parent:
                return planned, "supervisor", sender
        if planned is not None:
            return planned, "fault", sender
        faulty = self._faulty.get(process.key)
        if faulty is not None and (exit not in CLEAN_EXITS or faulty[1] in _CLEAN_FAULTS):
            return faulty[0], "fault", None
        orphan = self._orphans.get(process.key)
        if orphan is not None:
            return orphan[0], "connection", orphan[1]
        call = self._failed_calls.get(process.key)
        if call is not None and call[0] == event["t"] and exit == "crash":
            return call[1], "call", None
        if exit in CLEAN_EXITS:
            return None, "", None
        if process.key in self._starting:
            return self._starting[process.key], "start", None
        kind = {"crash": "crash", "killed": "killed"}.get(exit, "exit")
        return self._begin(kind, event, process, process.reason or ""), "fault", None

    def _begin(
        self,
        kind: str,
        event: Event,
        process: ProcessRecord | None,
        reason: str,
        fault: FaultRecord | None = None,
    ) -> Incident:
        incident = Incident(
            number=len(self.history.incidents) + 1,
            fault=FaultStory(
                t=event["t"],
                event=event["n"],
                kind=kind,
                process=_name(process),
                label=None if process is None or not process.title else process.title,
                reason=reason,
                fault_type=None if fault is None else fault.type,
            ),
        )
        self.history.incidents.append(incident)
        return incident

    # Processes

    def _process(self, event: Event, name: str = "pid") -> ProcessRecord | None:
        return None if event.get(name) is None else self.known.get(key_of(event, name))

    def _take_spawned(self, event: Event) -> None:
        key, parent = key_of(event), self.known.get(key_of(event, "parent"))
        process = ProcessRecord(
            index=len(self.history.processes),
            key=key,
            name=ProcessName(node=key[0], pid=key[1], path=event["path"], incarnation=event["inc"]),
            host=event.get("host"),
            role=event["role"],
            parent=parent,
            born=event["t"],
            born_event=event["n"],
        )
        self.history.processes.append(process)
        self._living[key] = self.known[key] = self._births[event["n"]] = process
        self.changed[process.index] = process
        busy = None if parent is None else self._busy_with(parent.key, event["t"])
        if busy is not None:
            self._starting[key] = busy
        if not event.get("before") or self._is_merged:
            # In a merged trace, the recording of a new node begins after its first processes.
            self._replace(process)

    def _take_signal(self, event: Event) -> None:
        # At the end of the `open_runtime` block, the runtime asks the top processes to stop.
        from_runtime = key_of(event)[1] == 0 and event["exit"] == "shutdown"
        if from_runtime and event.get("cause") is None and not event["linked"]:
            if self._is_merged:
                # The other nodes go on.
                self._stopped.add(key_of(event)[0])
            else:
                self._close(event["t"])
            return
        sender, receiver = self._process(event), self._process(event, "to")
        self._signals[key_of(event, "to")] = event
        if sender is None or receiver is None:
            return
        if not event["linked"]:
            # A supervisor that is stopped because of an incident stops its children first.
            incident = self._busy_with(sender.key, event["t"]) or self._stopped_above(sender)
            if receiver.parent is sender and incident is not None:
                self._stopping[receiver.key] = incident
        elif sender.incident is not None and receiver.ended is None:
            link = Linked(t=event["t"], process=receiver.name, to=sender.name, died=False)
            sender.incident.linked.append(link)
            self._links.setdefault(receiver.key, []).append(link)

    def _take_exited(self, event: Event) -> None:
        process = self._living.pop(key_of(event), None)
        if process is not None:
            self._end(process, event, event["reason"], event["exit"])

    def _take_node_killed(self, event: Event) -> None:
        # The processes of a killed node have no `exited` events, because no code of the node runs any more.
        host, reason = event["host"], "the node was killed"
        ended = [
            key
            for key, process in self._living.items()
            # The name of a runtime may follow the name of its node. Two workers may share a place for a while.
            if process.host == host and f"{key[0]}.".startswith(f"{event['node']}.")
        ]
        if ended and not self._is_closing and event["n"] not in self._planned:
            node = event["node"] if self._is_merged else host
            incident = self._begin("node_killed", event, None, f"node {node}")
            self._planned[event["n"]] = incident, event["t"]
        for key in ended:
            self._end(self._living.pop(key), event, reason, "node_killed")

    def _end(self, process: ProcessRecord, event: Event, reason: str, exit: str) -> None:
        process.ended, process.ended_event = event["t"], event["n"]
        process.reason, process.exit = reason, exit
        self.changed[process.index] = process
        unread = self._unread.pop(process.key, {})
        if self._is_closing_at(process.key):
            return
        incident, why, by = self._reason_for_end(process, event, exit)
        self._signals.pop(process.key, None)
        self._heard.pop(process.key, None)
        self._starting.pop(process.key, None)
        links = self._links.pop(process.key, ())
        if incident is None:
            self.history.discarded += len(self._left(event, unread)) + _undescribed(event)
            return
        process.incident = incident
        process.death = Death(
            t=event["t"],
            event=event["n"],
            process=process.name,
            exit=exit,
            reason=reason,
            why=why,
            # The supervisors of a killed node report no end.
            restart_type=process.restart_type if exit == "node_killed" else None,
            by=_name(by),
            back=_name(process.back),
            back_after=process.recovered_after,
        )
        incident.deaths.append(process.death)
        for link in links:
            link.died = why == "link"
        fault = process.fault = self._faults.get(incident.fault.event)
        if fault is not None:
            fault.ended.append(process)
            self._planned[event["n"]] = incident, event["t"]
            self.changed_faults[fault.index] = fault
        if process.parent is not None:
            self._busy[process.parent.key] = incident, event["t"]
        self._lose_mailbox(process, event, incident, unread)
        self._expect_replacement(process)
        if process.key in self._topics:
            self._client_lost(process, event, incident)

    def _take_crash(self, event: Event) -> None:
        """Add the report of a crash, which comes after the end of its process."""
        process = self._process(event)
        if process is None or process.incident is None or process.death is None:
            return
        incident, fault, handled = process.incident, process.incident.fault, process.handled
        has_raised = event["exception"] is not None
        if has_raised:
            process.death.error = event["error"]
        if fault.event == process.ended_event:
            if event["kind"] == "zombie":
                fault.kind = "zombie"
            fault.error, fault.exception = process.death.error, event["exception"]
            fault.traceback = event.get("traceback", [])
            fault.message_kind = event.get("message_kind")
            if handled is not None:
                fault.message_kind = fault.message_kind or handled.kind
                fault.message = handled.content
        if event["kind"] == "zombie" or not has_raised or process.death.why == "link":
            return
        if handled is not None:
            self._lose_in_hand(process)
        elif "message_kind" in event:
            # Without `received` events, the process handled the newest message of this kind that was not left unread.
            kind, candidates = event["message_kind"], self._maybe_handled.pop(process.key, [])
            found = next((each for each in reversed(candidates) if each.kind == kind), None)
            self._lose(incident, "in_hand", process, event, found, kind=kind, t=process.ended)

    _take_zombie = _take_crash

    # Replacements

    def _expect_replacement(self, process: ProcessRecord) -> None:
        if process.back is None:
            for place in _places(process):
                self._missing.setdefault(place, {})[process.index] = process

    def _replace(self, process: ProcessRecord) -> None:
        """Let a process replace the one that has been missing for the longest time in its place.

        A channel replaces all earlier ones of its topic on its connection, because some of its client's joins may have
        crashed.
        """
        *own, place = _places(process)
        found = [each for at in own for each in self._missing.get(at, {}).values()]
        if not found:
            missing = self._missing.get(place, {}).values()
            found = [each for each in missing if _may_be_replaced(each, process)][:1]
        for each in found:
            for at in _places(each):
                self._missing.get(at, {}).pop(each.index, None)
            self._come_back(each, process)

    def _come_back(self, process: ProcessRecord, back: ProcessRecord) -> None:
        process.back = back
        self.changed[process.index] = process
        if process.death is not None:
            process.death.back, process.death.back_after = back.name, process.recovered_after
        for client, began in process.clients:
            self._rejoin(client, began, process)
        if process.fault is not None:
            self.changed_faults[process.fault.index] = process.fault

    def _find_early_returns(self) -> None:
        """Find a replacement for each connection and channel whose named client came back.

        `_replace` finds none if the client came back before the server noticed the lost connection, or if the client
        came back once for two ended processes.
        """
        of_client: dict[_Place, list[ProcessRecord]] = {}
        for process in self.history.processes:
            if process.is_named:
                of_client.setdefault(_place(process), []).append(process)
        for own in of_client.values():
            for position, process in enumerate(own):
                later = own[position + 1 :]
                if process.incident is not None and process.back is None and later:
                    after = (each for each in later if each.born >= (process.ended or 0.0))
                    self._come_back(process, next(after, later[-1]))

    # Supervisors

    def _busy_with(self, supervisor: Key, now: float) -> Incident | None:
        found = self._busy.get(supervisor)
        if found is None:
            return None
        if now - found[1] > ACTIVE_SECONDS:
            del self._busy[supervisor]
            return None
        return found[0]

    def _decide(self, event: Event, action: str, process: ProcessRecord | None) -> None:
        """Add a decision of a supervisor to the incident that the supervisor is busy with."""
        supervisor, incident = self._process(event), None
        if action in ("left", "stopped", "stop_failed") and process is not None:
            incident = process.incident
        incident = incident or self._busy_with(key_of(event), event["t"])
        if incident is None or supervisor is None:
            return
        self._busy[supervisor.key] = incident, event["t"]
        incident.decisions.append(
            Decision(
                t=event["t"],
                event=event["n"],
                supervisor=supervisor.name,
                action=action,
                child=child_name(event["component"], None if process is None else process.path),
                process=_name(process),
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

    def _take_child_terminated(self, event: Event) -> None:
        process = self._process(event, "child")
        if process is None:
            return
        kind = event.get("restart_type")
        if process.death is not None:
            process.death.restart_type = kind
        if event.get("stopped"):
            self._decide(event, "stopped", process)
        elif process.incident is not None:
            self._busy[key_of(event)] = process.incident, event["t"]
            if kind == "temporary" or (kind == "transient" and event["exit"] in CLEAN_EXITS):
                self._decide(event, "left", process)

    def _take_child_restarted(self, event: Event) -> None:
        process = self._process(event, "child")
        if process is not None:
            process.restarted = True
            process.restart_type = event.get("restart_type")
            self.changed[process.index] = process
            self._starting.pop(process.key, None)
        self._decide(event, "restarted", process)

    def _take_child_started(self, event: Event) -> None:
        process = self._process(event, "child")
        if process is not None:
            process.restart_type = event.get("restart_type")
            self._starting.pop(process.key, None)
        # A start on request: the supervisor is no longer busy with an incident.
        self._busy.pop(key_of(event), None)

    def _take_child_start_failed(self, event: Event) -> None:
        supervisor = self._process(event)
        if supervisor is not None and self._busy_with(supervisor.key, event["t"]) is None:
            incident = self._begin("start_failed", event, supervisor, event["reason"])
            self._busy[supervisor.key] = incident, event["t"]
        self._decide(event, "start_failed", None)

    def _take_child_stop_failed(self, event: Event) -> None:
        self._decide(event, "stop_failed", self._process(event, "child"))

    def _take_gave_up(self, event: Event) -> None:
        self._decide(event, "gave_up", self._process(event, "child"))

    # Messages and calls

    def _take_sent(self, event: Event) -> None:
        receiver = self._living.get(key_of(event, "to"))
        message = MessageRecord(
            event=event["n"],
            sent=event["t"],
            sender=self._process(event),
            receiver=receiver,
            via=event["via"],
            kind=event["message_kind"],
            content=event.get("message") if self._contents else None,
            size=event.get("size"),
        )
        self.history.messages.append(message)
        self._sent[event["n"]] = message
        if receiver is not None:
            self._unread.setdefault(receiver.key, {})[event["n"]] = message

    def _take_received(self, event: Event) -> None:
        key = key_of(event)
        message = self._sent.get(event.get("cause", -1))
        if message is not None:
            message.received = event["t"]
            self._unread.get(key, {}).pop(message.event, None)
        process = self._living.get(key)
        if process is not None:
            process.handled = message
            self._held.pop(key, None)

    def _left(
        self, event: Event, unread: Mapping[int, MessageRecord]
    ) -> list[tuple[str, MessageRecord | None]]:
        """Return the kinds and the records of the messages that a process had not read when it ended."""
        if "unread" in event:
            found = [
                (each["message_kind"], self._sent.get(each["sent"])) for each in event["unread"]
            ]
        elif self.history.has_receives:
            found = [(message.kind, message) for message in unread.values()]
        else:
            return []
        return [(kind, message) for kind, message in found if kind not in _SIGNAL_KINDS]

    def _lose_mailbox(
        self,
        process: ProcessRecord,
        event: Event,
        incident: Incident,
        unread: dict[int, MessageRecord],
    ) -> None:
        """Lose the messages that a process had not read when it ended, and the one that it was handling."""
        for kind, message in self._left(event, unread):
            if message is not None:
                unread.pop(message.event, None)
            self._lose(incident, "unread", process, event, message, kind=kind)
        rest = _undescribed(event)
        if rest:
            self._lose(incident, "unread", process, event, kind="other", count=rest)
        if process.exit == "crash" and process.death is not None and process.death.why != "link":
            self._lose_in_hand(process)
            if unread and not self.history.has_receives:
                self._maybe_handled[process.key] = list(unread.values())
        held = self._held.get(process.key)
        if held is not None and (held.type == "hang" or held.status != "applied"):
            self._lose_in_hand(process)

    def _lose_in_hand(self, process: ProcessRecord) -> None:
        message, incident = process.handled, process.incident
        if message is None or incident is None or message.via in _SIGNALS or message.is_lost:
            return
        self._lose(incident, "in_hand", process, {}, message, t=process.ended)

    def _lose(
        self,
        incident: Incident,
        what: str,
        process: ProcessRecord,
        event: Event,
        message: MessageRecord | None = None,
        **fields: Any,
    ) -> Loss:
        """Add a loss. The message, or else the event, describes it. `fields` are fields of `Loss`."""
        found = {"t": event.get("t"), "event": event.get("n"), "sender": None, **fields}
        if message is not None:
            message.is_lost = True
            found |= {
                "event": message.event,
                "sender": _name(message.sender),
                "kind": message.kind,
                "size": message.size,
                "text": message.content,
            }
        loss = Loss(what=what, process=process.name, **found)
        incident.losses.append(loss)
        self._losing[incident.number] = incident
        return loss

    def _take_dead_letter(self, event: Event) -> None:
        if event["via"] in _SIGNALS:
            return
        process = self._process(event, "to_pid")
        if process is None or process.incident is None:
            self.history.discarded += 1
            return
        kind, text = event["message_kind"], event.get("message") if self._contents else None
        self._lose(process.incident, "dead_letter", process, event, kind=kind, text=text)

    def _take_call_ended(self, event: Event) -> None:
        how, server = event["how"], self._process(event, "to")
        if how not in ("server_ended", "timeout") or server is None:
            return
        incident = server.incident
        if incident is None and server.key in self._faulty:
            incident = self._faulty[server.key][0]
        if incident is None:
            if how == "server_ended":
                return
            incident = self._begin("timeout", event, server, "timeout")
        caller = _name(self._process(event))
        self._lost_answers[event["n"]] = self._lose(
            incident, "answer", server, event, sender=caller, kind="call", how=how
        )
        self._failed_calls[key_of(event)] = event["t"], incident

    def _take_late_answer(self, event: Event) -> None:
        """Record that the answer to a call came after the call had ended.

        If the trace has no end of this call, add the lost answer to an incident first.
        """
        ended, server = event.get("ended"), self._process(event)
        loss = None if ended is None else self._lost_answers.pop(ended, None)
        if loss is None:
            if server is None or event["how"] != "timeout":
                return
            began = {**event, "t": round(event["t"] - event["seconds"], 6)}
            incident = server.incident or self._begin("timeout", began, server, "timeout")
            caller = _name(self._process(event, "to"))
            loss = self._lose(
                incident, "answer", server, began, sender=caller, kind="call", how="timeout"
            )
        loss.late = event["seconds"]

    def _take_mailbox_alarm(self, event: Event) -> None:
        process = self._process(event)
        if process is None or process.key in self._faulty:
            return
        incident = self._begin("mailbox", event, process, str(event["length"]))
        # The end of this process and its next alarms belong to the same incident.
        self._faulty[process.key] = incident, "mailbox"

    # Clients

    def _take_serves(self, event: Event) -> None:
        self._servers[event["connection"]] = key = key_of(event)
        process, source = self.known.get(key), str(event["connection"]).partition("->")[0]
        if process is not None and _names_a_client(source):
            process.client, process.is_named = source, True
            self._replace(process)

    def _take_client_connected(self, event: Event) -> None:
        self._topics.setdefault(key_of(event), {})
        process, client = self._process(event), event.get("client")
        if process is not None and client and not process.is_named:
            process.client = client
            self._replace(process)

    def _take_joined(self, event: Event) -> None:
        """Name a channel by its class and its topic, and find the channel that it replaces."""
        process = self._process(event)
        connection = self._process(event, "connection_pid")
        if process is None or process.title:
            return
        process.client = event.get("client") or ""
        self._name_channel(process, event["channel"], event["topic"], connection)
        if event["result"] == "ok" and process.ended is None:
            process.joined = event
            self._topics.setdefault(key_of(event, "connection_pid"), {})[event["topic"]] = process
            self._replace(process)

    def _take_entity_started(self, event: Event) -> None:
        """Name an entity by its class and its key, and find the process that it replaces, maybe on another node."""
        process = self._process(event)
        if process is None or process.title:
            return
        process.title, process.is_entity = f"{event['entity']} {event['key']}", True
        self.changed[process.index] = process
        self._replace(process)

    def _name_channel(
        self, channel: ProcessRecord, name: str, topic: str, connection: ProcessRecord | None
    ) -> None:
        channel.title, channel.connection = f"{name} {topic}", connection
        if connection is not None and connection.client:
            channel.client, channel.is_named = connection.client, connection.is_named
        self.changed[channel.index] = channel

    def _take_client_told(self, event: Event) -> None:
        channel, connection = self._process(event, "channel"), self._process(event)
        if channel is None or channel.incident is None:
            return
        if not channel.title and connection is not None:
            # Its join crashed, so it has no `joined` event. The last part of its path is its class.
            self._missing.get(_place(channel), {}).pop(channel.index, None)
            name = channel.path.rpartition("/")[2]
            self._name_channel(channel, name, event["topic"], connection)
            self._expect_replacement(channel)
        unanswered = sum(
            loss.process is channel.name
            and connection is not None
            and loss.sender is connection.name
            for loss in channel.incident.losses
        )
        saw, topic = event["event"], event["topic"]
        client = self._affect(channel.incident, event, saw, channel, topic, connection=connection)
        client.unanswered = unanswered

    def _affect(
        self,
        incident: Incident,
        event: Event,
        saw: str,
        channel: ProcessRecord | None,
        topic: str | None,
        *,
        connection: ProcessRecord | None,
    ) -> ClientStory:
        """Add a client to an incident. `event` is what its connection or the end of its node has shown."""
        client = ClientStory(
            client="" if connection is None else connection.client,
            connection=_name(connection),
            topic=topic,
            saw=saw,
            t=event["t"],
            event=event["n"],
            code=event.get("code"),
            why=event.get("why"),
        )
        incident.clients.append(client)
        if channel is not None:
            channel.clients.append((client, incident.fault.t))
            self._rejoin(client, incident.fault.t, channel)
        return client

    def _rejoin(self, client: ClientStory, began: float, channel: ProcessRecord) -> None:
        """Note the join with which a client came back to its channel, if it did. `began` is the time of the fault."""
        back = channel.back
        if back is None or back.joined is None:
            return
        client.rejoined, client.rejoined_event = back.joined["t"], back.joined["n"]
        client.away = max(0.0, round(client.rejoined - began, 6))
        client.certain = bool(back.client) or back.connection is channel.connection

    def _take_client_closed(self, event: Event) -> None:
        process = self._process(event)
        if process is not None:
            incident = self._stopped_above(process)
            if incident is None and event["code"] in _SERVER_CLOSES:
                incident = self._begin("client_closed", event, process, event["why"])
            if incident is not None:
                self._client_lost(process, event, incident)
        self._topics.pop(key_of(event), None)

    def _stopped_above(self, process: ProcessRecord) -> Incident | None:
        """Return the incident that makes a supervisor stop this process or one of its ancestors, if any."""
        above: ProcessRecord | None = process
        while above is not None:
            if above.key in self._stopping:
                return self._stopping[above.key]
            above = above.parent
        return None

    def _client_lost(self, connection: ProcessRecord, event: Event, incident: Incident) -> None:
        """Note the end of a connection, whose client thereby lost all topics."""
        topics = self._topics.pop(connection.key, {})
        for topic, channel in topics.items() or ((None, None),):
            self._affect(incident, event, "closed", channel, topic, connection=connection)
            if channel is not None:
                self._orphans[channel.key] = incident, connection
                # The client may come back before the channel ends.
                self._expect_replacement(channel)

    # The experiment

    def _take_recording(self, event: Event) -> None:
        self.history.recording = event

    def _take_omitted(self, event: Event) -> None:
        self.history.omitted += event["omitted"]

    def _take_fault(self, event: Event) -> None:
        by_name = event.get("pid") is None
        key = self._servers.get(event["path"], ("", 0)) if by_name else key_of(event)
        target = self.known.get(key)
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
        self.changed_faults[fault.index] = self._faults[fault.event] = fault
        if fault.status != "applied" or self._is_closing:
            return
        incident = self._begin("fault", event, target, fault.text, fault)
        self._planned[event["n"]] = incident, event["t"]
        if target is not None:
            self._faulty[target.key] = incident, fault.type
            if fault.type in _HOLDING:
                self._held[target.key] = fault
        dropped = self._sent.get(event.get("message", -1))
        if dropped is not None and fault.type == "drop_message" and dropped.receiver is not None:
            self._unread.get(dropped.receiver.key, {}).pop(dropped.event, None)
            self._lose(incident, "dropped", dropped.receiver, event, dropped)

    def _take_fault_over(self, event: Event) -> None:
        # The injector applied the fault, but the process ended while the fault delayed it.
        fault = self._faults.get(event["fault_event"])
        if fault is None:
            return
        fault.status, fault.why = event["status"], event.get("why")
        self.changed_faults[fault.index] = fault
        if fault.target is not None and self._held.get(fault.target.key) is fault:
            self._lose_in_hand(fault.target)

    def _take_phase(self, event: Event) -> None:
        begin = event["t"]
        if event["phase"] == "closing":
            self._close(begin)
        else:
            self.history.phases.append(Phase(name=event["phase"], begin=begin, end=begin))

    def _close(self, seconds: float) -> None:
        if self.history.closing is None:
            self.history.closing = seconds


_Place: TypeAlias = tuple[str, str, str]
"""The node, the role or the title, and the client that a process shares with its replacement."""


def _undescribed(event: Event) -> int:
    """Return the number of unread messages that the end of a process counts but does not describe."""
    return max(0, event.get("waiting", 0) - len(event["unread"])) if "unread" in event else 0


def _name(process: ProcessRecord | None) -> ProcessName | None:
    return None if process is None else process.name


def _place(process: ProcessRecord) -> _Place:
    if process.title:
        # A client may join again through another partition, endpoint or node.
        return "", process.title, process.client
    return "" if process.client else process.host or "", process.role, process.client


def _places(process: ProcessRecord) -> list[_Place]:
    """Return the places of a process, the best one first. The best place of a channel is on its connection."""
    place = _place(process)
    if process.connection is None:
        return [place]
    return [(f"connection {process.connection.index}", process.title, ""), place]


def _may_be_replaced(missing: ProcessRecord, process: ProcessRecord) -> bool:
    """Return False for the channel of an unknown client with another living connection. It can join again there."""
    own = missing.connection
    return bool(missing.client) or own is None or own is process.connection or own.ended is not None


def _names_a_client(source: str) -> bool:
    """Return False for the default source of a scenario, and for an address, which several clients may share."""
    if source == "client":
        return False
    try:
        ip_address(source)
    except ValueError:
        return not source.isdigit()
    return False
