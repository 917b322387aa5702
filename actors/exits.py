"""Exit reasons, and the rules for exit signals.

A process ends with a *reason*. The runtime itself uses the constants below, `Shutdown` and `Crash`. An application may
use any other value. Three reasons are a clean end for supervisors and loggers: `NORMAL`, `SHUTDOWN` and
`Shutdown(...)`. `is_normal_exit` recognises them.

The rules in `judge` are Erlang's. The runtime applies them when a signal arrives at its receiver.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

import msgspec
from attrs import field, frozen

__all__ = [
    "CALLING_SELF",
    "KILL",
    "KILLED",
    "NOCONNECTION",
    "NOPROC",
    "NORMAL",
    "SHUTDOWN",
    "TIMEOUT",
    "Crash",
    "ExitReason",
    "Reason",
    "Shutdown",
    "Verdict",
    "is_normal_exit",
    "judge",
]


class Reason(enum.Enum):
    """The exit reasons with a meaning for the runtime.

    Each member is also a constant of this module: write `NORMAL`, not `Reason.NORMAL`.
    """

    NORMAL = "normal"
    SHUTDOWN = "shutdown"
    KILL = "kill"
    KILLED = "killed"
    NOPROC = "noproc"
    NOCONNECTION = "noconnection"
    TIMEOUT = "timeout"
    CALLING_SELF = "calling_self"

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__


NORMAL: Final = Reason.NORMAL
"""The process finished its work."""
SHUTDOWN: Final = Reason.SHUTDOWN
"""Another process, usually the supervisor, asked the process to stop."""
KILL: Final = Reason.KILL
"""As a signal, it kills the receiver, which cannot trap it. As a reason, the process itself passed it to `exit`."""
KILLED: Final = Reason.KILLED
"""The reason of a process that got the signal `KILL`."""
NOPROC: Final = Reason.NOPROC
"""The process did not exist."""
NOCONNECTION: Final = Reason.NOCONNECTION
"""The node of the process is lost, so nobody here knows if the process has ended."""
TIMEOUT: Final = Reason.TIMEOUT
"""An operation took longer than its time limit."""
CALLING_SELF: Final = Reason.CALLING_SELF
"""A process called itself, so the call could never get an answer."""

ExitReason: TypeAlias = object
"""Any value: one of `Reason`, a `Shutdown`, a `Crash`, or a value that an application passes to `exit`."""


class Shutdown(msgspec.Struct, frozen=True):
    """A clean end with a detail: `exit(Shutdown("left the room"))`. Erlang's `{shutdown, Term}`."""

    detail: object


def _exception_key(exception: BaseException) -> tuple[type[BaseException], str]:
    return type(exception), repr(exception.args)


@frozen
class Crash:
    """The process raised an exception and did not catch it.

    Two crashes are equal if their exceptions have the same type and arguments, so a test can compare reasons:
    `assert reason == Crash(ValueError("no such room"))`. The exception keeps its traceback.
    """

    exception: BaseException = field(eq=_exception_key)

    def __str__(self) -> str:
        return f"{type(self.exception).__name__}: {self.exception}"


def is_normal_exit(reason: ExitReason) -> bool:
    """Return True for a clean end: `NORMAL`, `SHUTDOWN` or a `Shutdown`.

    The runtime does not log clean ends as crashes, and a supervisor does not restart a transient child for them.

    Args:
        reason: The exit reason of a process.
    """
    return reason is NORMAL or reason is SHUTDOWN or type(reason) is Shutdown


class Verdict(enum.Enum):
    """The effect of an exit signal on its receiver."""

    DROP = "drop"
    DELIVER = "deliver"
    DIE = "die"


def judge(
    reason: ExitReason,
    *,
    linked: bool,
    trapping: bool,
    from_self: bool = False,
) -> tuple[Verdict, ExitReason]:
    """Decide the effect of an exit signal. The code has the rows of Erlang's table, in the same order.

        judge(KILL, linked=False, trapping=True)      # (Verdict.DIE, KILLED)

    Args:
        reason: The reason that the signal carries.
        linked: True if a linked process ended, False if a process used `send_exit`.
        trapping: True if the receiver traps exits.
        from_self: True if sender and receiver are the same process.

    Returns:
        The effect, and the reason for the `Exit` message or for the end of the receiver.
    """
    if not linked and reason is KILL:
        return Verdict.DIE, KILLED
    if trapping:
        return Verdict.DELIVER, reason
    if reason is NORMAL and not from_self:
        return Verdict.DROP, reason
    # A receiver can trap a KILL from a link, and its reason stays KILL. It cannot trap a direct KILL, which becomes
    # KILLED.
    return Verdict.DIE, reason
