"""Questions about processes that observers ask very often, for ten thousand processes at a time.

    current_function(pid)          # "shop.Counter.handle_call:41"

`Runtime.process_info` answers most questions about one process. These functions read one value each. None of them
sends a message.
"""

from __future__ import annotations

from actors._kernel.runtime import record_of
from actors.refs import Pid

__all__ = ["current_function", "is_server", "queue_length"]


def current_function(pid: Pid) -> str | None:
    """Return the function that a process runs or waits in, as `module.function:line`.

    This is the innermost function of the process that belongs neither to Trio nor to `actors`. A process that waits for
    its next message may be in functions of `actors` only. Then it is the innermost of those.

    Returns:
        None if the process has ended or has not taken its first step.
    """
    process = record_of(pid)
    return None if process is None else process.current_function()


def queue_length(pid: Pid) -> int:
    """Return the number of messages in the mailbox of a process; 0 if it has ended."""
    process = record_of(pid)
    return 0 if process is None else len(process.mailbox)


def is_server(pid: Pid) -> bool:
    """Return whether a living process is a server, which answers the requests of `actors.sys`."""
    process = record_of(pid)
    return process is not None and process.is_server
