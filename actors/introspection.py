"""Cheap queries about processes, for observers that read ten thousand processes at a time.

    current_function(pid)          # "shop.Counter.handle_call:41"

`Runtime.process_info` returns most facts about one process. These functions read one value each, and send no message.
"""

from __future__ import annotations

from collections.abc import Iterable

from actors._kernel.runtime import record_of
from actors.refs import Pid

__all__ = [
    "current_function",
    "is_server",
    "scan",
    "status_of",
]


def current_function(pid: Pid) -> str | None:
    """Return the function that a process runs or waits in, as `module.function:line`.

    This is the innermost function outside Trio and `actors`. If the process is only in functions of Trio and `actors`,
    this is the innermost function of `actors`.

    Returns:
        None if the process has ended or has not taken its first step.
    """
    process = record_of(pid)
    return None if process is None else process.current_function()


def scan(pids: Iterable[Pid]) -> tuple[dict[Pid, int], list[Pid]]:
    """Return the lengths of the non-empty mailboxes by pid, and the processes that have ended.

    This is one loop without function calls, because a watched program may have many thousands of processes.
    """
    waiting, ended = {}, []
    for pid in pids:
        process = pid.process
        if process is None:
            ended.append(pid)
        elif process.mailbox.queue:
            waiting[pid] = len(process.mailbox.queue)
    return waiting, ended


def status_of(pid: Pid) -> str | None:
    """Return the `status` of `Runtime.process_info`; None if the process has ended."""
    process = record_of(pid)
    return None if process is None else process.status


def is_server(pid: Pid) -> bool:
    """Return True if a living process is a server. A server answers the requests of `actors.sys`."""
    process = record_of(pid)
    return process is not None and process.is_server
