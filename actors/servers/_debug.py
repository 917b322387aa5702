"""What a server remembers about itself while somebody looks: statistics, a log of events, a trace, hooks.

*pure* but for the hooks, which are the looker's own code. A server that nobody looks at has no `Debug` at all.
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
"""What a hook returns to be removed."""


@frozen
class DebugEvent:
    """Something that happened in a server.

    - `kind`: `"in"` for a message that it took, `"out"` for an answer to a call, `"noreply"` for a callback that
      ended without one;
    - `what`: the message, the answer, or the state.
    """

    kind: str
    what: Any


Hook: TypeAlias = Callable[[Any, DebugEvent], Any]
"""Called in the server with the hook's state and an event; returns its new state, or `DONE` to be removed."""


@frozen(kw_only=True)
class ServerStatistics:
    """What a server has done since its statistics were turned on.

    - `since`, `now`: times on Trio's clock;
    - `messages_in`: messages that it took, requests of `actors.sys` left out;
    - `messages_out`: answers to calls; what its callbacks send is not counted.
    """

    since: float
    now: float
    messages_in: int
    messages_out: int


class Debug:
    """The debug options of one server that are turned on."""

    def __init__(self) -> None:
        self.log: deque[DebugEvent] | None = None
        self.trace: Callable[[str], object] | None = None
        self.hooks: dict[object, tuple[Hook, Any]] = {}
        self.since: float | None = None
        self.messages_in = 0
        self.messages_out = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is turned on, so that the server can forget about this."""
        return self.log is None and self.trace is None and not self.hooks and self.since is None

    def count_from(self, now: float) -> None:
        """Turn statistics on, from zero."""
        self.since = now
        self.messages_in = self.messages_out = 0

    def statistics(self, now: float) -> ServerStatistics | None:
        """The statistics so far; None if they are off."""
        if self.since is None:
            return None
        return ServerStatistics(
            since=self.since,
            now=now,
            messages_in=self.messages_in,
            messages_out=self.messages_out,
        )

    def happened(self, kind: str, what: Any, who: str) -> None:
        """Take note of an event in the server `who`."""
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
            except (
                Exception
            ):  # the hook's bug ends the hook, as in OTP, and not the server that is looked at
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
    """What is known of a server, as `actors.sys.get_status` and crash reports show it.

    A server redacts it by overriding `format_status`.

    - `state`: its state; `message`: the last one that it handled; `reason`: why it ended, in crash reports;
    - `log`: the events that `actors.sys.log` has kept;
    - `pid`, `server`, `dictionary`, `suspended`: which server this is;
    - `parent`: the process whose end stops it. That is the one it was started linked to, the runtime if no process
      started it, and otherwise the server itself.
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
    """What a server wants to be known of it. If it fails to say, nothing of its own is shown."""
    try:
        shown = format_status(status)
        if isinstance(shown, ServerStatus):
            return shown
        problem = f"format_status returned {type(shown).__name__}, not the status"
    except Exception as error:  # a report about a crash must not be stopped by another bug
        problem = f"format_status raised {type(error).__name__}"
    marker = f"<hidden: {problem}>"
    status.state = status.message = marker
    status.log = []
    return status
