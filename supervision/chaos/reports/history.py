"""A trace, put together again: lives of processes, messages and what became of them, faults and what they ended.

    history = read_history(lines)
    history.lives[0].path                 # "/top"
    history.faults[0].ended               # the lives that ended because of it

*pure*: nothing but the lines of a trace (see `supervision.recording.trace`), of a simulated run or of a live one.

Whose fault an end is, is found along the causes in the trace: from the event in which a process ended back to an
applied fault. A chain does not lead through the start of another process, because a process that was started again
begins a new life: what it does later is its own doing, unless it ends before it has received anything. An end that no
chain explains is still the fault's if the fault was done to this very process and the end is not a clean one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import define, field

__all__ = [
    "Event",
    "FaultMark",
    "History",
    "Key",
    "Letter",
    "Life",
    "Phase",
    "is_clean",
    "kind_of_text",
    "role_of",
]

Event: TypeAlias = Mapping[str, Any]
"""One line of a trace, decoded."""

Key: TypeAlias = tuple[int | str, int]
"""A process: its node, and its number there."""

_PARTITION = re.compile(r"/\d+(?=/)")
_EVENT = re.compile(r"\bevent='([^']*)'")
_INSIDE = re.compile(r"^(?:CallRequest|Cast|Call|Info)\((?:request|message)=(.*)$", re.DOTALL)


@define(eq=False, kw_only=True)
class Life:
    """One process, from its start to its end.

    Attributes:
        key: node and number.
        path: in the tree; several lives, one after the other or at a time, may have the same.
        incarnation: how many have had this path before it, and itself.
        parent: the key of the process that started it; its number is 0 if that is none.
        born, ended: seconds; `ended` is None for one that lived on when the trace ended.
        reason: why it ended, as text.
        born_event, ended_event: the numbers of these events.
        fault: the fault because of which it ended.
        crashed: whether it ended by an exception of its own.
        back: the life that took its place.
        restarted: whether a supervisor started it in the place of another.
        has_id: whether a supervisor knows it by an id, which is then the last part of its path.
    """

    key: Key
    path: str
    incarnation: int
    parent: Key
    born: float
    born_event: int
    ended: float | None = None
    ended_event: int | None = None
    reason: str | None = None
    fault: FaultMark | None = None
    crashed: bool = False
    back: Life | None = None
    restarted: bool = False
    has_id: bool = False

    @property
    def role(self) -> str:
        """What it was there for: its path. One without an id may as well run in another partition of its pool."""
        return self.path if self.has_id else role_of(self.path)

    @property
    def recovered_after(self) -> float | None:
        """Seconds from its end until another had taken its place; None if none has."""
        return None if self.back is None or self.ended is None else self.back.born - self.ended


@define(eq=False, kw_only=True)
class FaultMark:
    """One planned fault.

    Attributes:
        event: the number of its event.
        seconds: when.
        text: the fault, in words.
        type: the tag of its class: "kill".
        status: "applied", "masked" or "not_applicable".
        why: of a status that is not "applied".
        target: whom it was done to, if that was one process.
        path: of the target, or where else it was.
        ended: what ended because of it, in order.
    """

    event: int
    seconds: float
    text: str
    type: str
    status: str
    why: str | None
    target: Key | None
    path: str | None
    ended: list[Life] = field(factory=list)


@define(eq=False, kw_only=True)
class Letter:
    """One message.

    Attributes:
        event: the number of the event in which it was sent.
        sent, received: seconds; `received` is None if it never was.
        sender: the life that has sent it; None if no process has.
        receiver: whom it was for; None if that had ended before.
        kind: its kind, see `kind_of_text`.
        text: what it says.
        dropped: whether a fault has taken it out of the world.
    """

    event: int
    sent: float
    sender: Life | None
    receiver: Life | None
    kind: str
    text: str
    received: float | None = None
    received_event: int | None = None
    dropped: bool = False


@define(kw_only=True)
class Phase:
    """A part of an experiment: its name, and when it began and ended, in seconds."""

    name: str
    begin: float
    end: float


@define(eq=False, kw_only=True)
class History:
    """All of a run.

    Attributes:
        events: by their numbers.
        lives: in the order of their starts.
        letters: in the order of their sending.
        faults: in the order in which they were done.
        phases: before, during, after; empty if the run has none, as a simulated one.
        closing: when the ordered end of the run began; ends after that are no news.
        seconds: of the last event.
    """

    events: list[Event]
    lives: list[Life] = field(factory=list)
    letters: list[Letter] = field(factory=list)
    faults: list[FaultMark] = field(factory=list)
    phases: list[Phase] = field(factory=list)
    closing: float | None = None
    seconds: float = 0.0

    def is_closing(self, seconds: float) -> bool:
        """Whether the run was being closed at that time."""
        return self.closing is not None and seconds >= self.closing


def is_clean(reason: str | None) -> bool:
    """Whether a reason, as traces write it, is one of a clean end: normal, shutdown, or a shutdown with a detail."""
    return reason in {"Reason.NORMAL", "Reason.SHUTDOWN"} or (reason or "").startswith("Shutdown(")


def kind_of_text(text: str) -> str:
    """What kind of message it is, of which a trace has the text: its class, and its event if it has one.

    kind_of_text("Message(join_ref='1', topic='room:lobby', event='say', payload={})")     # "Message say"
    """
    inside = _INSIDE.match(text)
    if inside is not None:
        return kind_of_text(inside[1])
    if text.startswith(("'", '"')):
        return text[1:40].partition(text[0])[0]
    if text.startswith("("):
        return kind_of_text(text[1:])
    if text.startswith(("b'", 'b"')):
        return "bytes"
    name = re.match(r"[A-Za-z_][\w.]*", text)
    event = _EVENT.search(text)
    return " ".join([name[0] if name else text[:20], *([event[1]] if event else [])])


def role_of(path: str) -> str:
    """A path without the numbers of partitions: `/pool/1/room` is `/pool/*/room`."""
    return _PARTITION.sub("/*", path)
