"""Exit reasons, and the one table that says what an exit signal does.

A process ends with a *reason*. The runtime itself uses the constants below, `Shutdown` and `Crash`; an application may
use any other value. Supervisors, links and loggers treat three of them as a clean end: `NORMAL`, `SHUTDOWN` and
`Shutdown(...)`; `is_normal_exit` answers that question.

The table in `judge` is Erlang's, evaluated at the receiver at the moment of reception.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

from attrs import field, frozen

__all__ = [
    "CALLING_SELF",
    "KILL",
    "KILLED",
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
    """The exit reasons that the runtime gives a meaning of its own.

    Each is also a constant of this module: write `NORMAL`, not `Reason.NORMAL`.
    """

    NORMAL = "normal"
    SHUTDOWN = "shutdown"
    KILL = "kill"
    KILLED = "killed"
    NOPROC = "noproc"
    TIMEOUT = "timeout"
    CALLING_SELF = "calling_self"

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__


NORMAL: Final = Reason.NORMAL
"""The process finished what it was for."""
SHUTDOWN: Final = Reason.SHUTDOWN
"""It was asked to stop, usually by its supervisor."""
KILL: Final = Reason.KILL
"""As a signal: die now, untrappably. As a reason it is seen only where a process exits itself with it."""
KILLED: Final = Reason.KILLED
"""What a process dies of when it was sent `KILL`."""
NOPROC: Final = Reason.NOPROC
"""There was no such process."""
TIMEOUT: Final = Reason.TIMEOUT
"""Something took longer than it was given."""
CALLING_SELF: Final = Reason.CALLING_SELF
"""A process called itself, which could never be answered."""

ExitReason: TypeAlias = object
"""Any value: one of `Reason`, a `Shutdown`, a `Crash`, or whatever an application passes to `exit`."""


@frozen
class Shutdown:
    """A clean end with something to say: `exit(Shutdown("left the room"))`. Erlang's `{shutdown, Term}`."""

    detail: object


def _exception_key(exception: BaseException) -> tuple[type[BaseException], str]:
    return type(exception), repr(exception.args)


@frozen
class Crash:
    """The process died of an exception that nobody caught.

    Two crashes are equal when their exceptions have the same type and arguments, so that a reason can be compared in
    a test: `assert reason == Crash(ValueError("no such room"))`. The exception keeps its traceback.
    """

    exception: BaseException = field(eq=_exception_key)

    def __str__(self) -> str:
        return f"{type(self.exception).__name__}: {self.exception}"


def is_normal_exit(reason: ExitReason) -> bool:
    """Whether a reason means a clean end: `NORMAL`, `SHUTDOWN` or a `Shutdown`.

    Clean ends are not logged as crashes and do not make a supervisor restart a transient child.
    """
    return reason is NORMAL or reason is SHUTDOWN or type(reason) is Shutdown


class Verdict(enum.Enum):
    """What reception of an exit signal does to its receiver."""

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
    """Decide what an exit signal does, by the rows of Erlang's table in their order.

        judge(KILL, linked=False, trapping=True)      # (Verdict.DIE, KILLED)

    Args:
        reason: the reason that the signal carries.
        linked: it was sent because a linked process ended, not by `send_exit`.
        trapping: the receiver traps exits.
        from_self: sender and receiver are the same process.

    Returns:
        What happens, and the reason that the message or the death carries.
    """
    if not linked and reason is KILL:
        return Verdict.DIE, KILLED
    if trapping:
        return Verdict.DELIVER, reason
    if reason is NORMAL and not from_self:
        return Verdict.DROP, reason
    # A KILL that travels over a link stays KILL: only the direct one is untrappable, and only that is renamed.
    return Verdict.DIE, reason
