"""Cheap queries about processes, for observers that read ten thousand processes at a time.

    current_function(pid)          # "shop.Counter.handle_call:41"

`Runtime.process_info` returns most facts about one process. These functions read one value each, and send no message.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from actors._kernel.runtime import Runtime, record_of
from actors.refs import Pid

__all__ = [
    "current_function",
    "is_server",
    "messages_of",
    "scan",
    "sleeping_before_a_message",
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


def messages_of(pid: Pid) -> list[Any]:
    """Return the messages in the mailbox of a process, the oldest first. The list is empty if the process has ended."""
    process = record_of(pid)
    return [] if process is None else list(process.mailbox.queue)


def sleeping_before_a_message(runtime: Runtime) -> list[tuple[Pid, Any]]:
    """Return the sleeping processes with a message that their `receive` has not looked at, and their oldest messages.

    Between the arrival of a message and the next step of its process, the process is in this list for a moment.
    """
    # The check of the queue comes first, because it is cheap and nearly all mailboxes are empty.
    return [
        (process.pid, next(iter(process.mailbox.queue)))
        for process in runtime.table.values()
        if process.mailbox.queue and process.sleeps_before_a_message
    ]


def status_of(pid: Pid) -> str | None:
    """Return the `status` of `Runtime.process_info`; None if the process has ended."""
    process = record_of(pid)
    return None if process is None else process.status


def is_server(pid: Pid) -> bool:
    """Return True if a living process is a server. A server answers the requests of `actors.sys`."""
    process = record_of(pid)
    return process is not None and process.is_server
