"""The messages of calls, casts and system requests, and the callers that wait for answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, final

import trio
from trio.lowlevel import Abort, enable_ki_protection, reschedule

from actors.errors import CallCycle
from actors.exits import ExitReason
from actors.refs import Pid, ProcessLike

__all__ = [
    "LATE_ANSWER",
    "CallChains",
    "CallRequest",
    "Cast",
    "Ended",
    "Sender",
    "StopRequest",
    "SystemRequest",
]

L = TypeVar("L")

LATE_ANSWER = ("actors", "call", "late_answer")

_EXPIRED = object()
_CANCELLED = object()


class _GaveUp:
    """A stand-in for the answer after the caller has given up. It holds the time and the cause."""

    __slots__ = ("how", "since")

    def __init__(self, since: float, how: str) -> None:
        self.since = since
        self.how = how


@final
class Sender:
    """The caller that waits for the answer to a call. Any process may pass it to `reply`, once.

    Attributes:
        pid: The calling process; None if the caller is not a process.
    """

    __slots__ = ("_done", "_failure", "_server", "_task", "_value", "pid")

    def __init__(self, pid: Pid | None, server: ProcessLike, task: trio.lowlevel.Task) -> None:
        self.pid = pid
        self._server = server
        self._task = task
        self._done = False
        self._value: Any = None
        # None: the server answered. An Ended: the server ended. _EXPIRED: timeout. _CANCELLED: the wait was cancelled.
        self._failure: object = None

    def __repr__(self) -> str:
        return f"<sender {self.pid!r}>"

    # Everything below is for the runtime. Attributes with an underscore do not appear in descriptions of messages.

    @property
    def server(self) -> ProcessLike:
        """The called process."""
        return self._server

    @property
    def task(self) -> trio.lowlevel.Task:
        """The task that waits."""
        return self._task

    @property
    def done(self) -> bool:
        """True once the caller no longer waits."""
        return self._done

    @property
    def awaits_late_answer(self) -> bool:
        """True if the caller has given up and the server has not answered yet."""
        return type(self._value) is _GaveUp

    @property
    def value(self) -> Any:
        """The answer; None before the answer."""
        return self._value

    @property
    def answered(self) -> bool:
        """True if the caller has got an answer."""
        return self._done and self._failure is None

    def take_failure(self) -> object:
        """Return the reason why there was no answer, and drop the reference to it.

        The crash of a server refers to its last request, and so to this object. Without the drop, the crash and
        this object would keep each other in memory.
        """
        failure, self._failure = self._failure, None
        return failure

    @enable_ki_protection
    def answer(self, value: Any) -> bool:
        if self._done:
            gave_up, self._value = self._value, None
            if type(gave_up) is _GaveUp:
                self._count_late_answer(gave_up)
            else:
                self._value = gave_up
            return False
        # In the wrong thread this raises, so it must run before any change.
        reschedule(self._task)
        self._done = True
        self._value = value
        runtime = self._server.runtime
        runtime.graph.unwatch(self._server.pid, self)
        for instrument in runtime.instruments:
            instrument.call_answered(self, value)
        return True

    def _count_late_answer(self, gave_up: _GaveUp) -> None:
        """Count an answer that the runtime drops because the caller has given up. Erlang has no such counter."""
        server, runtime = self._server, self._server.runtime
        runtime.late_answers += 1
        if runtime.telemetry.handlers(LATE_ANSWER):
            measured = {"seconds": trio.current_time() - gave_up.since}
            about = {"caller": self.pid, "server": server.pid, "call": self, "how": gave_up.how}
            runtime.telemetry.execute(LATE_ANSWER, measured, about)

    def down(self, pid: Pid, reason: ExitReason) -> None:
        if not self._done:
            reschedule(self._task)
            self._done = True
            self._failure = Ended(reason)

    def expire(self) -> None:
        if not self._done:
            reschedule(self._task)
            self.abandon()
            self._failure = _EXPIRED
            self._value = _GaveUp(trio.current_time(), "timeout")

    def abandon(self) -> None:
        self._done = True
        self._failure = _CANCELLED
        self._value = _GaveUp(trio.current_time(), "cancelled")
        self._server.runtime.graph.unwatch(self._server.pid, self)

    def abort(self, _raise_cancel: object) -> Abort:
        self.abandon()
        return Abort.SUCCEEDED

    def outcome(self) -> str:
        """Return the outcome of the call, in the words of `Instrument.call_ended`."""
        if type(self._failure) is Ended:
            return "server_ended"
        if self._failure is None:
            return "answered"
        return "timeout" if self._failure is _EXPIRED else "cancelled"


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
    """A request that the server's loop answers itself, without a callback."""

    __slots__ = ("request", "sender")

    def __init__(self, request: Callable[[L], Any] | StopRequest, sender: Sender) -> None:
        self.request = request
        self.sender = sender

    def __repr__(self) -> str:
        return f"system request {getattr(self.request, '__name__', self.request)!r}"


class CallChains:
    """The calls that processes currently wait for. `enter` finds a circle of calls.

    Only debug builds have it (`open_runtime(debug=True)`). In other builds, a circle of calls ends when the first time
    limit runs out, which looks like a slow server.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[Pid, Pid] = {}

    def enter(self, caller: Pid, server: Pid, request: object, timeout: float) -> None:
        """Record that a process begins to wait for a server.

        Raises:
            CallCycle: The server waits for the caller, directly or through other servers, so no server in the circle
                could answer.
        """
        chain = [caller, server]
        while (following := self._waiting.get(chain[-1])) is not None:
            chain.append(following)
            if following is caller:
                raise CallCycle(chain, server, request, timeout)
        self._waiting[caller] = server

    def leave(self, caller: Pid) -> None:
        """Record the end of a process's wait."""
        self._waiting.pop(caller, None)
