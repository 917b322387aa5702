"""Going through a trace once, to put a history together. See `supervision.chaos.reports.history`. *pure*."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import msgspec

from supervision.chaos.reports.history import (
    Event,
    FaultMark,
    History,
    Key,
    Letter,
    Life,
    Phase,
    is_clean,
    kind_of_text,
    role_of,
)

__all__ = ["read_history"]

# Such a fault ends a process in a way that looks clean.
_ENDS_CLEANLY = frozenset(("reset_connection", "half_open", "exit_with", "partition"))


def read_history(lines: Iterable[bytes]) -> History:
    """Put the lines of a trace together.

    Args:
        lines: of `Trace.lines`, or from `read_lines`. Numbers need not be without gaps: a live trace may have left
            out messages.
    """
    decode = msgspec.json.Decoder().decode
    reader = _Reader([decode(line) for line in lines])
    for event in reader.history.events:
        reader.take(event)
    return reader.finish()


class _Reader:
    """Goes through a trace once."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.history = History(events=list(events))
        self.living: dict[Key, Life] = {}
        self.known: dict[Key, Life] = {}
        # For each event the applied fault that it goes back to; and the lives that events have started.
        self.faults: dict[int, FaultMark] = {}
        self.births: dict[int, Life] = {}
        self.applied: dict[Key, FaultMark] = {}
        # For each process the last signal that reached it.
        self.signals: dict[Key, int] = {}
        # For each path the ends that nobody has made good yet.
        self.missing: dict[str, deque[Life]] = {}
        self.sent: dict[int, Letter] = {}
        # For each connection, by its name, the process that serves it.
        self.servers: dict[str, Key] = {}
        self.takers = {
            "spawned": self.spawned,
            "exited": self.exited,
            "sent": self.message_sent,
            "received": self.message_received,
            "signal": self.signal,
            "child_started": self.child_started,
            "child_restarted": self.child_restarted,
            "node_killed": self.node_killed,
            "serves": self.serves,
            "fault": self.fault,
            "fault_over": self.fault_over,
            "phase": self.phase,
        }

    def take(self, event: Event) -> None:
        self.history.seconds = max(self.history.seconds, event["t"])
        self._inherit(event)
        taker = self.takers.get(event["kind"])
        if taker is not None:
            taker(event)

    def finish(self) -> History:
        phases = self.history.phases
        for phase, following in pairwise(phases):
            phase.end = following.begin
        if phases:
            closing = self.history.closing
            phases[-1].end = self.history.seconds if closing is None else closing
        return self.history

    # Causes

    def _inherit(self, event: Event) -> None:
        cause: int = event.get("cause", -1)
        if (
            cause < 0
            and event["kind"] == "received"
            and event.get("message", "").startswith("Exit(")
        ):
            # From somebody who lives, as a supervisor that stops its children: known by the signal that brought it.
            cause = self.signals.get(self._key(event), -1)
        fault = self.faults.get(cause)
        if fault is None:
            return
        born = self.births.get(cause)
        if born is not None and event["kind"] != "exited":
            return
        self.faults[event["n"]] = fault

    def _key(self, event: Event, name: str = "pid") -> Key:
        return event.get("node", 0), event.get(name) or 0

    # Processes

    def spawned(self, event: Event) -> None:
        key = self._key(event)
        life = Life(
            key=key,
            path=event["path"],
            incarnation=event["inc"],
            parent=self._key(event, "parent"),
            born=event["t"],
            born_event=event["n"],
        )
        self.history.lives.append(life)
        self.living[key] = self.known[key] = self.births[event["n"]] = life
        missing = self.missing.get(life.path) or self.missing.get(role_of(life.path))
        if missing:
            missing.popleft().back = life

    def exited(self, event: Event) -> None:
        life = self.living.pop(self._key(event), None)
        if life is None:
            return
        self._end(life, event, event["reason"])

    def _end(self, life: Life, event: Event, reason: str) -> None:
        life.ended, life.ended_event = event["t"], event["n"]
        life.reason = reason
        life.crashed = reason.startswith("Crash(")
        fault = self.faults.get(event["n"])
        if fault is None:
            fault = self._done_to(life)
        if self.history.closing is not None:
            return
        if fault is not None:
            self.faults[event["n"]] = life.fault = fault
            fault.ended.append(life)
        if fault is not None or not is_clean(reason):
            self.missing.setdefault(life.role, deque()).append(life)

    def node_killed(self, event: Event) -> None:
        # Nothing of it runs any more, so none of its processes says that it ends.
        name = _node_name(event["node"])
        for key in [key for key in self.living if _node_name(key[0]) == name]:
            self._end(self.living.pop(key), event, "the node was killed")

    def _done_to(self, life: Life) -> FaultMark | None:
        fault = self.applied.get(life.key)
        if fault is not None and (fault.type in _ENDS_CLEANLY or not is_clean(life.reason)):
            return fault
        return None

    def child_started(self, event: Event) -> Life | None:
        life = self.known.get(self._key(event, "child"))
        if life is not None:
            id = event["id"]
            component = id[1:-1] if id[:1] in {"'", '"'} else id
            life.has_id = life.path.endswith(f"/{component}")
        return life

    def child_restarted(self, event: Event) -> None:
        life = self.child_started(event)
        if life is not None:
            life.restarted = True

    def signal(self, event: Event) -> None:
        self.signals[self._key(event, "to")] = event["n"]
        # The runtime itself asks the top processes to stop when its block is left.
        asked = self._key(event)[1] == 0 and event["reason"] == "Reason.SHUTDOWN"
        if asked and event.get("cause") is None and not event["linked"]:
            self._close(event["t"])

    def _close(self, seconds: float) -> None:
        if self.history.closing is None:
            self.history.closing = seconds

    # Messages

    def message_sent(self, event: Event) -> None:
        key = (event.get("node", 0), event["to"])
        sender = event.get("pid")
        text = event["message"]
        letter = Letter(
            event=event["n"],
            sent=event["t"],
            sender=None if sender is None else self.known.get(self._key(event)),
            receiver=self.living.get(key),
            kind=kind_of_text(text),
            text=text,
        )
        self.history.letters.append(letter)
        self.sent[event["n"]] = letter

    def message_received(self, event: Event) -> None:
        letter = self.sent.get(event.get("cause", -1))
        if letter is not None:
            letter.received, letter.received_event = event["t"], event["n"]

    # The experiment

    def serves(self, event: Event) -> None:
        self.servers[event["connection"]] = self._key(event)

    def fault(self, event: Event) -> None:
        target = self.servers.get(event["path"]) if event.get("pid") is None else self._key(event)
        mark = FaultMark(
            event=event["n"],
            seconds=event["t"],
            text=event["fault"],
            type=event["type"],
            status=event["status"],
            why=event.get("why"),
            target=target,
            path=event.get("path"),
        )
        self.history.faults.append(mark)
        if mark.status == "applied":
            self.faults[event["n"]] = mark
            if mark.target is not None:
                self.applied[mark.target] = mark
            dropped = self.sent.get(event.get("message", -1))
            if dropped is not None and mark.type == "drop_message":
                dropped.dropped = True

    def fault_over(self, event: Event) -> None:
        # It was done, and came to nothing.
        for mark in reversed(self.history.faults):
            if mark.text == event["fault"] and mark.status == "applied":
                mark.status, mark.why = event["status"], event.get("why")
                return

    def phase(self, event: Event) -> None:
        if event["phase"] == "closing":
            self._close(event["t"])
            return
        begin = event["t"]
        self.history.phases.append(Phase(name=event["phase"], begin=begin, end=begin))


def _node_name(node: int | str) -> str:
    """The name of a node without the number of its life: that of `a#2` is `a`."""
    return str(node).partition("#")[0]
