"""Sentences about an incident: the fault, each consequence with its time and its reason, and the recovery.

*pure*.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from supervision.recording.reader.model import (
    ClientStory,
    Death,
    Decision,
    FaultStory,
    Incident,
    Loss,
    ProcessName,
    Step,
)
from supervision.recording.reader.words import (
    counted,
    how_it_ended,
    in_seconds,
    restarted_as,
    short,
)

__all__ = ["recovery_in_words", "write_sentences"]

_KINDS_SHOWN = 5


def write_sentences(incident: Incident) -> None:
    """Write the sentences of an incident: the fault, the reasons of the decisions, and the steps."""
    incident.fault.text = _fault(incident.fault)
    for client in incident.clients:
        who = client.connection
        client.client = client.client or (f"the client of {who}" if who else "a client")
    for decision in incident.decisions:
        decision.why = _why(decision, incident)
    incident.steps = sorted(_steps(incident), key=lambda step: (step.t, step.event))


def _steps(incident: Incident) -> Iterator[Step]:
    fault = incident.fault
    ends = {death.process: death.event for death in incident.deaths}
    yield Step(t=fault.t, event=fault.event, text=fault.text)
    yield from _node_ends([each for each in incident.deaths if each.exit == "node_killed"])
    for death in incident.deaths:
        text = None if death.exit == "node_killed" else _death(death, fault)
        if text is not None:
            yield Step(t=death.t, event=death.event, text=text)
    supervisors = {decision.supervisor for decision in incident.decisions}
    for linked in incident.linked:
        if not linked.died and linked.process not in supervisors:
            text = (
                f"{linked.process} was linked to {linked.to}, and lives on because it traps exits"
            )
            yield Step(t=linked.t, event=ends.get(linked.to, 0), text=text)
    stopped = {death.process for death in incident.deaths if death.why == "supervisor"}
    for decision in incident.decisions:
        if decision.action == "stopped" and decision.supervisor in stopped:
            # The sentence about the end of this supervisor counts its children.
            continue
        yield Step(t=decision.t, event=decision.event, text=_decision(decision, stopped))
    yield from _losses(incident, ends)
    for client in incident.clients:
        yield from _client(client)


# The fault and the ends


def _fault(fault: FaultStory) -> str:
    who = "" if fault.process is None else str(fault.process)
    if fault.label is not None and fault.process is not None and fault.process.label is None:
        who = f"{who} ({fault.label})"
    reason = short(fault.reason)
    match fault.kind:
        case "crash":
            handled = (
                "" if fault.message_kind is None else f", while it handled {fault.message_kind}"
            )
            return f"{who} crashed with {short(fault.error or reason)}{handled}"
        case "killed":
            return f"{who} was killed"
        case "fault":
            return f"a planned fault: {reason}"
        case "zombie":
            return f"{who} did not end when it was killed, and was declared dead"
        case "start_failed":
            return f"{who} could not start a child: {reason}"
        case "timeout":
            return f"{who} did not answer a call in time"
        case "mailbox":
            return f"{reason} messages waited for {who}"
        case "node_killed":
            return f"the {reason} was killed"
        case "client_closed":
            return f"the server closed the client of {who}: {reason}"
    return f"{who} ended with {reason}"


def _death(death: Death, fault: FaultStory) -> str | None:
    who, by = death.process, death.by
    ended = how_it_ended(death.exit, death.reason)
    if death.error is not None:
        ended = f"crashed with {short(death.error)}"
    match death.why:
        case "link":
            return f"{who} was linked to {by}, and {'was killed' if death.exit == 'killed' else 'ended'} too"
        case "supervisor":
            # The sentence about the supervisor's decision says this.
            return None
        case "gave_up":
            return f"{who} ended, because it had given up"
        case "call":
            return f"{who} {ended}, because its call got no answer"
        case "connection":
            return f"{who} ended, because its connection had ended"
        case "start":
            return f"{who} {ended} while it started"
    if death.event == fault.event:
        return None
    return f"{who} {ended}"


def _node_ends(deaths: Collection[Death]) -> Iterator[Step]:
    """Yield what ended with each node, and where it came back."""
    ended: dict[tuple[int, str], list[Death]] = {}
    backs: dict[tuple[str, str], list[Death]] = {}
    for death in deaths:
        ended.setdefault((death.event, str(death.process.node)), []).append(death)
        if death.back is not None:
            backs.setdefault((str(death.process.node), str(death.back.node)), []).append(death)
    for (event, node), group in ended.items():
        text = f"{counted(len(group), 'process', 'processes')} ended with the node {node}"
        yield Step(t=group[0].t, event=event, text=text + _among([each.process for each in group]))
    for (node, other), group in backs.items():
        seconds = [each.back_after or 0.0 for each in group]
        named = _among([each.back for each in group if each.back is not None])
        many = counted(len(group), "process", "processes")
        last = "" if len(group) == 1 else "the last one "
        text = f"{many} of {node} came back on {other}{named}, {last}{in_seconds(max(seconds))} after its end"
        yield Step(t=round(group[0].t + max(seconds), 6), event=group[0].event, text=text)


def _among(processes: Collection[ProcessName]) -> str:
    """Return the names of the processes that have a name in the words of the application."""
    names = [str(each) for each in processes if each.label is not None]
    # Entities and channels say more than the connections of their clients.
    names.sort(key=lambda name: name.startswith("the connection of "))
    more = ", ..." if len(names) > _KINDS_SHOWN else ""
    return f", among them {', '.join(names[:_KINDS_SHOWN])}{more}" if names else ""


# Decisions


def _why(decision: Decision, incident: Incident) -> str:
    limit = decision.max_restarts
    window = "" if decision.max_seconds is None else f" within {decision.max_seconds:g} s"
    match decision.action:
        case "restarted":
            if limit is None:
                return "its restarts have no limit" if decision.strategy else ""
            return f"restart {decision.restarts} of {limit:g} allowed{window}"
        case "gave_up":
            if limit is None:
                return ""
            return f"{counted(int(limit), 'restart')} allowed{window}, and this would be number {decision.restarts}"
        case "stopped":
            strategy = next(
                (
                    each.strategy
                    for each in incident.decisions
                    if each.supervisor == decision.supervisor and each.strategy is not None
                ),
                None,
            )
            if _gives_up(decision, incident):
                return "it gave up"
            return "" if strategy in (None, "one_for_one", "dynamic") else f"{strategy}"
        case "left":
            if decision.restart_type == "temporary":
                return "a temporary child is not restarted"
            return "a transient child that ended in order is not restarted"
        case "stop_failed" if decision.exit == "killed":
            return "it did not stop within its limit"
        case "start_failed" if decision.again:
            return f"{short(decision.reason or '')}; it tries again"
    return short(decision.reason or "")


def _gives_up(decision: Decision, incident: Incident) -> bool:
    return any(
        each.action == "gave_up"
        and each.supervisor == decision.supervisor
        and each.event < decision.event
        for each in incident.decisions
    )


def _decision(decision: Decision, stopped: Collection[ProcessName]) -> str:
    supervisor, child = decision.supervisor, decision.process
    why = f" ({decision.why})" if decision.why else ""
    match decision.action:
        case "restarted":
            return f"the supervisor {supervisor} {restarted_as(decision.child, str(child))}{why}"
        case "stopped":
            below = sum(child is not None and each.is_below(child) for each in stopped)
            with_them = f", with {counted(below, 'process', 'processes')} below it" if below else ""
            return f"the supervisor {supervisor} stopped {child}{with_them}{why}"
        case "left":
            return f"the supervisor {supervisor} did not start {child} again: {decision.why}"
        case "gave_up":
            return f"the supervisor {supervisor} gave up on {decision.child}: {decision.why or 'its limit is reached'}"
        case "start_failed":
            return f"the supervisor {supervisor} could not start {decision.child}: {decision.why}"
    if decision.exit == "killed":
        return f"the supervisor {supervisor} killed {child}: {decision.why}"
    return f"the supervisor {supervisor} could not stop {child} in order: {decision.why}"


# Losses


def _losses(incident: Incident, ends: Mapping[ProcessName, int]) -> Iterator[Step]:
    groups: dict[tuple[float, str, ProcessName | None, str | None], list[Loss]] = {}
    for loss in incident.losses:
        groups.setdefault((loss.t, loss.what, loss.process, loss.how), []).append(loss)
    for (t, what, process, how), group in groups.items():
        event = max(each.event for each in group)
        if what in ("unread", "in_hand") and process is not None:
            # The end of the process lost the messages, so the sentence belongs to the event of that end.
            event = ends.get(process, 0)
        yield Step(t=t, event=event, text=_loss(what, process, how, group))
        late = [each.late for each in group if each.late is not None]
        if late:
            text = _late(process, late, group[0].sender if len(group) == 1 else None)
            yield Step(t=round(t + max(late), 6), event=event, text=text)


def _late(process: ProcessName | None, late: list[float], sender: ProcessName | None) -> str:
    to = "" if sender is None else f" to {sender}"
    if len(late) == 1:
        return f"too late: the answer of {process}{to} came {in_seconds(late[0])} after its caller had given up"
    return (
        f"too late: {len(late)} answers of {process} came after their callers had given up, the last one "
        f"{in_seconds(max(late))} after"
    )


def _loss(what: str, process: ProcessName | None, how: str | None, group: list[Loss]) -> str:
    kinds: Counter[str] = Counter()
    for each in group:
        kinds[each.kind] += each.count
    shown = [f"{kind} ×{n}" if n > 1 else kind for kind, n in kinds.most_common(_KINDS_SHOWN)]
    if len(kinds) > _KINDS_SHOWN:
        shown.append("...")
    names = ", ".join(shown)
    count = counted(kinds.total(), "message")
    match what:
        case "unread":
            return f"lost: {count} that {process} had not read ({names})"
        case "in_hand":
            return f"lost: {count} that {process} was handling ({names})"
        case "dead_letter":
            return f"lost: {count} for {process}, which had ended ({names})"
        case "answer":
            senders = sorted({str(each.sender) if each.sender else "a task" for each in group})
            shown = senders[:_KINDS_SHOWN] + (["..."] if len(senders) > _KINDS_SHOWN else [])
            end = "it ended" if how == "server_ended" else "the time was over"
            return f"lost: {counted(len(group), 'answer')} of {process}, because {end}; asked by {', '.join(shown)}"
    return f"lost: {count} for {process} ({names})"


# Clients


def _client(client: ClientStory) -> Iterator[Step]:
    place = "" if client.topic is None else f" in {client.topic}"
    match client.saw:
        case "closed":
            code = "" if client.code is None else f" with {client.code}"
            text = f"{client.client}{place} lost its connection{code}"
        case saw:
            text = f"{client.client} got {saw}{place}"
    if client.unanswered:
        text += f", and no answer to {counted(client.unanswered, 'push', 'pushes')}"
    yield Step(t=client.t, event=client.event, text=text)
    if client.rejoined is not None and client.away is not None:
        likely = "" if client.certain else ", as far as its topic shows"
        text = f"{client.client} was joined to {client.topic} again, {in_seconds(client.away)} after the fault{likely}"
        yield Step(t=client.rejoined, event=client.rejoined_event or client.event, text=text)


# The recovery


def recovery_in_words(incident: Incident) -> str:
    """Return one sentence with the figures of an incident."""
    found = incident.recovery
    parts = []
    if found.restarted_after is not None:
        parts.append(f"restarted after {in_seconds(found.restarted_after)}")
    if found.not_back:
        parts.append(f"{counted(found.not_back, 'process', 'processes')} not back")
    if found.rejoined_after is not None:
        parts.append(f"clients joined again after {in_seconds(found.rejoined_after)}")
    if found.not_rejoined:
        parts.append(f"{counted(found.not_rejoined, 'client')} not joined again")
    lost = [
        counted(count, noun)
        for count, noun in ((found.messages_lost, "message"), (found.answers_lost, "answer"))
        if count
    ]
    parts.append(f"{' and '.join(lost)} lost" if lost else "nothing lost")
    return ", ".join(parts)
