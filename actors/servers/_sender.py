"""Who waits for the answer to a call, and how the wait ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from trio.lowlevel import Abort, enable_ki_protection, reschedule

from actors.exits import ExitReason
from actors.refs import Pid

if TYPE_CHECKING:
    import trio

    from actors._kernel.process import Process

__all__ = ["Ended", "Sender"]

_EXPIRED = object()
_CANCELLED = object()


@final
class Sender:
    """Who waits for the answer to a call. Give it to `reply`; it can be used once, from any process.

    Attributes:
        pid: the calling process; None if the caller is not a process.
    """

    __slots__ = ("_done", "_failure", "_server", "_task", "_value", "pid")

    def __init__(self, pid: Pid | None, server: Process, task: trio.lowlevel.Task) -> None:
        self.pid = pid
        self._server = server
        self._task = task
        self._done = False
        self._value: Any = None
        # None: answered. A reason: the server ended. _EXPIRED: too late.
        self._failure: object = None

    def __repr__(self) -> str:
        return f"<sender {self.pid!r}>"

    @enable_ki_protection
    def _answer(self, value: Any) -> bool:
        if self._done:
            return False
        # First, because it raises in a wrong thread.
        reschedule(self._task)
        self._done = True
        self._value = value
        self._server.runtime.graph.unwatch(self._server.pid, self)
        return True

    def down(self, pid: Pid, reason: ExitReason) -> None:
        if not self._done:
            reschedule(self._task)
            self._done = True
            self._failure = Ended(reason)

    def _expire(self) -> None:
        if not self._done:
            reschedule(self._task)
            self._abandon()
            self._failure = _EXPIRED

    def _abandon(self) -> None:
        self._done = True
        self._failure = _CANCELLED
        self._server.runtime.graph.unwatch(self._server.pid, self)

    def _abort(self, _raise_cancel: object) -> Abort:
        self._abandon()
        return Abort.SUCCEEDED

    def _outcome(self) -> str:
        """How it ended, in the words of `Instrument.call_ended`."""
        if type(self._failure) is Ended:
            return "server_ended"
        if self._failure is None:
            return "answered"
        return "timeout" if self._failure is _EXPIRED else "cancelled"


class Ended:
    __slots__ = ("reason",)

    def __init__(self, reason: ExitReason) -> None:
        self.reason = reason
