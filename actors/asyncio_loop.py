"""A supervised asyncio loop, in which every process may run the coroutine functions of asyncio libraries.

    from actors.asyncio_loop import AsyncioLoop, asyncio_call

    async def fetch(url):
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return await response.text()

    await Supervisor.start_link([AsyncioLoop()])
    page = await asyncio_call(fetch, url)

The loop runs in a thread of its own, so the libraries find a running loop, and connections and pools can live as long
as the loop. `asyncio_call` behaves as an `await` of the function would: the cancellation of the caller cancels the
function, the exceptions of the function reach the caller, and both see each other's context variables.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from inspect import CORO_CREATED, getcoroutinestate, isawaitable
from threading import get_ident
from typing import Any, ClassVar, TypeVar, TypeVarTuple

import trio
from trio.lowlevel import Abort

from actors._kernel.runtime import Process
from actors._thread_service import (
    MAX_CALLS,
    Result,
    ThreadCall,
    ThreadService,
    ThreadServiceSpec,
)
from actors.arguments import check_async, name_and_place_of
from actors.errors import CallCancelled, InvalidArgument

__all__ = ["AsyncioLoop", "asyncio_call"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class AsyncioLoop(ThreadServiceSpec):
    """An asyncio loop in a thread of its own, as a child of a supervisor.

        await Supervisor.start_link([AsyncioLoop("asyncio"), child_spec(Weather)])

    If the thread of the loop ends by itself, its process crashes with the exception of the thread, and the supervisor
    restarts it with a new loop. An exception of a call does not end the loop.

    At the end of the process, the loop does what `asyncio.run` does at its end. It cancels the calls that are left,
    ends its asynchronous generators and the threads of `asyncio.to_thread`, and closes. If a function then refuses to
    end until the supervisor kills the process, the runtime emits `("actors", "thread_service", "left")`, and the thread
    goes on alone.

    Args:
        name: The name of the process, for `asyncio_call`.
        max_calls: The number of calls without a result that the loop accepts. A further call raises `TooManyCalls`.
        debug: Run the loop in asyncio's debug mode. None reads the environment variable PYTHONASYNCIODEBUG, as
            `asyncio.run` does.
        loop_factory: A function that makes the loop, such as `uvloop.new_event_loop`; None for asyncio's own.

    Raises:
        InvalidOption: An option has an invalid value.
    """

    verb: ClassVar[str] = "asyncio_call"
    option: ClassVar[str] = "loop"
    late = "the loop has cancelled it"

    def __init__(
        self,
        name: object = "asyncio",
        *,
        max_calls: int = MAX_CALLS,
        debug: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        super().__init__(name, max_calls)
        self.debug = debug
        self.loop_factory = loop_factory

    def make(self) -> ThreadService:
        """Make the service, in its process."""
        return _RunningLoop(self)


async def asyncio_call(
    function: Callable[[*Ts], Awaitable[T]],
    *args: *Ts,
    loop: object = "asyncio",
    timeout: float = math.inf,
) -> T:
    """Run `await function(*args)` in a supervised asyncio loop, and wait for its result. Other processes continue.

        row = await asyncio_call(pool.fetchrow, "SELECT * FROM users WHERE id = $1", user_id)

    You may call it in any task of the runtime. In the function, `send`, `cast` and broadcasts work, and act in the name
    of the caller; their messages have arrived when `asyncio_call` returns. `call` and most other functions raise
    WrongThread there.

    If the caller is cancelled, the loop cancels the function once, with asyncio's CancelledError. The caller continues
    only when the function has ended, so the function can roll back a transaction first. The caller also gets the
    changes that the function makes to context variables.

    Args:
        function: A coroutine function, or another function that returns an awaitable. It runs in the thread of the
            loop, so it must not use Trio.
        *args: Its arguments.
        loop: The name or the pid of the `AsyncioLoop`.
        timeout: The time limit in seconds. After that the function is cancelled.

    Returns:
        The result of the function, without a copy. If the function raises, `asyncio_call` raises the same exception.

    Raises:
        NoProcess: There is no such loop.
        TooManyCalls: The loop has `max_calls` calls without a result. The function was not called.
        CallTimeout: The function did not end in time, and was cancelled.
        CallCancelled: Code in the loop cancelled the function.
        ServerExit: The loop ended before the function. `reason` is its exit reason.
        InvalidArgument: `function` is not a function, or `loop` is another process.
    """
    if isinstance(function, Coroutine) or not callable(function):
        check_async("asyncio_call", function)
    result: T = await AsyncioLoop.call(function, args, loop, timeout)
    return result


class _RunningLoop(ThreadService):
    """The loop of one process."""

    spec: AsyncioLoop

    def __init__(self, spec: AsyncioLoop) -> None:
        super().__init__(spec)
        self.thread = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._stop_requested = False
        # The calls of `max_calls` callers at most.
        self._todo: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_scheduled_in_loop = False
        # True once the loop only cancels what is left.
        self._closing = False
        self._started = trio.Event()
        self._failure: BaseException | None = None

    async def start(self) -> None:
        """Start the thread, and return when the loop runs."""
        self.start_thread(self._run_thread, name=repr(self.spec))
        await self._started.wait()
        if self._failure is not None:
            raise self._failure
        self.runtime.other_loops[self.pid] = self

    def begin(self, call: ThreadCall) -> None:
        """Start the function of a call, in the loop."""
        self._soon(self._begin, call)

    def cancel(self, call: ThreadCall) -> Abort:
        """Cancel the function of a call. The caller waits for its end."""
        self._soon(self._cancel, call)
        return Abort.FAILED

    def stop_threads(self) -> None:
        """Ask the loop to end."""
        self.runtime.other_loops.pop(self.pid, None)
        self._stop_requested = True
        if self._stop is not None:
            self._soon(self._stop.set)

    def _soon(self, function: Callable[..., object], *args: Any) -> None:
        self._todo.append((function, args))
        # One wake-up serves all functions that arrive meanwhile, because each costs a switch between the threads.
        if not self._is_scheduled_in_loop:
            self._is_scheduled_in_loop = True
            try:
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self._do_all)
            except RuntimeError:
                # The loop is closed. The process is about to end, and then answers all calls.
                pass

    def _do_all(self) -> None:
        # Set first: a thread that appends from now on wakes the loop again.
        self._is_scheduled_in_loop = False
        while self._todo:
            function, args = self._todo.popleft()
            function(*args)

    def thread_ended(self, error: BaseException | None) -> None:
        """Take note of the end of the thread."""
        self._failure = error
        starting = not self._started.is_set()
        self._started.set()
        super().thread_ended(None if starting else error)

    def _ready(self) -> None:
        self._started.set()

    # For the watchdog

    def is_busy(self) -> bool:
        """Return True if the loop may be running code of a call."""
        return bool(self.calls)

    def ping(self, answer: Callable[[], object]) -> None:
        """Make the loop call a function in its next turn."""
        self._soon(answer)

    def running(self) -> tuple[object, Process | None, str]:
        """Return the task of the loop whose step runs now, with the process and the text of its call."""
        assert self._loop is not None
        task = asyncio.current_task(self._loop)
        for call in list(self.calls):
            if call.handle is task and task is not None:
                return task, call.process, call.request.text
        return task, None, repr(self.spec)

    # In the thread

    def _run_thread(self) -> None:
        error: BaseException | None = None
        try:
            with asyncio.Runner(
                debug=self.spec.debug, loop_factory=self.spec.loop_factory
            ) as runner:
                try:
                    runner.run(self._serve())
                finally:
                    self._closing = True
        except BaseException as failure:
            # Even a SystemExit, which would otherwise end this thread in silence. The process raises it.
            error = failure
        self.tell(self.thread_ended, error)

    async def _serve(self) -> None:
        self.thread = get_ident()
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._stop_requested:
            return
        self.tell(self._ready)
        await self._stop.wait()

    def _begin(self, call: ThreadCall) -> None:
        assert self._loop is not None
        coroutine = self._carry_out(call)
        call.handle = self._loop.create_task(coroutine, context=call.context)

    def _cancel(self, call: ThreadCall) -> None:
        task: asyncio.Task[None] | None = call.handle
        if task is not None:
            task.cancel()
            if getcoroutinestate(_coroutine_of(task)) == CORO_CREATED:
                # asyncio will not start it, so it will not answer.
                self._end(call, Result(cancelled=True))

    async def _carry_out(self, call: ThreadCall) -> None:
        try:
            awaitable = call.function(*call.args)
            if not isawaitable(awaitable):
                raise _not_awaitable(call.function, awaitable)
            result = Result(await awaitable)
        except asyncio.CancelledError:
            result = Result(cancelled=True)
            if call.raise_cancel is None:
                result.error = CallCancelled(call.server, call.request, call.timeout)
        except BaseException as error:
            # Even a SystemExit, which would otherwise end the loop. The caller raises it, and so ends the program.
            result = Result(error=error)
        self._end(call, result)

    def _end(self, call: ThreadCall, result: Result) -> None:
        call.handle = None
        # A closing loop has cancelled the call. The process is about to end, and then answers it.
        if not (self._closing and result.cancelled):
            self.tell(self.finish, call, result)


def _coroutine_of(task: asyncio.Task[None]) -> Coroutine[Any, Any, None]:
    coroutine = task.get_coro()
    assert isinstance(coroutine, Coroutine)  # `_begin` has made the task
    return coroutine


def _not_awaitable(function: object, value: object) -> InvalidArgument:
    advice = (
        f"{name_and_place_of(function)}, which returned {type(value).__name__}, a value that cannot be awaited; "
        "write `async def`, or blocking_call() for a function that blocks"
    )
    return InvalidArgument("asyncio_call", function, advice)
