"""Processes that carry out calls in threads of their own: the common part of `AsyncioLoop` and `BlockingPool`.

A *thread service* is the data of such a process. `run` hands a call to a thread and waits in the task of the caller.
The service answers each call exactly once: with the result of its thread, with the cancellation of its caller, or with
`ServerExit` if the process ends first. Only the runtime's thread changes the data of the service. The threads send
their results with `run_sync_soon`, which never waits. A bound of the calls also bounds these results.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, ClassVar, Final, NoReturn, TypeAlias

import trio
from msgspec import structs
from trio.lowlevel import (
    Abort,
    RaiseCancelT,
    Task,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from actors._kernel.current import require_process, require_runtime
from actors._kernel.runtime import Process, Runtime, current_process
from actors.arguments import check_seconds, check_whole, name_of
from actors.errors import (
    CallTimeout,
    InvalidArgument,
    NoProcess,
    Requested,
    ServerExit,
    TooManyCalls,
)
from actors.exits import ExitReason
from actors.instrumentation.logger import THREADS_LEFT, TOO_MANY_CALLS
from actors.links import trap_exits
from actors.process import process_dictionary, send
from actors.refs import Pid
from actors.servers.gen_server import GenServer

__all__ = [
    "MAX_CALLS",
    "Result",
    "ServiceThread",
    "StandIn",
    "ThreadCall",
    "ThreadService",
    "ThreadServiceSpec",
    "stand_in",
]

MAX_CALLS: Final = 1000
"""The default limit of calls that one service carries out or keeps waiting."""

StandIn: TypeAlias = Callable[..., Awaitable[Any]]
"""An async function that carries out the calls of a test: it takes the function of a call and its arguments."""

stand_in: ContextVar[StandIn | None] = ContextVar("actors_stand_in", default=None)
"""The function that replaces the threads of the services that start in this context. See `actors.testing`."""

_UNSET: Any = object()
# The functions that the runtime's thread calls in one scheduler turn. Other tasks run between two turns.
_BATCH = 64


class Result:
    """The result of a call in a thread.

    Args:
        value: The value that the function returned.
        error: The exception that it raised; None if it returned.
        cancelled: True if the caller's cancellation ended the function.
    """

    __slots__ = ("cancelled", "error", "value")

    def __init__(
        self, value: Any = None, error: BaseException | None = None, *, cancelled: bool = False
    ) -> None:
        self.value = value
        self.error = error
        self.cancelled = cancelled


class ThreadCall:
    """One call, from the moment in which a service accepts it until its caller continues.

    Attributes:
        spec: The class of the service.
        function: The function to call in the thread.
        args: Its arguments.
        context: A copy of the caller's context variables, in which the function runs.
        process: The process of the caller; None if a plain task calls.
        server: The address that the caller used.
        timeout: The time limit of the call, in seconds.
        task: The waiting task; None once nothing waits.
        raise_cancel: Trio's function that raises the cancellation of the caller; None if the caller is not cancelled.
        handle: The data of the thread about this call.
        result: The result, once there is one.
    """

    __slots__ = (
        *("args", "context", "function", "handle", "process", "raise_cancel", "result", "server"),
        *("spec", "task", "timeout"),
    )

    def __init__(
        self,
        spec: type[ThreadServiceSpec],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        server: object,
        timeout: float,
    ) -> None:
        self.spec = spec
        self.function = function
        self.args = args
        self.context: Context = copy_context()
        self.process: Process | None = current_process.get()
        self.server = server
        self.timeout = timeout
        self.task: Task | None = None
        self.raise_cancel: RaiseCancelT | None = None
        self.handle: Any = None
        self.result: Result | None = None

    @property
    def request(self) -> Requested:
        """The call as source code, for errors. It leaves out the arguments, because they may contain secrets."""
        spec, name = self.spec, name_of(self.function)
        shown = f"{name}, ..." if self.args else name
        return spec.request(f"{spec.verb}({shown}, {spec.option}={self.server!r})", self.server)


class ServiceThread(threading.Thread):
    """A thread of a service."""

    instead_in_simulation: ClassVar[str] = (
        "give the test a stand-in for the calls: `with replace_calls(function):`, of actors.testing"
    )
    """The advice of a simulation, which refuses threads."""


class ThreadEnded:
    """The message to the process of a service whose thread has ended by itself."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class ThreadService(ABC):
    """The calls and the threads of one process. A restart of the process makes a new service.

    Args:
        spec: The options.
    """

    def __init__(self, spec: ThreadServiceSpec) -> None:
        process = require_process("start_link")
        self.spec = spec
        self.runtime: Runtime = process.runtime
        self.pid: Pid = process.pid
        self.stand_in = stand_in.get()
        # In the order in which they came. A call stays here until its thread has finished with it.
        self.calls: dict[ThreadCall, None] = {}
        self._told: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_scheduled = False
        self.accepted = self.cancelled = self.refused = 0
        self.is_ready = False
        self.threads: list[ServiceThread] = []
        self.stopping = False
        self.ended = False
        self.all_ended = trio.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.spec.name!r}, {len(self.calls)} calls>"

    # For the threads

    def start_thread(self, target: Callable[..., None], *args: Any, name: str) -> None:
        """Start a thread. It is a daemon, because a function that never returns must not keep the program alive."""
        thread = ServiceThread(target=target, args=args, name=name, daemon=True)
        thread.start()
        self.threads.append(thread)

    @abstractmethod
    async def start(self) -> None:
        """Start the threads, and return when they work."""

    @abstractmethod
    def begin(self, call: ThreadCall) -> None:
        """Hand a call to a thread. The thread answers with `tell(self.finish, call, result)`."""

    @abstractmethod
    def cancel(self, call: ThreadCall) -> Abort:
        """Cancel a call. Return `Abort.FAILED` if its caller must wait for the end of the function."""

    @abstractmethod
    def stop_threads(self) -> None:
        """Ask the threads to end. Each tells its end with `tell(self.thread_ended, ...)`. May be called twice."""

    def tell(self, function: Callable[..., object], *args: Any) -> None:
        """Make the runtime's thread call `function(*args)` soon. The threads use it, and it never waits."""
        self._told.append((function, args))
        # One wake-up serves all functions that are told meanwhile, because each costs a switch between the threads.
        if not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._is_scheduled = True
        try:
            self.runtime.run_sync_soon(self._take_told)
        except trio.RunFinishedError:
            # The service did not end in time, so the program has gone on without this thread.
            pass

    def _take_told(self) -> None:
        # Set first: a thread that appends from now on wakes this thread again.
        self._is_scheduled = False
        for _ in range(min(len(self._told), _BATCH)):
            function, args = self._told.popleft()
            function(*args)
        if self._told and not self._is_scheduled:
            self._schedule()

    def finish(self, call: ThreadCall, result: Result) -> None:
        """Answer a call with the result of its thread."""
        if call in self.calls:
            self._answer(call, result)

    def remove(self, call: ThreadCall) -> None:
        """Remove a call that needs no thread any more."""
        del self.calls[call]
        self.runtime.work_in_threads -= 1

    def _answer(self, call: ThreadCall, result: Result) -> None:
        self.remove(call)
        call.result = result
        task, call.task = call.task, None
        if task is not None:
            reschedule(task)

    def leave(self, call: ThreadCall) -> None:
        """Forget the caller of a call, which leaves without a result."""
        self.cancelled += 1
        call.task = None

    # For the callers

    async def run(self, call: ThreadCall) -> Any:
        """Carry out a call, and wait for its result."""
        if call.timeout == math.inf:
            return await self._run(call)
        with trio.move_on_after(call.timeout):
            return await self._run(call)
        request = structs.replace(call.request, late=self.spec.late)
        raise CallTimeout(call.server, request, call.timeout)

    # Without this, Ctrl-C in the middle could leave a call whose result wakes a task that no longer waits.
    @enable_ki_protection
    async def _run(self, call: ThreadCall) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()
        if len(self.calls) >= self.spec.max_calls:
            self._refuse(call)
        self.accepted += 1
        if self.stand_in is not None:
            return await self._run_stand_in(self.stand_in, call)
        self.calls[call] = None
        self.runtime.work_in_threads += 1
        call.task = current_task()
        self.begin(call)

        def abort(raise_cancel: RaiseCancelT) -> Abort:
            call.raise_cancel = raise_cancel
            return self.cancel(call)

        await wait_task_rescheduled(abort)
        # Later messages of this process must not overtake the messages that the function sent.
        await self.runtime.from_threads.caught_up()
        _adopt(call.context)
        result = call.result
        assert result is not None  # `_answer` has set it
        if result.cancelled and call.raise_cancel is not None:
            self.cancelled += 1
            call.raise_cancel()
        if result.error is None:
            return result.value
        try:
            raise result.error
        finally:
            # The traceback refers to this frame, so exception and frame would keep each other in memory.
            call.result = None
            del result

    async def _run_stand_in(self, function: StandIn, call: ThreadCall) -> Any:
        call.handle = scope = trio.CancelScope()
        self.calls[call] = None
        try:
            with scope:
                return await function(call.function, *call.args)
        finally:
            del self.calls[call]
        # The process has ended, and `down` has set the result.
        assert call.result is not None
        assert call.result.error is not None
        raise call.result.error

    def _refuse(self, call: ThreadCall) -> NoReturn:
        self.refused += 1
        process = None if call.process is None else call.process.describe()
        facts = {"service": repr(self.spec), "request": call.request.text, "process": process}
        measured = {"limit": self.spec.max_calls, "refused": 1}
        self.runtime.telemetry.execute(TOO_MANY_CALLS, measured, facts)
        raise TooManyCalls(call.server, call.request, call.timeout, self.spec.max_calls)

    # For the process

    async def stop(self) -> None:
        """End the threads in order, and return when they have ended.

        If the process is killed meanwhile, because a function does not return, this emits `THREADS_LEFT`.
        """
        self.stopping = True
        if self.stand_in is not None:
            return
        self.stop_threads()
        self.runtime.work_in_threads += 1
        try:
            await self.all_ended.wait()
        except trio.Cancelled:
            requests = [each.request.text for each in self.calls]
            facts = {"service": repr(self.spec), "pid": self.pid, "requests": requests}
            self.runtime.telemetry.execute(THREADS_LEFT, {"calls": len(requests)}, facts)
            raise
        finally:
            self.runtime.work_in_threads -= 1
        for thread in self.threads:
            # Each thread has done its last work, so this does not wait.
            thread.join()

    def thread_ended(self, error: BaseException | None) -> None:
        """Take note of the end of the last thread. An end without a stop is a crash of the process."""
        self.all_ended.set()
        if error is not None and not self.ended:
            send(self.pid, ThreadEnded(error))

    def down(self, pid: Pid, reason: ExitReason) -> None:
        """Handle the end of the process: answer all calls, and let the threads end."""
        self.ended = True
        for call in list(self.calls):
            error = ServerExit(reason, call.server, call.request, call.timeout)
            if self.stand_in is not None:
                call.result = Result(error=error)
                call.handle.cancel()
            else:
                self._answer(call, Result(error=error, cancelled=call.raise_cancel is not None))
        if self.stand_in is None:
            self.stop_threads()

    def statistics(self) -> dict[str, int]:
        """Return the number of calls without a result, and counters since the start of the process."""
        return {
            "calls": len(self.calls),
            "calls_accepted": self.accepted,
            "calls_cancelled": self.cancelled,
            "calls_refused": self.refused,
        }


def _adopt(context: Context) -> None:
    """Set the context variables that the function has changed, as an `await` of the function would have done."""
    for variable, value in context.items():
        if variable.get(_UNSET) is not value:
            variable.set(value)


class ThreadServer(GenServer[ThreadService]):
    """The process of a service."""

    async def init(self, spec: ThreadServiceSpec) -> None:
        # So that `terminate` runs.
        trap_exits()
        self.state = service = spec.make()
        service.runtime.graph.watch(service.pid, service)
        process_dictionary()[ThreadService] = service
        if service.stand_in is None:
            await service.start()
        service.is_ready = True

    async def handle_info(self, message: Any) -> None:
        if isinstance(message, ThreadEnded):
            raise message.error
        await super().handle_info(message)

    async def terminate(self, reason: ExitReason) -> None:
        await self.state.stop()


class ThreadServiceSpec(ABC):
    """A child of a supervisor: the options of a service, and the function that starts it.

    Attributes:
        name: The name of the process.
        max_calls: The number of calls without a result that it accepts.
    """

    verb: ClassVar[str]
    """The function that calls the service."""
    option: ClassVar[str]
    """The argument of that function that has the name of the service."""
    late: str
    """The state of a call after its timeout, for the error."""

    def __init__(self, name: object, max_calls: int) -> None:
        check_whole(type(self).__name__, "max_calls", max_calls)
        self.name = name
        self.max_calls = max_calls

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @abstractmethod
    def make(self) -> ThreadService:
        """Make the service, in its process."""

    async def start_link(self) -> Pid:
        """Start the process and its threads, linked to the current process if there is one. Return its pid.

        Raises:
            AlreadyStarted: Another process has the name.
            StartError: The threads did not start.
        """
        return await ThreadServer.start_link(self, name=self.name, label=repr(self))

    def statistics(self) -> dict[str, int]:
        """Return the number of calls without a result, and counters since the start of the process.

        Raises:
            NoProcess: The process is not running.
        """
        text = f"{self!r}.statistics()"
        return self.find(self.name, lambda: self.request(text, self.name)).statistics()

    @classmethod
    def request(cls, text: str, address: object) -> Requested:
        """Return a request, for errors."""
        added = f"{cls.__name__}({address!r})"
        absence = (
            f"no process has this name; add {added} to the children of a supervisor or an endpoint"
        )
        return Requested(text, absence)

    @classmethod
    def find(cls, address: object, request: Callable[[], Requested]) -> ThreadService:
        """Return the running service at an address."""
        process = require_runtime(cls.verb).resolve(address)
        if process is None:
            raise NoProcess(address, request(), 0)
        service = (process.dictionary or {}).get(ThreadService)
        if service is None or not service.is_ready or service.stopping:
            if service is not None or process.start_slot is not None:
                # It starts or stops now.
                raise NoProcess(address, request(), 0)
        elif isinstance(service.spec, cls):
            found: ThreadService = service
            return found
        shown = f"{process.describe()} {process.pid!r}"
        raise InvalidArgument(
            cls.verb,
            address,
            f"{address!r}, which is {shown}; write the name of a running {cls.__name__}",
        )

    @classmethod
    async def call(
        cls, function: Callable[..., Any], args: tuple[Any, ...], address: object, timeout: float
    ) -> Any:
        """Carry out a call by the service at an address, and wait for its result."""
        check_seconds(cls.verb, "timeout", timeout)
        call = ThreadCall(cls, function, args, server=address, timeout=timeout)
        return await cls.find(address, lambda: call.request).run(call)
