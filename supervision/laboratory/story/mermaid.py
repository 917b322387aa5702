"""A story as Mermaid sequence diagrams, one for each incident.

*pure*. The diagrams work in Markdown on GitHub, in Jupyter and in documentation sites.
"""

from __future__ import annotations

from collections.abc import Iterator

from supervision.recording.reader.model import Incident, ProcessName, StoryModel
from supervision.recording.reader.sentences import recovery_in_words
from supervision.recording.reader.words import in_seconds

__all__ = ["write_mermaid"]

MOST = 60
"""The most steps in one diagram."""


def write_mermaid(story: StoryModel) -> str:
    """Write a story as Markdown with one Mermaid diagram for each incident.

    Args:
        story: the result of `tell_story`.

    Returns:
        The Markdown text.
    """
    parts = []
    for incident in story.incidents:
        title = f"## {incident.number}. {_plain(incident.fault.text)}"
        diagram = "\n".join(["```mermaid", *_diagram(incident), "```"])
        parts.append(f"{title}\n\n{diagram}\n\nRecovery: {recovery_in_words(incident)}\n")
    return "\n".join(parts)


class _Actors:
    """The participants of one diagram, in the order of their first step."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def __call__(self, process: ProcessName | str) -> str:
        name = str(process)
        return self.names.setdefault(name, f"p{len(self.names) + 1}")

    def lines(self) -> Iterator[str]:
        for name, id in self.names.items():
            yield f"    participant {id} as {_plain(name)}"


def _diagram(incident: Incident) -> Iterator[str]:
    actors = _Actors()
    rows = sorted(_rows(incident, actors), key=lambda row: row[:2])
    shown = rows[:MOST]
    yield "sequenceDiagram"
    yield from actors.lines()
    for _, _, row in shown:
        yield f"    {row}"
    if len(rows) > MOST:
        first = next(iter(actors.names.values()))
        yield f"    Note over {first}: ... {len(rows) - MOST} more ..."


def _rows(incident: Incident, actors: _Actors) -> Iterator[tuple[float, int, str]]:
    fault = incident.fault
    where = actors(fault.process if fault.process is not None else "the fault")
    yield fault.t, fault.event, f"Note over {where}: {in_seconds(fault.t)}: {_plain(fault.text)}"
    for death in incident.deaths:
        if death.event == fault.event:
            continue
        to = actors(death.process)
        if death.by is not None:
            arrow = "-x" if death.why == "link" else "->>"
            word = "link" if death.why == "link" else "shutdown"
            row = f"{actors(death.by)}{arrow}{to}: {in_seconds(death.t)}: {word}, {_plain(death.reason)}"
        else:
            row = f"Note over {to}: {in_seconds(death.t)}: ended with {_plain(death.reason)}"
        yield death.t, death.event, row
    for decision in incident.decisions:
        supervisor = actors(decision.supervisor)
        why = f" ({_plain(decision.why)})" if decision.why else ""
        text = f"{in_seconds(decision.t)}: {decision.action.replace('_', ' ')}{why}"
        if decision.action == "restarted" and decision.process is not None:
            row = f"{supervisor}->>{actors(decision.process)}: {text}"
        elif decision.action == "stopped":
            continue
        else:
            row = f"Note over {supervisor}: {text}: {_plain(decision.child)}"
        yield decision.t, decision.event, row
    for client in incident.clients:
        id = actors(client.client)
        place = "" if client.topic is None else f" in {_plain(client.topic)}"
        yield client.t, client.event, f"Note over {id}: {in_seconds(client.t)}: {client.saw}{place}"
        if client.rejoined is not None:
            yield (
                client.rejoined,
                client.rejoined_event or client.event,
                f"Note over {id}: {in_seconds(client.rejoined)}: joined again{place}",
            )


def _plain(text: str) -> str:
    """Return a text on one line, with Mermaid's special characters as character codes."""
    cut = " ".join(text.split())[:120]
    return "".join(f"#{ord(char)};" if char in '#;<>"`' else char for char in cut)
