"""Exit reasons of processes that raised an exception."""

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
    """Return the exit reason for an exception that a process did not catch, when no accepted signal explains it.

    A process may use nurseries of its own, so the error may be a group. Cancellations in the group are ignored. If one
    exception remains, it is the crash. If several exits remain that agree, they are one exit. In every other case the
    group is the crash.
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
    """Return True if an exception contains only cancellations, exits and kills: the process is ending anyway."""
    return all(
        isinstance(leaf, (trio.Cancelled, ProcessKilled, ProcessExit)) for leaf in _leaves(error)
    )


def only_exits(error: BaseException) -> bool:
    """Return True if an exception contains only exits and kills of a process, and no cancellation from outside."""
    return all(isinstance(leaf, (ProcessKilled, ProcessExit)) for leaf in _leaves(error))


def escaping(error: BaseException) -> BaseException | None:
    """Return the KeyboardInterrupt or SystemExit in an exception, or None. It ends the runtime, not one process."""
    if isinstance(error, Exception) and not isinstance(error, ExceptionGroup):
        return None
    for leaf in _leaves(error):
        if isinstance(leaf, (KeyboardInterrupt, SystemExit)):
            return leaf
    return None
