"""The loop of a GenServer: it takes a message, runs its callback, and carries out the result.

The debug options show the work of the loop: statistics, a log of events, a trace, hooks. A server without debug options
has no `Debug` object.
"""

from __future__ import annotations

import inspect
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import Any, Protocol, TypeAlias

import msgspec
import trio
from trio.lowlevel import wait_task_rescheduled

from actors._calls import CallRequest, Cast, Sender, StopRequest, SystemRequest
from actors._kernel.process import escaping, reason_of
from actors._kernel.runtime import Process, current_process
from actors.errors import InvalidReturn, ProcessExit, ProcessKilled, StartError, StartIgnored
from actors.exits import NORMAL, ExitReason, is_normal_exit
from actors.messages import Exit, Timeout
from actors.places import place_of
from actors.process import receive
from actors.refs import Pid
from actors.servers.results import MISSING, Continue, Fail, Ignore, NoReply, Reply, Stop, Within

__all__ = [
    "DONE",
    "Callbacks",
    "Debug",
    "DebugEvent",
    "Hook",
    "Loop",
    "ServerStatistics",
    "ServerStatus",
    "SystemFailure",
    "redacted",
    "serve",
]

DONE = object()
"""The return value with which a hook removes itself."""


class DebugEvent(msgspec.Struct, frozen=True):
    """An event in a server.

    Attributes:
        kind: `"in"` for a message that the server took, `"out"` for an answer to a call, `"noreply"` for a callback
            that ended without an answer.
        what: The message, the answer, or the state.
    """

    kind: str
    what: Any


Hook: TypeAlias = Callable[[Any, DebugEvent], Any]
"""A function that the server calls with the hook's state and an event. It returns its new state, or `DONE`."""


class ServerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of a server's messages since its statistics were turned on.

    Attributes:
        since: The time at which the statistics were turned on, on Trio's clock.
        now: The time of the request, on Trio's clock.
        messages_in: The number of messages that the server took, without requests of `actors.sys`.
        messages_out: The number of answers to calls. Messages that callbacks send do not count.
    """

    since: float
    now: float
    messages_in: int
    messages_out: int


class Debug:
    """The active debug options of one server."""

    def __init__(self) -> None:
        self.log: deque[DebugEvent] | None = None
        self.trace: Callable[[str], object] | None = None
        self.hooks: dict[object, tuple[Hook, Any]] = {}
        self.since: float | None = None
        self.messages_in = 0
        self.messages_out = 0

    @property
    def idle(self) -> bool:
        """True if no option is active, so the server can drop this object."""
        return self.log is None and self.trace is None and not self.hooks and self.since is None

    def count_from(self, now: float) -> None:
        """Turn statistics on, from zero."""
        self.since = now
        self.messages_in = self.messages_out = 0

    def statistics(self, now: float) -> ServerStatistics | None:
        """Return the statistics so far; None if they are off."""
        if self.since is None:
            return None
        return ServerStatistics(
            since=self.since,
            now=now,
            messages_in=self.messages_in,
            messages_out=self.messages_out,
        )

    def happened(self, kind: str, what: Any, who: str) -> None:
        """Record an event in the server `who`."""
        if kind == "in":
            self.messages_in += 1
        elif kind == "out":
            self.messages_out += 1
        event = DebugEvent(kind, what)
        if self.log is not None:
            self.log.append(event)
        if self.trace is not None:
            self.trace(f"{who} {_ARROWS[kind]} {what!r}")
        for key, (hook, state) in list(self.hooks.items()):
            try:
                state = hook(state, event)
            except Exception:  # as in OTP, the server removes the hook and continues
                state = DONE
            if state is DONE:
                del self.hooks[key]
            else:
                self.hooks[key] = (hook, state)


_ARROWS = {"in": "<-", "out": "->", "noreply": "=="}


class SystemFailure(msgspec.Struct, frozen=True):
    """The answer to a system request that raised an exception."""

    error: Exception


class ServerStatus(msgspec.Struct, kw_only=True):
    """The status of a server that `actors.sys.get_status` returns and crash reports show.

    A server can override `format_status` to hide secrets.

    Attributes:
        pid: The process.
        server: The name of the class.
        parent: The process whose end stops the server. This is the starter if it is linked to the server, the runtime
            if no process started the server, and otherwise the server itself.
        dictionary: The process dictionary.
        suspended: True after `actors.sys.suspend`.
        state: The state of the server.
        message: The last message that the server handled.
        reason: The exit reason of the server; None outside crash reports.
        log: The events that `actors.sys.log` has kept.
    """

    pid: Pid
    server: str
    parent: Pid
    dictionary: dict[Any, Any] = msgspec.field(default_factory=dict)
    suspended: bool = False
    state: Any = None
    message: Any = None
    reason: ExitReason = None
    log: list[Any] = msgspec.field(default_factory=list)


def redacted(
    format_status: Callable[[ServerStatus], ServerStatus], status: ServerStatus
) -> ServerStatus:
    """Return the status after `format_status`. If `format_status` fails, return a status without the server's data."""
    try:
        shown = format_status(status)
        if isinstance(shown, ServerStatus):
            return shown
        problem = f"format_status returned {type(shown).__name__}, not the status"
    except Exception as error:  # a bug in format_status must not prevent a crash report
        problem = f"format_status raised {type(error).__name__}"
    marker = f"<hidden: {problem}>"
    status.state = status.message = marker
    status.log = []
    return status


# The number of messages that a busy server handles before it lets other tasks run. With 64, the switches between tasks
# cost little, and a flooded server delays other tasks by well under a millisecond.
FAIRNESS = 64
# The messages that are not for `handle_info`. An Exit is one only if it stops the server. The set has the ids of the
# classes, because a metaclass can make the class of a message unhashable.
_KNOWN = frozenset(map(id, (CallRequest, Cast, SystemRequest, Exit)))

AFTER_CALL = ("Reply(value)", "NoReply()", "Stop(reason)")
AFTER_MESSAGE = ("None", "NoReply()", "Continue(argument)", "Within(seconds)", "Stop(reason)")
AFTER_INIT = (
    "None",
    "Continue(argument)",
    "Within(seconds)",
    "Ignore()",
    "Fail(reason)",
    "Stop(reason)",
)


class Callbacks(Protocol):
    """The methods of a `GenServer` that its loop calls."""

    state: Any

    @property
    def begins_at_once(self) -> bool: ...
    def handle_info_nowait(self, message: Any) -> Any: ...
    def handle_call_nowait(self, request: Any, sender: Sender) -> Any: ...

    async def init(self, *args: Any, **kwargs: Any) -> Any: ...
    async def handle_call(self, request: Any, sender: Sender) -> Any: ...
    async def handle_cast(self, message: Any) -> Any: ...
    async def handle_info(self, message: Any) -> Any: ...
    async def handle_continue(self, argument: Any) -> Any: ...
    async def terminate(self, reason: ExitReason) -> None: ...
    def format_status(self, status: ServerStatus) -> ServerStatus: ...


class _Stopping(Exception):
    """A decision to stop. It is an exception, so that `Loop.run` alone handles every stop."""

    def __init__(
        self, reason: ExitReason, sender: Sender | None = None, value: Any = MISSING
    ) -> None:
        self.reason = reason
        self.sender = sender
        self.value = value


class _Rest:
    """The work that is left for a message, after the server has begun to handle it at once.

    Attributes:
        message: The message.
        waits: The wait that an instrument demands before the callback; None if there is none.
        begun: The result of the callback, or a coroutine that returns the result.
        error: The exception of the callback; None if there is none.
    """

    __slots__ = ("begun", "error", "message", "waits")

    def __init__(
        self,
        message: Any,
        waits: Awaitable[None] | None,
        begun: Any,
        error: BaseException | None,
    ) -> None:
        self.message = message
        self.waits = waits
        self.begun = begun
        self.error = error

    def discard(self) -> None:
        """Close the coroutines, which never begin. Otherwise Python warns that nothing has awaited them."""
        for each in (self.waits, self.begun):
            if type(each) is CoroutineType:
                _close(each)


def _close(coroutine: CoroutineType[Any, Any, Any]) -> None:
    """Close a coroutine that has not begun, and each coroutine among its arguments."""
    arguments = list(inspect.getcoroutinelocals(coroutine).values())
    coroutine.close()
    for each in arguments:
        if type(each) is CoroutineType and inspect.getcoroutinestate(each) == inspect.CORO_CREATED:
            _close(each)


def serve(
    cls: Callable[[], Callbacks], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Coroutine[Any, Any, None]:
    """Return a coroutine that runs a server in the current process, until the server ends."""
    process = current_process.get()
    assert process is not None
    return Loop(process, cls()).run(args, kwargs)


async def _init(
    process: Process, server: Callbacks, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Continue | Within | None:
    slot = process.start_slot
    if process.runtime.instruments and (waits := process.starting("init", args)) is not None:
        await waits
    result = await server.init(*args, **kwargs)
    if result is None or isinstance(result, (Continue, Within)):
        if slot is not None:
            slot.ack()
            process.start_slot = None
            if isinstance(result, Continue):
                # The start must return before `handle_continue` runs. In the next scheduler turn, the starter may run
                # after this process, so wait for two turns.
                await trio.lowlevel.cancel_shielded_checkpoint()
                await trio.lowlevel.cancel_shielded_checkpoint()
        return result
    if isinstance(result, (Ignore, Fail)):
        if slot is not None:
            slot.nack(StartIgnored() if isinstance(result, Ignore) else StartError(result.reason))
        raise ProcessExit(NORMAL)
    if isinstance(result, Stop):
        if not is_normal_exit(result.reason):
            process.context = lambda: {"state": server.state, "server": type(server).__name__}
        raise ProcessExit(result.reason)
    raise _invalid(server, "init", result, AFTER_INIT)


class Loop:
    """The loop of one server, and the state that it keeps between messages."""

    __slots__ = (
        "at_once",
        "before",
        "deadline",
        "debug",
        "interval",
        "message",
        "process",
        "rest",
        "server",
        "suspended",
    )

    def __init__(self, process: Process, server: Callbacks) -> None:
        self.process = process
        self.server = server
        self.before: Any = None
        self.deadline = math.inf
        self.interval = math.inf
        self.message: Any = None
        self.debug: Debug | None = None
        self.suspended = False
        # None if the server handles no message at once.
        self.at_once = self.take if server.begins_at_once else None
        # The rest of the work for a message that the server has begun to handle at once.
        self.rest: _Rest | None = None

    async def run(  # noqa: C901, PLR0912, PLR0915 - one dispatch, spelled out for speed
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        # One coroutine for the whole life of a server, because a second one would take 320 bytes of each idle server.
        process, server, mailbox = self.process, self.server, self.process.mailbox
        result: Any = await _init(process, server, args, kwargs)
        # An idle server must not keep the arguments and the result of init in memory.
        del args, kwargs
        budget, deadline, at_once = FAIRNESS, math.inf, self.at_once
        try:
            if result is not None:
                self.before = server.state
                await self._apply(result, "init", AFTER_INIT)
            # This is the hottest path. For each message it calls only the callback.
            while True:
                if process.dying:
                    raise ProcessKilled(process.reason)
                queue = mailbox.queue
                if queue and budget:
                    budget, message = budget - 1, queue.popleft()
                    deadline, self.deadline = self.deadline, math.inf
                else:
                    budget = FAIRNESS
                    # An idle server must not keep its last message in memory.
                    message = result = self.message = self.before = None
                    if not queue and self.deadline == math.inf:
                        queue = ()  # `parking` frees the empty queue, so keep no reference to it
                        await wait_task_rescheduled(mailbox.parking(process.task, at_once))
                        mailbox.sleeping = False
                        if self.rest is not None:
                            await self._do_rest()
                        continue
                    if not await self._pause():
                        continue
                    message = Timeout()
                self.message, self.before = message, server.state
                kind = type(message)
                if (
                    process.runtime.shows_messages
                    and (waits := self._show(message, kind)) is not None
                ):
                    await waits
                if at_once is not None and self._begins(message, kind):
                    await self._finish(message, self._begin(message, kind))
                    continue
                if self.debug is not None and kind is not SystemRequest:
                    self.debug.happened("in", message, process.describe())
                if id(kind) not in _KNOWN or (
                    kind is Exit and not process.is_stopped_by(message.pid)
                ):
                    result = await server.handle_info(message)
                    if result is not None:
                        await self._apply(result, "handle_info", AFTER_MESSAGE)
                elif kind is CallRequest:
                    result = await server.handle_call(message.request, message.sender)
                    if not self._answered(message, result):
                        await self._apply_to_call(message, result)
                elif kind is Cast:
                    result = await server.handle_cast(message.message)
                    if result is not None:
                        await self._apply(result, "handle_cast", AFTER_MESSAGE)
                elif kind is SystemRequest:
                    await self._system(message, deadline)
                    continue
                else:
                    raise _Stopping(message.reason)
                if self.debug is not None and kind is not CallRequest:
                    self.debug.happened("noreply", server.state, process.describe())
        except _Stopping as stopping:
            await self._stop(stopping)
        except (trio.Cancelled, GeneratorExit):
            # The process accepted an exit signal, or Python discards its coroutine. As in OTP, no further callback
            # runs.
            raise
        except BaseException as error:
            if process.dying or escaping(error) is not None:
                raise
            # A callback failed: restore the old state, run `terminate`, and raise the same error.
            server.state = self.before
            await self._terminating(reason_of(error))
            raise
        finally:
            # This bound method refers to the loop. Without it, an ended server needs no garbage collector.
            self.at_once = None
            if self.rest is not None:
                # The process was killed before its task could finish the message.
                self.rest.discard()

    async def _stop(self, stopping: _Stopping) -> None:
        process, reason = self.process, stopping.reason
        if process.dying:
            # A signal arrived while the callback decided to stop. The signal ends the server, without any callback.
            raise ProcessKilled(process.reason) from None
        try:
            await self._terminating(reason)
        finally:
            # Answer after `terminate`, because the caller may rely on the clean-up.
            if stopping.sender is not None and not process.dying:
                stopping.sender.answer(stopping.value)
        raise ProcessExit(reason) from None

    def _terminating(self, reason: ExitReason) -> Awaitable[None]:
        """Call `terminate` of the server, and return its coroutine."""
        # The context of a crash report. Set it first, because `terminate` may fail. It is a function, because most
        # servers end without a report.
        process = self.process
        process.context = lambda: self._explain(reason)
        if process.runtime.instruments:
            waits = process.starting("terminate", reason)
            if waits is not None:
                return self._terminate_after(waits, reason)
        return self.server.terminate(reason)

    async def _terminate_after(self, waits: Awaitable[None], reason: ExitReason) -> None:
        await waits
        await self.server.terminate(reason)

    def _explain(self, reason: ExitReason) -> dict[str, Any]:
        status = self.status(reason)
        return {
            "last_message": status.message,
            "state": status.state,
            "server": status.server,
            "stopping": reason,
        }

    # Servers that begin to handle a message at once

    def _begins(self, message: Any, kind: type) -> bool:
        """Return True if the server has a function that begins to handle the message at once."""
        return (
            kind is not SystemRequest
            and kind is not Cast
            and not (kind is Exit and self.process.is_stopped_by(message.pid))
        )

    def _begin(self, message: Any, kind: type) -> Any:
        """Begin to handle a message. Return the result of the callback, or a coroutine that returns the result."""
        if self.debug is not None:
            self.debug.happened("in", message, self.process.describe())
        if kind is CallRequest:
            return self.server.handle_call_nowait(message.request, message.sender)
        return self.server.handle_info_nowait(message)

    def take(self, task: trio.lowlevel.Task, message: Any) -> bool:
        """Handle a message in the task of its sender. The mailbox calls this while the loop waits for a message.

        The server has no other work then, and no earlier message waits. This saves a step of the scheduler. The
        callback runs in the context of this process, so `current_pid()` is the server. A turn of the scheduler allows a
        bounded number of these calls, so that one turn does not take too long. Never raises.

        Args:
            task: The task of the loop, which waits. So the process has accepted no signal, which would have woken it.
            message: The message.

        Returns:
            False if the message must wait in the mailbox.
        """
        process = self.process
        mailbox = process.mailbox
        batches = mailbox.wake_batches
        if not batches.allow_call():
            return False
        # Its messages to itself must wait in the mailbox until it has finished with this one.
        mailbox.at_once = None
        batches.nested += 1
        if process.runtime.counts_run_time:
            since = time.monotonic()
            took = task.context.run(self._take, message)
            # The time counts for this process, and not for the process whose step it is.
            process.runtime.count_time(process, time.monotonic() - since)
        else:
            took = task.context.run(self._take, message)
        batches.nested -= 1
        mailbox.at_once = self.at_once
        return took

    def _take(self, message: Any) -> bool:
        """Begin the callback for a message, in the context of this process.

        What must wait, what fails, and what ends the server is left to the server's own task. So the sender never gets
        an exception, and `terminate` runs as after any other message.

        Returns:
            False if the message must wait in the mailbox.
        """
        kind = type(message)
        if id(kind) in _KNOWN and kind is not CallRequest and not self._begins(message, kind):
            return False
        server = self.server
        before = server.state
        try:
            if (
                self.process.runtime.shows_messages
                and (waits := self._show(message, kind)) is not None
            ):
                rest = _Rest(message, waits, None, None)
            elif self.debug is not None:
                begun = self._begin(message, kind)
                if self._is_complete(message, kind, begun):
                    return True
                rest = _Rest(message, None, begun, None)
            elif kind is CallRequest:
                # As `_begin` and `_is_complete`, but with fewer calls, as is the next case.
                begun = server.handle_call_nowait(message.request, message.sender)
                if type(begun) is Reply and begun.then is None:
                    message.sender.answer(begun.value)
                    return True
                rest = _Rest(message, None, begun, None)
            else:
                begun = server.handle_info_nowait(message)
                if begun is None:
                    return True
                rest = _Rest(message, None, begun, None)
        except BaseException as error:
            # Broad, because no error of this server may reach the sender. The server's own task raises it again.
            rest = _Rest(message, None, None, error)
        # An idle server must not keep its last message in memory. So these are set only here.
        self.message, self.before, self.rest = message, before, rest
        self.process.mailbox.wake()
        return True

    def _is_complete(self, message: Any, kind: type, begun: Any) -> bool:
        """Return True if the callback for a message is complete, after the answer to a call."""
        if kind is CallRequest:
            return self._answered(message, begun)
        if begun is not None:
            return False
        if self.debug is not None:
            self.debug.happened("noreply", self.server.state, self.process.describe())
        return True

    async def _do_rest(self) -> None:
        """Finish the work for the message that the server has begun to handle at once."""
        rest, self.rest = self.rest, None
        assert rest is not None
        if rest.waits is not None:
            await rest.waits
        if self.process.dying:
            rest.discard()
            raise ProcessKilled(self.process.reason)
        if rest.error is not None:
            raise rest.error
        begun = rest.begun if rest.waits is None else self._begin(rest.message, type(rest.message))
        await self._finish(rest.message, begun)

    async def _finish(self, message: Any, begun: Any) -> None:
        """Await the rest of a callback, and carry out its result."""
        result = await begun if type(begun) is CoroutineType else begun
        if type(message) is CallRequest:
            if not self._answered(message, result):
                await self._apply_to_call(message, result)
            return
        if result is not None:
            await self._apply(result, "handle_info", AFTER_MESSAGE)
        if self.debug is not None:
            self.debug.happened("noreply", self.server.state, self.process.describe())

    def _answered(self, message: CallRequest, result: Any) -> bool:
        """Answer a call. Return False if the result of `handle_call` demands more than an answer."""
        if type(result) is not Reply or result.then is not None:
            return False
        if self.debug is not None:
            self.debug.happened("out", result.value, self.process.describe())
        message.sender.answer(result.value)
        return True

    async def _apply_to_call(self, message: CallRequest, result: Any) -> None:
        """Carry out a result of `handle_call` that demands more than an answer."""
        if type(result) is Reply:
            if self.debug is not None:
                self.debug.happened("out", result.value, self.process.describe())
            message.sender.answer(result.value)
            await self._apply(result.then, "handle_call", AFTER_CALL)
        elif type(result) is Stop and result.reply is not MISSING:
            raise _Stopping(result.reason, message.sender, result.reply)
        elif type(result) is NoReply or type(result) is Stop:
            await self._apply(result, "handle_call", AFTER_CALL)
        else:
            raise _invalid(self.server, "handle_call", result, AFTER_CALL)

    async def _pause(self) -> bool:
        """Yield to other tasks, or wait for a message. Return True if the timeout of a `Within` has passed."""
        mailbox = self.process.mailbox
        if mailbox.queue:
            # Shielded, so that a cancellation loses no message. The loop itself checks `dying` between messages.
            await trio.lowlevel.cancel_shielded_checkpoint()
            return False
        if await mailbox.park_until(self.deadline, self.process.runtime.timers) or mailbox.queue:
            return False
        self.deadline = math.inf
        return not self.process.dying

    def _show(self, message: Any, kind: type) -> Awaitable[None] | None:
        process = self.process
        runtime = process.runtime
        for received in runtime.on_received:
            received(process.pid, message)
        if kind is CallRequest:
            return process.starting("handle_call", message.request)
        if kind is Cast:
            return process.starting("handle_cast", message.message)
        if kind is SystemRequest or (kind is Exit and process.is_stopped_by(message.pid)):
            # Messages of these kinds have no callback.
            return None
        return process.starting("handle_info", message)

    # Requests of actors.sys

    async def _system(self, message: SystemRequest[Loop], deadline: float) -> None:
        if deadline != math.inf:
            # As in OTP, a system request restarts the server's timeout.
            self.deadline = trio.current_time() + self.interval
        self._answer(message)
        # A suspended server reacts only to system requests and to the end of its parent. There is no time limit,
        # because the server stays suspended until `resume`.
        while self.suspended:
            waiting = await receive(self._is_urgent)
            if type(waiting) is Exit:
                raise _Stopping(waiting.reason)
            self._answer(waiting)

    def _is_urgent(self, message: Any) -> bool:
        return type(message) is SystemRequest or (
            type(message) is Exit and self.process.is_stopped_by(message.pid)
        )

    def _answer(self, message: SystemRequest[Loop]) -> None:
        if isinstance(message.request, StopRequest):
            raise _Stopping(message.request.reason)
        try:
            answer = message.request(self)
        except Exception as error:  # the requester's own code raised it
            answer = SystemFailure(error)
        message.sender.answer(answer)

    def suspend(self) -> None:
        """Handle only system requests, until `resume`."""
        self.suspended = self.process.suspended = True

    def resume(self) -> None:
        """Handle messages again."""
        self.suspended = self.process.suspended = False

    def status(self, reason: ExitReason = None) -> ServerStatus:
        """Return the status of this server, redacted by its `format_status`."""
        process = self.process
        status = ServerStatus(
            pid=process.pid,
            server=type(self.server).__name__,
            parent=process.obeys,
            dictionary=dict(process.dictionary or {}),
            suspended=self.suspended,
            state=self.server.state,
            message=self.message,
            reason=reason,
            log=list(self.debug.log) if self.debug is not None and self.debug.log else [],
        )
        return redacted(self.server.format_status, status)

    async def _apply(self, result: Any, callback: str, expected: tuple[str, ...]) -> None:
        """Carry out the result of a callback, and the results of each `handle_continue` that follows."""
        while True:
            kind = type(result)
            if kind is NoReply:
                if result.then is None:
                    return
                result = result.then
                kind = type(result)
            if kind is Within:
                self.interval = result.seconds
                self.deadline = trio.current_time() + result.seconds
                return
            if kind is Stop:
                raise _Stopping(result.reason)
            if kind is not Continue:
                raise _invalid(self.server, callback, result, expected)
            if self.process.dying:
                raise ProcessKilled(self.process.reason)
            self.message = result
            self.before = self.server.state
            if self.process.runtime.instruments:
                waits = self.process.starting("handle_continue", result.argument)
                if waits is not None:
                    await waits
            result = await self.server.handle_continue(result.argument)
            if result is None:
                return
            callback, expected = "handle_continue", AFTER_MESSAGE


def _invalid(
    server: object, callback: str, result: object, expected: tuple[str, ...]
) -> InvalidReturn:
    # The method of the class, because a debugging runtime wraps those of the instance.
    place = place_of(getattr(type(server), callback, None))
    return InvalidReturn(f"{type(server).__name__}.{callback}", result, expected, place=place)
