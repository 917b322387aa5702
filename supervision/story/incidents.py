"""The story of a recording: each incident that the reader of traces finds, with names and sentences.

*pure*: the only input is the lines of a trace, from a recording or from a simulated run.

    story = tell_story(read_lines(Path("run.jsonl")))
    story.incidents[0].fault.text           # "/shop/store crashed with KeyError('apple')"

The story needs no messages in the trace, but tells more losses with them. `supervision.recording.reader.history`
defines which events belong to an incident.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from supervision.recording.reader.history import read_history
from supervision.recording.reader.records import (
    ClientRecord,
    DecisionRecord,
    IncidentRecord,
    LinkRecord,
    LossRecord,
    ProcessRecord,
)
from supervision.story.model import (
    ClientStory,
    Death,
    Decision,
    FaultStory,
    Incident,
    Linked,
    Loss,
    ProcessName,
    StoryModel,
)
from supervision.story.names import Names
from supervision.story.sentences import with_steps

__all__ = ["tell_story"]


def tell_story(lines: Iterable[bytes], *, damaged: bool = False) -> StoryModel:
    """Tell the story of a recording.

    Args:
        lines: the lines of a trace, such as the result of `read_recording`.
        damaged: True if the file was cut off.

    Returns:
        The story, with its incidents in the order of their faults.
    """
    history = read_history(lines)
    teller = _Teller(Names(history.events))
    return StoryModel(
        seconds=history.seconds,
        recording=None if history.recording is None else dict(history.recording),
        omitted=history.omitted,
        damaged=damaged,
        incidents=[
            with_steps(teller.incident(number, incident))
            for number, incident in enumerate(history.incidents, 1)
        ],
    )


class _Teller:
    """The records of a history in the form of the story's model, which names processes."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def incident(self, number: int, incident: IncidentRecord) -> Incident:
        return Incident(
            number=number,
            fault=self._fault(incident),
            deaths=[self._death(each) for each in incident.deaths],
            linked=[self._linked(each, incident) for each in incident.links],
            decisions=[self._decision(each) for each in incident.decisions],
            losses=[self._loss(each) for each in incident.losses],
            clients=[self._client(each, incident.t) for each in incident.clients],
            recovery=incident.recovery(),
        )

    def _named(self, process: ProcessRecord) -> ProcessName:
        return ProcessName(
            node=process.key[0],
            pid=process.key[1],
            path=process.path,
            incarnation=process.incarnation,
            label=self._names.label(process.key),
        )

    def _name(self, process: ProcessRecord | None) -> ProcessName | None:
        return None if process is None else self._named(process)

    def _fault(self, incident: IncidentRecord) -> FaultStory:
        process, crash = incident.process, {}
        if process is not None and process.ended_event == incident.event:
            crash = _crash(process)
        return FaultStory(
            t=incident.t,
            event=incident.event,
            kind=incident.kind,
            process=self._name(process),
            label=None if process is None or not process.title else process.title,
            reason=incident.reason,
            fault_type=None if incident.fault is None else incident.fault.type,
            **crash,
        )

    def _death(self, process: ProcessRecord) -> Death:
        assert process.ended is not None  # only processes that ended are in `deaths`
        assert process.ended_event is not None
        crash = process.crash
        return Death(
            t=process.ended,
            event=process.ended_event,
            process=self._named(process),
            exit=process.exit or "",
            reason=process.reason or "",
            error=None if crash is None or crash["exception"] is None else crash["error"],
            why=process.why,
            by=self._name(process.by),
            restart_type=process.restart_type,
            back=self._name(process.back),
            back_after=process.recovered_after,
        )

    def _linked(self, link: LinkRecord, incident: IncidentRecord) -> Linked:
        died = link.process.incident is incident and link.process.why == "link"
        return Linked(
            t=link.t, process=self._named(link.process), to=self._named(link.to), died=died
        )

    def _decision(self, decision: DecisionRecord) -> Decision:
        event = decision.event
        return Decision(
            t=event["t"],
            event=event["n"],
            supervisor=self._named(decision.supervisor),
            action=decision.action,
            child=event["component"],
            process=self._name(decision.process),
            strategy=event.get("strategy"),
            restart_type=event.get("restart_type"),
            restarts=event.get("restarts"),
            max_restarts=event.get("max_restarts"),
            max_seconds=event.get("max_seconds"),
            reason=event.get("reason"),
            exit=event.get("exit"),
            again=event.get("restart"),
        )

    def _loss(self, loss: LossRecord) -> Loss:
        return Loss(
            t=loss.t,
            event=loss.event,
            what=loss.what,
            process=self._named(loss.process),
            sender=self._name(loss.sender),
            kind=loss.kind,
            size=loss.size,
            text=loss.content,
            how=loss.how,
            late=loss.late,
        )

    def _client(self, client: ClientRecord, began: float) -> ClientStory:
        event, connection, rejoined = client.event, client.connection, client.rejoined
        name = None if connection is None else self._named(connection)
        id = "" if connection is None else connection.client
        return ClientStory(
            client=id or (f"the client of {name}" if name else "a client"),
            connection=name,
            topic=client.topic,
            saw=client.saw,
            t=event["t"],
            event=event["n"],
            code=event.get("code"),
            why=event.get("why"),
            unanswered=client.unanswered,
            rejoined=None if rejoined is None else rejoined["t"],
            rejoined_event=None if rejoined is None else rejoined["n"],
            away=client.away(began),
            certain=client.channel is None or client.channel.is_certain,
        )


def _crash(process: ProcessRecord) -> dict[str, Any]:
    """Return the facts about the crash of a process."""
    crash, handled = process.crash, process.handled
    if crash is None:
        return {}
    kind = crash.get("message_kind")
    if kind is None and handled is not None:
        kind = handled.kind
    return {
        "error": crash["error"] if crash["exception"] is not None else None,
        "exception": crash["exception"],
        "traceback": crash.get("traceback", []),
        "message_kind": kind,
        "message": None if handled is None else handled.content,
    }
