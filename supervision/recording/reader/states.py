"""The processes, clients and incidents of a story while its reader collects them."""

from __future__ import annotations

from typing import Any, TypeAlias

from attrs import define, field

from supervision.recording.reader.model import Decision, FaultStory, Linked, Loss, ProcessName

__all__ = ["ClientState", "Event", "IncidentState", "Key", "ProcessState"]

Event: TypeAlias = dict[str, Any]
"""A decoded line of a trace."""

Key: TypeAlias = tuple[int | str, int]
"""A process: the label of its runtime, and its number there."""


@define(eq=False)
class ProcessState:
    """The facts about a process that the reader has found so far."""

    key: Key
    name: ProcessName
    role: str
    parent: Key
    born: float
    ended: Event | None = None
    incident: IncidentState | None = None
    # The restart type, from the supervisor's event about the end of this process.
    restart_type: str | None = None
    back: ProcessState | None = None
    # The incident in which a supervisor started this process, until the start is complete.
    starting_in: IncidentState | None = None
    why: str = ""
    by: ProcessName | None = None


@define(eq=False)
class ClientState:
    """A client that an incident affected, with its later join."""

    event: Event
    connection: ProcessState | None
    id: str | None
    topic: str | None
    saw: str
    code: int | None = None
    why: str | None = None
    unanswered: int = 0
    rejoined: Event | None = None
    certain: bool = True


@define(eq=False)
class IncidentState:
    """The parts of an incident that the reader has found so far."""

    fault: FaultStory
    deaths: list[ProcessState] = field(factory=list)
    linked: list[Linked] = field(factory=list)
    decisions: list[Decision] = field(factory=list)
    losses: list[Loss] = field(factory=list)
    clients: list[ClientState] = field(factory=list)
