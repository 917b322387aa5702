"""Cheap queries about processes, for observers that read ten thousand processes at a time.

    current_function(pid)          # "shop.Counter.handle_call:41"

`Runtime.process_info` returns most facts about one process. These functions read one value each, and send no message.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from actors._kernel.runtime import record_of
from actors.refs import Pid

__all__ = [
    "current_function",
    "ended",
    "is_server",
    "sleeping_before_a_message",
    "status_of",
    "waiting_messages",
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


def waiting_messages(pids: Iterable[Pid]) -> dict[Pid, int]:
    """Return the lengths of the mailboxes that are not empty."""
    found = {}
    for pid in pids:
        process = record_of(pid)
        if process is not None and (length := len(process.mailbox)):
            found[pid] = length
    return found


def sleeping_before_a_message(pids: Iterable[Pid]) -> list[tuple[Pid, Any]]:
    """Return the processes that wait for a message although their receive has one to look at, and their oldest message.

    A process is in this list for a moment, between the arrival of a message and the process's next step.
    """
    found = []
    for pid in pids:
        process = record_of(pid)
        if process is not None and process.sleeps_before_a_message:
            found.append((pid, next(iter(process.mailbox.queue))))
    return found


def ended(pids: Iterable[Pid]) -> list[Pid]:
    """Return the processes that have ended."""
    return [pid for pid in pids if pid.process is None]


def status_of(pid: Pid) -> str | None:
    """Return the `status` of `Runtime.process_info`; None if the process has ended."""
    process = record_of(pid)
    return None if process is None else process.status


def is_server(pid: Pid) -> bool:
    """Return whether a living process is a server, which answers the requests of `actors.sys`."""
    process = record_of(pid)
    return process is not None and process.is_server
