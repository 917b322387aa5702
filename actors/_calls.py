"""The messages of calls, casts and system requests, and the callers that wait for answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import trio
from trio.lowlevel import (
    Abort,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from actors.errors import CallingSelf, ServerExit
from actors.exits import ExitReason
from actors.refs import Address, Pid, ProcessLike

__all__ = [
    "LATE_ANSWER",
    "CallChains",
    "CallRequest",
    "Cast",
    "Ended",
    "Request",
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


class Sender:
    """The caller that waits for the answer to a call. Any process may pass it to `reply`, once.

    Attributes:
        pid: The calling process, which is a `RemoteAddress` if it runs on another node. None if the caller is not a
            process.
    """

    __slots__ = ("_done", "_failure", "_is_watching", "_server", "_task", "_value", "_waits", "pid")

    def __init__(
        self,
        pid: Pid | Address[Any] | None,
        server: ProcessLike,
        task: trio.lowlevel.Task | None = None,
    ) -> None:
        self.pid = pid
        self._server = server
        self._task = task
        self._waits = self._is_watching = False
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
    def task(self) -> trio.lowlevel.Task | None:
        """The task that waits for the answer; None if no task waits yet."""
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

    def send(self, message: Any, timeout: float) -> None:
        """Put the request into the mailbox of the server, which may answer it at once.

        Args:
            message: The request, in its envelope with this sender.
            timeout: The time limit in seconds, for the instruments.
        """
        server = self._server
        runtime = server.runtime
        for instrument in runtime.instruments:
            # Only a sender that is not sent from here has another kind of address.
            instrument.call_started(self.pid, server.pid, self, timeout)  # type: ignore[arg-type]
        if not runtime.guarded or runtime.admit(server.pid, message):
            server.mailbox.put(message)
        if not self._done:
            self._is_watching = True
            runtime.graph.watch(server.pid, self)

    async def wait(self) -> None:
        """Wait until the call has an answer or has ended. The caller has checked that it has not."""
        self._task = current_task()
        self._waits = True
        await wait_task_rescheduled(self.abort)

    def _wake(self) -> None:
        assert self._task is not None  # `wait` has set it
        reschedule(self._task)

    @enable_ki_protection
    def answer(self, value: Any) -> bool:
        if self._done:
            gave_up, self._value = self._value, None
            if type(gave_up) is _GaveUp:
                self._count_late_answer(gave_up)
            else:
                self._value = gave_up
            return False
        if self._waits:
            # In the wrong thread this raises, so it must run before any change.
            self._wake()
        self._done = True
        self._value = value
        runtime = self._server.runtime
        if self._is_watching:
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
            if self._waits:
                self._wake()
            self._done = True
            self._failure = Ended(reason)

    def expire(self) -> None:
        if not self._done:
            if self._waits:
                self._wake()
            self.abandon()
            self._failure = _EXPIRED
            self._value = _GaveUp(trio.current_time(), "timeout")

    def abandon(self) -> None:
        self._done = True
        self._failure = _CANCELLED
        self._value = _GaveUp(trio.current_time(), "cancelled")
        if self._is_watching:
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


class Request(Sender):
    """A request that `send_request` has sent, and its answer."""

    __slots__ = ("_address", "_content")

    def __init__(self, pid: Pid | None, server: ProcessLike, address: object, content: Any) -> None:
        # Skip Sender.__init__ for speed, because each start of a channel makes a Request.
        self.pid = pid
        self._server = server
        self._task = None
        self._waits = self._is_watching = self._done = False
        self._value = self._failure = None
        self._address = address
        self._content = content

    async def wait_result(self) -> Any:
        """Wait for the answer, and return it. Raises as `result` does. If the wait is cancelled, the answer is lost."""
        if not self._done:
            try:
                await self.wait()
            except BaseException:
                self._show_end()
                raise
        return self.result()

    def result(self) -> Any:
        """Return the answer. Call this once, after `done` has become True.

        Raises:
            ServerExit: The server ended before it answered.
        """
        if self._server.runtime.instruments:
            self._show_end()
        if type(self._failure) is Ended:
            failure: Any = self.take_failure()
            raise ServerExit(failure.reason, self._address, self._content, math.inf)
        return self._value

    def _show_end(self) -> None:
        for instrument in self._server.runtime.instruments:
            instrument.call_ended(self, self.outcome())


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
            CallingSelf: The server waits for the caller, directly or through other servers, so no server in the circle
                could answer.
        """
        chain = [caller, server]
        while (following := self._waiting.get(chain[-1])) is not None:
            chain.append(following)
            if following is caller:
                raise CallingSelf(server, request, timeout, chain=tuple(chain))
        self._waiting[caller] = server

    def leave(self, caller: Pid) -> None:
        """Record the end of a process's wait."""
        self._waiting.pop(caller, None)
