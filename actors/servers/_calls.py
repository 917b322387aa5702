"""Calls: the messages that carry them, and the caller that waits for the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, final

import trio
from trio.lowlevel import Abort, enable_ki_protection, reschedule

from actors.errors import CallCycle
from actors.exits import ExitReason
from actors.refs import Pid, ProcessLike

__all__ = [
    "CallChains",
    "CallRequest",
    "Cast",
    "Ended",
    "Sender",
    "StopRequest",
    "SystemRequest",
]

L = TypeVar("L")

_EXPIRED = object()
_CANCELLED = object()


@final
class Sender:
    """The caller that waits for the answer to a call. Pass it to `reply`, once, from any process.

    Attributes:
        pid: The calling process; None if the caller is not a process.
        server: The called process, for the runtime.
        task: The task that waits, for the runtime.
        done: The wait is over, for the runtime.
        value: The answer, for the runtime.
        failure: The cause of a wait that ended without an answer, for the runtime; None after an answer.
    """

    __slots__ = ("done", "failure", "pid", "server", "task", "value")

    def __init__(self, pid: Pid | None, server: ProcessLike, task: trio.lowlevel.Task) -> None:
        self.pid = pid
        self.server = server
        self.task = task
        self.done = False
        self.value: Any = None
        # None: answered. An Ended: the server ended. _EXPIRED: too late. _CANCELLED: cancelled.
        self.failure: object = None

    def __repr__(self) -> str:
        return f"<sender {self.pid!r}>"

    @enable_ki_protection
    def answer(self, value: Any) -> bool:
        if self.done:
            return False
        # First, because it raises in the wrong thread.
        reschedule(self.task)
        self.done = True
        self.value = value
        self.server.runtime.graph.unwatch(self.server.pid, self)
        return True

    def down(self, pid: Pid, reason: ExitReason) -> None:
        if not self.done:
            reschedule(self.task)
            self.done = True
            self.failure = Ended(reason)

    def expire(self) -> None:
        if not self.done:
            reschedule(self.task)
            self.abandon()
            self.failure = _EXPIRED

    def abandon(self) -> None:
        self.done = True
        self.failure = _CANCELLED
        self.server.runtime.graph.unwatch(self.server.pid, self)

    def abort(self, _raise_cancel: object) -> Abort:
        self.abandon()
        return Abort.SUCCEEDED

    def outcome(self) -> str:
        """Return the outcome of the call, as `Instrument.call_ended` gets it."""
        if type(self.failure) is Ended:
            return "server_ended"
        if self.failure is None:
            return "answered"
        return "timeout" if self.failure is _EXPIRED else "cancelled"


class Ended:
    __slots__ = ("reason",)

    def __init__(self, reason: ExitReason) -> None:
        self.reason = reason


class CallRequest:
    """A call in the mailbox of its server."""

    __slots__ = ("request", "sender")

    def __init__(self, request: Any, sender: Sender) -> None:
        self.request = request
        self.sender = sender

    def __repr__(self) -> str:
        return f"call {self.request!r} from {self.sender.pid!r}"


class Cast:
    """A cast in the mailbox of its server."""

    __slots__ = ("message",)

    def __init__(self, message: Any) -> None:
        self.message = message

    def __repr__(self) -> str:
        return f"cast {self.message!r}"


class StopRequest:
    """The system request of `stop`."""

    __slots__ = ("reason",)

    def __init__(self, reason: ExitReason) -> None:
        self.reason = reason

    def __repr__(self) -> str:
        return f"stop with {self.reason!r}"


class SystemRequest(Generic[L]):
    """A call that the server's loop answers itself, before any callback sees it."""

    __slots__ = ("request", "sender")

    def __init__(self, request: Callable[[L], Any] | StopRequest, sender: Sender) -> None:
        self.request = request
        self.sender = sender

    def __repr__(self) -> str:
        return f"system request {getattr(self.request, '__name__', self.request)!r}"


class CallChains:
    """The calls that processes wait for. Finds a circle of calls before a time limit runs out.

    For debug builds only (`open_runtime(debug=True)`). Processes that call each other in a circle otherwise wait for
    the first of their time limits, which looks like a slow server.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[Pid, Pid] = {}

    def enter(self, caller: Pid, server: Pid, request: object, timeout: float) -> None:
        """Note that a process begins to wait for a server.

        Raises:
            CallCycle: The server waits, directly or not, for the caller, so none of them could ever answer.
        """
        chain = [caller, server]
        while (following := self._waiting.get(chain[-1])) is not None:
            chain.append(following)
            if following is caller:
                raise CallCycle(chain, server, request, timeout)
        self._waiting[caller] = server

    def leave(self, caller: Pid) -> None:
        """Note the end of a process's wait."""
        self._waiting.pop(caller, None)
