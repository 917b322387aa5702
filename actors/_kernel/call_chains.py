"""Who waits for whose answer, so that a circle of calls is found before it has run out of time.

Used in debug builds only (`open_runtime(debug=True)`): processes that call each other in a circle wait until the first
of their time limits, and that looks like a slow server. *pure*.
"""

from __future__ import annotations

from actors.errors import CallCycle
from actors.refs import Pid

__all__ = ["CallChains"]


class CallChains:
    """The calls that processes are waiting in, each with its own task."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[Pid, Pid] = {}

    def enter(self, caller: Pid, server: Pid, request: object, timeout: float) -> None:
        """A process begins to wait for a server.

        Raises:
            CallCycle: the server waits for somebody who waits for the caller, so none of them could ever answer.
        """
        chain = [caller, server]
        while (following := self._waiting.get(chain[-1])) is not None:
            chain.append(following)
            if following is caller:
                raise CallCycle(chain, server, request, timeout)
        self._waiting[caller] = server

    def leave(self, caller: Pid) -> None:
        """The wait of a process is over."""
        self._waiting.pop(caller, None)
