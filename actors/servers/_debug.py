"""The status of a server, and its debug options: statistics, a log of events, a trace, hooks.

*pure* except for the hooks, which are the user's code. A server without debug options has no `Debug` object.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import define, field, frozen

from actors.exits import ExitReason
from actors.refs import Pid

__all__ = [
    "DONE",
    "Debug",
    "DebugEvent",
    "Hook",
    "ServerStatistics",
    "ServerStatus",
    "SystemFailure",
    "redacted",
]

DONE = object()
"""A hook returns this to be removed."""


@frozen
class DebugEvent:
    """An event in a server.

    Attributes:
        kind: `"in"` for a message that the server took, `"out"` for an answer to a call, `"noreply"` for a callback
            that ended without one.
        what: The message, the answer, or the state.
    """

    kind: str
    what: Any


Hook: TypeAlias = Callable[[Any, DebugEvent], Any]
"""A function of the hook's state and an event, called in the server. Returns its new state, or `DONE`."""


@frozen(kw_only=True)
class ServerStatistics:
    """The work of a server since its statistics were turned on.

    Attributes:
        since: The start, on Trio's clock.
        now: The time of the request, on Trio's clock.
        messages_in: The messages that the server took, without requests of `actors.sys`.
        messages_out: The answers to calls. Messages that its callbacks send are not counted.
    """

    since: float
    now: float
    messages_in: int
    messages_out: int


class Debug:
    """The active debug options of one server."""

    def __init__(self) -> None:
        self.log: deque[DebugEvent] | None = None
        self.trace: Callable[[str], object] | None = None
        self.hooks: dict[object, tuple[Hook, Any]] = {}
        self.since: float | None = None
        self.messages_in = 0
        self.messages_out = 0

    @property
    def idle(self) -> bool:
        """True if no option is active, so the server can drop this object."""
        return self.log is None and self.trace is None and not self.hooks and self.since is None

    def count_from(self, now: float) -> None:
        """Turn statistics on, from zero."""
        self.since = now
        self.messages_in = self.messages_out = 0

    def statistics(self, now: float) -> ServerStatistics | None:
        """Return the statistics so far; None if they are off."""
        if self.since is None:
            return None
        return ServerStatistics(
            since=self.since,
            now=now,
            messages_in=self.messages_in,
            messages_out=self.messages_out,
        )

    def happened(self, kind: str, what: Any, who: str) -> None:
        """Record an event in the server `who`."""
        if kind == "in":
            self.messages_in += 1
        elif kind == "out":
            self.messages_out += 1
        event = DebugEvent(kind, what)
        if self.log is not None:
            self.log.append(event)
        if self.trace is not None:
            self.trace(f"{who} {_ARROWS[kind]} {what!r}")
        for key, (hook, state) in list(self.hooks.items()):
            try:
                state = hook(state, event)
            except Exception:  # the hook's bug ends the hook and not the server, as in OTP
                state = DONE
            if state is DONE:
                del self.hooks[key]
            else:
                self.hooks[key] = (hook, state)


_ARROWS = {"in": "<-", "out": "->", "noreply": "=="}


@define
class SystemFailure:
    """The answer to a request that raised."""

    error: Exception


@define(kw_only=True)
class ServerStatus:
    """The status of a server, as `actors.sys.get_status` and crash reports show it.

    A server redacts it by overriding `format_status`.

    Attributes:
        pid: The process.
        server: The name of the class.
        parent: The process whose end stops it: the one that it was started linked to, the runtime if no process started
            it, and otherwise the server itself.
        dictionary: The process dictionary.
        suspended: `actors.sys.suspend` has suspended it.
        state: Its state.
        message: The last message that it handled.
        reason: The reason of its end, in crash reports.
        log: The events that `actors.sys.log` has kept.
    """

    pid: Pid
    server: str
    parent: Pid
    dictionary: dict[Any, Any] = field(factory=dict)
    suspended: bool = False
    state: Any = None
    message: Any = None
    reason: ExitReason = None
    log: list[Any] = field(factory=list)


def redacted(
    format_status: Callable[[ServerStatus], ServerStatus], status: ServerStatus
) -> ServerStatus:
    """Return the status after `format_status`. If that fails, return one that hides the server's own data."""
    try:
        shown = format_status(status)
        if isinstance(shown, ServerStatus):
            return shown
        problem = f"format_status returned {type(shown).__name__}, not the status"
    except Exception as error:  # another bug must not prevent a crash report
        problem = f"format_status raised {type(error).__name__}"
    marker = f"<hidden: {problem}>"
    status.state = status.message = marker
    status.log = []
    return status
