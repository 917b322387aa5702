"""Traces that are written by hand, one call for each event."""

from __future__ import annotations

from typing import Any

import msgspec

from supervision.laboratory.chaos.live.outcome import LiveOutcome


class HandMade:
    """A trace in the making: each method adds an event at a time, and answers its number."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def add(self, t: float, kind: str, **fields: Any) -> int:
        number = len(self.lines)
        event = {"n": number, "t": t, "round": 0, "task": 0, "kind": kind, **fields}
        self.lines.append(msgspec.json.encode(event))
        return number

    def spawned(
        self,
        t: float,
        pid: int,
        path: str,
        *,
        parent: int = 0,
        inc: int = 1,
        role: str | None = None,
        **more: Any,
    ) -> int:
        role = path if role is None else role
        return self.add(t, "spawned", pid=pid, parent=parent, path=path, inc=inc, role=role, **more)

    def exited(self, t: float, pid: int, reason: str, *, cause: int | None = None) -> int:
        # A reader takes the path from the start of the process.
        more = {} if cause is None else {"cause": cause}
        return self.add(
            t, "exited", pid=pid, path="", inc=1, reason=reason, exit=EXITS[reason], **more
        )

    def signal(self, t: float, pid: int, to: int, reason: str, **fields: Any) -> int:
        return self.add(t, "signal", pid=pid, to=to, reason=reason, exit=EXITS[reason], **fields)

    def sent(self, t: float, to: int, message: str, *, pid: int | None = None) -> int:
        """A message, whose text is its kind, too."""
        about = {"via": "info", "message_kind": message, "message": repr(message)}
        return self.add(t, "sent", pid=pid, to=to, **about)

    def received(self, t: float, pid: int, *, cause: int) -> int:
        return self.add(t, "received", pid=pid, cause=cause)

    def fault(self, t: float, text: str = "a fault", **fields: Any) -> int:
        about = {"pid": None, "path": "", "type": "kill", "status": "applied", **fields}
        return self.add(t, "fault", fault=text, **about)

    def child(self, t: float, kind: str, child: int, id: str) -> int:
        return self.add(t, kind, pid=1, id=f"'{id}'", component=id, child=child)

    def phases(self, *begins: float) -> None:
        """All three phases, and the closing, at these times. To be called at the end."""
        names = ("before", "during", "after", "closing")
        for name, begin in zip(names, begins, strict=False):
            self.add(begin, "phase", pid=None, phase=name)
        # Phases are told as they happen, so they stand among the other events.
        decoded = sorted(map(msgspec.json.decode, self.lines), key=lambda event: event["t"])
        self.lines = [msgspec.json.encode(event) for event in decoded]


CRASH = "Crash(exception=RuntimeError('no'))"
KILLED = "Reason.KILLED"
NORMAL = "Reason.NORMAL"
SHUTDOWN = "Reason.SHUTDOWN"
CLOSED = "Shutdown(detail='closed')"
EXITS = {
    CRASH: "crash",
    KILLED: "killed",
    NORMAL: "normal",
    SHUTDOWN: "shutdown",
    CLOSED: "shutdown_detail",
}


def live_outcome(trace: HandMade, **fields: Any) -> LiveOutcome:
    """Return the outcome of a live run that has this trace, with some of its fields replaced."""
    told: dict[str, Any] = {
        "scenario": "shop:day",
        "seed": 7,
        "params": {},
        "seconds": 60.0,
        "faults": (),
        "fault_reports": (),
        "sometimes": {},
        "problems": (),
        "error": None,
        "overloaded": False,
        "interrupted": False,
        "result": None,
        "trace": trace.lines,
    }
    return LiveOutcome(**{**told, **fields})
