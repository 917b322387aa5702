"""Aliases: addresses of a process that it can take back.

    reply_to = alias(once=True)
    send(server, ("please answer", reply_to))
    try:
        answer = await receive(timeout=1)
    except trio.TooSlowError:
        unalias(reply_to)                     # an answer that comes now finds nobody

A pid is an address for ever, so whoever got it may still write when nobody wants to hear. An alias stops leading
anywhere when its process says so, and late messages vanish, as those for a dead process do. `call` has no need of
them: its answers cannot come late.

After Erlang's process aliases; one for a single message (`once`) is its `reply` kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from actors._kernel.process import require_process
from actors.addresses import Via

if TYPE_CHECKING:
    from actors._kernel.process import Process
    from actors.refs import Pid
    from actors.runtime import Runtime

__all__ = ["Alias", "alias", "unalias"]


@final
class Alias(Via):
    """An address of one process, made by `alias`. Compared by identity."""

    __slots__ = ("_number", "_once", "_process")

    forgiving = True

    def __init__(self, number: int, process: Process, once: bool) -> None:
        self._number = number
        self._process: Process | None = process
        self._once = once

    def __repr__(self) -> str:
        return f"<alias {self._number}>"

    def whereis(self, runtime: Runtime) -> Pid | None:
        """Whom a message to this alias reaches now. Asking one that is good for a single message uses it up."""
        process = self._process
        if process is None:
            return None
        if self._once or process.dead:
            self._process = None
        return None if process.dead else process.pid


def alias(*, once: bool = False) -> Alias:
    """Make a new address of the current process, good until `unalias` or the end of the process.

    Args:
        once: it is good for one message; the first that uses it is the last.
    """
    process = require_process("alias")
    return Alias(process.runtime.next_ref(), process, once)


def unalias(address: Alias) -> bool:
    """Take an alias of the current process back. Returns whether it still led here.

    What is in the mailbox already stays there; everything later finds nobody.
    """
    process = require_process("unalias")
    if address._process is not process:
        return False
    address._process = None
    return True
