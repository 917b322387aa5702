"""The processes, clients and incidents of a story while its reader collects them."""

from __future__ import annotations

from typing import Any, TypeAlias

from attrs import define, field

from supervision.story.model import Decision, FaultStory, Linked, Loss, ProcessName

__all__ = ["ClientState", "Event", "IncidentState", "Key", "ProcessState"]

Event: TypeAlias = dict[str, Any]
"""A decoded line of a trace."""

Key: TypeAlias = tuple[int | str, int]
"""A process: the label of its runtime, and its number there."""


@define(eq=False)
class ProcessState:
    """A process while the reader knows it."""

    key: Key
    name: ProcessName
    role: str
    parent: Key
    born: float
    ended: Event | None = None
    incident: IncidentState | None = None
    # The supervisor's event about its end: the restart type of the child.
    restart_type: str | None = None
    back: ProcessState | None = None
    # The incident in which a supervisor started it, until the start is complete.
    starting_in: IncidentState | None = None
    why: str = ""
    by: ProcessName | None = None


@define(eq=False)
class ClientState:
    """One client that saw something, until it is joined again."""

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
    """An incident while the reader collects it."""

    fault: FaultStory
    deaths: list[ProcessState] = field(factory=list)
    linked: list[Linked] = field(factory=list)
    decisions: list[Decision] = field(factory=list)
    losses: list[Loss] = field(factory=list)
    clients: list[ClientState] = field(factory=list)
