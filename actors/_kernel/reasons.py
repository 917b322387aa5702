"""From the exception that ended a process to the one reason that its peers see."""

from __future__ import annotations

import trio

from actors.errors import ProcessExit, ProcessKilled
from actors.exits import Crash, ExitReason

__all__ = ["escaping", "only_exits", "only_unwinding", "reason_of"]


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]


def reason_of(error: BaseException) -> ExitReason:
    """The exit reason for an exception that a process did not catch and that no accepted signal explains.

    A process may use nurseries of its own, so the error may be a group. What cancellation left in it says nothing; if
    a single exception remains it is the crash, and if several exits remain that agree, they are one exit. Anything
    else is a crash with the group.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error.reason if isinstance(error, ProcessExit) else Crash(error)
    leaves = [
        leaf for leaf in _leaves(error) if not isinstance(leaf, (trio.Cancelled, ProcessKilled))
    ]
    exits = [leaf.reason for leaf in leaves if isinstance(leaf, ProcessExit)]
    if leaves and len(exits) == len(leaves) and all(reason == exits[0] for reason in exits):
        return exits[0]
    return Crash(leaves[0] if len(leaves) == 1 else error)


def only_unwinding(error: BaseException) -> bool:
    """Whether an exception says no more than that its process is ending."""
    return all(
        isinstance(leaf, (trio.Cancelled, ProcessKilled, ProcessExit)) for leaf in _leaves(error)
    )


def only_exits(error: BaseException) -> bool:
    """Whether an exception is an exit or a kill of a process, or several of them, and no cancellation from outside."""
    return all(isinstance(leaf, (ProcessKilled, ProcessExit)) for leaf in _leaves(error))


def escaping(error: BaseException) -> BaseException | None:
    """The KeyboardInterrupt or SystemExit in an exception, if there is one: it ends the runtime, not one process."""
    if isinstance(error, Exception) and not isinstance(error, ExceptionGroup):
        return None
    for leaf in _leaves(error):
        if isinstance(leaf, (KeyboardInterrupt, SystemExit)):
            return leaf
    return None
